"""Graph to graph where the meaning stays, to the last bit: cleaning, then fusing into kernels."""
