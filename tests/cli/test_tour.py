"""Is the tour what it promises: every stage, a model that reads digits, the same digits again?"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

import pellucid as pe
from pellucid.cli.tour import STAGES, Options, tour
from pellucid.ir.text import parse_graph
from pellucid.ops import lookup

TIME = re.compile(r"[\d.]+ m?s\b")


@cache
def told(
    epochs: int = 2, seed: int = 0, stage: str | None = None, quiet: bool = False, width: int = 80
) -> str:
    """What the tour prints into a pipe."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, emoji=False, markup=False)
    with pe.device("cpu"):
        tour(console, Options(epochs, seed, stage, quiet))
    return stream.getvalue()


def accuracy(text: str) -> float:
    found = re.search(r"test accuracy ([\d.]+)%", text)
    assert found
    return float(found[1])


def timeless(text: str) -> str:
    return TIME.sub("TIME", text)


def test_all_stages_come_in_order():
    places = [told().index(f"\n{stage} · ") for stage in STAGES]
    assert places == sorted(places)


@pytest.mark.parametrize("seed", range(4))
def test_it_learns_to_read(seed: int):
    assert accuracy(told(epochs=20, seed=seed, quiet=True)) >= 96.0


def test_the_same_seed_gives_the_same_digits():
    assert timeless(told.__wrapped__()) == timeless(told())


def test_another_seed_gives_other_weights():
    assert told(seed=5, quiet=True).split()[-1] != told(seed=6, quiet=True).split()[-1]


def test_quiet_says_only_how_it_ended():
    text = told(quiet=True)
    assert text.startswith("test accuracy")
    assert len(text.splitlines()) == 3


def test_the_loss_of_each_epoch_is_shown():
    losses = [float(found) for found in re.findall(r"loss ([\d.]+)", told())]
    assert len(losses) == 2
    assert losses == sorted(losses, reverse=True)


def test_of_many_epochs_the_first_and_last_are_shown():
    shown = re.findall(r"epoch +(\d+)", told(epochs=30, stage="training"))
    assert (len(shown), shown[0], shown[-1]) == (12, "1", "30")


def test_a_stage_alone_is_whole():
    assert "lines more" in told()
    assert "lines more" not in told(stage="kernels")


@pytest.mark.parametrize("stage", ["definition", "kernels", "training", "pictures"])
def test_each_stage_can_be_seen_alone(stage: str):
    text = told(stage=stage)
    assert text.count(" · ") == 1
    assert f"{stage} · " in text


def test_a_quiet_graph_is_a_graph():
    assert len(parse_graph(told(stage="graph", quiet=True), lookup).outputs) == 16


def test_a_quiet_definition_is_python():
    compile(told(stage="definition", quiet=True), "definition", "exec")


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_is_wider_than_the_page(width: int):
    assert max(map(len, told(width=width).splitlines())) <= width


def test_what_it_misread_is_shown_too():
    captions = re.findall(r"reads (\d)(?:, is (\d))?", told(stage="pictures"))
    assert any(is_ for _, is_ in captions)
    assert any(not is_ for _, is_ in captions)
    assert all(reads != is_ for reads, is_ in captions)


def test_another_engine_says_which_stages_it_does_not_make():
    stream = io.StringIO()
    with pe.device("reference"):
        tour(Console(file=stream, width=80), Options(1, 0, None, False))
    assert "assembly: the engine 'reference' makes none" in stream.getvalue()
    assert accuracy(stream.getvalue()) > 50.0


def test_a_stream_without_blocks_gets_plain_pictures():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    with pe.device("cpu"):
        tour(Console(file=stream, width=80), Options(1, 0, "pictures", True))
    stream.seek(0)
    assert "##" in stream.read()


@pytest.mark.slow
def test_the_first_tour_ever_takes_less_than_twenty_seconds(tmp_path: Path):
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", "from pellucid.cli import main; main()", "tour"],
        env=os.environ | {"PELLUCID_CACHE_DIR": str(tmp_path / "kernels")},
        check=True,
        capture_output=True,
    )
    assert time.monotonic() - start < 20.0
