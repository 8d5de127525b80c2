"""L-BFGS as PyTorch has it: one update is one `step(closure)`, of many iterations that evaluate the loss themselves.

Inside, all parameters are one vector x of real numbers, in the order of `jax.tree.leaves`, real and imaginary parts side by
side; the loss is a function of x. The line search is that of minFunc, which PyTorch follows: it first takes ever longer
steps until two of them enclose a minimum, then narrows that bracket by cubic interpolation.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from jaxopt_lec.equation import (
    _RESTORE,
    _SWAPPED,
    _array,
    _check_leaf,
    _check_params,
    _leaves,
    _path_of,
    _raise_located,
    accepted_by,
)
from jaxopt_lec.hyperparameters import Range, ScalarOrSchedule, Signature, as_scalar
from jaxopt_lec.slots import compute_dtype, real_dtype

__all__ = ["LBFGSState", "lbfgs"]

PyTree: TypeAlias = Any
NAME = "LBFGS"
_HYPER = Signature(NAME, numeric={"learning_rate": 1.0}, ranges={"learning_rate": Range(0, math.inf)}, static={}, extra=())
# What a pair must have for yᵀs to be remembered: the curvature along the step is clearly positive.
MIN_CURVATURE = 1e-10
# The strong Wolfe conditions: f(t) ≤ f(0) + C1 t f'(0) and |f'(t)| ≤ C2 |f'(0)|.
C1, C2 = 1e-4, 0.9

_dot = functools.partial(jnp.dot, precision=lax.Precision.HIGHEST)


class LBFGSState(NamedTuple):
    """The state of `lbfgs`: what PyTorch keeps, under its names, for n real numbers in all parameters.

    Attributes:
        count: number of updates so far, int32 scalar; schedules follow it.
        n_iter: number of iterations so far, over all updates, int32 scalar.
        func_evals: number of evaluations of the loss so far, as PyTorch counts them, int32 scalar.
        hyper: `{"learning_rate": scalar}`, as in `jaxopt_lec.EquationState`.
        d: the last direction, (n,).
        t: the last step size, scalar.
        old_dirs: differences y of gradients, (history_size, n).
        old_stps: the steps s = t d that belong to them, (history_size, n).
        ro: 1/yᵀs, (history_size,).
        n_pairs: number of pairs (y, s) ever stored, int32 scalar. Pair k, from 0, is in row k modulo `history_size`, where
            it replaces an older one.
        H_diag: the initial inverse Hessian is this number times the identity, scalar.
        prev_flat_grad: the gradient that `d` was made from, (n,).
        prev_loss: the loss there, scalar.
    """

    count: Array  # type: ignore[assignment]  # the field hides tuple.count
    n_iter: Array
    func_evals: Array
    hyper: dict[str, Array]
    d: Array
    t: Array
    old_dirs: Array
    old_stps: Array
    ro: Array
    n_pairs: Array
    H_diag: Array
    prev_flat_grad: Array
    prev_loss: Array


class _Point(NamedTuple):
    """The point x + t d: the loss there, its gradient, and its slope along d."""

    t: Array
    f: Array
    g: Array
    slope: Array


def lbfgs(
    lr: ScalarOrSchedule,
    max_iter: int,
    max_eval: int,
    tolerance_grad: float,
    tolerance_change: float,
    history_size: int,
    line_search_fn: str | None,
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS: θ ← θ − t H g, up to `max_iter` times in one update; H the inverse Hessian as the last pairs (s, y) tell it.

    `update(grads, state, params, value_fn=f, value=None, **extra)`: f is the loss as a function of a tree like params, with
    those extra arguments bound that it has by name. `grads` are ∂f/∂Re + i ∂f/∂Im at params, the conjugate of what
    `jax.grad` gives; a parameter whose gradient is `None` is a constant to f. `value` may give the loss at params.
    Arguments as in `jaxopt_lec.compat.torch.LBFGS`, where the defaults are; tolerances below 0 are never met.

    State: `LBFGSState`. Computes in float32 at least, and in float64 where a parameter is; f sees parameters of that dtype.
    Equals `torch.optim.LBFGS`, but needs no closure with side effects, and does not divide by zero where lr is 0.

    Raises:
        TypeError: integer parameters, a `value_fn` that is no function, another state.
        ValueError: a rate out of range, missing `params` or `value_fn`, mismatched trees or shapes (with the path).

    References: J. Nocedal, Updating quasi-Newton matrices with limited storage, 1980; M. Schmidt, minFunc, 2005.
    """
    numeric, _ = _HYPER.check({"learning_rate": lr})
    in_force = numeric if callable(lr) or isinstance(lr, jax.Array) else {}
    step = functools.partial(
        _step,
        max_iter=max_iter,
        max_eval=max_eval,
        tolerance_grad=tolerance_grad,
        tolerance_change=tolerance_change,
        line_search=line_search_fn is not None,
    )

    def init(params: PyTree) -> LBFGSState:
        _check_params(NAME, params)
        leaves = [_array(p) for p in jax.tree.leaves(params)]
        if not leaves:
            raise ValueError(f"{NAME}: there are no parameters")
        n, dtype = sum(_length(p) for p in leaves), real_dtype(compute_dtype(*(p.dtype for p in leaves)))
        return LBFGSState(
            count=_zero(),
            n_iter=_zero(),
            func_evals=_zero(),
            hyper=_HYPER.values(numeric, _zero()),
            d=jnp.zeros(n, dtype),
            t=jnp.zeros((), dtype),
            old_dirs=jnp.zeros((history_size, n), dtype),
            old_stps=jnp.zeros((history_size, n), dtype),
            ro=jnp.zeros(history_size, dtype),
            n_pairs=_zero(),
            H_diag=jnp.ones((), dtype),
            prev_flat_grad=jnp.zeros(n, dtype),
            prev_loss=jnp.zeros((), dtype),
        )

    def update(
        grads: PyTree,
        state: LBFGSState,
        params: PyTree | None = None,
        *,
        value_fn: Callable[..., Any] | None = None,
        value: Any = None,
        **extra: Any,
    ) -> tuple[PyTree, LBFGSState]:
        _check_state(grads, state)
        if params is None:
            raise ValueError(f"{NAME} needs params: call update(updates, state, params, value_fn=...)")
        if value_fn is None:
            raise ValueError(f"{NAME} needs the extra argument 'value_fn': update(updates, state, params, value_fn=...)")
        if not callable(value_fn):
            raise TypeError(f"{NAME}: value_fn must be a function of the parameters, got {value_fn!r}")
        treedef, gs, ps = _checked_leaves(grads, params)
        there = [i for i, p in enumerate(ps) if p is not None]
        old = [ps[i] for i in there]
        if state.old_dirs.shape != (history_size, sum(map(_length, old))):
            raise TypeError(
                f"{NAME}: this state belongs to another optimizer: its history has shape {state.old_dirs.shape}, expected "
                f"{(history_size, sum(map(_length, old)))}"
            )
        dtype = state.d.dtype
        loss = functools.partial(value_fn, **accepted_by(value_fn, extra))

        def tree(leaves: list[Any]) -> PyTree:
            return treedef.unflatten(dict(zip(there, leaves, strict=True)).get(i) for i in range(len(ps)))

        def flat_loss(x: Array) -> Array:
            leaves = [
                p if gs[i] is not None else lax.stop_gradient(p) for i, p in zip(there, _leaves_of(x, old), strict=True)
            ]
            return jnp.asarray(loss(tree(leaves))).astype(dtype)

        with jax.named_scope(NAME):
            hyper = {key: as_scalar(rate) for key, rate in state.hyper.items()} | _HYPER.values(in_force, state.count)
            x = _vector_of(old, dtype)
            g = _vector_of([jnp.zeros_like(ps[i]) if gs[i] is None else gs[i] for i in there], dtype)
            f = flat_loss(x) if value is None else jnp.asarray(value).astype(dtype)
            new_x, new = step(jax.value_and_grad(flat_loss), x, f, g, state, hyper["learning_rate"].astype(dtype))
        moved = [
            u.astype(jax.dtypes.canonicalize_dtype(ps[i].dtype if gs[i] is None else gs[i].dtype))
            for i, u in zip(there, _leaves_of(new_x - x, old), strict=True)
        ]
        return tree(moved), new._replace(count=optax.safe_increment(state.count), hyper=hyper)

    return optax.GradientTransformationExtraArgs(init, update)


