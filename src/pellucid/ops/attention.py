"""How does a sequence look at another? Scaled-dot-product attention (Vaswani et al., NeurIPS 2017).

    attention(query, key, value, [mask], [lengths], [seed, draw])

is softmax(query . key * scale) . value. `query` is (batch, rows, heads, size), `key` (batch,
columns, shared, size) and `value` (batch, columns, shared, features), where `shared` divides
`heads`: so many query heads in turn look at one head of key and value (grouped-query attention;
Ainslie et al., EMNLP 2023). The result is (batch, rows, heads, features). `heads_first` says of
query, key, value and result whether heads come second instead. A row sees a column if `mask` (which
broadcasts against (batch, heads, rows, columns)) is true there, if the column is one of the first
`lengths[batch]`, and, where `causal`, if it does not come later than the row: rows and columns
begin together, but end together where there are lengths. A row that sees nothing gives zeros.

The order is the op's own, so that no engine has to hold the scores of all rows at once. Scores are
products as in `dot_general`, times `scale`; e = exp(score - the row's largest), 0 where the row
does not look; the sum of a row's e is that of `sum`; the e times the values are added in chunks of
512 columns, the chunks in order, and divided by the sum at the end. With `dropout` p, an e becomes
0 with probability p, after it was summed, and is multiplied by 1 / (1 - p) otherwise: it is kept if
the top 24 of its random bits are less than (1 - p) * 2^24. They are those of `random_bits` for the
seed and draw, in the shape (batch, heads, rows, columns rounded up to fours). Columns beyond the
last one that any row of a block (`rows_at_once`) can see take no part at all.

`attention_gradient` takes the cotangent g after the value, and gives those of query, key and value,
each lying as its operand does, one after the other in row-major order; `heads_first` says it of g
last. It makes the weights w = e * (1 / sum) again, and takes dw = g . value and
ds = (w * (dw - sum(w * dw))) * scale; the query's are ds . key (in chunks of 512 columns); the
key's ds . query and the value's w . g are added up one block of rows after the other, for one query
head after the other.

With `precision=bfloat16` operands are of bfloat16, or of float32 and rounded first, and the result
is of float32. All products are those of `dot_general` with that precision: of an e, a w or a ds
they read what it is rounded to, after its dropout. Sums of e are those of what was not rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pellucid.core.dtype import (
    DType,
    bfloat16,
    bool_,
    float32,
    float64,
    int32,
    int64,
    uint32,
    uint64,
)
from pellucid.core.error import OpShapeError, OpTypeError
from pellucid.core.shape import Shape, Size, product, static_shape
from pellucid.ir.graph import TensorType, Value
from pellucid.ops.attention_forms import (
    HEADS_AND_ROWS,
    USUAL,
    HeadsFirst,
    Options,
    Sizes,
    drawn_columns,
    heads_exchanged,
    sizes_of,
)
from pellucid.ops.attention_reference import gradient_reference, reference
from pellucid.ops.contract import dot_general
from pellucid.ops.define import Composed, Cost, Op, define, moved_bytes, require_dtype
from pellucid.ops.elementwise import add as plus
from pellucid.ops.elementwise import (
    cast,
    div,
    equal,
    exp,
    less,
    less_equal,
    logical_and,
    minimum,
    mul,
    select,
    shift_right,
    stop_gradient,
    sub,
)
from pellucid.ops.movement import broadcast, full, iota, reshape, transpose
from pellucid.ops.parts import concatenate, repeated, slice
from pellucid.ops.precision import require_precision
from pellucid.ops.random import random_bits
from pellucid.ops.reduce import max_, sum_

NUMBERS = (bfloat16, float32, float64)
"""The dtypes of query, key and value."""


def computing(dtype: DType) -> DType:
    """The dtype in which an attention of such operands is computed: that of its result."""
    return float32 if dtype is bfloat16 else dtype


def _require(name: str, types: tuple[TensorType, ...], options: Options) -> Sizes:
    if len(types) != 3 + options.count:
        raise OpTypeError(f"{name}: expected {3 + options.count} operands, got {len(types)}")
    if not 0.0 <= options.dropout < 1.0:
        raise OpTypeError(f"{name}: expected dropout from 0 to below 1, got {options.dropout}")
    query, key, value = types[:3]
    shapes = ", ".join(one.message() for one in (query, key, value))
    for type in (query, key, value):
        require_dtype(name, type, NUMBERS)
        _require_read(name, type.dtype, options.precision)
        if type.rank != 4 or type.dtype is not query.dtype:
            raise OpShapeError(f"{name}: expected 4 axes and one dtype, got {shapes}")
    fits = (
        query.shape[0] == key.shape[0] == value.shape[0]
        and key.shape[1:3] == value.shape[1:3]
        and query.shape[3] == key.shape[3]
    )
    heads, shared = query.shape[2], key.shape[2]
    divides = not (isinstance(heads, int) and isinstance(shared, int)) or (
        heads == shared or (shared > 0 and heads % shared == 0)
    )
    if not fits or not divides:
        raise OpShapeError(
            f"{name}: expected query (batch, rows, heads, size), key (batch, columns, shared, "
            f"size) and value (batch, columns, shared, features), shared dividing heads; "
            f"got {shapes}"
        )
    sizes = sizes_of(query.shape, key.shape, value.shape)
    rest = types[3:]
    if options.mask:
        _require_mask(name, rest[0], (sizes.batch, heads, sizes.rows, sizes.columns))
    if options.lengths:
        lengths = rest[options.mask]
        require_dtype(name, lengths, (int32, int64))
        if lengths.shape != (sizes.batch,):
            raise OpShapeError(f"{name}: expected lengths ({sizes.batch},), got {lengths}")
    if options.dropout:
        for type in rest[-2:]:
            require_dtype(name, type, (uint64,))
            if type.shape != ():
                raise OpShapeError(f"{name}: expected a scalar seed and draw, got {type}")
    return sizes


def _require_read(name: str, own: DType, precision: DType | None) -> None:
    if own is not bfloat16:
        require_precision(name, own, precision)
    elif precision is not bfloat16:
        raise OpTypeError(f"{name}: expected a precision for operands of bfloat16, got none")


def _require_mask(name: str, mask: TensorType, shape: Shape) -> None:
    require_dtype(name, mask, (bool_,))
    pairs = zip(mask.shape, shape, strict=True) if mask.rank == 4 else [(0, 1)]
    if not all(have in (1, want) for have, want in pairs):
        raise OpShapeError(
            f"{name}: expected a mask that broadcasts against {shape}, got {mask.message()}"
        )


def _usual(types: tuple[TensorType, ...], turns: tuple[bool, ...]) -> tuple[TensorType, ...]:
    """The types as though heads were always third."""
    pairs = zip(types, (*turns, *(False for _ in types)), strict=False)
    return tuple(TensorType(t.dtype, heads_exchanged(t.shape, first)) for t, first in pairs)


def _infer(*types: TensorType, heads_first: HeadsFirst, **attrs: Any) -> TensorType:
    usual = _usual(types, heads_first[:3])
    sizes = _require("attention", usual, Options(**attrs))
    shape = (*usual[0].shape[:3], sizes.features)
    return TensorType(computing(types[0].dtype), heads_exchanged(shape, heads_first[3]))


def _gradient_infer(*types: TensorType, heads_first: HeadsFirst, **attrs: Any) -> TensorType:
    if len(types) < 4:
        raise OpTypeError(f"attention_gradient: expected 4 operands at least, got {len(types)}")
    usual = _usual(types, heads_first)
    sizes = _require("attention_gradient", (*usual[:3], *usual[4:]), Options(**attrs))
    shape = (*usual[0].shape[:3], sizes.features)
    if usual[3] != TensorType(types[0].dtype, shape):
        wanted = heads_exchanged(shape, heads_first[3])
        raise OpShapeError(
            f"attention_gradient: expected a cotangent {wanted}, got {types[3].message()}"
        )
    count: Size = 0
    for type in types[:3]:
        count = count + product(type.shape)
    return TensorType(computing(types[0].dtype), (count,))


# What they are composed of: for the derivatives that have no kernel of their own.


@dataclass(frozen=True, slots=True)
class _Scored:
    """The weights by (batch, shared, rows, groups, columns), the factors that dropout gives them,
    if any, and the operands in that shape.
    """

    weights: Value
    kept: Value | None
    query: Value
    key: Value
    value: Value
    sizes: Sizes


def _scored(
    query: Value, key: Value, value: Value, rest: tuple[Value, ...], options: Options
) -> _Scored:
    dot_general = _reading(options)
    n = sizes_of(query.shape, key.shape, value.shape)
    grouped = reshape(query, shape=(n.batch, n.rows, n.shared, n.groups, n.size))
    products = dot_general(grouped, key, contract=((4,), (3,)), batch=((0, 2), (0, 2)))
    scores = mul(products, full(products.shape, options.scale, products.dtype))
    shown = _shown(scores.shape, n, rest, options)
    scores = select(shown, scores, full(scores.shape, -1e30, scores.dtype))
    top = broadcast(stop_gradient(max_(scores, axes=(4,))), shape=scores.shape, axes=(0, 1, 2, 3))
    raised = select(shown, exp(sub(scores, top)), full(scores.shape, 0.0, scores.dtype))
    total = sum_(raised, axes=(4,))
    one = full(total.shape, 1.0, total.dtype)
    total = select(equal(total, full(total.shape, 0.0, total.dtype)), one, total)
    weights = div(raised, broadcast(total, shape=scores.shape, axes=(0, 1, 2, 3)))
    kept = _kept(n, rest, options, weights) if options.dropout else None
    return _Scored(weights, kept, grouped, key, value, n)


def _kept(n: Sizes, rest: tuple[Value, ...], options: Options, weights: Value) -> Value:
    """1 / (1 - dropout) where a weight is kept, 0 elsewhere."""
    heads = n.shared * n.groups
    shape = (n.batch, heads, n.rows, drawn_columns(n.columns))
    bits = random_bits(rest[-2], rest[-1], shape=shape)
    stop = (n.batch, heads, n.rows, n.columns)
    bits = slice(bits, start=(0, 0, 0, 0), stop=stop, strides=(1, 1, 1, 1))
    top = shift_right(bits, full(stop, 8, uint32))
    unit = mul(cast(top, dtype=float32), full(stop, 2.0**-24, float32))
    stays = less(unit, full(stop, 1.0 - options.dropout, float32))
    apart = reshape(stays, shape=(n.batch, n.shared, n.groups, n.rows, n.columns))
    turned = transpose(apart, permutation=(0, 1, 3, 2, 4))
    some = full(weights.shape, 1.0 / (1.0 - options.dropout), weights.dtype)
    return select(turned, some, full(weights.shape, 0.0, weights.dtype))


def _shown(shape: Shape, n: Sizes, rest: tuple[Value, ...], options: Options) -> Value:
    """Which row sees which column, by (batch, shared, rows, groups, columns)."""
    row, column = (iota(shape=shape, axis=axis, dtype=int64) for axis in (2, 4))
    shown = full(shape, True, bool_)
    last = row
    if options.lengths:
        rows, columns = static_shape((n.rows, n.columns), "an attention with lengths")
        given = broadcast(cast(rest[options.mask], dtype=int64), shape=shape, axes=(0,))
        ends = minimum(given, full(shape, columns, int64))
        shown = less(column, ends)
        last = plus(row, sub(ends, full(shape, rows, int64)))
    if options.causal:
        shown = logical_and(shown, less_equal(column, last))
    if options.mask:
        shown = logical_and(shown, _spread(rest[0], shape, n))
    return shown


def _spread(mask: Value, shape: Shape, n: Sizes) -> Value:
    """A mask of (batch, heads, rows, columns), or 1 for each, in the shape of the scores."""
    batch, heads, rows, columns = mask.shape
    shared, groups = (1, 1) if heads == 1 else (n.shared, n.groups)
    cut = reshape(mask, shape=(batch, shared, groups, rows, columns))
    turned = transpose(cut, permutation=(0, 1, 3, 2, 4))
    return broadcast(turned, shape=shape, axes=(0, 1, 2, 3, 4))


def _turned(x: Value, first: bool) -> Value:
    """x with heads and rows exchanged, where heads come first; or back again."""
    return transpose(x, permutation=HEADS_AND_ROWS) if first else x


def _reading(options: Options) -> Callable[..., Value]:
    """`dot_general` in the precision of the op."""
    if options.precision is None:
        return dot_general
    return partial(dot_general, precision=options.precision)


def _widened(operands: tuple[Value, ...]) -> tuple[Value, ...]:
    """Operands in the dtype that is computed in."""
    return tuple(cast(x, dtype=float32) if x.dtype is bfloat16 else x for x in operands)


def _attention_parts(*operands: Value, heads_first: HeadsFirst, **attrs: Any) -> Value:
    operands, options = _widened(operands), Options(**attrs)
    pairs = zip(operands[:3], heads_first[:3], strict=True)
    query, key, value = (_turned(x, first) for x, first in pairs)
    one = _scored(query, key, value, operands[3:], options)
    dot_general = _reading(options)
    weights = one.weights if one.kept is None else mul(one.weights, one.kept)
    found = dot_general(weights, value, contract=((4,), (1,)), batch=((0, 1), (0, 2)))
    turned = transpose(found, permutation=(0, 2, 1, 3, 4))
    whole = reshape(turned, shape=(*query.shape[:3], one.sizes.features))
    return _turned(whole, heads_first[3])


def _gradient_parts(*operands: Value, heads_first: HeadsFirst, **attrs: Any) -> Value:
    operands, rest = _widened(operands[:4]), operands[4:]
    pairs = zip(operands, heads_first, strict=True)
    query, key, value, g = (_turned(x, first) for x, first in pairs)
    options = Options(**attrs)
    one = _scored(query, key, value, rest, options)
    dot_general = _reading(options)
    n = one.sizes
    cotangent = reshape(g, shape=(n.batch, n.rows, n.shared, n.groups, n.features))
    dw = dot_general(cotangent, value, contract=((4,), (3,)), batch=((0, 2), (0, 2)))
    dropped = one.weights
    if one.kept is not None:
        dw, dropped = mul(dw, one.kept), mul(one.weights, one.kept)
    mean = sum_(mul(one.weights, dw), axes=(4,))
    less_mean = sub(dw, broadcast(mean, shape=dw.shape, axes=(0, 1, 2, 3)))
    ds = mul(mul(one.weights, less_mean), full(dw.shape, attrs["scale"], dw.dtype))
    dq = dot_general(ds, key, contract=((4,), (1,)), batch=((0, 1), (0, 2)))
    dk = dot_general(ds, one.query, contract=((2, 3), (1, 3)), batch=((0, 1), (0, 2)))
    dv = dot_general(dropped, cotangent, contract=((2, 3), (1, 3)), batch=((0, 1), (0, 2)))
    shares = (
        reshape(transpose(dq, permutation=(0, 2, 1, 3, 4)), shape=query.shape),
        transpose(dk, permutation=(0, 2, 1, 3)),
        transpose(dv, permutation=(0, 2, 1, 3)),
    )
    lying = [_turned(x, first) for x, first in zip(shares, heads_first[:3], strict=True)]
    return concatenate(*(reshape(x, shape=(product(x.shape),)) for x in lying), axis=0)


def _attention_vjp(
    g: Value, y: Value, operands: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Value | None, ...]:
    own = operands[0].dtype
    # Of the cotangent, too, products alone read anything.
    given = g if g.dtype is own else cast(g, dtype=own)
    packed = attention_gradient(*operands[:3], given, *operands[3:], **attrs)
    packed = packed if packed.dtype is own else cast(packed, dtype=own)
    return (*_unpacked(packed, operands[:3]), *(None for _ in operands[3:]))


def _unpacked(packed: Value, like: tuple[Value, ...]) -> list[Value]:
    """Tensors of these shapes from their numbers one after the other."""
    found: list[Value] = []
    start: Size = 0
    for one in like:
        stop = start + product(one.shape)
        flat = slice(packed, start=(start,), stop=(stop,), strides=(1,))
        found.append(reshape(flat, shape=one.shape))
        start = stop
    return found


# A new leading axis joins the batch.


def _merged(x: Value) -> Value:
    return reshape(x, shape=(x.shape[0] * x.shape[1], *x.shape[2:]))


def _prepared(
    operands: tuple[Value, ...], mapped: tuple[bool, ...], fixed: int, mask: bool
) -> tuple[Value, ...]:
    """All operands with the new axis merged into their batch axis, a mask's made whole first."""
    each = repeated(operands, mapped)
    if mask:
        shape = (*each[0].shape[:2], *each[fixed].shape[2:])
        each[fixed] = broadcast(each[fixed], shape=shape, axes=tuple(range(len(shape))))
    return tuple(map(_merged, each))


