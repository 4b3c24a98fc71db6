"""How do the inputs bear on the outputs? Reverse mode: one sweep from the outputs to the inputs.

The sweep visits nodes last to first and emits only what is asked for: the shares of operands that
change with `wrt`. The shares of one value appear in this order: the cotangent given for it, then
those of its consumers, the last consumer first, and within one consumer operand by operand from the
left. `shares.py` says how they are added up. Both are part of what a gradient's bits depend on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pellucid.ir.build import Builder, building, current_builder
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ir.rewrite import copy_node, prune
from pellucid.ops.define import Composed, Custom, Multilinear, NoDerivative, One, Pointwise
from pellucid.ops.elementwise import mul, neg
from pellucid.transforms.jvp import total_by_value
from pellucid.transforms.shares import Shares
from pellucid.transforms.tangent import (
    card,
    composition,
    dependents,
    floating_inputs,
    is_floating,
    refuse,
    zero,
)


def vjp(graph: Graph, wrt: Sequence[int]) -> Graph:
    """Inputs and a cotangent per floating output -> outputs and the cotangents of inputs `wrt`.

    The cotangent of an input that no output depends on is an explicit zero. Raises
    DerivativeError where an op on the way has no derivative, or an input of `wrt` no tangent.
    """
    chosen = floating_inputs("vjp", graph, wrt)
    with building() as builder:
        env = builder.copy(graph, [builder.input(value.type) for value in graph.inputs])
        given = [(v, builder.input(v.type)) for v in graph.outputs if is_floating(v)]
        shares = pull_back(graph, env, total_by_value(given), chosen)
        found = [share or zero(value) for share, value in zip(shares, chosen, strict=True)]
        return builder.graph([*(env[value] for value in graph.outputs), *found])


def gradient_graph(
    forward: Graph, wrt: Sequence[Value], cotangents_of: Sequence[Value]
) -> tuple[Graph, tuple[Value, ...]]:
    """The reverse sweep as a graph of its own, and the forward values that it needs.

    Its inputs are the residuals (values of `forward`, in their numbering there) and then one
    cotangent for each value in `cotangents_of`; its outputs are the gradients of the values in
    `wrt`, explicit zeros where nothing depends on one. What `forward` makes from nothing, such
    as a constant, is made again and is no residual.
    """
    with building() as builder:
        env = _stand_ins(builder, forward)
        given = [(value, builder.input(value.type)) for value in cotangents_of]
        shares = pull_back(forward, env, total_by_value(given), wrt)
        found = [share or zero(value) for share, value in zip(shares, wrt, strict=True)]
        swept = prune(builder.graph(found))
    residuals = tuple(v for v in forward.numbering if _is_residual(env[v], swept))
    inputs = [*(env[value] for value in residuals), *(cotangent for _, cotangent in given)]
    return Graph(tuple(inputs), swept.nodes, swept.results, swept.outputs), residuals


def pull_back(
    graph: Graph,
    env: Mapping[Value, Value],
    cotangents: Mapping[Value, Value | None],
    wrt: Sequence[Value],
) -> list[Value | None]:
    """Emit the reverse sweep of `graph` into the open builder; gives the cotangents of `wrt`.

    `env` maps each value of the graph to one of the builder, `cotangents` values of the graph to
    theirs in the builder (None is zero). A result None means that nothing given depends on it.
    New nodes carry the source of the forward node that they come from.
    """
    moving = dependents(graph, wrt)
    shares: dict[Value, Shares] = {}
    for value, given in cotangents.items():
        if given is not None and value in moving:
            shares[value] = Shares(given)
    builder = current_builder()
    outer = builder.source
    for node, results in zip(reversed(graph.nodes), reversed(graph.results), strict=True):
        found = next((shares[value] for value in results if value in shares), None)
        wanted = [is_floating(value) and value in moving for value in node.operands]
        if found is None or not any(wanted):
            continue
        builder.source = node.source or outer
        cotangent = found.total()
        operands = tuple(env[value] for value in node.operands)
        parts = _shares(node, cotangent, env[results[0]], operands, wanted)
        for value, share in zip(node.operands, parts, strict=True):
            if share is not None:
                shares.setdefault(value, Shares()).take(share)
    builder.source = outer
    return [shares[value].total() if value in shares else None for value in wrt]


def _shares(
    node: Node, g: Value, y: Value, operands: tuple[Value, ...], wanted: Sequence[bool]
) -> list[Value | None]:
    """Each wanted operand's share of the cotangent `g` of `y`."""
    rule, attrs = card(node).derivative, dict(node.attrs)
    if isinstance(rule, NoDerivative):
        raise refuse(node, rule.why)
    if isinstance(rule, Composed) and rule.vjp is None:
        parts = composition(node, rule.parts)
        env = current_builder().copy(parts, list(operands))
        chosen = [value for value, w in zip(parts.inputs, wanted, strict=True) if w]
        found = iter(pull_back(parts, env, {parts.outputs[0]: g}, chosen))
        return [next(found) if w else None for w in wanted]
    if isinstance(rule, Custom | Composed):
        assert rule.vjp is not None, "a composition without one was pulled back above"
        given = rule.vjp(g, y, operands, attrs)
        return [share if w else None for share, w in zip(given, wanted, strict=True)]
    if isinstance(rule, Multilinear):
        pairs = zip(rule.transposes, wanted, strict=True)
        return [transpose(g, *operands, **attrs) if w else None for transpose, w in pairs]
    return [
        _pointwise_share(rule, index, g, y, operands, attrs) if w else None
        for index, w in enumerate(wanted)
    ]


def _pointwise_share(
    rule: Pointwise,
    index: int,
    g: Value,
    y: Value,
    operands: tuple[Value, ...],
    attrs: dict[str, object],
) -> Value | None:
    partial = rule.partials[index]
    if partial is None:
        return None
    if isinstance(partial, One):
        return neg(g) if partial.negative else g
    return mul(g, partial(y, *operands, **attrs))


def _stand_ins(builder: Builder, forward: Graph) -> dict[Value, Value]:
    """An input for each forward value, but a copy of what is made from nothing."""
    env = {value: builder.input(value.type) for value in forward.inputs}
    for node, results in zip(forward.nodes, forward.results, strict=True):
        builder.source = node.source
        if node.operands:
            env.update((value, builder.input(value.type)) for value in results)
        else:
            env.update(zip(results, copy_node(builder, node, ()), strict=True))
    builder.source = None
    return env


def _is_residual(stand_in: Value, swept: Graph) -> bool:
    return stand_in.node is None and swept.uses[stand_in] > 0
