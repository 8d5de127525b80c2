"""The noisy quadratic has the spectrum, the noise and the exact score that it says."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lec.lab.workloads import load_workload

WORKLOAD = load_workload("noisy-quadratic")


def matrix() -> np.ndarray:
    return np.asarray(jax.hessian(lambda theta: WORKLOAD.metric({"theta": theta}, (), np.zeros(1))[0][0])(jnp.zeros(100)))


def test_nine_tenths_of_the_spectrum_are_flat_and_one_tenth_is_steep():
    eigenvalues = np.linalg.eigvalsh(matrix().astype(np.float64))
    np.testing.assert_allclose(eigenvalues, np.sort(WORKLOAD.eigenvalues), rtol=1e-4, atol=1e-4)
    assert ((eigenvalues > 0) & (eigenvalues < 1)).sum() == 90
    assert ((eigenvalues > 30) & (eigenvalues < 60)).sum() == 10


def test_no_axis_is_an_eigenvector():
    H = matrix()
    off_diagonal = H - np.diag(np.diag(H))
    assert np.linalg.norm(off_diagonal) > 0.7 * np.linalg.norm(H)


def test_the_score_is_the_quadratic_itself():
    theta = jax.random.normal(jax.random.key(1), (100,))
    loss, score = WORKLOAD.metric({"theta": theta}, (), np.zeros(3))
    np.testing.assert_allclose(score, np.full(3, 0.5 * theta @ matrix() @ theta), rtol=1e-4)
    np.testing.assert_array_equal(loss, score)
    assert not WORKLOAD.score.higher_is_better


def test_a_mini_batch_is_a_quadratic_around_its_centre_and_the_score_is_the_excess_over_the_optimum():
    Q, h = (np.asarray(x, np.float64) for x in (WORKLOAD.rotation, WORKLOAD.eigenvalues))
    H = Q * h @ Q.T
    batch, key = np.zeros(16), jax.random.key(3)
    gradient = jax.grad(lambda theta: WORKLOAD.loss({"theta": theta}, (), batch, key)[0])(jnp.zeros(100))
    centre = -np.linalg.solve(H, np.asarray(gradient, np.float64))  # where H (θ − c̄) vanishes
    for k in range(3):
        theta = 3 * jax.random.normal(jax.random.key(k), (100,))
        away = np.asarray(theta, np.float64) - centre
        np.testing.assert_allclose(WORKLOAD.loss({"theta": theta}, (), batch, key)[0], 0.5 * away @ H @ away, rtol=1e-4)
        at = np.asarray(theta, np.float64)
        np.testing.assert_allclose(WORKLOAD.metric({"theta": theta}, (), batch)[1], 0.5 * at @ H @ at, rtol=1e-5)
    assert WORKLOAD.metric({"theta": jnp.zeros(100)}, (), batch)[1][0] == 0


def test_the_gradient_is_exact_but_for_noise_as_large_as_the_curvature_over_the_batch():
    theta, batch, draws = 0.1 * jnp.ones(100), np.zeros(32), 4000
    gradient = jax.grad(lambda theta, key: WORKLOAD.loss({"theta": theta}, (), batch, key)[0])
    found = np.asarray(jax.vmap(gradient, (None, 0))(theta, jax.random.split(jax.random.key(0), draws)), np.float64)
    H = matrix().astype(np.float64)
    along = np.linalg.eigh(H)[1]
    # Along each eigenvector: mean h θ and variance h/32, within five standard errors.
    h, noise = np.linalg.eigvalsh(H), (found - H @ theta) @ along
    assert np.all(np.abs(noise.mean(0)) < 5 * np.sqrt(h / 32 / draws))
    assert np.all(np.abs(noise.var(0) / (h / 32) - 1) < 5 * np.sqrt(2 / draws))


def test_sgd_levels_off_where_theory_says():
    """E f in the long run is ½ Σ h η (1/B)/(2 − η h) · h⁰: the variance of θ along an eigenvector is η/(B (2 − η h))."""
    rate, size = 0.02, 128

    def step(theta, key):
        batch = np.zeros(size)
        theta = theta - rate * jax.grad(lambda theta: WORKLOAD.loss({"theta": theta}, (), batch, key)[0])(theta)
        return theta, WORKLOAD.metric({"theta": theta}, (), np.zeros(1))[0][0]

    keys = jax.random.split(jax.random.key(0), 40_000)
    _, values = jax.jit(lambda: jax.lax.scan(step, jnp.zeros(100), keys))()
    h = WORKLOAD.eigenvalues.astype(np.float64)
    expected = 0.5 * np.sum(h * rate / (size * (2 - rate * h)))
    np.testing.assert_allclose(np.mean(values[5000:]), expected, rtol=0.03)
