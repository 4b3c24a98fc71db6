"""The graph: what a program is between Python and machine code. It knows no particular op."""
