"""How does a kernel of kernels become LLVM IR? One function a kernel, and one that calls them.

Each inner kernel has the signature of every kernel. It is called with a table of addresses and one
of sizes on the stack, and with a context of its own, whose scratch memory lies behind that of the
blocks.
"""

from __future__ import annotations

from pellucid.engines.llvm.contract import define_contraction
from pellucid.engines.llvm.elementwise import register_type
from pellucid.engines.llvm.loop import PARAMETERS, define_loops
from pellucid.engines.llvm.scratch import take_scratch
from pellucid.engines.llvm.sizes import Number, add, greatest, least, mul, remainder, value
from pellucid.engines.llvm.tables import unravelled
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.types import I8, I64, PTR, VOID, Value
from pellucid.engines.loops.blocks import ONE, Blocked, Least, Once, Read, Repeat, Run, Step
from pellucid.engines.loops.ir import Affine, Size
from pellucid.engines.loops.roles import has_contraction


def define_blocked(module: Module, blocked: Blocked) -> None:
    """Add the functions of a kernel of kernels to a module."""
    for kernel in blocked.kernels:
        if has_contraction(kernel):
            define_contraction(module, kernel)
        else:
            define_loops(module, kernel)
    memory = _define_memory(module, blocked)
    f = module.function(blocked.name, VOID, PARAMETERS)
    _Emitter(f, blocked, memory).emit()
    f.ret()


def _define_memory(module: Module, blocked: Blocked) -> str:
    """The function that inner kernels ask for scratch memory: it lies at the context's second word.

    The context of a kernel begins with the address of such a function.
    """
    name = f"{blocked.name}_memory"
    f = module.function(name, PTR, (("context", PTR), ("bytes", I64)), internal=True)
    f.ret(f.load(PTR, f.gep(f.parameters[0], 1, PTR)))
    return name


class _Emitter:
    """Emits the steps of each block; `names` are the numbers known at the place at hand."""

    def __init__(self, f: Function, blocked: Blocked, memory: str) -> None:
        self.f, self.blocked = f, blocked
        table = f.parameters[0]
        self.pointers = {
            buffer.name: f.load(PTR, f.gep(table, number, PTR), invariant=True)
            for number, buffer in enumerate(blocked.buffers)
        }
        self.given: dict[str, Number] = {ONE: 1}
        for number, name in enumerate(blocked.parameters):
            self.given[name] = f.load(I64, f.gep(f.parameters[1], number, I64), invariant=True)
        inner = self._take_scratch()
        self.context = f.alloca(PTR, 2, name="inner")
        f.store(Value(PTR, f"@{memory}"), self.context)
        f.store(inner, f.gep(self.context, 1, PTR))
        self.places = f.alloca(PTR, max(len(k.buffers) for k in blocked.kernels), name="places")
        self.sizes = f.alloca(
            I64, max(1, *(len(k.parameters) for k in blocked.kernels)), name="sizes"
        )

    def _take_scratch(self) -> Value:
        """Scratch memory for the blocks, and behind it for inner kernels: where that begins."""
        f, at = self.f, list[Number]([0])
        for one in self.blocked.scratch:
            at.append(add(f, at[-1], self._size(one.bytes, self.given)))
        total = add(f, at[-1], self._size(self.blocked.inner_bytes, self.given))
        base = take_scratch(f, f.parameters[4], value(total))
        for one, start in zip(self.blocked.scratch, at, strict=False):
            self.pointers[one.name] = f.gep(base, start, I8)
        return f.gep(base, at[-1], I8)

    def emit(self) -> None:
        """The loop over the blocks lo to hi."""
        f = self.f
        _, _, lo, hi, _ = f.parameters
        extents = [self._size(axis.extent, self.given) for axis in self.blocked.grid]
        with f.loop(lo, hi, name="block", unroll=1) as block:
            self.index = block.index
            found = unravelled(f, block.index, extents)
            pairs = zip(self.blocked.grid, found, strict=True)
            names = {axis.name: number for axis, number in pairs}
            self._steps(self.blocked.body, {**self.given, **names})

    def _steps(self, steps: tuple[Step, ...], names: dict[str, Number]) -> None:
        f = self.f
        for step in steps:
            match step:
                case Least(name, values, floor):
                    names[name] = self._least(values, floor, names)
                case Read(name, buffer, index):
                    type = register_type(self.blocked.dtype_of(buffer))
                    found = f.load(type, self._at(buffer, index, names))
                    names[name] = found if type == I64 else f.cast("sext", found, I64)
                case Repeat(name, stop, by, body):
                    end = value(self._size(stop, names))
                    with f.loop(0, end, by, name=name, unroll=1) as turn:
                        self._steps(body, {**names, name: turn.index})
                case Once(axes, body):
                    with f.when(self._begins(axes, names), name="once"):
                        self._steps(body, {**names})
                case Run():
                    self._run(step, names)

    def _begins(self, axes: int, names: dict[str, Number]) -> Value:
        """Whether the block is a turn's first one, or the first of this call."""
        f = self.f
        inner: Number = 1
        for axis in self.blocked.grid[axes:]:
            inner = mul(f, inner, self._size(axis.extent, names))
        first = f.icmp("eq", self.index, f.parameters[2])
        return f.or_(first, f.icmp("eq", value(remainder(f, self.index, inner)), 0))

    def _run(self, run: Run, names: dict[str, Number]) -> None:
        f = self.f
        for number, (buffer, index) in enumerate(run.places):
            f.store(self._at(buffer, index, names), f.gep(self.places, number, PTR))
        for number, size in enumerate(run.sizes):
            f.store(value(self._size(size, names)), f.gep(self.sizes, number, I64))
        arguments = (self.places, self.sizes, value(0), value(run.tasks), self.context)
        f.call(run.kernel, VOID, arguments)

    def _least(
        self, values: tuple[Affine, ...], floor: int | None, names: dict[str, Number]
    ) -> Number:
        first, *others = (self._number(one, names) for one in values)
        for other in others:
            first = least(self.f, first, other)
        return first if floor is None else greatest(self.f, first, floor)

    def _at(self, buffer: str, index: Affine, names: dict[str, Number]) -> Value:
        bytes = self.blocked.dtype_of(buffer).bytes
        offset = mul(self.f, self._number(index, names), bytes)
        return self.f.gep(self.pointers[buffer], offset, I8)

    def _number(self, index: Affine, names: dict[str, Number]) -> Number:
        total: Number = 0
        for name, factor in index.terms:
            total = add(self.f, total, mul(self.f, names[name], self._size(factor, names)))
        return add(self.f, total, index.offset)

    def _size(self, size: Size, names: dict[str, Number]) -> Number:
        return size if isinstance(size, int) else names[size]
