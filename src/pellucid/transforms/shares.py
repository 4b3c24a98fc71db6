"""What is the cotangent of a value that several nodes use? Its shares, added up or joined.

Most shares are added in the order in which the sweep finds them. Two kinds wait for the end,
because there are cheaper ways than to add up wholes that are mostly zeros or many:

    pads        the shares of slices that lie side by side are one concatenate
    products    of one form, whose sum is larger than what they are made from, are one product:
                x1^T g1 + x2^T g2 = concat(x1, x2)^T concat(g1, g2)

So n steps cut out of a sequence cost one copy of it, and weights that n steps share one product.
The cotangent is what was added, then the pads (runs in the order of their places), then the
products; the terms of one product stand in the order of the forward pass, last found first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod

from pellucid.core.shape import is_static, static_shape
from pellucid.core.source import Source
from pellucid.ir.build import current_builder
from pellucid.ir.graph import Node, Value
from pellucid.ops.contract import dot_general
from pellucid.ops.elementwise import add
from pellucid.ops.movement import reshape, transpose
from pellucid.ops.parts import concatenate, pad


@dataclass(slots=True)
class Shares:
    """The shares of one value that were found so far; `source` is the line of the last one."""

    added: Value | None = None
    source: Source | None = None
    pads: list[Value] = field(default_factory=list[Value])
    products: list[Value] = field(default_factory=list[Value])

    def take(self, share: Value) -> None:
        """One more share."""
        self.source = current_builder().source
        if _place(share) is not None:
            self.pads.append(share)
        elif _form(share) is not None:
            self.products.append(share)
        else:
            self.added = share if self.added is None else add(self.added, share)

    def total(self) -> Value:
        """The cotangent: there is a share at least."""
        builder = current_builder()
        outer, builder.source = builder.source, self.source or builder.source
        waiting = [*_joined_pads(self.pads), *_joined_products(self.products)]
        found = waiting if self.added is None else [self.added, *waiting]
        self.added, self.pads, self.products = _sum(found), [], []
        builder.source = outer
        return self.added


def total(shares: Iterable[Value]) -> Value:
    """The cotangent that shares in the order of the sweep make."""
    found = Shares()
    for share in shares:
        found.take(share)
    return found.total()


def _sum(values: Sequence[Value]) -> Value:
    first, *rest = values
    for value in rest:
        first = add(first, value)
    return first


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the operand of a pad lies: along one axis, from `start` up to `stop`."""

    axis: int
    start: int
    stop: int


def _place(share: Value) -> _Place | None:
    """The place of a slice's share in the whole; None if it is none, or is cut along more axes."""
    node = share.node
    if node is None or node.op is not pad or not is_static(share.shape):
        return None
    low, high = node.attr("low"), node.attr("high")
    along = [axis for axis, widths in enumerate(zip(low, high, strict=True)) if any(widths)]
    if node.attr("value") != "0.0" or any(node.attr("interior")) or len(along) != 1:
        return None
    (axis,) = along
    if low[axis] < 0 or high[axis] < 0:
        return None
    return _Place(axis, low[axis], share.shape[axis] - high[axis])


def _joined_pads(shares: Sequence[Value]) -> list[Value]:
    """What lies side by side as one share; what lies at one place is added up first."""
    at: dict[_Place, list[Value]] = {}
    for share in shares:
        place = _place(share)
        assert place is not None, "only such shares wait here"
        at.setdefault(place, []).append(share)
    runs: list[list[_Place]] = []
    for place in sorted(at, key=lambda one: (one.axis, one.start, one.stop)):
        last = runs[-1][-1] if runs else None
        if last is not None and (last.axis, last.stop) == (place.axis, place.start):
            runs[-1].append(place)
        else:
            runs.append([place])
    return [_run([at[place] for place in run], run) for run in runs]


def _run(shares: Sequence[Sequence[Value]], places: Sequence[_Place]) -> Value:
    """The share of neighbours: joined, with zeros around them where they are not the whole."""
    whole = shares[0][0]
    if len(shares) == 1 and len(shares[0]) == 1:
        return whole
    axis, start, stop = places[0].axis, places[0].start, places[-1].stop
    found = _in_a_row([total(_operand(share) for share in one) for one in shares], axis)
    if found.shape == whole.shape:
        return found
    sizes = static_shape(whole.shape, "joining shares")
    low, high = ([0] * len(sizes) for _ in range(2))
    low[axis], high[axis] = start, sizes[axis] - stop
    return pad(found, value="0.0", low=low, high=high, interior=[0] * len(sizes))


def _in_a_row(parts: Sequence[Value], axis: int) -> Value:
    """The parts one after the other; before they were reshaped, if their rows lie so there too."""
    if len(parts) == 1:
        return parts[0]
    sizes = [static_shape(part.shape, "joining shares") for part in parts]
    shape = (*sizes[0][:axis], sum(one[axis] for one in sizes), *sizes[0][axis + 1 :])
    makers = [part.node for part in parts]
    if axis == 0 and all(maker is not None and maker.op is reshape for maker in makers):
        before = [_operand(part) for part in parts]
        if before[0].shape and len({one.shape[1:] for one in before}) == 1:
            return reshape(concatenate(*before, axis=0), shape=shape)
    return concatenate(*parts, axis=axis)


def _form(share: Value) -> object:
    """What products have in common that may be one; None for what is better added up."""
    dot = _product_behind(share)
    if dot is None or not all(is_static(one.shape) for one in dot.operands):
        return None
    contract = dot.attr("contract")
    if not contract[0] or sum(map(_elements, dot.operands)) >= _elements(share):
        return None
    turned = None if share.node is dot else share.node and share.node.attrs
    beside = tuple(
        tuple(size for axis, size in enumerate(x.shape) if axis != axes[0])
        for x, axes in zip(dot.operands, contract, strict=True)
    )
    return dot.attrs, turned, beside


def _joined_products(shares: Sequence[Value]) -> list[Value]:
    """Those of one form as one product over all that they sum over."""
    forms: dict[object, list[Value]] = {}
    for share in shares:
        forms.setdefault(_form(share), []).append(share)
    return [_one_product(alike[::-1]) for alike in forms.values()]


def _one_product(shares: Sequence[Value]) -> Value:
    if len(shares) == 1:
        return shares[0]
    dots = [dot for dot in map(_product_behind, shares) if dot is not None]
    attrs = dict(dots[0].attrs)
    lhs, rhs = (
        concatenate(*(dot.operands[side] for dot in dots), axis=attrs["contract"][side][0])
        for side in range(2)
    )
    found = dot_general(lhs, rhs, **attrs)
    outer = shares[0].node
    assert outer is not None, "a product is made by a node"
    return found if outer is dots[0] else transpose(found, **dict(outer.attrs))


def _product_behind(share: Value) -> Node | None:
    """The product that a share is, or that it is the transpose of."""
    node = share.node
    if node is not None and node.op is transpose:
        node = node.operands[0].node
    return node if node is not None and node.op is dot_general else None


def _elements(value: Value) -> int:
    return prod(static_shape(value.shape, "joining shares"))


def _operand(made: Value) -> Value:
    assert made.node is not None, "it is made by a node"
    return made.node.operands[0]
