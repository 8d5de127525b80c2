"""Whether one optimizer is better than another: paired differences, their intervals, and a test of many at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy import special  # type: ignore[import-untyped]

__all__ = ["LEVEL", "Difference", "Verdict", "compare_to", "holm", "paired_difference"]

# The chance of a false alarm among all comparisons of a study together; intervals cover with one minus it, each.
LEVEL = 0.05
# Scores are means in float32: differences that are told apart by less than its rounding are equal.
ROUNDING = 4 * float(np.finfo(np.float32).eps)


class Verdict(StrEnum):
    """What the test says."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "unclear"  # not distinguishable from the baseline
    UNTESTED = "no test"  # fewer than two pairs, or differences without any spread


@dataclass(frozen=True)
class Difference:
    """An optimizer's score minus the baseline's, over runs on equal seeds and batches.

    Attributes:
        pairs: how many seeds both finished on.
        dropped: how many seeds there were besides, on which one of the two diverged or was not tested.
        mean: of the differences; NaN without a pair.
        low, high: the 95 % confidence interval of the mean by Student's t, for this comparison alone; NaN if there is none.
        p: of the two-sided paired t test; None if it cannot be made.
        p_holm: corrected for all comparisons of the study.
        verdict: by `p_holm`.
    """

    pairs: int
    dropped: int
    mean: float
    low: float
    high: float
    p: float | None
    p_holm: float | None = None
    verdict: Verdict = Verdict.UNTESTED

    def words(self, baseline: str) -> str:
        """Say it in words."""
        seeds = "1 seed" if self.pairs == 1 else f"{self.pairs} seeds"
        if self.verdict in (Verdict.BETTER, Verdict.WORSE):
            return f"{self.verdict} than {baseline}"
        if self.verdict is Verdict.UNCLEAR:
            return f"not distinguishable from {baseline} at {seeds}"
        if self.pairs > 1:
            return f"no test: it differs from {baseline} by the same on all {seeds}"
        return f"no test: {seeds} in common with {baseline}" if self.pairs else f"no test: no seed in common with {baseline}"


def paired_difference(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Difference:
    """Return the difference of the scores of two optimizers, without a verdict.

    d̄ ± t₀.₉₇₅(n−1) · s/√n over the n differences d, and the p value of t = d̄ √n / s.

    Args:
        ours: the scores, one for each seed; None where the run diverged.
        theirs: those of the baseline, on the same seeds.
    """
    both = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    n, dropped = len(both), len(ours) - len(both)
    if not n:
        return Difference(0, dropped, math.nan, math.nan, math.nan, None)
    values = np.array(both, float)
    differences = values[:, 0] - values[:, 1]
    mean = float(differences.mean())
    if n == 1:
        return Difference(n, dropped, mean, math.nan, math.nan, None)
    rounding = ROUNDING * float(np.abs(values).max())
    if np.ptp(differences) <= rounding:
        # Equal runs are the very picture of no difference. But of a difference without spread nothing follows: scores that
        # count examples agree by chance, and t would be infinite.
        return Difference(n, dropped, mean, math.nan, math.nan, 1.0 if abs(mean) <= rounding else None)
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    half = error * float(special.stdtrit(n - 1, 1 - LEVEL / 2))
    p = 2 * float(special.stdtr(n - 1, -abs(mean) / error))
    return Difference(n, dropped, mean, mean - half, mean + half, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for being many, after Holm (1979): p₍ₖ₎ ← max over j ≤ k of min(1, (m − j + 1) p₍ⱼ₎).

    Rejecting those at most α keeps the chance of any false rejection at most α, however the tests depend on each other.
    """
    order = np.argsort(p_values, kind="stable")
    m = len(order)
    stepped = np.array([(m - j) * p_values[k] for j, k in enumerate(order)])
    corrected = np.empty(m)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(p) for p in corrected]


def compare_to(
    baseline: Sequence[float | None], others: Mapping[str, Sequence[float | None]], higher_is_better: bool
) -> dict[str, Difference]:
    """Compare optimizers with a baseline.

    Args:
        baseline: its score on each seed, None where it diverged.
        others: name → the scores of another on the same seeds.
        higher_is_better: whether more of the score is better.
    """
    found = {name: paired_difference(scores, baseline) for name, scores in others.items()}
    # What could not be tested counts as a comparison nonetheless.
    corrected = holm([1.0 if difference.p is None else difference.p for difference in found.values()])
    return {
        name: difference
        if difference.p is None
        else replace(difference, p_holm=p, verdict=verdict(difference.mean, p, higher_is_better))
        for (name, difference), p in zip(found.items(), corrected, strict=True)
    }


def verdict(mean: float, p: float, higher_is_better: bool) -> Verdict:
    """Return what a test says."""
    if p > LEVEL:
        return Verdict.UNCLEAR
    return Verdict.BETTER if (mean > 0) == higher_is_better else Verdict.WORSE
