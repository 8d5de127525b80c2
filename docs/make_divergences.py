"""Write docs/divergences.md, where the lecture, the papers and the frameworks differ, by running the frameworks.

`python docs/make_divergences.py` writes the page; with `--check` it compares instead, prints a diff, and exits with 1 where
the page is not what the installed frameworks do.

A question, such as where Adam's ε stands, has candidates: NumPy loops in float64, one for each possible answer. Each
framework's own optimizer is run on a problem on which the candidates go different ways, and what stands in the table is the
name of the one candidate that goes the same way; none, or two, is an error. The lecture's and the papers' answers are
candidates written from their formulas. Defaults are read from the signatures.
"""

import argparse
import contextlib
import dataclasses
import difflib
import functools
import importlib.metadata
import inspect
import itertools
import os
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import oracles
from oracles.muon import newton_schulz

PAGE = Path(__file__).with_name("divergences.md")
FRAMEWORKS = ("PyTorch", "Keras", "Optax")
COLUMNS = ("lecture", "paper", *FRAMEWORKS, "jaxopt_lec")

TOLERANCE = 1e-9  # of a trajectory that is the same, relative to how far it goes
LOOSE = 1e-6  # where a framework rounds to float32 on its way; the row says why
SEPARATION = 1e-4  # of candidates with different names, at least

STEPS = 8
# The numbers behind the names in the calls; ε is large, so that its place shows.
η, ε, γ, ρ, λ, c, k = 0.1, 0.3, 0.8, 0.9, 0.2, 0.5, 2
VALUES = {"η": η, "η1": η, "ε": ε, "γ": γ, "ρ": ρ, "λ": λ, "c": c, "k": k}
RATES = η * (1 + 0.7 * np.sin(np.arange(1.0, STEPS + 2)))  # of an η that is scheduled

REFUSED = "refused"  # the answer of a framework that raises an error


class MismatchError(Exception):
    """A trajectory is that of no candidate or of two, or the page cannot be made for another reason of this kind."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """What the optimizers are run on: in step t the loss Σ scale (a log cosh θ + bₜ θ).

    Attributes:
        shape: of the parameter.
        scale: of the loss. At 1e4 every default ε is lost in rounding, and the calls need not give one.
        shift: added to bₜ; from 4 on the gradient is positive.
        every: how many gradients are accumulated for one step.
        missing: the steps, from 1, in which the first coordinate has no gradient; the coordinates are parameters then.
        is_complex: whether the parameter is, with the gradient ∂L/∂Re + i ∂L/∂Im = scale (a θ + bₜ).
    """

    shape: tuple[int, ...] = (3,)
    scale: float = 1.0
    shift: float = 0.0
    every: int = 1
    missing: tuple[int, ...] = ()
    is_complex: bool = False

    def _numbers(self, seed: int, *shape: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        return random.uniform(-1, 1, shape) + (1j * random.uniform(-1, 1, shape) if self.is_complex else 0)

    @functools.cached_property
    def start(self) -> np.ndarray:
        """The parameter before the first step."""
        return self._numbers(0, *self.shape)

    @functools.cached_property
    def a(self) -> np.ndarray:
        """The curvature."""
        return np.linspace(0.5, 1.5, int(np.prod(self.shape))).reshape(self.shape)

    @functools.cached_property
    def b(self) -> np.ndarray:
        """The slope in each step."""
        return 2 * self._numbers(1, STEPS + 1, *self.shape) + self.shift

    def gradient(self, theta: np.ndarray, t: int) -> np.ndarray:
        """Return the gradient in step t = 1, 2, …, NaN where it is missing."""
        g = self.scale * (self.a * (theta if self.is_complex else np.tanh(theta)) + self.b[t])
        return np.where(np.arange(g.size) == 0, np.nan, g) if t in self.missing else g

    def leaves(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the arrays that a framework is given."""
        return list(x) if self.missing else [x]

    def joined(self, leaves: Sequence[Any]) -> np.ndarray:
        """Return what `leaves` made of, from a framework's arrays."""
        return np.stack([np.asarray(x) for x in leaves]) if self.missing else np.array(leaves[0])

    def gradients(self, leaves: Sequence[Any], t: int) -> list[np.ndarray | None]:
        """Return a gradient for each leaf, `None` where it is missing."""
        return [None if np.isnan(g).any() else g for g in self.leaves(self.gradient(self.joined(leaves), t))]


PLAIN, STEEP, MATRIX = Problem(), Problem(scale=1e4), Problem((4, 3), scale=1e4)

# A candidate: (theta, gradient, steps, learning_rate) -> the parameters before the first step and after each.
Loop = Callable[..., np.ndarray]


@dataclasses.dataclass(frozen=True)
class Row:
    """One question about one method.

    Attributes:
        method, question: what stands on the left.
        candidates: answer → the loops that give it; several, where they differ in what is not the question.
        lecture, paper: their answers, `None` where they have none.
        runs: framework → call of its optimizer, in which the names of `VALUES` are theirs.
        ours: answer → call of ours, and for an answer that we lack a reason in parentheses.
        default: whether the first of `ours` is what our method does unasked.
        problems: what is run.
        scheduled: whether η is a schedule.
        values: in the place of those in `VALUES`.
        before_step: what is called between PyTorch's `backward` and `step`.
        loose: framework → why its path is the candidate's to `LOOSE` only.
        notes: column → footnote.
        in_compat: the frameworks whose call is also one of `jaxopt_lec.compat`, which then must go the same way.
    """

    method: str
    question: str
    candidates: Mapping[str, Loop | Sequence[Loop]]
    lecture: str | None = None
    paper: str | None = None
    runs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ours: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default: bool = True
    problems: tuple[Problem, ...] = (PLAIN,)
    scheduled: bool = False
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    before_step: str = ""
    loose: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    in_compat: tuple[str, ...] = ("PyTorch", "Keras")

    def __str__(self) -> str:
        """Return method and question."""
        return f"{self.method}: {self.question}"


# Candidates that no oracle has. A loop is written as one step: (slots, gradient, θ, t, η) -> θ; slots start at 0.


class Slots(SimpleNamespace):
    """What a loop keeps from step to step."""

    def __getattr__(self, name: str) -> float:
        """Return 0 for what was never set."""
        return 0.0


def loop(step: Callable[..., np.ndarray]) -> Loop:
    """Return the candidate whose step is `step`."""

    def run(theta: np.ndarray, gradient: Callable[..., Any], steps: int, learning_rate: Any) -> np.ndarray:
        slots, path = Slots(), [theta]
        for t in range(1, steps + 1):
            eta = learning_rate(t - 1) if callable(learning_rate) else learning_rate
            path.append(step(slots, gradient(path[-1], t), path[-1], t, eta))
        return np.stack(path)

    return run


def seeing(other: Callable[[np.ndarray, np.ndarray], np.ndarray], method: Loop) -> Loop:
    """Return `method` on the gradient `other(g, θ)`."""

    def run(theta: np.ndarray, gradient: Callable[..., Any], steps: int, learning_rate: Any) -> np.ndarray:
        return method(theta, lambda theta, t: other(gradient(theta, t), theta), steps, learning_rate)

    return run


def at_rate(rate: float, method: Loop) -> Loop:
    """Return `method` with a learning rate of its own."""
    return lambda theta, gradient, steps, learning_rate: method(theta, gradient, steps, rate)


def with_l2(method: Loop) -> Loop:
    """Return `method` with λθ in the gradient."""
    return seeing(lambda g, theta: g + λ * theta, method)


def of(method: Loop, **arguments: Any) -> Loop:
    """Return an oracle with arguments."""
    return functools.partial(method, **arguments)


def length(x: np.ndarray) -> float:
    """Return ‖x‖."""
    return float(np.sqrt(np.sum(x**2)))


def rms(x: np.ndarray) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(x**2)))


