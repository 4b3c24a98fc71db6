"""Are the shipped digits the published ones, scaled and cut as the docstring says?"""

from __future__ import annotations

import hashlib

import numpy as np

from pellucid.data import Digits, digits
from pellucid.data.handwritten import LEVELS


def test_shapes_and_dtypes_are_the_promised_ones():
    data = digits()
    assert isinstance(data, Digits)
    assert [part.shape for part in data] == [(1437, 8, 8), (1437,), (360, 8, 8), (360,)]
    assert [part.dtype.name for part in data] == ["float32", "int64", "float32", "int64"]


def test_pixels_span_zero_to_one_in_sixteenths():
    images = np.concatenate([digits().train_images, digits().test_images])
    assert images.min() == 0.0
    assert images.max() == 1.0
    assert np.array_equal(images * LEVELS, np.round(images * LEVELS))


def test_both_parts_hold_the_published_images_once_each():
    # Counts of the published file, digit by digit; the order of the images is ours.
    data = digits()
    labels = np.concatenate([data.train_labels, data.test_labels])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    images = np.concatenate([data.train_images, data.test_images]).reshape(-1, 64)
    rows = np.unique(np.column_stack([images, labels]), axis=0)
    assert len(rows) == 1797  # no image is there twice, so none is in both parts


def test_each_digit_has_the_same_share_of_the_test_images():
    data = digits()
    share = np.bincount(data.test_labels) / np.bincount(
        np.concatenate([data.train_labels, data.test_labels])
    )
    assert np.all(np.abs(share - 0.2) < 0.01)


def test_the_cut_is_the_same_on_every_machine():
    digest = hashlib.sha256()
    for part in digits():
        digest.update(part.astype("<f4" if part.dtype == np.float32 else "<i8").tobytes())
    assert digest.hexdigest() == "e682fd4d3c61ff05d30ede81598c410a48bcd0433742ff87dc1c9d7e8cd79e4b"


def test_each_call_returns_arrays_of_its_own():
    digits().train_images[:] = 0
    assert digits().train_images.any()
