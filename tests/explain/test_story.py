"""Does each recorded stage have a screen that tells what is in it, and does a page hold it?"""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

import pellucid as pe
from pellucid.explain import graph_of, profiles, summaries
from pellucid.explain.screen import Screen, show, show_whole
from pellucid.explain.story import PROFILED, SCREENS, profile_screen, screens
from pellucid.ir.record import Record
from pellucid.ir.text import parse_graph
from pellucid.ops import lookup

SIZES = [(80, 24), (120, 50), (40, 24)]


@pytest.fixture(scope="module")
def record() -> Record:
    weight = pe.Parameter(pe.ones((4, 8)))

    @pe.jit
    def step(x: pe.Tensor) -> pe.Tensor:
        loss = pe.mean(pe.tanh(x @ weight))
        loss.backward()
        weight.assign(weight - 0.1 * weight.grad)
        weight.grad = None
        return loss

    with pe.device("cpu"), pe.recording() as found:
        step.compile(pe.ones((16, 4)))
    return found


def drawn(screen: Screen, width: int, height: int, **how: object) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, highlight=False, **how)
    show(console, screen)
    return stream.getvalue()


def test_every_stage_on_the_way_down_has_a_screen(record: Record):
    assert [screen.name for screen in screens(record)] == list(SCREENS)


def test_an_engine_that_makes_no_code_has_no_screens_of_it():
    with pe.device("reference"), pe.recording() as record:
        pe.jit(pe.tanh).compile(pe.zeros((3,)))
    assert [screen.name for screen in screens(record)] == ["graph", "passes", "kernels"]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_fits_a_page(record: Record, name: str, width: int, height: int):
    text = drawn(SCREENS[name][1](record), width, height, force_terminal=True, color_system=None)
    lines = text.split("\n")
    assert max(map(len, lines)) <= width
    if width >= 80:
        assert len(lines) <= height


@pytest.mark.parametrize("name", SCREENS)
def test_a_pipe_gets_no_colours(record: Record, name: str):
    assert "\x1b" not in drawn(SCREENS[name][1](record), 80, 24)


@pytest.mark.parametrize("name", SCREENS)
def test_colours_change_no_character(record: Record, name: str):
    plain = drawn(SCREENS[name][1](record), 80, 24, force_terminal=True, color_system=None)
    colour = io.StringIO()
    console = Console(
        file=colour, width=80, height=24, force_terminal=True, color_system="standard"
    )
    show(console, SCREENS[name][1](record))
    assert "\x1b" in colour.getvalue()
    assert _without_escapes(colour.getvalue()) == plain


def test_the_whole_graph_parses_back(record: Record):
    stream = io.StringIO()
    show_whole(Console(file=stream, width=40), SCREENS["graph"][1](record))
    assert parse_graph(stream.getvalue(), lookup).inputs


def test_the_shown_machine_code_multiplies_and_adds(record: Record):
    screen = SCREENS["assembly"][1](record)
    assert any(word in drawn(screen, 80, 24) for word in ("fmadd", "mulps"))


@pytest.mark.parametrize("name", SCREENS)
def test_one_sentence_says_why_a_stage_is_there(record: Record, name: str):
    why = SCREENS[name][1](record).why
    assert why.endswith(".")
    assert ". " not in why


def test_the_kernel_that_is_followed_down_is_the_one_that_computes_most():
    with pe.device("cpu"), pe.recording() as record:
        pe.jit(lambda x: pe.exp(x @ x) @ pe.sum(x, axis=0)).compile(pe.ones((64, 64)))
    kernels = summaries(graph_of(record.named("fuse")[-1]))
    (number,) = [n for n, kernel in enumerate(kernels) if kernel.ops[0][0] == "dot_general"][:1]
    for name in ("loops", "llvm", "assembly"):
        screen = SCREENS[name][1](record)
        assert f"kernel {number}," in screen.title
    assert "contract" in SCREENS["loops"][1](record).text


@pytest.mark.parametrize("fast", [False, True])
def test_changed_rounding_is_told_where_passes_are_shown(fast: bool):
    with pe.device("cpu"), pe.recording() as record:
        made = pe.jit(lambda x: x / 3.0, fast=fast).compile(pe.ones((3,)))
    text = SCREENS["passes"][1](record).text
    assert ("rounding was changed" in text) == fast
    assert all(str(one) in text for one in made.rewrites)


def test_a_program_that_only_copies_has_screens_too():
    with pe.device("cpu"), pe.recording() as record:
        pe.jit(lambda x: x).compile(pe.ones((3,)))
    found = {screen.name: screen for screen in screens(record)}
    assert "copy" in found["loops"].text
    assert found["loops"].title.startswith("a copy")


def test_of_several_compilations_the_last_is_shown():
    with pe.device("cpu"), pe.recording() as record:
        pe.jit(lambda x: x @ x).compile(pe.ones((64, 64)))
        pe.jit(pe.tanh).compile(pe.ones((3,)))
    assert "tanh" in SCREENS["loops"][1](record).text


@pytest.mark.parametrize(("width", "height"), SIZES[:2])
def test_a_profile_fits_a_page(width: int, height: int):
    work = pe.jit(lambda x: [pe.sum(x * n, axis=n % 2) @ x for n in range(30)])
    with pe.device("cpu"), pe.recording(timed=True) as record:
        work(pe.ones((20, 20)))
    (profile,) = profiles(record)
    assert len(profile.kernels) > PROFILED
    facts = "From step to step it takes 1.23 ms; the other 0.23 ms go elsewhere, here and there."
    screen = profile_screen(profile, width, facts)
    lines = drawn(screen, width, height, force_terminal=True, color_system=None).split("\n")
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    assert not any("lines more" in line for line in lines)


def test_the_memory_screen_leaves_out_what_the_caller_holds(record: Record):
    screen = SCREENS["memory"][1](record)
    assert " at input 0" in screen.text
    assert " at input 0" not in drawn(screen, 80, 24)


def _without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
