"""How does the CPU engine run an attention? As one kernel of kernels (loops/attention.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pellucid.core.machine import usable_cores
from pellucid.core.shape import static_shape
from pellucid.engines.llvm.contract import contraction_cut, plan_contraction
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.tiling import CHUNK, one_task
from pellucid.engines.loops.attention import draft_attention
from pellucid.engines.loops.attention_block import DEPTH, Attention, Finish, Finished
from pellucid.engines.loops.attention_gradient import draft_gradient
from pellucid.engines.loops.blocks import Blocked
from pellucid.engines.loops.generic import generalise
from pellucid.engines.loops.ir import Binding, Kernel, scratch_bytes
from pellucid.engines.loops.roles import BLOCK, GROUP, has_contraction, orient, sort_loops
from pellucid.engines.loops.schedule import schedule
from pellucid.ir.graph import TensorType
from pellucid.ops.attention import computing
from pellucid.ops.attention_forms import USUAL, HeadsFirst, heads_exchanged, sizes_of

ATTENTIONS: Final = ("attention", "attention_gradient")
"""The ops that are realised here."""


def draft_blocks(
    name: str,
    attrs: Mapping[str, Any],
    operands: tuple[TensorType, ...],
    strides: tuple[tuple[int, ...], ...],
    isa: Isa,
    generic: bool = False,
) -> Blocked | None:
    """The kernel of one of the ATTENTIONS for operands that lie so.

    None where there are no rows or no columns: then the result is zeros. `generic` makes its inner
    kernels so that their code suits other sizes.
    """
    first: HeadsFirst = attrs.get("heads_first", USUAL)
    pairs = zip(operands[:3], first[:3], strict=True)
    sizes = sizes_of(*(heads_exchanged(one.shape, turned) for one, turned in pairs))
    if 0 in (sizes.rows, sizes.columns, sizes.shared, sizes.batch):
        return None
    count = 4 if name == "attention_gradient" else 3
    pairs = zip(strides, first[:count], strict=False)
    lying = [_exchanged(one, turned) for one, turned in pairs]
    if attrs["mask"]:
        pairs = zip(operands[count].shape, strides[count], strict=True)
        lying.append(tuple(0 if size == 1 else stride for size, stride in pairs))
    ends = count + int(attrs["mask"])
    asked = Attention(
        computing(operands[0].dtype),
        operands[0].dtype,
        sizes,
        tuple(lying),
        attrs["scale"],
        attrs["causal"],
        attrs["mask"],
        operands[ends].dtype if attrs["lengths"] else None,
        strides[ends][0] if attrs["lengths"] else 0,
        first,
        attrs["dropout"],
    )
    if name == "attention_gradient":
        return draft_gradient(asked, _finisher(isa, generic), generic)
    return draft_attention(_heads_as_rows(asked), _finisher(isa, generic), generic)


def _heads_as_rows(asked: Attention) -> Attention:
    """The same attention of one row with heads that share keys as rows: keys are read once for all.

    As many heads as leave a task for each core. Each row has the numbers and the order that it had.
    """
    n = asked.sizes
    batch, rows, shared, groups = static_shape((n.batch, n.rows, n.shared, n.groups), "attention")
    if rows != 1 or (asked.causal and asked.lengths is None):
        return asked
    others = [g for g in range(1, groups + 1) if groups % g == 0]
    left = next((g for g in others if batch * shared * g >= usable_cores()), groups)
    together = groups // left
    if together == 1:
        return asked
    query, key, value, *masks = asked.strides
    steps, _, head, last = query
    lying = [(steps, head, head * together, last), key, value]
    # A mask has its axes in the order batch, heads, rows, columns.
    lying += [(steps, head * together, head, last) for steps, head, _, last in masks]
    sizes = replace(n, rows=together, groups=left)
    # The one row is the last: it sees all that lengths leave.
    return replace(
        asked,
        sizes=sizes,
        strides=tuple(lying),
        causal=False,
        heads_first=(*asked.heads_first[:3], True),
    )


def _exchanged(strides: tuple[int, ...], first: bool) -> tuple[int, ...]:
    """The strides as (batch, rows, heads, size)."""
    batch, second, third, last = strides
    return (batch, third, second, last) if first else strides


def _finisher(isa: Isa, generic: bool) -> Finish:
    def finish(kernel: Kernel, most: dict[str, int]) -> Finished:
        if has_contraction(kernel):
            return _product(kernel, most, isa, generic)
        bound = _bound(kernel, isa)
        sizes: tuple[int, ...] = ()
        if generic:
            vectors = (binding.axis for binding in bound.schedule if binding.kind == "vector")
            made, sizes = generalise(kernel, frozenset(vectors))
            bound = _bound(made, isa)
        names = tuple(buffer.name for buffer in kernel.buffers)
        return Finished(bound, names, sizes, 1, scratch_bytes(bound))

    return finish


def _bound(kernel: Kernel, isa: Isa) -> Kernel:
    """A scheduled kernel that one thread runs alone."""
    bound = schedule(kernel, isa.vector_bits, 1)
    alone = tuple(binding for binding in bound.schedule if binding.kind != "thread")
    return replace(bound, schedule=alone)


def _product(kernel: Kernel, most: dict[str, int], isa: Isa, generic: bool) -> Finished:
    oriented, operands = orient(kernel)
    names = (*operands, *(buffer.name for buffer in oriented.buffers[2:]))
    if not most and not generic:
        cut = contraction_cut(oriented, isa)
        return Finished(oriented, names, (), cut.tasks, cut.scratch_bytes)
    roles = sort_loops(oriented)
    assert roles.k.name == DEPTH, "an attention's kernels sum over one axis"
    axes = (roles.m, roles.n, roles.k)
    made, sizes = oriented, ()
    if generic:
        made, sizes = generalise(oriented, frozenset(axis.name for axis in axes))
    extents = [most[a.extent] if isinstance(a.extent, str) else a.extent for a in axes]
    made = replace(made, parameters=(*made.parameters, BLOCK, GROUP))
    if extents[2] <= CHUNK:
        made = replace(made, schedule=(Binding(DEPTH, "whole", 1),))
    spec, tiling = plan_contraction(made, isa)
    cut = one_task(spec.dtype, tiling, *extents)
    return Finished(made, names, (*sizes, cut.block, cut.group), 1, cut.scratch_bytes)
