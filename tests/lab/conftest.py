"""Hand-made studies: results with known numbers, without training."""

import jax
import numpy as np
import pytest

from jaxopt_lec.lab.compare import Budget, Comparison, Result, Run, select
from jaxopt_lec.lab.lanes import Plan


def make_result(name: str, budget: Budget, accuracies: dict[float, list[float | None]], fresh: list[float | None]) -> Result:
    """Make a result from accuracies; None is a diverged lane, and its loss is NaN as it would be."""

    def run(rate: float, seed: int, accuracy: float | None) -> Run:
        if accuracy is None:
            return Run(rate, seed, float("nan"), float("nan"), 0.1, True)
        return Run(rate, seed, 0.5, 1 - accuracy, accuracy, False)

    tuning = tuple(run(rate, seed, a) for rate, values in accuracies.items() for seed, a in enumerate(values))
    selection = select(tuning)
    if selection is None:
        return Result(name, name, tuning, None, (), np.zeros(0), 1.0, 2.0)
    tested = tuple(run(selection.learning_rate, len(fresh) + i, a) for i, a in enumerate(fresh))
    curve = np.zeros(0) if all(a is None for a in fresh) else np.geomspace(2, 0.1, budget.steps)
    return Result(name, name, tuning, selection, tested, curve, 1.0, 2.0)


@pytest.fixture
def comparison() -> Comparison:
    """Three optimizers: one plain, one at the grid's edge with a diverged test lane, one that diverged everywhere."""
    budget = Budget(learning_rates=(0.1, 1.0), steps=20, seeds=2)
    return Comparison(
        workload="made-up",
        parameters=7,
        examples=(100, 20, 20),
        budget=budget,
        results=(
            make_result("plain", budget, {0.1: [0.5, 0.7], 1.0: [0.1, 0.2]}, [0.6, 0.8]),
            make_result("edgy", budget, {0.1: [0.4, 0.4], 1.0: [0.9, None]}, [0.9, None]),
            make_result("wild", budget, {0.1: [None, None], 1.0: [None, None]}, []),
        ),
        plan=Plan(tuple(jax.local_devices()[:1]), 2),
        seconds_per_lane={1: 0.2, 2: 0.1},
        setup_seconds=3.0,
        seconds=60.0,
    )
