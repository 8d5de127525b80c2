"""What a change of units, or of the scale of the loss, does to each method."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lec import adadelta, adagrad, adam, amsgrad, momentum, newton, rmsprop, sgd

from .follow import minimize, updates_for

# AdaDelta has one ε for two units: U² beside S and 1/U² beside G. A steep loss makes the second vanish in rounding.
STEEP = 1e6
S = 32.0


def loss(theta):
    return STEEP * jnp.sum(jnp.log(jnp.cosh(theta - jnp.arange(3.0))))


ADAM = {"eps": 0.0, "b2": 0.99}


@pytest.mark.parametrize(
    ("method", "in_new_units", "power"),
    [
        (sgd(1e-7), sgd(1e-7), 1),
        (momentum(1e-7), momentum(1e-7), 1),
        (adagrad(0.1, eps=0.0), adagrad(0.1, eps=0.0), 0),
        (rmsprop(0.1, eps=0.0), rmsprop(0.1, eps=0.0), 0),
        (adam(0.1, **ADAM), adam(0.1, **ADAM), 0),
        (adadelta(1.0, 0.95, 1e-6), adadelta(1.0, 0.95, 1e-6 / S**2), -1),
        (newton(1.0, damping=1e-3), newton(1.0, damping=1e-3 * S**2), -1),
    ],
    ids=["sgd", "momentum", "adagrad", "rmsprop", "adam", "adadelta", "newton"],
)
def test_units(method, in_new_units, power):
    """θ' = θ/s: a step that carries the unit U scales by s⁻¹, one without a unit by s⁰, SGD's by s.

    Only with s⁻¹ do the two paths stay the same path: AdaDelta's and Newton's do to the end, the others part.
    """
    start = np.array([0.9, 0.4, 1.5])
    path = minimize(method, loss, start, 200)
    other = minimize(in_new_units, lambda theta: loss(S * theta), start / S, 200)
    np.testing.assert_allclose(other[1] - other[0], (path[1] - path[0]) * S**power, rtol=1e-9)
    if power == -1:
        np.testing.assert_allclose(other * S, path, rtol=1e-9)
        assert np.min(np.abs(path[-1] - path[0])) > 1e-3
    else:
        assert np.max(np.abs(other * S - path)) > 1e-3


GRADIENTS = np.random.default_rng(11).normal(size=(300, 8)) * 10.0 ** np.arange(-4, 4)
ADAPTIVE = [
    pytest.param(lambda eps: adam(0.1, eps=eps), id="adam"),
    pytest.param(lambda eps: amsgrad(0.1, eps=eps), id="amsgrad"),
    pytest.param(lambda eps: rmsprop(0.1, eps=eps), id="rmsprop"),
    pytest.param(lambda eps: adagrad(0.1, eps=eps), id="adagrad"),
]


@pytest.mark.parametrize("method", ADAPTIVE)
def test_the_scale_of_the_gradient_does_not_matter(method):
    """With ε = 0 a loss in other units, in each coordinate its own, changes nothing; powers of 2 not one bit."""
    plain = updates_for(method(0.0), GRADIENTS)
    np.testing.assert_array_equal(updates_for(method(0.0), GRADIENTS * 2.0 ** np.arange(-40, 40, 10)), plain)
    np.testing.assert_allclose(updates_for(method(0.0), GRADIENTS * 1e-7), plain, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(updates_for(method(0.0), -GRADIENTS), -plain)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_epsilon_is_in_the_units_of_the_gradient(method):
    """Scaling the gradient and ε together changes nothing; scaling the gradient alone does."""
    plain = updates_for(method(1e-3), GRADIENTS)
    np.testing.assert_allclose(updates_for(method(1e-3 * 2**20), GRADIENTS * 2.0**20), plain, rtol=1e-12)
    assert np.max(np.abs(updates_for(method(1e-3), GRADIENTS * 2.0**20) - plain)) > 0.01


def test_the_scale_matters_to_sgd():
    np.testing.assert_array_equal(updates_for(sgd(0.1), GRADIENTS * 4), 4 * updates_for(sgd(0.1), GRADIENTS))
