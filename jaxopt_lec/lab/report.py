"""What a study leaves behind: a table on the terminal, and results.json, results.csv and two plots in a folder."""

import importlib.metadata
import io
import json
import math
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from jaxopt_lec.lab.compare import Comparison, Mean, Result
from jaxopt_lec.lab.errors import InputError

# Okabe & Ito's colours, told apart with any colour vision; from the ninth optimizer on the line style differs too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)))
PACKAGES = ("jaxopt_lec", "jax", "jaxlib", "optax", "flax", "numpy", "scikit-learn")
SMOOTHED = 0.04  # the share of the steps that the loss curves' running mean spans


def version(package: str) -> str | None:
    """Return the installed version of a package, None if it runs from a source tree."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- the table ---------------------------------------------------------------------------------------------------------


def table(comparison: Comparison) -> Table:
    """Return the results as a table, best test accuracy first."""
    budget = comparison.budget
    made = Table(
        title=f"{comparison.workload}: {budget.steps} steps of {budget.batch_size} examples, "
        f"tested on {count(budget.seeds, 'fresh seed')}",
        caption="\n".join(notes(comparison)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    made.add_column("optimizer", no_wrap=True)
    made.add_column("learning\nrate", justify="right", no_wrap=True)
    made.add_column("validation\naccuracy %", justify="right", no_wrap=True)
    made.add_column("test\naccuracy %", justify="right", no_wrap=True, style="bold")
    made.add_column("test\nloss", justify="right", no_wrap=True)
    made.add_column("diverged\nlanes", justify="right", no_wrap=True)
    for result in ranked(comparison.results):
        lanes = (*result.tuning, *result.fresh)
        diverged = f"{sum(run.diverged for run in lanes)} of {len(lanes)}"
        if result.selection is None:
            made.add_row(result.name, "–", "–", "–", "–", diverged, style="dim")
            continue
        mark = "*" if result.selection.edge else " "
        made.add_row(
            result.name,
            f"{result.selection.learning_rate:g}{mark}",
            f"{100 * result.selection.accuracy:.2f}",
            plus_minus(result.accuracy, 100, 2),
            plus_minus(result.loss, 1, 4),
            diverged,
        )
    return made


def ranked(results: Sequence[Result]) -> list[Result]:
    """Order results by test accuracy, those that have none last."""

    def rank(result: Result) -> float:
        mean = result.accuracy.mean
        return math.inf if math.isnan(mean) else -mean

    return sorted(results, key=rank)


def notes(comparison: Comparison) -> list[str]:
    """Return what a reader of the table has to know."""
    budget = comparison.budget
    lines = [
        f"Learning rate: best of {len(budget.learning_rates)}, on validation data, mean of "
        f"{count(budget.seeds, 'seed')}. ±: standard error."
    ]
    for edge in ("lowest", "highest"):
        names = [r.name for r in comparison.results if r.selection is not None and r.selection.edge == edge]
        if names:
            rate = min(budget.learning_rates) if edge == "lowest" else max(budget.learning_rates)
            lines.append(f"* The {edge} of the grid, {rate:g}; the best may lie beyond: {', '.join(names)}.")
    for result in comparison.results:
        lost = sum(run.diverged for run in result.fresh)
        if lost:
            lines.append(f"{result.name}: {lost} of {len(result.fresh)} test lanes diverged; the others' mean is shown.")
        if result.selection is None:
            lines.append(f"{result.name}: every lane diverged, so nothing was tested.")
    plan = comparison.plan
    lines.append(
        f"{comparison.lanes} lanes on {count(len(plan.devices), f'{plan.devices[0].platform.upper()} device')}, "
        f"groups of {plan.group} (measured). {comparison.seconds:.0f} s: "
        f"{comparison.setup_seconds:.0f} set-up and measuring, "
        f"{sum(r.compile_seconds for r in comparison.results[1:]):.0f} compiling, "
        f"{sum(r.run_seconds for r in comparison.results):.0f} running."
    )
    return lines


def count(n: int, noun: str) -> str:
    """Return "1 seed", "2 seeds"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def plus_minus(mean: Mean, scale: float, digits: int) -> str:
    """Return mean ± standard error; a single lane has no standard error."""
    if math.isnan(mean.mean):
        return "–"
    error = "–" if math.isnan(mean.standard_error) else f"{scale * mean.standard_error:.{digits}f}"
    return f"{scale * mean.mean:.{digits}f} ± {error}"


# --- the files ---------------------------------------------------------------------------------------------------------


