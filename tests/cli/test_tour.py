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
from typing import Any

import pytest
from rich.console import Console

import pellucid as pe
from pellucid.cli.pages import MOST_BARS
from pellucid.cli.tour import STAGES, Options, tour
from pellucid.explain.screen import PIPED_WIDTH
from pellucid.ir.text import parse_graph, print_graph
from pellucid.ops import lookup

PELLUCID = [sys.executable, "-c", "from pellucid.cli import main; main()"]


# What is measured: times, and in a profile all that is computed from them.
MEASURED = re.compile(
    r"""[\d.]+\sm?s\b  # 1.23 ms
    |  \ +[\d.]+\ +[\d.]+%  # a kernel's time and its share
    |  \ +\d+\.\d(\ +\d+\.\d)?$  # what it achieved""",
    re.MULTILINE | re.VERBOSE,
)


@cache
def told(width: int = 80, **options: Any) -> str:
    """What the tour prints into a pipe; of the small model, unless told otherwise."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, emoji=False, markup=False)
    with pe.device("cpu"):
        tour(console, Options(**{"model": "mlp", "epochs": 2, **options}))
    return stream.getvalue()


def accuracy(text: str) -> float:
    found = re.search(r"test accuracy ([\d.]+)%", text)
    assert found
    return float(found[1])


def timeless(text: str) -> str:
    """All that is the same from run to run; where lines break depends on the digits of times."""
    return " ".join(MEASURED.sub(" MEASURED", text).split())


def test_all_stages_come_in_order():
    places = [told().index(f"\n{stage} · ") for stage in STAGES]
    assert places == sorted(places)


def test_it_learns_to_read():
    assert accuracy(told(**vars(Options(quiet=True)))) >= 98.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
def test_it_learns_to_read_from_any_seed(seed: int):
    assert accuracy(told(**vars(Options(seed=seed, quiet=True)))) >= 98.0


def test_the_small_model_learns_to_read():
    assert accuracy(told(epochs=15, quiet=True)) >= 96.0


def test_the_same_seed_gives_the_same_digits():
    assert timeless(told.__wrapped__()) == timeless(told())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_digits_in_another_process_on_one_thread():
    found = [
        subprocess.run(
            [*PELLUCID, "tour"],
            env=os.environ | {"PELLUCID_THREADS": threads},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.replace("1 thread)", "2 threads)")
        for threads in ("1", "2")
    ]
    assert timeless(found[0]) == timeless(found[1])


def test_a_convolution_is_followed_down_by_default():
    text = told(model="cnn", stage="loops", width=100)
    assert "convolution" in text
    assert "contract" in text


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
    assert (len(shown), shown[0], shown[-1]) == (MOST_BARS, "1", "30")


@pytest.mark.parametrize("stage", STAGES)
def test_one_sentence_says_why_a_stage_is_there(stage: str):
    screens = re.split(r"(?m)^(?=\w+ · )", told())
    (screen,) = [one for one in screens if one.startswith(f"{stage} · ")]
    why = " ".join(screen.split("\n\n")[0].splitlines()[1:])
    assert why.endswith(".")
    assert ". " not in why


def test_a_stage_alone_is_whole():
    assert "lines more" in told()
    assert "lines more" not in told(stage="kernels")


@pytest.mark.parametrize("stage", ["definition", "kernels", "profile", "saving", "pictures"])
def test_each_stage_can_be_seen_alone(stage: str):
    text = told(stage=stage)
    assert text.count(" · ") == 1
    assert f"{stage} · " in text


def test_a_quiet_graph_is_a_graph():
    text = told(stage="graph", quiet=True)
    assert print_graph(parse_graph(text, lookup)) == text.rstrip("\n")


def test_a_quiet_definition_is_python():
    compile(told(stage="definition", quiet=True), "definition", "exec")


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_is_wider_than_the_page(width: int):
    assert max(map(len, told(width=width).splitlines())) <= width


def test_the_profile_names_every_kernel_and_its_shares_add_up():
    kernels = told(stage="kernels", quiet=True).splitlines()[1:]
    rows = told(stage="profile", quiet=True).splitlines()[1:-1]
    numbers = [row.split()[0] for row in rows]
    assert set(numbers) <= {row.split()[0] for row in kernels}
    shares = [float(share) for share in re.findall(r"([\d.]+)%", "\n".join(rows))]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(rows))


def test_a_new_process_finds_the_same_bits():
    text = told(stage="saving")
    rows = re.findall(r"(?m)^(?:weights|scores) +(\w{16})  (\w{16})  the same$", text)
    assert [here == there for here, there in rows] == [True, True]
    assert rows[0][0] == told(quiet=True).split()[-1]


def test_what_it_misread_is_shown_too():
    captions = re.findall(r"reads (\d)(?:, is (\d))?", told(stage="pictures"))
    assert any(is_ for _, is_ in captions)
    assert any(not is_ for _, is_ in captions)
    assert all(reads != is_ for reads, is_ in captions)


def test_another_engine_says_which_stages_it_does_not_make():
    stream = io.StringIO()
    with pe.device("reference"):
        tour(Console(file=stream, width=80), Options("mlp", 1))
    assert "assembly: the engine 'reference' makes none" in stream.getvalue()
    assert accuracy(stream.getvalue()) > 50.0


def test_a_stream_without_blocks_gets_plain_pictures():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    with pe.device("cpu"):
        tour(Console(file=stream, width=80), Options("mlp", 1, stage="pictures", quiet=True))
    stream.seek(0)
    assert "##" in stream.read()


def test_a_pipe_gets_lines_of_at_most_a_hundred_characters():
    assert max(map(len, told(width=300).splitlines())) <= PIPED_WIDTH


def test_no_line_ends_in_blanks_that_wrapping_left():
    assert not [line for line in told().splitlines() if line.endswith(" ")]


@pytest.mark.slow
def test_the_first_tour_ever_takes_less_than_thirty_seconds(tmp_path: Path):
    start = time.monotonic()
    subprocess.run(
        [*PELLUCID, "tour"],
        env=os.environ | {"PELLUCID_CACHE_DIR": str(tmp_path / "kernels")},
        check=True,
        capture_output=True,
    )
    assert time.monotonic() - start < 30.0
