"""L-BFGS against recorded steps of `torch.optim.LBFGS`, in float64: parameters, and numbers of iterations and evaluations.

tests/compat/trajectories has PyTorch's steps up to where rounding errors dominate: see lbfgs_cases.py.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import record
from lbfgs_cases import CASES, Case

from jaxopt_lec.compat.lbfgs import lbfgs
from jaxopt_lec.compat.torch import LBFGS

STATIC = ("history_size", "line_search_fn")


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@functools.cache
def stored() -> dict[str, np.ndarray]:
    return record.load("lbfgs")


@functools.cache
def program(loss: Callable[..., Any], many: bool, history_size: int, line_search_fn: str | None) -> Callable[..., Any]:
    """The step of all cases that differ in numbers alone, for one search or many: compiling takes most of the time."""

    def step(params: Any, state: Any, numbers: Mapping[str, Any]) -> tuple[Any, Any]:
        # The rate in force is the one in the state.
        tx = lbfgs(lr=1.0, **numbers, history_size=history_size, line_search_fn=line_search_fn)
        value_fn = functools.partial(loss, jnp)
        updates, state = tx.update(jax.grad(value_fn)(params), state, params, value_fn=value_fn)
        return optax.apply_updates(params, updates), state

    return jax.jit(jax.vmap(step, in_axes=(0, 0, None)) if many else step)


def followed(case: Case) -> np.ndarray:
    """Our steps, as `Case.excess` has them."""
    (group,) = LBFGS(**case.options).groups
    numbers = {key: value for key, value in group.items() if key not in ("params", "lr", *STATIC)}
    step = program(case.loss, case.rates is not None, *(group[key] for key in STATIC))
    searches = [(LBFGS(**options).init(start), jax.tree.map(jnp.asarray, start)) for options, start in case.searches()]
    state, params = searches[0] if case.rates is None else jax.tree.map(lambda *xs: jnp.stack(xs), *searches)
    steps = []
    for _ in range(case.steps):
        params, state = step(params, state, numbers)
        columns = [*jax.tree.leaves(params), state.n_iter, state.func_evals]
        steps.append(np.concatenate([np.reshape(x, (len(searches), -1)) for x in columns], axis=1))
    return np.stack(steps, axis=1)


def every_case() -> Iterator[Any]:
    """All cases; `thorough` if an earlier one has the same program and options of the same names."""
    seen = set()
    for name, case in CASES.items():
        kind = case.loss, case.rates is None, *(case.options.get(key) for key in STATIC), frozenset(case.options)
        yield pytest.param(name, marks=[pytest.mark.thorough] if kind in seen else [])
        seen.add(kind)


@pytest.mark.parametrize("name", list(every_case()))
def test_trajectory_is_pytorchs(name: str) -> None:
    case, theirs = CASES[name], stored()[name]
    compared = np.isfinite(theirs).all(-1)
    assert compared[:, 0].any(), "rounding decides in the first step"
    assert compared.sum() > len(theirs) / 2
    measured = case.excess(theirs, followed(case))
    assert measured <= 1, (
        f"{name}: the recorded search of PyTorch: measured {measured:.3g} times the permitted error, permitted 1; look at "
        "jaxopt_lec/compat/lbfgs.py"
    )


def test_every_case_is_recorded_and_nothing_else() -> None:
    assert set(stored()) == set(CASES)
    assert len(CASES) == 95


def test_criterion_sees_another_count_and_a_part_in_a_billion() -> None:
    for name, case in CASES.items():
        theirs = stored()[name]
        assert case.excess(theirs, theirs) == 0
        assert case.excess(theirs, theirs * np.append(np.full(theirs.shape[-1] - 2, 1 + 1e-9), [1, 1])) > 1
        assert case.excess(theirs, theirs + np.append(np.zeros(theirs.shape[-1] - 1), 1)) == np.inf


@pytest.mark.parametrize("name", list(CASES)[::12])
def test_recorded_is_what_torch_does_now(name: str, live_torch: Any) -> None:
    assert CASES[name].excess(stored()[name], record.lbfgs_trajectory(CASES[name])) <= 1


def test_pairs_of_negative_curvature_are_not_kept() -> None:
    params = jnp.ones(2)
    tx = LBFGS(lr=0.1, max_iter=1)
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(-params, state, params, value_fn=lambda x: -jnp.sum(x**2) / 2)
        params = params + updates
    assert (state.n_iter, state.n_pairs) == (2, 0)
