"""The alphabet that the equations are written in: a few functions on one array."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["abs2", "beside", "complement", "debias", "ema", "one_minus_power", "sqrt"]

# The rounding error of each hyperparameter in force, exact value − array, by the `id` of the array, which is kept beside it.
_rests: ContextVar[Mapping[int, tuple[Array, Array]]] = ContextVar("rests", default=MappingProxyType({}))


@contextlib.contextmanager
def rests_of(numbers: Mapping[str, Array], rests: Mapping[str, Array]) -> Iterator[None]:
    """Give `complement` the rounding errors of some of the numbers: exact value − number."""
    token = _rests.set({id(numbers[name]): (numbers[name], rest) for name, rest in rests.items()})
    try:
        yield
    finally:
        _rests.reset(token)


def _rest_of(b: Array) -> Array | None:
    _, rest = _rests.get().get(id(b), (b, None))
    return rest


def complement(b: Array) -> Array:
    """Return 1 − b; if the `Decay` b was given as a Python number, without the rounding error of b in float32.

    float32(0.9999) has an error of 1.7e-8, which is 1.7e-4 of 1 − b.
    """
    rest = _rest_of(b)
    return 1 - b if rest is None else (1 - b) - rest


def ema(average: Array, x: Array, b: Array) -> Array:
    """Return the exponential moving average b·average + (1−b)·x."""
    rest = _rest_of(b)
    if rest is None:
        return b * average + (1 - b) * x
    # rest·average is too small to change b·average in float32, but not the small (1−b)·x, so it is added there. A part of b
    # moves along with it: so no factor of an infinite average is negative or 0. For b from ½ on, b − part is exact.
    part = jax.lax.select(b < 0.5, b, jnp.ones_like(b)) * 2**-16
    return (b - part) * average + (complement(b) * x + (part + rest) * average)


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


def one_minus_power(b: Array, t: Array) -> Array:
    """Return 1 − bᵗ without cancellation: in float32 `1 - b**t` is about 1e-5 wrong for b = 0.999 and small t.

    Differentiable in b; t, the number of the step, is held constant.
    """
    return _one_minus_power(complement(b), t)


@jax.custom_jvp
def _one_minus_power(c: Array, t: Array) -> Array:
    return -jnp.expm1(t * jnp.log1p(-c))


@_one_minus_power.defjvp
def _one_minus_power_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    # Written out because the derivative of log at b = 0 is infinite and that of 1 − bᵗ is not.
    c, t = primals
    return _one_minus_power(c, t), t * jnp.power(1 - c, t - 1) * tangents[0]


def debias(average: Array, b: Array, t: Array) -> Array:
    """Return average / (1 − bᵗ): an average with decay b that started at zero, t steps later, without its bias."""
    return average / one_minus_power(b, t)
