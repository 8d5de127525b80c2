"""Which parameter a leaf of a state belongs to, by its name and its shape."""

import dataclasses
import itertools
import math
from typing import Any, TypeAlias

import jax
import optax

from jaxopt_lec import named_leaves
from jaxopt_lec.state.compress import CompressState

__all__ = ["Place", "places"]

PyTree: TypeAlias = Any


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a leaf of a state stands.

    Attributes:
        name: its path.
        leaf: shape and dtype.
        slot: the name without the parameter's.
        parameter: the number of its parameter among `jax.tree.leaves(params)`, or `None`.
        codes: for scales of `compress`: the number of the leaf that they scale, among the state's leaves.
    """

    name: str
    leaf: Any
    slot: str
    parameter: int | None
    codes: int | None = None


def places(state: PyTree, params: PyTree) -> list[Place]:
    """Return the place of each leaf of the state, in the order of `jax.tree.leaves`.

    In a part of the state with the structure of the parameters each leaf belongs to the parameter at its place; elsewhere,
    to the one whose whole name its own ends in, and to the longest of several.
    """
    names = [tuple(name.split("/")) if name else () for name, _ in named_leaves(params)]
    number = {name: k for k, name in enumerate(names)}
    found = []
    for (name, leaf), aligned in zip(named_leaves(state), _by_structure(state, params), strict=True):
        keys = tuple(name.split("/"))
        suffixes = (keys[k:] for k in range(len(keys) + 1))
        owner = next((number[suffix] for suffix in suffixes if suffix in number), None) if aligned is None else aligned
        if owner is None or not leaf.shape:
            found.append(Place(name, leaf, name, None))
        else:
            found.append(Place(name, leaf, "/".join(keys[: len(keys) - len(names[owner])]), owner))
    for codes, scales in _scales(state).items():
        of = found[codes]
        found[scales] = dataclasses.replace(found[scales], slot=f"{of.slot} (scales)", parameter=of.parameter, codes=codes)
    return found


def _by_structure(state: PyTree, params: PyTree) -> list[int | None]:
    """Return for each leaf of the state its place in a part with the structure of the parameters, or `None`."""
    structure: Any = jax.tree.structure(params)

    def is_masked(x: Any) -> bool:
        return isinstance(x, optax.MaskedNode)

    def is_aligned(x: Any) -> bool:
        return bool(structure == jax.tree.structure(x, is_leaf=is_masked))

    found: list[int | None] = []
    for part in jax.tree.leaves(state, is_leaf=is_aligned):
        if is_aligned(part):
            found += [k for k, x in enumerate(jax.tree.leaves(part, is_leaf=is_masked)) if not is_masked(x)]
        else:
            found.append(None)
    return found


def _scales(state: PyTree) -> dict[int, int]:
    """Return the number of each encoded leaf → that of its scales."""
    found = {}
    at = 0
    for part in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, CompressState)):
        if not isinstance(part, CompressState):
            at += 1
            continue
        first = at + 1  # behind the count
        scales = first + len(part.format.leaves)
        chosen = [first + k for k, codec in enumerate(part.format.leaves) if codec is not None]
        for codes, scale in zip(chosen, part.scales, strict=True):
            if scale is not None:
                found[codes] = scales
                scales += 1
        at = scales
    return found


def kept_axes(leaf: tuple[int, ...], parameter: tuple[int, ...]) -> list[tuple[int | None, ...]]:
    """Return the ways in which the leaf's shape can come from the parameter's: which axis each is, `None` if reduced."""
    if len(leaf) == len(parameter):
        if all(n in (m, 1) for n, m in zip(leaf, parameter, strict=True)):
            return [tuple(axis if n == parameter[axis] else None for axis, n in enumerate(leaf))]
        return []
    ways = itertools.combinations(range(len(parameter)), len(leaf))
    return [way for way in ways if tuple(parameter[axis] for axis in way) == leaf]


def numbers(leaf: Any) -> int:
    """Return how many numbers a leaf has."""
    return math.prod(leaf.shape)
