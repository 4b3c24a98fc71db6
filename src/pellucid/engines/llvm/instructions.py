"""The instructions a kernel is made of, each a method that appends one line and names its result.

Operands carry their types, so `f.fadd(a, b)` needs none; a bare Python number takes the type of the
operand beside it. Nothing here carries a fast-math flag, so LLVM may neither re-associate nor
contract: what is written is what is computed.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.types import (
    I1,
    I32,
    I64,
    PTR,
    VOID,
    Operand,
    Type,
    Value,
    constant,
    constants,
    undefined,
)


class Instructions(ABC):
    """Straight-line code: arithmetic, casts, vectors, memory, atomics, calls."""

    isa: Isa

    @abstractmethod
    def emit(self, text: str) -> None:
        """Append one line that has no result."""

    @abstractmethod
    def fresh(self, hint: str) -> str:
        """A name nobody has in this function: %hint, %hint1, ..."""

    @abstractmethod
    def declare(self, name: str, result: Type, parameters: Sequence[Type]) -> None:
        """Have the module declare an outside function once."""

    def define(self, type: Type, text: str, hint: str) -> Value:
        """Append `%hint = text` and return its value."""
        name = self.fresh(hint)
        self.emit(f"{name} = {text}")
        return Value(type, name)

    # Floats: each rounds once, to nearest even.

    def fadd(self, lhs: Operand, rhs: Operand) -> Value:
        """The sum lhs + rhs."""
        return self.binary("fadd", lhs, rhs)

    def fsub(self, lhs: Operand, rhs: Operand) -> Value:
        """The difference lhs - rhs."""
        return self.binary("fsub", lhs, rhs)

    def fmul(self, lhs: Operand, rhs: Operand) -> Value:
        """The product lhs * rhs."""
        return self.binary("fmul", lhs, rhs)

    def fdiv(self, lhs: Operand, rhs: Operand) -> Value:
        """The quotient lhs / rhs."""
        return self.binary("fdiv", lhs, rhs)

    def fneg(self, operand: Value) -> Value:
        """-operand: the sign bit flips, also of NaN and zero."""
        return self.define(operand.type, f"fneg {operand}", "neg")

    def fabs(self, operand: Value) -> Value:
        """|operand|: the sign bit goes."""
        return self.intrinsic("llvm.fabs", operand)

    def copysign(self, magnitude: Value, sign: Operand) -> Value:
        """`magnitude` with the sign bit of `sign`."""
        return self.intrinsic("llvm.copysign", magnitude, sign)

    def sqrt(self, operand: Value) -> Value:
        """The correctly rounded square root (an instruction on every target)."""
        return self.intrinsic("llvm.sqrt", operand)

    def multiply_add(self, lhs: Operand, rhs: Operand, addend: Operand) -> Value:
        """The ISA's lhs * rhs + addend: rounded once ("fma" bit class) or twice ("sse2").

        Only contractions and elementary functions may use it (the bit contract).
        """
        lhs, rhs = self.pair(lhs, rhs)
        if self.isa.fused:
            return self.intrinsic("llvm.fma", lhs, rhs, addend)
        return self.fadd(self.fmul(lhs, rhs), addend)

    def scales(self, type: Type) -> bool:
        """Whether the ISA has `scale` for values of this type."""
        bits = type.bits * type.lanes
        return self.isa.vector_bits == 512 and type.lanes > 1 and bits in (128, 256, 512)

    def scale(self, lhs: Value, power: Value) -> Value:
        """lhs 2**power, rounded once, for whole numbers `power`; NaN where either is."""
        type = lhs.type
        wide = type.bits * type.lanes
        name = f"llvm.x86.avx512.mask.scalef.{'ps' if type.bits == 32 else 'pd'}.{wide}"
        every = constant(Type(f"i{max(type.lanes, 8)}"), -1)
        rounding = (constant(I32, 4),) if wide == 512 else ()
        return self.call(name, type, (lhs, power, lhs, every, *rounding), hint="scale")

    # Integers: wrapping, but where `nsw` promises that no address computation overflows.

    def add(self, lhs: Operand, rhs: Operand, nsw: bool = False) -> Value:
        """The sum lhs + rhs."""
        return self.binary("add nsw" if nsw else "add", lhs, rhs)

    def sub(self, lhs: Operand, rhs: Operand, nsw: bool = False) -> Value:
        """The difference lhs - rhs."""
        return self.binary("sub nsw" if nsw else "sub", lhs, rhs)

    def mul(self, lhs: Operand, rhs: Operand, nsw: bool = False) -> Value:
        """The product lhs * rhs."""
        return self.binary("mul nsw" if nsw else "mul", lhs, rhs)

    def sdiv(self, lhs: Operand, rhs: Operand) -> Value:
        """Signed quotient towards zero; undefined for rhs = 0 and for the lowest int over -1."""
        return self.binary("sdiv", lhs, rhs)

    def srem(self, lhs: Operand, rhs: Operand) -> Value:
        """Signed remainder, with the sign of lhs; undefined where `sdiv` is."""
        return self.binary("srem", lhs, rhs)

    def udiv(self, lhs: Operand, rhs: Operand) -> Value:
        """Unsigned quotient; undefined for rhs = 0."""
        return self.binary("udiv", lhs, rhs)

    def urem(self, lhs: Operand, rhs: Operand) -> Value:
        """Unsigned remainder; undefined for rhs = 0."""
        return self.binary("urem", lhs, rhs)

    def shl(self, lhs: Operand, rhs: Operand) -> Value:
        """Shift left, lhs << rhs; undefined from the bit width on."""
        return self.binary("shl", lhs, rhs)

    def lshr(self, lhs: Operand, rhs: Operand) -> Value:
        """Shift right, lhs >> rhs, filling with zeros."""
        return self.binary("lshr", lhs, rhs)

    def ashr(self, lhs: Operand, rhs: Operand) -> Value:
        """Shift right, lhs >> rhs, filling with the sign."""
        return self.binary("ashr", lhs, rhs)

    def and_(self, lhs: Operand, rhs: Operand) -> Value:
        """Bitwise and."""
        return self.binary("and", lhs, rhs)

    def or_(self, lhs: Operand, rhs: Operand) -> Value:
        """Bitwise or."""
        return self.binary("or", lhs, rhs)

    def xor(self, lhs: Operand, rhs: Operand) -> Value:
        """Bitwise exclusive or."""
        return self.binary("xor", lhs, rhs)

    def not_(self, operand: Value) -> Value:
        """Every bit flipped; on i1, logical not."""
        return self.xor(operand, 1 if operand.type.scalar == "i1" else -1)

    def min_max(self, which: str, lhs: Operand, rhs: Operand) -> Value:
        """Integer `smin`, `smax`, `umin` or `umax`."""
        lhs, rhs = self.pair(lhs, rhs)
        return self.intrinsic(f"llvm.{which}", lhs, rhs)

    # Choosing.

    def icmp(self, how: str, lhs: Operand, rhs: Operand) -> Value:
        """Compare ints or pointers: eq ne slt sle sgt sge ult ule ugt uge; a truth per lane."""
        return self._compare(f"icmp {how}", lhs, rhs)

    def fcmp(self, how: str, lhs: Operand, rhs: Operand) -> Value:
        """Compare floats: oeq olt ... (false on NaN), ueq ult ... une (true on NaN), ord, uno."""
        return self._compare(f"fcmp {how}", lhs, rhs)

    def select(self, condition: Value, then: Operand, otherwise: Operand) -> Value:
        """`then` where `condition` holds, else `otherwise`, lane by lane."""
        then, otherwise = self.pair(then, otherwise)
        return self.define(then.type, f"select {condition}, {then}, {otherwise}", "select")

    # Casts: `to` gives the scalar; the lanes stay.

    def cast(self, how: str, operand: Value, to: Type) -> Value:
        """LLVM's cast `how`: trunc zext sext fptrunc fpext sitofp uitofp fptosi fptoui ..."""
        result = operand.type.with_scalar(to)
        if result == operand.type:
            return operand
        return self.define(result, f"{how} {operand} to {result}", how)

    def bitcast(self, operand: Value, to: Type) -> Value:
        """The same bits read as `to` (here with its lanes given in full)."""
        if to == operand.type:
            return operand
        return self.define(to, f"bitcast {operand} to {to}", "bits")

    # Vectors.

    def splat(self, operand: Operand, type: Type) -> Value:
        """`operand` in each lane of `type`; a literal stays one."""
        if not isinstance(operand, Value):
            return constant(type, operand)
        if type.lanes == 1:
            return operand
        first = self.insert(undefined(type), operand, 0)
        return self.shuffle(first, first, (0,) * type.lanes)

    def insert(self, vector: Value, scalar: Value, lane: Operand) -> Value:
        """`vector` with `scalar` in one lane."""
        at = self._operand(lane, I32)
        return self.define(vector.type, f"insertelement {vector}, {scalar}, {at}", "insert")

    def extract(self, vector: Value, lane: Operand) -> Value:
        """The scalar in one lane (of a scalar: itself)."""
        if vector.type.lanes == 1:
            return vector
        at = self._operand(lane, I32)
        return self.define(vector.type.with_lanes(1), f"extractelement {vector}, {at}", "lane")

    def shuffle(self, lhs: Value, rhs: Value, lanes: Sequence[int]) -> Value:
        """Lanes picked from lhs (0..n-1) and rhs (n..2n-1), in the order given; -1: any bits."""
        picks = ", ".join("i32 poison" if lane < 0 else f"i32 {lane}" for lane in lanes)
        order = f"<{len(lanes)} x i32> <{picks}>"
        if len(set(lanes)) == 1 and lanes[0] == 0:
            order = f"<{len(lanes)} x i32> zeroinitializer"
        result = lhs.type.with_lanes(len(lanes))
        if len(lanes) == 1:
            return self.extract(lhs, lanes[0])
        return self.define(result, f"shufflevector {lhs}, {rhs}, {order}", "shuffle")

    def iota(self, scalar: Type, lanes: int) -> Value:
        """The lane numbers 0, 1, 2, ... as a literal."""
        return constants(scalar, tuple(range(lanes)))

    def mask(self, count: Value, lanes: int) -> Value:
        """The first `count` lanes (an int scalar; none if count <= 0): truths for masked access."""
        numbers = self.iota(count.type, lanes)
        return self.icmp("slt", numbers, self.splat(count, count.type.with_lanes(lanes)))

    # Memory: `align` in bytes, the scalar's own unless more is known.

    def load(
        self, type: Type, pointer: Value, align: int | None = None, invariant: bool = False
    ) -> Value:
        """Read a value; `invariant` promises that nobody writes there while the function runs."""
        never_written = ", !invariant.load !{}" if invariant else ""
        text = f"load {type}, {pointer}, align {align or type.bytes}{never_written}"
        return self.define(type, text, "load")

    def store(self, value: Value, pointer: Value, align: int | None = None) -> None:
        """Write a value."""
        self.emit(f"store {value}, {pointer}, align {align or value.type.bytes}")

    def stream(self, value: Value, pointer: Value) -> None:
        """Write a value past the caches; the pointer is a multiple of its bytes."""
        self.emit(
            f"store {value}, {pointer}, align {value.type.bytes * value.type.lanes}, "
            "!nontemporal !{i32 1}"
        )

    def finish_streams(self) -> None:
        """Let what was streamed be seen before what is written from now on."""
        self.declare("llvm.x86.sse.sfence", VOID, ())
        self.emit("call void @llvm.x86.sse.sfence()")

    def masked_load(
        self, type: Type, pointer: Value, mask: Value, idle: Operand | None = None
    ) -> Value:
        """Read the lanes `mask` allows; the others hold `idle` (0), their memory is not touched."""
        rest = self._operand(0 if idle is None else idle, type)
        name = f"llvm.masked.load.{type.mangled}.p0"
        self.declare(name, type, (PTR, mask.type, type))
        text = f"call {type} @{name}(ptr align {type.bytes} {pointer.text}, {mask}, {rest})"
        return self.define(type, text, "load")

    def masked_store(self, value: Value, pointer: Value, mask: Value) -> None:
        """Write the lanes `mask` allows."""
        type = value.type
        if mask.text == _first_alone(type.lanes):
            # LLVM makes a store of a truncated vector's first lane as wide as what was truncated.
            self.store(self.extract(value, 0), pointer)
            return
        name = f"llvm.masked.store.{type.mangled}.p0"
        self.declare(name, VOID, (type, PTR, mask.type))
        target = f"ptr align {type.bytes} {pointer.text}"
        self.emit(f"call void @{name}({value}, {target}, {mask})")

    def gep(self, pointer: Value, index: Operand, scalar: Type) -> Value:
        """The address of element `index` of `scalar`s at `pointer`."""
        at = self._operand(index, I64)
        return self.define(PTR, f"getelementptr inbounds {scalar}, {pointer}, {at}", "at")

    def prefetch(self, pointer: Value, write: bool = False, locality: int = 3) -> None:
        """A hint that `pointer`'s line is soon used; locality 3 keeps it near, 0 passes it by."""
        self.declare("llvm.prefetch.p0", VOID, (PTR, I32, I32, I32))
        self.emit(
            f"call void @llvm.prefetch.p0({pointer}, i32 {int(write)}, i32 {locality}, i32 1)"
        )

    # Atomics: sequentially consistent unless an order is named.

    def atomic_load(self, type: Type, pointer: Value, order: str = "seq_cst") -> Value:
        """Read at once."""
        return self.define(
            type, f"load atomic {type}, {pointer} {order}, align {type.bytes}", "load"
        )

    def atomic_store(self, value: Value, pointer: Value, order: str = "seq_cst") -> None:
        """Write at once."""
        self.emit(f"store atomic {value}, {pointer} {order}, align {value.type.bytes}")

    def atomic_add(self, pointer: Value, value: Value, order: str = "seq_cst") -> Value:
        """Add to memory; the value before."""
        return self.define(value.type, f"atomicrmw add {pointer}, {value} {order}", "before")

    def compare_exchange(
        self, pointer: Value, expected: Value, replacement: Value
    ) -> tuple[Value, Value]:
        """Replace what is at `pointer` if it equals `expected`: (what was there, whether so)."""
        pair = f"{{ {expected.type}, i1 }}"
        text = f"cmpxchg {pointer}, {expected}, {replacement} seq_cst seq_cst"
        both = self.define(VOID, text, "swap").text
        was = self.define(expected.type, f"extractvalue {pair} {both}, 0", "was")
        return was, self.define(I1, f"extractvalue {pair} {both}, 1", "won")

    # Calls.

    def intrinsic(self, name: str, first: Value, *others: Operand) -> Value:
        """An LLVM intrinsic overloaded on its one type, which all operands and the result share."""
        type = first.type
        operands = (first, *(self._operand(other, type) for other in others))
        return self.call(f"{name}.{type.mangled}", type, operands, hint=name.split(".")[1])

    def call(
        self, name: str, result: Type, operands: Sequence[Value], hint: str | None = None
    ) -> Value:
        """Call an outside function or intrinsic (declared automatically); VOID gives no value."""
        self.declare(name, result, tuple(operand.type for operand in operands))
        return self._call(f"@{name}", result, operands, hint or "call")

    def call_pointer(self, function: Value, result: Type, operands: Sequence[Value]) -> Value:
        """Call through a pointer."""
        return self._call(function.text, result, operands, "call")

    def _call(self, callee: str, result: Type, operands: Sequence[Value], hint: str) -> Value:
        text = f"call {result} {callee}({', '.join(map(str, operands))})"
        if result == VOID:
            self.emit(text)
            return undefined(VOID)
        return self.define(result, text, hint)

    # How operands are read.

    def binary(self, how: str, lhs: Operand, rhs: Operand) -> Value:
        """Any two-operand instruction whose result has the operands' type."""
        lhs, rhs = self.pair(lhs, rhs)
        return self.define(lhs.type, f"{how} {lhs}, {rhs.text}", how.split()[0])

    def pair(self, lhs: Operand, rhs: Operand) -> tuple[Value, Value]:
        """Both as values of one type: a bare number takes the type of the other."""
        if isinstance(lhs, Value):
            rhs = self._operand(rhs, lhs.type)
            assert lhs.type == rhs.type, f"operands of two types: {lhs} and {rhs}"
            return lhs, rhs
        assert isinstance(rhs, Value), "one operand must be a Value, to give the type"
        return constant(rhs.type, lhs), rhs

    def _operand(self, operand: Operand, type: Type) -> Value:
        return operand if isinstance(operand, Value) else constant(type, operand)

    def _compare(self, how: str, lhs: Operand, rhs: Operand) -> Value:
        lhs, rhs = self.pair(lhs, rhs)
        return self.define(I1.with_lanes(lhs.type.lanes), f"{how} {lhs}, {rhs.text}", "test")


def _first_alone(lanes: int) -> str:
    """The literal mask that allows the first lane and no other."""
    return constants(I1, tuple(int(lane == 0) for lane in range(lanes))).text
