"""Newton's method: one step, the quadratic rate, independence of coordinates, saddles."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lec import newton, newton_cg

from .follow import minimize

ROTATION = np.linalg.qr(np.random.default_rng(7).normal(size=(5, 5)))[0]
EIGENVALUES = 10.0 ** np.arange(-3, 2)
H = ROTATION @ np.diag(EIGENVALUES) @ ROTATION.T
CENTRE = np.arange(5.0)


def quadratic(theta):
    return 0.5 * (theta - CENTRE) @ H @ (theta - CENTRE) + 7.0


def test_newton_takes_one_step_on_a_quadratic():
    path = minimize(newton(1.0), quadratic, 10 * np.ones(5), 1)
    np.testing.assert_allclose(path[1], CENTRE, atol=1e-10)


def test_damping_shrinks_every_mode_by_its_own_factor():
    """(H + δI)⁻¹: what is left of the mode of eigenvalue λ after a step is δ/(λ + δ)."""
    delta = 0.1
    path = minimize(newton(1.0, damping=delta), quadratic, 10 * np.ones(5), 4)
    modes = (path - CENTRE) @ ROTATION
    np.testing.assert_allclose(modes[1:], modes[:-1] * delta / (EIGENVALUES + delta), rtol=1e-9, atol=1e-12)


def test_newton_converges_quadratically():
    """On x − log x, least at 1, the error is squared: e_{k+1} = −e_k², exactly."""
    path = minimize(newton(1.0), lambda x: jnp.sum(x - jnp.log(x)), np.array([0.5, 1.7, 1.1]), 6)
    errors = path - 1
    np.testing.assert_allclose(errors[1:], -(errors[:-1] ** 2), rtol=1e-9, atol=1e-15)


def barrier(x):
    return jnp.sum(x - jnp.log(x)) + 0.5 * jnp.sum(x) ** 2


def test_newton_is_the_same_in_all_coordinates():
    """θ = Aφ: the path of f(Aφ) is A⁻¹ of the path of f. With the diagonal of the Hessian only it is not."""
    a = np.array([[2.0, 1.0, 0.0], [0.0, 0.3, -1.0], [1.0, 0.0, 5.0]])
    start = np.array([0.2, 0.3, 0.4])
    path = minimize(newton(1.0), barrier, start, 4)
    other = minimize(newton(1.0), lambda phi: barrier(a @ phi), np.linalg.solve(a, start), 4)
    np.testing.assert_allclose(other @ a.T, path, rtol=1e-11)
    assert np.linalg.norm(path[-1] - path[0]) > 0.05


def test_newton_leaves_a_saddle():
    """f = x² − y²: plain Newton jumps onto the saddle; with |λ| the distance along y doubles in each step."""
    path = minimize(newton(1.0), lambda z: z[0] ** 2 - z[1] ** 2, np.array([3.0, 1e-3]), 10)
    np.testing.assert_allclose(path[1:, 0], 0, atol=1e-12)
    np.testing.assert_allclose(path[:, 1], 1e-3 * 2.0 ** np.arange(11), rtol=1e-12)


def test_newton_cg_keeps_its_promise_on_a_quadratic():
    """There the gradient after a step is the residual of the linear system: below min(½, √‖g‖)‖g‖."""
    path = minimize(newton_cg(1.0), quadratic, 10 * np.ones(5), 12)
    norms = np.linalg.norm((path - CENTRE) @ H, axis=1)
    assert np.all(norms[1:] <= np.minimum(0.5, np.sqrt(norms[:-1])) * norms[:-1] + 1e-13)
    assert norms[-1] < 1e-12


def test_newton_cg_converges_superlinearly():
    """‖g_{k+1}‖ is of order ‖g_k‖^1.5 or better: at least half as many digits more in each step, on a curved function."""

    def f(theta):
        return jnp.sum(jnp.cosh(ROTATION @ (theta - CENTRE)) * EIGENVALUES[::-1])

    path = minimize(newton_cg(1.0), f, CENTRE + 0.3, 30)
    norms = np.linalg.norm(np.stack([jax.grad(f)(theta) for theta in path]), axis=1)
    near = np.flatnonzero((norms[:-1] < 1e-2) & (norms[:-1] > 1e-8))
    assert near.size >= 2
    assert np.all(norms[near + 1] <= 2 * norms[near] ** 1.5)
    assert norms[-1] < 1e-12


def test_newton_cg_goes_down_at_negative_curvature():
    """At the top of −y² the first direction has negative curvature: the step is the gradient itself."""
    path = minimize(newton_cg(1.0), lambda z: -0.5 * jnp.sum(z**2 * jnp.array([1.0, 3.0])), np.array([1.0, 1.0]), 1)
    np.testing.assert_allclose(path[1], [2.0, 4.0], rtol=1e-15)
    # Behind a first direction of negative curvature, here (1/32, 1), there would be one of positive curvature.
    valley = jnp.array([20.0, -0.1])
    path = minimize(newton_cg(1.0), lambda z: 0.5 * jnp.sum(valley * z**2), np.array([1 / 640, -10.0]), 1)
    np.testing.assert_allclose(path[1], [1 / 640 - 1 / 32, -11.0], rtol=1e-12)
