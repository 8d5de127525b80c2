"""How soon a target is reached: a target that is not reached is never a number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Reached", "best_on_every_seed", "first_reaching"]


@dataclass(frozen=True)
class Reached:
    """After which step each seed's run first was at the target, None where it never was."""

    steps: tuple[int | None, ...]

    @property
    def count(self) -> int:
        """How many of the runs reached it."""
        return sum(step is not None for step in self.steps)

    @property
    def median(self) -> float | None:
        """The median over all runs, those that never were there later than any; None where it falls on such a run."""
        if not self.steps:
            return None
        median = float(np.median([math.inf if step is None else step for step in self.steps]))
        return median if math.isfinite(median) else None


def first_reaching(
    steps: Sequence[int] | np.ndarray, scores: np.ndarray, target: float, higher_is_better: bool
) -> int | None:
    """Return the first of the evaluation steps whose score is at least as good as the target; nothing is interpolated.

    Args:
        steps: the evaluation steps, ascending.
        scores: [evaluation]; NaN is never as good.
        target: in units of the score.
        higher_is_better: whether more of the score is better.
    """
    there = scores >= target if higher_is_better else scores <= target
    return int(steps[int(there.argmax())]) if there.any() else None


def best_on_every_seed(scores: np.ndarray, higher_is_better: bool) -> float | None:
    """Return what every run reached: the worst over seeds of its best score; None without a run.

    Args:
        scores: [seed, evaluation]; NaN is never the best.
        higher_is_better: whether more of the score is better.
    """
    if not scores.size:
        return None
    reached = float(np.fmax.reduce(scores, 1).min() if higher_is_better else np.fmin.reduce(scores, 1).max())
    return reached if math.isfinite(reached) else None
