"""Silent failures of peers, found by running them: each test shows one and that ours does right."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lec as jl

SECOND_MOMENT = ["rmsprop", "adam", "adamw", "amsgrad", "nadam", "radam", "adadelta"]
METHODS = ["sgd", "momentum", "nesterov", "adagrad", "adamax", "lion", *SECOND_MOMENT]


def make(name, rate=0.1):
    return getattr(jl, name)(rate)


def run(tx, params, gradients):
    """State after one scan over the gradients; a state whose dtype changed would make scan refuse."""

    def body(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    with jax.numpy_dtype_promotion("standard"):  # Optax's own code is not written for strict promotion
        return jax.lax.scan(body, (params, tx.init(params)), gradients)[0]


def test_second_moment_of_bfloat16_parameters_reaches_its_limit():
    gradients = jnp.ones((4000, 1), jnp.bfloat16)
    params = jnp.zeros(1, jnp.bfloat16)
    exact = 1 - 0.999**4000
    _, theirs = run(optax.adam(0.0), params, gradients)
    assert optax.tree.get(theirs, "nu")[0] <= 0.5  # stalls: (1−β₂) g² is lost in rounding
    _, ours = run(jl.adam(0.0), params, gradients)
    np.testing.assert_allclose(optax.tree.get(ours, "v")[0], exact, rtol=1e-4)


def test_second_moment_of_bfloat16_parameters_decays_again():
    gradients = jnp.concatenate([jnp.full((10, 1), 100.0), jnp.full((3000, 1), 1e-3)]).astype(jnp.bfloat16)
    params = jnp.zeros(1, jnp.bfloat16)
    _, theirs = run(optax.adam(0.0), params, gradients)
    _, ours = run(jl.adam(0.0), params, gradients)
    assert optax.tree.get(theirs, "nu")[0] > 50  # stuck where it was
    expected = (1 - 0.999**10) * 100.0**2 * 0.999**3000
    np.testing.assert_allclose(optax.tree.get(ours, "v")[0], expected, rtol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_float16_with_a_zero_gradient_stays_finite(name):
    params, gradients = jnp.ones(2, jnp.float16), jnp.zeros((3, 2), jnp.float16)
    after, _ = run(make(name), params, gradients)
    if name != "adamw":  # which decays
        np.testing.assert_array_equal(after, params)
    assert np.all(np.isfinite(after))
    theirs, _ = run(optax.adam(0.1), params, gradients)
    assert np.all(np.isnan(theirs))  # ε = 1e-8 is 0 in float16, and 0/0


def test_small_float16_gradients_have_a_second_moment():
    """The square of 10⁻⁴ is 0 in float16; it is taken in float32."""
    g = jnp.full(3, 1e-4, jnp.float16)
    tx = jl.adam(0.1)
    _, state = tx.update(g, tx.init(g))
    np.testing.assert_allclose(state[0].slots["v"], 1e-3 * np.float64(g) ** 2, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_hyperparameters_beside_bfloat16_parameters_are_not_rounded(name):
    params, gradients = jnp.ones(2, jnp.bfloat16), jnp.full((3, 2), 0.1, jnp.bfloat16)
    after, state = run(make(name), params, gradients)
    assert np.all(np.isfinite(after.astype(jnp.float32)))
    for key in ("b1", "b2", "decay", "rho", "eps"):
        found = optax.tree.get(state, key)
        assert found is None or found.dtype == jnp.float32
    theirs, _ = run(optax.inject_hyperparams(optax.adam)(0.1), params, gradients)
    assert np.all(np.isnan(theirs.astype(jnp.float32)))  # β₂ = 0.999 is 1 in bfloat16, and v/(1−1)


@pytest.mark.parametrize("name", METHODS)
def test_float32_gradients_of_bfloat16_parameters_scan(name):
    run(make(name), jnp.ones(2, jnp.bfloat16), jnp.full((3, 2), 0.1, jnp.float32))


def test_float32_gradients_of_bfloat16_parameters_change_optax_state():
    with pytest.raises(TypeError, match="carry"):
        run(optax.adam(0.1), jnp.ones(2, jnp.bfloat16), jnp.full((3, 2), 0.1, jnp.float32))


@pytest.mark.parametrize("name", METHODS)
def test_number_and_schedule_give_states_of_one_structure(name):
    params = {"w": jnp.ones(2)}
    structures = [jax.tree.structure(make(name, rate).init(params)) for rate in (0.1, optax.constant_schedule(0.1))]
    assert structures[0] == structures[1]
    theirs = [jax.tree.structure(optax.adam(rate).init(params)) for rate in (0.1, optax.constant_schedule(0.1))]
    assert theirs[0] != theirs[1]


@pytest.mark.parametrize("name", METHODS)
def test_none_gradients_pass(name):
    params = {"w": jnp.ones(2), "frozen": jnp.ones(3)}
    tx = make(name)
    updates, _ = tx.update({"w": jnp.ones(2), "frozen": None}, tx.init(params), params)
    assert updates["frozen"] is None
    assert np.all(updates["w"] < 0)


@pytest.mark.parametrize("peer", [optax.adam, optax.adagrad, optax.adadelta])
def test_none_gradients_break_optax(peer):
    params = {"w": jnp.ones(2), "frozen": jnp.ones(3)}
    with pytest.raises((ValueError, TypeError, AttributeError)):
        peer(0.1).update({"w": jnp.ones(2), "frozen": None}, peer(0.1).init(params), params)


def test_adadelta_of_complex_gradients_takes_the_squared_magnitude():
    gradient = jnp.asarray([1j, 1 + 1j])
    tx = jl.scale_by_adadelta()
    updates, state = tx.update(gradient, tx.init(gradient), gradient)
    np.testing.assert_allclose(state.slots["G"], 0.05 * np.abs(gradient) ** 2, rtol=1e-6)
    np.testing.assert_allclose(np.angle(updates), np.angle(gradient), rtol=1e-6)
    theirs, _ = optax.scale_by_adadelta().update(gradient, optax.scale_by_adadelta().init(gradient), gradient)
    assert not np.allclose(np.angle(theirs), np.angle(gradient))  # g² = −1 for g = i


def test_values_out_of_range_pass_optax_and_not_ours():
    optax.adam(-0.1, b2=2.0).init(jnp.arange(3))
    for call in (lambda: jl.adam(-0.1), lambda: jl.adam(0.1, b2=2.0)):
        with pytest.raises(ValueError, match="must lie in"):
            call()
    with pytest.raises(TypeError, match="dtype int32"):
        jl.adam(0.1).init(jnp.arange(3))


def test_another_optimizers_state_is_named_not_an_attribute():
    params = {"w": jnp.ones(2)}
    with pytest.raises(AttributeError):
        optax.adam(0.1).update(params, optax.sgd(0.1, momentum=0.9).init(params), params)
    with pytest.raises(TypeError, match="this state belongs to another optimizer: it has slots"):
        jl.adam(0.1).update(params, jl.momentum(0.1, learning_rate_inside=False).init(params), params)


def test_swapped_arguments_are_named_not_an_attribute():
    params = {"w": jnp.ones(2), "b": jnp.ones(1)}
    with pytest.raises((AttributeError, TypeError, ValueError)) as theirs:
        optax.adam(0.1).update(optax.adam(0.1).init(params), params, params)
    assert "order" not in str(theirs.value)
    with pytest.raises(TypeError, match="adam: an optimizer state came first; the order is update"):
        jl.adam(0.1).update(jl.adam(0.1).init(params), params, params)


def test_a_wrong_shape_names_its_path():
    params = {"dense": {"w": jnp.ones(2)}}
    wrong = {"dense": {"w": jnp.ones(3)}}
    with pytest.raises((TypeError, ValueError)) as theirs:
        optax.adam(0.1).update(wrong, optax.adam(0.1).init(params), params)
    assert "dense" not in str(theirs.value)
    with pytest.raises(ValueError, match="at 'dense/w': the gradient has shape"):
        jl.adam(0.1).update(wrong, jl.adam(0.1).init(params), params)


def test_a_decay_that_rounds_to_one_is_refused():
    with pytest.raises(ValueError, match="which is 1 in float32"):
        jl.adam(0.1, b2=0.99999999)
