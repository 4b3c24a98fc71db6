"""What is the derivative of a function? It is traced to a graph, the graph is transformed and run.

grad(vmap(jit(grad(f))))      # they compose: evaluating inside a trace records nodes there
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from pellucid.core import tree
from pellucid.core.error import DerivativeError, TreeError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, Value
from pellucid.ops.elementwise import add
from pellucid.ops.movement import full_like
from pellucid.passes.dce import dce
from pellucid.tensor.arithmetic import constant
from pellucid.tensor.creation import asarray, eye
from pellucid.tensor.dispatch import evaluate, shapes_error
from pellucid.tensor.shaping import reshape
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.traced import (
    Function,
    Leaves,
    Traced,
    trace_function,
    zero_where_none,
)
from pellucid.tensor.vmap import vmap
from pellucid.transforms.jvp import jvp as jvp_graph
from pellucid.transforms.vjp import pull_back

Argnums = int | tuple[int, ...]


def value_and_grad(
    function: Function, argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that gives `function`'s scalar result and its gradient for some arguments.

    The gradient is a tree like the argument (a tuple of trees where `argnums` is one); that of a
    Module is the same Module with gradients in place of its Parameters. With `has_aux` the
    function returns (scalar, anything) and so does this, as ((scalar, anything), gradient).

    >>> value, slope = value_and_grad(lambda x: x * x)(3.0)
    >>> print(value, slope)
    9.0 6.0
    """

    @wraps(function)
    def run(*arguments: Any, **keywords: Any) -> tuple[Any, Any]:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        values, leaves = _chosen(arguments, numbers)
        traced = trace_function(lambda *args: function(*args, **keywords), values, leaves.tensors)
        loss = traced.graph.outputs[0] if traced.graph.outputs else None
        _require_scalar(loss, traced, has_aux)
        assert loss is not None, "a scalar was required"
        chosen = leaves.inputs(traced)
        graph = _with_gradients(traced.graph, loss, [number for _, number in chosen])
        outputs = evaluate(graph, [*leaves.tensors, *traced.outside, constant(1, loss.dtype)])
        count = len(traced.graph.outputs)
        result = traced.finish(outputs[:count])
        found = iter(outputs[count:])
        shares = [
            zero_where_none(leaf, next(found) if number >= 0 else None) for leaf, number in chosen
        ]
        trees = leaves.trees(shares)
        return result, trees[0] if isinstance(argnums, int) else tuple(trees)

    return run


