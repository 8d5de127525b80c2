"""Watching an optimizer: how large its gradients, updates and weights are, layer by layer, as a second result."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.transformation import of_multi_steps

PyTree: TypeAlias = Any


class Statistics(NamedTuple):
    """What one update did to each leaf: trees of float32 scalars shaped like the parameters; `None` where no gradient is.

    Attributes:
        gradient_norm: ‖g‖.
        update_norm: ‖u‖.
        weight_norm: ‖θ‖, before the update.
        update_to_weight: ‖u‖/‖θ‖, by how much of itself a layer changes; about 1e-3 is usual in healthy training. 0 where
            nothing moved, ∞ where a layer of zeros did.
        effective_learning_rate: ‖u‖/‖g‖, the rate at which plain SGD would take a step as long; 0 and ∞ likewise.
    """

    gradient_norm: PyTree
    update_norm: PyTree
    weight_norm: PyTree
    update_to_weight: PyTree
    effective_learning_rate: PyTree


class Observed(NamedTuple):
    """A transformation whose `update(updates, state, params, **extra)` returns `(updates, state, Statistics)`."""

    init: Callable[[PyTree], Any]
    update: Callable[..., tuple[PyTree, Any, Statistics]]


def observe(tx: optax.GradientTransformation) -> Observed:
    """Return `tx` with `Statistics` of each update as a third result; its state and its numbers are what they were.

    Args:
        tx: any transformation of Optax's kind; extra arguments of `update` are passed on.

    Returns:
        `init` as it was, and an `update` that needs `params` and works inside `jax.jit`, `jax.vmap` and `jax.lax.scan`.
        Errors: InputError if `tx` is no transformation; ValueError in `update` without `params`.
    """
    tx = of_multi_steps(tx)
    if not isinstance(tx, optax.GradientTransformation):
        raise InputError(f"tx must be an optax.GradientTransformation, got a {type(tx).__name__}")
    tx = optax.with_extra_args_support(tx)

    def update(gradients: PyTree, state: Any, params: PyTree = None, **extra: Any) -> tuple[PyTree, Any, Statistics]:
        if params is None:
            raise ValueError("observe needs params: call update(updates, state, params)")
        updates, state = tx.update(gradients, state, params, **extra)
        g, u, p = (jax.tree.map(_norm, tree, is_leaf=_is_none) for tree in (gradients, updates, params))
        p = jax.tree.map(lambda g, p: None if g is None else p, g, p, is_leaf=_is_none)
        return updates, state, Statistics(g, u, p, jax.tree.map(_ratio, u, p), jax.tree.map(_ratio, u, g))

    return Observed(tx.init, update)


def _is_none(x: Any) -> bool:
    return x is None


def _norm(x: jax.Array | None) -> jax.Array | None:
    # In float32 at least: the squares of a bfloat16 array do not sum up in bfloat16.
    return None if x is None else jnp.linalg.norm(jnp.abs(jnp.ravel(x)).astype(jnp.float32))


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(a == 0, 0.0, a / b)
