"""What a study leaves behind: a table on the terminal, and numbers, plots and a page in a folder."""

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from jaxopt_lec.lab.compare import Comparison, Evaluations, Mean, together
from jaxopt_lec.lab.figures import learning_rates, loss_curves, png
from jaxopt_lec.lab.files import write_whole
from jaxopt_lec.lab.html_report import html_report
from jaxopt_lec.lab.statistics import Difference
from jaxopt_lec.lab.wording import (
    against_words,
    budget_words,
    cost_words,
    count,
    diverged_words,
    duration,
    edge_words,
    label,
    plus_minus,
    ranked,
    standing,
    steps_to_target,
    target_words,
)
from jaxopt_lec.lab.workloads import Score

__all__ = ["numbers", "pages", "table", "version", "write"]

PACKAGES = ("jaxopt_lec", "jax", "jaxlib", "optax", "flax", "numpy", "scipy", "scikit-learn")


def version(package: str) -> str | None:
    """Return the installed version of a package, None if it runs from a source tree."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- the table ---------------------------------------------------------------------------------------------------------


def table(comparison: Comparison) -> Table:
    """Return the results as a table, best test score first."""
    budget = comparison.budget
    made = Table(
        title=escape(
            f"{comparison.workload}: {count(budget.steps, 'step')} of {count(budget.batch_size, 'example')}, "
            f"tested on {count(budget.seeds, 'fresh seed')}"
        ),
        caption=escape("\n".join(notes(comparison))),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,  # with it the longest of the usual names and numbers fit 80 columns
    )
    made.add_column("optimizer", no_wrap=True)
    made.add_column("learning\nrate", justify="right", no_wrap=True)
    tested = escape(textwrap.fill(f"test {label(comparison.score)}", 12))
    made.add_column(tested, justify="right", no_wrap=True, style="bold")
    made.add_column(escape(textwrap.fill(f"against {comparison.baseline}", 8)), no_wrap=True)
    made.add_column("target:\nsteps", justify="right", no_wrap=True)
    made.add_column("target:\nseconds", justify="right", no_wrap=True)
    made.add_column("diverged\nlanes", justify="right", no_wrap=True)
    for result in ranked(comparison):
        lanes = (*result.tuning, *result.fresh)
        diverged = f"{sum(run.diverged for run in lanes)} of {len(lanes)}"
        name = escape(result.name)
        if result.selection is None:
            made.add_row(name, "–", "–", "–", "–", "–", diverged, style="dim")
            continue
        mark = "*" if result.selection.edge else " "
        made.add_row(
            name,
            f"{result.selection.learning_rate:g}{mark}",
            plus_minus(comparison.score, result.score),
            standing(comparison, result),
            steps_to_target(comparison, result),
            duration(comparison.seconds_to_target(result)),
            diverged,
        )
    return made


def notes(comparison: Comparison) -> list[str]:
    """Return what a reader of the table has to know."""
    budget, score = comparison.budget, comparison.score
    return [
        f"Learning rate: the best {score.name} on validation data, mean of {count(budget.seeds, 'seed')}. "
        "±: standard error.",
        f"Each optimizer: {budget_words(comparison)}.",
        against_words(comparison),
        target_words(comparison),
        *edge_words(comparison),
        *diverged_words(comparison),
        cost_words(comparison),
    ]


# --- the files ---------------------------------------------------------------------------------------------------------


def write(comparison: Comparison, folder: Path, settings: Mapping[str, Any]) -> list[Path]:
    """Write the numbers and the plots, each file whole or not at all.

    Args:
        comparison: the study.
        folder: where to; it is made if need be.
        settings: what the study was asked for, kept in results.json as ``settings``.

    Raises:
        OSError: a file cannot be written; the folder's files are then unchanged.
    """
    contents = numbers(comparison, settings)
    try:
        contents = pages(comparison, settings) | contents
    finally:  # if drawing fails, the numbers are written nevertheless
        write_whole(folder, contents)
    return [folder / name for name in contents]


def numbers(comparison: Comparison, settings: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files with the measured numbers, by name; without them the study would have to run again."""
    return {
        "results.json": json.dumps(as_json(comparison, settings), indent=1, allow_nan=False, ensure_ascii=False).encode(),
        "results.csv": as_frame(comparison).to_csv(index=False).encode(),
        "evaluations.csv": evaluations_frame(comparison).to_csv(index=False).encode(),
    }


