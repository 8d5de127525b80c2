"""Keras's LossScaleOptimizer: by hand, against Keras itself, and the arguments that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from record import keras_in_float64

from jaxopt_lec.compat import keras as like_keras

BAD = {3: np.inf, 4: np.nan, 9: -np.inf}  # step → what stands for one number of its gradient
SCALES = [8, 16, 16, 8, 4, 4, 8, 8, 16, 8, 8, 16]  # after each step, from 8, with two steps for a doubling
STEPS = len(SCALES)


def gradients():
    random = np.random.default_rng(0)
    for i in range(STEPS):
        w, b = random.normal(size=(2, 3)), random.normal(size=3)
        w[1, 1] = BAD.get(i, w[1, 1])
        yield {"w": w, "b": b}


def test_scale_and_parameters_are_those_by_hand():
    tx = like_keras.LossScaleOptimizer(like_keras.SGD(0.5), initial_scale=8.0, dynamic_growth_steps=2)
    params = {"w": jnp.zeros((2, 3)), "b": None, "c": jnp.ones(3)}
    state, update = tx.init(params), jax.jit(tx.update)
    expected, scale = np.zeros((2, 3)), 8.0
    assert optax.tree.get(state, "dynamic_scale") == scale
    for found, after in zip(gradients(), SCALES, strict=True):
        given = {"w": jnp.asarray(found["w"], jnp.float32), "b": None, "c": jnp.zeros(3)}
        updates, state = update(given, state, params)
        assert updates["b"] is None
        expected = expected - (0.5 * found["w"] / scale if np.isfinite(found["w"]).all() else 0)
        params = params | {"w": params["w"] + updates["w"]}
        scale = float(optax.tree.get(state, "dynamic_scale"))
        assert scale == after
    np.testing.assert_allclose(params["w"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {}),
        ("AdamW", {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3}),
        ("ScheduleFreeAdamW", {"learning_rate": 0.1, "gradient_accumulation_steps": 2, "clipnorm": 0.1}),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_numbers_are_those_of_keras(name, options, live_keras):
    with keras_in_float64(), jax.numpy_dtype_promotion("standard"):  # Keras's own code is not written for strict promotion
        inner = getattr(live_keras.optimizers, name)(**options)
        theirs = live_keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=2)
        variables = [live_keras.Variable(np.ones(shape), dtype="float64") for shape in ((2, 3), 3)]
        theirs.build(variables)
        ours = like_keras.LossScaleOptimizer(getattr(like_keras, name)(**options), 8.0, 2)
        params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
        state, update, apply = ours.init(params), jax.jit(ours.update), jax.jit(theirs.stateless_apply)
        their_params, their_state = [v.value for v in variables], [v.value for v in theirs.variables]
        scale_at = next(i for i, v in enumerate(theirs.variables) if v is theirs.dynamic_scale)
        for found in gradients():
            their_params, their_state = apply(their_state, [found["w"], found["b"]], their_params)
            updates, state = update(jax.tree.map(jnp.asarray, found), state, params)
            params = optax.apply_updates(params, updates)
            np.testing.assert_array_equal(optax.tree.get(state, "dynamic_scale"), their_state[scale_at])
            for ours_now, theirs_now in zip((params["w"], params["b"]), their_params, strict=True):
                np.testing.assert_allclose(ours_now, theirs_now, rtol=1e-12)


def test_half_precision_gradients_are_divided_in_float32():
    tx = like_keras.LossScaleOptimizer(like_keras.SGD(1.0), initial_scale=2.0**15)
    params = {"w": jnp.zeros(2)}
    small = {"w": jnp.full(2, 2.0**-20, jnp.float16)}  # 2⁻³⁵ is no number of float16
    updates, _ = tx.update(small, tx.init(params), params)
    np.testing.assert_array_equal(updates["w"], -(2.0**-35))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((0.1,), TypeError, r"inner_optimizer must be an optimizer, such as Adam\(\), got 0.1"),
        ((like_keras.SGD,), TypeError, "inner_optimizer must be an optimizer"),
        ((like_keras.SGD(), 0.0), ValueError, r"initial_scale must lie in \(0, inf\)"),
        ((like_keras.SGD(), "8"), TypeError, "initial_scale must be a number"),
        ((like_keras.SGD(), 8.0, 0), ValueError, r"dynamic_growth_steps must lie in \[1, inf\)"),
        ((like_keras.SGD(), 8.0, 2.5), TypeError, "dynamic_growth_steps must be an integer"),
    ],
)
def test_wrong_arguments_are_refused_at_construction(arguments, kind, message):
    with pytest.raises(kind, match=f"^LossScaleOptimizer: {message}"):
        like_keras.LossScaleOptimizer(*arguments)


def test_a_foreign_state_is_told():
    tx, params = like_keras.LossScaleOptimizer(like_keras.Adam()), {"w": jnp.ones(2)}
    with pytest.raises(TypeError, match=r"^LossScaleOptimizer: this is not a state that the optimizer's init makes"):
        tx.update(params, like_keras.Adam().init(params), params)
