"""Are only those cells looked at again that moved, or whose memory somebody may hold?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.tensor.cell import Cell

COUNT = 50


def adding(count: int = COUNT) -> tuple[list[pe.Variable], Any]:
    """Some cells, and a compiled step that adds x to each."""
    cells = [pe.Variable(np.full(4, number, np.float32)) for number in range(count)]

    @pe.jit
    def step(x: Any) -> None:
        for cell in cells:
            cell.assign(cell + x)

    step(1.0)
    step(1.0)
    return cells, step


def first_numbers(cells: list[pe.Variable]) -> list[float]:
    return [float(cell.numpy()[0]) for cell in cells]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """The cells of which compiled code asks who holds them, in order."""
    found: list[Cell] = []
    real = Cell.is_sole_holder

    def asked(cell: Cell) -> bool:
        found.append(cell)
        return real(cell)

    monkeypatch.setattr(Cell, "is_sole_holder", asked)
    return found


def test_cells_that_nobody_touched_are_not_looked_at(looked_at: list[Cell]):
    _, step = adding()
    looked_at.clear()
    step(1.0)
    assert not looked_at


def test_only_the_cell_that_was_read_outside_is_looked_at(looked_at: list[Cell]):
    cells, step = adding()
    looked_at.clear()
    before = cells[7].numpy()
    step(1.0)
    assert [cell is cells[7] for cell in looked_at] == [True]
    assert before[0] == 9.0
    assert cells[7].numpy()[0] == 10.0


def test_a_cell_that_was_assigned_outside_is_seen_by_all_who_know_it():
    cells, step = adding(3)
    total = pe.jit(lambda: cells[0] + cells[1] + cells[2])
    total()
    cells[1].assign(np.full(4, 100.0, np.float32))
    assert float(total()[0]) == 2.0 + 100.0 + 4.0
    step(1.0)
    assert first_numbers(cells) == [3.0, 101.0, 5.0]
    assert float(total()[0]) == 109.0


def test_reading_a_cell_many_times_leaves_one_note():
    cells, step = adding(2)
    for _ in range(10):
        cells[0].numpy()
        step(1.0)
    assert len(cells[0]._movers) == len(cells[0]._takers) == 1


def test_a_call_without_memory_changes_nothing_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch,
):
    cells, step = adding(4)
    entry = step.compile(1.0)
    held = [cells[1].value, cells[2].value]
    room = [1]

    def allocate(nbytes: int) -> Any:
        if not room:
            raise MemoryError("no memory")
        room.pop()
        return real(nbytes)

    real = entry._engine.allocate
    with monkeypatch.context() as patch:
        patch.setattr(type(entry._engine), "allocate", lambda self, nbytes: allocate(nbytes))
        with pytest.raises(MemoryError):
            step(1.0)
    assert first_numbers(cells) == [2.0, 3.0, 4.0, 5.0]
    step(1.0)
    assert first_numbers(cells) == [3.0, 4.0, 5.0, 6.0]
    assert [float(one[0]) for one in held] == [3.0, 4.0]


def test_a_run_that_fails_changes_nothing_and_the_next_one_works(monkeypatch: pytest.MonkeyPatch):
    cells, step = adding(3)
    executable = step.compile(1.0).executable
    held = cells[1].value

    def fail(frame: Any) -> None:
        raise MemoryError("no memory for a kernel's scratch")

    with monkeypatch.context() as patch:
        patch.setattr(executable, "run", fail)
        with pytest.raises(MemoryError):
            step(1.0)
    # Blocks of the size that the failed call let go of are somebody else's now.
    others = [pe.ones((4,)) * float(number) for number in range(100)]
    step(1.0)
    assert first_numbers(cells) == [3.0, 4.0, 5.0]
    assert float(held[0]) == 3.0
    assert [float(one[0]) for one in others] == list(map(float, range(100)))
