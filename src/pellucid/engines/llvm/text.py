"""How LLVM IR is written: functions of named blocks, with loops and branches as Python structure.

Text is the interface to LLVM: it can be shown, kept as a cache key and compared, and nothing of
llvmlite is needed to build it. The same calls give the same text. For example:

>>> from pellucid.engines.llvm.target import AVX2
>>> from pellucid.engines.llvm.types import F32, I64, PTR, VOID
>>> module = Module(AVX2)
>>> f = module.function("double_all", VOID, [("data", PTR), ("count", I64)])
>>> data, count = f.parameters
>>> with f.loop(0, count, name="i") as loop:
...     at = f.gep(data, loop.index, F32)
...     f.store(f.fmul(f.load(F32, at), 2.0), at)
>>> f.ret()
>>> print(f.text())
define void @double_all(ptr %data, i64 %count) #0 {
entry:
  br label %i.head
i.head:
  %i = phi i64 [ 0, %entry ], [ %add, %i.body ]
  %test = icmp slt i64 %i, %count
  br i1 %test, label %i.body, label %i.exit
i.body:
  %at = getelementptr inbounds float, ptr %data, i64 %i
  %load = load float, ptr %at, align 4
  %fmul = fmul float %load, 2.0
  store float %fmul, ptr %at, align 4
  %add = add nsw i64 %i, 1
  br label %i.head
i.exit:
  ret void
}
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pellucid.engines.llvm.instructions import Instructions
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.types import I64, PTR, Operand, Type, Value, constant

AS_WRITTEN = "; as written"
"""First line of a text whose instructions stand as they should run: it is optimised little."""


class Module:
    """Functions, the outside functions they call, and their attributes, as one text.

    `isa` decides what may depend on the machine: vector width attributes and the bit class. With
    `as_written` set, LLVM is asked to keep the order of the text and to try little else.
    """

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self.as_written = False
        self._functions: dict[str, Function] = {}
        self._declarations: dict[str, str] = {}
        self._globals: dict[str, str] = {}
        self._metadata: list[str] = []

    def function(
        self,
        name: str,
        result: Type,
        parameters: Sequence[tuple[str, Type]],
        internal: bool = False,
        inline: bool = False,
    ) -> Function:
        """Begin a function; `internal` hides it from outside, `inline` copies it to callers."""
        assert name not in self._functions, f"function {name} is defined twice"
        self._functions[name] = Function(self, name, result, parameters, internal, inline)
        return self._functions[name]

    def once(
        self,
        name: str,
        result: Type,
        parameters: Sequence[tuple[str, Type]],
        build: Callable[[Function], None],
    ) -> str:
        """The name of an internal, inlined function, built when it is first asked for.

        Elementary functions use it: the text holds one body of `exp` however often it is called.
        """
        if name not in self._functions:
            build(self.function(name, result, parameters, internal=True, inline=True))
        return name

    def data(self, name: str, content: bytes, align: int = 64, constant: bool = True) -> Value:
        """Bytes that live with the code; the pointer to them."""
        kind = "constant" if constant else "global"
        bytes_ = "".join(f"\\{byte:02X}" for byte in content)
        literal = f'c"{bytes_}"' if any(content) else "zeroinitializer"
        line = f"@{name} = internal {kind} [{len(content)} x i8] {literal}, align {align}"
        assert self._globals.setdefault(name, line) == line, f"data {name} is defined twice"
        return Value(PTR, f"@{name}")

    def unrolling(self, copies: int) -> str:
        """The remark on a loop's back edge that asks LLVM for so many copies of its body."""
        wish = "disable" if copies == 1 else "count"
        count = "" if copies == 1 else f", i32 {copies}"
        at = len(self._metadata)
        self._metadata.append(f"!{at} = distinct !{{!{at}, !{at + 1}}}")
        self._metadata.append(f'!{at + 1} = !{{!"llvm.loop.unroll.{wish}"{count}}}')
        return f", !llvm.loop !{at}"

    def defines(self, name: str) -> bool:
        """Whether the module has a function of this name."""
        return name in self._functions

    def declare(self, name: str, result: Type, parameters: Sequence[Type]) -> None:
        """Declare an outside function, once."""
        line = f"declare {result} @{name}({', '.join(map(str, parameters))})"
        known = self._declarations.setdefault(name, line)
        assert known == line, f"{name} is called with two signatures: {known} / {line}"

    def text(self) -> str:
        """The module as LLVM IR."""
        bodies = [function.text() for function in self._functions.values()]
        outside = [line for name, line in self._declarations.items() if not self.defines(name)]
        tail = "\n".join([*outside, self._attributes(), *self._metadata])
        head = [AS_WRITTEN] if self.as_written else []
        return "\n\n".join([*head, *self._globals.values(), *bodies, tail]) + "\n"

    def _attributes(self) -> str:
        isa = self.isa
        common = f'nounwind "prefer-vector-width"="{isa.vector_bits}" "tune-cpu"="{isa.tuning}"'
        return f"attributes #0 = {{ {common} }}\nattributes #1 = {{ alwaysinline {common} }}"


