"""In how many digits are numbers multiplied? A scope says so while the program is recorded.

    with pe.precision("bf16"):
        loss = nn.losses.cross_entropy(model(x), y)

Inside, contractions of float32 (matmul and its kin, convolutions, attention) round their operands
to bfloat16 and add up in float32. That is a matter of the op as it is recorded, eager and compiled,
so its gradients have the same precision wherever `backward` is called. All values stay float32: the
Parameters are the master weights, and sums, norms, losses and updates lose nothing. Layers that are
made of a contraction round what they hand on, and the cotangent that comes back: compiled, these
large values stand in memory as bfloat16.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from pellucid.core.dtype import DType, bfloat16, float32
from pellucid.core.error import OpTypeError
from pellucid.core.source import at_line, user_source
from pellucid.ir.graph import Attrs
from pellucid.tensor.arithmetic import astype
from pellucid.tensor.context import context
from pellucid.tensor.tensor import Tensor

_NAMES: dict[Any, DType | None] = {
    "bf16": bfloat16,
    "bfloat16": bfloat16,
    bfloat16: bfloat16,
    "float32": None,
    float32: None,
}


@contextmanager
def precision(name: Any) -> Generator[None]:
    """Contractions of float32 inside read their operands as "bf16" (bfloat16) or "float32".

    The innermost scope counts. Operands of other dtypes stay as they are, and so does a product
    whose `dtype=` is given. Every value is float32 as without it: what is rounded, to 8 bits, are
    the two factors of each product, on the way forward and back, and the results of `nn.Dense` and
    of layers of convolutions. It decorates functions, too; `pe.jit` and `pe.fit` have it as an
    argument. Raises OpTypeError on another name.

    >>> import pellucid as pe
    >>> x = pe.asarray([1.0 + 2**-9])
    >>> with precision("bf16"):
    ...     print(x @ x, (x @ x).dtype)
    1.0 float32
    """
    found = find_precision(name)
    before, context.precision = context.precision, found
    context.settle()
    try:
        yield
    finally:
        context.precision = before
        context.settle()


def find_precision(name: Any) -> DType | None:
    """The dtype in which operands are read, None where they stay float32; raises OpTypeError."""
    if not isinstance(name, str | DType) or name not in _NAMES:
        raise OpTypeError(
            f"precision: expected 'bf16' or 'float32', got {name!r}{at_line(user_source())}"
        )
    return _NAMES[name]


def reading(dtype: DType) -> Attrs:
    """The attribute of a contraction of such operands in this scope, as a sorted pair, if any."""
    if context.precision is None or dtype is not float32:
        return ()
    return (("precision", context.precision),)


def handed_on(x: Tensor) -> Tensor:
    """A layer's result in this scope's precision, of the dtype that it has.

    The cotangent that comes back is rounded, too: the derivative of a cast is a cast.
    """
    if context.precision is None or x.dtype is not float32:
        return x
    return astype(astype(x, context.precision), float32)
