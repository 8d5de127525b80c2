"""Parameters in 16 bits, and the bits that they lack."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import kinds

import jaxopt_lec as jl
from jaxopt_lec import state
from jaxopt_lec.compat import keras
from jaxopt_lec.state.master import _joined, _split


@pytest.fixture(autouse=True)
def as_optax_promotes():
    """`optax.apply_updates` adds float32 updates to bfloat16 parameters."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def any_floats(n=100_000, seed=0):
    """Bit patterns of float32 at random: all exponents, infinities and NaN too."""
    bits = np.random.default_rng(seed).integers(0, 2**32, n, dtype=np.uint32)
    special = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38, 1.0, 2.0**-126])
    return np.concatenate([bits.view(np.float32), special])


def test_32_bits_are_all_bits():
    theta = any_floats()
    p, c = _split(jnp.asarray(theta), jnp.int16, jnp.uint32(0))
    np.testing.assert_array_equal(np.asarray(_joined(p, c)), theta)  # as numbers: NaN is one NaN
    # The parameter itself is θ to the nearest, half a unit in the last place away at most.
    finite = np.isfinite(theta) & (np.abs(theta) < 3.38e38)
    wide, unit = np.asarray(p, np.float64)[finite], 2.0 ** (np.maximum(np.frexp(theta[finite])[1], -125) - 8)
    assert (np.abs(wide - theta[finite]) <= unit / 2).all()


def test_24_bits_are_one_of_the_two_neighbours_and_stay():
    theta = any_floats()
    p, c = _split(jnp.asarray(theta), jnp.int8, jnp.uint32(5))
    kept = np.asarray(_joined(p, c))
    low = (theta.view(np.uint32) & np.uint32(0xFFFFFF00)).view(np.float32)
    high = (low.view(np.uint32) + np.uint32(256)).view(np.float32)
    number = ~np.isnan(theta)
    assert ((kept == low) | (kept == high))[number].all()
    assert np.isnan(kept[~number]).all()
    again = _joined(*_split(jnp.asarray(kept), jnp.int8, jnp.uint32(99)))
    np.testing.assert_array_equal(np.asarray(again), kept)


@pytest.mark.parametrize("bits", [24, 32])
def test_nothing_moves_without_a_gradient(bits):
    tx = state.master(state.compress(jl.adam(0.1), where=lambda name, x: x.ndim > 0), bits)
    p = jax.random.normal(jax.random.key(0), (4, 64)).astype(jnp.bfloat16)
    seen = jnp.arange(64) % 3 > 0

    def body(carry, key):
        p, s = carry
        u, s = tx.update(jnp.where(seen, jax.random.normal(key, p.shape), 0).astype(p.dtype), s, p)
        return (optax.apply_updates(p, u), s), None

    (end, s), _ = jax.lax.scan(body, (p, tx.init(p)), jax.random.split(jax.random.key(1), 10_000))
    np.testing.assert_array_equal(*(np.asarray(x, np.float32)[:, ~seen] for x in (end, p)))
    np.testing.assert_array_equal(np.asarray(state.master_parameters(end, s))[:, ~seen], np.asarray(p, np.float32)[:, ~seen])
    assert (np.asarray(end != p)[:, seen]).all()


@pytest.mark.parametrize("bits", [24, 32])
def test_small_steps_follow_float32_where_bfloat16_stalls(bits):
    # 1e-4 steps from 1 are far below the half unit, 2⁻⁹, of bfloat16.
    target = jnp.linspace(0.5, 1.5, 256)

    def run(tx, dtype, read=lambda p, s: p, apply=lambda p, u, key: optax.apply_updates(p, u)):
        def body(carry, key):
            p, s = carry
            u, s = tx.update((p.astype(jnp.float32) - target).astype(p.dtype), s, p)
            return (apply(p, u, key), s), None

        p = jnp.ones(256, dtype)
        (p, s), _ = jax.lax.scan(body, (p, tx.init(p)), jax.random.split(jax.random.key(0), 2000))
        return np.asarray(read(p, s), np.float64)

    tx = jl.adam(1e-4)
    wide = run(tx, jnp.float32)
    away = np.abs(wide - 1).max()
    assert away > 0.15
    plain = run(tx, jnp.bfloat16)
    assert np.abs(plain - 1).max() < away / 10  # stalled
    ours = run(state.master(tx, bits), jnp.bfloat16, lambda p, s: state.master_parameters(p, s))
    assert np.sqrt(np.mean((ours - wide) ** 2)) < 0.01 * away
    rounded = run(tx, jnp.bfloat16, apply=state.apply_updates)
    assert np.sqrt(np.mean((rounded - wide) ** 2)) < 0.2 * away  # a random walk of half units
    assert abs(np.mean(rounded - wide)) < 0.01 * away


