"""Observation is a second result: it tells the truth, and changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lec as jl
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.observe import observe

PARAMS = {"dense": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.zeros(3)}, "scale": jnp.array(-2.0)}
GRADIENTS = {"dense": {"kernel": jnp.full((2, 2), 0.5), "bias": jnp.array([3.0, 0.0, 4.0])}, "scale": jnp.array(0.0)}


def test_norms_and_ratios_by_hand():
    _, _, seen = observe(optax.sgd(0.1)).update(GRADIENTS, optax.sgd(0.1).init(PARAMS), PARAMS)
    flat = {name: jax.tree.leaves(tree) for name, tree in seen._asdict().items()}  # bias, kernel, scale
    np.testing.assert_allclose(flat["gradient_norm"], [5, 1, 0])
    np.testing.assert_allclose(flat["update_norm"], [0.5, 0.1, 0])
    np.testing.assert_allclose(flat["weight_norm"], [0, 6, 2])
    np.testing.assert_allclose(flat["update_to_weight"], [np.inf, 0.1 / 6, 0])
    np.testing.assert_allclose(flat["effective_learning_rate"], [0.1, 0.1, 0], rtol=1e-6)


@pytest.mark.parametrize("tx", [jl.adam(0.1), optax.rmsprop(0.1), optax.chain(optax.clip(0.1), jl.muon(0.1, adjust="none"))])
def test_state_and_numbers_are_untouched(tx):
    params = {"kernel": PARAMS["dense"]["kernel"]}
    gradients = {"kernel": jnp.array([[0.1, -2.0], [0.0, 1.0]])}
    plain, watched = tx.init(params), observe(tx).init(params)
    for _ in range(3):
        updates, plain = jax.jit(tx.update)(gradients, plain, params)
        seen_updates, watched, _ = jax.jit(observe(tx).update)(gradients, watched, params)
        jax.tree.map(np.testing.assert_array_equal, updates, seen_updates)
    assert jax.tree.structure(plain) == jax.tree.structure(watched)
    jax.tree.map(np.testing.assert_array_equal, plain, watched)


def test_it_scans_over_steps_and_gives_curves():
    tx = observe(jl.adagrad(1.0))

    def step(carry, _):
        params, state = carry
        updates, state, seen = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        return (optax.apply_updates(params, updates), state), seen

    _, seen = jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), length=9)
    # Adagrad's dying steps: under a constant gradient the effective rate is 1/√t.
    np.testing.assert_allclose(seen.effective_learning_rate["scale"], 1 / np.sqrt(np.arange(1, 10)), rtol=1e-5)


def test_extra_arguments_pass():
    tx = observe(jl.newton())
    params = jnp.array([2.0, -1.0])
    updates, _, seen = tx.update(2 * params, tx.init(params), params, value_fn=lambda x: (x**2).sum())
    np.testing.assert_allclose(updates, -params, rtol=1e-6)
    np.testing.assert_allclose(seen.update_to_weight, 1.0, rtol=1e-6)


def test_missing_gradients_have_no_statistics():
    tx = observe(jl.adam(0.1))
    _, _, seen = tx.update({**GRADIENTS, "scale": None}, tx.init(PARAMS), PARAMS)
    assert seen.gradient_norm["scale"] is seen.weight_norm["scale"] is seen.update_to_weight["scale"] is None


def test_low_precision_sums_in_float32():
    params = jnp.ones(100_000, jnp.bfloat16)
    _, _, seen = observe(optax.sgd(1.0)).update(params, optax.sgd(1.0).init(params), params)
    assert float(seen.gradient_norm) == pytest.approx(100_000**0.5, rel=1e-5)


def test_complex_norms_are_real():
    z = jnp.array([3 + 4j])
    _, _, seen = observe(optax.sgd(1.0)).update(z, optax.sgd(1.0).init(z), z)
    assert seen.gradient_norm.dtype == jnp.float32
    assert float(seen.gradient_norm) == pytest.approx(5)


def test_params_are_asked_for():
    with pytest.raises(ValueError, match="observe needs params"):
        observe(optax.sgd(1.0)).update(GRADIENTS, optax.sgd(1.0).init(PARAMS))


def test_a_factory_is_no_transformation():
    with pytest.raises(InputError, match=r"tx must be an optax.GradientTransformation, got a function"):
        observe(jl.sgd)
