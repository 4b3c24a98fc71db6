"""Does every Variable of a tree have a path of its own?"""

from __future__ import annotations

import pellucid as pe
from pellucid import nn, optim
from pellucid.tensor.cells import cells_of


def test_slots_of_parameters_with_one_name_have_paths_apart() -> None:
    model = nn.Sequential([nn.Dense(3), nn.Dense(2)])
    adam = optim.Adam(model)
    pe.sum(model(pe.ones((4, 5)))).backward()
    adam.step()
    cells = cells_of(adam)
    assert {"slots.mean.<kernel>", "slots.mean.<kernel>#1"} <= set(cells)
    slots = [slot for slots in adam.slots.values() for slot in slots.values()]
    assert len(slots) == 8
    assert set(slots) <= set(cells.values())