@pytest.mark.parametrize("case", kinds(without="value_fn"))
def test_32_bits_train_as_float32_does(case):
    """The same numbers to the last bits, for every optimizer: rounding of θ + u in float32 is all there is."""
    rng = np.random.default_rng(0)
    shape = (4, 3) if case.min_ndim <= 2 else (2, 4, 3)
    start = {"w": jnp.asarray(rng.standard_normal(shape), jnp.bfloat16), "scale": jnp.ones(shape, jnp.float32)}
    gradients = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal((20, *p.shape)), p.dtype), start)

    def run(tx, params, read):
        def body(carry, g):
            p, s = carry
            g = jax.tree.map(lambda g, p: g.astype(p.dtype), g, p)
            u, s = tx.update(g, s, p)
            return (optax.apply_updates(p, u), s), None

        (p, s), _ = jax.jit(functools.partial(jax.lax.scan, body))((params, tx.init(params)), gradients)
        return read(p, s)

    ours = run(state.master(case.tx, 32), start, state.master_parameters)
    wide = run(case.tx, jax.tree.map(lambda p: p.astype(jnp.float32), start), lambda p, s: p)
    for key in start:
        np.testing.assert_allclose(ours[key], wide[key], rtol=1e-6, atol=1e-7)


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(
    p=st.floats(-(2.0**60), 2.0**60, width=32), theta=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
)
def test_apply_updates_of_optax_lands_on_the_parameter(p, theta):
    """However far the step is: to the rounding of float32 at the larger of the two."""
    p = jnp.full((1,), p, jnp.bfloat16)
    tx = state.master(optax.stateless(lambda updates, params: updates), 32)
    u = jnp.float32(theta) - p.astype(jnp.float32)
    updates, s = tx.update(u, tx.init(p), p)
    new = optax.apply_updates(p, updates)
    wanted = p.astype(jnp.float32) + u
    np.testing.assert_allclose(
        np.float32(state.master_parameters(new, s)),
        np.float32(wanted),
        rtol=0,
        atol=2.0**-23 * float(jnp.abs(p[0]).astype(jnp.float32) + abs(theta)),
    )


def test_stochastic_apply_updates_is_exact_on_average_and_leaves_wide_parameters_alone():
    p = {"low": jnp.ones((20_000,), jnp.bfloat16), "wide": jnp.ones(3), "still": jnp.ones(2, jnp.bfloat16)}
    u = {"low": jnp.full((20_000,), 1e-3), "wide": jnp.full(3, 1e-3), "still": None}
    new = jax.jit(state.apply_updates)(p, u, jax.random.key(0))
    low = np.asarray(new["low"], np.float64)
    assert set(np.unique(low)) == {1.0, 1 + 2.0**-7}
    assert abs(low.mean() - 1.001) < 5 * low.std() / np.sqrt(low.size)
    np.testing.assert_array_equal(new["wide"], jnp.ones(3) + jnp.full(3, 1e-3))
    assert new["still"] is p["still"] or bool((new["still"] == p["still"]).all())


def test_adamw_takes_five_bytes_for_each_parameter():
    params = {"kernel": jnp.ones((1024, 1024), jnp.bfloat16), "bias": jnp.ones((1024,), jnp.bfloat16)}
    tx = state.master(state.compress(jl.adamw(1e-3)))
    number = sum(p.size for p in jax.tree.leaves(params))

    def size(tree):
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

    assert size((params, jax.eval_shape(tx.init, params))) / number < 5.08
    wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    assert size((wide, jax.eval_shape(jl.adamw(1e-3).init, wide))) / number > 12


