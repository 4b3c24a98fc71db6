"""Philox4x32-10 against the known answers of its authors (Random123's kat_vectors)."""

from __future__ import annotations

import numpy as np

from pellucid.engines.llvm.philox import philox4x32
from pellucid.engines.llvm.target import ISAS, host_isa
from pellucid.engines.llvm.types import I32
from tests.engines.llvm.running import run

# counter words, key words, result words
KNOWN = (
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def test_known_answers() -> None:
    here = [isa for isa in ISAS if isa.vector_bits <= host_isa().vector_bits]
    for isa in here:
        for counter, key, expected in KNOWN:
            for word in range(4):
                assert drawn(isa, counter, key, word) == expected[word]


def drawn(isa, counter, key, word) -> int:
    def body(f, zero):
        def literal(number):
            return f.add(zero, f.splat(number, I32.with_lanes(zero.type.lanes)))

        words = philox4x32(f, tuple(map(literal, counter)), tuple(map(literal, key)))
        return words[word]

    out = run(body, isa, np.zeros(8, np.int32)).view(np.uint32)
    assert (out == out[0]).all()
    return int(out[0])
