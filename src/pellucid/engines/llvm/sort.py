"""How is a row sorted? By merging runs of 1, 2, 4, ... elements, their places moving along.

Each element becomes a 64-bit key that is compared as a whole number, which settles -0.0, NaN and
the direction once. Of two equal keys the left one goes first: equal elements keep their order.
"""

from __future__ import annotations

from pellucid.core.dtype import DType, bool_, float64
from pellucid.engines.llvm import sizes
from pellucid.engines.llvm.scope import Scope
from pellucid.engines.llvm.scratch import take_scratch
from pellucid.engines.llvm.sizes import Number
from pellucid.engines.llvm.text import Function
from pellucid.engines.llvm.types import I32, I64, Value
from pellucid.engines.loops.ir import Let, Sort

LAST = 2**63 - 1
"""The key of NaN: above all others."""


def emit_sort(scope: Scope, sort: Sort) -> None:
    """Sort one row, and write the places of its elements."""
    f, count = scope.f, scope.number(sort.axis.extent)
    base = take_scratch(f, f.parameters[4], sizes.value(sizes.mul(f, count, 32)))
    keys, places, more_keys, more_places = (
        f.gep(base, sizes.mul(f, count, part), I64) for part in range(4)
    )
    with f.loop(0, sizes.value(count), name=sort.axis.name, unroll=1) as loop:
        inner = scope.inside(sort.axis.name, loop.index)
        dtype = scope.kernel.buffer(sort.value.buffer).dtype
        inner.let(Let("element", dtype, sort.value))
        (element,) = inner.values["element"]
        f.store(_key(f, element, dtype, sort.descending), f.gep(keys, loop.index, I64))
        f.store(loop.index, f.gep(places, loop.index, I64))
    accs = [keys, places, more_keys, more_places]
    with f.loop(0, _passes(f, count), accs=accs, name="pass", unroll=1) as turn:
        source, target = turn.accs[:2], turn.accs[2:]
        _merge_runs(f, sizes.value(count), f.shl(1, turn.index), source, target)
        turn.next(*target, *source)
    sorted_places = turn.results[1]
    start, _, _ = scope.locate(sort.index)
    with f.loop(0, sizes.value(count), name="place", unroll=1) as loop:
        at = sizes.add(f, start, sizes.mul(f, loop.index, scope.number(sort.step)))
        place = f.load(I64, f.gep(sorted_places, loop.index, I64))
        f.store(place, f.gep(scope.pointers[sort.buffer], at, I64))


def _passes(f: Function, count: Number) -> Value:
    """How often runs double until one is as long as the row."""
    if isinstance(count, int):
        return sizes.value(max(count - 1, 0).bit_length())
    with f.loop(0, 62, accs=[sizes.value(0)], name="bits", unroll=1) as loop:
        short = f.icmp("slt", f.shl(1, loop.index), count)
        loop.next(f.add(loop.accs[0], f.cast("zext", short, I64)))
    return loop.results[0]


def _merge_runs(
    f: Function, count: Value, width: Value, source: tuple[Value, ...], target: tuple[Value, ...]
) -> None:
    """Each two neighbouring runs of `width` elements as one."""
    with f.loop(0, count, f.shl(width, 1), name="run", unroll=1) as run:
        low = run.index
        middle = f.min_max("smin", f.add(low, width), count)
        high = f.min_max("smin", f.add(middle, width), count)
        with f.loop(low, high, accs=[low, middle], name="merge", unroll=1) as merge:
            left, right = merge.accs
            # A run that is used up is not read: the first key stands in for it.
            in_left, in_right = f.icmp("slt", left, middle), f.icmp("slt", right, high)
            one = f.load(I64, f.gep(source[0], f.select(in_left, left, low), I64))
            other = f.load(I64, f.gep(source[0], f.select(in_right, right, low), I64))
            first = f.or_(f.not_(in_right), f.icmp("sle", one, other))
            takes = f.and_(in_left, first)
            place = f.load(I64, f.gep(source[1], f.select(takes, left, right), I64))
            f.store(f.select(takes, one, other), f.gep(target[0], merge.index, I64))
            f.store(place, f.gep(target[1], merge.index, I64))
            step = f.cast("zext", takes, I64)
            merge.next(f.add(left, step), f.add(right, f.sub(1, step)))


def _key(f: Function, element: Value, dtype: DType, descending: bool) -> Value:
    """The element as a whole number in whose order it is sorted."""
    if not dtype.is_floating:
        return _turned(f, _whole(f, element, dtype), descending)
    # Adding 0.0 makes 0.0 of -0.0. Below zero the bits count the other way.
    bits = f.bitcast(f.fadd(element, 0.0), I64 if dtype is float64 else I32)
    wide = bits if dtype is float64 else f.cast("sext", bits, I64)
    below = f.and_(f.ashr(wide, 63), LAST)
    key = _turned(f, f.xor(wide, below), descending)
    return f.select(f.fcmp("uno", element, element), LAST, key)


def _whole(f: Function, element: Value, dtype: DType) -> Value:
    if dtype.bits == 64:
        return element if dtype.kind == "int" else f.xor(element, -(2**63))
    signed = dtype.kind == "int" and dtype is not bool_
    return f.cast("sext" if signed else "zext", element, I64)


def _turned(f: Function, key: Value, descending: bool) -> Value:
    return f.xor(key, -1) if descending else key