def _one_by_one(
    op: Op, operands: tuple[Value, ...], mapped: tuple[bool, ...], attrs: dict[str, Any]
) -> Value:
    """Each example by itself: what dropout draws for one depends on its places alone."""
    found: list[Value] = []
    (count,) = static_shape(
        (next(v.shape[0] for v, m in zip(operands, mapped, strict=True) if m),), "batching dropout"
    )
    for at in range(count):
        one = op(
            *(_example(v, at) if m else v for v, m in zip(operands, mapped, strict=True)), **attrs
        )
        found.append(reshape(one, shape=(1, *one.shape)))
    return concatenate(*found, axis=0)


def _example(x: Value, at: int) -> Value:
    """One element of the first axis."""
    rest = x.shape[1:]
    start, stop = (at, *(0 for _ in rest)), (at + 1, *rest)
    return reshape(slice(x, start=start, stop=stop, strides=[1] * x.tensor.rank), shape=rest)


def _batch(
    operands: tuple[Value, ...], mapped: tuple[bool, ...], *, mask: bool, **attrs: Any
) -> Value:
    if attrs["dropout"]:
        return _one_by_one(attention, operands, mapped, {"mask": mask, **attrs})
    each = _prepared(operands, mapped, 3, mask)
    found = attention(*each, mask=mask, **attrs)
    count = next(v.shape[0] for v, m in zip(operands, mapped, strict=True) if m)
    size = found.shape[0] // count if isinstance(count, int) and count else 0
    return reshape(found, shape=(count, size, *found.shape[1:]))


