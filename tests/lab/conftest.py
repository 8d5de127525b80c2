"""Hand-made studies: results with known numbers, without training."""

import math
from collections.abc import Callable

import jax
import numpy as np
import pytest

from jaxopt_lec.lab.compare import Budget, Comparison, Evaluations, Result, Run, select
from jaxopt_lec.lab.lanes import Plan
from jaxopt_lec.lab.workloads import ACCURACY, Score

SQUARED_ERROR = Score("squared error", higher_is_better=False)


def make_evaluations(budget: Budget, ends: list[float | None]) -> Evaluations:
    """Make curves that go from 0.1 to the end in a straight line; those of a diverged lane are NaN from the middle on."""
    steps = np.arange(budget.steps // 4, budget.steps + 1, budget.steps // 4)
    rise = np.linspace(0.25, 1, len(steps))
    score = np.array([np.where(rise > 0.5, np.nan, 0.1) if e is None else 0.1 + (e - 0.1) * rise for e in ends])
    norms = np.broadcast_to([3.0, 4.0], (*score.shape, 2))
    return Evaluations(steps, 1 - score, score, ("dense/kernel", "dense/bias"), norms, 0.01 * norms, 10 * norms)


def make_result(
    name: str,
    budget: Budget,
    scores: dict[float, list[float | None]],
    fresh: list[float | None],
    score: Score = ACCURACY,
) -> Result:
    """Make a result from scores; None is a diverged lane, and its loss is NaN as it would be."""

    def run(rate: float, seed: int, value: float | None) -> Run:
        if value is None:
            return Run(rate, seed, float("nan"), float("nan"), 0.1, True)
        return Run(rate, seed, 0.5, abs(1 - value), value, False)

    tuning = tuple(run(rate, seed, a) for rate, values in scores.items() for seed, a in enumerate(values))
    selection = select(tuning, score)
    if selection is None:
        return Result(name, name, tuning, None, (), np.zeros(0), None, 1.0, 2.0)
    tested = tuple(run(selection.learning_rate, len(fresh) + i, a) for i, a in enumerate(fresh))
    curve = np.zeros(0) if all(a is None for a in fresh) else np.geomspace(2, 0.1, budget.steps)
    seen = make_evaluations(budget, fresh)
    return Result(name, name, tuning, selection, tested, curve, seen, 1.0, 2.0, (0.003, 0.001, 0.002))


@pytest.fixture
def make_comparison() -> Callable[..., Comparison]:
    """Put a study together from results."""

    def make(budget: Budget, results: list[Result], baseline: str, score: Score = ACCURACY, target: float | None = None):
        return Comparison(
            workload="made-up",
            score=score,
            baseline=baseline,
            given_target=target,
            parameters=7,
            examples=(100, 20, 20),
            budget=budget,
            results=tuple(results),
            plan=Plan(tuple(jax.local_devices()[:1]), 2),
            seconds_per_lane={1: 0.2, 2: 0.1},
            setup_seconds=3.0,
            seconds=60.0,
        )

    return make


@pytest.fixture
def comparison(make_comparison) -> Comparison:
    """Three optimizers: one plain, one at the grid's edge with a diverged test lane, one that diverged everywhere."""
    budget = Budget(learning_rates=(0.1, 1.0), steps=20, seeds=2)
    results = [
        make_result("plain", budget, {0.1: [0.5, 0.7], 1.0: [0.1, 0.2]}, [0.6, 0.8]),
        make_result("edgy", budget, {0.1: [0.4, 0.4], 1.0: [0.9, None]}, [0.9, None]),
        make_result("wild", budget, {0.1: [None, None], 1.0: [None, None]}, []),
    ]
    return make_comparison(budget, results, "plain")


@pytest.fixture
def regression(make_comparison) -> Comparison:
    """A study whose score is better the lower it is: four optimizers, five seeds."""
    budget = Budget(learning_rates=(0.1, 1.0), steps=20, seeds=5)
    base = [0.30, 0.35, 0.32, 0.31, 0.36]
    fresh = {
        "base": base,
        "good": [b - 0.1 - 0.001 * i for i, b in enumerate(base)],
        "bad": [b + 0.2 + 0.001 * i for i, b in enumerate(base)],
        "alike": [b + 0.05 * math.sin(3 * i) for i, b in enumerate(base)],
    }
    results = [
        make_result(name, budget, {0.1: values, 1.0: [9.0, None, 9.0, 9.0, 9.0]}, values, SQUARED_ERROR)
        for name, values in fresh.items()
    ]
    return make_comparison(budget, results, "base", SQUARED_ERROR)
