"""The words and numbers that tables and pages share."""

import math

from jaxopt_lec.lab.compare import Comparison, Mean, Result, goodness
from jaxopt_lec.lab.statistics import LEVEL
from jaxopt_lec.lab.workloads import Score

__all__ = [
    "against_words",
    "amount",
    "budget_words",
    "cost_words",
    "count",
    "diverged_words",
    "divergence_words",
    "duration",
    "edge_words",
    "label",
    "plus_minus",
    "ranked",
    "shown",
    "standing",
    "steps_to_target",
    "target_words",
]


def count(n: int, noun: str) -> str:
    """Return "1 seed", "2 seeds"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def label(score: Score) -> str:
    """Return the name of a score with its unit."""
    return f"{score.name} %" if score.percent else score.name


def shown(score: Score, value: float, sign: str = "") -> str:
    """Return a score as tables show it: a share in percent with two decimals, else four digits."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    text = f"{100 * value:{sign}.2f}" if score.percent else f"{value:{sign}.4g}"
    return text.replace("-", "−")


def amount(score: Score, value: float) -> str:
    """Return a score with its unit."""
    return f"{shown(score, value)} %" if score.percent else shown(score, value)


def plus_minus(score: Score | None, mean: Mean) -> str:
    """Return mean ± standard error of a score, or of a loss; a single lane has no standard error."""
    if math.isnan(mean.mean):
        return "–"
    if score is not None and score.percent:
        return f"{shown(score, mean.mean)} ± {shown(score, mean.standard_error)}"
    error = "–" if math.isnan(mean.standard_error) else f"{mean.standard_error:.2g}"
    return f"{mean.mean:.4g} ± {error}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Return seconds with three digits."""
    return "–" if seconds is None else f"{seconds:.3g}"


def ranked(comparison: Comparison) -> list[Result]:
    """Order results by their test lanes, best first, those that have none last."""
    return sorted(comparison.results, key=lambda result: goodness(result.fresh, comparison.score), reverse=True)


def steps_to_target(comparison: Comparison, result: Result) -> str:
    """Return the median steps to the target, and how many of the seeds reached it unless all did."""
    reached = comparison.reached(result)
    if comparison.target is None or not reached.steps:
        return "–"
    median = "–" if reached.median is None else f"{reached.median:g}"
    return median if reached.count == len(reached.steps) else f"{median} {reached.count}/{len(reached.steps)}"


def standing(comparison: Comparison, result: Result) -> str:
    """Return in one word how an optimizer stands to the baseline."""
    if result.name == comparison.baseline:
        return "baseline"
    difference = comparison.differences.get(result.name)
    return "–" if difference is None else difference.verdict.value


def budget_words(comparison: Comparison) -> str:
    """Say what each optimizer got."""
    budget = comparison.budget
    return (
        f"{count(len(budget.learning_rates), 'learning rate')} × {count(budget.seeds, 'seed')} × "
        f"{count(budget.steps, 'step')} of tuning ({budget.tuning_examples:,} examples), then "
        f"{count(budget.seeds, 'fresh seed')}"
    )


def against_words(comparison: Comparison) -> str:
    """Say how the comparison with the baseline was made."""
    if not comparison.differences:
        return f"Against {comparison.baseline}: nothing to compare."
    return (
        f"Against {comparison.baseline}: paired t tests on the test {comparison.score.name}, equal seeds and batches, "
        f"Holm's correction, {100 * LEVEL:g} %; unclear: not distinguishable from {comparison.baseline} at "
        f"{count(comparison.budget.seeds, 'seed')}."
    )


def target_words(comparison: Comparison) -> str:
    """Say what the target is and how it is measured."""
    if comparison.target is None:
        return f"No target: {comparison.baseline} reached nothing that could be one."
    given = "" if comparison.given_target is not None else f", which {comparison.baseline} reached with every fresh seed"
    return (
        f"Target: validation {comparison.score.name} {amount(comparison.score, comparison.target)}{given}. "
        f"Steps: of the first evaluation that reaches it, median; 3/{max(comparison.budget.seeds, 4)}: with so many of the "
        "seeds. Seconds: these steps of one lane, the machine filled as in this study."
    )


def edge_words(comparison: Comparison) -> list[str]:
    """Say whose learning rate lies at an end of the grid."""
    budget, lines = comparison.budget, []
    for edge in ("lowest", "highest"):
        names = [r.name for r in comparison.results if r.selection is not None and r.selection.edge == edge]
        if names:
            rate = min(budget.learning_rates) if edge == "lowest" else max(budget.learning_rates)
            lines.append(f"* The {edge} of the grid, {rate:g}; the best may lie beyond: {', '.join(names)}.")
    return lines


def diverged_words(comparison: Comparison) -> list[str]:
    """Say which test lanes are missing."""
    lines = []
    for result in comparison.results:
        lost = sum(run.diverged for run in result.fresh)
        if lost:
            lines.append(
                f"{result.name}: {lost} of {len(result.fresh)} test lanes diverged; the others' mean is shown, and in the "
                "ranking they count as the worst."
            )
        if result.selection is None:
            lines.append(f"{result.name}: every lane diverged, so nothing was tested: {divergence_words(result)}")
    return lines


def divergence_words(result: Result) -> str:
    """Return where the lanes diverged, for an optimizer all of whose lanes did, and what to look at."""
    if all(run.diverged_at == 1 for run in result.tuning):
        return (
            "the training loss is not finite at step 1 at any learning rate, before any update. "
            "Look for NaN or inf in the data, and for labels outside the range of the model's outputs."
        )
    lowest = min(run.learning_rate for run in result.tuning)
    steps = [run.diverged_at for run in result.tuning if run.learning_rate == lowest]
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        return (
            f"at the lowest learning rate, {lowest:g}, the training loss stayed finite, but the loss or score on "
            "validation data did not. Look for NaN or inf in the validation data, or try lower rates."
        )
    return (
        f"at the lowest learning rate, {lowest:g}, the training loss is not finite from step {min(known)} on. Try lower "
        "rates; if that does not help, look for NaN or inf in the data."
    )


def cost_words(comparison: Comparison) -> str:
    """Say how the lanes were run and what that took."""
    plan = comparison.plan
    return (
        f"{count(comparison.lanes, 'lane')} on {count(len(plan.devices), f'{plan.devices[0].platform.upper()} device')}, "
        f"groups of {plan.group} ({'measured' if comparison.seconds_per_lane else 'as usual'}). {comparison.seconds:.0f} s: "
        f"{comparison.setup_seconds:.0f} set-up and measuring, "
        f"{sum(r.run_seconds for r in comparison.results):.0f} running and compiling what comes next, the rest timing steps."
    )
