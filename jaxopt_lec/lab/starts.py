"""Starting points for a search: drawn at random or laid out as a grid, trees as the parameters are."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lec.lab.errors import InputError

__all__ = ["grid_starts", "random_starts"]

Tree: TypeAlias = Any


def random_starts(key: jax.Array, low: Tree, high: Tree, n: int) -> Tree:
    """Draw n starting points uniformly between two corners.

    Args:
        key: the same key draws the same points.
        low: a tree of the parameters, each number the lowest of its coordinate.
        high: the same with the highest.
        n: how many, at least 1.

    Returns:
        A tree with a first axis of n. Errors: InputError for corners that do not fit together.
    """
    if n < 1:
        raise InputError(f"n {n}: at least 1 starting point is needed")
    lows, highs, structure = corners(low, high)
    keys = jax.random.split(key, len(lows))
    return structure.unflatten(
        [jax.random.uniform(key, (n, *a.shape), a.dtype, a, b) for key, a, b in zip(keys, lows, highs, strict=True)]
    )


def grid_starts(low: Tree, high: Tree, points: int | Sequence[int]) -> Tree:
    """Return a regular grid of starting points over a box, edges included: the grid search over the loss surface.

    Args:
        low, high: as in `random_starts`.
        points: along each axis, at least 2; one number for all coordinates, or one for each in the order of the leaves.

    Returns:
        A tree with a first axis of as many as the product, the last coordinate changing fastest.

    Errors: InputError for corners or numbers that do not fit.
    """
    lows, highs, structure = corners(low, high)
    a, b = (np.concatenate([np.ravel(leaf) for leaf in leaves]) for leaves in (lows, highs))
    numbers = [points] * len(a) if isinstance(points, int) else list(points)
    if len(numbers) != len(a) or min(numbers) < 2:
        raise InputError(f"points {points}: one number for all of the {len(a)} coordinates, or one each; at least 2")
    axes = [np.linspace(*ends) for ends in zip(a, b, numbers, strict=True)]
    flat = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(a))
    cuts = np.cumsum([leaf.size for leaf in lows])[:-1]
    return structure.unflatten(
        [
            jnp.asarray(part.reshape(len(flat), *leaf.shape), leaf.dtype)
            for part, leaf in zip(np.split(flat, cuts, axis=1), lows, strict=True)
        ]
    )


def corners(low: Tree, high: Tree) -> tuple[list[jax.Array], list[jax.Array], Any]:
    """Return the leaves of two corners, and the structure."""
    structure: Any
    lows, structure = jax.tree.flatten(low)
    if not lows:
        raise InputError("low has no arrays")
    if jax.tree.structure(high) != structure:
        raise InputError("low and high are trees of different structure")
    pairs = [(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(lows, jax.tree.leaves(high), strict=True)]
    for a, b in pairs:
        if a.shape != b.shape or a.dtype != b.dtype:
            raise InputError(f"low and high have different arrays: {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}")
        if not jnp.issubdtype(a.dtype, jnp.floating):
            raise InputError(f"low and high must be of real floating point numbers, got {a.dtype}")
        if not (jnp.isfinite(a) & jnp.isfinite(b) & (a < b)).all():
            raise InputError("every number of low must be finite and below that of high")
    return [a for a, _ in pairs], [b for _, b in pairs], structure
