"""How does a function of one example take a whole batch? Its graph gets one more axis."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from functools import wraps
from typing import Any, cast

from pellucid.core import tree
from pellucid.core.error import DerivativeError, TreeError
from pellucid.core.source import at_line, user_source
from pellucid.engines.base import layout
from pellucid.ir.graph import TensorType
from pellucid.tensor.dispatch import evaluate, shapes_error
from pellucid.tensor.shaping import axis_of, moveaxis
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.traced import Function, as_leaves, trace_function
from pellucid.transforms.batch import batch


def vmap(function: Function, in_axes: Any = 0, out_axes: int = 0) -> Function:
    """`function` over every element along an axis of its arguments, at once.

    `in_axes` is the axis for all arguments, or a tuple with one for each argument: None hands that
    argument to every call as it is. Results get a new axis at `out_axes`. Raises OpShapeError where
    the sizes differ.

    >>> from pellucid.tensor.creation import asarray
    >>> x = asarray([[1.0, 2.0], [3.0, 4.0]])
    >>> print(vmap(lambda row: (row * row).sum())(x))
    [ 5. 25.]
    """

    @wraps(function)
    def run(*arguments: Any) -> Any:
        values, mapped, examples = _mapped(arguments, in_axes)
        size = _common_size(mapped)
        traced = trace_function(function, values, examples)
        if traced.assigned:
            raise DerivativeError(
                f"vmap: {traced.assigned[0].name or 'a Variable'} is assigned inside, once for "
                f"each of {size} elements{at_line(user_source())}\n  return the value instead; "
                "draw random numbers outside"
            )
        flags = [i < len(mapped) for i in range(len(traced.graph.inputs))]
        outputs = evaluate(batch(traced.graph, flags, size), [*mapped, *traced.outside])
        return traced.finish([moveaxis(one, 0, out_axes) for one in outputs])

    return run


def _mapped(
    arguments: tuple[Any, ...], in_axes: Any
) -> tuple[list[Any], list[Tensor], list[Tensor]]:
    """The arguments of one call, the mapped Tensors, and what stands for one element of each."""
    axes = [in_axes] * len(arguments)
    if isinstance(in_axes, tuple):
        axes = list(cast("tuple[Any, ...]", in_axes))
    if len(axes) != len(arguments):
        raise TreeError(f"vmap: {len(axes)} in_axes for {len(arguments)} arguments")
    values, mapped, examples = list(arguments), list[Tensor](), list[Tensor]()
    for number, axis in enumerate(axes):
        if axis is None:
            continue
        leaves, treedef = tree.flatten(as_leaves(arguments[number]))
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise TreeError(
                    f"vmap: argument {number} has a {type(leaf).__name__}, which cannot be mapped"
                    f"{at_line(user_source())}\n  pass in_axes with None for it"
                )
        mapped += [moveaxis(leaf, axis_of("vmap", axis, leaf.ndim), 0) for leaf in leaves]
        stand_ins = [_example(leaf) for leaf in mapped[len(examples) :]]
        examples += stand_ins
        values[number] = tree.unflatten(treedef, stand_ins)
    return values, mapped, examples


def _example(mapped: Tensor) -> Tensor:
    """A stand-in for one element of a mapped argument: only its type matters."""
    return Tensor(layout(TensorType(mapped.dtype, mapped.shape[1:])), None, 0)


def _common_size(mapped: list[Tensor]) -> int:
    sizes = sorted({one.shape[0] for one in mapped})
    if len(sizes) != 1:
        raise shapes_error("vmap", f"expected one size along the mapped axes, got {sizes}")
    return sizes[0]