def test_a_fault_in_a_gradient_is_a_fault_in_its_parameter_only():
    tx = state.master(jl.sgd(0.1))
    p = jnp.ones((4,), jnp.bfloat16)
    u, s = tx.update(jnp.asarray([1, np.nan, np.inf, 0], jnp.bfloat16), tx.init(p), p)
    theta = state.master_parameters(optax.apply_updates(p, u), s)
    np.testing.assert_array_equal(np.isnan(theta), [False, True, False, False])
    assert theta[2] == -np.inf
    assert theta[3] == 1


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="bits must be 24 or 32, got 16"):
        state.master(jl.sgd(0.1), 16)
    tx = state.master(jl.sgd(0.1))
    with pytest.raises(TypeError, match="layer/kernel is float16; low-precision parameters must be bfloat16"):
        tx.init({"layer": {"kernel": jnp.ones(3, jnp.float16)}})
    with pytest.raises(ValueError, match="no parameter is bfloat16"):
        tx.init({"w": jnp.ones(3)})
    p = jnp.ones(3, jnp.bfloat16)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(p, tx.init(p))
    with pytest.raises(TypeError, match="expected the MasterState made by its init"):
        tx.update(p, jl.sgd(0.1).init(p), p)
    with pytest.raises(ValueError, match="has 0 MasterStates, expected one"):
        state.master_parameters(p, jl.sgd(0.1).init(p))


def test_parameters_that_are_not_those_of_init_are_refused():
    params = {"w": jnp.ones((3, 4), jnp.bfloat16), "b": jnp.ones(4)}
    tx = state.master(jl.sgd(0.1))
    s = tx.init(params)
    for changed, kind, message in [
        ({"w": jnp.ones((3, 4)), "b": jnp.ones(4)}, TypeError, "w is float32, at init it was bfloat16"),
        (params | {"b": jnp.ones(4, jnp.bfloat16)}, TypeError, "b is bfloat16, at init it was other than bfloat16"),
        (params | {"w": jnp.ones((1, 4), jnp.bfloat16)}, ValueError, r"w has shape \(1, 4\), at init it had \(3, 4\)"),
        ({"w": params["w"]}, ValueError, "the parameters are another tree than at init"),
    ]:
        with pytest.raises(kind, match=f"master: {message}"):
            tx.update(changed, s, changed)
        with pytest.raises(kind, match=f"master_parameters: {message}"):
            state.master_parameters(changed, s)


def test_optax_maps_over_what_belongs_to_parameters():
    params = {"w": jnp.ones((3, 4), jnp.bfloat16), "scale": 1.0}
    tx = state.master(optax.adam(0.1))
    shapes = optax.tree_map_params(tx, jnp.shape, tx.init(params), transform_non_params=lambda x: None)
    assert shapes.corrections["w"] == (3, 4)
    assert shapes.inner[0].nu == {"w": (3, 4), "scale": ()}
    assert shapes.count is None


def test_gradients_of_numpy_move_parameters_too():
    params = {"w": jnp.ones(4, jnp.bfloat16)}
    tx = state.master(optax.sgd(1e-4), bits=32)
    s = tx.init(params)
    for _ in range(200):
        updates, s = tx.update({"w": np.ones(4, np.float32)}, s, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(state.master_parameters(params, s)["w"], 0.98, rtol=1e-5)


def test_a_step_that_is_not_finite_is_skipped_inside():
    tx = state.master(optax.apply_if_finite(state.compress(jl.adamw(1e-3)), 3))
    params = {"w": jnp.ones((64, 128), jnp.bfloat16)}
    _, before = tx.update(params, tx.init(params), params)
    updates, after = tx.update(jax.tree.map(lambda p: p * jnp.nan, params), before, params)
    assert float(jnp.abs(updates["w"]).max()) == 0
    np.testing.assert_array_equal(before.corrections["w"], after.corrections["w"])


def test_an_array_of_another_library_is_refused_with_its_name():
    class Foreign:
        shape, dtype, ndim = (2,), "another library's float32", 1

        def numpy(self):
            return np.ones(2, np.float32)

    params = {"layer": {"w": Foreign()}}
    wrapped = (state.master(jl.adam(0.1)), keras.Adam(use_ema=True), keras.Adam(gradient_accumulation_steps=2))
    for tx in wrapped:
        with pytest.raises(TypeError, match=r"parameter at 'layer/w' is a .*Foreign; give arrays of JAX or NumPy"):
            tx.init(params)