def grad(function: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that gives the gradient of `function`'s scalar result; see `value_and_grad`.

    With `has_aux` it gives (gradient, anything).

    >>> print(grad(grad(lambda x: x * x * x))(2.0))
    12.0
    """
    both = value_and_grad(function, argnums, has_aux)

    @wraps(function)
    def run(*arguments: Any, **keywords: Any) -> Any:
        value, gradient = both(*arguments, **keywords)
        return (gradient, value[1]) if has_aux else gradient

    return run


def jvp(function: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The results of `function(*primals)`, and how they move when the primals move by `tangents`.

    Both are trees like the results; a result that is no float moves by None. The tangent of a
    Module is a Module with tangents in place of its Parameters, as `grad` gives it.

    >>> y, dy = jvp(lambda x: x * x, (3.0,), (1.0,))
    >>> print(y, dy)
    9.0 6.0
    """
    if len(primals) != len(tangents):
        raise TreeError(f"jvp: {len(tangents)} tangents for {len(primals)} primals")
    leaves = Leaves(primals)
    moves = leaves.tangents(tangents)
    traced = trace_function(function, leaves.values, leaves.tensors)
    pairs: list[tuple[int, Tensor]] = []
    for leaf, number in leaves.inputs(traced):
        move = moves.get(id(leaf))
        if move is not None and leaf.dtype.is_floating:
            _require_tangent(leaf, move)
            if number >= 0:
                pairs.append((number, move))
    graph = jvp_graph(traced.graph, tuple(number for number, _ in pairs))
    given = [*leaves.tensors, *traced.outside, *(move for _, move in pairs)]
    outputs = evaluate(graph, given)
    count = len(traced.graph.outputs)
    moved = iter(outputs[count:])
    found = [next(moved) if v.dtype.is_floating else None for v in traced.graph.outputs]
    return traced.finish(outputs[:count]), tree.unflatten(traced.treedef, found[: traced.results])


def vjp(function: Function, *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The results of `function(*primals)`, and a function from their cotangents to the primals'.

    The cotangent of a whole number is None.

    >>> y, pull = vjp(lambda x, w: x * w, 3.0, 2.0)
    >>> print(y, *pull(1.0))
    6.0 2.0 3.0
    """
    leaves = Leaves(primals)
    traced = trace_function(function, leaves.values, leaves.tensors)
    inputs = [*leaves.tensors, *traced.outside]
    result = traced.finish(evaluate(traced.graph, inputs))
    chosen = leaves.inputs(traced)

    def pull(cotangents: Any) -> tuple[Any, ...]:
        given, givendef = tree.flatten(cotangents)
        if givendef != traced.treedef:
            raise TreeError("vjp: the cotangents do not have the structure of the results")
        pairs = list(zip(traced.graph.outputs, given, strict=False))
        seeds = [_cotangent(value, cotangent) for value, cotangent in pairs]
        numbers = [n for leaf, n in chosen if leaf.dtype.is_floating and n >= 0]
        graph = _pulled(traced.graph, traced.results, numbers)
        found = iter(evaluate(graph, [*inputs, *seeds]))
        shares = [
            zero_where_none(leaf, next(found) if number >= 0 else None)
            if leaf.dtype.is_floating
            else None
            for leaf, number in chosen
        ]
        return tuple(leaves.trees(shares))

    return result, pull


def jacobian(function: Function, argnums: int = 0) -> Function:
    """The derivative of every element of the result by every element of one Tensor argument.

    Its shape is the result's shape and then the argument's; reverse mode, one row for each
    element of the result, all rows at once by `vmap`.

    >>> print(jacobian(lambda x: x * x)(asarray([1.0, 3.0])))
    [[2. 0.]
     [0. 6.]]
    """

    @wraps(function)
    def run(*arguments: Any) -> Any:
        x = asarray(arguments[argnums])

        def of_one(value: Any) -> Any:
            return function(*arguments[:argnums], value, *arguments[argnums + 1 :])

        result, pull = vjp(of_one, x)
        if not isinstance(result, Tensor) or not x.dtype.is_floating:
            raise TreeError("jacobian: expected a function of a floating Tensor that gives one")
        rows = reshape(eye(result.size, dtype=result.dtype), (result.size, *result.shape))
        (found,) = vmap(pull)(rows)
        return reshape(found, (*result.shape, *x.shape))

    return run


def hessian(function: Function, argnums: int = 0) -> Function:
    """The second derivatives of a scalar function of one Tensor argument.

    >>> print(hessian(lambda x: (x * x * x).sum())(asarray([1.0, 2.0])))
    [[ 6.  0.]
     [ 0. 12.]]
    """
    return jacobian(grad(function, argnums), argnums)


def _chosen(arguments: tuple[Any, ...], numbers: tuple[int, ...]) -> tuple[list[Any], Leaves]:
    """All arguments, and the leaves of those by which the derivative is taken."""
    for number in numbers:
        if not -len(arguments) <= number < len(arguments):
            raise DerivativeError(f"grad: there is no argument {number}, only {len(arguments)}")
    leaves = Leaves([arguments[number] for number in numbers])
    for leaf in leaves.tensors:
        if not leaf.dtype.is_floating:
            raise DerivativeError(
                f"grad: an argument is {leaf._layout.type}, which has no derivative"
                f"{at_line(user_source())}\n  give floats, such as 3.0, or choose by `argnums`"
            )
    values = list(arguments)
    for number, value in zip(numbers, leaves.values, strict=True):
        values[number] = value
    return values, leaves


def _require_scalar(loss: Value | None, traced: Traced, has_aux: bool) -> None:
    single = traced.results == 1 and traced.treedef == tree.LEAF
    if loss is None or (not single and not has_aux):
        raise DerivativeError(
            f"grad: expected one scalar, the function returned {traced.results} values"
            f"{at_line(user_source())}\n  return the loss alone, or pass has_aux=True"
        )
    if loss.shape != () or not loss.dtype.is_floating:
        raise shapes_error(
            "grad",
            f"expected a floating scalar, the function returned {loss.dtype} "
            f"{shape_text(loss.shape)}; sum it first, or use pe.jacobian",
        )


def _require_tangent(leaf: Any, move: Tensor) -> None:
    if move._layout.type != leaf._layout.type:
        raise shapes_error(
            "jvp", f"expected a tangent of {leaf._layout.type}, got {move._layout.type}"
        )


def _cotangent(value: Value, given: Any) -> Tensor:
    tensor = as_tensor(given, value.dtype)
    if tensor._layout.type != value.type and value.dtype.is_floating:
        raise shapes_error(
            "vjp", f"expected a cotangent of {value.type}, got {tensor._layout.type}"
        )
    return tensor


def _with_gradients(graph: Graph, loss: Value, chosen: list[int]) -> Graph:
    """The graph with the loss's cotangent as one more input and the gradients as more outputs."""
    wrt = [graph.inputs[number] for number in chosen if number >= 0]
    with building() as builder:
        env = builder.copy(graph, [builder.input(value.type) for value in graph.inputs])
        seed = builder.input(loss.type)
        shares = pull_back(graph, env, {loss: seed}, wrt)
        return dce(builder.graph([*(env[v] for v in graph.outputs), *_or_zeros(shares, wrt)]))


def _pulled(graph: Graph, results: int, numbers: list[int]) -> Graph:
    """The gradients alone, of all floating results."""
    wrt = [graph.inputs[number] for number in numbers]
    with building() as builder:
        env = builder.copy(graph, [builder.input(value.type) for value in graph.inputs])
        seeds: dict[Value, Value | None] = {}
        for value in graph.outputs[:results]:
            seed = builder.input(value.type)
            if value.dtype.is_floating:
                held = seeds.get(value)
                seeds[value] = seed if held is None else add(held, seed)
        shares = pull_back(graph, env, seeds, wrt)
        return dce(builder.graph(_or_zeros(shares, wrt)))


def _or_zeros(shares: Sequence[Value | None], wrt: Sequence[Value]) -> list[Value]:
    return [
        full_like(value, 0.0) if share is None else share
        for share, value in zip(shares, wrt, strict=True)
    ]
