"""The command ``jaxopt-lec``."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from jaxopt_lec.lab import report, surface_report
from jaxopt_lec.lab.compare import HALF_DECADES, Budget, Study
from jaxopt_lec.lab.contestants import DEFAULT, KNOWN, find_contestants
from jaxopt_lec.lab.devices import use_all_cores
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.paths import Descent
from jaxopt_lec.lab.progress import Progress, lanes_bar, shown
from jaxopt_lec.lab.surfaces import SURFACES, find_surface
from jaxopt_lec.lab.workloads import WORKLOADS, Activation, Initializer, Remedies, load_workload

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def show_version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        typer.echo(f"jaxopt-lec {report.version('jaxopt_lec') or '(not installed)'}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Optimizers for JAX, compared fairly."""


@app.command()
def compare(
    workload: Annotated[
        str, typer.Option(help=f"What is trained: {', '.join(WORKLOADS)}; your own: FILE.py:MAKE or MODULE:MAKE.")
    ] = "digits-mlp",
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The folder of IDX files, or the text of characters."),
    ] = None,
    optimizers: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Separated by commas, from: {', '.join(KNOWN)}.")
    ] = ", ".join(DEFAULT),
    optimizer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE.py:FACTORY",
            help="Your own optimizer joins, or any other, such as jaxopt_lec:lamb: factory(learning_rate) returns an Optax "
            "transformation. Repeatable.",
        ),
    ] = None,
    learning_rates: Annotated[
        str, typer.Option(metavar="NUMBERS", help="The grid that every optimizer is tuned over, ascending.")
    ] = ", ".join(f"{rate:g}" for rate in HALF_DECADES),
    steps: Annotated[int, typer.Option(min=1, help="Training steps of every lane.")] = Budget.steps,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many seeds to tune on, and as many fresh ones to test on.")
    ] = Budget.seeds,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which optimizer the others are compared with; default: adam, else the first."),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="A validation score to be reached, such as 0.95 for 95 % accuracy; default: what the baseline reaches.",
        ),
    ] = None,
    activation: Annotated[Activation | None, typer.Option(help="Between layers; default: relu.")] = None,
    initializer: Annotated[Initializer, typer.Option(help="Of the weights: Xavier or N(0, 1).")] = Initializer.XAVIER,
    batch_norm: Annotated[bool, typer.Option("--batch-norm", help="Batch normalisation in hidden layers.")] = False,
    dropout: Annotated[float, typer.Option(help="Probability of dropping a hidden unit, in [0, 1).")] = 0.0,
    l2: Annotated[float, typer.Option(help="λ of the penalty λ/2 · Σ W² on the training loss.")] = 0.0,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where results and plots go.")] = Path("comparison"),
) -> None:
    """Train a real workload with several optimizers, each at the learning rate that validation data choose for it.

    Writes report.html, a page with all of it, and results.json, results.csv, evaluations.csv and two plots.
    """
    messages = Console(stderr=True)
    sys.path.append(str(Path.cwd()))  # where a user's own optimizer lies
    use_all_cores()
    remedies = Remedies(activation, initializer, batch_norm, dropout, l2)
    try:
        report.check_folder(out)
        budget = Budget(parse_numbers("--learning-rates", learning_rates), steps, seeds)
        contestants = find_contestants([*split(optimizers), *(optimizer or [])])
        study = Study(load_workload(workload, remedies, data), contestants, budget, target, baseline)
    except InputError as error:
        messages.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from error
    with lanes_bar(study.lanes) as report_lanes:
        comparison = study.run(report_lanes)
    settings = {
        "workload": workload,
        "data": None if data is None else str(data),
        "optimizers": [contestant.spec for contestant in contestants],
        "baseline": baseline,
        "target": target,
        "activation": activation,
        "initializer": initializer,
        "batch_norm": batch_norm,
        "dropout": dropout,
        "l2": l2,
    }
    Console().print(report.table(comparison))
    for path in report.write(comparison, out, settings):
        messages.print(f"wrote {escape(str(path))}", soft_wrap=True, highlight=False)


@app.command()
def surface(
    name: Annotated[str, typer.Option("--surface", metavar="NAME", help=f"One of: {', '.join(SURFACES)}.")] = "ravine",
    optimizers: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Separated by commas, from: {', '.join(KNOWN)}.")
    ] = ", ".join(surface_report.DEFAULT),
    optimizer: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE.py:FACTORY", help="Your own optimizer joins, as in compare. Repeatable."),
    ] = None,
    learning_rates: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="One for all optimizers or one each; default: for each the best of 0.0001 to 10, in half decades.",
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="X,Y", help="Where the paths begin; every surface has a default.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of every path.")] = Descent.steps,
    animation: Annotated[bool, typer.Option("--animation", help="Write surface.gif too, in which the paths grow.")] = False,
    page: Annotated[bool, typer.Option("--page", help="Write surface.html too, an interactive page.")] = False,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the pictures go.")] = Path("surface"),
) -> None:
    """Draw the paths that optimizers take over a loss surface.

    Writes surface.png, and surface.gif and surface.html if asked for.
    """
    messages = Console(stderr=True)
    sys.path.append(str(Path.cwd()))  # where a user's own optimizer lies
    use_all_cores()
    try:
        report.check_folder(out)
        contestants = find_contestants([*split(optimizers), *(optimizer or [])])
        if page:
            surface_report.check_page([contestant.name for contestant in contestants])
        rates = None if learning_rates is None else parse_numbers("--learning-rates", learning_rates)
        place = None if start is None else parse_numbers("--start", start)
        descent = Descent(find_surface(name), contestants, rates, place, steps)
    except InputError as error:
        messages.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from error
    with surface_progress() as progress:
        tracks, files = surface_report.surface_files(descent, animation=animation, page=page, progress=progress)
    Console().print(surface_report.table(descent, tracks))
    write_files(files, out, messages)


@app.command()
def gallery(
    scenes: Annotated[str, typer.Option(metavar="NAMES", help="Which, separated by commas.")] = ", ".join(
        surface_report.FIGURES
    ),
    animation: Annotated[bool, typer.Option("--animation", help="A GIF for each scene too.")] = False,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the pictures go.")] = Path("gallery"),
) -> None:
    """Draw the scenes that show what momentum, Nesterov's look-ahead and adaptive steps do, a picture for each claim."""
    messages = Console(stderr=True)
    use_all_cores()
    try:
        report.check_folder(out)
        surface_report.check_scenes(split(scenes))
    except InputError as error:
        messages.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from error
    with surface_progress() as progress:
        files = surface_report.gallery_files(split(scenes), animation=animation, progress=progress)
    write_files(files, out, messages)


def split(text: str) -> list[str]:
    """Split at commas; nothing at all is an empty list."""
    return [part.strip() for part in text.split(",")] if text.strip() else []


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """Read the numbers that an option was given.

    Raises:
        InputError: one is not a number.
    """
    numbers = []
    for part in split(text):
        try:
            numbers.append(float(part))
        except ValueError as error:
            raise InputError(f"{option}: {part!r} is not a number") from error
    return tuple(numbers)


@contextlib.contextmanager
def surface_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show how far the pictures are."""
    progress = Progress(None, "")
    with shown(progress):
        yield progress.set


def write_files(files: Mapping[str, bytes], folder: Path, console: Console) -> None:
    """Write files into a folder, which is made if need be, and say so."""
    folder.mkdir(parents=True, exist_ok=True)
    report.write_whole(folder, files)
    for file in files:
        console.print(f"wrote {escape(str(folder / file))}", soft_wrap=True, highlight=False)
