"""Which results may be written past the caches? Those whose vectors lie at whole vectors' bytes.

A store into memory that no cache holds reads the line first, unless it is a streaming one: these go
straight to memory, a whole line at a time. Where a kernel moves more than the last-level cache
holds, what it writes has left the caches before it is read, so that streaming saves a third of what
is moved by a kernel that writes as much as it reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pellucid.core.dtype import bool_
from pellucid.engines.loops.ir import (
    Affine,
    Binding,
    Chain,
    Kernel,
    Let,
    Load,
    Loop,
    Size,
    Store,
    Update,
    nested,
)

LINE: Final = 64
"""The bytes at which memory that is streamed to begins, and of which vectors are an even part."""


def streamed(kernel: Kernel, names: frozenset[str]) -> Kernel:
    """The kernel with those of its results streamed that can be; their memory begins at a LINE."""
    chosen = tuple(
        Binding(name, "stream", LINE) for name in sorted(names) if can_be_streamed(kernel, name)
    )
    return replace(kernel, schedule=(*kernel.schedule, *chosen))


def unstreamed(kernel: Kernel) -> Kernel:
    """The kernel without that part of its schedule, which depends on where its results lie."""
    return replace(kernel, schedule=tuple(b for b in kernel.schedule if b.kind != "stream"))


def can_be_streamed(kernel: Kernel, name: str) -> bool:
    r"""Whether a scheduled kernel only writes to a buffer, along vectors at their own multiples.

    >>> from pellucid.engines.loops.text import parse_kernel
    >>> text = "kernel k\n  write y: float32\n  vector j 16\n  for i < 9\n    for j < {0}\n"
    >>> text += "      t0: float32 = const 1.0\n      store y[{0}*i + j] = t0"
    >>> [can_be_streamed(parse_kernel(text.format(size)), "y") for size in (160, 161)]
    [True, False]
    """
    stores: list[Store] = []
    for statement in nested(kernel.body):
        match statement:
            case Let(_, _, Load(buffer)) | Update(buffer) | Chain(buffer) if buffer == name:
                return False
            case Store(buffer) if buffer == name:
                stores.append(statement)
            case _:
                pass
    return bool(stores) and all(_lies_well(kernel, store.index, name) for store in stores)


def _lies_well(kernel: Kernel, index: Affine, name: str) -> bool:
    """Whether vectors along an index begin at multiples of their own bytes."""
    dtype = kernel.buffer(name).dtype
    loops = {s.axis.name for s in nested(kernel.body) if isinstance(s, Loop)}
    along = [axis for axis, step in index.terms if step == 1 and axis in loops]
    if dtype is bool_ or len(along) != 1 or not loops.issuperset(index.names):
        return False
    (axis,) = along
    lanes = kernel.bound(axis, "vector")
    if not isinstance(lanes, int) or (lanes * dtype.bytes) % (LINE // 4):
        return False
    block = kernel.bound(axis, "thread")
    others = [step for other, step in index.terms if other != axis]
    steps: list[Size] = [index.offset, *others, *([] if block is None else [block])]
    return all(isinstance(step, int) and step % lanes == 0 for step in steps)
