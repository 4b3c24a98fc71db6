"""What can the command line do? Its commands and options; the work is done in the files beside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import pellucid as pe
from pellucid.cli import storage
from pellucid.cli.machine import describe_engine
from pellucid.cli.model import MODELS
from pellucid.cli.tour import STAGES, Options
from pellucid.cli.tour import tour as run_tour

app = typer.Typer(
    help="An AI framework that can be seen through, from the model to the machine code.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def known_model(name: str) -> str:
    """The name of a model of the tour; the error lists them."""
    if name not in MODELS:
        raise typer.BadParameter(f"no model is called {name!r}; there are {', '.join(MODELS)}")
    return name


def known_stage(name: str | None) -> str | None:
    """The name of a stage of the tour, or none; the error lists them."""
    if name is not None and name not in STAGES:
        raise typer.BadParameter(f"no stage is called {name!r}; there are {', '.join(STAGES)}")
    return name


@app.command()
def tour(
    model: Annotated[
        str,
        typer.Option(metavar="|".join(MODELS), callback=known_model, help="Which one to train."),
    ] = Options.model,
    epochs: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="How often to go through the training images."),
    ] = Options.epochs,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**64 - 1, metavar="N", help="Where all random numbers come from."),
    ] = Options.seed,
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
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the trained weights there, as safetensors."),
    ] = None,
) -> None:
    """Train a model on handwritten digits and look at every stage on the way to machine code."""
    run_tour(console(), Options(model, epochs, seed, stage, quiet, save))


@app.command()
def version() -> None:
    """Print the version."""
    print(f"pellucid {pe.__version__}")


@app.command()
def devices() -> None:
    """List the engines that can run a program; the first is the default."""
    for name in pe.devices():
        print(f"{name:10} {describe_engine(name)}".rstrip())


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is kept there.")] = False,
) -> None:
    """Show the machine code and the tuned schedules that are kept on disk, or remove them."""
    if clear:
        print(storage.clear())
    print(storage.describe())


def console() -> Console:
    """The terminal, or whatever the output goes to; nothing it cannot show is an error."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return Console(highlight=False, emoji=False, markup=False)
