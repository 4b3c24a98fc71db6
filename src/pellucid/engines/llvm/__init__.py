"""Loops -> LLVM IR -> object code -> callable code; the only place that sees llvmlite."""