class _Iteration(NamedTuple):
    x: Array
    f: Array
    g: Array
    state: LBFGSState
    iterations: Array  # of this update
    evaluations: Array  # of this update
    done: Array


def _step(
    value_and_grad: Callable[[Array], tuple[Array, Array]],
    x: Array,
    f: Array,
    g: Array,
    state: LBFGSState,
    lr: Array,
    *,
    max_iter: int,
    max_eval: int,
    tolerance_grad: float,
    tolerance_change: float,
    line_search: bool,
) -> tuple[Array, LBFGSState]:
    """Iterate from x, where the loss is f and its gradient g; return the new x and state."""

    def iterate(now: _Iteration) -> _Iteration:
        state = _remembering(now.state, now.g)
        d = _direction(state, now.g)
        # Before there is any curvature to tell the scale, the step is no longer than lr in the 1-norm.
        shortening = 1 / jnp.sum(jnp.abs(now.g))
        t = lr * jnp.where((state.n_iter == 0) & (shortening < 1), shortening, 1)
        here = _Point(jnp.zeros_like(t), now.f, now.g, _dot(now.g, d))
        iterations = now.iterations + 1
        last = iterations == max_iter

        def at(t: Array) -> _Point:
            f, g = value_and_grad(now.x + t * d)
            return _Point(t, f, g, _dot(g, d))

        def stay() -> tuple[Array, _Point, Array]:
            return now.x, here._replace(t=t), now.evaluations

        def move() -> tuple[Array, _Point, Array]:
            if line_search:
                new, tried = _strong_wolfe(at, here, t, _largest(d), max_eval - now.evaluations, tolerance_change)
            else:  # the last iteration moves without looking
                new, tried = lax.cond(last, lambda: here._replace(t=t), lambda: at(t)), jnp.where(last, 0, 1)
            return now.x + new.t * d, new, now.evaluations + tried

        level = here.slope > -tolerance_change
        x, new, evaluations = lax.cond(level, stay, move)
        done = (
            level
            | last
            | (evaluations >= max_eval)
            | (_largest(new.g) <= tolerance_grad)
            | (_largest(new.t * d) <= tolerance_change)
            | (jnp.abs(new.f - now.f) < tolerance_change)
        )
        state = state._replace(n_iter=state.n_iter + 1, d=d, t=new.t, prev_flat_grad=now.g, prev_loss=now.f)
        return _Iteration(x, new.f, new.g, state, iterations, evaluations, done)

    one = jnp.ones((), jnp.int32)
    start = _Iteration(x, f, g, state, 0 * one, one, _largest(g) <= tolerance_grad)
    end = lax.while_loop(lambda now: ~now.done, iterate, start)
    return end.x, end.state._replace(func_evals=state.func_evals + end.evaluations)


