"""What every case is followed on: half of the parameters get recorded gradients, the other half those of a small loss.

The recorded gradients ("open") have scales from 1e-6 to 1e6, a row that is zero for all time, a first step and whole steps
that are zero: a misplaced ε, another first step or a forgotten 0/0 shows there. The loss ("closed") is a non-convex
factorization, L = ½ Σ log(1 + |R|²) with R = s·U V + b − M: there the parameters come back into the gradients. The framework
and our optimizer get both from the one code below, NumPy arrays on one side and JAX arrays on the other.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

STEPS = 50
RECORDED = (1, 2, 3, 5, 10, 20, 35, 50)
ZERO_STEPS = (6, 7, 22)  # from 0: no recorded gradient anywhere
SHAPES = {"kernel": (4, 3), "embedding": (3, 5), "bias": (5,), "scale": ()}

# The rounding of 50 sums in two programs, a few roundings each, relative to the parameter: no criterion can be sharper.
ROUNDING = 4 * STEPS * np.finfo(np.float64).eps
TOLERANCE = 1e-10


class Random:
    """Uniform numbers from the raw bits of PCG64, which NumPy promises never to change."""

    def __init__(self, seed: int) -> None:
        self.bits = np.random.PCG64(seed)

    def __call__(self, *shape: int) -> np.ndarray:
        """Numbers in (−1, 1), away from 0: of magnitude 0.05 at least."""
        raw = np.asarray(self.bits.random_raw(int(np.prod(shape))), np.uint64).reshape(shape)
        magnitude = 0.05 + 0.95 * (raw >> np.uint64(12)).astype(np.float64) / 2**52
        return np.where(raw & np.uint64(1), magnitude, -magnitude)


# Factors on the learning rate, one for each step, as a scheduler would set them: an irregular sequence, so that a schedule
# that is off by one step shows.
RATES = 1.0 + 0.7 * Random(3)(STEPS + 1)


@dataclasses.dataclass(frozen=True)
class Problem:
    """Parameters and their gradients.

    Attributes:
        exponents: the powers of ten that the recorded gradients' scales run through.
        leaves: names of the parameters in either half.
        is_complex: whether parameters and gradients are complex; gradients in PyTorch's convention, ∂L/∂Re + i ∂L/∂Im.
        sparse: whether rows (coordinates, of a vector) are absent in most steps, in both halves.
        open: whether there are recorded gradients at all; a method that asks for the loss has none.
    """

    exponents: tuple[int, ...] = tuple(range(-6, 7))
    leaves: tuple[str, ...] = tuple(SHAPES)
    is_complex: bool = False
    sparse: bool = False
    open: bool = True

    @property
    def halves(self) -> tuple[str, ...]:
        return ("open", "closed") if self.open else ("closed",)

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of all parameters, in the order in which JAX flattens them."""
        return tuple(sorted(f"{half}/{leaf}" for half in self.halves for leaf in self.leaves))

    def _numbers(self, random: Random, *shape: int) -> np.ndarray:
        return random(*shape) + 1j * random(*shape) if self.is_complex else random(*shape)

    def start(self) -> dict[str, np.ndarray]:
        """Path → parameter before the first step, of both signs."""
        random = Random(1)
        return {path: self._numbers(random, *SHAPES[path.split("/")[1]]) for path in self.paths}

    @functools.cached_property
    def recorded(self) -> dict[str, np.ndarray]:
        """Leaf → gradients of the open half, one for each step."""
        random, gradients = Random(2), {}
        scales = itertools.cycle([float(f"1e{e}") for e in self.exponents])
        for leaf in self.leaves:
            gradient = self._numbers(random, STEPS, *SHAPES[leaf])
            gradient *= np.array([next(scales) for _ in range(gradient[0].size)]).reshape(SHAPES[leaf])
            gradient[list(ZERO_STEPS)] = 0
            gradients[leaf] = gradient
        gradients["kernel"][:, 2] = 0
        if "bias" in gradients:
            gradients["bias"][0] = 0
        return gradients

    @functools.cached_property
    def present(self) -> dict[str, np.ndarray]:
        """Path → 1 for rows that have a gradient in a step, where that is sparse, else 0; broadcast against gradients."""
        random, rows = Random(4), {}
        for path in self.paths:
            shape = SHAPES[path.split("/")[1]]
            some = (random(STEPS, shape[0]) > 0.2).astype(np.float64)
            rows[path] = some.reshape(STEPS, shape[0], *[1] * (len(shape) - 1))
        return rows

    def gradients(self, params: Mapping[str, Any], step: Any, at: Callable[[np.ndarray], Any]) -> dict[str, Any]:
        """Path → gradient in step `step` from 0; `at(table)` is the row of a table for that step."""
        found = {}
        if self.open:
            found |= {f"open/{leaf}": at(table) for leaf, table in self.recorded.items()}
        closed = {leaf: params[f"closed/{leaf}"] for leaf in self.leaves}
        found |= {f"closed/{leaf}": g for leaf, g in gradient(closed).items()}
        if self.sparse:
            found = {path: g * at(self.present[path]) for path, g in found.items()}
        return {path: found[path] for path in self.paths}


