"""How is a kernel written down? One line a statement, two spaces a level; and read back again.

    kernel scale
      sizes n
      read x: float32
      write y: float32
      thread i 16384
      vector i 8
      for i < n
        t0: float32 = load x[i]
        t1: float32 = const 2.0
        t2: float32 = mul t0 t1
        store y[i] = t2

`parse_kernel(print_kernel(k)) == k`, and the text of a kernel is the key under which its machine
code is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, cast, get_args

from pellucid.core.dtype import DType, bool_, named_dtype
from pellucid.core.error import ParseError
from pellucid.engines.loops.ir import (
    Accumulator,
    Affine,
    Apply,
    Axis,
    Binding,
    BindingKind,
    Buffer,
    Chain,
    Const,
    Contract,
    Expression,
    Extent,
    Follow,
    Index,
    Kernel,
    Let,
    Load,
    Loop,
    Quotient,
    Random,
    Reduce,
    ReductionKind,
    Remainder,
    Size,
    Sort,
    Statement,
    Store,
    Until,
    Update,
    Within,
)

_KINDS: Final = "|".join(get_args(BindingKind))
_COMBINED: Final = "|".join(get_args(ReductionKind))


def print_kernel(kernel: Kernel) -> str:
    """The text of a kernel, without a final line break."""
    lines = [f"kernel {kernel.name}"]
    if kernel.parameters:
        lines.append(f"  sizes {' '.join(kernel.parameters)}")
    lines += [f"  {b.access} {b.name}: {b.dtype}" for b in kernel.buffers]
    lines += [f"  scratch {b.name}: {b.dtype} x {b.elements}" for b in kernel.scratch]
    if kernel.unless:
        lines.append(f"  unless {kernel.unless[0]} is {kernel.unless[1]}")
    lines += [f"  {b.kind} {b.axis} {b.factor}" for b in kernel.schedule]
    return "\n".join([*lines, *_block(kernel.body, "  ")])


def parse_kernel(text: str) -> Kernel:
    """The kernel that `text` prints; raises ParseError with the number of the line at fault."""
    lines = _Lines(text)
    (name,) = lines.take(r"kernel (\w+)")
    parameters: tuple[str, ...] = ()
    if found := lines.take_if(r"sizes (.*)"):
        parameters = tuple(found[0].split())
    buffers: list[Buffer] = []
    while found := lines.take_if(r"(read|write) (\w+): (\w+)"):
        access, buffer, dtype = found
        assert access in ("read", "write")
        buffers.append(Buffer(buffer, named_dtype(dtype), access))
    scratch: list[Buffer] = []
    while found := lines.take_if(r"scratch (\w+): (\w+) x (\d+)"):
        buffer, dtype, elements = found
        scratch.append(Buffer(buffer, named_dtype(dtype), "scratch", int(elements)))
    unless = lines.take_if(r"unless (\w+) is (\w+)")
    schedule: list[Binding] = []
    while found := lines.take_if(rf"({_KINDS}) (\w+) (\w+)"):
        kind, axis, factor = found
        schedule.append(Binding(axis, cast(BindingKind, kind), _parse_size(factor)))
    body = lines.block(2)
    lines.expect_end()
    same = (unless[0], unless[1]) if unless else None
    return Kernel(name, parameters, tuple(buffers), body, tuple(schedule), tuple(scratch), same)


def print_expression(value: Expression, dtype: DType) -> str:
    """An expression as it stands on the right of a Let."""
    match value:
        case Const(number):
            return f"const {bool(number) if dtype is bool_ else number!r}"
        case Load(buffer, index):
            return f"load {buffer}[{index}]"
        case Apply(op, operands):
            return " ".join((op, *operands))
        case Index(index):
            return f"index [{index}]"
        case Quotient(index, by):
            return f"quotient [{index}] {by}"
        case Remainder(index, by):
            return f"remainder [{index}] {by}"
        case Extent(size):
            return f"extent {size}"
        case Random(seed, draw, index):
            return f"random {seed} {draw} [{index}]"


def _block(statements: tuple[Statement, ...], indent: str) -> Iterator[str]:
    for statement in statements:
        match statement:
            case Let(name, dtype, value):
                yield f"{indent}{name}: {dtype} = {print_expression(value, dtype)}"
            case Store(buffer, index, value):
                yield f"{indent}store {buffer}[{index}] = {value}"
            case Update(buffer, index, how, value, guard):
                yield f"{indent}update {buffer}[{index}] {how} {value} if {guard}"
            case Chain(buffer, index, kind, value, along):
                yield f"{indent}chain {buffer}[{index}] {kind} {value} along {along}"
            case Sort(buffer, index, step, axis, value, descending):
                over = f"{axis.name} < {axis.extent}"
                way = "falling" if descending else "rising"
                yield (
                    f"{indent}sort {buffer}[{index}] step {step} over {over} "
                    f"by {value.buffer}[{value.index}] {way}"
                )
            case Loop(axis, body, until):
                end = f" until {until.index} is {until.size}" if until else ""
                yield f"{indent}for {axis.name} < {axis.extent}{end}"
                yield from _block(body, indent + "  ")
            case Contract(name, dtype, axes, lhs, rhs, within):
                pair = f"{lhs.buffer}[{lhs.index}] * {rhs.buffer}[{rhs.index}]"
                over = ", ".join(f"{axis.name} < {axis.extent}" for axis in axes)
                where = "".join(f" where {one.index} < {one.size}" for one in within)
                yield f"{indent}contract {name}: {dtype} over {over} of {pair}{where}"
            case Reduce():
                yield indent + _reduce_head(statement)
                yield from _block(statement.body, indent + "  ")
            case Follow(results, axis, first, following, body):
                way = f"{axis.name} < {axis.extent} from {first} to {following}"
                yield f"{indent}follow {_print_accumulators(results)} over {way}"
                yield from _block(body, indent + "  ")


def _reduce_head(reduce: Reduce) -> str:
    results = _print_accumulators(reduce.results)
    axes = ", ".join(f"{axis.name} < {axis.extent}" for axis in reduce.axes)
    chunk = " x ".join(map(str, reduce.chunk))
    part = f" part {reduce.part}" if reduce.part else ""
    return f"reduce {results} over {axes} by {reduce.order} in {chunk}{part}"


def _print_accumulators(results: tuple[Accumulator, ...]) -> str:
    return ", ".join(f"{a.name}: {a.dtype} = {a.kind} {a.value}" for a in results)


class _Lines:
    """The lines of a text, taken one by one."""

    def __init__(self, text: str) -> None:
        self.lines = [line for line in text.splitlines() if line.strip()]
        self.at = 0

    def take_if(self, pattern: str) -> tuple[str, ...] | None:
        """The groups of the next line if it matches, which is then taken."""
        if self.at == len(self.lines):
            return None
        found = re.fullmatch(pattern, self.lines[self.at].strip())
        if found is None:
            return None
        self.at += 1
        return found.groups(default="")

    def take(self, pattern: str) -> tuple[str, ...]:
        """The groups of the next line, which must match."""
        found = self.take_if(pattern)
        if found is None:
            raise self.error(f"expected {pattern!r}")
        return found

    def error(self, what: str) -> ParseError:
        line = self.lines[self.at].strip() if self.at < len(self.lines) else "the end"
        return ParseError(f"kernel text, line {self.at + 1}: {what}, got {line!r}")

    def expect_end(self) -> None:
        if self.at < len(self.lines):
            raise self.error("expected the end")

    def block(self, indent: int) -> tuple[Statement, ...]:
        """The statements that stand at `indent`, with what is nested in them."""
        found: list[Statement] = []
        while self.at < len(self.lines) and self._indent() == indent:
            found.append(self.statement(indent))
        return tuple(found)

    def statement(self, indent: int) -> Statement:
        for pattern, build in _STATEMENTS.items():
            if groups := self.take_if(pattern):
                return build(groups, lambda: self.block(indent + 2))
        raise self.error("expected a statement")

    def _indent(self) -> int:
        line = self.lines[self.at]
        return len(line) - len(line.lstrip())


Groups = tuple[str, ...]
Body = Callable[[], tuple[Statement, ...]]


def _parse_loop(groups: Groups, body: Body) -> Loop:
    axis, index, size = groups
    until = Until(_parse_affine(index), int(size)) if index else None
    return Loop(_parse_axis(axis), body(), until)


def _parse_store(groups: Groups, body: Body) -> Store:
    return Store(groups[0], _parse_affine(groups[1]), groups[2])


def _parse_update(groups: Groups, body: Body) -> Update:
    buffer, index, how, value, guard = groups
    assert how in ("set", "add", "max", "min")
    return Update(buffer, _parse_affine(index), how, value, guard)


def _parse_chain(groups: Groups, body: Body) -> Chain:
    buffer, index, kind, value, along = groups
    return Chain(buffer, _parse_affine(index), _parse_kind(kind), value, _parse_affine(along))


def _parse_sort(groups: Groups, body: Body) -> Sort:
    buffer, index, step, axis, source, source_index, way = groups
    value = Load(source, _parse_affine(source_index))
    where, size = _parse_affine(index), _parse_size(step)
    return Sort(buffer, where, size, _parse_axis(axis), value, way == "falling")


def _parse_contract(groups: Groups, body: Body) -> Contract:
    name, dtype, over, lhs, lhs_index, rhs, rhs_index, where = groups
    left, right = Load(lhs, _parse_affine(lhs_index)), Load(rhs, _parse_affine(rhs_index))
    axes = tuple(_parse_axis(text) for text in over.split(", "))
    within = tuple(map(_parse_within, where.split(" where ")[1:]))
    return Contract(name, named_dtype(dtype), axes, left, right, within)


def _parse_within(text: str) -> Within:
    index, _, size = text.partition(" < ")
    return Within(_parse_affine(index), int(size))


def _parse_reduce(groups: Groups, body: Body) -> Reduce:
    results, axes, order, chunk, part = groups
    assert order in ("lanes", "chain")
    return Reduce(
        _parse_accumulators(results),
        order,
        tuple(_parse_axis(text) for text in axes.split(", ")),
        tuple(_parse_size(text) for text in chunk.split(" x ")),
        body(),
        part or None,
    )


def _parse_follow(groups: Groups, body: Body) -> Follow:
    results, axis, first, following = groups
    return Follow(_parse_accumulators(results), _parse_axis(axis), first, following, body())


def _parse_let(groups: Groups, body: Body) -> Let:
    name, dtype, text = groups
    return Let(name, named_dtype(dtype), _parse_expression(text, named_dtype(dtype)))


_STATEMENTS: dict[str, Callable[[Groups, Body], Statement]] = {
    r"for (\w+ < \w+)(?: until (.*) is (\d+))?": _parse_loop,
    r"store (\w+)\[(.*)\] = (\w+)": _parse_store,
    r"update (\w+)\[(.*)\] (set|add|max|min) (\w+) if (\w+)": _parse_update,
    rf"chain (\w+)\[(.*)\] ({_COMBINED}) (\w+) along (.*)": _parse_chain,
    r"sort (\w+)\[(.*?)\] step (\w+) over (\w+ < \w+) by (\w+)\[(.*?)\] (rising|falling)": (
        _parse_sort
    ),
    r"contract (\w+): (\w+) over (.+?) of (\w+)\[(.*?)\] \* (\w+)\[(.*?)\](.*)": (_parse_contract),
    r"reduce (.*) over (.*) by (lanes|chain) in ([\w ]+?)(?: part (\w+))?": _parse_reduce,
    r"follow (.*) over (\w+ < \w+) from (\w+) to (\w+)": _parse_follow,
    r"(\w+): (\w+) = (.*)": _parse_let,
}


def _parse_accumulators(text: str) -> tuple[Accumulator, ...]:
    return tuple(_parse_accumulator(one) for one in text.split(", "))


def _parse_accumulator(text: str) -> Accumulator:
    found = re.fullmatch(rf"(\w+): (\w+) = ({_COMBINED}) (\w+)", text)
    if found is None:
        raise ParseError(f"kernel text: expected 'name: dtype = sum value', got {text!r}")
    name, dtype, kind, value = found.groups()
    return Accumulator(name, _parse_kind(kind), named_dtype(dtype), value)


def _parse_kind(text: str) -> ReductionKind:
    return cast(ReductionKind, text)


def _parse_expression(text: str, dtype: DType) -> Expression:
    head, _, rest = text.partition(" ")
    if head == "const":
        return Const(_parse_number(rest, dtype))
    if found := re.fullmatch(r"load (\w+)\[(.*)\]", text):
        return Load(found[1], _parse_affine(found[2]))
    if found := re.fullmatch(r"index \[(.*)\]", text):
        return Index(_parse_affine(found[1]))
    if found := re.fullmatch(r"(quotient|remainder) \[(.*)\] (\w+)", text):
        kind = Quotient if found[1] == "quotient" else Remainder
        return kind(_parse_affine(found[2]), _parse_size(found[3]))
    if head == "extent":
        return Extent(_parse_size(rest))
    if found := re.fullmatch(r"random (\w+) (\w+) \[(.*)\]", text):
        return Random(found[1], found[2], _parse_affine(found[3]))
    return Apply(head, tuple(rest.split()))


def _parse_number(text: str, dtype: DType) -> bool | int | float:
    if dtype is bool_:
        return text == "True"
    return float(text) if dtype.is_floating else int(text)


def _parse_axis(text: str) -> Axis:
    name, extent = text.split(" < ")
    return Axis(name, _parse_size(extent))


def _parse_size(text: str) -> Size:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _parse_affine(text: str) -> Affine:
    terms: list[tuple[str, Size]] = []
    offset = 0
    for part in text.split(" + "):
        size, _, name = part.rpartition("*")
        if re.fullmatch(r"-?\d+", name):
            offset = int(name)
        else:
            terms.append((name, _parse_size(size) if size else 1))
    return Affine(tuple(terms), offset)
