"""Are products in the tiles of AMX those of the plain chain? Their text runs on emulated tiles.

Few machines have AMX. So the instructions in a kernel's text are replaced by calls of functions
that do what Intel's Software Developer's Manual (volume 2) says of them, and fail where an
instruction would. Where the machine has AMX, the text itself runs too.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.core import machine
from pellucid.core.dtype import DType, int8, named_dtype, uint8
from pellucid.core.error import DeviceError
from pellucid.engines.llvm import jit, target
from pellucid.engines.llvm.product import define_product
from pellucid.engines.llvm.target import AMX, ISAS, host_features, host_isa
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.tile_choice import choose_tiling
from pellucid.engines.llvm.tiling import (
    Param,
    ProductSpec,
    Strides,
    Tiling,
    cut,
    static_cut,
)
from tests.engines.llvm.test_product import HOST, call, laid_out, same, spec_of, whole_numbers

Array = NDArray[Any]

pytestmark = pytest.mark.skipif(
    HOST.vector_bits < 512, reason="what is around the tiles is made for AVX-512"
)


@dataclass
class Tiles:
    """The eight tiles of a thread, and what went wrong."""

    shapes: list[tuple[int, int]] | None = None
    rows: Array = field(default_factory=lambda: np.zeros((8, 16, 64), np.uint8))
    faults: list[str] = field(default_factory=list[str])
    done: dict[str, int] = field(default_factory=dict[str, int])

    def ldtilecfg(self, place: int) -> None:
        config = np.ctypeslib.as_array((ctypes.c_uint8 * 64).from_address(place))
        assert config[0] == 1, "palette 1"
        assert not config[1:16].any()
        widths, heights = config[16:32].view(np.uint16), config[48:56]
        assert not config[32:48].any()
        assert not config[56:].any()
        assert (widths <= 64).all()
        assert (heights <= 16).all()
        self.shapes = [(int(h), int(w)) for h, w in zip(heights, widths, strict=True)]
        self.rows[:] = 0

    def tilerelease(self) -> None:
        self.shapes = None

    def tilezero(self, tile: int) -> None:
        self.shape(tile)
        self.rows[tile] = 0

    def tileloadd64(self, tile: int, place: int, step: int) -> None:
        height, width = self.shape(tile)
        self.rows[tile] = 0
        for row in range(height):
            self.rows[tile, row, :width] = self.memory(place + row * step, width)

    def tilestored64(self, tile: int, place: int, step: int) -> None:
        height, width = self.shape(tile)
        for row in range(height):
            self.memory(place + row * step, width)[:] = self.rows[tile, row, :width]

    def tdpbssd(self, sums: int, lhs: int, rhs: int) -> None:
        self.multiply(sums, lhs, rhs, np.int8)

    def tdpbuud(self, sums: int, lhs: int, rhs: int) -> None:
        self.multiply(sums, lhs, rhs, np.uint8)

    def multiply(self, sums: int, lhs: int, rhs: int, kind: type[np.generic]) -> None:
        (m, n), (lhs_rows, k), (depth, width) = map(self.shape, (sums, lhs, rhs))
        assert len({sums, lhs, rhs}) == 3
        assert (lhs_rows, width, depth) == (m, n, k // 4)
        x = self.rows[lhs, :m, :k].view(kind).astype(np.int64)
        y = self.rows[rhs, :depth, :n].view(kind).reshape(depth, n // 4, 4).astype(np.int64)
        products = np.einsum("mkb,knb->mn", x.reshape(m, depth, 4), y)
        held = self.rows[sums, :m, :n].view(np.int32)
        held += products.astype(np.int32)

    def shape(self, tile: int) -> tuple[int, int]:
        assert self.shapes is not None, "tiles are used without a shape"
        return self.shapes[tile]

    @staticmethod
    def memory(place: int, size: int) -> Array:
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(place))


_PARAMETERS = {
    "ldtilecfg": (ctypes.c_void_p,),
    "tilerelease": (),
    "tilezero": (ctypes.c_uint8,),
    "tileloadd64": (ctypes.c_uint8, ctypes.c_void_p, ctypes.c_int64),
    "tilestored64": (ctypes.c_uint8, ctypes.c_void_p, ctypes.c_int64),
    "tdpbssd": (ctypes.c_uint8,) * 3,
    "tdpbuud": (ctypes.c_uint8,) * 3,
}
_TYPES = {ctypes.c_uint8: "i8", ctypes.c_void_p: "ptr", ctypes.c_int64: "i64"}


@dataclass
class Emulator:
    """Machine code of a text whose instructions on tiles are calls of Python."""

    tiles: Tiles = field(default_factory=Tiles)
    kept: list[Any] = field(default_factory=list[Any])

    def load(self, text: str) -> dict[str, int]:
        used = set(re.findall(r"^declare void @llvm\.x86\.(t\w+|ldtilecfg)\(", text, re.MULTILINE))
        assert used <= set(_PARAMETERS)
        text = re.sub(r"^declare void @llvm\.x86\.(t\w+|ldtilecfg)\(.*$", "", text, flags=re.M)
        for name in sorted(used):
            text = text.replace(f"@llvm.x86.{name}(", f"@emulated.{name}(")
            text += self.definition(name)
        return jit.load(jit.compile_text(text, HOST), ["product"])

    def definition(self, name: str) -> str:
        kinds = _PARAMETERS[name]
        function = ctypes.CFUNCTYPE(None, *kinds)(self.guarded(name))
        self.kept.append(function)
        place = ctypes.cast(function, ctypes.c_void_p).value
        arguments = ", ".join(f"{_TYPES[kind]} %a{at}" for at, kind in enumerate(kinds))
        return (
            f"\ndefine internal void @emulated.{name}({arguments}) noinline {{\n"
            f"  call void inttoptr (i64 {place} to ptr)({arguments})\n  ret void\n}}\n"
        )

    def guarded(self, name: str) -> Callable[..., None]:
        """The instruction; what it raises is kept, for it would be lost in the machine code."""
        tiles = self.tiles

        def instruction(*operands: int) -> None:
            tiles.done[name] = tiles.done.get(name, 0) + 1
            try:
                getattr(tiles, name)(*operands)
            except Exception as error:  # noqa: BLE001 (told by the test)
                tiles.faults.append(f"{name}{operands}: {error!r}")

        return instruction


def code_of(spec: ProductSpec, tiling: Tiling) -> tuple[dict[str, int], Tiles]:
    module = Module(AMX)
    define_product(module, "product", spec, tiling)
    emulator = Emulator()
    code = emulator.load(module.text())
    _KEPT.append(emulator)
    return code, emulator.tiles


_KEPT: list[Emulator] = []


@pytest.fixture(autouse=True)
def emulators() -> Iterator[None]:
    yield
    _KEPT.clear()


def multiplied(lhs: Array, rhs: Array, packed: bool | None = None) -> tuple[Array, Tiles]:
    """lhs @ rhs, wrapped to the operands' dtype, by a kernel of known sizes."""
    out = np.full((*lhs.shape[:-1], rhs.shape[-1]), 99, lhs.dtype)
    spec = spec_of(lhs, rhs, out)
    tiling = choose_tiling(spec, AMX)
    assert tiling.amx
    assert packed is None or tiling.pack_lhs == packed
    code, tiles = code_of(spec, tiling)
    call(code, HOST, (lhs, rhs, out), (), static_cut(spec, tiling))
    assert not tiles.faults
    assert tiles.shapes is None, "tiles are given up at the end"
    return out, tiles


