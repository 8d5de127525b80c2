"""Minimise from many starting points at once, and sort the ends into distinct minima."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import keystr, tree_leaves_with_path

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.lanes import Plan, Shapes, compiled
from jaxopt_lec.lab.minimize import RUNNING, At, Given, Problem, Stop, Tolerances, begin, prepare, step

__all__ = ["Basin", "MultiStart", "multi_start"]

Tree: TypeAlias = Any

# Float32 leaves a gradient of about 1e-4 in the minima of the standard surfaces, and a ball in motion meets this only for a
# moment.
CONVERGED = Tolerances(gradient=1e-3, patience=3)


@dataclass(frozen=True)
class Basin:
    """A minimum that was found, as its lowest lane has it.

    Attributes:
        params: the point, a tree of NumPy arrays.
        value: the function there.
        count: how many starting points led to it.
        share: the same as a share of all starting points.
    """

    params: Tree
    value: float
    count: int
    share: float


@dataclass(frozen=True)
class MultiStart:
    """What became of many starting points; lanes are in the order of the starts.

    Attributes:
        minima: the distinct minima, lowest first.
        diverged: how many lanes met a value or gradient that is not finite.
        unconverged: how many took all steps without meeting a tolerance.
        params: the ends, a tree with a first axis of lanes.
        values: [lane], the function there.
        steps: [lane], how many steps were taken.
        stop: [lane], the code of a `Stop`.
        basin: [lane], the place of its minimum in `minima`, -1 for lanes that diverged or have not converged.
    """

    minima: tuple[Basin, ...]
    diverged: int
    unconverged: int
    params: Tree
    values: np.ndarray
    steps: np.ndarray
    stop: np.ndarray
    basin: np.ndarray

    @property
    def best(self) -> Basin | None:
        """The lowest minimum; None if no lane converged."""
        return self.minima[0] if self.minima else None


class End(NamedTuple):
    """Where a lane ended; the fields are those of `Minimization`."""

    value: jax.Array  # first, as it is always there
    params: Tree
    steps: jax.Array
    stop: jax.Array


def multi_start(
    fn: Callable[..., Any],
    starts: Tree,
    tx: optax.GradientTransformation,
    steps: int,
    *,
    tolerances: Tolerances = CONVERGED,
    same_within: float = 1e-2,
    side_by_side: int | None = None,
    extras: Mapping[str, Any] | None = None,
    key: jax.Array | None = None,
) -> MultiStart:
    """Minimise from every starting point, in one program over all devices, and sort the ends into distinct minima.

    No method knows the global minimum; many starting points are the practical answer. Ends closer than `same_within` (the
    Euclidean distance over all parameters) to a lower end are the same minimum, from the lowest up; so the sorting is
    deterministic. A minimum here is where a tolerance was met: a lane that comes to rest on a saddle counts as one. A
    second call with the same `fn`, `tx`, options and number of starts compiles nothing.

    Args:
        fn, tx, steps, extras, key: as in `minimize`; all lanes share them, and the noise of each step.
        starts: a tree like the parameters with a first axis of lanes: `random_starts`, `grid_starts`, or one's own.
        tolerances: when a lane has converged; at least one must be given.
        same_within: in (0, ∞); well above the distance that the tolerance leaves to a minimum.
        side_by_side: how many lanes run as one vectorized batch on each device; None: all of them, which suits small
            problems. Fewer take less memory.

    Errors: InputError, before anything is compiled.
    """
    n = count_lanes(starts)
    if (tolerances.gradient, tolerances.value, tolerances.update) == (None, None, None):
        raise InputError("tolerances: without any, no lane could be said to have converged")
    if not 0 < same_within < np.inf:
        raise InputError(f"same_within {same_within}: a positive number is needed")
    if side_by_side is not None and side_by_side < 1:
        raise InputError(f"side_by_side {side_by_side}: at least 1 is needed")
    starts = jax.tree.map(np.asarray, starts)
    problem, _, given = prepare(fn, jax.tree.map(lambda x: x[0], starts), tx, steps, tolerances, extras, key)
    # Python numbers became NumPy's default dtype above; from here on they have JAX's.
    starts = jax.tree.map(lambda x: x.astype(jax.dtypes.canonicalize_dtype(x.dtype)), starts)

    devices = tuple(jax.local_devices())[:n]
    wide = -(-n // len(devices))
    bundles = in_bundles(starts, min(side_by_side or wide, wide))
    # Bundles are the lanes that are dealt out to devices. Each runs its starts side by side itself, see `_Bundle`.
    program = compiled(_Bundle(problem), Shapes.of(bundles), Shapes.of(given), Plan(devices, group=1))
    end: End = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], program(bundles, given))
    basin, minima = sort_into_basins(end, same_within)
    return MultiStart(
        minima=minima,
        diverged=int(np.sum(end.stop == Stop.NOT_FINITE)),
        unconverged=int(np.sum(end.stop == Stop.STEPS)),
        params=end.params,
        values=np.asarray(end.value),
        steps=np.asarray(end.steps),
        stop=np.asarray(end.stop),
        basin=basin,
    )


def count_lanes(starts: Tree) -> int:
    """Return the length of the first axis.

    Raises:
        InputError: there is none, or the leaves disagree.
    """
    lengths = {keystr(path): np.shape(leaf)[:1] for path, leaf in tree_leaves_with_path(starts)}
    if not lengths:
        raise InputError("starts have no arrays")
    if len(set(lengths.values())) > 1 or () in lengths.values():
        said = ", ".join(f"starts{path}: {length[0] if length else 'a scalar'}" for path, length in lengths.items())
        raise InputError(f"starts need one first axis, of the starting points, in all arrays; they have {said}")
    ((n,),) = set(lengths.values())
    if n < 1:
        raise InputError("no starting point given")
    return int(n)


def in_bundles(starts: Tree, size: int) -> Tree:
    """Cut [start, ...] into [bundle, place, ...], filled up with the last start."""

    def leaf(x: np.ndarray) -> np.ndarray:
        padding = np.broadcast_to(x[-1], (-len(x) % size, *x.shape[1:]))
        return np.concatenate([x, padding]).reshape(-1, size, *x.shape[1:])

    return jax.tree.map(leaf, starts)


@dataclass(frozen=True)
class _Bundle:
    """Run lanes side by side until the last one stops.

    A lane that has stopped goes on in the loop, but its end is kept. So nothing but the end is selected by lane, and what
    all lanes share, such as Adam's bias correction or the noise of a step, is computed once.
    """

    problem: Problem

    def __call__(self, starts: Tree, given: Given) -> End:
        problem = self.problem

        def run_lane(start: Tree) -> End:
            def unfinished(carry: tuple[At, End]) -> jax.Array:
                return jax.lax.psum((carry[1].stop == RUNNING).astype(jnp.int32), "starts") > 0

            def advance(carry: tuple[At, End]) -> tuple[At, End]:
                at, end = carry
                at = step(problem, given, at)
                return at, jax.tree.map(partial(jnp.where, end.stop == RUNNING), end_at(at), end)

            at = begin(problem, start, given)
            return jax.lax.while_loop(unfinished, advance, (at, end_at(at)))[1]

        return jax.vmap(run_lane, axis_name="starts")(starts)


def end_at(at: At) -> End:
    """Return what is kept of a point."""
    return End(at.value, at.params, at.steps, at.stop)


def sort_into_basins(end: End, same_within: float) -> tuple[np.ndarray, tuple[Basin, ...]]:
    """Return the basin of each lane and the minima, lowest first: the lowest end takes all within reach, and so on."""
    n = len(end.value)
    flat = np.concatenate([as_reals(leaf) for leaf in jax.tree.leaves(end.params)], axis=1)
    basin = np.full(n, -1)
    waiting = np.flatnonzero((end.stop != Stop.STEPS) & (end.stop != Stop.NOT_FINITE))
    waiting = waiting[np.argsort(end.value[waiting], kind="stable")]
    minima: list[Basin] = []
    while len(waiting):
        lowest = waiting[0]
        near = np.linalg.norm(flat[waiting] - flat[lowest], axis=1) <= same_within
        basin[waiting[near]] = len(minima)
        count = int(near.sum())
        point = jax.tree.map(lambda x, lowest=lowest: x[lowest], end.params)
        minima.append(Basin(point, float(end.value[lowest]), count, count / n))
        waiting = waiting[~near]
    return basin, tuple(minima)


def as_reals(leaf: np.ndarray) -> np.ndarray:
    """Return [lane, number], complex numbers as two."""
    rows = leaf.reshape(len(leaf), -1)
    return (np.hstack([rows.real, rows.imag]) if np.iscomplexobj(rows) else rows).astype(np.float64)
