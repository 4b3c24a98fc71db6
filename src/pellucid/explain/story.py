"""What is there to see between Python and machine code? A record's stages, each as a screen.

The order is the order in which a program comes down; a stage that was not recorded (an engine that
makes no machine code has none) has no screen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Final

from pellucid.explain.changes import Change, changes, graph_of
from pellucid.explain.kernels import KernelSummary, summaries
from pellucid.explain.screen import Screen
from pellucid.ir.graph import count_ops
from pellucid.ir.record import Record

PASSES: Final = {
    "dce": "drops what no result needs",
    "simplify": "applies laws that keep every bit, such as x * 1 = x",
    "fold": "computes now what depends on no input",
    "cse": "says once what was said twice",
    "fuse": "joins ops into kernels; what passes between them stays in registers",
}
"""What each pass does, in a few words."""

# A value of the memory plan that takes none of its memory.
_WITH_CALLER: Final = re.compile(r" at (in|out)put \d+$")

SHOWN: Final = 0
"""The kernel that is shown on its way down, by number: the first is the first layer's product."""


def graph_screen(record: Record) -> Screen:
    """The graph that tracing made."""
    stage = record.named("trace")[-1]
    graph = graph_of(stage)
    nodes = sum(count_ops(graph).values())
    return Screen(
        "graph",
        "what was said, line by line",
        "The function ran once with stand-ins for numbers; each op it used became a line, and what "
        "it read or assigned outside (weights, Adam's means) became inputs and results.",
        stage.text,
        f"{nodes} ops, {len(graph.inputs)} inputs, {len(graph.outputs)} results; "
        f"traced in {_milliseconds(stage.seconds)}.",
        "graph",
    )


def gradient_screen(record: Record) -> Screen:
    """The graph that `backward` made."""
    stage = record.named("gradient")[-1]
    graph = graph_of(stage)
    return Screen(
        "gradient",
        "the same program, differentiated",
        "loss.backward() went through the loss from end to beginning, took each op's derivative "
        "from its card, and so wrote another graph.",
        stage.text,
        f"{sum(count_ops(graph).values())} ops give {len(graph.outputs)} gradients, one for each "
        "parameter. They stand in the graph above too.",
        "graph",
    )


def passes_screen(record: Record) -> Screen:
    """What each pass removed or brought."""
    made = changes(record)
    last = graph_of(record.named("fuse")[-1])
    kernels = len(summaries(last))
    rows = [_row(change, kernels) for change in made]
    names = dict.fromkeys(change.name for change in made)
    legend = [f"{name:9} {PASSES[name]}" for name in names if name in PASSES]
    text = "\n".join([f"{'pass':9} {'ops':>11}   what went and what came", *rows, "", *legend])
    seconds = sum(change.seconds for change in made)
    first = made[0].nodes_before
    return Screen(
        "passes",
        "less to do, to the same bits",
        "Passes take a graph to a graph and never change a bit of its results. They go round until "
        "nothing moves, then fuse.",
        text,
        f"{first} ops became {kernels} kernels in {_milliseconds(seconds)}.",
        "changes",
    )


def kernels_screen(record: Record) -> Screen:
    """What each kernel computes."""
    found = summaries(graph_of(record.named("fuse")[-1]))
    rows = [f"{number:>2}  {_kernel_row(kernel)}" for number, kernel in enumerate(found)]
    return Screen(
        "kernels",
        "what runs in one go",
        "Each line becomes one loop nest: a matrix product with its bias and relu, a sum with "
        "what feeds it, a gradient's product with Adam's update of the weight.",
        "\n".join([" #  kind      ops, and what they give", *rows]),
        language="graph",
    )


def memory_screen(record: Record) -> Screen:
    """Where each value lies while the program runs."""
    stage = record.named("memory")[-1]
    return Screen(
        "memory",
        "one block, its places given out beforehand",
        "Which value lives when is known before anything runs, so those that never meet share "
        "memory. Weights are updated where they lie.",
        stage.text,
        f"Inputs and results lie with the caller. Planned in {_milliseconds(stage.seconds)}.",
        short="\n".join(line for line in stage.text.splitlines() if not _WITH_CALLER.search(line)),
    )


def loops_screen(record: Record) -> Screen:
    """One kernel as loops."""
    stage = record.named("loops")[SHOWN]
    return Screen(
        "loops",
        "the first kernel, as loops",
        "All that the kernel means: what each element is, and in which order sums are made. How "
        "it is cut into tiles, vectors and threads comes next, and changes no bit.",
        stage.text,
        language="loops",
    )


def llvm_screen(record: Record) -> Screen:
    """The same kernel as LLVM IR."""
    stage = record.named("llvm")[SHOWN]
    return Screen(
        "llvm",
        "the same kernel, as LLVM IR",
        "Cut into tiles that fit the registers, in explicit vectors: LLVM's part is to choose "
        "instructions, never the order of a sum.",
        stage.text,
        f"{len(stage.text.splitlines()):,} lines; here is where most of the multiplying is.",
        "llvm",
        around=r"call .*llvm\.fma|fmul",
    )


def assembly_screen(record: Record) -> Screen:
    """The same kernel as instructions of this machine."""
    stage = record.named("assembly")[SHOWN]
    return Screen(
        "assembly",
        "the same kernel, as this machine runs it",
        "The bottom. An instruction multiplies and adds whole vectors, and the sums of a tile stay "
        "in registers until it is done.",
        stage.text,
        f"{len(stage.text.splitlines()):,} lines; here is the innermost loop.",
        "assembly",
        around=r"fmadd|mulps|fmla",
    )


SCREENS: Final[dict[str, tuple[str, Callable[[Record], Screen]]]] = {
    "graph": ("trace", graph_screen),
    "gradient": ("gradient", gradient_screen),
    "passes": ("fuse", passes_screen),
    "kernels": ("fuse", kernels_screen),
    "memory": ("memory", memory_screen),
    "loops": ("loops", loops_screen),
    "llvm": ("llvm", llvm_screen),
    "assembly": ("assembly", assembly_screen),
}
"""Each screen's name, on its way down: the recorded stage that it needs, and how it is made."""


def screens(record: Record) -> tuple[Screen, ...]:
    """Every screen for which something was recorded, on the way down."""
    return tuple(make(record) for stage, make in SCREENS.values() if record.named(stage))


def _row(change: Change, kernels: int) -> str:
    after = kernels if change.name == "fuse" else change.nodes_after
    moved = [f"−{count} {op}" for op, count in change.gone]
    moved += [f"+{count} {op}" for op, count in change.come]
    if change.name == "fuse":
        moved = [f"all in {kernels} kernels"]
    text = "  ".join(moved) or "nothing left to do"
    return f"{change.name:9} {change.nodes_before:>4} → {after:<4}   {text}"


def _kernel_row(kernel: KernelSummary) -> str:
    ops = " ".join(op if count == 1 else f"{op}×{count}" for op, count in kernel.ops)
    types = Counter(map(str, kernel.results))
    results = ", ".join(type if count == 1 else f"{count} {type}" for type, count in types.items())
    return f"{kernel.kind:9} {ops} → {results}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