def check_folder(folder: Path) -> None:
    """Check that results can be written into a folder, which need not exist yet.

    Raises:
        InputError: it, or what it would have to be made in, is not a folder or not writable.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{folder}: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: {existing} is not writable")


def write(comparison: Comparison, folder: Path, settings: Mapping[str, Any]) -> list[Path]:
    """Write results.json, results.csv, loss_curves.png and learning_rates.png, each whole or not at all.

    Args:
        comparison: the study.
        folder: where to; it is made if need be.
        settings: what the study was asked for, kept in results.json as ``settings``.
    """
    # All that can fail is done before the first file is touched.
    contents = {
        "results.json": json.dumps(as_json(comparison, settings), indent=1, allow_nan=False, ensure_ascii=False).encode(),
        "results.csv": as_frame(comparison).to_csv(index=False).encode(),
        "loss_curves.png": png(loss_curves(comparison)),
        "learning_rates.png": png(learning_rates(comparison)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder, contents)
    return [folder / name for name in contents]


def write_whole(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files so that, whatever fails, no name ever holds half a file: first all beside, then all into place."""
    written: list[tuple[Path, Path]] = []
    try:
        for name, content in contents.items():
            descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
            written.append((Path(temporary), folder / name))
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o666 & ~current_umask())  # mkstemp's files are private
        for path, target in written:
            path.replace(target)
    finally:
        for path, _ in written:
            path.unlink(missing_ok=True)


