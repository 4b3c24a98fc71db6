"""Where do random numbers come from? One op: bits that depend on a seed, a draw number and a place.

Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). The key is
the seed; the counter is (block, draw), two words each; element i is word i % 4 of block i // 4. So
a draw never shifts another one, and a longer draw starts with the shorter one's numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.core.dtype import uint32, uint64
from pellucid.core.error import OpShapeError
from pellucid.core.shape import Shape, product, static_shape
from pellucid.ir.graph import TensorType
from pellucid.ops.define import (
    Array,
    Cost,
    NoBatch,
    NoDerivative,
    define,
    moved_bytes,
    require_dtype,
)
from pellucid.ops.movement import require_sizes

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def _bits_infer(seed: TensorType, draw: TensorType, *, shape: Shape) -> TensorType:
    require_sizes("random_bits", shape)
    for name, type in (("seed", seed), ("draw", draw)):
        require_dtype("random_bits", type, (uint64,))
        if type.shape != ():
            raise OpShapeError(f"random_bits: expected a scalar {name}, got {type.message()}")
    return TensorType(uint32, tuple(shape))


def _bits_reference(seed: Array, draw: Array, *, shape: Shape) -> Array:
    sizes = static_shape(shape, "drawing random bits")
    count = int(product(sizes))  # pyright: ignore[reportArgumentType]
    block = np.arange((count + 3) // 4, dtype=np.uint64)
    words = philox(int(seed), block, int(draw))
    return np.stack(words, axis=1).reshape(-1)[:count].reshape(sizes)


def philox(seed: int, block: Array, draw: int) -> list[Array]:
    """The four words of each counter (block, draw) under the key `seed`, as uint32 arrays."""
    low = np.uint64(0xFFFFFFFF)
    key = [seed & 0xFFFFFFFF, seed >> 32]
    c = [block & low, block >> np.uint64(32)]
    c += [np.full_like(block, draw & 0xFFFFFFFF), np.full_like(block, draw >> 32)]
    for _ in range(ROUNDS):
        product0, product1 = c[0] * np.uint64(MULTIPLIERS[0]), c[2] * np.uint64(MULTIPLIERS[1])
        c = [
            (product1 >> np.uint64(32)) ^ c[1] ^ np.uint64(key[0]),
            product1 & low,
            (product0 >> np.uint64(32)) ^ c[3] ^ np.uint64(key[1]),
            product0 & low,
        ]
        key = [(k + w) & 0xFFFFFFFF for k, w in zip(key, WEYL, strict=True)]
    return [word.astype(np.uint32) for word in c]


def _bits_cost(
    operands: tuple[TensorType, ...], results: tuple[TensorType, ...], **attrs: Any
) -> Cost:
    return Cost(product(results[0].shape) * 3 * ROUNDS, moved_bytes(results))


random_bits = define(
    "random_bits",
    infer=_bits_infer,
    reference=_bits_reference,
    derivative=NoDerivative("bits do not vary smoothly with the seed"),
    batch=NoBatch("a seed cannot be mapped; draw outside `vmap`"),
    cost=_bits_cost,
    kind="random",
    on=(uint64,),
    what="Philox 4x32-10 of a seed and a draw",
)
