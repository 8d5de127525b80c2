"""The command ``jaxopt-lec``."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import jax
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxopt_lec.lab import report
from jaxopt_lec.lab.compare import HALF_DECADES, Budget, Comparison, Study
from jaxopt_lec.lab.contestants import DEFAULT, KNOWN, find_contestants
from jaxopt_lec.lab.errors import InputError
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
    workload: Annotated[str, typer.Option(help=f"What is trained: {', '.join(WORKLOADS)}.")] = "digits-mlp",
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The folder of IDX files for fashion-mnist and mnist.")
    ] = None,
    optimizers: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Separated by commas, from: {', '.join(KNOWN)}.")
    ] = ",".join(DEFAULT),
    optimizer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:FACTORY",
            help="Your own optimizer joins: factory(learning_rate) returns an Optax transformation. Repeatable.",
        ),
    ] = None,
    learning_rates: Annotated[
        str, typer.Option(metavar="NUMBERS", help="The grid that every optimizer is tuned over, ascending.")
    ] = ",".join(f"{rate:g}" for rate in HALF_DECADES),
    steps: Annotated[int, typer.Option(min=1, help="Training steps of every lane.")] = Budget.steps,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many seeds to tune on, and as many fresh ones to test on.")
    ] = Budget.seeds,
    activation: Annotated[Activation | None, typer.Option(help="Between layers; default: relu.")] = None,
    initializer: Annotated[Initializer, typer.Option(help="Of the weights: Xavier or N(0, 1).")] = Initializer.XAVIER,
    batch_norm: Annotated[bool, typer.Option("--batch-norm", help="Batch normalisation in hidden layers.")] = False,
    dropout: Annotated[float, typer.Option(help="Probability of dropping a hidden unit, in [0, 1).")] = 0.0,
    l2: Annotated[float, typer.Option(help="λ of the penalty λ/2 · Σ W² on the training loss.")] = 0.0,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where results and plots go.")] = Path("comparison"),
) -> None:
    """Train a real workload with several optimizers, each at the learning rate that validation data choose for it.

    Writes results.json, results.csv, loss_curves.png and learning_rates.png.
    """
    messages = Console(stderr=True)
    sys.path.append(str(Path.cwd()))  # where a user's own optimizer lies
    use_all_cores()
    remedies = Remedies(activation, initializer, batch_norm, dropout, l2)
    try:
        report.check_folder(out)
        budget = Budget(parse_rates(learning_rates), steps, seeds)
        contestants = find_contestants([*split(optimizers), *(optimizer or [])])
        study = Study(load_workload(workload, remedies, data), contestants, budget)
    except InputError as error:
        messages.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from error
    comparison = run_with_bar(study, messages)
    settings = {
        "workload": workload,
        "data": None if data is None else str(data),
        "optimizers": [contestant.spec for contestant in contestants],
        "activation": activation,
        "initializer": initializer,
        "batch_norm": batch_norm,
        "dropout": dropout,
        "l2": l2,
    }
    Console().print(report.table(comparison))
    for path in report.write(comparison, out, settings):
        messages.print(f"wrote {escape(str(path))}", soft_wrap=True, highlight=False)


def split(text: str) -> list[str]:
    """Split at commas; nothing at all is an empty list."""
    return [part.strip() for part in text.split(",")] if text.strip() else []


def parse_rates(text: str) -> tuple[float, ...]:
    """Read the learning rates.

    Raises:
        InputError: one is not a number.
    """
    rates = []
    for part in split(text):
        try:
            rates.append(float(part))
        except ValueError as error:
            raise InputError(f"--learning-rates: {part!r} is not a number") from error
    return tuple(rates)


def use_all_cores() -> None:
    """Let the CPU be as many devices as it has usable cores, unless the user or a running backend has decided."""
    if jax.config.jax_num_cpu_devices != -1:  # type: ignore[attr-defined]
        return
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # the backend runs already, as when a program calls this command
        jax.config.update("jax_num_cpu_devices", cores or 1)


def run_with_bar(study: Study, console: Console) -> Comparison:
    """Run a study under a live progress bar; without a terminal there is no bar."""
    columns = (
        TextColumn("{task.description:<30}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("lanes"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=study.lanes)
        return study.run(lambda status, lanes: bar.update(task, description=status, advance=lanes))