def expected(lhs: Array, rhs: Array) -> Array:
    return (lhs.astype(np.int64) @ rhs.astype(np.int64)).astype(lhs.dtype)


SHAPES = ((1, 16, 64), (5, 7, 3), (16, 16, 64), (40, 33, 65), (33, 70, 128), (32, 64, 2112))
both = pytest.mark.parametrize("dtype", [int8, uint8], ids=str)


@both
@pytest.mark.parametrize("layout", ["N", "T"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_in_tiles_are_exact(
    shape: tuple[int, int, int], layout: str, dtype: DType
) -> None:
    m, n, k = shape
    lhs, rhs = whole_numbers(dtype, (m, k), 0), laid_out(whole_numbers(dtype, (k, n), 1), layout)
    found, _ = multiplied(lhs, rhs)
    same(found, expected(lhs, rhs))


def test_rows_that_end_with_whole_tiles_are_read_where_they_lie() -> None:
    # Each row ends where the matrix ends: nothing beyond it is there to be read.
    lhs, rhs = whole_numbers(int8, (40, 128), 0), whole_numbers(int8, (128, 40), 1)
    same(multiplied(lhs, rhs, packed=False)[0], expected(lhs, rhs))


def test_rows_of_a_wider_matrix_do_not_take_their_neighbours_in() -> None:
    wide = whole_numbers(int8, (20, 100), 0)
    lhs, rhs = wide[:, 7:77], whole_numbers(int8, (70, 20), 1)
    same(multiplied(lhs, rhs, packed=True)[0], expected(lhs, rhs))


def test_batches_of_products_in_tiles() -> None:
    lhs, rhs = whole_numbers(int8, (3, 20, 64), 0), whole_numbers(int8, (3, 64, 17), 1)
    same(multiplied(lhs, rhs)[0], expected(lhs, rhs))


@both
def test_a_kernel_for_all_sizes_uses_tiles_too(dtype: DType) -> None:
    lhs, rhs = whole_numbers(dtype, (37, 2115), 0), whole_numbers(dtype, (2115, 45), 1)
    out = np.full((37, 45), 99, dtype.numpy)
    m, n, k, x, y, z, block, group = map(Param, range(8))
    steps = Strides((), x, 1), Strides((), y, 1), Strides((), z, 1)
    spec = ProductSpec(named_dtype(dtype.name), (), m, n, k, *steps)
    tiling = choose_tiling(spec, AMX, block, group)
    made = cut(dtype, tiling, 1, 37, 45, 2115)
    code, tiles = code_of(spec, tiling)
    sizes = (37, 45, 2115, 2115, 45, 45, made.block, made.group)
    call(code, HOST, (lhs, rhs, out), sizes, made)
    assert not tiles.faults
    same(out, expected(lhs, rhs))


def test_sixteen_rows_and_columns_by_64_take_one_instruction() -> None:
    lhs, rhs = whole_numbers(int8, (32, 128), 0), whole_numbers(int8, (128, 32), 1)
    _, tiles = multiplied(lhs, rhs)
    assert tiles.done["tdpbssd"] == 2 * 2 * 2


def test_columns_of_lhs_are_left_to_vectors() -> None:
    lhs = whole_numbers(int8, (128, 64), 0).T
    out = np.zeros((64, 32), np.int8)
    assert not choose_tiling(spec_of(lhs, whole_numbers(int8, (128, 32), 1), out), AMX).amx


@pytest.mark.parametrize(("dtype", "name"), [(int8, "tdpbssd"), (uint8, "tdpbuud")], ids=str)
def test_llvm_makes_the_instructions(dtype: DType, name: str) -> None:
    lhs, rhs = np.zeros((40, 100), dtype.numpy), np.zeros((100, 40), dtype.numpy)
    spec = spec_of(lhs, rhs, np.zeros((40, 40), dtype.numpy))
    module = Module(AMX)
    define_product(module, "product", spec, choose_tiling(spec, AMX))
    words = jit.assembly(module.text(), AMX).split()
    needed = {"ldtilecfg", "tilezero", "tileloadd", name, "tilestored", "tilerelease"}
    assert needed <= set(words)
    assert jit.compile_text(module.text(), AMX)


# What the machine has.


def test_tiles_are_used_only_if_asked_for() -> None:
    assert AMX not in ISAS


@pytest.fixture
def host_with_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    has = frozenset(name.lstrip("+") for name in AMX.features.split(","))
    monkeypatch.setattr(target, "host_features", lambda: has)
    monkeypatch.setenv("PELLUCID_ISA", "amx")


@pytest.mark.usefixtures("host_with_amx")
def test_tiles_can_be_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "may_use_tiles", lambda: True)
    assert host_isa() is AMX
    monkeypatch.delenv("PELLUCID_ISA")
    assert host_isa() is ISAS[0]


@pytest.mark.usefixtures("host_with_amx")
def test_a_system_that_gives_no_leave_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "may_use_tiles", lambda: False)
    with pytest.raises(DeviceError, match=r"missing: the system's leave.*at most avx512bf16"):
        host_isa()


def test_leave_is_asked_for_without_harm() -> None:
    machine.may_use_tiles.cache_clear()
    assert machine.may_use_tiles() is machine.may_use_tiles()


@pytest.mark.skipif("amx-int8" not in host_features(), reason="this machine has no AMX")
@both
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_real_tiles_give_the_same(shape: tuple[int, int, int], dtype: DType) -> None:
    assert machine.may_use_tiles()
    m, n, k = shape
    lhs, rhs = whole_numbers(dtype, (m, k), 0), whole_numbers(dtype, (k, n), 1)
    out = np.full((m, n), 99, dtype.numpy)
    spec = spec_of(lhs, rhs, out)
    tiling = choose_tiling(spec, AMX)
    module = Module(AMX)
    define_product(module, "product", spec, tiling)
    code = jit.load(jit.compile_text(module.text(), AMX), ["product"])
    call(code, HOST, (lhs, rhs, out), (), static_cut(spec, tiling))
    same(out, expected(lhs, rhs))
