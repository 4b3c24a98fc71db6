"""What users touch: Tensor, Variable, the array functions, eager, trace, jit, grad and random."""

# The operators of Tensor and Variable stand in `methods`: whoever sees a Tensor has them.
from pellucid.tensor import methods

__all__ = ["methods"]
