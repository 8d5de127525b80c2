"""Codecs: a slot in fewer bits, and back."""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxopt_lec.state.stochastic_rounding import random_bits, to_bfloat16

__all__ = ["Codec", "bfloat16", "blockwise_8bit"]

BLOCK = 128


@runtime_checkable
class Codec(Protocol):
    """How a leaf is kept in fewer bits; hashable, since it is part of the state's structure.

    Laws: zero comes back as zero, and what `decode` gave is encoded to the same codes and scales, whatever the seed.
    """

    def encode(self, x: jax.Array, seed: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Return the codes, of the shape of the float32 array `x`, and the scales; the seed is a uint32 scalar."""
        ...

    def decode(self, codes: jax.Array, scales: jax.Array | None) -> jax.Array:
        """Return the float32 array."""
        ...


@dataclasses.dataclass(frozen=True)
class _BFloat16:
    """Each number in bfloat16, rounded stochastically: within 2⁻⁷ of its size, and exact on average."""

    def encode(self, x: jax.Array, seed: jax.Array) -> tuple[jax.Array, None]:
        return to_bfloat16(x, random_bits(seed, x.shape)), None

    def decode(self, codes: jax.Array, scales: jax.Array | None) -> jax.Array:
        return codes.astype(jnp.float32)

    def __repr__(self) -> str:
        return "bfloat16"


@dataclasses.dataclass(frozen=True)
class _Blockwise8Bit:
    """Each number as a byte c, in blocks of at most 128 along the last axis that share a scale s, their largest size.

    A block with a negative number (of a first moment) holds x̂ = ±s (c/127)². A block without (of a second moment) is encoded
    on its square root, which methods divide by: √x̂ = √s (c/255)². Rounding is stochastic, exact on average, and

        |x̂ − x| ≤ (2 √(|x| s) + s/127)/127        |√x̂ − √x| ≤ (2 √(√x √s) + √s/255)/255

    A positive number of a block without negative ones never becomes zero, so that no denominator vanishes. Blocks smaller
    than 10⁻³⁷ are zero. A block with NaN, infinity or a size from 8·10³⁷ on comes back without a finite number.
    """

    # The sign of the stored scale says which of the two a block is.
    def encode(self, x: jax.Array, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
        blocks = _in_blocks(x)
        # No block survives infinity. XLA's maximum on CPUs may pass over NaN; of the largest scales the reciprocal, by which
        # it divides, is zero.
        sizes = jnp.where(jnp.abs(blocks) < 8e37, jnp.abs(blocks), jnp.inf)
        largest = jnp.max(sizes, axis=-1, keepdims=True)
        vanishes = largest < 1e-37
        s = jnp.where(vanishes, 0, largest)
        size = jnp.where(vanishes, 0, sizes / jnp.where(vanishes, 1, largest))
        noise = _in_blocks(_fraction(random_bits(seed, x.shape)))
        signed = (jnp.min(blocks, axis=-1, keepdims=True) < 0) & ~vanishes
        magnitude = _code(size, noise, 127, _signed_size, jnp.sqrt)
        unsigned_code = _code(size, noise, 255, _unsigned_size, lambda x: jnp.sqrt(jnp.sqrt(x)))
        unsigned_code = jnp.where(size > 0, jnp.maximum(unsigned_code, 1), 0)
        codes = jnp.where(signed, 127 + jnp.where(blocks < 0, -magnitude, magnitude), unsigned_code)
        return _out_of_blocks(codes, x.shape).astype(jnp.uint8), jnp.where(signed, -s, s)[..., 0]

    def decode(self, codes: jax.Array, scales: jax.Array | None) -> jax.Array:
        assert scales is not None
        c, s = _in_blocks(codes).astype(jnp.float32), scales[..., None]
        size = jnp.where(s < 0, jnp.sign(c - 127) * _signed_size(jnp.abs(c - 127)), _unsigned_size(c))
        return _out_of_blocks(jnp.abs(s) * size, codes.shape)

    def __repr__(self) -> str:
        return "blockwise_8bit"


bfloat16: Codec = _BFloat16()
blockwise_8bit: Codec = _Blockwise8Bit()


# The largest code is one exactly, whatever XLA makes of a division: so a block's scale stays what it is.


def _signed_size(c: jax.Array) -> jax.Array:
    return jnp.where(c == 127, 1, jnp.square(c / 127))


def _unsigned_size(c: jax.Array) -> jax.Array:
    return jnp.where(c == 255, 1, jnp.square(jnp.square(c / 255)))


def _code(
    size: jax.Array,
    noise: jax.Array,
    top: int,
    size_of: Callable[[jax.Array], jax.Array],
    inverse: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Return the code below or above a size in [0, 1], the one above where the share of the way to it exceeds the noise."""
    below = jnp.floor(top * inverse(size))
    least, most = size_of(below), size_of(below + 1)
    up = (size - least) / (most - least) > noise
    return jnp.minimum(below + up.astype(below.dtype), top)


def _fraction(bits: jax.Array) -> jax.Array:
    # Of 15 bits, so that it stays further from 0 and 1 than the rounding of a decoded size is: that has but one code.
    return ((bits >> 17).astype(jnp.float32) + 0.5) * 2.0**-15


def _in_blocks(x: jax.Array) -> jax.Array:
    """Return x as (..., blocks, block): the last axis in equal parts of at most 128, padded where they cannot be equal."""
    length = x.shape[-1]
    blocks = -(-length // BLOCK)
    if length % blocks:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -length % BLOCK)])
    return x.reshape(*x.shape[:-1], blocks, x.shape[-1] // blocks)


def _out_of_blocks(blocks: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return blocks.reshape(*shape[:-1], -1)[..., : shape[-1]]
