"""Does a drawn digit look like its image?"""

from __future__ import annotations

import numpy as np

from pellucid.cli.pictures import BLOCKS, PLAIN, Picture, draw, side_by_side

IMAGE = np.linspace(0, 1, 64).reshape(8, 8)


def test_each_pixel_is_two_characters():
    lines = draw(IMAGE)
    assert [len(line) for line in lines] == [16] * 8


def test_more_ink_is_never_lighter():
    flat = "".join(draw(IMAGE))
    shades = [BLOCKS.index(mark) for mark in flat]
    assert shades == sorted(shades)
    assert set(flat) == set(BLOCKS)


def test_pictures_in_plain_characters_are_plain():
    assert "".join(draw(IMAGE, PLAIN)).isascii()


def test_as_many_pictures_as_fit_stand_side_by_side():
    pictures = [Picture(IMAGE, f"reads {number}") for number in range(9)]
    for width in (40, 80, 120):
        lines = side_by_side(pictures, width)
        assert max(map(len, lines)) <= width
        assert lines[-1].count("reads") == (width + 3) // 19


def test_one_picture_is_drawn_however_narrow_it_is():
    assert side_by_side([Picture(IMAGE, "reads 1")], 5)[-1].split() == ["reads", "1"]
