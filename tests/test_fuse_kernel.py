"""The kernel equals the plain operations: one step over blocks, interpreted for both platforms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lec.fusing.kernel import blockwise

# Fewer rows than a tile, a part of one, several; whole and partial groups of eight blocks; more axes and fewer.
SHAPES = [(8, 128), (5, 256), (300, 256), (40, 1408), (130, 1024), (2, 3, 640), (384,)]


def step(position, scalars, numbers, scales):
    """Scale each block by its largest number; every operation is exact, so that results must be equal to the bit."""
    factor, seed = scalars
    p, g, codes = numbers
    (s,) = scales
    x = codes.astype(jnp.float32) * s + jnp.round(factor * g)
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    noise = (position ^ seed) % jnp.uint32(7)
    new_codes = jnp.abs(x) % 256
    return (p - x, new_codes, noise.astype(jnp.int32).astype(jnp.float32) + x), (largest,)


def arguments(shape):
    random = np.random.default_rng(0)
    p, g = (jnp.asarray(random.integers(-50, 50, shape), jnp.float32) for _ in range(2))
    codes = jnp.asarray(random.integers(0, 256, shape), jnp.uint8)
    scales = jnp.asarray(random.integers(1, 9, (*shape[:-1], shape[-1] // 128)), jnp.float32)
    return (p, g, codes), (scales,), (jnp.float32(0.5), jnp.uint32(1234567))


kernel = functools.partial(blockwise, step, replaces=(0, 2, None))


def by_blocks(numbers, scales, scalars):
    """The same, block after block in NumPy order, with nothing of ours but the step."""
    shape = numbers[0].shape
    news, new_scales = [], []
    for i in range(scales[0].size):
        block = [x.reshape(-1, 128)[i : i + 1] for x in numbers]
        position = jnp.arange(128 * i, 128 * (i + 1), dtype=jnp.uint32)[None]
        new, (scale,) = step(position, scalars, block, [scales[0].reshape(-1, 1)[i : i + 1]])
        news.append(new)
        new_scales.append(scale)
    whole = [jnp.concatenate(x).reshape(shape) for x in zip(*news, strict=True)]
    return whole, jnp.concatenate(new_scales).reshape(scales[0].shape)


@pytest.mark.parametrize("shape", [(5, 256), (2, 3, 640), (384,)], ids=str)
def test_without_a_kernel_it_is_the_step_on_each_block(shape):
    numbers, scales, scalars = arguments(shape)
    (p, codes, noisy), (scale,) = kernel(numbers, scales, scalars)
    expected, expected_scale = by_blocks(numbers, scales, scalars)
    for x, y in zip((p, codes, noisy, scale), (*expected, expected_scale), strict=True):
        np.testing.assert_array_equal(x, y)
    assert (p.dtype, codes.dtype, noisy.dtype, scale.dtype) == (jnp.float32, jnp.uint8, jnp.float32, jnp.float32)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_equals_it_bit_for_bit(shape, platform):
    given = arguments(shape)
    interpreted = jax.jit(functools.partial(kernel, interpret=platform))(*given)
    for x, y in zip(jax.tree.leaves(interpreted), jax.tree.leaves(kernel(*given)), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("platform", [None, "tpu", "cuda"])
def test_it_can_be_vmapped(platform):
    numbers, scales, scalars = arguments((3, 8, 256))
    call = functools.partial(kernel, scalars=scalars, interpret=platform)
    together = jax.vmap(call)(numbers, scales)
    one_by_one = [call([x[i] for x in numbers], [s[i] for s in scales]) for i in range(3)]
    for x, *ys in zip(jax.tree.leaves(together), *(jax.tree.leaves(one) for one in one_by_one), strict=True):
        np.testing.assert_array_equal(x, jnp.stack(ys))


def test_what_does_not_fit_is_refused():
    (p, g, codes), (scale,), scalars = arguments((8, 256))
    with pytest.raises(ValueError, match=r"multiple of 128, got shape \(8, 100\)"):
        kernel([p[:, :100], g[:, :100], codes[:, :100]], [scale], scalars)
    with pytest.raises(ValueError, match=r"numbers of shape \(4, 256\), expected \(8, 256\)"):
        kernel([p, g[:4], codes], [scale], scalars)
    with pytest.raises(ValueError, match=r"scales of shape \(8, 256\), expected \(8, 2\)"):
        kernel([p, g, codes], [p], scalars)
    with pytest.raises(ValueError, match=r"scalars of shape \(1,\), expected \(\)"):
        kernel([p, g, codes], [scale], [x[None] for x in scalars])
