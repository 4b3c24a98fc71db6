"""What is the mean over many batches? Batches of different sizes count by their sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Mean:
    """A running mean on the host, in float64 and in the order of the batches.

    >>> loss = Mean()
    >>> loss.add(1.0, rows=3)
    >>> loss.add(5.0, rows=1)
    >>> loss.value
    2.0
    """

    total: float = 0.0
    rows: int = 0

    def add(self, value: float, rows: int = 1) -> None:
        """Take in the mean of one batch of so many rows."""
        self.total += float(value) * rows
        self.rows += rows

    @property
    def value(self) -> float:
        """The mean so far; NaN before the first batch."""
        return self.total / self.rows if self.rows else math.nan
