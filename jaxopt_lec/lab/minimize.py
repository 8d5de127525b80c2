"""Minimise a function with any Optax transformation, in one compiled program."""

import dataclasses
import enum
import inspect
import math
import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr, tree_leaves_with_path

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.transformation import of_multi_steps

__all__ = ["Minimization", "Stop", "Tolerances", "minimize"]

Tree: TypeAlias = Any

# What is given to `update` besides the user's extras; `key` reaches the function alone.
RESERVED = ("value", "grad", "value_fn", "key")


class Stop(enum.IntEnum):
    """Why a minimisation stopped."""

    STEPS = 0  # all steps were taken
    GRADIENT = 1  # the norm of the gradient
    VALUE = 2  # the change of the value
    UPDATE = 3  # the norm of the update
    NOT_FINITE = 4  # a value or gradient that is not finite


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """When to stop before all steps are taken; None: not for this reason.

    Args:
        gradient: the Euclidean norm of the gradient is at most this.
        value: the value differs from that of the step before by at most this.
        update: the Euclidean norm of the last update is at most this.
        patience: in how many consecutive steps it must be so. A ball that rolls through a minimum, or turns on a slope,
            meets one of these for a moment.

    Errors: InputError for a negative tolerance or a patience below 1.
    """

    gradient: float | None = None
    value: float | None = None
    update: float | None = None
    patience: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("gradient", "value", "update"):
            tolerance = getattr(self, name)
            if tolerance is not None and not tolerance >= 0:
                raise InputError(f"tolerance {name}={tolerance}: a number from 0 on is needed, or None")
        if self.patience < 1:
            raise InputError(f"patience {self.patience}: at least 1 is needed")


class Minimization(NamedTuple):
    """What a minimisation found. Under `jax.vmap` every field has the mapped axis in front.

    Attributes:
        params: where it ended.
        value: the function there.
        steps: how many steps it took, int32.
        stop: why it ended, the int32 of a `Stop`.
        trajectory: a tree like `params` with a first axis of steps + 1: the points, the start first. What lies behind the
            last step repeats it.
        values: [steps + 1], the function at those points.
    """

    params: Tree
    value: jax.Array
    steps: jax.Array
    stop: jax.Array
    trajectory: Tree
    values: jax.Array


class Problem(NamedTuple):
    """All that is static about a minimisation; equal problems share a program."""

    fn: Callable[..., Any]
    tx: optax.GradientTransformationExtraArgs
    steps: int
    tolerances: Tolerances


class Given(NamedTuple):
    """What the function reads besides the parameters."""

    extras: dict[str, Any]
    key: jax.Array | None


class At(NamedTuple):
    """A point on the way: the function is evaluated here, the step from here is not yet taken."""

    params: Tree
    state: Any
    value: jax.Array
    grad: Tree
    steps: jax.Array
    held: jax.Array  # for how many steps in a row each tolerance has been met: gradient, value, update
    stop: jax.Array  # RUNNING or a Stop


RUNNING = -1


def minimize(
    fn: Callable[..., Any],
    params: Tree,
    tx: optax.GradientTransformation,
    steps: int,
    *,
    tolerances: Tolerances = Tolerances(),
    extras: Mapping[str, Any] | None = None,
    key: jax.Array | None = None,
) -> Minimization:
    """Minimise fn(params) in one program: θ ← θ + u(∇fn(θ)), until a tolerance is met, something is not finite, or the end.

    A second call with the same `fn`, `tx` and shapes compiles nothing. It is a `jax.lax.scan`, so `jax.vmap` runs many
    starts or learning rates at once, and `jax.grad` goes through all steps; once stopped, steps cost nothing.

    Args:
        fn: real scalar function `fn(params, ...)`; those extras that it has by name are passed to it by name.
        params: where to start, a tree of floating point or complex arrays.
        tx: any Optax transformation. Its update gets `value`, `grad`, `value_fn` and the extras as extra arguments.
        steps: the most steps to take, at least 1.
        tolerances: when to stop earlier.
        extras: trees of arrays for `fn` or for `tx`, the same in every step.
        key: if given, `fn` gets the argument `key`, another one in every step, and the same one within a step.

    Errors: InputError, before anything is compiled, for what cannot be minimised so.
    """
    problem, start, given = prepare(fn, params, tx, steps, tolerances, extras, key)
    return _with_trajectory(problem, start, given)


