"""Where plain SGD stays and momentum goes on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lec import momentum, nesterov, nesterov_exact, sgd

from .follow import minimize

START = 3.0


def rippled(x):
    """A bowl with ripples: shallow minima on the way down to the lowest one, which is near 0."""
    return 0.1 * x**2 - 0.1 * jnp.cos(5 * x)


def test_sgd_stays_in_a_shallow_minimum():
    last = minimize(sgd(0.02), rippled, np.float64(START), 2000)[-1]
    assert abs(jax.grad(rippled)(last)) < 1e-9
    assert jax.grad(jax.grad(rippled))(last) > 0
    assert last > 2.0
    # A shallow one: the hill in front of the next is a fiftieth of what it has come down already.
    hill = jnp.max(jax.vmap(rippled)(jnp.linspace(last - 0.5, last, 1000)))
    assert 0 < hill - rippled(last) < (rippled(START) - rippled(last)) / 50


@pytest.mark.parametrize("method", [momentum, nesterov, nesterov_exact])
def test_momentum_rolls_through(method):
    last = minimize(method(0.02, 0.95), rippled, np.float64(START), 2000)[-1]
    assert abs(last) < 1e-6


def test_momentum_is_needed_for_that():
    last = minimize(momentum(0.02, 0.3), rippled, np.float64(START), 2000)[-1]
    assert last > 2.0


def test_sgd_never_leaves_a_point_without_gradient():
    """A saddle is not left by any step along a gradient of 0, however large the learning rate."""
    path = minimize(sgd(10.0), lambda z: z[0] ** 2 - z[1] ** 2, np.zeros(2), 50)
    np.testing.assert_array_equal(path, 0.0)