def current_umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def as_json(comparison: Comparison, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole study as JSON values; what is not finite is null."""
    budget, plan = comparison.budget, comparison.plan

    def mean(value: Mean) -> dict[str, float | None]:
        return {"mean": finite(value.mean), "standard_error": finite(value.standard_error)}

    optimizers = []
    for result in comparison.results:
        chosen = result.selection
        optimizers.append(
            {
                "name": result.name,
                "spec": result.spec,
                "tuning": [
                    {
                        "learning_rate": run.learning_rate,
                        "seed": run.seed,
                        "validation_accuracy": None if run.diverged else finite(run.accuracy),
                        "validation_loss": finite(run.loss),
                        "training_loss": finite(run.training_loss),
                        "diverged": run.diverged,
                    }
                    for run in result.tuning
                ],
                "selected": None
                if chosen is None
                else {
                    "learning_rate": chosen.learning_rate,
                    "validation_accuracy": chosen.accuracy,
                    "edge_of_grid": chosen.edge,
                },
                "fresh": [
                    {
                        "seed": run.seed,
                        "test_accuracy": None if run.diverged else finite(run.accuracy),
                        "test_loss": finite(run.loss),
                        "training_loss": finite(run.training_loss),
                        "diverged": run.diverged,
                    }
                    for run in result.fresh
                ],
                "test_accuracy": mean(result.accuracy),
                "test_loss": mean(result.loss),
                "mean_training_loss_per_step": [finite(value) for value in result.training_loss],
                "seconds": {"compile": result.compile_seconds, "run": result.run_seconds},
            }
        )
    return {
        "settings": dict(settings),
        "workload": {
            "name": comparison.workload,
            "parameters": comparison.parameters,
            "examples": dict(zip(("training", "validation", "test"), comparison.examples, strict=True)),
        },
        "budget": {
            "learning_rates": list(budget.learning_rates),
            "steps": budget.steps,
            "batch_size": budget.batch_size,
            "tuning_seeds": list(budget.tuning_seeds),
            "fresh_seeds": list(budget.fresh_seeds),
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "devices": [str(device) for device in plan.devices],
            "device_kind": plan.devices[0].device_kind,
        },
        "lanes": {
            "count": comparison.lanes,
            "group": plan.group,
            "measured_seconds_per_lane": {str(g): s for g, s in comparison.seconds_per_lane.items()},
        },
        "seconds": {"setup": comparison.setup_seconds, "total": comparison.seconds},
        "optimizers": optimizers,
    }


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return float(value) if math.isfinite(value) else None


def as_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row per lane. A lane was scored on validation data while tuning, on test data with a fresh seed."""
    rows = []
    for result in comparison.results:
        for phase, scored_on, lanes in (("tuning", "validation", result.tuning), ("fresh", "test", result.fresh)):
            for run in lanes:
                rows.append(
                    {
                        "optimizer": result.name,
                        "phase": phase,
                        "learning_rate": run.learning_rate,
                        "seed": run.seed,
                        "diverged": run.diverged,
                        "training_loss": run.training_loss,
                        "scored_on": scored_on,
                        "loss": run.loss,
                        "accuracy": math.nan if run.diverged else run.accuracy,
                    }
                )
    frame = pd.DataFrame(rows)
    numbers = ["training_loss", "loss"]
    frame[numbers] = frame[numbers].where(np.isfinite(frame[numbers]))
    return frame


# --- the plots ---------------------------------------------------------------------------------------------------------


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def styles(n: int) -> list[dict[str, Any]]:
    """Return n line styles that can be told apart."""
    lines = [{"color": colour, "linestyle": dash} for dash in DASHES for colour in COLOURS]
    return list(islice(cycle(lines), n))


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Return the mean over the last `width` values, fewer at the start."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)


def loss_curves(comparison: Comparison) -> Figure:
    """Plot the training loss against the step, each optimizer at its chosen learning rate."""
    width = max(1, round(SMOOTHED * comparison.budget.steps))
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axes = figure.subplots()
    style = dict(zip([r.name for r in comparison.results], styles(len(comparison.results)), strict=True))
    drawn = [r for r in comparison.results if r.selection is not None and len(r.training_loss)]
    # In the legend the optimizers stand in the order of the curves' right ends.
    for result in sorted(drawn, key=lambda r: -running_mean(r.training_loss, width)[-1]):
        assert result.selection is not None
        axes.plot(
            np.arange(1, len(result.training_loss) + 1),
            running_mean(result.training_loss, width),
            label=f"{result.name}, {result.selection.learning_rate:g}",
            linewidth=1.6,
            **style[result.name],
        )
    axes.set_yscale("log")
    axes.set_xlabel("step")
    smoothing = f", running mean over {width} steps" if width > 1 else ""
    axes.set_ylabel(f"training loss (cross-entropy{smoothing})")
    axes.set_title(f"{comparison.workload}: mean over {count(comparison.budget.seeds, 'fresh seed')}")
    tidy(axes)
    axes.margins(x=0.01)
    if drawn:
        figure.legend(title="optimizer, learning rate", loc="outside right center", frameon=False, handlelength=3)
    else:
        axes.text(0.5, 0.5, "every lane diverged", transform=axes.transAxes, ha="center")
    return figure


def learning_rates(comparison: Comparison) -> Figure:
    """Plot the validation accuracy against the learning rate: one panel per optimizer, the others in grey behind it."""
    results, rates = comparison.results, np.array(comparison.budget.learning_rates)
    columns = min(len(results), 4 if len(results) <= 8 else 5)
    rows = -(-len(results) // columns)
    figure, panels = grid_of_panels(rows, columns)
    curves = [mean_accuracy(result, rates) for result in results]
    for i, (axes, result) in enumerate(zip(panels, results, strict=False)):
        for other in curves:
            axes.plot(rates, 100 * other, color="0.85", linewidth=0.8, zorder=1)
        finished = [run for run in result.tuning if not run.diverged]
        axes.plot(
            [run.learning_rate for run in finished],
            [100 * run.accuracy for run in finished],
            ".",
            color=COLOURS[0],
            alpha=0.35,
            markersize=4,
            label="one seed",
        )
        axes.plot(rates, 100 * curves[i], color=COLOURS[0], linewidth=1.6, label="mean of those not diverged")
        diverged = sorted({run.learning_rate for run in result.tuning if run.diverged})
        axes.plot(
            diverged, np.zeros(len(diverged)), "x", color=COLOURS[1], markersize=6, clip_on=False, label="some seed diverged"
        )
        if result.selection is not None:
            chosen = result.selection.learning_rate
            at = 100 * curves[i][list(rates).index(chosen)]
            axes.plot(chosen, at, "o", markersize=8, markerfacecolor="none", color="black", label="chosen")
        axes.set_title(result.name, fontsize=10)
        axes.set_xscale("log")
        axes.set_ylim(0, 104)
        tidy(axes)
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    for axes in panels[len(results) :]:
        axes.set_visible(False)
    for i, axes in enumerate(panels[: len(results)]):
        lowest = i + columns >= len(results)
        axes.tick_params(labelbottom=lowest, labelleft=i % columns == 0)
        if lowest:
            axes.set_xlabel("learning rate")
    figure.supylabel("validation accuracy (%)")
    grey = "; grey: the other optimizers" if len(results) > 1 else ""
    figure.suptitle(f"{comparison.workload}: {count(comparison.budget.seeds, 'seed')} per learning rate{grey}", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def grid_of_panels(rows: int, columns: int) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with panels of one size, whatever their number; matplotlib's own layouts fail on few of them."""
    width, height, gap, title_and_labels = max(2.3, 7.2 / columns), 1.6, 0.2, 0.8  # inches
    left, right, bottom, top = 0.85, 0.25, 0.95, 0.7
    total_width = left + columns * width + (columns - 1) * gap + right
    total_height = bottom + rows * height + (rows - 1) * title_and_labels + top
    figure = Figure(figsize=(total_width, total_height))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=left / total_width,
        right=1 - right / total_width,
        bottom=bottom / total_height,
        top=1 - top / total_height,
        wspace=gap / width,
        hspace=title_and_labels / height,
    )
    return figure, list(panels.flat)


def mean_accuracy(result: Result, rates: np.ndarray) -> np.ndarray:
    """Return the mean over the lanes that did not diverge, NaN (a gap in the plot) where all did."""
    by_rate = {
        rate: [run.accuracy for run in result.tuning if run.learning_rate == rate and not run.diverged] for rate in rates
    }
    return np.array([Mean.of(by_rate[rate]).mean for rate in rates])


def tidy(axes: Axes) -> None:
    """Give a plot a quiet grid and no box."""
    axes.grid(True, which="major", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