def _gradient_batch(
    operands: tuple[Value, ...], mapped: tuple[bool, ...], *, mask: bool, **attrs: Any
) -> Value:
    if attrs["dropout"]:
        return _one_by_one(attention_gradient, operands, mapped, {"mask": mask, **attrs})
    each = _prepared(operands, mapped, 4, mask)
    packed = attention_gradient(*each, mask=mask, **attrs)
    count = next(v.shape[0] for v, m in zip(operands, mapped, strict=True) if m)
    shares = _unpacked(packed, each[:3])
    rows = [reshape(x, shape=(count, product(x.shape) // count)) for x in shares]
    return concatenate(*rows, axis=1)


def _cost(products: int) -> Any:
    def cost(
        operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any
    ) -> Cost:
        pairs = zip(operands, attrs.get("heads_first", USUAL)[:3], strict=False)
        query, key, value = (heads_exchanged(type.shape, first) for type, first in pairs)
        pairs = product(query[:3]) * key[1]
        widths = query[3] * (products - products // 2) + value[3] * (products // 2)
        moved = moved_bytes(operands) + moved_bytes(results)
        return Cost(2 * pairs * widths, moved)

    return cost


attention = define(
    "attention",
    infer=_infer,
    reference=reference,
    derivative=Composed(_attention_parts, _attention_vjp),
    batch=_batch,
    cost=_cost(2),
    on=NUMBERS,
    what="values weighted by the softmax of query . key",
)

attention_gradient = define(
    "attention_gradient",
    infer=_gradient_infer,
    reference=gradient_reference,
    derivative=Composed(_gradient_parts),
    batch=_gradient_batch,
    cost=_cost(5),
    on=NUMBERS,
    what="the cotangents of an attention's query, key and value",
)
