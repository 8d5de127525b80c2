"""L-BFGS against the live `torch.optim.LBFGS`, in float64: parameters, and the numbers of iterations and evaluations.

Rounding decides more and more in the course of a search. How far a run can be compared is therefore asked of PyTorch: as
long as PyTorch agrees with itself when every loss and every gradient it gets is off by a rounding error.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from record import torch_in_float64

from jaxopt_lec.compat.torch import LBFGS

STRONG = {"line_search_fn": "strong_wolfe"}


@pytest.fixture(autouse=True, scope="module")
def in_float64() -> Iterator[None]:
    with torch_in_float64(), jax.enable_x64(True):
        yield


# --- losses, for either library m


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


def draw(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


STARTS: dict[Callable[..., Any], dict[str, np.ndarray]] = {
    rosenbrock: {"x": np.array([-1.2, 1.0, -0.5, 0.8, 2.0])},
    quadratic: {"x": 3 * draw(10)},
    logistic: {"x": 3 * draw(5)},
    network: {"bias": draw(4), "kernel": draw(5, 4), "readout": draw(4, seed=4)},
}


# --- both libraries' runs


class Seen(NamedTuple):
    """What is compared after a step."""

    x: np.ndarray
    n_iter: int
    func_evals: int


def seen(params: Any, n_iter: Any, func_evals: Any) -> Seen:
    return Seen(np.concatenate([np.ravel(p) for p in params]), int(n_iter), int(func_evals))


@dataclasses.dataclass(frozen=True)
class Case:
    """Steps of one optimizer on one loss; `batches` has one argument of the loss for each step."""

    loss: Callable[..., Any]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = 5
    start: Mapping[str, np.ndarray] | None = None
    batches: np.ndarray | None = None

    def __str__(self) -> str:
        return " ".join([self.loss.__name__, *(f"{key}={value}" for key, value in self.options.items())])

    @property
    def params(self) -> Mapping[str, np.ndarray]:
        return STARTS[self.loss] if self.start is None else self.start


def torch_run(case: Case, noise: float = 0.0) -> list[Seen]:
    """Take PyTorch's steps; with noise, every loss and gradient is off by as much, relatively."""
    random = np.random.default_rng(5)
    params = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in sorted(case.params.items())}
    lr = case.options.get("lr", 1)
    schedule = lr if callable(lr) else lambda _: lr
    optimizer = torch.optim.LBFGS(params.values(), **{**case.options, "lr": schedule(0)})

    def off(*shape: int) -> Any:
        return torch.tensor(1 + noise * random.choice([-1.0, 1.0], shape))

    found = []
    for i in range(case.steps):
        batch = [] if case.batches is None else [torch.tensor(case.batches[i])]

        def closure(batch: list[Any] = batch) -> Any:
            optimizer.zero_grad()
            loss = case.loss(torch, params, *batch)
            loss.backward()
            for p in params.values():
                if p.grad is not None:
                    p.grad.mul_(off(*p.shape))
            return loss * off()

        optimizer.param_groups[0]["lr"] = schedule(i)
        optimizer.step(closure)
        state = next(iter(optimizer.state.values()))
        found.append(seen([p.detach().numpy().copy() for p in params.values()], state["n_iter"], state["func_evals"]))
    return found


def distance(a: Seen, b: Seen) -> float:
    """The largest difference of two parameters, relative to the largest parameter; infinite if the counts differ."""
    return float(np.max(np.abs(a.x - b.x)) / np.max(np.abs(b.x))) if a[1:] == b[1:] else np.inf


def comparable(case: Case) -> list[Seen]:
    """PyTorch's steps as far as rounding does not decide: disturbed runs stay ten times closer than ours must."""
    exact = torch_run(case)
    disturbed = [torch_run(case, k * np.finfo(np.float64).eps) for k in (-2, -1, 1, 2)]
    together = [all(distance(run[i], exact[i]) < 1e-11 for run in disturbed) for i in range(case.steps)]
    return [step for step, _ in itertools.takewhile(lambda pair: pair[1], zip(exact, together, strict=True))]


