"""Data to learn from, as NumPy arrays: the data sets that come with the package."""

from __future__ import annotations

from pellucid.data.handwritten import Digits, digits

__all__ = ["Digits", "digits"]