def averages(s: Slots, g: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Adam's m̂ and v̂."""
    s.m = 0.9 * s.m + 0.1 * g
    s.v = 0.999 * s.v + 0.001 * g**2
    return s.m / (1 - 0.9**t), s.v / (1 - 0.999**t)


@loop
def rmsprop_rate_inside(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
    """RMSProp's momentum after Graves: b ← γ b + η g/√G; θ ← θ − b."""
    s.G = ρ * s.G + (1 - ρ) * g**2
    s.b = γ * s.b + eta * g / np.sqrt(s.G)
    return theta - s.b


def adadelta(
    accumulated: Callable[[Any, float], Any] = lambda delta, eta: delta**2, *, ahead: bool = False, outside: bool = False
) -> Loop:
    """AdaDelta whose S averages `accumulated(Δ, η)`; with `ahead` Δ has the S of its own step; ε inside the roots or not."""

    def root(x: Any) -> Any:
        return np.sqrt(x) + ε if outside else np.sqrt(x + ε)

    @loop
    def step(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
        s.G = ρ * s.G + (1 - ρ) * g**2
        delta = root(s.S) / root(s.G) * g
        s.S = ρ * s.S + (1 - ρ) * accumulated(delta, eta)
        return theta - eta * (root(s.S) / root(s.G) * g if ahead else delta)

    return step


def amsgrad_of_corrected(eps: float = 0.0) -> Loop:
    """AMSGrad with the maximum of v̂."""

    @loop
    def step(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
        m_hat, v_hat = averages(s, g, t)
        s.v_max = np.maximum(s.v_max, v_hat)
        return theta - eta * m_hat / (np.sqrt(s.v_max) + eps)

    return step


@loop
def nadam_of_the_paper(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
    """NAdam after Dozat, algorithm 2: m averaged with μₜ, and β₂ v/(1−β₂ᵗ) for v̂."""

    def mu(t: int) -> float:
        return 0.9 * (1 - 0.5 * 0.96 ** (t / 250))

    s.product = mu(t) * (s.product if t > 1 else 1.0)
    s.m = mu(t) * s.m + (1 - mu(t)) * g
    s.v = 0.999 * s.v + 0.001 * g**2
    m_bar = mu(t + 1) * s.m / (1 - s.product * mu(t + 1)) + (1 - mu(t)) * g / (1 - s.product)
    return theta - eta * m_bar / np.sqrt(0.999 * s.v / (1 - 0.999**t))


@loop
def momentum_decoupled(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
    """Momentum with θ ← θ − η λ θ beside the step."""
    s.v = γ * s.v + eta * g
    return theta - s.v - eta * λ * theta


def adam_decoupled(*, eps: float = 0.0, eps_hat: float = 0.0) -> Loop:
    """Adam with θ ← θ − η λ θ beside the step, ε on √v̂ or on √v."""

    @loop
    def step(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
        m_hat, v_hat = averages(s, g, t)
        return theta - eta * m_hat / (np.sqrt(v_hat) + eps + eps_hat / np.sqrt(1 - 0.999**t)) - eta * λ * theta

    return step


@loop
def adamw_of_the_paper(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
    """AdamW after Loshchilov and Hutter, algorithm 2: the decay has the schedule's multiplier, η/α, and not α."""
    m_hat, v_hat = averages(s, g, t)
    return theta - eta * m_hat / np.sqrt(v_hat) - eta / η * λ * theta


def lamb_decayed_outside(*, before: bool) -> Loop:
    """LAMB with the decay outside the ratio, before the step or beside it."""

    @loop
    def step(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
        m_hat, v_hat = averages(s, g, t)
        r = m_hat / np.sqrt(v_hat)
        shrunk = theta - eta * λ * theta
        return shrunk - eta * length(shrunk if before else theta) / length(r) * r

    return step


def adafactor(
    *, decay: str = "", relative: bool = True, b2: Callable[[int], float] = lambda t: 1 - t**-0.8, factored: bool = True
) -> Loop:
    """Adafactor for a matrix, with what the oracle has not: weight decay, another rate, another β̂₂, all of V̂."""

    @loop
    def step(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
        s.V = b2(t) * s.V + (1 - b2(t)) * g**2
        # Means are linear, so those of V are R and C.
        v_hat = s.V.mean(1, keepdims=True) * s.V.mean(0) / s.V.mean() if factored else s.V
        u = g / np.sqrt(v_hat)
        shrunk = theta - {"": 0, "beside": eta, "before": eta, "without the rate": 1}[decay] * λ * theta
        rate = min(eta, 1 / np.sqrt(t)) if relative else eta
        return shrunk - max(1e-3, rms(shrunk if decay == "before" else theta)) * rate * u / max(1.0, rms(u))

    return step


def muon(
    direction: str = "accumulated",
    eps: float = 0.0,
    floor: float = 0.0,
    factor: Callable[[int, int], float] = lambda *_: 1.0,
) -> Loop:
    """Muon with one of the momenta that frameworks have, and with the factor of one's choice of (rows, columns)."""

    @loop
    def step(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
        share = 1.0 if direction == "accumulated" else 0.05
        s.v = 0.95 * s.v + share * g
        correct = (1 - 0.95 ** (t + 1), 1 - 0.95**t) if direction == "corrected" else (1.0, 1.0)
        x = 0.95 * s.v / correct[0] + share * g / correct[1]
        X = newton_schulz(x / (max(length(x), floor) + eps), (3.4445, -4.7750, 2.0315), 5)
        return theta - eta * factor(*theta.shape) * X

    return step


@loop
def schedule_free_of_optax(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
    """Schedule-Free AdamW whose mean weights each step by the square of the largest rate up to the next step."""
    z = s.z if t > 1 else theta
    x = (theta - (1 - 0.9) * z) / 0.9
    s.v = 0.999 * s.v + 0.001 * g**2
    s.z = z - eta * g / np.sqrt(s.v / (1 - 0.999**t))
    s.largest = max(s.largest, RATES[t])
    s.weights += s.largest**2
    return 0.1 * s.z + 0.9 * (x + s.largest**2 / s.weights * (s.z - x))


def rprop(turn: str) -> Loop:
    """Rprop, which at a turn of the sign takes the last step "back", goes on with a "smaller" step, or is "late" always."""

    @loop
    def step(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
        s.size = eta if t == 1 else s.size
        agreement = np.sign(g) * np.sign(s.g_prev)
        s.size = np.clip(s.size * np.select([agreement > 0, agreement < 0], [1.2, 0.5], 1.0), 1e-6, 50)
        s.g_prev = g if turn == "smaller" else np.where(agreement < 0, 0.0, g)
        last, s.last = s.last, np.sign(s.g_prev) * s.size
        if turn == "late":
            return theta - np.where(agreement < 0, 0.0, last)
        if turn == "back":
            s.last = np.where(agreement < 0, -last, s.last)
        return theta - s.last

    return step


@loop
def asgd_in_time(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
    """ASGD where a scheduled rate acts at once."""
    return theta - eta * (1 + λ * eta * (t - 1)) ** -0.75 * (g + λ * theta)


@loop
def adam_of_squares(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
    """Adam whose v is an average of z², a complex number."""
    m_hat, v_hat = averages(s, g, t)
    return theta - eta * m_hat / np.sqrt(v_hat)


def adam_of_parts(theta: Any, gradient: Any, steps: int, learning_rate: Any) -> Any:
    """Adam for the real and the imaginary part apart."""

    def parts(z: Any) -> Any:
        return np.stack([z.real, z.imag])

    path = oracles.adam(parts(theta), lambda x, t: parts(gradient(x[0] + 1j * x[1], t)), steps, learning_rate, eps=0.0)
    return path[:, 0] + 1j * path[:, 1]


def adam_without_some(*, own_count: bool) -> Loop:
    """Adam that leaves m and v of a missing gradient alone, and goes on counting the step, or not."""

    @loop
    def step(s: Slots, g: Any, theta: Any, t: int, eta: float) -> Any:
        there = ~np.isnan(g)
        s.n = s.n + there
        n, g = np.maximum(s.n, 1) if own_count else t, np.nan_to_num(g)
        s.m = np.where(there, 0.9 * s.m + 0.1 * g, s.m)
        s.v = np.where(there, 0.999 * s.v + 0.001 * g**2, s.v)
        u = s.m / (1 - 0.9**n) / np.sqrt(np.where(there, s.v, 1) / (1 - 0.999**n))
        return theta - eta * np.where(there, u, 0)

    return step


def sgd_accumulating(*, mean: bool, count: Callable[[int], int]) -> Loop:
    """SGD with the mean or the sum of k gradients, and the learning rate of `count(updates done)`."""

    def run(theta: Any, gradient: Any, steps: int, learning_rate: Any) -> Any:
        path, total = [theta], 0.0
        for t in range(1, steps + 1):
            total = total + gradient(path[-1], t)
            if t % k:
                path.append(path[-1])
                continue
            eta = learning_rate(count(t // k - 1)) if callable(learning_rate) else learning_rate
            path.append(path[-1] - eta * total / (k if mean else 1))
            total = 0.0
        return np.stack(path)

    return run


NADAM_SCHEDULES = {"β₁(1 − ½·0.96^(t/250))": 0.004, "β₁(1 − ½·0.96^t)": 1.0, "β₁": float("inf")}
DIRECTIONS = {"v ← μv + g": "accumulated", "v ← μv + (1−μ)g": "averaged", "v ← μv + (1−μ)g, corrected": "corrected"}
TINY = 1e-7  # the ε that Keras's Muon has
SMALL_SQUARE = Problem((4, 4), scale=TINY / 3)  # a square matrix has the factor 1

KERAS_FLOAT32 = "Keras on JAX takes means and norms in float32, also of float64: agreement to 1e-6."
OPTAX_FLOAT32 = "Optax computes β̂₂ in float32: agreement to 1e-6."
OPTAX_ACCUMULATOR = "`optax.MultiSteps` accumulates in float32: agreement to 1e-6."
BEFORE = "Before the step; where the step does not read θ that is the same."
TORCH_BFLOAT16 = "PyTorch orthogonalizes in bfloat16; here its code is run with float64 in that place."
INSIDE, OUTSIDE = "inside: v ← γv + ηg", "outside: θ ← θ − ηv"


def learning_rate_rows() -> list[Row]:
    """Return the questions about the learning rate."""
    places = {INSIDE: True, OUTSIDE: False}
    points = {"true look-ahead, θ": oracles.nesterov, "look-ahead coordinates, φ": oracles.nesterov_look_ahead}
    steps = {"θ ← θ − Δ": 1.0, "θ ← θ − 0.001 Δ": 0.001, "θ ← θ + Δ": -1.0}
    return [
        Row(
            "momentum",
            "place of η",
            {name: of(oracles.momentum, decay=γ, learning_rate_inside=inside) for name, inside in places.items()},
            lecture=INSIDE,
            paper=INSIDE,
            runs={"PyTorch": "SGD(lr=η, momentum=γ)", "Keras": "SGD(η, momentum=γ)", "Optax": "optax.sgd(η, momentum=γ)"},
            ours={INSIDE: "jl.momentum(η, γ)", OUTSIDE: "jl.momentum(η, γ, learning_rate_inside=False)"},
            scheduled=True,
            notes={"paper": "In the form of Sutskever et al., 2013."},
        ),
        Row(
            "Nesterov",
            "place of η",
            {
                name: [of(method, decay=γ, learning_rate_inside=inside) for method in points.values()]
                for name, inside in places.items()
            },
            lecture=INSIDE,
            paper=INSIDE,
            runs={
                "PyTorch": "SGD(lr=η, momentum=γ, nesterov=True)",
                "Keras": "SGD(η, momentum=γ, nesterov=True)",
                "Optax": "optax.sgd(η, momentum=γ, nesterov=True)",
            },
            ours={INSIDE: "jl.nesterov(η, γ)", OUTSIDE: "jl.nesterov(η, γ, learning_rate_inside=False)"},
            scheduled=True,
            notes={"paper": "In the form of Sutskever et al., 2013."},
        ),
        Row(
            "Nesterov",
            "what is trained",
            {
                name: [of(method, decay=γ, learning_rate_inside=inside) for inside in places.values()]
                for name, method in points.items()
            },
            lecture="true look-ahead, θ",
            paper="true look-ahead, θ",
            runs={
                "PyTorch": "SGD(lr=η, momentum=γ, nesterov=True)",
                "Keras": "SGD(η, momentum=γ, nesterov=True)",
                "Optax": "optax.sgd(η, momentum=γ, nesterov=True)",
            },
            ours={"look-ahead coordinates, φ": "jl.nesterov(η, γ)", "true look-ahead, θ": "jl.nesterov_exact(η, γ)"},
            scheduled=True,
        ),
        Row(
            "RMSProp with momentum",
            "place of η",
            {
                "inside: b ← γb + ηu": rmsprop_rate_inside,
                "outside: θ ← θ − ηb": of(oracles.rmsprop, decay=ρ, eps=0.0, momentum=γ),
            },
            paper="inside: b ← γb + ηu",
            runs={
                "PyTorch": "RMSprop(lr=η, alpha=ρ, momentum=γ)",
                "Keras": "RMSprop(η, momentum=γ)",
                "Optax": "optax.rmsprop(η, momentum=γ)",
            },
            ours={
                "outside: θ ← θ − ηb": "jl.rmsprop(η, momentum=γ)",
                "inside: b ← γb + ηu": "optax.chain(jl.rmsprop(η), jl.scale_by_momentum(decay=γ))",
            },
            scheduled=True,
            problems=(STEEP,),
            notes={"paper": "Graves, 2013."},
        ),
        Row(
            "AdaDelta",
            "without a given η",
            {name: at_rate(rate, adadelta()) for name, rate in steps.items()},
            lecture="θ ← θ − Δ",
            paper="θ ← θ − Δ",
            runs={
                "PyTorch": "Adadelta(rho=ρ, eps=ε)",
                "Keras": "Adadelta(rho=ρ, epsilon=ε)",
                "Optax": "optax.adadelta(rho=ρ, eps=ε)",
            },
            ours={
                "θ ← θ − Δ": "jl.adadelta(rho=ρ, eps=ε)",
                "θ ← θ − 0.001 Δ": "jl.adadelta(0.001, rho=ρ, eps=ε)",
                "θ ← θ + Δ": "(uphill; give Optax a learning rate)",
            },
        ),
        Row(
            "Adafactor",
            "rate in step t",
            {"min(η, 1/√t)": adafactor(), "η": adafactor(relative=False)},
            paper="min(η, 1/√t)",
            runs={
                "PyTorch": "Adafactor(lr=η)",
                "Keras": "Adafactor(η)",
                "Optax": "optax.adafactor(η, min_dim_size_to_factor=1)",
            },
            ours={"min(η, 1/√t)": "jl.adafactor(η)", "η": "(not here: no argument; equal while η < 1/√t)"},
            problems=(MATRIX,),
            values={"η": 0.6},
            loose={"Keras": KERAS_FLOAT32, "Optax": OPTAX_FLOAT32},
        ),
    ]


def epsilon_rows() -> list[Row]:
    """Return the questions about ε."""
    adagrad = {"√G + ε": {"eps": ε}, "√(G + ε)": {"eps": 0.0, "eps_root": ε}}
    adam = {"√v̂ + ε": {"eps": ε}, "√(v̂ + ε)": {"eps": 0.0, "eps_root": ε}, "√v + ε": {"eps": 0.0, "eps_hat": ε}}
    none = {"√v̂": {"eps": 0.0}}
    return [
        Row(
            "Adagrad",
            "denominator",
            {
                name: [of(oracles.adagrad, initial_accumulator=start, **place) for start in (0.0, 0.1)]
                for name, place in adagrad.items()
            },
            lecture="√(G + ε)",
            paper="√G + ε",
            runs={"PyTorch": "Adagrad(lr=η, eps=ε)", "Keras": "Adagrad(η, epsilon=ε)", "Optax": "optax.adagrad(η, eps=ε)"},
            ours={"√G + ε": "jl.adagrad(η, eps=ε)", "√(G + ε)": "jl.adagrad(η, eps=0.0, eps_root=ε)"},
        ),
        Row(
            "RMSProp",
            "denominator",
            {
                "√G + ε": of(oracles.rmsprop, decay=ρ, eps=ε),
                "√(G + ε)": of(oracles.rmsprop, decay=ρ, eps=0.0, eps_root=ε),
                "√G": of(oracles.rmsprop, decay=ρ, eps=0.0),
            },
            lecture="√(G + ε)",
            paper="√G",
            runs={
                "PyTorch": "RMSprop(lr=η, alpha=ρ, eps=ε)",
                "Keras": "RMSprop(η, epsilon=ε)",
                "Optax": "optax.rmsprop(η, eps=ε)",
            },
            ours={
                "√G + ε": "jl.rmsprop(η, eps=ε)",
                "√(G + ε)": "jl.rmsprop(η, eps=0.0, eps_root=ε)",
                "√G": "jl.rmsprop(η, eps=0.0)",
            },
            notes={
                "lecture": "The slide prints √(γG + ε), a slip.",
                "paper": "Tieleman and Hinton, 2012.",
                "Optax": "`eps_in_sqrt=False` is √G + ε.",
            },
        ),
        Row(
            "AdaDelta",
            "denominator",
            {"√(S+ε)/√(G+ε)": adadelta(), "(√S+ε)/(√G+ε)": adadelta(outside=True)},
            lecture="√(S+ε)/√(G+ε)",
            paper="√(S+ε)/√(G+ε)",
            runs={
                "PyTorch": "Adadelta(lr=η, rho=ρ, eps=ε)",
                "Keras": "Adadelta(η, rho=ρ, epsilon=ε)",
                "Optax": "optax.adadelta(η, rho=ρ, eps=ε)",
            },
            ours={"√(S+ε)/√(G+ε)": "jl.adadelta(η, rho=ρ, eps=ε)"},
        ),
        Row(
            "Adam",
            "denominator",
            {name: of(oracles.adam, **place) for name, place in adam.items()},
            lecture="√(v̂ + ε)",
            paper="√v̂ + ε",
            runs={"PyTorch": "Adam(lr=η, eps=ε)", "Keras": "Adam(η, epsilon=ε)", "Optax": "optax.adam(η, eps=ε)"},
            ours={
                "√v̂ + ε": "jl.adam(η, eps=ε)",
                "√(v̂ + ε)": "jl.adam(η, eps=0.0, eps_root=ε)",
                "√v + ε": "jl.adam(η, eps=0.0, eps_hat=ε)",
            },
            notes={"paper": "Algorithm 1; at the end of section 2 also √v + ε̂.", "Optax": "`eps_root` is √(v̂ + ε)."},
        ),
        Row(
            "AMSGrad",
            "denominator",
            {name: of(oracles.amsgrad, **place) for name, place in adam.items()}
            | {
                "√v̂ + ε": [of(oracles.amsgrad, eps=ε), amsgrad_of_corrected(ε)],
                "√v": of(oracles.amsgrad, eps=0.0, bias_correction=False),
            },
            paper="√v",
            runs={
                "PyTorch": "Adam(lr=η, eps=ε, amsgrad=True)",
                "Keras": "Adam(η, epsilon=ε, amsgrad=True)",
                "Optax": "optax.amsgrad(η, eps=ε)",
            },
            ours={
                "√v̂ + ε": "jl.amsgrad(η, eps=ε)",
                "√v + ε": "jl.amsgrad(η, eps=0.0, eps_hat=ε)",
                "√v": "jl.amsgrad(η, eps=0.0, bias_correction=False)",
            },
        ),
        Row(
            "AdaMax",
            "denominator",
            {
                "max(β₂u, |g|)": of(oracles.adamax, eps=0.0),
                "max(β₂u, |g|) + ε": of(oracles.adamax, eps=ε),
                "max(β₂u, |g| + ε)": of(oracles.adamax, eps=0.0, eps_max=ε),
            },
            paper="max(β₂u, |g|)",
            runs={"PyTorch": "Adamax(lr=η, eps=ε)", "Keras": "Adamax(η, epsilon=ε)", "Optax": "optax.adamax(η, eps=ε)"},
            ours={
                "max(β₂u, |g|) + ε": "jl.adamax(η, eps=ε)",
                "max(β₂u, |g| + ε)": "jl.adamax(η, eps=0.0, eps_max=ε)",
                "max(β₂u, |g|)": "jl.adamax(η, eps=0.0)",
            },
        ),
        Row(
            "NAdam",
            "denominator",
            {
                name: [of(oracles.nadam, momentum_decay=psi, **place) for psi in NADAM_SCHEDULES.values()]
                for name, place in adam.items()
                if "eps_hat" not in place
            },
            paper="√v̂ + ε",
            runs={"PyTorch": "NAdam(lr=η, eps=ε)", "Keras": "Nadam(η, epsilon=ε)", "Optax": "optax.nadam(η, eps=ε)"},
            ours={"√v̂ + ε": "jl.nadam(η, eps=ε)"},
        ),
        Row(
            "RAdam",
            "denominator",
            {
                name: [of(oracles.radam, threshold=threshold, **place) for threshold in (4.0, 5.0)]
                for name, place in (adam | none).items()
            },
            paper="√v̂",
            runs={"PyTorch": "RAdam(lr=η, eps=ε)", "Optax": "optax.radam(η, eps=ε)"},
            ours={"√v̂ + ε": "jl.radam(η, eps=ε)", "√v + ε": "jl.radam(η, eps=0.0, eps_hat=ε)", "√v̂": "jl.radam(η, eps=0.0)"},
        ),
        Row(
            "LAMB",
            "denominator",
            {name: of(oracles.lamb, **place) for name, place in adam.items() if "eps_hat" not in place},
            paper="√v̂ + ε",
            runs={"Keras": "Lamb(η, epsilon=ε)", "Optax": "optax.lamb(η, eps=ε)"},
            ours={"√v̂ + ε": "jl.lamb(η, eps=ε)"},
        ),
        Row(
            "Adafactor",
            "ε₁",
            {"g² + ε₁": of(oracles.adafactor, eps=ε), "max(√V̂, ε₁)": of(oracles.adafactor, eps=0.0, eps_floor=ε)},
            paper="g² + ε₁",
            runs={
                "PyTorch": "Adafactor(lr=η, eps=(ε, 1e-3))",
                "Keras": "Adafactor(η, epsilon_1=ε)",
                "Optax": "optax.adafactor(η, min_dim_size_to_factor=1, eps=ε)",
            },
            ours={"g² + ε₁": "jl.adafactor(η, eps=ε)", "max(√V̂, ε₁)": "jl.adafactor(η, eps=0.0, eps_floor=ε)"},
            problems=(Problem((4, 3), scale=0.2),),
            loose={"Keras": KERAS_FLOAT32, "Optax": OPTAX_FLOAT32},
        ),
        Row(
            "Muon",
            "ε",
            {
                "‖x‖ + ε": [muon(direction, eps=TINY) for direction in DIRECTIONS.values()],
                "max(‖x‖, ε)": [muon(direction, floor=TINY) for direction in DIRECTIONS.values()],
            },
            paper="‖x‖ + ε",
            runs={
                "PyTorch": "Muon(lr=η, weight_decay=0.0, eps=ε)",
                "Keras": "Muon(η, weight_decay=None, rms_rate=None)",
                "Optax": "optax.contrib.muon(η, eps=ε)",
            },
            ours={"‖x‖ + ε": "jl.muon(η, eps=ε)", "max(‖x‖, ε)": "jl.muon(η, eps=0.0, eps_floor=ε)"},
            problems=(SMALL_SQUARE,),
            values={"ε": TINY},
            loose={"Keras": KERAS_FLOAT32},
            notes={"PyTorch": TORCH_BFLOAT16, "Keras": "ε is 1e-7 and no argument."},
        ),
    ]


def accumulation_rows() -> list[Row]:
    """Return the questions about what is kept from step to step."""
    factors = {
        "√max(1, rows/columns)": lambda rows, columns: max(1, rows / columns) ** 0.5,
        "√max(1, columns/rows)": lambda rows, columns: max(1, columns / rows) ** 0.5,
        "0.2 √max(rows, columns)": lambda rows, columns: 0.2 * max(rows, columns) ** 0.5,
        "1": lambda rows, columns: 1.0,
    }
    return [
        Row(
            "Adagrad",
            "G₀",
            {
                f"{start:g}": [
                    of(oracles.adagrad, initial_accumulator=start, eps=outside, eps_root=inside)
                    for outside, inside in ((1e-10, 0.0), (0.0, 1e-7))
                ]
                for start in (0.0, 0.1)
            },
            lecture="0",
            paper="0",
            runs={"PyTorch": "Adagrad(lr=η)", "Keras": "Adagrad(η)", "Optax": "optax.adagrad(η)"},
            ours={"0": "jl.adagrad(η)", "0.1": "jl.adagrad(η, eps=0.0, eps_root=1e-7, initial_accumulator=0.1)"},
        ),
        Row(
            "AdaDelta",
            "S averages",
            {
                "Δ²": adadelta(),
                "Δ": adadelta(lambda delta, eta: delta),
                "(ηΔ)²": adadelta(lambda delta, eta: (eta * delta) ** 2),
            },
            lecture="Δ",
            paper="Δ²",
            runs={
                "PyTorch": "Adadelta(lr=η, rho=ρ, eps=ε)",
                "Keras": "Adadelta(η, rho=ρ, epsilon=ε)",
                "Optax": "optax.adadelta(η, rho=ρ, eps=ε)",
            },
            ours={"Δ²": "jl.adadelta(η, rho=ρ, eps=ε)", "Δ": "(not here: S can become negative, and √S is NaN)"},
            problems=(Problem(shift=4),),
        ),
        Row(
            "AdaDelta",
            "S in the step",
            {"of the steps before": adadelta(), "of this step too": adadelta(ahead=True)},
            lecture="of the steps before",
            paper="of the steps before",
            runs={
                "PyTorch": "Adadelta(lr=η, rho=ρ, eps=ε)",
                "Keras": "Adadelta(η, rho=ρ, epsilon=ε)",
                "Optax": "optax.adadelta(η, rho=ρ, eps=ε)",
            },
            ours={"of the steps before": "jl.adadelta(η, rho=ρ, eps=ε)"},
        ),
        Row(
            "AMSGrad",
            "maximum of",
            {
                "v, then corrected": of(oracles.amsgrad, eps=0.0),
                "v̂": amsgrad_of_corrected(),
                "v, nothing corrected": of(oracles.amsgrad, eps=0.0, bias_correction=False),
            },
            paper="v, nothing corrected",
            runs={"PyTorch": "Adam(lr=η, amsgrad=True)", "Keras": "Adam(η, amsgrad=True)", "Optax": "optax.amsgrad(η)"},
            ours={
                "v, then corrected": "jl.amsgrad(η)",
                "v, nothing corrected": "jl.amsgrad(η, bias_correction=False)",
                "v̂": "(not here: no argument)",
            },
            problems=(STEEP,),
        ),
        Row(
            "NAdam",
            "momentum μₜ",
            {name: of(oracles.nadam, eps=0.0, momentum_decay=psi) for name, psi in NADAM_SCHEDULES.items()}
            | {"β₁(1 − ½·0.96^(t/250)), m with μₜ": nadam_of_the_paper},
            paper="β₁(1 − ½·0.96^(t/250)), m with μₜ",
            runs={"PyTorch": "NAdam(lr=η)", "Keras": "Nadam(η)", "Optax": "optax.nadam(η)"},
            ours={
                "β₁(1 − ½·0.96^(t/250))": "jl.nadam(η)",
                "β₁(1 − ½·0.96^t)": "jl.nadam(η, momentum_decay=1.0)",
                "β₁": 'jl.nadam(η, momentum_decay=float("inf"))',
                "β₁(1 − ½·0.96^(t/250)), m with μₜ": "(not here: as the frameworks, m is averaged with β₁)",
            },
            problems=(STEEP,),
            notes={"paper": "And β₂ v/(1−β₂ᵗ) for v̂."},
        ),
        Row(
            "RAdam",
            "rectified where",
            {
                f"ρₜ > {threshold:g}": [
                    of(oracles.radam, threshold=threshold, **place) for place in ({}, {"eps": 0, "eps_hat": 1e-8})
                ]
                for threshold in (4.0, 5.0)
            },
            paper="ρₜ > 4",
            runs={"PyTorch": "RAdam(lr=η)", "Optax": "optax.radam(η)"},
            ours={"ρₜ > 4": "jl.radam(η)", "ρₜ > 5": "jl.radam(η, threshold=5.0)"},
        ),
        Row(
            "Adafactor",
            "β̂₂ in step t",
            {"1 − t^−0.8": adafactor(), "1 − (t+1)^−0.8": adafactor(b2=lambda t: 1 - (t + 1) ** -0.8)},
            paper="1 − t^−0.8",
            runs={
                "PyTorch": "Adafactor(lr=η)",
                "Keras": "Adafactor(η)",
                "Optax": "optax.adafactor(η, min_dim_size_to_factor=1)",
            },
            ours={"1 − t^−0.8": "jl.adafactor(η)"},
            problems=(MATRIX,),
            loose={"Keras": KERAS_FLOAT32, "Optax": OPTAX_FLOAT32},
        ),
        Row(
            "Adafactor",
            "a small matrix is",
            {"factored": adafactor(), "kept whole": adafactor(factored=False)},
            paper="factored",
            runs={"PyTorch": "Adafactor(lr=η)", "Keras": "Adafactor(η)", "Optax": "optax.adafactor(η)"},
            ours={"factored": "jl.adafactor(η)", "kept whole": "(not here: no argument)"},
            problems=(MATRIX,),
            loose={"Keras": KERAS_FLOAT32, "Optax": OPTAX_FLOAT32},
            notes={"Optax": "Unless both sides have `min_dim_size_to_factor`, 128."},
        ),
        Row(
            "Muon",
            "momentum",
            {
                name: [muon(direction, **place) for place in ({"eps": TINY}, {"floor": TINY})]
                for name, direction in DIRECTIONS.items()
            },
            paper="v ← μv + g",
            runs={
                "PyTorch": "Muon(lr=η, weight_decay=0.0, eps=ε)",
                "Keras": "Muon(η, weight_decay=None, rms_rate=None)",
                "Optax": "optax.contrib.muon(η, eps=ε)",
            },
            ours={
                "v ← μv + g": "jl.muon(η, eps=ε)",
                "v ← μv + (1−μ)g": "jl.muon(η, eps=ε / (1 - 0.95))",
                "v ← μv + (1−μ)g, corrected": "(not here: no argument)",
            },
            problems=(SMALL_SQUARE,),
            values={"ε": TINY},
            loose={"Keras": KERAS_FLOAT32},
            notes={"PyTorch": TORCH_BFLOAT16},
        ),
        Row(
            "Muon",
            "factor",
            {
                name: [muon(direction, factor=factor) for direction in DIRECTIONS.values()]
                for name, factor in factors.items()
            },
            runs={
                "PyTorch": "Muon(lr=η, weight_decay=0.0)",
                "Keras": "Muon(η, weight_decay=None)",
                "Optax": "optax.contrib.muon(η)",
            },
            ours={
                "√max(1, columns/rows)": "jl.muon(η)",
                "√max(1, rows/columns)": "jl.muon(η, output_axis=-2)",
                "0.2 √max(rows, columns)": 'jl.muon(η, adjust="match_rms")',
            },
            problems=(MATRIX, Problem((3, 5), scale=1e4)),
            loose={"Keras": KERAS_FLOAT32},
            notes={
                "PyTorch": TORCH_BFLOAT16,
                "jaxopt_lec": "PyTorch keeps a matrix as (out, in), Keras and Flax as (in, out): √max(1, out/in) in both.",
            },
        ),
        Row(
            "Rprop",
            "where the sign turns",
            {
                "no step": oracles.rprop,
                "the last step taken back": rprop("back"),
                "a smaller step": rprop("smaller"),
                "no step; others one late": rprop("late"),
            },
            paper="the last step taken back",
            runs={"PyTorch": "Rprop(lr=η)", "Optax": "optax.rprop(η)"},
            ours={
                "no step": "jl.rprop(η)",
                "the last step taken back": "(not here: PyTorch's is iRprop−)",
                "no step; others one late": "(not here: each step is that of the gradient before)",
            },
            notes={"paper": "Riedmiller and Braun, 1993; iRprop−, Igel and Hüsken, 2000, has no step."},
        ),
        Row(
            "Schedule-Free AdamW",
            "weights of the mean x",
            {
                "ηₜ²(1 − β₂ᵗ)": of(oracles.schedule_free_adamw, eps=0.0),
                "equal": of(oracles.schedule_free_adamw, eps=0.0, uniform_weights=True),
                "the largest η² up to ηₜ₊₁": schedule_free_of_optax,
            },
            paper="ηₜ²(1 − β₂ᵗ)",
            runs={"Keras": "ScheduleFreeAdamW(η)", "Optax": "optax.contrib.schedule_free_adamw(η)"},
            ours={
                "equal": "compat.keras.ScheduleFreeAdamW(η)",
                "the largest η² up to ηₜ₊₁": "optax.contrib.schedule_free(jl.adam(η, b1=0.0), η)",
                "ηₜ²(1 − β₂ᵗ)": "(not here: give Optax a schedule of them for its weights)",
            },
            default=False,
            scheduled=True,
            problems=(STEEP,),
        ),
        Row(
            "Adam, complex z",
            "v averages",
            {"|z|²": of(oracles.adam, eps=0.0), "Re² and Im² apart": adam_of_parts, "z²": adam_of_squares},
            runs={"PyTorch": "Adam(lr=η)", "Keras": "Adam(η)", "Optax": "optax.adam(η)"},
            ours={
                "|z|²": "jl.adam(η)",
                "Re² and Im² apart": "optax.contrib.split_real_and_imaginary(jl.adam(η))",
                "z²": "(not here: the direction of the step is lost)",
            },
            problems=(Problem(is_complex=True, scale=1e4),),
            in_compat=("PyTorch",),
        ),
    ]


def weight_decay_rows() -> list[Row]:
    """Return the questions about weight decay."""
    l2, decoupled = "L2, g + λθ", "decoupled, ηλθ"
    return [
        Row(
            "SGD, momentum",
            "`weight_decay`",
            {l2: with_l2(of(oracles.momentum, decay=γ)), decoupled: momentum_decoupled},
            runs={"PyTorch": "SGD(lr=η, momentum=γ, weight_decay=λ)", "Keras": "SGD(η, momentum=γ, weight_decay=λ)"},
            ours={
                l2: "optax.chain(jl.add_decayed_weights(weight_decay=λ), jl.momentum(η, γ))",
                decoupled: "optax.chain(jl.momentum(η, γ), jl.decay_weights(learning_rate=η, weight_decay=λ))",
            },
            default=False,
            notes={"Keras": BEFORE},
        ),
        Row(
            "Adam",
            "`weight_decay`",
            {
                l2: [with_l2(of(oracles.adam, eps=ε)), with_l2(of(oracles.adam, eps=0.0, eps_hat=ε))],
                decoupled: [adam_decoupled(eps=ε), adam_decoupled(eps_hat=ε)],
            },
            runs={"PyTorch": "Adam(lr=η, eps=ε, weight_decay=λ)", "Keras": "Adam(η, epsilon=ε, weight_decay=λ)"},
            ours={
                l2: "optax.chain(jl.add_decayed_weights(weight_decay=λ), jl.adam(η, eps=ε))",
                decoupled: "jl.adamw(η, eps=ε, weight_decay=λ)",
            },
            default=False,
        ),
        Row(
            "AdamW",
            "`weight_decay` under a schedule",
            {"decoupled, ηλθ": of(oracles.adamw, eps=0.0, weight_decay=λ), "decoupled, (η/η₁)λθ": adamw_of_the_paper},
            paper="decoupled, (η/η₁)λθ",
            runs={
                "PyTorch": "AdamW(lr=η, weight_decay=λ)",
                "Keras": "AdamW(η, weight_decay=λ)",
                "Optax": "optax.adamw(η, weight_decay=λ)",
            },
            ours={decoupled: "jl.adamw(η, weight_decay=λ)", "decoupled, (η/η₁)λθ": "jl.adamw(η, weight_decay=λ / η1)"},
            scheduled=True,
            problems=(STEEP,),
            notes={"paper": "η₁ is the base rate, which the schedule multiplies."},
        ),
        Row(
            "Lion",
            "`weight_decay`",
            {l2: with_l2(oracles.lion), decoupled: of(oracles.lion, weight_decay=λ)},
            paper=decoupled,
            runs={"Keras": "Lion(η, weight_decay=λ)", "Optax": "optax.lion(η, weight_decay=λ)"},
            ours={decoupled: "jl.lion(η, weight_decay=λ)"},
        ),
        Row(
            "LAMB",
            "`weight_decay`",
            {
                "in the ratio": of(oracles.lamb, eps=0.0, weight_decay=λ),
                "outside, before the step": lamb_decayed_outside(before=True),
                "outside, beside the step": lamb_decayed_outside(before=False),
            },
            paper="in the ratio",
            runs={"Keras": "Lamb(η, weight_decay=λ)", "Optax": "optax.lamb(η, weight_decay=λ)"},
            ours={
                "in the ratio": "jl.lamb(η, weight_decay=λ)",
                "outside, before the step": "compat.keras.Lamb(η, weight_decay=λ)",
            },
            problems=(STEEP,),
        ),
        Row(
            "Adafactor",
            "`weight_decay`",
            {
                "ηλθ": adafactor(decay="beside"),
                "ηλθ, before the step": adafactor(decay="before"),
                "λθ": adafactor(decay="without the rate"),
            },
            runs={
                "PyTorch": "Adafactor(lr=η, weight_decay=λ)",
                "Keras": "Adafactor(η, weight_decay=λ)",
                "Optax": "optax.adafactor(η, min_dim_size_to_factor=1, weight_decay_rate=λ)",
            },
            ours={
                "ηλθ": "optax.chain(jl.adafactor(η), jl.decay_weights(learning_rate=η, weight_decay=λ))",
                "ηλθ, before the step": "compat.keras.Adafactor(η, weight_decay=λ)",
                "λθ": "optax.chain(jl.adafactor(η), jl.decay_weights(weight_decay=λ))",
            },
            default=False,
            problems=(MATRIX,),
            loose={"Keras": KERAS_FLOAT32, "Optax": OPTAX_FLOAT32},
        ),
        Row(
            "Schedule-Free AdamW",
            "`weight_decay`",
            {
                "λy, of z": [
                    of(oracles.schedule_free_adamw, eps=0.0, weight_decay=λ),
                    of(oracles.schedule_free_adamw, eps=0.0, weight_decay=λ, corrects_rate=False),
                ],
                "λy, of x": [
                    of(oracles.schedule_free_adamw, eps=0.0, weight_decay=λ, corrects_rate=False, decays_x=True),
                ],
            },
            paper="λy, of z",
            runs={
                "Keras": "ScheduleFreeAdamW(η, weight_decay=λ)",
                "Optax": "optax.contrib.schedule_free_adamw(η, weight_decay=λ)",
            },
            ours={
                "λy, of z": "optax.contrib.schedule_free(jl.adamw(η, b1=0.0, weight_decay=λ), η)",
                "λy, of x": "compat.keras.ScheduleFreeAdamW(η, weight_decay=λ)",
            },
            default=False,
            problems=(STEEP,),
        ),
        Row(
            "FTRL",
            "L2 strength λ is",
            {"λ₂": of(oracles.ftrl, l2=λ), "λ₂/2": of(oracles.ftrl, l2=2 * λ)},
            paper="λ₂",
            runs={"Keras": "Ftrl(η, l2_regularization_strength=λ)"},
            ours={"λ₂": "jl.ftrl(η, l2=λ)", "λ₂/2": "jl.ftrl(η, l2=2 * λ)"},
        ),
        Row(
            "FTRL",
            "shrinkage λ is",
            {"λₛ": of(oracles.ftrl, l2_shrinkage=λ), "λₛ/2": of(oracles.ftrl, l2_shrinkage=2 * λ)},
            runs={"Keras": "Ftrl(η, l2_shrinkage_regularization_strength=λ)"},
            ours={"λₛ": "jl.ftrl(η, l2_shrinkage=λ)", "λₛ/2": "jl.ftrl(η, l2_shrinkage=2 * λ)"},
        ),
    ]


def counting_rows() -> list[Row]:
    """Return the questions about steps and gradients."""
    counts = {"the updates: 0, 1, …": lambda j: j, "the gradients: k − 1, 2k − 1, …": lambda j: k * j + k - 1}
    means = {"the mean": True, "the sum": False}
    accumulated = {
        "PyTorch": "SGD(lr=η)",
        "Keras": "SGD(η, gradient_accumulation_steps=k)",
        "Optax": "optax.MultiSteps(optax.sgd(η), k)",
    }
    return [
        Row(
            "SGD",
            "first value of a schedule",
            {"η(0)": oracles.sgd, "η(1)": lambda theta, g, steps, rate: oracles.sgd(theta, g, steps, lambda i: rate(i + 1))},
            runs={"PyTorch": "SGD(lr=η)", "Keras": "SGD(η)", "Optax": "optax.sgd(η)"},
            ours={"η(0)": "jl.sgd(η)"},
            scheduled=True,
        ),
        Row(
            "ASGD",
            "values of a schedule",
            {"η(0), η(0), η(1), …": of(oracles.asgd, decay=λ), "η(0), η(1), η(2), …": asgd_in_time},
            runs={"PyTorch": "ASGD(lr=η, lambd=λ)"},
            ours={"η(0), η(0), η(1), …": "jl.asgd(η, decay=λ)"},
            scheduled=True,
        ),
        Row(
            "k gradients accumulated",
            "step with",
            {name: [sgd_accumulating(mean=mean, count=count) for count in counts.values()] for name, mean in means.items()},
            runs=accumulated,
            ours={
                "the mean": "optax.MultiSteps(jl.sgd(η), k)",
                "the sum": "optax.MultiSteps(jl.sgd(η), k, use_grad_mean=False)",
            },
            scheduled=True,
            problems=(Problem(every=k),),
            loose={"Optax": OPTAX_ACCUMULATOR, "jaxopt_lec": OPTAX_ACCUMULATOR},
            notes={"PyTorch": "`backward` k times, then `step`, `scheduler.step` and `zero_grad`."},
            in_compat=("Keras",),
        ),
        Row(
            "k gradients accumulated",
            "a schedule counts",
            {name: [sgd_accumulating(mean=mean, count=count) for mean in means.values()] for name, count in counts.items()},
            runs=accumulated,
            ours={
                "the updates: 0, 1, …": "optax.MultiSteps(jl.sgd(η), k)",
                "the gradients: k − 1, 2k − 1, …": "optax.MultiSteps(jl.sgd(lambda j: η(k * j + k - 1)), k)",
            },
            scheduled=True,
            problems=(Problem(every=k),),
            loose={"Optax": OPTAX_ACCUMULATOR, "jaxopt_lec": OPTAX_ACCUMULATOR},
            notes={"PyTorch": "`backward` k times, then `step`, `scheduler.step` and `zero_grad`."},
            in_compat=("Keras",),
        ),
        Row(
            "Adam",
            "step number without a gradient",
            {
                "stays": adam_without_some(own_count=True),
                "goes on": adam_without_some(own_count=False),
                "goes on, m and v decay": seeing(lambda g, theta: np.nan_to_num(g), of(oracles.adam, eps=0.0)),
                REFUSED: (),
            },
            runs={"PyTorch": "Adam(lr=η)", "Keras": "Adam(η)", "Optax": "optax.adam(η)"},
            ours={"goes on": "jl.adam(η)", "stays": "jl.count_by_leaf(jl.adam(η))"},
            notes={"Optax": "A gradient of `None` is an error."},
            problems=(Problem(scale=1e4, missing=(2, 5)),),
            in_compat=("Keras",),
        ),
        Row(
            "clipping to norm c",
            "factor",
            {
                "c/‖g‖": seeing(lambda g, theta: g * min(1.0, TINY / length(g)), oracles.sgd),
                "c/(‖g‖ + 1e-6)": seeing(lambda g, theta: g * min(1.0, TINY / (length(g) + 1e-6)), oracles.sgd),
            },
            runs={
                "PyTorch": "SGD(lr=η)",
                "Keras": "SGD(η, global_clipnorm=c)",
                "Optax": "optax.chain(optax.clip_by_global_norm(c), optax.sgd(η))",
            },
            ours={
                "c/‖g‖": "optax.chain(optax.clip_by_global_norm(c), jl.sgd(η))",
                "c/(‖g‖ + 1e-6)": "(not here: 1e-6 is lost beside any usual ‖g‖)",
            },
            problems=(Problem(scale=1e-6),),
            values={"η": 1e6, "c": TINY},
            before_step="clip_grad_norm_(params, c)",
            in_compat=("Keras",),
        ),
    ]


SECTIONS = {
    "Where the learning rate stands": learning_rate_rows,
    "Where ε stands": epsilon_rows,
    "What is kept from step to step": accumulation_rows,
    "Weight decay": weight_decay_rows,
    "Steps and gradients": counting_rows,
}


# Running.


def candidate_paths(row: Row) -> dict[str, list[list[np.ndarray]]]:
    """Return answer → for each of its loops the paths on the row's problems.

    Raises:
        MismatchError: two answers are not `SEPARATION` apart.
    """
    rate = RATES.__getitem__ if row.scheduled else (VALUES | row.values)["η"]
    paths = {
        answer: [
            [method(problem.start, problem.gradient, STEPS, rate) for problem in row.problems]
            for method in (loops if isinstance(loops, Sequence) else [loops])
        ]
        for answer, loops in row.candidates.items()
    }
    for one, other in itertools.combinations(paths, 2):
        for pair in itertools.product(paths[one], paths[other]):
            if distance(*pair) < SEPARATION:
                raise MismatchError(f"{row}: {one!r} and {other!r} are only {distance(*pair):.1g} apart")
    return paths


def distance(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Return how far two paths on the same problems are apart, relative to how far they go; infinite for NaN."""
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        gap = float(np.max(np.abs(a - b)) / max(np.max(np.abs(a - a[0])), np.max(np.abs(b - b[0]))))
        worst = max(worst, gap if np.isfinite(gap) else np.inf)
    return worst


def answer_of(
    what: str, path: Sequence[np.ndarray] | None, paths: Mapping[str, list[list[np.ndarray]]], tolerance: float = TOLERANCE
) -> tuple[str, float]:
    """Return the answer whose path this is, and their distance; `None` is the path of what was refused.

    Raises:
        MismatchError: it is that of no candidate or of two.
    """
    if path is None:
        return REFUSED, 0.0
    gaps = {answer: min((distance(path, other) for other in others), default=np.inf) for answer, others in paths.items()}
    found = [answer for answer, gap in gaps.items() if gap <= tolerance]
    if len(found) != 1:
        closest = ", ".join(f"{answer}: {gap:.2g}" for answer, gap in sorted(gaps.items(), key=lambda item: item[1]))
        raise MismatchError(f"{what} is {' and '.join(found) or 'no candidate'}; distances are {closest}")
    return found[0], gaps[found[0]]


class Frameworks:
    """The frameworks, in float64, and paths of their optimizers; a call is a string in which the row's names are values."""

    def __init__(self) -> None:
        """Import them; Keras on JAX."""
        os.environ.setdefault("KERAS_BACKEND", "jax")
        import jax
        import keras
        import optax
        import torch

        import jaxopt_lec
        from jaxopt_lec.compat import keras as compat_keras
        from jaxopt_lec.compat import torch as compat_torch

        if keras.config.backend() != "jax":
            raise RuntimeError(f"Keras runs on {keras.config.backend()}; set KERAS_BACKEND=jax")
        self.jax, self.keras, self.optax, self.torch, self.jl = jax, keras, optax, torch, jaxopt_lec
        self.compat = {"PyTorch": compat_torch, "Keras": compat_keras}

    @contextlib.contextmanager
    def in_float64(self) -> Iterator[None]:
        """Have all of them compute in float64, PyTorch in one thread, and put everything back."""
        torch, floatx = self.torch, self.keras.config.floatx()
        threads, dtype, narrow = torch.get_num_threads(), torch.get_default_dtype(), torch.Tensor.bfloat16
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float64)
        torch.Tensor.bfloat16 = lambda tensor: tensor.double().clone()  # a copy, as a real cast is: Muon writes into it
        self.keras.config.set_floatx("float64")
        try:
            with self.jax.enable_x64(True), self.jax.numpy_dtype_promotion("standard"):
                yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            torch.Tensor.bfloat16 = narrow
            self.keras.config.set_floatx(floatx)

    def path(self, framework: str, call: str, row: Row) -> list[np.ndarray] | None:
        """Return the paths on the row's problems, or `None` if the framework refuses them and may."""
        run = {"PyTorch": self._torch, "Keras": self._keras}.get(framework, self._jax)
        try:
            return [run(call, row, problem) for problem in row.problems]
        except (TypeError, ValueError, AttributeError):
            if REFUSED in row.candidates:
                return None
            raise

    def path_in_compat(self, framework: str, call: str, row: Row) -> list[np.ndarray] | None:
        """Return the paths of the same call of `jaxopt_lec.compat`."""
        return [self._jax(call, row, problem, vars(self.compat[framework])) for problem in row.problems]

    def _torch(self, call: str, row: Row, problem: Problem) -> np.ndarray:
        torch, values = self.torch, VALUES | row.values
        params = [torch.nn.Parameter(torch.tensor(leaf)) for leaf in problem.leaves(problem.start)]
        classes = {
            name: functools.partial(make, params) for name, make in vars(torch.optim).items() if inspect.isclass(make)
        }
        # A scheduler multiplies the learning rate that was given.
        optimizer = eval(call, classes, values | ({"η": 1.0} if row.scheduled else {}))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, RATES.__getitem__) if row.scheduled else None
        path = [problem.start]
        for t in range(1, STEPS + 1):
            for p, g in zip(params, problem.gradients([p.detach().numpy() for p in params], t), strict=True):
                if g is not None:
                    (p * torch.tensor(g.conj())).real.sum().backward()
            if t % problem.every == 0:
                if row.before_step:
                    eval(row.before_step, vars(torch.nn.utils), values | {"params": params})
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                optimizer.zero_grad()
            path.append(problem.joined([p.detach().numpy() for p in params]))
        return np.stack(path)

    def _keras(self, call: str, row: Row, problem: Problem) -> np.ndarray:
        keras, jnp = self.keras, self.jax.numpy

        class Schedule(keras.optimizers.schedules.LearningRateSchedule):
            def __call__(self, step: Any) -> Any:
                return jnp.asarray(RATES)[jnp.asarray(step)]

        names = VALUES | row.values | ({"η": Schedule()} if row.scheduled else {})
        variables = [keras.Variable(leaf, dtype=str(leaf.dtype)) for leaf in problem.leaves(problem.start)]
        optimizer = eval(call, dict(vars(keras.optimizers)), names)
        optimizer.build(variables)
        path = [problem.start]
        for t in range(1, STEPS + 1):
            gradients = problem.gradients([v.value for v in variables], t)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Gradients do not exist for variables")
                optimizer.apply([None if g is None else jnp.asarray(g) for g in gradients], variables)
            path.append(problem.joined([v.value for v in variables]))
        return np.stack(path)

    def _jax(self, call: str, row: Row, problem: Problem, functions: Mapping[str, Any] | None = None) -> np.ndarray:
        jnp, optax = self.jax.numpy, self.optax
        known = {"jl": self.jl, "optax": optax, "compat": self.jl.compat}
        names = VALUES | row.values | ({"η": lambda count: jnp.asarray(RATES)[count]} if row.scheduled else {})
        tx = eval(call, known | dict(functions or {}) | names)
        params = [jnp.asarray(leaf) for leaf in problem.leaves(problem.start)]
        state, path = tx.init(params), [problem.start]
        for t in range(1, STEPS + 1):

            def value_fn(params: Any, t: int = t) -> Any:
                (p,) = params
                return jnp.sum(problem.scale * (problem.a * jnp.log(jnp.cosh(p)) + problem.b[t] * p))

            # Only a method that evaluates the loss itself gets it.
            extra = {"value_fn": value_fn} if isinstance(tx, optax.GradientTransformationExtraArgs) else {}
            gradients = [None if g is None else jnp.asarray(g) for g in problem.gradients(params, t)]
            updates, state = tx.update(gradients, state, params, **extra)
            params = [p if u is None else p + u for p, u in zip(params, updates, strict=True)]
            path.append(problem.joined(params))
        return np.stack(path)


def answers(row: Row, frameworks: Frameworks) -> dict[str, str]:
    """Return column → answer.

    Raises:
        MismatchError: as `candidate_paths` and `answer_of`; also where a framework is closer than `loose` says; where ours,
            or ours under a framework's name, is not what it is said to be; and where an answer has no call of ours.
    """
    paths = candidate_paths(row)
    found = dict.fromkeys(COLUMNS, "–")
    found |= {column: answer for column, answer in (("lecture", row.lecture), ("paper", row.paper)) if answer}
    ours = functools.partial(answer_of, paths=paths, tolerance=LOOSE if "jaxopt_lec" in row.loose else TOLERANCE)
    for framework, call in row.runs.items():
        what, loose = f"{row}: {framework}'s {call}", framework in row.loose
        path = frameworks.path(framework, call, row)
        found[framework], gap = answer_of(what, path, paths, LOOSE if loose else TOLERANCE)
        if loose and gap <= TOLERANCE:
            raise MismatchError(f"{what} agrees to {gap:.1g}: it is not loose")
        if framework in row.in_compat and framework in frameworks.compat:
            same, _ = ours(f"{what} in compat", frameworks.path_in_compat(framework, call, row))
            if same != found[framework]:
                raise MismatchError(f"{what} is {found[framework]!r}, in compat {same!r}")
    for answer, call in row.ours.items():
        if not call.startswith("("):
            actual, _ = ours(f"{row}: {call}", frameworks.path("jaxopt_lec", call, row))
            if actual != answer:
                raise MismatchError(f"{row}: {call} is {actual!r}, not {answer!r}")
    if row.default:
        found["jaxopt_lec"] = next(iter(row.ours))
    nameless = set(found.values()) - {"–", REFUSED} - set(row.ours)
    if nameless or not set(row.ours) <= set(row.candidates):
        raise MismatchError(f"{row}: no call of ours for {sorted(nameless)}, or one for no candidate")
    return found


# The page.


def width(text: str) -> int:
    """Return how many columns `text` takes; a combining hat takes none."""
    return sum(not unicodedata.combining(character) for character in text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned in the source."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell + " " * (w - width(cell)) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def conventions(rows: Sequence[Row], frameworks: Frameworks) -> str:
    """Return the table of the answers, its footnotes, and the table of our calls."""
    footnotes: list[str] = []

    def marked(row: Row, column: str, answer: str) -> str:
        said = [notes[column] for notes in (row.notes, row.loose) if column in notes]
        footnotes.extend(note for note in said if note not in footnotes)
        return answer + " ".join(superscript(footnotes.index(note) + 1) for note in said)

    answered, calls = [], []
    for row in rows:
        found = answers(row, frameworks)
        answered.append([str(row), *(marked(row, column, answer) for column, answer in found.items())])
        for answer, call in row.ours.items():
            calls.append([str(row), answer, call.strip("()") if call.startswith("(") else f"`{call}`"])
    notes = "".join(f"{superscript(i)} {note}<br>\n" for i, note in enumerate(footnotes, 1))
    return "\n".join(
        [table(["", *COLUMNS], answered), *([notes] if notes else []), table(["", "convention", "here"], calls)]
    )


def superscript(number: int) -> str:
    """Return the number as it stands at a footnote."""
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


# Defaults: quantity → the names it has, in any library; an element of a tuple is `name[i]`.
COMMON = {
    "η": "lr learning_rate",
    "β₁": "betas[0] beta_1 b1",
    "β₂": "betas[1] beta_2 b2",
    "ε": "eps epsilon",
    "ε in the root": "eps_root",
    "ε on √v": "eps_hat",
    "λ, weight decay": "weight_decay weight_decay_rate",
}
# Method → its names in PyTorch, Keras, Optax and here, and what COMMON has not.
DEFAULTS: dict[str, tuple[str, dict[str, str]]] = {
    "SGD with momentum": ("SGD SGD sgd momentum", {"γ": "momentum decay", "dampening": "dampening"}),
    "Adagrad": (
        "Adagrad Adagrad adagrad adagrad",
        {"G₀": "initial_accumulator_value initial_accumulator", "decay of η": "lr_decay learning_rate_decay"},
    ),
    "RMSProp": (
        "RMSprop RMSprop rmsprop rmsprop",
        {"decay of G": "alpha rho decay", "momentum": "momentum", "G₀": "initial_scale"},
    ),
    "AdaDelta": ("Adadelta Adadelta adadelta adadelta", {"ρ": "rho"}),
    "Adam": ("Adam Adam adam adam", {}),
    "AdamW": ("AdamW AdamW adamw adamw", {}),
    "AMSGrad": ("Adam Adam amsgrad amsgrad", {}),
    "AdaMax": ("Adamax Adamax adamax adamax", {"ε in the maximum": "eps_max"}),
    "NAdam": ("NAdam Nadam nadam nadam", {"ψ": "momentum_decay"}),
    "RAdam": ("RAdam - radam radam", {"threshold": "threshold"}),
    "Lion": ("- Lion lion lion", {}),
    "LAMB": ("- Lamb lamb lamb", {}),
    "Adafactor": (
        "Adafactor Adafactor adafactor adafactor",
        {
            "ε": "",
            "ε₁": "eps[0] epsilon_1 eps",
            "ε₂": "eps[1] epsilon_2 eps_scale",
            "floor": "eps_floor",
            "power of β̂₂": "beta2_decay beta_2_decay decay_rate decay_power",
            "d, clipping": "d clip_threshold clipping_threshold",
            "least side": "min_dim_size_to_factor",
            "offset of t": "decay_offset",
        },
    ),
    "Muon": (
        "Muon Muon contrib.muon muon",
        {
            "ε": "eps",
            "Adam's ε": "epsilon",
            "μ": "momentum beta decay",
            "floor": "eps_floor",
            "a": "ns_coefficients[0] muon_a ns_coeffs[0] coefficients[0]",
            "b": "ns_coefficients[1] muon_b ns_coeffs[1] coefficients[1]",
            "c": "ns_coefficients[2] muon_c ns_coeffs[2] coefficients[2]",
            "Newton–Schulz steps": "ns_steps steps",
            "rate of the RMS": "rms_rate consistent_rms",
            "Adam's β₁": "adam_beta_1 adam_b1",
            "Adam's β₂": "adam_beta_2 adam_b2",
            "Adam's ε in the root": "adam_eps_root",
            "Adam's λ": "adam_weight_decay",
            "Adam's η, relative": "adam_lr_ratio",
            "output axis": "output_axis",
        },
    ),
    "FTRL": (
        "- Ftrl - ftrl",
        {
            "power": "learning_rate_power power",
            "n₀": "initial_accumulator_value initial_accumulator",
            "λ₁": "l1_regularization_strength l1",
            "λ₂": "l2_regularization_strength l2",
            "λₛ": "l2_shrinkage_regularization_strength l2_shrinkage",
            "β": "beta",
        },
    ),
    "Rprop": (
        "Rprop - rprop rprop",
        {
            "η⁻": "etas[0] eta_minus",
            "η⁺": "etas[1] eta_plus",
            "least step": "step_sizes[0] min_step_size step_min",
            "largest step": "step_sizes[1] max_step_size step_max",
        },
    ),
    "Schedule-Free AdamW": (
        "- ScheduleFreeAdamW contrib.schedule_free_adamw -",
        {"w, warmup": "warmup_steps", "power of the weights": "weight_lr_power"},
    ),
    "ASGD": ("ASGD - - asgd", {"λ": "lambd decay", "α": "alpha power", "t₀": "t0 start"}),
}
SHARED = {"ema_momentum"}  # of all Keras optimizers alike


def arguments(function: Callable[..., Any]) -> dict[str, Any]:
    """Return name → default, with one entry for each element of a tuple."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if isinstance(parameter.default, tuple):
            found |= {f"{name}[{i}]": value for i, value in enumerate(parameter.default)}
        else:
            found[name] = parameter.default
    return found


def number(value: Any) -> str:
    """Return a default as it is read."""
    if value is inspect.Parameter.empty:
        return "required"
    if not isinstance(value, int | float):
        return str(value)
    mantissa, e, exponent = f"{value:g}".partition("e")
    return mantissa + (f"e{int(exponent)}" if e else "")


def defaults(method: str, frameworks: Frameworks) -> str:
    """Return the table of a method's defaults.

    Raises:
        MismatchError: a numeric argument is in no row.
    """
    names, own = DEFAULTS[method]
    modules = (frameworks.torch.optim, frameworks.keras.optimizers, frameworks.optax, frameworks.jl)
    signatures: list[dict[str, Any]] = []
    for module, name in zip(modules, names.split(), strict=True):
        function = module
        for part in name.split("."):
            function = getattr(function, part, None)
        signatures.append({} if name == "-" else arguments(function))
    rows, used = [], set(SHARED)
    for quantity, aliases in (COMMON | own).items():
        found = [next((name for name in aliases.split() if name in signature), None) for signature in signatures]
        cells = [f"`{n}` {number(s[n])}" if n else "–" for n, s in zip(found, signatures, strict=True)]
        if any(found):
            rows.append([quantity, *cells])
        used |= set(found)
    for module, signature in zip(modules, signatures, strict=True):
        numeric = {n for n, x in signature.items() if isinstance(x, int | float) and not isinstance(x, bool)}
        if numeric - used:
            raise MismatchError(
                f"{method}: {module.__name__} has the arguments {sorted(numeric - used)}, which are in no row"
            )
    return table([method, "PyTorch", "Keras", "Optax", "jaxopt_lec"], rows)


INTRODUCTION = """\
# Where the lecture, the papers and the frameworks differ

`docs/make_divergences.py` writes this page by running the optimizers; `tests/docs/test_divergences.py` runs it again.

Each question has a few possible answers, each a NumPy loop in float64. A framework's cell names the one loop whose path its
own optimizer follows, to 1e-9 where no footnote says otherwise. The lecture's and the paper's cells name the loop that is
their formula. – says nothing on the question. The last column is what the method does here unasked.

Below each table are the calls that give each answer here. They were run and compared like the others.
`jaxopt_lec.compat.torch` and `jaxopt_lec.compat.keras` take the framework's own call and give the framework's answer. That
was compared too, but for complex parameters in Keras, and for what belongs to PyTorch's training loop and not to its
optimizers: accumulated, clipped and missing gradients.

Letters: g gradient; η learning rate; γ, μ momentum; λ weight decay; m, v Adam's averages, m̂ and v̂ bias-corrected; G, S the
averages of g² and Δ²; u a scaled gradient; t the step from 1.

"""


def page(frameworks: Frameworks) -> str:
    """Return the whole page."""
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in ("torch", "keras", "jax", "optax")}
    parts = [INTRODUCTION, "Run with PyTorch {torch}, Keras {keras} on JAX {jax}, and Optax {optax}.\n".format(**versions)]
    with frameworks.in_float64():
        for title, rows in SECTIONS.items():
            parts += [f"\n## {title}\n\n", conventions(rows(), frameworks)]
    parts.append("\n## Defaults\n\nRead from the signatures. – where there is no such argument.\n")
    parts += [f"\n{defaults(method, frameworks)}" for method in DEFAULTS]
    return "".join(parts)


def without_versions(text: str) -> list[str]:
    """Return the lines of a page, but the one that says what it was run with."""
    return [line for line in text.splitlines(keepends=True) if not line.startswith("Run with ")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or compare it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the page instead of writing it")
    check = parser.parse_args(arguments).check
    text = page(Frameworks())
    if not check:
        PAGE.write_text(text)
        return 0
    there = PAGE.read_text() if PAGE.exists() else ""
    diff = list(difflib.unified_diff(without_versions(there), without_versions(text), PAGE.name, "what is so"))
    sys.stdout.writelines(diff)
    return int(bool(diff))


if __name__ == "__main__":
    sys.exit(main())
