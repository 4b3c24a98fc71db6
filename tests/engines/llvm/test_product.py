"""Does a product give the chain of the bit contract, however it is cut, laid out or specialised?"""

from __future__ import annotations

import ctypes
import math
import mmap
import re
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from pellucid.core.dtype import (
    DType,
    bfloat16,
    float16,
    float32,
    int8,
    int16,
    int32,
    int64,
    named_dtype,
    uint8,
)
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.product import define_product
from pellucid.engines.llvm.product_results import Place
from pellucid.engines.llvm.target import AVX2, AVX512, AVX512_VNNI, NAMED, SSE2, Isa, host_isa
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.tile_choice import choose_tiling
from pellucid.engines.llvm.tiling import (
    KEPT,
    Param,
    ProductSpec,
    Strides,
    Tables,
    Tiling,
    cut,
    static_cut,
)
from pellucid.engines.llvm.types import F32, I64, PTR, Value

HOST = host_isa()
FEW = [HOST] if HOST is SSE2 else [HOST, SSE2]
HERE = NAMED[NAMED.index(HOST) :]
CHAINS = [isa for isa in HERE if not isa.pairs_bfloat16]
KERNEL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
)


def strides_of(array):
    """The strides of an array of matrices, in elements."""
    steps = tuple(stride // array.itemsize for stride in array.strides)
    return Strides(steps[:-2], *steps[-2:])


def spec_of(lhs, rhs, out):
    """What multiplying these arrays into `out` is."""
    shape = out.shape[:-2], lhs.shape[-2], rhs.shape[-1], lhs.shape[-1]
    return ProductSpec(named_dtype(lhs.dtype.name), *shape, *map(strides_of, (lhs, rhs, out)))


@cache
def scratch_code(isa: Isa):
    """A context's scratch function: it notes the bytes asked for, and gives one memory."""
    module = Module(isa)
    f = module.function("scratch", PTR, [("context", PTR), ("bytes", I64)])
    context, asked = f.parameters
    f.store(asked, f.gep(context, 2, I64))
    f.ret(f.load(PTR, f.gep(context, 1, PTR)))
    return jit.load(jit.compile_text(module.text(), isa), ["scratch"])


@cache
def build(isa, spec, tiling, epilogue=None):
    module = Module(isa)
    define_product(module, "product", spec, tiling, epilogue)
    return jit.load(jit.compile_text(module.text(), isa), ["product"])


def call(code, isa, arrays, sizes, made):
    memory = np.zeros(1 << 23, np.uint8)
    aligned = memory.ctypes.data + -memory.ctypes.data % 64
    context = np.array([scratch_code(isa)["scratch"], aligned, 0], np.int64)
    pointers = np.array([array.ctypes.data for array in arrays], np.int64)
    numbers = np.array([*sizes, 0], np.int64)
    addresses = [array.ctypes.data for array in (pointers, numbers)]
    # One task after the other, from the last: tasks do not depend on each other.
    for task in reversed(range(made.tasks)):
        KERNEL(code["product"])(*addresses, task, task + 1, context.ctypes.data)
    assert context[2] <= made.scratch_bytes <= memory.size - 64


@pytest.mark.parametrize("isa", [AVX2, AVX512])
@pytest.mark.parametrize(("m", "n", "k"), [(3136, 256, 2305), (50, 2000, 1537), (12544, 128, 1153)])
def test_running_totals_stay_near_where_rows_are_not_packed(isa, m, n, k):
    spec = ProductSpec(float32, (), m, n, k, *(Strides((), s, 1) for s in (k, n, n)))
    tiling = choose_tiling(spec, isa)
    assert not tiling.pack_lhs
    made = static_cut(spec, tiling)
    panel = 512 * tiling.columns
    one_group = made.block * made.group * tiling.rows * tiling.columns
    assert made.scratch_bytes <= 4 * (panel + max(KEPT, one_group)) + 128


def multiply(lhs, rhs, isa=HOST, tiling=None, out=None):
    """lhs @ rhs by a static kernel."""
    shape = (*lhs.shape[:-2], lhs.shape[-2], rhs.shape[-1])
    out = np.full(shape, 99, lhs.dtype) if out is None else out
    spec = spec_of(lhs, rhs, out)
    tiling = tiling or choose_tiling(spec, isa)
    call(build(isa, spec, tiling), isa, (lhs, rhs, out), (), static_cut(spec, tiling))
    return out


def multiply_generic(lhs, rhs, isa=HOST):
    """lhs @ rhs by a kernel that knows dtypes, unit strides and the number of axes only."""
    out = np.full((*lhs.shape[:-2], lhs.shape[-2], rhs.shape[-1]), 99, lhs.dtype)
    known, numbers = spec_of(lhs, rhs, out), []

    def parameter(size):
        numbers.append(size)
        return Param(len(numbers) - 1)

    def strides(given):
        batch = tuple(map(parameter, given.batch))
        return Strides(batch, *(1 if s == 1 else parameter(s) for s in (given.first, given.second)))

    spec = ProductSpec(
        known.dtype,
        tuple(map(parameter, known.batch)),
        *map(parameter, (known.m, known.n, known.k)),
        *map(strides, (known.lhs, known.rhs)),
        replace(strides(known.out), second=1),
    )
    tiling = choose_tiling(spec, isa, parameter(0), parameter(0))
    made = cut(known.dtype, tiling, int(np.prod(known.batch)), known.m, known.n, known.k)
    numbers[-2:] = made.block, made.group
    call(build(isa, spec, tiling), isa, (lhs, rhs, out), numbers, made)
    return out


def contract(lhs, rhs, fused=True):
    """The chain of the bit contract in NumPy, for float32, float64 without fma, and integers."""
    depth = lhs.shape[-1]
    chunks = max(1, -(-depth // 512))
    size = max(8, math.ceil(math.ceil(depth / chunks) / 8) * 8)
    total = None
    for start in range(0, max(depth, 1), size):
        acc = np.zeros((*lhs.shape[:-2], lhs.shape[-2], rhs.shape[-1]), lhs.dtype)
        for k in range(start, min(depth, start + size)):
            left, right = lhs[..., :, k, None], rhs[..., k, None, :]
            with np.errstate(all="ignore"):
                acc = fma(left, right, acc) if fused else left * right + acc
        total = acc if total is None else total + acc
    return total


def fma(lhs, rhs, addend):
    """lhs * rhs + addend in float32, rounded once."""
    return fma_to_odd(lhs, rhs, addend).astype(np.float32)


def fma_to_odd(lhs, rhs, addend):
    """lhs * rhs + addend in float64, rounded to odd; the product of float32 is exact there.

    So rounding it again to float32 is as good as rounding the exact sum.
    """
    product, addend = lhs.astype(np.float64) * rhs, addend.astype(np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    grows = (error > 0) == (total > 0)
    odd = np.where((error != 0) & (bits & 1 == 0), bits + np.where(grows, 1, -1), bits)
    return odd.view(np.float64)


def random(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def laid_out(array, layout):
    """The same matrix, contiguous along its last axis, its first, or neither."""
    if layout == "T":
        return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "S":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    return array


def same(found, expected):
    np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8))


SHAPES = [
    (1, 1, 1),
    (1, 1, 1100),
    (1, 37, 20),
    (37, 1, 20),
    (3, 70, 513),
    (5, 17, 8),
    (6, 16, 512),
    (7, 33, 1030),
    (13, 10, 100),
    (64, 64, 64),
    (100, 5, 9),
    (29, 48, 0),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("isa", FEW, ids=lambda isa: isa.name)
def test_each_result_is_the_chain_of_the_contract(shape, isa):
    m, n, k = shape
    lhs, rhs = random((m, k)), random((k, n), seed=1)
    same(multiply(lhs, rhs, isa), contract(lhs, rhs, isa.fused))


@pytest.mark.parametrize("layouts", ["NT", "TN", "TT", "SN", "NS", "SS", "TS"])
@pytest.mark.parametrize(
    "shape", [(13, 37, 45), (1, 70, 33), (1, 64, 1024), (64, 10, 600), (4, 4, 4)], ids=str
)
def test_layout_changes_no_bit(layouts, shape):
    m, n, k = shape
    lhs, rhs = random((m, k)), random((k, n), seed=1)
    strided = laid_out(lhs, layouts[0]), laid_out(rhs, layouts[1])
    expected = multiply(lhs, rhs)
    same(multiply(*strided), expected)
    same(multiply_generic(*strided), expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_size_generic_kernel_gives_the_same_bits(shape):
    m, n, k = shape
    lhs, rhs = random((m, k)), random((k, n), seed=1)
    same(multiply_generic(lhs, rhs), multiply(lhs, rhs))


@pytest.mark.parametrize("rows", [1, 3, 6])
@pytest.mark.parametrize("vectors", [1, 2, 4])
@pytest.mark.parametrize("packing", [(False, False), (True, True)], ids=str)
def test_tiling_changes_no_bit(rows, vectors, packing):
    lhs, rhs = random((20, 520)), random((520, 41), seed=1)
    tiling = Tiling(rows, vectors, HOST.lanes(32), *packing, True, 2, 2)
    same(multiply(lhs, rhs, tiling=tiling), multiply(lhs, rhs))


def test_batches_with_any_strides():
    lhs, rhs = random((3, 4, 9, 20)), random((20, 4, 11), seed=1)
    # Heads of an attention: batch axes that do not collapse, one of them broadcast.
    lhs, rhs = lhs.swapaxes(0, 1), np.broadcast_to(rhs.transpose(1, 0, 2)[:, None], (4, 3, 20, 11))
    expected = contract(lhs, rhs, HOST.fused)
    same(multiply(lhs, rhs), expected)
    same(multiply_generic(lhs, rhs), expected)


@pytest.mark.parametrize("isa", FEW, ids=lambda isa: isa.name)
@pytest.mark.parametrize("layouts", ["NN", "TT"])
def test_float64(isa, layouts):
    # Whole numbers: every order gives the exact result.
    lhs, rhs = (np.round(100 * random(s, np.float64)) for s in ((23, 70), (70, 31)))
    lhs, rhs = laid_out(lhs, layouts[0]), laid_out(rhs, layouts[1])
    same(multiply(lhs, rhs, isa), lhs @ rhs)


@pytest.mark.parametrize("dtype", [float16, bfloat16], ids=str)
@pytest.mark.parametrize("layouts", ["NN", "NT", "TN"])
@pytest.mark.parametrize("isa", [CHAINS[0], SSE2], ids=lambda isa: isa.name)
def test_16_bit_floats_are_summed_in_float32_and_rounded_once(dtype: DType, layouts, isa):
    narrow = [random(s).astype(dtype.numpy) for s in ((9, 40), (40, 21))]
    wide = contract(*(array.astype(np.float32) for array in narrow), isa.fused)
    lhs, rhs = (laid_out(a, layout) for a, layout in zip(narrow, layouts, strict=True))
    same(multiply(lhs, rhs, isa), wide.astype(dtype.numpy))


def whole_numbers(dtype: DType, shape, seed):
    info = np.iinfo(dtype.numpy)
    generator = np.random.default_rng(seed)
    return generator.integers(info.min, info.max, shape, dtype.numpy, endpoint=True)


@pytest.mark.parametrize("dtype", [int8, uint8, int16, int32, int64], ids=str)
@pytest.mark.parametrize("layouts", ["NN", "TT", "SS"])
@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_integers_wrap(dtype: DType, layouts, isa):
    lhs, rhs = whole_numbers(dtype, (9, 600), 0), whole_numbers(dtype, (600, 7), 1)
    expected = contract(lhs, rhs, fused=False)
    lhs, rhs = laid_out(lhs, layouts[0]), laid_out(rhs, layouts[1])
    same(multiply(lhs, rhs, isa), expected)
    same(multiply_generic(lhs, rhs, isa), expected)


@pytest.mark.parametrize("depth", [1, 3, 18, 37, 2053])
@pytest.mark.parametrize("layouts", ["NN", "NT", "TN"])
@pytest.mark.parametrize("dtype", [int8, uint8, int16], ids=str)
def test_numbers_beyond_the_last_k_take_no_part_in_folded_sums(depth, layouts, dtype: DType):
    lhs, rhs = whole_numbers(dtype, (17, depth), 0), whole_numbers(dtype, (depth, 50), 1)
    # Neighbours in memory that must not be read as if they were there.
    wide = np.full((19, depth + 5), np.iinfo(dtype.numpy).max, dtype.numpy)
    wide[:17, :depth] = lhs
    expected = contract(lhs, rhs, fused=False)
    lhs = laid_out(wide, layouts[0])[:17, :depth]
    same(multiply(lhs, laid_out(rhs, layouts[1])), expected)
    same(multiply_generic(lhs, laid_out(rhs, layouts[1])), expected)


@pytest.mark.parametrize(
    ("isa", "dtype", "name"),
    [
        (AVX512_VNNI, int8, "vpdpbusd"),
        (AVX512_VNNI, uint8, "vpdpbusd"),
        (AVX512, int8, "vpmaddwd"),
        (AVX2, uint8, "vpmaddwd"),
    ],
    ids=str,
)
def test_narrow_integers_are_multiplied_several_at_once(isa, dtype: DType, name):
    lhs, rhs = np.zeros((28, 512), dtype.numpy), np.zeros((512, 64), dtype.numpy)
    spec = spec_of(lhs, rhs, np.zeros((28, 64), dtype.numpy))
    module = Module(isa)
    define_product(module, "product", spec, choose_tiling(spec, isa))
    assert name in jit.assembly(module.text(), isa)


@pytest.mark.parametrize("columns", [33, 64, 96, 130])
@pytest.mark.parametrize("dtype", [int8, uint8], ids=str)
def test_panels_of_bytes_that_share_lines_are_packed_together(columns, dtype: DType):
    lhs, rhs = whole_numbers(dtype, (30, 2061), 0), whole_numbers(dtype, (2061, columns), 1)
    chosen = choose_tiling(spec_of(lhs, rhs, np.zeros((30, columns), dtype.numpy)), AVX512_VNNI)
    assert chosen.slab * chosen.columns == (64 if chosen.vectors == 2 else chosen.columns)
    for isa in CHAINS:
        same(multiply(lhs, rhs, isa), contract(lhs, rhs, fused=False))


@pytest.mark.parametrize("dtype", [int8, int16, bfloat16, float16, float32], ids=str)
def test_a_last_column_alone_writes_nothing_beyond_it(dtype: DType):
    lhs, rhs = (np.ones(s, dtype.numpy) for s in ((20, 8), (8, 17)))
    wide = np.full((20, 24), 99, dtype.numpy)
    for isa in HERE:
        wide[:] = 99
        multiply(lhs, rhs, isa, out=wide[:, :17])
        assert (wide[:, :17] == 8).all()
        assert (wide[:, 17:] == 99).all()


def test_rhs_of_many_rows_or_from_far_is_packed_and_of_few_fetched_ahead():
    def chosen(m: int, k: int, n: int) -> Tiling:
        return choose_tiling(ProductSpec(float32, (), m, n, k, *_row_major(k, n)), AVX512)

    near, far = (1000, 1000), (8192, 8192)
    assert not chosen(32, *near).pack_rhs
    assert chosen(256, *near).pack_rhs
    assert chosen(32, *far).pack_rhs
    assert not chosen(4, *far).pack_rhs
    assert chosen(4, *far).ahead


def _row_major(k: int, n: int) -> tuple[Strides, Strides, Strides]:
    return Strides((), k, 1), Strides((), n, 1), Strides((), n, 1)


def test_flipped_product_gives_the_transposed_bits():
    lhs, rhs = random((300, 40)), random((40, 1), seed=1)
    out = np.zeros((300, 1), np.float32)
    spec = spec_of(lhs, rhs, out).flipped()
    tiling = choose_tiling(spec, HOST)
    call(build(HOST, spec, tiling), HOST, (rhs, lhs, out), (), static_cut(spec, tiling))
    same(out, contract(lhs, rhs, HOST.fused))


def test_infinities_and_nans_stay_in_their_row_and_column():
    lhs, rhs = random((14, 30)), random((30, 20), seed=1)
    lhs[3, 4], rhs[5, 6] = np.inf, np.nan
    found = multiply(lhs, rhs)
    assert np.isnan(found[:, 6]).all()
    assert not np.isfinite(found[3]).any()
    clean = np.delete(np.delete(found, 3, 0), 6, 1)
    expected = contract(np.delete(lhs, 3, 0), np.delete(rhs, 6, 1), HOST.fused)
    np.testing.assert_array_equal(clean, expected)


def test_nothing_outside_the_result_is_written():
    lhs, rhs = random((7, 12)), random((12, 9), seed=1)
    around = np.full((9, 14), 7, np.float32)
    multiply(lhs, rhs, out=around[1:8, 2:11])
    outside = np.ones(around.shape, bool)
    outside[1:8, 2:11] = False
    assert (around[outside] == 7).all()
    np.testing.assert_array_equal(around[1:8, 2:11], multiply(lhs, rhs))


def before_a_wall(array):
    """A copy that ends where the next page may not be touched."""
    pages = -(-max(array.nbytes, 1) // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    buffer = np.frombuffer(memory, np.uint8)
    wall = buffer.ctypes.data + pages * mmap.PAGESIZE
    libc = ctypes.CDLL(None)
    assert not libc.mprotect(ctypes.c_void_p(wall), mmap.PAGESIZE, 0)
    start = pages * mmap.PAGESIZE - array.nbytes
    found = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect as Linux has it")
@pytest.mark.parametrize("layouts", ["NN", "NT", "TN", "TT"])
@pytest.mark.parametrize(
    "shape", [(7, 13, 9), (1, 70, 5), (5, 1, 9), (13, 16, 520), (2, 3, 1)], ids=str
)
def test_nothing_beyond_the_operands_is_read(layouts, shape):
    m, n, k = shape
    lhs, rhs = random((m, k)), random((k, n), seed=1)
    expected = multiply(lhs, rhs)
    walled = [
        before_a_wall(array.T).T if layout == "T" else before_a_wall(array)
        for array, layout in zip((lhs, rhs), layouts, strict=True)
    ]
    same(multiply(*walled, out=before_a_wall(expected * 0)), expected)
    same(multiply_generic(*walled), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect as Linux has it")
@pytest.mark.parametrize("layouts", ["NN", "NT", "TN", "TT"])
@pytest.mark.parametrize("shape", [(5, 21, 13), (1, 70, 5), (5, 1, 18), (13, 16, 518)], ids=str)
def test_nothing_beyond_folded_operands_is_read(layouts, shape):
    m, n, k = shape
    lhs, rhs = whole_numbers(int8, (m, k), 0), whole_numbers(int8, (k, n), 1)
    expected = contract(lhs, rhs, fused=False)
    pair = zip((lhs, rhs), layouts, strict=True)
    walled = [before_a_wall(a.T).T if x == "T" else before_a_wall(a) for a, x in pair]
    same(multiply(*walled), expected)
    same(multiply_generic(*walled), expected)


def bias_and_relu(f: Function, sums: Value, place: Place) -> None:
    """max(sums + bias[n], 0) to buffer 3; the sums themselves to buffer 4."""
    _, _, bias, out, kept = place.pointers
    lanes = sums.type
    at = f.add(f.mul(place.m, 9), place.n)
    masked = place.mask
    offset = f.gep(bias, place.n, F32)
    row = f.masked_load(lanes, offset, masked) if masked else f.load(lanes, offset)
    total = f.fadd(sums, row)
    result = f.select(f.fcmp("ogt", total, 0.0), total, 0.0)
    for value, base in ((result, out), (sums, kept)):
        where = f.gep(base, at, F32)
        if masked:
            f.masked_store(value, where, masked)
        else:
            f.store(value, where)


def test_epilogue_gets_every_result_once_with_its_place():
    lhs, rhs, bias = random((11, 700)), random((700, 9), seed=1), random(9, seed=2)
    out, kept = np.zeros((11, 9), np.float32), np.zeros((11, 9), np.float32)
    spec = replace(spec_of(lhs, rhs, out), pointers=5)
    tiling = choose_tiling(spec, HOST)
    code = build(HOST, spec, tiling, bias_and_relu)
    call(code, HOST, (lhs, rhs, bias, out, kept), (), static_cut(spec, tiling))
    same(kept, multiply(lhs, rhs))
    same(out, np.maximum(kept + bias, 0))


def test_same_spec_gives_the_same_text():
    lhs, rhs = random((20, 30)), random((30, 40))
    spec = spec_of(lhs, rhs, np.zeros((20, 40), np.float32))
    texts = set()
    for _ in range(2):
        module = Module(HOST)
        define_product(module, "product", spec, choose_tiling(spec, HOST))
        texts.add(module.text())
    assert len(texts) == 1


def hot_loop(text):
    """The longest stretch of assembly between two labels that multiplies and adds."""
    blocks = [block.splitlines() for block in re.split(r"^\S+:.*$", text, flags=re.MULTILINE)]
    return max(blocks, key=lambda lines: sum("vfmadd" in line for line in lines))


@pytest.mark.parametrize(("isa", "sums"), [(AVX512, 28), (AVX2, 12)], ids=["avx512", "avx2"])
@pytest.mark.parametrize("layouts", ["NN", "TN"])
def test_sums_of_a_tile_stay_in_registers(isa, sums, layouts):
    # Assembly can be made for machines that this one is not.
    lhs, rhs = laid_out(random((140, 300)), layouts[0]), random((300, 64))
    spec = spec_of(lhs, rhs, np.zeros((140, 64), np.float32))
    module = Module(isa)
    define_product(module, "product", spec, choose_tiling(spec, isa))
    lines = hot_loop(jit.assembly(module.text(), isa))
    assert sum("vfmadd" in line for line in lines) == sums
    assert not any("%rsp" in line for line in lines)


@pytest.mark.parametrize(
    ("isa", "channels", "sums"),
    [(AVX512, 8, 24), (AVX512, 64, 28), (AVX2, 8, 12)],
    ids=["avx512, few k's", "avx512", "avx2"],
)
def test_sums_of_a_tile_found_by_tables_stay_in_registers(isa, channels, sums):
    # Rows of 28 places in 30, k over 3 x 3 places of some channels: a convolution.
    line = 30 * channels
    tables = Tables((10, 28), (3, 3 * channels), (line, channels), (line, 1))
    lhs, rhs, out = Strides((), 0, 0), Strides((), 64, 1), Strides((), 64, 1)
    spec = ProductSpec(float32, (), 280, 64, 9 * channels, lhs, rhs, out, tables=tables)
    module = Module(isa)
    define_product(module, "product", spec, choose_tiling(spec, isa))
    lines = hot_loop(jit.assembly(module.text(), isa))
    assert sum("vfmadd" in line for line in lines) == sums
    # Addresses may lie on the stack, sums may not.
    assert not any(re.search(r"[xyz]mm.*%rsp|%rsp.*[xyz]mm", line) for line in lines)


def test_tasks_suit_the_size_of_the_product():
    shapes = {(8, 8, 8): 1, (64, 64, 64): 4, (1024, 1024, 1024): 512}
    for (m, n, k), most in shapes.items():
        spec = spec_of(*(np.empty(s, np.float32) for s in ((m, k), (k, n), (m, n))))
        tasks = static_cut(spec, choose_tiling(spec, HOST)).tasks
        assert 1 <= tasks <= most
        assert tasks >= 8 or m < 1024


def test_float64_is_a_chain_of_fused_multiply_adds():
    libm = ctypes.CDLL(None)
    libm.fma.restype = ctypes.c_double
    libm.fma.argtypes = [ctypes.c_double] * 3
    lhs, rhs = random((3, 50), np.float64), random((50, 5), np.float64, seed=1)
    expected = np.zeros((3, 5))
    for k in range(50):
        for m, n in np.ndindex(3, 5):
            a, b, acc = lhs[m, k], rhs[k, n], expected[m, n]
            expected[m, n] = libm.fma(a, b, acc) if HOST.fused else a * b + acc
    same(multiply(lhs, rhs), expected)