TARGET = 2 * Random(5)(4, 5)
COMPLEX_TARGET = TARGET + 2j * Random(6)(4, 5)


def residual(p: Mapping[str, Any]) -> Any:
    target = COMPLEX_TARGET if np.iscomplexobj(p["kernel"]) else TARGET
    return p.get("scale", 1.0) * (p["kernel"] @ p["embedding"]) + p.get("bias", 0.0) - target


def loss(p: Mapping[str, Any], log: Callable[[Any], Any]) -> Any:
    """L = ½ Σ log(1 + |R|²), R = s·U V + b − M."""
    r = residual(p)
    return 0.5 * log(1 + (r * r.conj()).real).sum()


def gradient(p: Mapping[str, Any]) -> dict[str, Any]:
    """The gradient of `loss`, by hand; for complex parameters ∂L/∂Re + i ∂L/∂Im."""
    r = residual(p)
    g = r / (1 + r * r.conj())
    scale = p.get("scale", g.dtype.type(1))
    found = {
        "kernel": scale.conj() * (g @ p["embedding"].conj().T),
        "embedding": scale.conj() * (p["kernel"].conj().T @ g),
        "bias": g.sum(0),
        "scale": ((p["kernel"] @ p["embedding"]).conj() * g).sum(),
    }
    return {leaf: found[leaf] for leaf in p}


@dataclasses.dataclass(frozen=True)
class Case:
    """One optimizer with its arguments, in one way of use.

    Attributes:
        optimizer: name of the class, and of our function.
        options: its arguments, by name.
        problem: what it is followed on.
        groups: parameter groups: argument overrides, with regular expressions on the path under "params" (none: the rest).
        scheduled: whether the learning rate is multiplied by `RATES`.
        missing: whether half of the gradients are None in each step.
        tracks: what is compared: the parameters, and their running average where the method keeps one.
        steps: how many steps are taken.
        condition: what the framework is run with, where that is not as it comes.
    """

    optimizer: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    problem: Problem = Problem()
    groups: tuple[Mapping[str, Any], ...] = ()
    scheduled: bool = False
    missing: bool = False
    tracks: tuple[str, ...] = ("params",)
    steps: int = STEPS
    condition: str = ""

    def __str__(self) -> str:
        words = [f"{self.optimizer}({written(self.options)})"]
        words += ["[" + "; ".join(written(group) for group in self.groups) + "]"] if self.groups else []
        flags = {"scheduled": self.scheduled, "missing": self.missing, "complex": self.problem.is_complex}
        return " ".join(words + [word for word, on in flags.items() if on])

    @property
    def recorded(self) -> tuple[int, ...]:
        """The steps after which the trajectory is kept."""
        return tuple(step for step in RECORDED if step <= self.steps)

    def excess(self, stored: np.ndarray, ours: np.ndarray) -> float:
        """The largest `excess` of a trajectory: above 1 the two do not agree."""
        if stored.shape != ours.shape:
            return np.inf
        return float(np.max(excess(stored, ours, flat(self.problem.start()))))

    def absent(self, step: int) -> frozenset[str]:
        """Paths whose gradient is None in step `step` from 0: one half or the other, for one step or two in a row."""
        return frozenset(path for i, path in enumerate(self.problem.paths) if self.missing and (i + step.bit_count()) % 2)


def written(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def group_of(path: str, groups: Sequence[Mapping[str, Any]]) -> int:
    """Index of the group that `path` belongs to: the one that has a matching pattern, or else has none."""
    for i, group in enumerate(groups):
        patterns = group.get("params")
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if patterns is not None and any(re.search(pattern, path) for pattern in patterns):
            return i
    return next(i for i, group in enumerate(groups) if "params" not in group)


def flat(tree: Mapping[str, Any]) -> np.ndarray:
    """One float64 vector of all leaves in order; a complex number is two coordinates."""
    return np.concatenate([np.ravel(np.asarray(tree[path])).view(np.float64) for path in sorted(tree)])


def excess(stored: np.ndarray, ours: np.ndarray, start: np.ndarray) -> np.ndarray:
    """How many times the permitted error each coordinate is off, at each recorded step.

    Compared is how far a coordinate moved: it may be off by 1e-10 of its largest displacement in the trajectory, plus the
    rounding of its own value. What a neighbouring convention changes is a part of the displacement, however small against
    the parameter. The last axis counts the coordinates, the one before the steps.
    """
    displaced = np.max(np.abs(stored - start), axis=-2, keepdims=True)
    size = np.maximum(np.abs(start), np.max(np.abs(stored), axis=-2, keepdims=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.abs(ours - stored) / (TOLERANCE * displaced + ROUNDING * size)
    return np.where(ours == stored, 0.0, np.nan_to_num(ratio, nan=np.inf))
