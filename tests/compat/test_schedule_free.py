"""Keras's ScheduleFreeAdamW against the paper: the oracle stores x, y and z, the optimizer computes x from y and z."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from flax import nnx

from jaxopt_lec.compat import keras

STEPS = 40
# Where Keras leaves the paper: see the oracle.
AS_IN_KERAS = {"corrects_rate": False, "uniform_weights": True, "decays_x": True}
THETA = np.random.default_rng(0).normal(size=(3, 4))
CURVATURE = 10.0 ** np.linspace(-2, 1, THETA.size).reshape(THETA.shape)


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def gradient(theta, t):
    return CURVATURE * (theta - 1) + 0.1 * np.sin(t)


def rates(count):
    return 0.05 / (1 + 0.1 * count)


def followed(tx, evaluation, params=THETA):
    """The paths of y, which is trained, and of x, with which one evaluates."""

    @jax.jit
    def step(carry, t):
        y, state = carry
        updates, state = tx.update(CURVATURE * (y - 1) + 0.1 * jnp.sin(t), state, y)
        y = optax.apply_updates(y, updates)
        return (y, state), (y, evaluation(y, state))

    start = jnp.asarray(params)
    state = tx.init(start)
    _, (ys, xs) = jax.lax.scan(step, (start, state), jnp.arange(1.0, STEPS + 1))
    return [np.concatenate([params[None], path]) for path in (ys, xs)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta_1": 0.6, "beta_2": 0.9, "epsilon": 0.1},
        {"warmup_steps": 15, "weight_decay": 0.3},
        {"warmup_steps": 0.5},  # within the first step: none
        {"learning_rate": rates, "warmup_steps": 7, "weight_decay": 0.1, "beta_1": 0.95},
    ],
    ids=["defaults", "averages", "warm-up", "half a step of warm-up", "schedule"],
)
def test_y_and_x_are_the_papers_with_the_weights_and_the_decay_of_keras(options):
    given = {"learning_rate": 0.05} | options
    ys, xs = followed(keras.ScheduleFreeAdamW(**given), keras.schedule_free_parameters)
    names = {"beta_1": "b1", "beta_2": "b2", "epsilon": "eps"}
    ours = {names.get(key, key): value for key, value in given.items()}
    for path, oracle in ((ys, oracles.schedule_free_adamw), (xs, oracles.schedule_free_adamw_average)):
        expected = oracle(THETA, gradient, STEPS, **ours, **AS_IN_KERAS)
        np.testing.assert_allclose(path, expected, rtol=1e-11, atol=1e-12)


def test_the_oracle_of_the_paper_is_optax_and_keras_is_not():
    b1, b2, eps, decay = 0.9, 0.99, 1e-3, 0.1

    def rate(count):
        t = jnp.asarray(count + 1, jnp.float64)
        return 0.05 * jnp.minimum(1, t / 15) * jnp.sqrt(1 - b2**t)

    base = optax.chain(
        optax.scale_by_rms(decay=b2, eps=eps, eps_in_sqrt=False),
        optax.add_decayed_weights(decay),
        optax.scale_by_learning_rate(rate),
    )
    # Optax asks for the weights' rates from 1, the base optimizer for its own from 0.
    tx = optax.contrib.schedule_free(base, lambda count: rate(count - 1), b1=b1)
    with jax.numpy_dtype_promotion("standard"):  # Optax's own code is not written for strict promotion
        ys, xs = followed(tx, lambda y, state: optax.contrib.schedule_free_eval_params(state, y))
    given = {"b1": b1, "b2": b2, "eps": eps, "warmup_steps": 15, "weight_decay": decay}
    for path, oracle in ((ys, oracles.schedule_free_adamw), (xs, oracles.schedule_free_adamw_average)):
        np.testing.assert_allclose(path, oracle(THETA, gradient, STEPS, 0.05, **given), rtol=1e-11, atol=1e-12)
        for key, value in AS_IN_KERAS.items():
            other = oracle(THETA, gradient, STEPS, 0.05, **given, **{key: value})
            assert np.max(np.abs(path - other)) > 1e-3


def test_a_first_evaluation_is_with_the_parameters_and_a_constant_rate_with_the_mean_of_z():
    tx, params = keras.ScheduleFreeAdamW(0.1), {"w": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}
    state = tx.init(params)
    jax.tree.map(np.testing.assert_allclose, keras.schedule_free_parameters(params, state), params)
    zs = []
    for k in range(3):
        updates, state = tx.update(jax.tree.map(lambda p, k=k: p + k, params), state, params)
        params = optax.apply_updates(params, updates)
        zs.append(optax.tree.get(state, "z"))
    mean = jax.tree.map(lambda *zs: sum(zs) / 3, *zs)
    jax.tree.map(np.testing.assert_allclose, keras.schedule_free_parameters(params, state), mean)


def test_the_state_is_found_inside_others_and_in_nnx():
    params = {"w": jnp.arange(3.0, dtype=jnp.bfloat16)}
    tx = optax.chain(optax.clip(1.0), keras.ScheduleFreeAdamW(use_ema=True, gradient_accumulation_steps=2, weight_decay=0.1))
    x = keras.schedule_free_parameters(params, tx.init(params))
    np.testing.assert_array_equal(x["w"], params["w"])
    assert x["w"].dtype == jnp.bfloat16

    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    optimizer = nnx.Optimizer(model, keras.ScheduleFreeAdamW(0.1), wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    y = nnx.state(model, nnx.Param)
    x = keras.schedule_free_parameters(y, optimizer.opt_state)
    # After the first step x = z, and so y = z too.
    jax.tree.map(np.testing.assert_allclose, jax.tree.leaves(x), jax.tree.leaves(y))


def test_other_states_and_other_parameters_are_told():
    params = {"w": jnp.ones(3)}
    state = keras.ScheduleFreeAdamW().init(params)
    with pytest.raises(KeyError, match="the state holds 0 states of ScheduleFreeAdamW, expected one"):
        keras.schedule_free_parameters(params, keras.Adam().init(params))
    with pytest.raises(KeyError, match="the state holds 2 states of ScheduleFreeAdamW, expected one"):
        keras.schedule_free_parameters(params, (state, state))
    with pytest.raises(ValueError, match="the state belongs to other parameters: their shapes differ"):
        keras.schedule_free_parameters({"w": jnp.ones(4)}, state)
    with pytest.raises(ValueError, match="scale_by_schedule_free_adam"):
        keras.ScheduleFreeAdamW().update(params, state)
