"""What can the command line do? Its commands and options; the work is done in the files beside."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

import pellucid as pe
from pellucid.cli import storage
from pellucid.cli.tour import STAGES, Options
from pellucid.cli.tour import tour as run_tour
from pellucid.engines.llvm.target import host_isa

app = typer.Typer(
    help="An AI framework that can be seen through, from the model to the machine code.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def known_stage(name: str | None) -> str | None:
    """The name of a stage of the tour, or none; the error lists them."""
    if name is not None and name not in STAGES:
        raise typer.BadParameter(f"no stage is called {name!r}; there are {', '.join(STAGES)}")
    return name


@app.command()
def tour(
    epochs: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="How often to go through the training images."),
    ] = 20,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**64 - 1, metavar="N", help="Where all random numbers come from."),
    ] = 0,
    stage: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            callback=known_stage,
            help=f"Show this stage only, and whole: {', '.join(STAGES)}.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print results only, or a stage's bare text.")
    ] = False,
) -> None:
    """Train a model on handwritten digits and look at every stage on the way to machine code."""
    run_tour(console(), Options(epochs, seed, stage, quiet))


@app.command()
def version() -> None:
    """Print the version."""
    print(f"pellucid {pe.__version__}")


@app.command()
def devices() -> None:
    """List the engines that can run a program; the first is the default."""
    details = {
        "cpu": f"{host_isa().name}, {count_threads()}",
        "reference": "NumPy, op by op: slow, and right by definition",
    }
    for name in pe.devices():
        print(f"{name:10} {details.get(name, '')}".rstrip())


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is kept there.")] = False,
) -> None:
    """Show the machine code that is kept on disk, or remove it."""
    if clear:
        print(storage.clear())
    print(storage.describe())


def count_threads() -> str:
    """On how many threads the CPU engine runs at most, in words."""
    threads = pe.get_threads()
    return f"{threads} thread{'s' * (threads > 1)}"


def console() -> Console:
    """The terminal, or whatever the output goes to; nothing it cannot show is an error."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return Console(highlight=False, emoji=False, markup=False)
