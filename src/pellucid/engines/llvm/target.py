"""Which instruction set is compiled for, and the LLVM target machine that has exactly it.

An `Isa` is one of a few named sets, so that kernels, bits and cache entries fall in a few classes
and not one per processor model. The host's feature list is cut down to it; LLVM's name for the
host's processor is often wrong and never asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pellucid.core.config import setting
from pellucid.core.error import ConfigError, DeviceError
from pellucid.core.machine import may_use_tiles
from pellucid.engines.llvm.library import llvm


@dataclass(frozen=True)
class Isa:
    """A named instruction set: what may be emitted, and which bits come out.

    `bit_class`: a multiply-add of contractions and elementary functions rounds once ("fma") or
    twice ("sse2"). Contractions of bfloat16 are a class apart where the set `pairs_bfloat16`.
    `tuning` is the processor family whose costs LLVM's scheduler assumes; it never changes bits.
    """

    name: str
    bit_class: Literal["fma", "sse2"]
    vector_bits: int
    registers: int
    features: str
    tuning: str

    @property
    def fused(self) -> bool:
        """Whether multiply-add rounds once."""
        return self.bit_class == "fma"

    @property
    def sums_bytes(self) -> bool:
        """Whether four products of bytes are summed by an instruction (VNNI)."""
        return "+avx512vnni" in self.features

    @property
    def pairs_bfloat16(self) -> bool:
        """Whether two products of bfloat16 are summed by an instruction (AVX512-BF16)."""
        return "+avx512bf16" in self.features

    @property
    def has_tiles(self) -> bool:
        """Whether products of bytes are summed in tiles (AMX)."""
        return "+amx-int8" in self.features

    @property
    def converts_half(self) -> bool:
        """Whether float16 <-> float32 is an instruction (F16C)."""
        return "+f16c" in self.features

    def lanes(self, bits: int) -> int:
        """How many elements of `bits` bits fill a vector register.

        >>> AVX2.lanes(32), AVX512.lanes(64)
        (8, 8)
        """
        return self.vector_bits // bits


_SSE2 = "+sse,+sse2,+cx8,+cmov,+fxsr"
_AVX2 = f"{_SSE2},+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt"
_AVX512 = f"{_AVX2},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"

SSE2 = Isa("sse2", "sse2", 128, 16, _SSE2, "x86-64")
AVX2 = Isa("avx2", "fma", 256, 16, _AVX2, "x86-64-v3")
AVX512 = Isa("avx512", "fma", 512, 32, _AVX512, "x86-64-v4")
AVX512_VNNI = Isa("avx512vnni", "fma", 512, 32, f"{_AVX512},+avx512vnni", "x86-64-v4")
AVX512_BF16 = Isa("avx512bf16", "fma", 512, 32, f"{AVX512_VNNI.features},+avx512bf16", "x86-64-v4")
AMX = Isa("amx", "fma", 512, 32, f"{AVX512_BF16.features},+amx-tile,+amx-int8", "x86-64-v4")
ISAS = (AVX512_BF16, AVX512_VNNI, AVX512, AVX2, SSE2)
"""Those that are chosen by themselves, the widest first."""

NAMED = (AMX, *ISAS)
"""Those that can be asked for: AMX too, which no machine has been at hand to try on."""


def isa_named(name: str) -> Isa:
    """The Isa of this name; raises ConfigError naming those there are."""
    for isa in NAMED:
        if isa.name == name:
            return isa
    raise ConfigError(f"instruction set: expected one of {_names()}, got {name!r}")


def host_isa() -> Isa:
    """The widest Isa this machine has, or the one PELLUCID_ISA asks for if the machine has it.

    Raises ConfigError for an unknown name and DeviceError for one beyond the machine.
    """
    asked = setting("ISA")
    isa = isa_named(asked) if asked else _widest()
    if not _runs(isa):
        raise DeviceError(
            f"PELLUCID_ISA={asked}: this machine has no {asked} (missing: {_missing(isa)}); "
            f"unset it, or name at most {_widest().name}"
        )
    return isa


def target_machine(isa: Isa) -> Any:
    """A code generator for `isa`, with its features and no others; also for a foreign machine."""
    triple = _host_triple() if _is_x86_64() else "x86_64-unknown-linux-gnu"
    target = llvm().Target.from_triple(triple)
    return target.create_target_machine(
        cpu="x86-64", features=isa.features, opt=2, reloc="pic", codemodel="small"
    )


@cache
def host_features() -> frozenset[str]:
    """What LLVM finds on this processor and under this system, by its feature names."""
    if not _is_x86_64():
        return frozenset()
    return frozenset(name for name, has in llvm().get_host_cpu_features().items() if has)


def _host_triple() -> str:
    return llvm().get_process_triple()


def _is_x86_64() -> bool:
    return _host_triple().startswith("x86_64")


def _widest() -> Isa:
    for isa in ISAS:
        if _runs(isa):
            return isa
    raise DeviceError("cpu: this engine generates code for x86-64, which this machine is not")


def _runs(isa: Isa) -> bool:
    return not _missing(isa)


def _missing(isa: Isa) -> str:
    needed = (feature.lstrip("+") for feature in isa.features.split(","))
    missing = [name for name in needed if name not in host_features()]
    if isa.has_tiles and not missing and not may_use_tiles():
        missing = ["the system's leave to use tiles"]
    return ", ".join(missing)


def _names() -> str:
    return ", ".join(isa.name for isa in NAMED)
