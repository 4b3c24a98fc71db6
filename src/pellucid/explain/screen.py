"""How does a stage look in a terminal? A heading, a sentence of why, and as much text as fits.

A `Screen` is data; `show` draws one on a rich Console, which knows the terminal's width, whether it
has colours, and whether it is one at all.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Final, Literal

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from pellucid.explain.abridge import abridge, clip

Language = Literal[
    "", "python", "graph", "changes", "loops", "llvm", "assembly", "bars", "memory", "profile"
]

PIPED_ROWS: Final = 28
"""Lines of a stage's text where there is no terminal whose height could be asked."""

MOST_ROWS: Final = 28
FEWEST_ROWS: Final = 6
"""Lines of a stage's text at most and at least, however high a terminal is."""

MOST_WIDTH: Final = 120
PIPED_WIDTH: Final = 100
"""How wide a page is at most: more is hard to read, and a file is read in any editor."""

_CODE: Final = (
    (r"%\d+", "cyan"),
    (r"\b(?:b?float|u?int|bool)\d*(?:\[[^\]]*\])?", "green"),
    (r"(?<== )\w+(?=\()", "bold"),
    (r"(?m)^\s*(?:kernel|for|reduce|contract|store|read|write|thread|vector|unroll)\b", "bold"),
)

# What stands out in a text, and how; Python is coloured by a library.
_MARKS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "graph": _CODE,
    "loops": _CODE,
    # What multiplies stands out: it is what the rest is there for.
    "llvm": (
        (r"<\d+ x \w+>|\b(?:i\d+|float|double|ptr)\b", "green"),
        (r"%[\w.]+", "cyan"),
        (r"@llvm\.fma[\w.]*|\bfmul\b", "bold yellow"),
    ),
    "assembly": (
        (r"%\w+", "cyan"),
        (r"(?m)^[.\w]+:", "bold"),
        (r"(?m)^\s+(?:\w*fn?madd\w*|\w*mul[ps][sd]|fml[as])\b", "bold yellow"),
    ),
    "changes": ((r"−\d+ \w+", "red"), (r"\+\d+ \w+", "green"), (r"nothing left to do", "dim")),
    "bars": ((r"[▁-▏█]+", "cyan"),),
    "memory": ((r"\A.*", "bold"), (r"%\d+", "cyan"), (r"█+", "green"), (r"·+", "dim")),
    # The title, the sum, and kernels that take a tenth of the time or more.
    "profile": (
        (r"\A.*", "bold"),
        (r"(?m)^ *[\d…]* +all .*$", "bold"),
        (r"(?m)^.* \d{2}\.\d% .*$", "yellow"),
        (r"(?m)^ *(?:\d+|…)  ", "cyan"),
    ),
}


@dataclass(frozen=True)
class Screen:
    """One stage for a person: its name and title, why it is there, its text, a line of facts.

    `language` says how the text is coloured. On one page stands its `short` form if there is one,
    abridged `around` the lines that match, if that is said, and not at all if it is a `drawing`.
    """

    name: str
    title: str
    why: str
    text: str
    facts: str = ""
    language: Language = ""
    short: str = ""
    around: str = ""
    drawing: bool = False


def show(console: Console, screen: Screen, place: str = "") -> None:
    """Draw a screen, its text cut to one page; `place` says where it stands among others."""
    show_heading(console, screen, place)
    show_text(console, screen)


def show_heading(console: Console, screen: Screen, place: str = "") -> None:
    """Draw the name of a stage, and why it is there."""
    width = width_of(console)
    end = f" {place}" if place else ""
    title = clip(f"{screen.name} · {screen.title}", width - len(end))
    line = "-" if console.options.ascii_only else "─"
    rule = f" {line * (width - len(title) - len(end) - 1)}"[: width - len(title) - len(end)]
    parts = ((screen.name, "bold cyan"), title[len(screen.name) :], (rule, "cyan"), (end, "dim"))
    console.print()
    console.print(Text.assemble(*parts), soft_wrap=True)
    console.print(wrapped(screen.why, width), style="italic", soft_wrap=True)
    console.print()


def show_text(console: Console, screen: Screen) -> None:
    """Draw what is under the heading, the text cut to one page."""
    text = (screen.short or screen.text).expandtabs()
    if not screen.drawing:
        text = abridge(text, _rows(console, screen), width_of(console), screen.around)
    _print_code(console, text, screen.language)
    show_facts(console, screen)


def show_facts(console: Console, screen: Screen) -> None:
    """Draw the line of facts, if there is one."""
    if screen.facts:
        console.print()
        console.print(wrapped(screen.facts, width_of(console)), style="dim", soft_wrap=True)


def show_whole(console: Console, screen: Screen) -> None:
    """Print all of a screen's text, nothing cut or wrapped: to be read in a pager or a file."""
    _print_code(console, screen.text, screen.language)


def width_of(console: Console) -> int:
    """The width of a page: that of the terminal, but not wider than reads well."""
    return min(console.width, MOST_WIDTH if console.is_terminal else PIPED_WIDTH)


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` characters, without blanks at their ends."""
    return "\n".join(textwrap.fill(line, max(width, 1)) for line in text.split("\n"))


def _rows(console: Console, screen: Screen) -> int:
    """How many lines of text a page has room for."""
    if not console.is_terminal:
        return PIPED_ROWS
    around = "\n".join((screen.why, screen.facts))
    lines = wrapped(around, width_of(console)).count("\n") + 1
    # Besides: the heading, blank lines around it and the text, and the prompt.
    return max(FEWEST_ROWS, min(MOST_ROWS, console.height - lines - 5))


def _print_code(console: Console, text: str, language: Language) -> None:
    # soft_wrap: rich neither wraps nor pads, so a copied or piped line is the line itself.
    console.print(_coloured(text, language), soft_wrap=True)


def _coloured(text: str, language: Language) -> Text:
    if language == "python":
        found = Syntax("", "python", theme="ansi_dark").highlight(text)
        found.rstrip()
    else:
        found = Text(text)
    for pattern, style in _MARKS.get(language, ()):
        found.highlight_regex(pattern, style)
    # Where lines were left out, or cut, is neither code nor, as the lexer thinks, an error.
    found.highlight_regex(r"(?m)^… .* …$|…$", "dim default")
    return found
