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
from pellucid.explain.kernels import KernelSummary, kernel_nodes, summaries
from pellucid.explain.lifetimes import chart, lifetimes
from pellucid.explain.profile import Profile, cost_of, short_count
from pellucid.explain.screen import Screen
from pellucid.ir.graph import count_ops
from pellucid.ir.record import Record, Stage

PASSES: Final = {
    "dce": "drops what no result needs",
    "simplify": "applies laws that keep every bit, such as x * 1 = x",
    "fold": "computes now what depends on no input",
    "cse": "says once what was said twice",
    "recognise_attention": "finds softmax(q . k) . v, which is one op, as fast=True allows",
    "divide_by_numbers": "multiplies by 1 / c instead, with other rounding, as fast=True allows",
    "fuse": "joins ops into kernels; what passes between them stays in registers",
}
"""What each pass does, in a few words."""

# A launch in the text of the stage "code": which node of the fused graph, and which kernel.
_LAUNCH: Final = re.compile(r"(?m)^  node (\d+): kernel (\d+) ")

PROFILED: Final = 10
LIVING: Final = 12
"""How many kernels of a profile, and values of a memory plan, have a line of their own."""


def graph_screen(record: Record) -> Screen:
    """The graph that tracing made."""
    stage = record.named("trace")[-1]
    graph = graph_of(stage)
    nodes = sum(count_ops(graph).values())
    return Screen(
        "graph",
        "what was said, line by line",
        "Python can do anything, so nothing can safely improve it; the step therefore ran once "
        "with stand-ins for numbers, and what it did with them is a graph, which can be rewritten.",
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
        "To learn is to go downhill, so loss.backward() went through the loss from its end, took "
        "each op's derivative from its card, and wrote the slope of every weight as a graph.",
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
    told = [stage.text for stage in record.named("fast")]
    if told:
        text = "\n".join([text, "", "rounding was changed, as fast=True allows:", *told])
    seconds = sum(change.seconds for change in made)
    first = made[0].nodes_before
    return Screen(
        "passes",
        "less to do, to the same bits" if not told else "less to do, within stated errors",
        "What was easy to write is not quick to run, so passes take the graph to one with less to "
        "do, round after round until nothing moves, and may not change a bit of any result"
        + (", but where they say so." if told else "."),
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
        "Moving numbers costs more than computing them, so ops that hand on to each other are one "
        "kernel: a product with its bias and relu, a gradient with Adam's update of the weight.",
        "\n".join([" #  kind      ops, and what they give", *rows]),
        language="graph",
    )


def loops_screen(record: Record) -> Screen:
    """One kernel as loops."""
    kernel, stage = _largest(record, "loops")
    return Screen(
        "loops",
        f"{kernel}, as loops",
        "Before speed comes meaning: what each element is and in which order sums are made, which "
        "settles every bit, so that tiles, vectors and threads can then be chosen freely.",
        stage.text,
        "Of all kernels this one computes the most; the next screens follow it down.",
        language="loops",
    )


def memory_screen(record: Record) -> Screen:
    """Where each value lies while the program runs."""
    stage = record.named("memory")[-1]
    graph = graph_of(record.named("fuse")[-1])
    found = lifetimes(stage.text, graph)
    values = sum(one.bytes for one in found)
    arena = int(re.findall(r"\d+", stage.text)[0])
    return Screen(
        "memory",
        "one block, its places given out beforehand",
        "Which value lives when is known before anything runs, so those that never meet share "
        "their bytes, and weights are updated where they lie.",
        stage.text,
        f"{values:,} bytes of values, and what kernels need while they work, in a block of "
        f"{arena:,} bytes; inputs and results lie with the caller.",
        "memory",
        short=chart(found, len(graph.nodes), LIVING),
    )


def llvm_screen(record: Record) -> Screen:
    """The same kernel as LLVM IR."""
    kernel, stage = _largest(record, "llvm")
    return Screen(
        "llvm",
        f"{kernel}, as LLVM IR",
        "The loops are cut into tiles that fit the registers, in explicit vectors, so that LLVM "
        "only chooses instructions and never the order of a sum.",
        stage.text,
        f"{len(stage.text.splitlines()):,} lines; here is where most of the multiplying is.",
        "llvm",
        around=r"call .*llvm\.fma|fmul",
    )


def assembly_screen(record: Record) -> Screen:
    """The same kernel as instructions of this machine."""
    kernel, stage = _largest(record, "assembly")
    return Screen(
        "assembly",
        f"{kernel}, as this machine runs it",
        "This is the bottom, all that the processor is told: one instruction multiplies and adds a "
        "whole vector of numbers, and nothing here was written by hand.",
        stage.text,
        f"{len(stage.text.splitlines()):,} lines; here is where most of the multiplying is.",
        "assembly",
        around=r"fmadd|mulps|fmla",
    )


def profile_screen(profile: Profile, width: int, facts: str) -> Screen:
    """What each kernel took while the graph ran."""
    return Screen(
        "profile",
        "where the time goes",
        "Only what is measured can be made faster, so a clock was read between the kernels of "
        "steps that ran as they always do, to the same bits.",
        profile.table(len(profile.kernels), width),
        f"{short_count(profile.flops)} flop and at least {short_count(profile.bytes)} bytes in "
        f"{len(profile.kernels)} kernels, by the cards of their ops; times are medians of "
        f"{profile.runs} runs. {facts}".rstrip(),
        "profile",
        short=profile.table(PROFILED, width),
    )


SCREENS: Final[dict[str, tuple[str, Callable[[Record], Screen]]]] = {
    "graph": ("trace", graph_screen),
    "gradient": ("gradient", gradient_screen),
    "passes": ("fuse", passes_screen),
    "kernels": ("fuse", kernels_screen),
    "loops": ("loops", loops_screen),
    "memory": ("memory", memory_screen),
    "llvm": ("llvm", llvm_screen),
    "assembly": ("assembly", assembly_screen),
}
"""Each screen's name, on its way down: the recorded stage that it needs, and how it is made."""


def screens(record: Record) -> tuple[Screen, ...]:
    """Every screen for which something was recorded, on the way down."""
    return tuple(make(record) for stage, make in SCREENS.values() if record.named(stage))


def _largest(record: Record, name: str) -> tuple[str, Stage]:
    """The kernel with the most to compute, by its number, and its stage of this name."""
    last = max(n for n, one in enumerate(record.stages) if one.name == "code")
    below = [one for one in record.stages[last:] if one.name == name]
    graph = graph_of(record.named("fuse")[-1])
    kernels = kernel_nodes(graph)
    if not kernels:
        # A program that only gives back what it got.
        return "a copy", below[0]
    number = max(range(len(kernels)), key=lambda n: cost_of(kernels[n])[0])
    at = graph.nodes.index(kernels[number])
    launches = _LAUNCH.findall(record.named("code")[-1].text)
    # The last launch of a node does the work; those before it bring operands into shape.
    stage = [int(kernel) for node, kernel in launches if int(node) == at][-1]
    return f"kernel {number}", below[stage]


def _row(change: Change, kernels: int) -> str:
    after = kernels if change.name == "fuse" else change.nodes_after
    moved = [f"−{count} {op}" for op, count in change.gone]
    moved += [f"+{count} {op}" for op, count in change.come]
    if change.name == "fuse":
        moved = [f"all in {kernels} kernels"]
    text = "  ".join(moved) or "nothing left to do"
    return f"{change.name:9} {change.nodes_before:>4} → {after:<4}   {text}"


def _kernel_row(kernel: KernelSummary) -> str:
    types = Counter(map(str, kernel.results))
    results = ", ".join(type if count == 1 else f"{count} {type}" for type, count in types.items())
    return f"{kernel.kind:9} {kernel.work} → {results}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