def prepare(
    fn: Callable[..., Any],
    params: Tree,
    tx: optax.GradientTransformation,
    steps: int,
    tolerances: Tolerances,
    extras: Mapping[str, Any] | None,
    key: jax.Array | None,
) -> tuple[Problem, Tree, Given]:
    """Check what was given to `minimize` by tracing one step, and bring it into the form that programs take.

    Raises:
        InputError: with what cannot be used, in one line.
    """
    if not callable(fn):
        raise InputError(f"fn must be a function of the parameters, got a {type(fn).__name__}")
    tx = of_multi_steps(tx)
    if not isinstance(tx, optax.GradientTransformation):
        raise InputError(f"tx must be an optax.GradientTransformation, got a {type(tx).__name__}")
    try:
        steps = operator.index(steps)
    except TypeError:
        raise InputError(f"steps must be a whole number, got {steps!r}") from None
    if steps < 1:
        raise InputError(f"steps {steps}: at least 1 is needed")
    for name in extras or {}:
        if name in RESERVED:
            raise InputError(f"extras must not be called {name!r}: minimize gives {', '.join(RESERVED)} itself")
    start = jax.tree.map(jnp.array, params)
    leaves = tree_leaves_with_path(start)
    if not leaves:
        raise InputError("params have no arrays")
    for path, leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise InputError(f"params{keystr(path)} are of {leaf.dtype}; floating point or complex numbers are needed")
    problem = Problem(hashable(fn), optax.with_extra_args_support(tx), steps, tolerances)
    given = Given(jax.tree.map(jnp.asarray, dict(extras or {})), key)
    try_out(problem, start, given)
    return problem, start, given


