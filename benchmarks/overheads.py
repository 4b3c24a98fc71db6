"""What does a call cost, apart from the work: compiled with 10 and 500 cells, eager ops and steps?

    python -m benchmarks overheads [--rounds 31] [--json PATH]

A compiled function that reads many Variables of one number each, or assigns them, is timed whole,
and so is its executable alone, the one native call that does the work: the difference is what
finding the cells, checking them and wrapping the result costs. Eager ops are tiny, so that their
cost is all overhead, with and without a tape; torch and NumPy do the same beside them. So is most
of an eager training step of a small model. One thread, by its CPU time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import pellucid as pe
from benchmarks.measure import Timing, in_turns, write
from pellucid import nn, optim

CELLS = (10, 500)
REPEAT = 2000
TINY = 4
"""How many numbers an eager op works on."""

Calls = dict[str, Callable[[], object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pe.set_threads(1)
    eager, missing = eager_calls()
    steps, none = eager_steps()
    found = {
        "compiled": timed(compiled_calls(), arguments.rounds),
        "eager": timed(eager, arguments.rounds),
        "steps": timed(steps, arguments.rounds, 50),
    }
    show("a compiled call", found["compiled"])
    for name, whole in found["compiled"].items():
        if name.endswith(PARTS[0]):
            native = found["compiled"][name.replace(*PARTS)]
            over = (whole["median"] - native["median"]) * 1e6
            print(f"  {name.partition(',')[0]}: {over:.2f} us beside the work")
    show("an eager op", found["eager"])
    show("an eager training step", found["steps"])
    for line in (*missing, *none):
        print(f"  {line}")
    write("overheads", found, arguments.json)


PARTS = ("whole call", "native part")


def timed(calls: Calls, rounds: int, repeat: int = REPEAT) -> dict[str, dict[str, float]]:
    found = in_turns(calls, rounds, repeat, time.process_time)
    return {name: asdict(timing) for name, timing in found.items()}


def show(title: str, found: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}; median [quartiles]")
    for name, one in found.items():
        timing = Timing(**one)
        low, median, high = (x * 1e6 for x in (timing.low, timing.median, timing.high))
        print(f"  {name:32} {median:8.2f} us  [{low:.2f} {high:.2f}]")


class Holder(nn.Module):
    """A module with so many cells, each an attribute."""

    def __init__(self, count: int) -> None:
        for number in range(count):
            setattr(self, f"cell{number}", pe.Variable(float(number)))


def compiled_calls() -> Calls:
    calls: Calls = {}
    for count in CELLS:
        holder = Holder(count)
        for where, held in (("a module", holder), ("a list", list(holder.variables().values()))):
            for done, make in (("assigned", cells_calls), ("read", reading_calls)):
                whole, native = make(held)
                calls[f"{count} cells of {where} {done}, {PARTS[0]}"] = whole
                calls[f"{count} cells of {where} {done}, {PARTS[1]}"] = native
    return calls


def cells_in(held: Any) -> list[Any]:
    return held if isinstance(held, list) else list(held.variables().values())


def reading_calls(held: Any) -> tuple[Callable[[], object], Callable[[], object]]:
    """A call that sums up the cells of a module or list, and its executable alone."""

    @pe.jit
    def total(x: Any) -> Any:
        for cell in cells_in(held):
            x = x + cell
        return x

    x = pe.asarray(1.0)
    expected = 1.0 + sum(map(float, cells_in(held)))
    if float(total(x)) != expected:
        raise SystemExit(f"the cells make {float(total(x))}, not {expected}")
    return lambda: total(x), native_call(total.compile(x).executable)


def cells_calls(held: Any) -> tuple[Callable[[], object], Callable[[], object]]:
    """A call that adds a number to each cell of a module or list, and its executable alone."""

    @pe.jit
    def add(x: Any) -> Any:
        for cell in cells_in(held):
            cell.assign(cell + x)
        return x + 1.0

    x = pe.asarray(1.0)
    add(x)
    expected = float(cells_in(held)[-1]) + 1.0
    add(x)
    if float(cells_in(held)[-1]) != expected:
        raise SystemExit(f"the last cell holds {float(cells_in(held)[-1])}, not {expected}")
    return lambda: add(x), native_call(add.compile(x).executable)


def native_call(executable: Any) -> Callable[[], object]:
    """The executable on memory of its own, which is always the same."""
    frame = executable.lease(())
    types = (*executable.inputs, *executable.outputs)
    held = [np.zeros(type.shape, type.dtype.numpy) for type in types]
    for number, array in enumerate(held):
        frame.table[number] = array.ctypes.data

    def run() -> object:
        executable.run(frame)
        return held

    return run


def eager_calls() -> tuple[Calls, list[str]]:
    numbers = np.linspace(0.0, 1.0, TINY, dtype=np.float32)
    rows = np.ones((2, TINY), np.float32)
    small = np.eye(2, dtype=np.float32)
    calls = {f"numpy {name}": call for name, call in array_ops(np, numbers, rows, small).items()}
    mine = array_ops(pe, pe.asarray(numbers), pe.asarray(rows), pe.asarray(small))
    calls |= {f"pellucid {name}": call for name, call in mine.items()}
    weight, plain = pe.Parameter(numbers), pe.asarray(numbers)
    calls |= {f"pellucid {name}": call for name, call in taped_ops(weight, plain).items()}
    try:
        import torch
    except ImportError as error:
        return calls, [f"torch skipped: {error}"]
    torch.set_num_threads(1)
    theirs = array_ops(torch, *map(torch.from_numpy, (numbers, rows, small)))
    calls |= {f"torch {name}": call for name, call in theirs.items()}
    taped = torch.from_numpy(numbers.copy()).requires_grad_()
    others = taped_ops(taped, torch.from_numpy(numbers))
    calls |= {f"torch {name}": call for name, call in others.items()}
    return {name: calls[name] for name in sorted(calls, key=lambda one: one.split(" ", 1)[1])}, []


def array_ops(library: Any, x: Any, rows: Any, small: Any) -> Calls:
    """Ops that NumPy, torch and pellucid spell alike, or nearly."""
    make = library.tensor if library.__name__ == "torch" else library.asarray
    mask, one = x > 0.5, x.sum()
    return {
        "-x": lambda: -x,
        "x + x": lambda: x + x,
        "x + 1.0": lambda: x + 1.0,
        "1 - x": lambda: 1 - x,
        "rows + x": lambda: rows + x,
        "x > 0.5": lambda: x > 0.5,
        "x.sum()": x.sum,
        "rows.sum(0)": lambda: rows.sum(0),
        "x.mean()": x.mean,
        "x.var()": x.var,
        "x.argmax()": x.argmax,
        "mask.all()": mask.all,
        "small @ small": lambda: small @ small,
        "where(mask, x, 0.0)": lambda: library.where(mask, x, 0.0),
        "stack([x, x])": lambda: library.stack([x, x]),
        "concat([x, x])": lambda: library.concat([x, x]),
        "asarray([1.0, 2.0])": lambda: make([1.0, 2.0]),
        "rows[0]": lambda: rows[0],
        "rows[:, 1:]": lambda: rows[:, 1:],
        "x[None]": lambda: x[None],
        "rows.T": lambda: rows.T,
        "rows.reshape(4, 2)": lambda: rows.reshape(4, 2),
        "float(one)": lambda: float(one),
        "np.asarray(x)": lambda: np.asarray(x),
    }


BATCH, FEATURES, CLASSES = 32, 64, 10


def eager_steps() -> tuple[Calls, list[str]]:
    """Training steps of a model of two layers: cross-entropy, backward, and an optimizer's step."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, FEATURES)).astype(np.float32)
    y = rng.integers(0, CLASSES, BATCH)
    calls = {
        "pellucid Adam": own_step(optim.Adam, x, y),
        "pellucid SGD": own_step(optim.SGD, x, y),
    }
    try:
        import torch
    except ImportError as error:
        return calls, [f"torch skipped: {error}"]
    made = {
        "torch Adam": torch_step(torch, torch.optim.Adam, x, y),
        "torch SGD": torch_step(torch, torch.optim.SGD, x, y),
    }
    return calls | made, []


def own_step(optimizer: Any, x: Any, y: Any) -> Callable[[], object]:
    model = nn.Sequential([nn.Dense(FEATURES, activation="relu"), nn.Dense(CLASSES)])
    made = optimizer(model, learning_rate=1e-3)
    inputs, labels = pe.asarray(x), pe.asarray(y)

    def step() -> object:
        loss = nn.losses.cross_entropy(model(inputs), labels)
        loss.backward()
        made.step()
        return loss

    return step


def torch_step(torch: Any, optimizer: Any, x: Any, y: Any) -> Callable[[], object]:
    layers = (
        torch.nn.Linear(FEATURES, FEATURES),
        torch.nn.ReLU(),
        torch.nn.Linear(FEATURES, CLASSES),
    )
    model = torch.nn.Sequential(*layers)
    made = optimizer(model.parameters(), lr=1e-3)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> object:
        made.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        made.step()
        return loss

    return step


def taped_ops(weight: Any, x: Any) -> Calls:
    """Ops with a tape, and a gradient."""

    def gradient() -> None:
        (weight * x * 2.0).sum().backward()

    return {"weight + x": lambda: weight + x, "a gradient of three ops": gradient}


if __name__ == "__main__":
    main()
