"""Where do real images come from without a network? From the package: 1,797 handwritten digits.

The archive holds whole numbers as they were published; scaling them and cutting them into training
and test images happens here, the same way every time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVELS: Final = 16
"""The brightest pixel of the archive: each counts the set points in a block of 4x4."""

SPLIT_SEED: Final = 0
TEST_EVERY: Final = 5


class Digits(NamedTuple):
    """Handwritten digits: images (n, 8, 8) float32 from 0 (paper) to 1 (ink), labels (n,) int64."""

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]


def digits() -> Digits:
    """The UCI handwritten digits: 1,437 images to train on and 360 to test with, always the same.

    Each call returns arrays of its own. Every digit has the same share of both parts. The cut is
    by image and not by writer, so a test image can be by a hand that was trained on: the
    accuracy on it says little about hands never seen.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, 1998, doi 10.24432/C50P49, licensed CC BY 4.0.

    >>> train_images, train_labels, test_images, test_labels = digits()
    >>> train_images.shape, train_images.dtype.name, test_labels.shape
    ((1437, 8, 8), 'float32', (360,))
    """
    images, labels = _archive()
    train, test = _split(labels)
    scaled = images.astype(np.float32) / np.float32(LEVELS)
    whole = labels.astype(np.int64)
    return Digits(scaled[train], whole[train], scaled[test], whole[test])


def _archive() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    path = Path(__file__).with_name("handwritten_digits.npz")
    with np.load(path, allow_pickle=False) as archive:
        return archive["images"], archive["labels"]


def _split(labels: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The positions of the training and of the test images, both in shuffled order."""
    # RandomState and not Generator: NumPy froze its stream, so the cut never moves.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(labels))
    by_digit = order[np.argsort(labels[order], kind="stable")]
    # Every fifth of all, sorted by digit, is every fifth of each digit: 360 of 1,797.
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[by_digit[::TEST_EVERY]] = True
    return order[~is_test[order]], order[is_test[order]]
