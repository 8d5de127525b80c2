"""How a slot is born: from a parameter, and the hyperparameters in force at initialisation.

An initialiser is a function `(p, hyper) -> array`. Slots of parameters narrower than float32 are float32: a second moment
kept in bfloat16 stalls, since (1−β₂)·g² is lost against it in rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp

__all__ = ["Initialiser", "full_real", "one", "zeros", "zeros_real"]

Initialiser: TypeAlias = Callable[[jax.Array, Mapping[str, jax.Array]], jax.Array]


def compute_dtype(*dtypes: jnp.dtype) -> jnp.dtype:
    """Return the dtype that arrays of `dtypes` are computed in: float32 at least, float64 (if enabled) and complex kept."""
    wide = any(jnp.finfo(jax.dtypes.canonicalize_dtype(dtype)).bits == 64 for dtype in dtypes)
    if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
        return jnp.dtype(jnp.complex128 if wide else jnp.complex64)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def real_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype of |x| for x of the compute dtype `dtype`."""
    return jnp.dtype(f"float{jnp.finfo(dtype).bits}")


def zeros(p: jax.Array, hyper: Mapping[str, jax.Array]) -> jax.Array:
    """Return zeros like the parameter: for averages of the gradient."""
    return jnp.zeros_like(p, dtype=compute_dtype(p.dtype))


def zeros_real(p: jax.Array, hyper: Mapping[str, jax.Array]) -> jax.Array:
    """Return real zeros of the parameter's shape: for averages of |g|²."""
    return jnp.zeros_like(p, dtype=real_dtype(compute_dtype(p.dtype)))


def full_real(name: str) -> Initialiser:
    """Return the initialiser that fills the parameter's shape with the hyperparameter called `name`."""

    def full(p: jax.Array, hyper: Mapping[str, jax.Array]) -> jax.Array:
        # A copy also where p is a scalar: a state that holds one buffer twice cannot be donated.
        return jnp.array(jnp.full_like(p, hyper[name], dtype=real_dtype(compute_dtype(p.dtype))), copy=True)

    return full


def one(p: jax.Array, hyper: Mapping[str, jax.Array]) -> jax.Array:
    """Return the scalar 1: for a running product over steps."""
    return jnp.ones((), real_dtype(compute_dtype(p.dtype)))
