"""Regret: Adagrad's bound, and the losses on which Adam fails and AMSGrad does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lec import adagrad, adam, amsgrad, rmsprop, sgd

from .follow import follow

T = 2000
# Three kinds of coordinate, each over six orders of magnitude: an adversary, a drift, and rare gradients.
SIZES = np.tile(10.0 ** np.arange(-3, 4), 3)
KIND = np.repeat([0, 1, 2], 7)
NOISE = np.random.default_rng(5).normal(size=(T + 1, SIZES.size))
RARE = np.random.default_rng(6).uniform(size=(T + 1, SIZES.size)) < 0.02


def losses(theta, t):
    """The gradient of the t-th linear loss, chosen after theta has been shown."""
    against = jnp.where(theta >= 0, 1.0, -1.0)
    drift = 1.0 + jnp.asarray(NOISE)[t]
    rare = jnp.where(jnp.asarray(RARE)[t], 1.0, 0.0)
    return SIZES * jnp.choose(KIND, [against, drift, rare], mode="clip")


def regret_and_bound(optimizer, eta):
    """The regret of each coordinate against its best fixed point in [−1, 1], and Adagrad's bound for it."""
    path = follow(optimizer, losses, np.zeros(SIZES.size), T, project=lambda theta: jnp.clip(theta, -1, 1))
    g = np.asarray(jax.vmap(losses)(path[:-1], jnp.arange(1, T + 1)))
    regret = np.sum(g * path[:-1], axis=0) + np.abs(np.sum(g, axis=0))
    diameter = 2.0
    return regret, (diameter**2 / (2 * eta) + eta) * np.sqrt(np.sum(g**2, axis=0))


@pytest.mark.parametrize("eta", [0.3, np.sqrt(2.0)])
def test_adagrad_regret(eta):
    """R_T ≤ (D∞²/(2η) + η) Σᵢ ‖g_{1:T,i}‖₂ (Duchi et al. 2011, Theorem 5): √2 D∞ Σᵢ … at the best η = D∞/√2.

    In a box with linear losses the theorem holds for each coordinate by itself, which is much sharper than for the sum.
    """
    regret, bound = regret_and_bound(adagrad(eta), eta)
    assert np.all(regret <= bound)


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        (sgd(np.sqrt(2.0)), 0),  # too far where gradients are large
        (sgd(np.sqrt(2.0)), 2),  # too short where they are rare and small
        (rmsprop(np.sqrt(2.0)), 0),  # its steps never become small
        (adagrad(np.sqrt(2.0), initial_accumulator=1.0), 1),  # too short where they are small
    ],
    ids=["sgd, large", "sgd, rare", "rmsprop", "adagrad from 1"],
)
def test_the_bound_is_adagrads_own(optimizer, kind):
    regret, bound = regret_and_bound(optimizer, np.sqrt(2.0))
    assert np.any((regret > bound)[kind == KIND])


C = 3.0


def reddi(theta, t):
    """f_t(x) = C x for t ≡ 1 mod 3 and −x else: over three steps (C − 2) x, so −1 is best."""
    return jnp.where(t % 3 == 1, C, -1.0) * jnp.ones_like(theta)


def last_of_reddi(optimizer, steps=6000):
    path = follow(optimizer, reddi, np.ones(1), steps, project=lambda theta: jnp.clip(theta, -1, 1))[:, 0]
    g = np.where(np.arange(1, steps + 1) % 3 == 1, C, -1.0)
    return path, np.sum(g * (path[:-1] + 1)) / steps


REDDI = {"b1": 0.0, "b2": 1 / (1 + C**2), "eps": 0.0}


def root_schedule(count):
    return 0.9 / jnp.sqrt(jnp.asarray(count + 1, float))  # α < √(1 − β₂)


@pytest.mark.parametrize("bias_correction", [True, False])
def test_adam_goes_to_the_wrong_point(bias_correction):
    """Reddi et al. 2018, Theorem 1: Adam is at +1 after every third step, and its average regret is constant."""
    path, regret = last_of_reddi(adam(root_schedule, **REDDI, bias_correction=bias_correction))
    np.testing.assert_array_equal(path[::3], 1.0)
    # At +1 it pays (C − 2)·2 in three steps; on the way down and up a little less.
    assert regret > 0.9 * 2 * (C - 2) / 3


@pytest.mark.parametrize("bias_correction", [True, False])
def test_amsgrad_goes_to_the_right_one(bias_correction):
    """The same losses, the same rates: AMSGrad arrives at −1 and its average regret goes to 0."""
    path, regret = last_of_reddi(amsgrad(root_schedule, **REDDI, bias_correction=bias_correction))
    assert np.max(path[-300:]) < -0.95
    assert regret < 0.1
    # Where Adam's denominator forgets C, the maximum remembers it: after it is set, steps are as g, so C to 1.
    i = np.flatnonzero(np.abs(path[1:-3]) < 0.9)
    i = i[(i % 3 == 0) & (i > 10)]
    assert i.size > 5
    steps = np.diff(path) * np.sqrt(np.arange(1, path.size))
    np.testing.assert_allclose(steps[i], -C * steps[i + 1], rtol=1e-6)
    # The maximum is the highest that v itself comes in a period, which is less than C², the highest of v̂ and of g².
    b2 = REDDI["b2"]
    highest = (1 - b2) * (C**2 + b2 + b2**2) / (1 - b2**3)
    np.testing.assert_allclose(steps[i], -0.9 * C / np.sqrt(highest), rtol=1e-6)
