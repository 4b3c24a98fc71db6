"""The oracle: each op's NumPy reference, node by node. It runs only when asked for by name."""