def pages(comparison: Comparison, settings: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the page and the plots, by file name."""
    return {
        "report.html": html_report(comparison, settings, machine(comparison), versions()).encode(),
        "loss_curves.png": png(loss_curves(comparison)),
        "learning_rates.png": png(learning_rates(comparison)),
    }


def as_json(comparison: Comparison, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole study as JSON values; what is not finite is null."""
    budget, plan, key = comparison.budget, comparison.plan, score_key(comparison.score)

    def mean(value: Mean) -> dict[str, float | None]:
        return {"mean": finite(value.mean), "standard_error": finite(value.standard_error)}

    optimizers = []
    for result in comparison.results:
        chosen = result.selection
        reached = comparison.reached(result)
        optimizers.append(
            {
                "name": result.name,
                "spec": result.spec,
                "tuning": [
                    {
                        "learning_rate": run.learning_rate,
                        "seed": run.seed,
                        f"validation_{key}": None if run.diverged else finite(run.score),
                        "validation_loss": finite(run.loss),
                        "training_loss": finite(run.training_loss),
                        "diverged": run.diverged,
                        "diverged_at": run.diverged_at,
                    }
                    for run in result.tuning
                ],
                "selected": None
                if chosen is None
                else {
                    "learning_rate": chosen.learning_rate,
                    f"validation_{key}": finite(chosen.score),
                    "edge_of_grid": chosen.edge,
                },
                "fresh": [
                    {
                        "seed": run.seed,
                        f"test_{key}": None if run.diverged else finite(run.score),
                        "test_loss": finite(run.loss),
                        "training_loss": finite(run.training_loss),
                        "diverged": run.diverged,
                        "diverged_at": run.diverged_at,
                        "steps_to_target": steps,
                    }
                    for run, steps in zip(result.fresh, reached.steps, strict=True)
                ],
                f"test_{key}": mean(result.score),
                "test_loss": mean(result.loss),
                "difference": difference_as_json(comparison.differences.get(result.name)),
                "steps_to_target": {"median": reached.median, "reached": reached.count, "of": len(reached.steps)},
                "seconds_per_step": {"median": result.seconds_per_step, "turns": list(result.turns)},
                "seconds_to_target": comparison.seconds_to_target(result),
                "mean_training_loss_per_step": [finite(value) for value in result.training_loss],
                "evaluations": evaluations_as_json(result.evaluations, key),
                "budget": {
                    "trials": len(budget.learning_rates),
                    "seeds": budget.seeds,
                    "steps": budget.steps,
                    "examples": budget.tuning_examples,
                    "fresh_seeds": len(result.fresh),
                    "fresh_examples": len(result.fresh) * budget.lane_examples,
                },
                "seconds": {"compile": result.compile_seconds, "run": result.run_seconds},
            }
        )
    return {
        "settings": dict(settings),
        "workload": {
            "name": comparison.workload,
            "score": dataclasses.asdict(comparison.score),
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
        "baseline": comparison.baseline,
        "target": {f"validation_{key}": comparison.target, "given": comparison.given_target is not None},
        "versions": versions(),
        "machine": machine(comparison),
        "lanes": {
            "count": comparison.lanes,
            "group": plan.group,
            "measured_seconds_per_lane": {str(g): s for g, s in comparison.seconds_per_lane.items()},
        },
        "seconds": {"setup": comparison.setup_seconds, "total": comparison.seconds},
        "optimizers": optimizers,
    }


def score_key(score: Score) -> str:
    """Return the name of a score as files write it; `loss` has its own column already."""
    name = score.name.replace(" ", "_")
    return f"{name}_score" if name in ("loss", "training_loss") else name


def difference_as_json(difference: Difference | None) -> dict[str, Any] | None:
    """Return a difference to the baseline; the baseline has none."""
    if difference is None:
        return None
    return {
        "mean": finite(difference.mean),
        "confidence_interval": None if math.isnan(difference.low) else [difference.low, difference.high],
        "p": difference.p,
        "p_holm": difference.p_holm,
        "verdict": difference.verdict.value,
        "pairs": difference.pairs,
        "dropped": difference.dropped,
    }


def evaluations_as_json(seen: Evaluations | None, key: str) -> dict[str, Any] | None:
    """Return what the fresh lanes were on their way: curves over all parameters by seed, and norms by layer."""
    if seen is None:
        return None

    def numbers(values: np.ndarray) -> list[Any]:
        return [numbers(v) if np.ndim(v) else finite(v) for v in values]

    return {
        "steps": seen.steps.tolist(),
        f"validation_{key}": numbers(seen.score),
        "validation_loss": numbers(seen.loss),
        "effective_learning_rate": numbers(seen.effective_learning_rate),
        "update_to_weight": numbers(seen.update_to_weight),
        "layers": {
            leaf: {
                "gradient_norm": numbers(seen.gradient_norms[..., i]),
                "update_norm": numbers(seen.update_norms[..., i]),
                "weight_norm": numbers(seen.weight_norms[..., i]),
            }
            for i, leaf in enumerate(seen.leaves)
        },
    }


def versions() -> dict[str, str | None]:
    """Return the versions of what the numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def machine(comparison: Comparison) -> dict[str, Any]:
    """Return what the study ran on."""
    devices = comparison.plan.devices
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "devices": [str(device) for device in devices],
        "device_kind": devices[0].device_kind,
    }


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return float(value) if math.isfinite(value) else None


def as_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row per lane. A lane was scored on validation data while tuning, on test data with a fresh seed."""
    rows = []
    for result in comparison.results:
        for phase, scored_on, lanes in (("tuning", "validation", result.tuning), ("fresh", "test", result.fresh)):
            steps = comparison.reached(result).steps if phase == "fresh" else (None,) * len(lanes)
            for run, reached in zip(lanes, steps, strict=True):
                rows.append(
                    {
                        "optimizer": result.name,
                        "phase": phase,
                        "learning_rate": run.learning_rate,
                        "seed": run.seed,
                        "diverged": run.diverged,
                        "diverged_at": run.diverged_at,
                        "training_loss": run.training_loss,
                        "scored_on": scored_on,
                        "loss": run.loss,
                        score_key(comparison.score): math.nan if run.diverged else run.score,
                        "steps_to_target": reached,
                    }
                )
    frame = pd.DataFrame(rows).astype({"steps_to_target": "Int64"})
    numbers = ["training_loss", "loss"]
    frame[numbers] = frame[numbers].where(np.isfinite(frame[numbers]))
    return frame


def evaluations_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row per fresh lane and evaluation step."""
    key = f"validation_{score_key(comparison.score)}"
    columns = ["optimizer", "learning_rate", "seed", "step", "validation_loss", key]
    columns += ["gradient_norm", "update_norm", "weight_norm", "effective_learning_rate", "update_to_weight"]
    rows: list[tuple[Any, ...]] = []
    for result in comparison.results:
        seen = result.evaluations
        if seen is None:
            continue
        norms = [together(x) for x in (seen.gradient_norms, seen.update_norms, seen.weight_norms)]
        values = np.stack([seen.loss, seen.score, *norms, seen.effective_learning_rate, seen.update_to_weight], -1)
        for run, of_run in zip(result.fresh, values, strict=True):
            for step, of_step in zip(seen.steps, of_run, strict=True):
                rows.append((result.name, run.learning_rate, run.seed, int(step), *of_step))
    numbers = columns[4:]
    frame = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(numbers, float))  # without rows too
    frame[numbers] = frame[numbers].where(np.isfinite(frame[numbers]))
    return frame
