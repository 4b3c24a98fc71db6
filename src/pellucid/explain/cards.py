"""What can be said, and how exactly? The page docs/ops.md: a table of every op, from the cards.

python -m pellucid.explain.cards prints it; `scripts/docs --ops` writes it.
"""

from __future__ import annotations

import sys

from pellucid.core.dtype import DTYPES, FLOATING, INTEGERS, NUMERIC, DType, bool_
from pellucid.engines.cpu import rules
from pellucid.ops import REGISTRY
from pellucid.ops.define import Multilinear, NoBatch, NoDerivative, Op, Pointwise

HEAD = """# The ops

Every op of the graph, written from its card by `scripts/docs --ops`; a test compares this page with
the cards. *a*, *b*, *c* are the operands. An op takes one shape and one dtype: broadcasting and
promotion are made explicit above it.

- **derivative**: *pointwise* (a slope for each element), *linear* (in each operand by itself),
  *custom* (both modes are given), or why there is none. Derivatives have derivatives, of any order.
- **batching**: what `vmap` does with it.
- **engines**: the reference is NumPy, the oracle; cpu generates machine code.
- **accuracy**: the largest error in units of the last place: float16 and bfloat16 / float32 /
  float64. 0.5 is the nearest number always. A sum is as exact as its order allows, which
  [design page 0002](design/0002-the-order-of-arithmetic.md) states. What was measured over every
  float32 stands in [accuracy](accuracy.md).
"""

TITLES = {
    "elementwise": "Element by element",
    "movement": "Moved",
    "general": "Made, joined, written and searched",
    "gather": "Read at places",
    "lists": "Summed along lists",
    "reduce": "Many to one",
    "contract": "Products and their sums",
    "window": "Over windows",
    "random": "Random",
    "control": "Of graphs",
}
"""The sections of the page, by the kinds of the cards."""

FAMILIES: tuple[tuple[str, tuple[DType, ...]], ...] = (
    ("all", DTYPES),
    ("numbers", NUMERIC),
    ("floats", FLOATING),
    ("integers", INTEGERS),
    ("bool", (bool_,)),
)

COLUMNS = ("op", "what it computes", "dtypes", "derivative", "batching", "engines", "accuracy")


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for kind, title in TITLES.items():
        rows = [row(op) for op in REGISTRY.values() if op.kind == kind]
        parts += [f"\n## {title}\n\n", _line(COLUMNS), _line(["---"] * len(COLUMNS)), *rows]
    return "".join(parts)


def row(op: Op) -> str:
    """An op's line of the table."""
    cells = (f"`{op.name}`", op.what, dtypes(op), derivative(op), batching(op), engines(op))
    return _line((*cells, accuracy(op)))


def dtypes(op: Op) -> str:
    """The name of the family of its dtypes, or theirs."""
    for name, family in FAMILIES:
        if set(op.on) == set(family):
            return name
    return ", ".join(dtype.name for dtype in op.on)


def derivative(op: Op) -> str:
    """The kind of its derivative, or why there is none."""
    match op.derivative:
        case NoDerivative(why):
            return f"none: {why}"
        case Pointwise():
            return "pointwise"
        case Multilinear():
            return "linear"
        case _:
            return "custom"


def batching(op: Op) -> str:
    """Whether it can be mapped, or why not."""
    return f"none: {op.batch.why}" if isinstance(op.batch, NoBatch) else "yes"


def engines(op: Op) -> str:
    """The engines that run it; one that refuses says why."""
    why = rules.UNSUPPORTED.get(op.name)
    return f"reference; not cpu: {why}" if why else "reference, cpu"


def accuracy(op: Op) -> str:
    """The errors that its card states, or that it is exact."""
    if op.kind not in ("elementwise", "movement", "gather", "random"):
        return ""
    if callable(op.accuracy):
        # Of orders up to 3; the card states it for each.
        attrs = [{"order": order} for order in (1, 2, 3)]
        return ", ".join(f"{_ulps(op, one)} for order {one['order']}" for one in attrs)
    exact = all(op.ulps(dtype, {}) <= 0.5 for dtype in op.on)
    text = "exact" if exact else _ulps(op, {})
    return f"{text}; below 0 within {op.near_zeros} of max(1, its size)" if op.near_zeros else text


def _ulps(op: Op, attrs: dict[str, int]) -> str:
    errors = [op.ulps(dtype, attrs) for dtype in FLOATING]
    narrow = sorted(set(errors[:2]))
    return " / ".join(f"{number:g}" for number in (*narrow, *errors[2:]))


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
