"""The ground floor: dtypes, sizes, trees, source lines, errors and settings. It knows no graph."""
