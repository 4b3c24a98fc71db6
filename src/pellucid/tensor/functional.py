"""How is a function transformed? It is traced to a graph, the graph is transformed, and evaluated.

    grad(vmap(jit(grad(f))))      # they compose: evaluating inside a trace records nodes there

Arguments and results are trees: dicts, lists, tuples, dataclasses, Modules. Cells that the
function reads or assigns are handed through.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from pellucid.core import tree
from pellucid.core.error import DerivativeError, TreeError
from pellucid.core.shape import shape_text
from pellucid.core.source import at_line, user_source
from pellucid.engines.base import layout
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType, Value
from pellucid.ops.elementwise import add
from pellucid.ops.movement import full_like
from pellucid.passes.dce import dce
from pellucid.tensor.arithmetic import constant
from pellucid.tensor.cells import cells_of, with_cells
from pellucid.tensor.context import context, tracing
from pellucid.tensor.creation import asarray, eye, zeros_like
from pellucid.tensor.dispatch import evaluate, shapes_error
from pellucid.tensor.draws import count_outside, finish_draws
from pellucid.tensor.shaping import axis_of, moveaxis, reshape
from pellucid.tensor.state import Variable
from pellucid.tensor.stateful import Stateful
from pellucid.tensor.tensor import Tensor
from pellucid.tensor.trace import Trace
from pellucid.transforms.batch import batch
from pellucid.transforms.jvp import jvp as jvp_graph
from pellucid.transforms.vjp import pull_back

Function = Callable[..., Any]
Argnums = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Traced:
    """A function as a graph: `graph` of the results and then of the cells that it assigned.

    `outside` are the Tensors that its inputs stand for after those asked for; `parameters` the
    Parameters that came as arguments, as input numbers (None where the function never read one).
    """

    graph: Graph
    outside: tuple[Tensor, ...]
    treedef: tree.TreeDef
    results: int
    assigned: tuple[Variable, ...]
    parameters: dict[Variable, int]

    def finish(self, outputs: Sequence[Tensor]) -> Any:
        """Assign what was assigned, and give the tree of results."""
        for cell, tensor in zip(self.assigned, outputs[self.results :], strict=True):
            cell.assign(tensor)
        return tree.unflatten(self.treedef, list(outputs[: self.results]))


def trace_function(
    function: Function, arguments: Sequence[Any], inputs: Sequence[Tensor]
) -> Traced:
    """Run `function(*arguments)` on traced values.

    Each Tensor of `inputs` that is a leaf of the arguments (the same object) becomes an input, in
    that order; whatever else is used is found and follows.
    """
    trace = Trace(context.trace)
    stand_ins = {id(tensor): trace.input(tensor._layout.type) for tensor in inputs}
    with tracing(trace):
        traced = tree.map_tree(lambda leaf: stand_ins.get(id(leaf), leaf), list(arguments))
        found = function(*traced)
        leaves, treedef = tree.flatten(found)
        results = [trace.lift(asarray(leaf)) for leaf in leaves]
        draws = finish_draws(trace) if context.outermost is trace else {}
        assigned = [cell for cell, state in trace.cells.items() if state.assigned]
        finals = [trace.cells[cell].current for cell in assigned]
    count_outside(draws)
    return _finished(trace, treedef, results, assigned, finals)


def _finished(
    trace: Trace,
    treedef: tree.TreeDef,
    results: list[Value],
    assigned: list[Variable],
    finals: list[Value],
) -> Traced:
    graph = trace.builder.graph([*results, *finals])
    outer = {value: tensor for tensor, value in trace.captured.values()}
    parameters: dict[Variable, int] = {}
    for cell, state in trace.cells.items():
        if state.entry is not None:
            outer[state.entry] = cell.value
            parameters[cell] = graph.numbering[state.entry]
    outside = tuple(outer[value] for value in graph.inputs if value in outer)
    return Traced(graph, outside, treedef, len(results), tuple(assigned), parameters)


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
        values, wanted, treedefs = _wanted(arguments, numbers)
        traced = trace_function(lambda *args: function(*args, **keywords), values, wanted.tensors)
        loss = traced.graph.outputs[0]
        _require_scalar_loss(loss, traced, has_aux)
        chosen = [*range(len(wanted.tensors))]
        chosen += [traced.parameters.get(cell, -1) for cell in wanted.parameters]
        combined = _with_gradients(traced.graph, loss, chosen)
        outputs = evaluate(combined, [*wanted.tensors, *traced.outside, constant(1, loss.dtype)])
        count = len(traced.graph.outputs)
        result = traced.finish(outputs[:count])
        found = iter(outputs[count:])
        shares = [None if number < 0 else next(found) for number in chosen]
        return result, wanted.gradient_trees(shares, treedefs, isinstance(argnums, int))

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

    Both are trees like the results; a result that is no float moves by None.

    >>> y, dy = jvp(lambda x: x * x, (3.0,), (1.0,))
    >>> print(y, dy)
    9.0 6.0
    """
    values = [_as_leaves(one) for one in primals]
    leaves, treedef = tree.flatten(values)
    moves, movedef = tree.flatten([_as_leaves(one) for one in tangents])
    if movedef != treedef:
        raise TreeError("jvp: the tangents do not have the structure of the primals")
    traced = trace_function(function, values, leaves)
    pairs = [(i, t) for i, t in enumerate(moves) if leaves[i].dtype.is_floating]
    graph = jvp_graph(traced.graph, tuple(i for i, _ in pairs))
    outputs = evaluate(graph, [*leaves, *traced.outside, *(t for _, t in pairs)])
    count = len(traced.graph.outputs)
    moved = iter(outputs[count:])
    found = [next(moved) if v.dtype.is_floating else None for v in traced.graph.outputs]
    return traced.finish(outputs[:count]), tree.unflatten(traced.treedef, found[: traced.results])


