"""Which schedules did `tune` find better than the cost model's? A book of them, kept in the cache.

A kernel of known sizes is found in it by its text without a schedule. The book is one entry of the
cache of machine code, with whose files it shares owner, checksum and bound. There is one for each
instruction set, number of cores, size of cache and compiler: what was measured with others says
little. A schedule that does not suit its kernel is as good as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Final, cast, get_args

from pellucid.core.machine import cache_bytes, usable_cores
from pellucid.engines.cpu.program import compiler_hash
from pellucid.engines.cpu.rules import KernelCall
from pellucid.engines.llvm.cache import cache_key, process_cache
from pellucid.engines.llvm.contract import contraction_cut, plan_contraction
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.variants import fits
from pellucid.engines.loops.blocks import Blocked
from pellucid.engines.loops.ir import Binding, BindingKind, Kernel, Loop
from pellucid.engines.loops.roles import has_contraction, sort_loops
from pellucid.engines.loops.text import print_kernel
from pellucid.engines.loops.variants import schedule_variants

Schedule = tuple[Binding, ...]

MOST_SCHEDULES: Final = 4096
"""How many kernels a book remembers; those that were written first go first."""


@dataclass(frozen=True)
class Book:
    """Schedules by the names of kernels (see `kernel_key`)."""

    schedules: Mapping[str, Schedule]

    @cached_property
    def state(self) -> str:
        """A hash of all it says; empty for an empty book."""
        return hashlib.sha256(written(self)).hexdigest() if self.schedules else ""

    def applied(self, call: KernelCall, isa: Isa) -> KernelCall:
        """The call with the schedule that is written for its kernel, if there is one that suits."""
        if not self.schedules or isinstance(call.kernel, Blocked):
            return call
        found = self.schedules.get(kernel_key(call.kernel))
        return (
            call if found is None or not suits(call.kernel, found, isa) else bound(call, found, isa)
        )


def kernel_key(kernel: Kernel) -> str:
    """What a kernel is called in a book: the hash of its text without its schedule."""
    return hashlib.sha256(print_kernel(replace(kernel, schedule=())).encode()).hexdigest()


def bound(call: KernelCall, schedule: Schedule, isa: Isa) -> KernelCall:
    """The call with another schedule of its kernel, and the tasks that come of it."""
    assert isinstance(call.kernel, Kernel), "kernels of kernels have the schedules of their parts"
    kernel = replace(call.kernel, schedule=schedule)
    if has_contraction(kernel):
        cut = contraction_cut(kernel, isa)
        limits = {"tasks": cut.tasks, "tasks_per_thread": cut.tasks_per_thread}
        return replace(call, kernel=kernel, scratch_bytes=cut.scratch_bytes, **limits)
    share = next((b for b in schedule if b.kind == "thread"), None)
    if share is None:
        return replace(call, kernel=kernel)
    extent = next(s.axis.extent for s in kernel.body if isinstance(s, Loop))
    assert isinstance(extent, int), "sizes are known here"
    assert isinstance(share.factor, int), "sizes are known here"
    return replace(call, kernel=kernel, tasks=-(-extent // share.factor))


def suits(kernel: Kernel, schedule: Schedule, isa: Isa) -> bool:
    """Whether a kernel, scheduled by default, can be scheduled so."""
    if not has_contraction(kernel):
        return schedule in schedule_variants(kernel)
    roles = sort_loops(kernel)
    m, n = roles.m.name, roles.n.name
    needed = {(m, "rows"), (n, "vectors"), (m, "block"), (n, "group")}
    found = [(binding.axis, binding.kind) for binding in schedule]
    if len(set(found)) < len(found) or not needed <= set(found) <= needed | {
        (m, "pack"),
        (n, "pack"),
    }:
        return False
    if not all(isinstance(binding.factor, int) for binding in schedule):
        return False
    return fits(*_planned(replace(kernel, schedule=schedule), isa))


def _planned(kernel: Kernel, isa: Isa) -> tuple[Any, Isa, Any]:
    spec, tiling = plan_contraction(kernel, isa)
    return spec, isa, tiling


def read_book(isa: Isa) -> Book:
    """What is remembered now, by this process or another."""
    return _read(process_cache().newest(_key(isa)) or b"")


def write_book(isa: Isa, found: Mapping[str, Schedule | None]) -> None:
    """Remember schedules; None forgets one."""
    kept = {name: one for name, one in read_book(isa).schedules.items() if name not in found}
    kept.update((name, one) for name, one in found.items() if one is not None)
    latest = dict(list(kept.items())[-MOST_SCHEDULES:])
    process_cache().store(_key(isa), written(Book(latest)))


def written(book: Book) -> bytes:
    """The book as bytes: JSON."""
    words = {
        name: [[b.axis, b.kind, b.factor] for b in one] for name, one in book.schedules.items()
    }
    return json.dumps(words).encode()


@lru_cache(maxsize=8)
def _read(content: bytes) -> Book:
    try:
        words = json.loads(content or b"{}")
        return Book(
            {str(name): tuple(_binding(*word) for word in one) for name, one in words.items()}
        )
    except (ValueError, TypeError, AttributeError):
        # Whole, by its checksum, but not what this version writes.
        return Book({})


def _binding(axis: object, kind: object, factor: object) -> Binding:
    if not (isinstance(axis, str) and kind in get_args(BindingKind) and type(factor) is int):
        raise ValueError("no binding")
    return Binding(axis, cast(BindingKind, kind), factor)


def _key(isa: Isa) -> str:
    """Where the book lies: it is another one for another machine or compiler."""
    facts = (compiler_hash(), usable_cores(), cache_bytes(2))
    return cache_key(f"schedules\n{facts}", isa)
