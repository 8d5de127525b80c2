"""The alphabet that the equations are written in: a few functions on one array."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["abs2", "beside", "debias", "ema", "one_minus_power", "sqrt"]


def ema(average: Array, x: Array, b: Array) -> Array:
    """Return the exponential moving average b·average + (1−b)·x."""
    return b * average + (1 - b) * x


def abs2(x: Array) -> Array:
    """Return |x|², real also for complex x."""
    return x.real**2 + x.imag**2 if jnp.iscomplexobj(x) else x * x


def beside(x: Array, y: Array) -> Array:
    """Return x, and NaN where y is: made from y too, it is computed beside y, in one pass over memory, on a TPU as well."""
    return jnp.where(jnp.isnan(y), y, x)


@jax.custom_jvp
def sqrt(x: Array) -> Array:
    """Return √x, with derivative 0 at 0, so that a coordinate without gradients does not turn hypergradients into NaN."""
    return jnp.sqrt(x)


@sqrt.defjvp
def _sqrt_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = sqrt(*primals)
    return root, jnp.where(root > 0, tangents[0] / jnp.where(root > 0, 2 * root, 1), 0)


@jax.custom_jvp
def one_minus_power(b: Array, t: Array) -> Array:
    """Return 1 − bᵗ without cancellation: in float32 `1 - b**t` is about 1e-5 wrong for b = 0.999 and small t.

    Differentiable in b; t, the number of the step, is held constant.
    """
    return -jnp.expm1(t * jnp.log1p(b - 1))


@one_minus_power.defjvp
def _one_minus_power_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    # Written out because the derivative of log at b = 0 is infinite and that of 1 − bᵗ is not.
    b, t = primals
    return one_minus_power(b, t), -t * jnp.power(b, t - 1) * tangents[0]


def debias(average: Array, b: Array, t: Array) -> Array:
    """Return average / (1 − bᵗ): an average with decay b that started at zero, t steps later, without its bias."""
    return average / one_minus_power(b, t)
