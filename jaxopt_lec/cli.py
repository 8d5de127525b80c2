"""The command ``jaxopt-lec``."""

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.markup import escape

from jaxopt_lec.lab import report, surface_report
from jaxopt_lec.lab.compare import HALF_DECADES, Budget, Study
from jaxopt_lec.lab.contestants import DEFAULT, KNOWN, find_contestants
from jaxopt_lec.lab.devices import use_all_cores
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.files import as_path, check_folder, write_somewhere
from jaxopt_lec.lab.paths import Descent
from jaxopt_lec.lab.progress import Progress, lanes_bar, shown
from jaxopt_lec.lab.surfaces import SURFACES, find_surface
from jaxopt_lec.lab.terminal import Terminal, prepare_streams
from jaxopt_lec.lab.wording import divergence_words
from jaxopt_lec.lab.workloads import WORKLOADS, Activation, Initializer, Remedies, load_workload

# Exit codes, besides 0, 2 for wrong input and 130 for Ctrl-C.
NOT_SAVED = 1
ALL_DIVERGED = 3


class Commands(typer.core.TyperGroup):
    """The commands; their help and messages can be printed on any terminal."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command."""
        prepare_streams()
        return super().main(*args, **options)


app = typer.Typer(cls=Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


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
    batch_size: Annotated[int, typer.Option(min=1, help="Examples in a mini-batch.")] = Budget.batch_size,
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
    sys.path.append(str(Path.cwd()))  # where a user's own optimizer lies
    use_all_cores()
    remedies = Remedies(activation, initializer, batch_norm, dropout, l2)
    with told(out) as written:
        budget = Budget(parse_numbers("--learning-rates", learning_rates), steps, seeds, batch_size)
        contestants = find_contestants([*split(optimizers), *(optimizer or [])])
        study = Study(load_workload(workload, remedies, data), contestants, budget, target, baseline)
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
        files = report.numbers(comparison, settings)
        try:
            files = report.pages(comparison, settings) | files
        finally:  # if drawing fails, the numbers are written nevertheless
            written.write(files)
        Terminal().print(report.table(comparison))
    if all(result.selection is None for result in comparison.results):
        print_error(
            f"every lane diverged, with every optimizer. {comparison.results[0].name}: "
            f"{divergence_words(comparison.results[0])}"
        )
        raise typer.Exit(ALL_DIVERGED)


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
    sys.path.append(str(Path.cwd()))  # where a user's own optimizer lies
    use_all_cores()
    with told(out) as written:
        contestants = find_contestants([*split(optimizers), *(optimizer or [])])
        if page:
            surface_report.check_page([contestant.name for contestant in contestants])
        rates = None if learning_rates is None else parse_numbers("--learning-rates", learning_rates)
        place = None if start is None else parse_numbers("--start", start)
        descent = Descent(find_surface(name), contestants, rates, place, steps)
        with surface_progress() as progress:
            tracks, files = surface_report.surface_files(descent, animation=animation, page=page, progress=progress)
        written.write(files, own=surface_report.FILES)
        Terminal().print(surface_report.table(descent, tracks))


@app.command()
def gallery(
    scenes: Annotated[str, typer.Option(metavar="NAMES", help="Which, separated by commas.")] = ", ".join(
        surface_report.FIGURES
    ),
    animation: Annotated[bool, typer.Option("--animation", help="A GIF for each scene too.")] = False,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the pictures go.")] = Path("gallery"),
) -> None:
    """Draw the scenes that show what momentum, Nesterov's look-ahead and adaptive steps do, a picture for each claim."""
    use_all_cores()
    with told(out) as written:
        surface_report.check_scenes(split(scenes))
        with surface_progress() as progress:
            files = surface_report.gallery_files(split(scenes), animation=animation, progress=progress)
        written.write(files)


class Written:
    """The files that a command has written, in its folder or, if that failed, in a temporary one."""

    def __init__(self, folder: Path) -> None:
        """Start with no files."""
        self.folder = folder
        self.lines: list[str] = []
        self.place: Path | None = None
        self.failure: OSError | None = None

    def write(self, files: Mapping[str, bytes], own: Collection[str] = ()) -> None:
        """Write files, and remove other files of an earlier run whose names are in `own`."""
        self.place, self.failure = write_somewhere(self.folder, files)
        if self.place is not None:
            self.lines += [f"wrote {self.place / file}" for file in files]
        if self.failure is None:
            for file in own:
                if file not in files and (self.folder / file).is_file():
                    (self.folder / file).unlink()
                    self.lines.append(f"removed {self.folder / file}, which an earlier run had left")


@contextlib.contextmanager
def told(folder: Path) -> Iterator[Written]:
    """Check a command's folder, and print one line for wrong input, for each file that was written, or for Ctrl-C.

    Args:
        folder: where the command's files go; ``~`` is the user's home.

    Raises:
        typer.Exit: with the exit code for wrong input, or for files that could not be written into the folder.
    """
    written = Written(folder)
    try:
        written.folder = as_path("--out", folder)
        check_folder(written.folder)
        yield written
    except InputError as error:
        print_error(str(error))
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        kept = "" if written.lines else f" Nothing is kept of what was running, and nothing was written to {written.folder}."
        print_line(f"Interrupted.{kept}")
        raise
    finally:
        for line in written.lines:
            print_line(line)
    if written.failure is not None:
        instead = "nothing was saved" if written.place is None else f"the files are in {written.place} instead"
        print_error(f"{written.failure.filename}: {written.failure.strerror}; {instead}")
        raise typer.Exit(NOT_SAVED)


def print_line(text: str) -> None:
    """Print a line on standard error."""
    Terminal(stderr=True).print(escape(text), soft_wrap=True, highlight=False)


def print_error(text: str) -> None:
    """Print an error message on standard error."""
    Terminal(stderr=True).print(f"[bold red]Error:[/] {escape(text)}", soft_wrap=True, highlight=False)


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
    """Show the progress of drawing the pictures."""
    progress = Progress(None, "")
    with shown(progress):
        yield progress.set
