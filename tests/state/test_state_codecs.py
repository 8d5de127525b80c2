"""The laws of the codecs, held to their own words: zero, idempotence, error bounds, no bias, faults that stay visible."""

import dataclasses

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lec as jl
from jaxopt_lec import state
from jaxopt_lec.state.stochastic_rounding import random_bits, seed_of

CODECS = {"bfloat16": state.bfloat16, "blockwise_8bit": state.blockwise_8bit}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def round_trip(x, codec, seed=0):
    return np.asarray(jax.jit(codec.decode)(*jax.jit(codec.encode)(jnp.asarray(x), jnp.uint32(seed))))


def draw(*shape, decades=6.0, seed=0):
    """Numbers of both signs whose sizes spread over many decades."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 10 ** rng.uniform(-decades, 0, shape)).astype(np.float32)


def in_blocks(x):
    """The blocks along the last axis as the format says, in plain NumPy: equal parts of at most 128, or 128 and a rest."""
    parts = -(-x.shape[-1] // 128)
    if x.shape[-1] % parts == 0:
        return np.split(x, parts, axis=-1)
    return np.split(x, range(128, x.shape[-1], 128), axis=-1)


@every_codec
@pytest.mark.parametrize("shape", [(1,), (5, 127), (3, 128), (2, 300), (7, 257), (2, 3, 4, 130)])
def test_what_was_decoded_has_but_one_code(codec, shape):
    encode, decode = jax.jit(codec.encode), jax.jit(codec.decode)
    for x in (draw(*shape), np.abs(draw(*shape)), 1e30 * draw(*shape), 1e-25 * np.abs(draw(*shape))):
        first = encode(x, jnp.uint32(1))
        for seed in range(2, 12):
            again = encode(decode(*first), jnp.uint32(seed))
            jax.tree.map(np.testing.assert_array_equal, again, first)
        np.testing.assert_allclose(decode(*first), codec.decode(*first), rtol=3e-7)


@every_codec
@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    x=arrays.arrays(
        np.float32,
        st.sampled_from([(1,), (100,), (128,), (129,), (3, 127), (2, 140)]),  # each is a program
        elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_zero_is_zero_signs_stay_and_nothing_grows_beyond_the_largest(codec, x, seed):
    y = round_trip(x, codec, seed)
    assert y.shape == x.shape
    assert not y[x == 0].any()
    assert not (np.sign(y) * np.sign(x) < 0).any()
    assert np.abs(y).max() <= np.abs(x).max() * (1 + 2**-7)


@pytest.mark.parametrize("seed", range(5))
def test_bfloat16_rounds_to_a_neighbour(seed):
    x = draw(64, 100, decades=20.0, seed=seed)
    y = round_trip(x, state.bfloat16, seed)
    assert (np.abs(y - x) <= 2.0**-7 * np.abs(x)).all()
    assert (np.abs(y - x) > 2.0**-9 * np.abs(x)).any()  # some went the longer way


@pytest.mark.parametrize("width", [100, 128, 257, 384])
def test_error_bounds_of_a_first_moment(width):
    x = draw(50, width)
    y = round_trip(x, state.blockwise_8bit, 3)
    for a, b in zip(in_blocks(x.astype(np.float64)), in_blocks(y), strict=True):
        s = np.abs(a).max(-1, keepdims=True)
        assert (np.abs(b - a) <= 1.0001 * (2 * np.sqrt(np.abs(a) * s) + s / 127) / 127).all()


@pytest.mark.parametrize("width", [100, 128, 257, 384])
def test_error_bounds_of_a_second_moment_and_none_becomes_zero(width):
    x = np.square(draw(50, width))
    y = round_trip(x, state.blockwise_8bit, 3)
    assert (y[x > 0] > 0).all()
    for a, b in zip(in_blocks(np.sqrt(x.astype(np.float64))), in_blocks(np.sqrt(y)), strict=True):
        s = a.max(-1, keepdims=True)
        assert (np.abs(b - a) <= 1.0001 * (2 * np.sqrt(a * s) + s / 255) / 255).all()


@every_codec
@pytest.mark.parametrize("nonnegative", [False, True])
def test_rounding_is_exact_on_average(codec, nonnegative):
    x = draw(4, 256, decades=2.0)
    x = np.abs(x) if nonnegative else x
    seeds = jax.vmap(seed_of, (0, None))(jnp.arange(4000), 7)
    ys = np.asarray(jax.jit(jax.vmap(lambda seed: codec.decode(*codec.encode(jnp.asarray(x), seed))))(seeds), np.float64)
    # Means of 4,000 have a standard error; the smallest chance is 2⁻¹⁶ of a gap.
    error = ys.std(0) / np.sqrt(len(ys)) + 2.0**-14 * np.abs(x) + 1e-9
    assert np.abs((ys.mean(0) - x) / error).max() < 5.5


def test_scales_are_one_for_each_block_and_codes_have_the_shape():
    codes, scales = state.blockwise_8bit.encode(jnp.ones((3, 5, 300)), jnp.uint32(0))
    assert (codes.shape, codes.dtype) == ((3, 5, 300), jnp.uint8)
    assert (scales.shape, scales.dtype) == ((3, 5, 3), jnp.float32)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_numbers_are_kept_or_are_seen_to_be_lost(sign):
    x = sign * np.full((1, 128), 7.9e37, np.float32)
    np.testing.assert_allclose(round_trip(x, state.blockwise_8bit), x)
    for largest in (8e37, 9e37, 3e38):
        x[0, 5] = sign * largest
        assert not np.isfinite(round_trip(x, state.blockwise_8bit)).any()


@pytest.mark.parametrize("rows", [2, 64])  # XLA's maximum on CPUs passes over NaN in arrays of 4,096 numbers and more
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_a_fault_is_seen_in_its_block_and_in_no_other(fault, rows):
    x = draw(rows, 256)
    x[1, 200] = fault
    y = round_trip(x, state.blockwise_8bit)
    assert not np.isfinite(y[1, 128:]).any()
    assert np.isfinite(np.delete(y, 1, 0)).all()
    assert np.isfinite(y[1, :128]).all()
    assert np.isfinite(round_trip(x, state.bfloat16)).sum() == x.size - 1


@dataclasses.dataclass(frozen=True)
class Linear:
    """Second moments evenly spaced, to the nearest: what public reports say diverges."""

    def encode(self, x, seed):
        s = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
        return jnp.round(255 * x / s).astype(jnp.uint8), s

    def decode(self, codes, scales):
        return codes.astype(jnp.float32) / 255 * scales


@pytest.mark.parametrize(("second", "stays"), [(state.blockwise_8bit, True), (Linear(), False)], ids=["ours", "linear"])
def test_second_moments_of_very_different_sizes_do_not_make_adam_diverge(second, stays):
    curvature = jnp.asarray(10.0 ** np.linspace(0, 3, 128), jnp.float32)  # v spans six decades in one block
    tx = state.compress(jl.adam(1e-2), {"/m$": state.blockwise_8bit, "/v$": second}, where=lambda name, leaf: leaf.ndim > 0)

    def body(carry, key):
        p, s = carry
        u, s = tx.update(curvature * (p + 0.1 * jax.random.normal(key, p.shape)), s, p)
        p = optax.apply_updates(p, u)
        return (p, s), jnp.max(jnp.abs(p))

    start = jnp.ones(128)
    _, largest = jax.lax.scan(body, (start, tx.init(start)), jax.random.split(jax.random.key(0), 2000))
    assert bool((largest[-500:] < 0.5).all()) == stays
    if not stays:
        assert not bool((largest < 100).all())


def test_noise_is_uniform_and_without_pattern():
    bits = np.asarray(random_bits(seed_of(jnp.int32(3), 5), (512, 512)))
    u = bits / 2.0**32
    assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * u.size)
    assert abs(u.var() - 1 / 12) < 5 / np.sqrt(180 * u.size)
    for a, b in [
        (u[:, 1:], u[:, :-1]),
        (u[1:], u[:-1]),
        (u, np.asarray(random_bits(seed_of(jnp.int32(4), 5), u.shape)) / 2**32),
    ]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)
    counts = np.bincount(bits.ravel() >> 24, minlength=256)
    assert ((counts - u.size / 256) ** 2 / (u.size / 256)).sum() < 255 + 5 * np.sqrt(2 * 255)
