"""What is read or put in at places that are computed? Boxes of one size, wherever they begin."""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.core.dtype import int64
from pellucid.core.shape import shape_text
from pellucid.ops import index as ops
from pellucid.tensor.arithmetic import astype
from pellucid.tensor.dispatch import apply, shapes_error
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


def dynamic_slice(x: Operand, starts: Sequence[Operand], sizes: Sequence[int], /) -> Tensor:
    """The box of `sizes` that begins at `starts`, one whole number for each axis of x.

    In a traced function the starts may be computed, the sizes not. A start that would lead out of
    x is moved so that the box lies inside. Raises OpShapeError.

    >>> print(dynamic_slice(as_tensor([1, 2, 3, 4]), [as_tensor(1)], [2]))
    [2 3]
    """
    tensor = as_tensor(x)
    operands = (tensor, *_numbers("dynamic_slice", starts))
    return apply(ops.dynamic_slice, operands, (("sizes", tuple(sizes)),))


def dynamic_update_slice(x: Operand, update: Operand, starts: Sequence[Operand], /) -> Tensor:
    """x with the box `update` put in where it begins at `starts`, one whole number for each axis.

    A start that would lead out of x is moved so that the box lies inside. A Variable that is
    assigned the result in a compiled function is changed in place: only the box is written. The
    update is taken in the dtype of x. Raises OpShapeError.

    >>> print(dynamic_update_slice(as_tensor([1, 2, 3, 4]), as_tensor([9]), [as_tensor(2)]))
    [1 2 9 4]
    """
    tensor, box = as_tensor(x), as_tensor(update)
    if box.ndim != tensor.ndim:
        shapes = f"{shape_text(box.shape)} and {shape_text(tensor.shape)}"
        raise shapes_error("dynamic_update_slice", f"expected as many axes, got {shapes}")
    starts_of = _numbers("dynamic_update_slice", starts)
    return apply(ops.dynamic_update_slice, (tensor, astype(box, tensor.dtype), *starts_of))


def _numbers(name: str, starts: Sequence[Operand]) -> tuple[Tensor, ...]:
    found = tuple(map(as_tensor, starts))
    for start in found:
        if start.ndim or start.dtype.kind not in ("int", "uint"):
            raise shapes_error(name, f"expected whole numbers as starts, got {start.dtype}")
    return tuple(astype(start, int64) for start in found)
