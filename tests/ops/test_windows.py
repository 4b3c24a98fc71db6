"""Do the phases of windows over an operand with gaps meet what the windows meet?"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from pellucid.ops.windows import Windows

# Along an axis: window, stride, padding, gap of the operand, step within the window.
Form = tuple[int, int, tuple[int, int], int, int]
FORMS: list[Form] = [
    (3, 1, (1, 1), 2, 1),
    (3, 2, (0, 2), 3, 1),
    (4, 2, (1, 0), 4, 2),
    (2, 3, (2, 5), 2, 3),
    (1, 1, (-1, 3), 3, 1),
    (5, 1, (4, 4), 1, 2),
]


@pytest.mark.parametrize("form", FORMS)
def test_phases_meet_each_element_that_the_windows_meet(form: Form) -> None:
    window, stride, padding, gap, step = form
    windows = Windows((window,), (stride,), (padding,), (gap,), (step,))
    x = np.arange(1.0, 6.0).reshape(1, 5, 1)
    wanted = np.stack(list(windows.elements(x, 0)))
    found = np.full_like(wanted, np.nan)
    for phase in windows.phases((5,)):
        places = range(*phase.places()[0].indices(window))
        for place, held in zip(places, phase.windows.elements(x, 0), strict=True):
            found[(place, slice(None), *phase.positions())] = held
    # What no phase meets is in a gap; what one meets is there, or in the padding.
    assert np.array_equal(np.nan_to_num(found, nan=0.0), wanted)
    (size,) = windows.result_sizes((5,))
    for place, position in product(range(window), range(size)):
        at = position * stride + place * step - padding[0]
        assert np.isnan(found[place, 0, position, 0]) == (at % gap != 0)
