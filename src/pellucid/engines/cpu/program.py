"""Has this very program been compiled before, perhaps by another process? Then it is only linked.

What runs of a compiled graph is little: the launches, the kernels by the keys of their object code,
the constants and the size of the arena. It is kept beside the object code, under the hash of all
that it depends on: the text of the graph as it was traced, what may be written in place, the
instruction set, and the sources of everything between that text and the object code. Passes and
lowering are then left out; whoever asks for an explanation has them run after all.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core.machine import cache_bytes, usable_cores
from pellucid.engines.cpu.pool import Step
from pellucid.engines.llvm.cache import cache_key
from pellucid.engines.llvm.target import Isa
from pellucid.ir.graph import Graph
from pellucid.ir.text import print_graph

_COMPILER = ("core", "ir", "ops", "passes", "engines")
_BEGAN = time.time()


@dataclass(frozen=True, slots=True)
class Program:
    """What runs: `kernels` are (key of the object code, name); `steps` name them by number.

    The base table of a call holds inputs, outputs, the arena and `constants`, in this order.
    """

    kernels: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    arena_bytes: int
    constants: tuple[bytes, ...]


def program_key(
    traced: Graph, donate: Mapping[int, int], isa: Isa, schedules: str = "", fast: bool = False
) -> str | None:
    """The hash of all that a program depends on; None where the sources cannot be vouched for.

    `schedules` is the state of what `tune` found, `fast` whether rounding may change.
    """
    compiler = compiler_hash()
    if compiler is None:
        return None
    # The tasks of a kernel depend on cores and caches; NumPy folds constants.
    machine = usable_cores(), cache_bytes(2), cache_bytes(3)
    facts = (compiler, sys.version, np.__version__, machine, schedules, fast)
    text = f"program\n{facts}\n{sorted(donate.items())}\n{print_graph(traced)}"
    return cache_key(text, isa)


def written(program: Program) -> bytes:
    """The program as bytes, for `read`.

    >>> step = Step(0, ((1, 64),), (), tasks=4)
    >>> program = Program((("0a", "exp"),), (step,), 128, (b"1234",))
    >>> read(written(program)) == program
    True
    """
    steps = [
        (s.kernel, s.arguments, s.sizes, s.tasks, s.tasks_per_thread, s.scratch_bytes)
        for s in program.steps
    ]
    constants = [content.hex() for content in program.constants]
    return json.dumps([program.kernels, steps, program.arena_bytes, constants]).encode()


def read(content: bytes) -> Program:
    """What `written` wrote; whoever stored it has seen to it that it is whole."""
    kernels, steps, arena_bytes, constants = json.loads(content)
    return Program(
        tuple((key, name) for key, name in kernels),
        tuple(_step(*words) for words in steps),
        arena_bytes,
        tuple(map(bytes.fromhex, constants)),
    )


def _step(kernel: int, arguments: Any, sizes: Any, *limits: int) -> Step:
    return Step(kernel, tuple((base, at) for base, at in arguments), tuple(sizes), *limits)


@cache
def compiler_hash() -> str | None:
    """The hash of the sources that lie between a graph and its program."""
    root = Path(__file__).parents[2]
    digest, count = hashlib.sha256(), 0
    try:
        for path in _sources(root):
            # Not by pathlib, which takes as long for a path as the system for the file.
            with open(path, "rb", buffering=0) as file:
                # A file that was changed after it was imported is not what runs here.
                if os.fstat(file.fileno()).st_mtime > _BEGAN:
                    return None
                digest.update(f"{path.removeprefix(str(root))}\n".encode())
                digest.update(file.readall())
                count += 1
    except OSError:
        return None
    # None where it was installed without its sources.
    return digest.hexdigest() if count else None


def _sources(root: Path) -> Iterator[str]:
    """The paths of the files between a graph and its program, in the same order everywhere."""
    for part in _COMPILER:
        for folder, inner, names in os.walk(root / part):
            inner.sort()
            for name in sorted(names):
                if name.endswith(".py"):
                    yield os.path.join(folder, name)
