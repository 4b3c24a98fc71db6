"""Each file here answers a question about speed or accuracy: `python -m benchmarks` lists them."""
