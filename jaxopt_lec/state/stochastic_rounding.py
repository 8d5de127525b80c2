"""Stochastic rounding: up or down by chance, so that the average over many steps is exact and small changes are not lost.

The noise is a hash of where a number stands and when: a step can be repeated, and each device makes its own share.
"""

import functools

import jax
import jax.numpy as jnp

__all__ = ["mixed", "random_bits", "seed_of", "to_bfloat16"]


@jax.jit
def seed_of(count: jax.Array, place: int) -> jax.Array:
    """Return the seed of one leaf, the `place`-th, at one step: a uint32 scalar."""
    return mixed(mixed(count.astype(jnp.uint32)) + jnp.asarray(place).astype(jnp.uint32))


# Known by its name to `fuse`, whose kernels count for themselves where they are.
@functools.partial(jax.jit, static_argnums=0)
def jaxopt_lec_positions(shape: tuple[int, ...]) -> jax.Array:
    """Return each number's place in an array of `shape`, modulo 2³²; made where it is used, it takes no memory."""
    position = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        position += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return position


def random_bits(seed: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return 32 bits for each position of an array of `shape`, uint32."""
    return mixed(jaxopt_lec_positions(shape) ^ seed)


def to_bfloat16(x: jax.Array, bits: jax.Array) -> jax.Array:
    """Return the float32 `x` in bfloat16, up with the probability that keeps the mean; the low 16 of `bits` are the chance.

    What bfloat16 holds exactly stays as it is; so do infinity and NaN.
    """
    whole = jax.lax.bitcast_convert_type(x, jnp.uint32)
    # The bits of a float are ordered like its size: a carry out of the low half is the step to the next bfloat16.
    rounded = ((whole + (bits & 0xFFFF)) >> 16).astype(jnp.uint16)
    return jnp.where(jnp.isnan(x), jnp.bfloat16(jnp.nan), jax.lax.bitcast_convert_type(rounded, jnp.bfloat16))


def mixed(x: jax.Array) -> jax.Array:
    """Return a bijection of 32 bits in which each bit of `x` changes about half of the others (Wellons's `lowbias32`)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
