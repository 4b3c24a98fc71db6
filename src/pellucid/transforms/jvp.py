"""How do the outputs move with the inputs? Forward mode: a tangent beside each value that depends.

The rule of each op is read off its card: Pointwise is the sum of d_i * t_i, Multilinear the sum
of op(.., t_i, ..), in the order of the operands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pellucid.ir.build import building, current_builder
from pellucid.ir.graph import Graph, Node, Value
from pellucid.ops.define import Composed, Custom, Multilinear, NoDerivative, One, Pointwise
from pellucid.ops.elementwise import add, mul, neg, sub
from pellucid.transforms.tangent import (
    card,
    composition,
    floating_inputs,
    is_floating,
    refuse,
    zero,
)


def jvp(graph: Graph, wrt: Sequence[int]) -> Graph:
    """Inputs and the tangents of inputs `wrt` -> outputs and the tangents of the floating ones.

    A tangent of an output that does not depend on `wrt` is an explicit zero. Raises
    DerivativeError where an op on the way has no derivative, or an input of `wrt` no tangent.
    """
    chosen = floating_inputs("jvp", graph, wrt)
    with building() as builder:
        inputs = [builder.input(value.type) for value in graph.inputs]
        seeds = [(value, builder.input(value.type)) for value in chosen]
        env = builder.copy(graph, inputs)
        tangents = push_forward(graph, env, total_by_value(seeds))
        moved = [tangents.get(v) or zero(v) for v in graph.outputs if is_floating(v)]
        return builder.graph([*(env[value] for value in graph.outputs), *moved])


def push_forward(
    graph: Graph, env: Mapping[Value, Value], tangents: Mapping[Value, Value]
) -> dict[Value, Value]:
    """Emit the tangents of the graph's values into the open builder.

    `env` maps each value of the graph to one of the builder, `tangents` those that move to their
    tangents. A value missing from the result does not move.
    """
    found = dict(tangents)
    builder = current_builder()
    outer = builder.source
    for node, results in zip(graph.nodes, graph.results, strict=True):
        given = tuple(found.get(value) for value in node.operands)
        if all(t is None for t in given) or not any(map(is_floating, results)):
            continue
        builder.source = node.source or outer
        operands = tuple(env[value] for value in node.operands)
        tangent = _tangent(node, given, env[results[0]], operands)
        if tangent is not None:
            found[results[0]] = tangent
    builder.source = outer
    return found


def total_by_value(pairs: Iterable[tuple[Value, Value]]) -> dict[Value, Value]:
    """One tangent or cotangent for each value: several of one value are added in order."""
    total: dict[Value, Value] = {}
    for value, part in pairs:
        total[value] = add(total[value], part) if value in total else part
    return total


def _tangent(
    node: Node, tangents: tuple[Value | None, ...], y: Value, operands: tuple[Value, ...]
) -> Value | None:
    rule, attrs = card(node).derivative, dict(node.attrs)
    total: Value | None = None
    if isinstance(rule, NoDerivative):
        raise refuse(node, rule.why)
    if isinstance(rule, Custom):
        return rule.jvp(tangents, y, operands, attrs)
    if isinstance(rule, Composed):
        parts = composition(node, rule.parts)
        env = current_builder().copy(parts, list(operands))
        pairs = zip(parts.inputs, tangents, strict=True)
        moved = push_forward(parts, env, {value: t for value, t in pairs if t is not None})
        return moved.get(parts.outputs[0])
    for index, tangent in enumerate(tangents):
        if tangent is None:
            continue
        if isinstance(rule, Multilinear):
            term = card(node)(*operands[:index], tangent, *operands[index + 1 :], **attrs)
            total = term if total is None else add(total, term)
        else:
            total = _plus_pointwise(total, rule, index, tangent, y, operands, attrs)
    return total


def _plus_pointwise(
    total: Value | None,
    rule: Pointwise,
    index: int,
    tangent: Value,
    y: Value,
    operands: tuple[Value, ...],
    attrs: dict[str, object],
) -> Value | None:
    partial = rule.partials[index]
    if partial is None:
        return total
    if isinstance(partial, One):
        if partial.negative:
            return neg(tangent) if total is None else sub(total, tangent)
        term = tangent
    else:
        term = mul(tangent, partial(y, *operands, **attrs))
    return term if total is None else add(total, term)