def hashable(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function itself, or, where it cannot be a key of a cache, another that is it."""
    try:
        hash(fn)
    except TypeError:
        return lambda *args, **kwargs: fn(*args, **kwargs)
    return fn


def try_out(problem: Problem, params: Tree, given: Given) -> None:
    """Trace fn and one step.

    Raises:
        InputError: one of them fails, or does not give what a loop needs.
    """
    value_fn = bound(problem.fn, given, jnp.int32(0))
    value = traced("fn(params)", value_fn, params)
    if not (isinstance(value, jax.ShapeDtypeStruct) and value.shape == () and jnp.issubdtype(value.dtype, jnp.floating)):
        what = f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else f"a {type(value).__name__}"
        raise InputError(f"fn must return one real floating point number, it returned {what}")
    at = traced("tx.init and fn(params)", partial(begin, problem), params, given)
    updates, state = traced("tx.update", partial(update, problem, given), at)
    if shapes(updates) != shapes(at.params):
        raise InputError("tx returns updates of another structure or other shapes than the parameters")
    if (shapes(state), dtypes(state)) != (shapes(at.state), dtypes(at.state)):
        raise InputError("tx changes the structure, shapes or dtypes of its state: no loop can run it")


def traced(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """Trace a function without running it, and say in one line what failed."""
    try:
        return jax.eval_shape(function, *args)
    except Exception as error:
        message = str(error).strip().splitlines()
        raise InputError(f"{what}, traced by JAX, failed: {type(error).__name__}: {' '.join(message[:1])}") from error


def shapes(tree: Tree) -> tuple[Any, list[tuple[int, ...]]]:
    """Return the structure and the shapes of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [leaf.shape for leaf in leaves]


def dtypes(tree: Tree) -> list[Any]:
    """Return the dtypes of a tree."""
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def bound(fn: Callable[..., Any], given: Given, t: jax.Array) -> Callable[[Tree], Any]:
    """Return fn as a function of the parameters alone, with those extras bound that it has by name, and step t's key."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except ValueError:  # some built-in functions have no signature
        parameters = {}.values()
    named = {q.name for q in parameters}
    takes_all = any(q.kind is q.VAR_KEYWORD for q in parameters)
    known = {name: value for name, value in given.extras.items() if takes_all or name in named}
    if given.key is not None:
        known["key"] = jax.random.fold_in(given.key, t)
    return partial(fn, **known)


def evaluate(problem: Problem, given: Given, params: Tree, t: jax.Array) -> tuple[jax.Array, Tree]:
    """Return value and gradient; of complex parameters the gradient is conjugated, so that it points uphill."""
    value, grad = jax.value_and_grad(bound(problem.fn, given, t))(params)
    return value, optax.tree.conj(grad)


def begin(problem: Problem, params: Tree, given: Given) -> At:
    """Return the point before the first step."""
    value, grad = evaluate(problem, given, params, jnp.int32(0))
    at = At(params, problem.tx.init(params), value, grad, jnp.int32(0), jnp.zeros(3, jnp.int32), jnp.int32(RUNNING))
    return judged(problem, at, value_change=math.inf, update_norm=math.inf)


def update(problem: Problem, given: Given, at: At) -> tuple[Tree, Any]:
    """Ask the transformation for its next updates and state."""
    extra = {"value": at.value, "grad": at.grad, "value_fn": bound(problem.fn, given, at.steps), **given.extras}
    return problem.tx.update(at.grad, at.state, at.params, **extra)


def step(problem: Problem, given: Given, at: At) -> At:
    """Take one step, and judge whether it was the last."""
    updates, state = update(problem, given, at)
    params = optax.apply_updates(at.params, updates)
    value, grad = evaluate(problem, given, params, at.steps + 1)
    after = At(params, state, value, grad, at.steps + 1, at.held, at.stop)
    return judged(problem, after, jnp.abs(value - at.value), optax.tree.norm(updates))


def judged(problem: Problem, at: At, value_change: jax.Array | float, update_norm: jax.Array | float) -> At:
    """Return the point with the decision whether and why to stop there."""
    tolerances = problem.tolerances
    sizes = (
        (optax.tree.norm(at.grad), tolerances.gradient),
        (value_change, tolerances.value),
        (update_norm, tolerances.update),
    )
    met = jnp.stack([jnp.bool(False) if limit is None else jnp.asarray(size <= limit) for size, limit in sizes])
    held = jnp.where(met, at.held + 1, 0)
    # By elements: the norm of a gradient that is merely huge overflows.
    finite = jnp.isfinite(at.value) & jnp.all(jnp.stack([jnp.isfinite(g).all() for g in jax.tree.leaves(at.grad)]))
    reasons = [~finite, *(held >= tolerances.patience), at.steps >= problem.steps]
    codes = [Stop.NOT_FINITE, Stop.GRADIENT, Stop.VALUE, Stop.UPDATE, Stop.STEPS]
    return at._replace(held=held, stop=jnp.select(reasons, [jnp.int32(code) for code in codes], RUNNING))


@partial(jax.jit, static_argnums=0)
def _with_trajectory(problem: Problem, params: Tree, given: Given) -> Minimization:
    def advance(at: At, _: None) -> tuple[At, tuple[Tree, jax.Array]]:
        at = jax.lax.cond(at.stop == RUNNING, partial(step, problem, given), lambda at: at, at)
        return at, (at.params, at.value)

    start = begin(problem, params, given)
    end, (trajectory, values) = jax.lax.scan(advance, start, length=problem.steps)
    trajectory = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), params, trajectory)
    values = jnp.concatenate([start.value[None], values])
    return Minimization(end.params, end.value, end.steps, end.stop, trajectory, values)