def vjp(function: Function, *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The results of `function(*primals)`, and a function from their cotangents to the primals'.

    >>> y, pull = vjp(lambda x, w: x * w, 3.0, 2.0)
    >>> print(y, *pull(1.0))
    6.0 2.0 3.0
    """
    values = [_as_leaves(one) for one in primals]
    leaves, treedef = tree.flatten(values)
    traced = trace_function(function, values, leaves)
    inputs = [*leaves, *traced.outside]
    result = traced.finish(evaluate(traced.graph, inputs))

    def pull(cotangents: Any) -> tuple[Any, ...]:
        given, givendef = tree.flatten(_as_leaves(cotangents))
        if givendef != traced.treedef:
            raise TreeError("vjp: the cotangents do not have the structure of the results")
        numbers = [i for i, leaf in enumerate(leaves) if leaf.dtype.is_floating]
        graph = _pulled(traced.graph, traced.results, numbers)
        found = iter(evaluate(graph, [*inputs, *given]))
        shares = [next(found) if leaf.dtype.is_floating else None for leaf in leaves]
        return tuple(tree.unflatten(treedef, shares))

    return result, pull


def vmap(function: Function, in_axes: Any = 0, out_axes: int = 0) -> Function:
    """`function` over every element along an axis of its arguments, at once.

    `in_axes` is the axis for all arguments, or a tuple with one for each argument: None hands that
    argument to every call as it is. Results get a new axis at `out_axes`. Raises OpShapeError where
    the sizes differ.

    >>> x = asarray([[1.0, 2.0], [3.0, 4.0]])
    >>> print(vmap(lambda row: (row * row).sum())(x))
    [ 5. 25.]
    """

    @wraps(function)
    def run(*arguments: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(arguments)
        if len(axes) != len(arguments):
            raise TreeError(f"vmap: {len(axes)} in_axes for {len(arguments)} arguments")
        values, mapped = list(arguments), list[Tensor]()
        examples: list[Tensor] = []
        for number, axis in enumerate(axes):
            if axis is None:
                continue
            leaves, treedef = tree.flatten(_as_leaves(arguments[number]))
            leading = [_leading(leaf, axis) for leaf in leaves]
            stand_ins = [_example(leaf) for leaf in leading]
            values[number] = tree.unflatten(treedef, stand_ins)
            mapped += leading
            examples += stand_ins
        size = _common_size(mapped)
        traced = trace_function(function, values, examples)
        flags = [i < len(mapped) for i in range(len(traced.graph.inputs))]
        outputs = evaluate(batch(traced.graph, flags, size), [*mapped, *traced.outside])
        if traced.assigned:
            raise DerivativeError(
                f"vmap: {traced.assigned[0].name or 'a Variable'} is assigned inside, once for "
                f"each of {size} elements{at_line(user_source())}\n  return the value instead"
            )
        return traced.finish([moveaxis(one, 0, out_axes) for one in outputs])

    return run


def jacobian(function: Function, argnums: int = 0) -> Function:
    """The derivative of every element of the result by every element of one Tensor argument.

    Its shape is the result's shape and then the argument's; reverse mode, one row at a time, all
    rows at once by `vmap`.

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
        if not isinstance(result, Tensor):
            raise TreeError("jacobian: expected a function that returns one Tensor")
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


def _example(mapped: Tensor) -> Tensor:
    """A stand-in for one element of a mapped argument: only its type matters."""
    return Tensor(layout(TensorType(mapped.dtype, mapped.shape[1:])), None, 0)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The Tensors and Parameters among the chosen arguments, in the order of their leaves."""

    leaves: tuple[tuple[Any, ...], ...]
    tensors: tuple[Tensor, ...]
    parameters: tuple[Variable, ...]

    def gradient_trees(
        self, shares: list[Tensor | None], treedefs: list[tree.TreeDef], single: bool
    ) -> Any:
        by_id = dict(zip(map(id, (*self.tensors, *self.parameters)), shares, strict=True))
        trees: list[Any] = []
        for leaves, treedef in zip(self.leaves, treedefs, strict=True):
            found = [self._gradient(leaf, by_id) for leaf in leaves]
            trees.append(tree.unflatten(treedef, found))
        return trees[0] if single else tuple(trees)

    def _gradient(self, leaf: Any, by_id: dict[int, Tensor | None]) -> Any:
        if isinstance(leaf, Stateful):
            return with_cells(leaf, lambda cell: self._gradient(cell, by_id))
        if id(leaf) not in by_id:
            return None
        share = by_id[id(leaf)]
        return zeros_like(leaf) if share is None else share


def _wanted(
    arguments: tuple[Any, ...], numbers: tuple[int, ...]
) -> tuple[list[Any], _Wanted, list[tree.TreeDef]]:
    values = list(arguments)
    every: list[tuple[Any, ...]] = []
    treedefs: list[tree.TreeDef] = []
    tensors: list[Tensor] = []
    parameters: list[Variable] = []
    for number in numbers:
        if not -len(values) <= number < len(values):
            raise DerivativeError(f"grad: there is no argument {number}, only {len(values)}")
        values[number] = _as_leaves(values[number])
        leaves, treedef = tree.flatten(values[number])
        every.append(tuple(leaves))
        treedefs.append(treedef)
        for leaf in leaves:
            if isinstance(leaf, Variable | Stateful):
                cells = [leaf] if isinstance(leaf, Variable) else cells_of(leaf).values()
                known = {id(cell) for cell in parameters}
                parameters += [c for c in cells if c.trainable and id(c) not in known]
            elif leaf.dtype.is_floating:
                tensors.append(leaf)
            else:
                raise DerivativeError(
                    f"grad: argument {number} is {leaf._layout.type}, which has no derivative"
                    f"{at_line(user_source())}\n  give floats, such as 3.0, or choose another argument"
                )
    return values, _Wanted(tuple(every), tuple(tensors), tuple(parameters)), treedefs


def _as_leaves(value: Any) -> Any:
    """A tree with its arrays and numbers made Tensors (each its own object); cells stay."""
    return tree.map_tree(
        lambda leaf: leaf if isinstance(leaf, Variable | Stateful) else _own(asarray(leaf)), value
    )


def _own(tensor: Tensor) -> Tensor:
    # The same Tensor given twice is two arguments; each needs an identity of its own.
    return Tensor(
        tensor._layout, tensor._storage, tensor._address, tensor._value, tensor._trace, tensor._tape
    )


def _require_scalar_loss(loss: Value, traced: Traced, has_aux: bool) -> None:
    single = traced.results == 1 and traced.treedef == tree.LEAF
    if not single and not has_aux:
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


def _leading(leaf: Tensor, axis: int) -> Tensor:
    return moveaxis(leaf, axis_of("vmap", axis, leaf.ndim), 0)


def _common_size(mapped: list[Tensor]) -> int:
    sizes = sorted({one.shape[0] for one in mapped})
    if len(sizes) != 1:
        raise shapes_error("vmap", f"expected one size along the mapped axes, got {sizes}")
    return sizes[0]