def our_loss(case: Case) -> Callable[..., Any]:
    if case.batches is None:
        return lambda p: case.loss(jnp, p)
    return lambda p, batch: case.loss(jnp, p, batch)


def one_step(tx: Any, loss: Callable[..., Any]) -> Callable[..., Any]:
    """The step (params, state, extra arguments) -> (params, state), gradients in PyTorch's convention."""

    def step(params: Any, state: Any, extra: Any) -> tuple[Any, Any]:
        gradients = optax.tree.conj(jax.grad(loss)(params, **extra))
        updates, state = tx.update(gradients, state, params, value_fn=loss, **extra)
        return optax.apply_updates(params, updates), state

    return step


def our_run(case: Case) -> list[Seen]:
    tx, params = LBFGS(**case.options), jax.tree.map(jnp.asarray, dict(case.params))
    # Compiling takes longer than the steps do; the code need not be fast.
    step = jax.jit(one_step(tx, our_loss(case)), compiler_options={"xla_backend_optimization_level": 0})
    state, found = tx.init(params), []
    for i in range(case.steps):
        params, state = step(params, state, {} if case.batches is None else {"batch": jnp.asarray(case.batches[i])})
        found.append(seen(jax.tree.leaves(params), state.n_iter, state.func_evals))
    return found


def assert_same(ours: list[Seen], theirs: list[Seen]) -> None:
    assert theirs, "rounding decides in the first step"
    for our, their in zip(ours, theirs, strict=False):
        assert our[1:] == their[1:]
        assert distance(our, their) < 1e-10


# --- the trajectories

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
CASES = [Case(loss, options) for loss in STARTS for options in OPTIONS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_trajectory_is_pytorchs(case: Case) -> None:
    assert_same(our_run(case), comparable(case))


# --- hard lines: losses on which the line search must do more than accept its first trial


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


HARD = [waves, kinks, cliff, valleys, bottomless]
HARD_OPTIONS: list[dict[str, Any]] = [
    {"max_iter": 3, **STRONG},
    {"max_iter": 3, "max_eval": 6, "history_size": 2, **STRONG},
    {"max_iter": 4, "max_eval": 25, "history_size": 2, **STRONG},
]
LANES = 25


def lanes(loss: Callable[..., Any], options: Mapping[str, Any]) -> list[Case]:
    """Starts and first step sizes all over the place."""
    random = np.random.default_rng(6)
    starts, rates = random.uniform(-3, 3, (LANES, 2)), 10 ** random.uniform(-3, 3, LANES)
    return [Case(loss, {**options, "lr": float(lr)}, steps=2, start={"x": x}) for x, lr in zip(starts, rates, strict=True)]


@pytest.mark.parametrize("loss", HARD, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("options", HARD_OPTIONS, ids=str)
def test_hard_lines_from_many_starts_at_once(loss: Callable[..., Any], options: Mapping[str, Any]) -> None:
    cases = lanes(loss, options)
    tx = LBFGS(**options)
    step = jax.jit(jax.vmap(lambda p, s: one_step(tx, our_loss(cases[0]))(p, s, {})))
    params = {"x": jnp.stack([case.params["x"] for case in cases])}
    state = jax.vmap(tx.init)(params)
    state = optax.tree.set(state, learning_rate=jnp.array([case.options["lr"] for case in cases]))
    found = []
    for _ in range(2):
        params, state = step(params, state)
        found.append([seen([p], n, k) for p, n, k in zip(params["x"], state.n_iter, state.func_evals, strict=True)])
    compared = 0
    for ours, case in zip(zip(*found, strict=True), cases, strict=True):
        theirs = comparable(case)
        if theirs:
            assert_same(list(ours), theirs)
        compared += len(theirs)
    assert compared > LANES / 2


def test_pairs_of_negative_curvature_are_not_kept() -> None:
    params = jnp.ones(2)
    tx = LBFGS(lr=0.1, max_iter=1)
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(-params, state, params, value_fn=lambda x: -jnp.sum(x**2) / 2)
        params = params + updates
    assert (state.n_iter, state.n_pairs) == (2, 0)
