"""The two exact forms of Nesterov's method and the textbook's recursion are one method."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest

import jaxopt_lec as jl


def loss(params, tilt):
    return (
        jnp.sum((params["w"] - 1) ** 2 * jnp.asarray([0.5, 5.0]))
        + 0.1 * jnp.sum(jnp.cos(3 * params["w"]))
        + tilt @ params["w"]
    )


TILT = np.array([0.3, -0.2])


def gradient(theta, t):
    return 2 * (theta - 1) * np.array([0.5, 5.0]) - 0.3 * np.sin(3 * theta) + TILT


def train(tx, theta, steps, observe):
    params, state = {"w": jnp.asarray(theta)}, tx.init({"w": jnp.asarray(theta)})
    seen = [observe(params, state)]
    for _ in range(steps):
        grad = jax.grad(loss)(params, jnp.asarray(TILT))
        updates, state = tx.update(grad, state, params, value_fn=loss, tilt=jnp.asarray(TILT))
        params = optax.apply_updates(params, updates)
        seen.append(observe(params, state))
    return np.stack([tree["w"] for tree in seen])


RATES = {"number": 0.05, "schedule": lambda count: 0.05 / (1 + 0.05 * count)}


@pytest.mark.parametrize("rate", RATES)
def test_look_ahead_and_exact_form_agree_with_the_textbook(rate):
    theta = np.array([-1.0, 2.0])
    textbook = oracles.nesterov(theta, gradient, 60, RATES[rate])
    with jax.enable_x64(True):
        recovered = train(jl.nesterov(RATES[rate]), theta, 60, jl.nesterov_parameters)
        exact = train(jl.nesterov_exact(RATES[rate]), theta, 60, lambda params, state: params)
    np.testing.assert_allclose(recovered, textbook, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(exact, textbook, rtol=1e-12, atol=1e-13)


def test_recovery_with_the_learning_rate_outside():
    theta = np.array([-1.0, 2.0])
    textbook = oracles.nesterov(theta, gradient, 60, 0.05, learning_rate_inside=False)
    with jax.enable_x64(True):
        tx = jl.nesterov(0.05, learning_rate_inside=False)
        recovered = train(
            tx, theta, 60, lambda params, state: jl.nesterov_parameters(params, state, learning_rate_inside=False)
        )
    np.testing.assert_allclose(recovered, textbook, rtol=1e-12, atol=1e-13)


def test_exact_form_follows_a_decay_schedule():
    theta, decay = np.array([-1.0, 2.0]), lambda count: count / (count + 3.0)
    textbook = oracles.nesterov(theta, gradient, 40, 0.05, decay=decay)
    with jax.enable_x64(True):
        exact = train(jl.nesterov_exact(0.05, decay=decay), theta, 40, lambda params, state: params)
    np.testing.assert_allclose(exact, textbook, rtol=1e-12, atol=1e-13)


def test_recovery_keeps_dtypes_and_works_inside_other_transformations():
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    tx = optax.chain(optax.clip_by_global_norm(1.0), jl.nesterov(0.1))
    _, state = tx.update(params, tx.init(params), params)
    assert jl.nesterov_parameters(params, state)["w"].dtype == jnp.bfloat16
    np.testing.assert_array_less(
        params["w"].astype(jnp.float32), jl.nesterov_parameters(params, state)["w"].astype(jnp.float32)
    )


def test_recovery_from_another_state_is_refused():
    for tx in (jl.sgd(0.1), jl.momentum(0.1)):
        with pytest.raises(KeyError, match="holds 0 states of scale_by_nesterov"):
            jl.nesterov_parameters({"w": jnp.ones(2)}, tx.init({"w": jnp.ones(2)}))
    with pytest.raises(ValueError, match="the state belongs to other parameters: their shapes differ"):
        jl.nesterov_parameters({"w": jnp.ones((2, 1))}, jl.nesterov(0.1).init({"w": jnp.ones(2)}))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("x", [2.0, np.array(2.0)], ids=["python", "numpy"])
def test_recovery_of_numbers_that_are_not_of_jax(x):
    tx, params = jl.nesterov(0.1), {"x": x}
    _, state = tx.update({"x": 1.0}, tx.init(params), params)
    np.testing.assert_allclose(jl.nesterov_parameters(params, state)["x"], 2.0 + 0.9 * 0.1)


def test_recovery_where_parameters_have_the_names_of_slots():
    params = {"q": jnp.ones(2), "k": jnp.ones(2), "v": jnp.ones(2), "decay": jnp.ones(2)}
    tx = jl.nesterov(0.1)
    _, state = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(jl.nesterov_parameters(params, state)["q"], 1 + 0.9 * 0.1)
