"""Data to learn from, as NumPy arrays: the data sets that come with the package."""

from __future__ import annotations

from typing import NoReturn

from pellucid.core.spelling import unknown_name as _unknown_name
from pellucid.data.handwritten import Digits, digits

__all__ = ["Digits", "digits"]

_REWRITES = {
    "DataLoader": "pe.fit(model, (x, y), batch_size=32), or a loop over x[i : i + 32]",
    "Dataset": "a pair of arrays (inputs, targets)",
    "TensorDataset": "a pair of arrays (inputs, targets)",
}


def __getattr__(name: str) -> NoReturn:
    raise _unknown_name("pellucid.data", name, _REWRITES)
