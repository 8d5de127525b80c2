"""The table of cases for L-BFGS: losses for both libraries, searches step by step, and hard line searches from many starts.

In the course of a search, rounding errors grow. A run is therefore compared only as long as PyTorch agrees with itself when
a rounding error is added to every loss and every gradient. The recorded numbers after that are NaN.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

STRONG = {"line_search_fn": "strong_wolfe"}
TOLERANCE = 1e-10


# Losses of the parameters p, for the library m.


def rosenbrock(m: Any, p: Mapping[str, Any]) -> Any:
    x = p["x"]
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def orthogonal(n: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]


HESSIAN = orthogonal(10) @ np.diag(np.geomspace(1, 1e4, 10)) @ orthogonal(10).T


def quadratic(m: Any, p: Mapping[str, Any]) -> Any:
    x = p["x"] - 1
    return 0.5 * x @ (m.asarray(HESSIAN) @ x)


INPUTS = np.random.default_rng(1).standard_normal((30, 5))
LABELS = np.sign(INPUTS.sum(1) + np.random.default_rng(2).standard_normal(30))


def logistic(m: Any, p: Mapping[str, Any]) -> Any:
    margins = m.asarray(LABELS[:, None] * INPUTS) @ p["x"]
    return m.log1p(m.exp(-margins)).sum() + 0.05 * (p["x"] ** 2).sum()


def network(m: Any, p: Mapping[str, Any]) -> Any:
    hidden = m.tanh(m.asarray(INPUTS) @ p["kernel"] + p["bias"])
    return ((hidden @ p["readout"] - m.asarray(np.sin(INPUTS.sum(1)))) ** 2).mean()


# On these the line search must do more than accept its first trial.


def waves(m: Any, p: Mapping[str, Any]) -> Any:
    return (m.sin(3 * p["x"]) + 0.3 * m.cos(11 * p["x"]) + 0.1 * p["x"] ** 2).sum()


def kinks(m: Any, p: Mapping[str, Any]) -> Any:
    x = p["x"]
    return abs(x[0] - 0.3) + 2 * abs(x[1] + 0.7) + 0.01 * (x**2).sum()


def cliff(m: Any, p: Mapping[str, Any]) -> Any:
    return m.exp(4 * p["x"]).sum() - 3 * p["x"].sum()


def valleys(m: Any, p: Mapping[str, Any]) -> Any:
    return -m.exp(-(p["x"] ** 2)).sum()


def bottomless(m: Any, p: Mapping[str, Any]) -> Any:
    return (p["x"] ** 5).sum() - p["x"][0]


def draw(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


STARTS: dict[Callable[..., Any], dict[str, np.ndarray]] = {
    rosenbrock: {"x": np.array([-1.2, 1.0, -0.5, 0.8, 2.0])},
    quadratic: {"x": 3 * draw(10)},
    logistic: {"x": 3 * draw(5)},
    network: {"bias": draw(4), "kernel": draw(5, 4), "readout": draw(4, seed=4)},
}
HARD = [waves, kinks, cliff, valleys, bottomless]
LANES = 25


@dataclasses.dataclass(frozen=True)
class Case:
    """Searches of one optimizer on one loss.

    Attributes:
        loss: the loss.
        options: the arguments of the optimizer.
        starts: the parameters before the first step, stacked: one search from each.
        rates: a learning rate for each search, or `None`: that of the options.
        steps: how many steps are taken.
    """

    loss: Callable[..., Any]
    options: Mapping[str, Any]
    starts: Mapping[str, np.ndarray]
    rates: np.ndarray | None = None
    steps: int = 5

    def __str__(self) -> str:
        return " ".join([self.loss.__name__, *(f"{key}={value}" for key, value in self.options.items())])

    def searches(self) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """Options and start of each search."""
        for i in range(len(next(iter(self.starts.values())))):
            rate = {} if self.rates is None else {"lr": float(self.rates[i])}
            yield {**self.options, **rate}, {name: stacked[i] for name, stacked in sorted(self.starts.items())}

    def excess(self, stored: np.ndarray, other: np.ndarray) -> float:
        """How many times the permitted error `other` is off: above 1 the two do not agree.

        Both are arrays (searches, steps, columns): the columns are the parameters, then the numbers of iterations and of
        evaluations. A step that is NaN throughout is not compared.
        """
        if stored.shape != other.shape:
            return np.inf
        compared = np.isfinite(stored).all(-1) & np.isfinite(other[..., -1])
        stored, other = stored[compared], other[compared]
        if not np.array_equal(stored[:, -2:], other[:, -2:]):
            return np.inf
        x, y = stored[:, :-2], other[:, :-2]
        apart = np.max(np.abs(x - y), axis=1) / np.max(np.abs(x), axis=1)
        return float(np.nan_to_num(np.max(apart, initial=0.0), nan=np.inf) / TOLERANCE)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"lr": 0.01},
    {"lr": 0.5, "history_size": 5},
    {"max_iter": 1},
    {"lr": 0.5, "max_iter": 4, "history_size": 2},
    {"max_eval": 3},
    {"max_eval": 1},
    {"tolerance_grad": 1.0},
    {"tolerance_change": 0.1},
    {"tolerance_change": 1e-3, **STRONG},
    STRONG,
    {"lr": 0.01, "max_iter": 4, **STRONG},
    {"max_iter": 1, **STRONG},
    {"lr": 0.5, "max_iter": 4, "history_size": 2, **STRONG},
    {"lr": 30.0, "max_iter": 4, "max_eval": 7, "history_size": 5, **STRONG},
    {"max_eval": 1, **STRONG},
    {"max_eval": 2, **STRONG},
    {"lr": 0.01, "max_eval": 3, **STRONG},
    {"lr": 10.0, "max_eval": 5, **STRONG},
    {"lr": 0.5, "tolerance_grad": 1.0, **STRONG},
]
HARD_OPTIONS: list[dict[str, Any]] = [
    {"max_iter": 3, **STRONG},
    {"max_iter": 3, "max_eval": 6, "history_size": 2, **STRONG},
    {"max_iter": 4, "max_eval": 25, "history_size": 2, **STRONG},
]


def cases() -> Iterator[Case]:
    for loss, start in STARTS.items():
        for options in OPTIONS:
            yield Case(loss, options, {name: p[None] for name, p in start.items()})
    # Starts and first step sizes all over the place.
    random = np.random.default_rng(6)
    starts, rates = random.uniform(-3, 3, (LANES, 2)), 10 ** random.uniform(-3, 3, LANES)
    for loss in HARD:
        for options in HARD_OPTIONS:
            yield Case(loss, options, {"x": starts}, rates, steps=2)


CASES = {str(case): case for case in cases()}