@dataclass
class Block:
    """A straight run of lines under a label; `ended` once it jumps or returns."""

    label: str
    phis: list[str] = field(default_factory=list[str])
    lines: list[str] = field(default_factory=list[str])
    ended: bool = False

    def text(self) -> str:
        """The label and its lines."""
        return "\n".join([f"{self.label}:", *(f"  {line}" for line in (*self.phis, *self.lines))])


@dataclass
class Loop:
    """A running loop: its index, the values it carries, and what they become.

    One that goes along `links` is also told, before these, where its index goes.
    """

    index: Value
    accs: tuple[Value, ...]
    links: bool
    following: tuple[Value, ...] | None = None

    def next(self, *values: Value) -> None:
        """Say what each carried value is in the next turn."""
        wanted = len(self.accs) + self.links
        assert len(values) == wanted, "next() takes one value for each of accs, and for links"
        self.following = values

    @property
    def results(self) -> tuple[Value, ...]:
        """The carried values after the loop."""
        return self.accs


class Function(Instructions):
    """A function being written; instructions go to the block at hand."""

    def __init__(
        self,
        module: Module,
        name: str,
        result: Type,
        parameters: Sequence[tuple[str, Type]],
        internal: bool,
        inline: bool,
    ) -> None:
        self.module = module
        self.isa = module.isa
        self.name = name
        self.result = result
        self._names: dict[str, int] = {}
        self.parameters = tuple(Value(type, self.fresh(hint)) for hint, type in parameters)
        linkage = "internal " if internal else ""
        arguments = ", ".join(map(str, self.parameters))
        group = 1 if inline else 0
        self._head = f"define {linkage}{result} @{name}({arguments}) #{group} {{"
        self._entry: list[str] = []
        self._blocks: list[Block] = []
        self.start(self.block("entry"))

    # Blocks.

    def block(self, label: str) -> Block:
        """A new block, not yet placed; its label is made fresh."""
        return Block(self.fresh(label)[1:])

    def start(self, block: Block) -> None:
        """Place `block` next and write into it."""
        self._blocks.append(block)
        self.current = block

    def jump(self, target: Block, note: str = "") -> None:
        """End the block at hand by going to `target`."""
        self.emit(f"br label %{target.label}{note}")
        self.current.ended = True

    def jump_if(self, condition: Value, then: Block, otherwise: Block) -> None:
        """End the block at hand by going to one of two."""
        self.emit(f"br {condition}, label %{then.label}, label %{otherwise.label}")
        self.current.ended = True

    def phi(self, type: Type, sources: Sequence[tuple[Operand, Block]], hint: str) -> Value:
        """A value that depends on the block control came from; goes to the head of this block."""
        name = self.fresh(hint)
        self.current.phis.append(_phi(name, type, sources))
        return Value(type, name)

    def ret(self, value: Operand | None = None) -> None:
        """Return from the function."""
        if value is None:
            self.emit("ret void")
        else:
            self.emit(f"ret {value if isinstance(value, Value) else constant(self.result, value)}")
        self.current.ended = True

    def unreachable(self) -> None:
        """Promise that control never comes here, as after a loop that is only left by returning."""
        self.emit("unreachable")
        self.current.ended = True

    # Structure.

    @contextmanager
    def loop(
        self,
        lo: Operand,
        hi: Operand,
        step: Operand = 1,
        accs: Sequence[Value] = (),
        name: str = "i",
        unroll: int | None = None,
    ) -> Generator[Loop]:
        """Count from `lo` while below `hi`; `accs` are carried from turn to turn.

        The body calls `loop.next(...)` if there are accs; after it, `loop.results` are theirs.
        `unroll`: None leaves it to LLVM, 1 forbids it, more asks for so many copies.
        """
        first, last = self._bounds(lo, hi)

        def more(index: Value) -> Value:
            return self.icmp("slt", index, last)

        def after(loop: Loop) -> tuple[Value, ...]:
            assert loop.following is not None or not accs, f"loop {name} never called next()"
            return (self.add(loop.index, step, nsw=True), *(loop.following or ()))

        with self._turns(Loop(first, tuple(accs), False), name, unroll, more, after) as loop:
            yield loop

    @contextmanager
    def links(self, first: Value, accs: Sequence[Value], name: str) -> Generator[Loop]:
        """Go from `first` on to where each turn leads, until that is negative.

        The body calls `loop.next(where, ...)` with the values of accs behind it.
        """

        def more(index: Value) -> Value:
            return self.icmp("sge", index, 0)

        def after(loop: Loop) -> tuple[Value, ...]:
            assert loop.following is not None, f"loop {name} never called next()"
            return loop.following

        with self._turns(Loop(first, tuple(accs), True), name, 1, more, after) as loop:
            yield loop

    @contextmanager
    def _turns(
        self,
        begun: Loop,
        name: str,
        unroll: int | None,
        more: Callable[[Value], Value],
        after: Callable[[Loop], tuple[Value, ...]],
    ) -> Generator[Loop]:
        """A loop from what it has `begun` with while there is `more`, then `after` each turn."""
        first, accs = begun.index, begun.accs
        entry, head = self.current, self.block(f"{name}.head")
        body, leave = self.block(f"{name}.body"), self.block(f"{name}.exit")
        self.jump(head)
        self.start(head)
        index = Value(first.type, self.fresh(name))
        carried = tuple(Value(acc.type, self.fresh(f"{name}.acc")) for acc in accs)
        self.jump_if(more(index), body, leave)
        self.start(body)
        loop = Loop(index, carried, begun.links)
        yield loop
        following = after(loop)
        latch = self.current
        self.jump(head, "" if unroll is None else self.module.unrolling(unroll))
        for phi, before, then in zip((index, *carried), (first, *accs), following, strict=True):
            head.phis.append(_phi(phi.text, phi.type, ((before, entry), (then, latch))))
        self.start(leave)

    @contextmanager
    def when(self, condition: Value, name: str = "then") -> Generator[None]:
        """Run the body only if `condition` (a scalar) holds."""
        body, after = self.block(name), self.block(f"{name}.after")
        self.jump_if(condition, body, after)
        self.start(body)
        yield
        if not self.current.ended:
            self.jump(after)
        self.start(after)

    def if_else(
        self,
        condition: Value,
        then: Callable[[], Sequence[Value]],
        otherwise: Callable[[], Sequence[Value]],
        name: str = "if",
    ) -> tuple[Value, ...]:
        """Run one of two bodies by a scalar condition; what they return is merged pair by pair."""
        yes, no = self.block(f"{name}.then"), self.block(f"{name}.else")
        after = self.block(f"{name}.after")
        self.jump_if(condition, yes, no)
        ends: list[tuple[Sequence[Value], Block]] = []
        for block, body in ((yes, then), (no, otherwise)):
            self.start(block)
            values = body()
            ends.append((values, self.current))
            self.jump(after)
        self.start(after)
        (lhs, lhs_end), (rhs, rhs_end) = ends
        return tuple(
            self.phi(a.type, ((a, lhs_end), (b, rhs_end)), name)
            for a, b in zip(lhs, rhs, strict=True)
        )

    @contextmanager
    def forever(self, name: str = "again") -> Generator[Block]:
        """Repeat the body until it jumps to the yielded block, which comes after."""
        body, after = self.block(name), self.block(f"{name}.after")
        self.jump(body)
        self.start(body)
        yield after
        if not self.current.ended:
            self.jump(body)
        self.start(after)

    def alloca(self, type: Type, count: int = 1, align: int = 64, name: str = "stack") -> Value:
        """Stack memory for `count` of `type`, taken once at the function's entry."""
        slot = self.fresh(name)
        self._entry.append(f"{slot} = alloca [{count} x {type}], align {align}")
        return Value(PTR, slot)

    # What Instructions asks for.

    def emit(self, text: str) -> None:
        """Append a line to the block at hand."""
        assert not self.current.ended, f"{self.name}: {text!r} comes after the end of its block"
        self.current.lines.append(text)

    def fresh(self, hint: str) -> str:
        """%hint the first time, then %hint1, %hint2, ..."""
        count = self._names.get(hint, 0)
        self._names[hint] = count + 1
        if not count:
            return f"%{hint}"
        name = f"{hint}{count}"
        return self.fresh(hint) if name in self._names else self._taken(name)

    def declare(self, name: str, result: Type, parameters: Sequence[Type]) -> None:
        """Note the signature `name` is called with; the module declares it if it is outside."""
        self.module.declare(name, result, parameters)

    def comment(self, text: str) -> None:
        """A remark for the reader of the text."""
        self.current.lines.extend(f"; {line}" for line in text.splitlines())

    def text(self) -> str:
        """The function as LLVM IR."""
        assert self.current.ended, f"{self.name} does not return"
        entry = self._blocks[0]
        first = Block(entry.label, [], [*self._entry, *entry.lines])
        blocks = (first, *self._blocks[1:])
        return "\n".join([self._head, *(block.text() for block in blocks), "}"])

    def _taken(self, name: str) -> str:
        self._names[name] = 1
        return f"%{name}"

    def _bounds(self, lo: Operand, hi: Operand) -> tuple[Value, Value]:
        if isinstance(lo, Value) or isinstance(hi, Value):
            return self.pair(lo, hi)
        return constant(I64, lo), constant(I64, hi)


def _phi(name: str, type: Type, sources: Sequence[tuple[Operand, Block]]) -> str:
    arms = (
        f"[ {(value if isinstance(value, Value) else constant(type, value)).text}, %{block.label} ]"
        for value, block in sources
    )
    return f"{name} = phi {type} {', '.join(arms)}"
