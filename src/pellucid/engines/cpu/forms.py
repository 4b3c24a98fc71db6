"""How should a constant operand of products lie for this engine? As its tiles read it unpacked.

Where an instruction multiplies several k's at a time, these lie together (see `llvm.folded`); else
k is outermost. The numbers of rows are those up to which a product gained by it, on the machine and
by the measurements of page 0029.
"""

from __future__ import annotations

from typing import Final

from pellucid.core.dtype import DType
from pellucid.engines.llvm.folded import fold_in_memory
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.tile_choice import NATIVE
from pellucid.passes.keep_operands import Form

FOLDED_ROWS: Final = 32
"""Rows of a product of narrow numbers: as it lies, each number is moved to its place in a panel."""

TURNED_ROWS: Final = 12
"""Rows of a product of numbers of 32 or 64 bits that lie along k."""


def operand_form(dtype: DType, isa: Isa) -> Form:
    """The form of constant operands for an instruction set.

    >>> from pellucid.core.dtype import bfloat16, float32
    >>> from pellucid.engines.llvm.target import AVX2, AVX512_BF16
    >>> operand_form(bfloat16, AVX512_BF16), operand_form(float32, AVX2)
    (Form(fold=2, rows=32), Form(fold=1, rows=12))
    """
    fold = fold_in_memory(dtype, isa)
    if fold > 1:
        return Form(fold, FOLDED_ROWS)
    return Form(1, TURNED_ROWS) if dtype in NATIVE else Form()