def _remembering(state: LBFGSState, g: Array) -> LBFGSState:
    """Store the pair of the last step, if the curvature along it is positive; before the first step there is none."""
    y, s = g - state.prev_flat_grad, state.t * state.d
    ys = _dot(y, s)
    keep = ys > MIN_CURVATURE
    row = state.n_pairs % len(state.ro)

    def put(rows: Array, new: Array) -> Array:  # only the row is chosen, so that the history need not be copied
        return rows.at[row].set(jnp.where(keep, new, rows[row]))

    return state._replace(
        old_dirs=put(state.old_dirs, y),
        old_stps=put(state.old_stps, s),
        ro=put(state.ro, 1 / ys),
        n_pairs=state.n_pairs + keep.astype(jnp.int32),
        H_diag=jnp.where(keep, ys / _dot(y, y), state.H_diag),
    )


def _direction(state: LBFGSState, g: Array) -> Array:
    """Return −H g by the two-loop recursion: Nocedal and Wright, Numerical optimization, 2006, algorithm 7.4."""
    n_kept = jnp.minimum(state.n_pairs, len(state.ro))

    def row(age: Array) -> Array:
        return (state.n_pairs - 1 - age) % len(state.ro)

    def from_newest(age: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        q, alphas = carry
        i = row(age)
        alpha = state.ro[i] * _dot(state.old_stps[i], q)
        return q - alpha * state.old_dirs[i], alphas.at[i].set(alpha)

    def from_oldest(k: Array, r: Array) -> Array:
        i = row(n_kept - 1 - k)
        beta = state.ro[i] * _dot(state.old_dirs[i], r)
        return r + (alphas[i] - beta) * state.old_stps[i]

    q, alphas = lax.fori_loop(0, n_kept, from_newest, (-g, jnp.zeros_like(state.ro)))
    return lax.fori_loop(0, n_kept, from_oldest, state.H_diag * q)


class _Search(NamedTuple):
    first: _Point  # the two ends of the bracket; before there is one, the last two points
    second: _Point
    second_is_low: Array  # whether the loss is lower at the second
    t: Array  # the next to evaluate
    evaluations: Array
    bracketed: Array
    stuck: Array  # whether the last trial was close to an end of the bracket
    done: Array


def _strong_wolfe(
    at: Callable[[Array], _Point], start: _Point, t: Array, d_max: Array, max_trials: Array, tolerance_change: float
) -> tuple[_Point, Array]:
    """Search along d, from the step size t, for a point with the strong Wolfe conditions.

    Args:
        at: gives the point of a step size.
        start: the point t = 0.
        t: the first step size to try.
        d_max: the largest coordinate of d, in magnitude.
        max_trials: how many points may be tried after the first.
        tolerance_change: a bracket in which no coordinate changes by as much is not narrowed.

    Returns:
        The point found, or the better end of the bracket so far, and the number of evaluations.
    """

    def second_is_low(first: _Point, second: _Point) -> Array:
        return ~(first.f <= second.f)

    def widen(s: _Search, new: _Point, too_high: Array, flat: Array, last: Array) -> _Search:
        previous = s.second
        too_high |= (s.evaluations > 1) & (new.f >= previous.f)
        found = flat & ~too_high & ~last
        first = _pick(last, start, previous)
        return s._replace(
            first=first,
            second=new,
            second_is_low=found | second_is_low(first, new),
            t=_cubic_minimum(previous, new, new.t + 0.01 * (new.t - previous.t), 10 * new.t),
            bracketed=too_high | (new.slope >= 0),
            done=found,
        )

    def narrow(s: _Search, new: _Point, too_high: Array, flat: Array) -> _Search:
        low, high = _pick(s.second_is_low, (s.second, s.first), (s.first, s.second))
        too_high |= new.f >= low.f
        found = flat & ~too_high
        # The minimum lies between the two lower ones of the three points, or where the slope changes its sign.
        turned = ~flat & (new.slope * (high.t - low.t) >= 0)
        low, high = _pick(too_high, (low, new), (new, _pick(turned, low, high)))
        first, second = _pick(s.second_is_low, (high, low), (low, high))
        return s._replace(
            first=first,
            second=second,
            second_is_low=jnp.where(too_high, second_is_low(first, second), s.second_is_low),
            done=found,
        )

    def interpolate(s: _Search) -> _Search:
        """Set the next trial inside the bracket, a tenth off an end that it comes close to for the second time."""
        left, right = jnp.minimum(s.first.t, s.second.t), jnp.maximum(s.first.t, s.second.t)
        t = _cubic_minimum(s.first, s.second, left, right)
        margin = 0.1 * (right - left)
        close = jnp.minimum(right - t, t - left) < margin
        push = close & (s.stuck | (t >= right) | (t <= left))
        pushed = jnp.where(jnp.abs(t - right) < jnp.abs(t - left), right - margin, left + margin)
        return s._replace(
            t=jnp.where(push, pushed, t),
            stuck=close & ~push,
            done=s.done | ((right - left) * d_max < tolerance_change),
        )

    def trial(s: _Search) -> _Search:
        new = at(s.t)
        too_high = new.f > start.f + C1 * s.t * start.slope
        flat = jnp.abs(new.slope) <= -C2 * start.slope
        last = s.evaluations >= max_trials  # below 0 where vmap goes on with a lane that is done
        s = lax.cond(s.bracketed, lambda: narrow(s, new, too_high, flat), lambda: widen(s, new, too_high, flat, last))
        s = _pick(s.bracketed, interpolate(s), s)
        return s._replace(evaluations=s.evaluations + 1, done=s.done | last)

    no = jnp.array(False)
    begin = _Search(start, start, no, t, jnp.zeros((), jnp.int32), no, no, no)
    end = lax.while_loop(lambda s: ~s.done, trial, begin)
    return _pick(end.second_is_low, end.second, end.first), end.evaluations


def _cubic_minimum(a: _Point, b: _Point, low: Array, high: Array) -> Array:
    """Return where the cubic through two points with their slopes has its minimum, held in [low, high]; or their mean.

    Nocedal and Wright, Numerical optimization, 2006, equation 3.59.
    """
    a, b = _pick(a.t <= b.t, (a, b), (b, a))
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    # Compared before they are subtracted, which a fused multiply-add would do with another rounding, of another sign.
    square, product = d1 * d1, a.slope * b.slope
    d2 = jnp.sqrt(jnp.where(square > product, square - product, 0))
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return jnp.where((square >= product) & (product < jnp.inf), jnp.clip(t, low, high), (low + high) / 2)


def _largest(x: Array) -> Array:
    return jnp.max(jnp.abs(x), initial=0)  # of nothing too: parameters can be empty arrays


def _pick(condition: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(functools.partial(jnp.where, condition), a, b)


def _zero() -> Array:
    return jnp.zeros((), jnp.int32)  # each time another, since a state may be donated


def _length(p: Array) -> int:
    return p.size * (2 if jnp.iscomplexobj(p) else 1)


def _vector_of(leaves: list[Array], dtype: jnp.dtype) -> Array:
    """Return all leaves as one real vector, the imaginary part of each complex number after its real part."""
    parts = [jnp.stack([x.real, x.imag], -1) if jnp.iscomplexobj(x) else jnp.asarray(x) for x in leaves]
    return jnp.concatenate([x.ravel().astype(dtype) for x in parts])


def _leaves_of(x: Array, like: list[Array]) -> list[Array]:
    """Return the leaves of which x is the vector, with the shapes of those in `like`, but in the dtype of x."""

    def leaf(part: Array, p: Array) -> Array:
        return lax.complex(part[::2], part[1::2]).reshape(p.shape) if jnp.iscomplexobj(p) else part.reshape(p.shape)

    ends = np.cumsum([_length(p) for p in like])
    return [leaf(part, p) for part, p in zip(jnp.split(x, ends[:-1]), like, strict=True)]


def _checked_leaves(grads: PyTree, params: PyTree) -> tuple[Any, list[Any], list[Any]]:
    """Return the tree, and the leaves of gradients and parameters; both are `None` where there is no parameter."""
    treedef, gs, ps, _ = _leaves(NAME, grads, params, {})
    gs, ps = [_array(g) for g in gs], [_array(p) for p in ps]
    for i, (g, p) in enumerate(zip(gs, ps, strict=True)):
        try:
            if isinstance(g, optax.MaskedNode):
                raise ValueError("the gradient is masked; the loss function needs every parameter")
            if p is not None:
                _check_leaf(jnp.zeros_like(p) if g is None else g, {}, p, True)
            elif g is not None:
                raise ValueError("there is a gradient, but the parameter is None")
        except Exception as error:
            _raise_located(error, f"{NAME}: at {_path_of(i, grads)}")
    return treedef, gs, ps


def _check_state(grads: PyTree, state: Any) -> None:
    if isinstance(grads, LBFGSState):
        raise TypeError(f"{NAME}: {_SWAPPED}")
    if not isinstance(state, LBFGSState):
        raise TypeError(
            f"{NAME}: the state is a {type(state).__name__}, expected the LBFGSState made by this optimizer's init; "
            f"{_RESTORE}"
        )
