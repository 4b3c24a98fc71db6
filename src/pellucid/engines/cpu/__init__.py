"""The CPU engine: kernels in machine code, run by a pool of threads of its own."""
