"""Convergence rates with their exact constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lec import momentum, nesterov, nesterov_exact, sgd

from .follow import minimize

MU, L = 0.02, 2.0
KAPPA = L / MU
EIGENVALUES = np.array([MU, 0.1, 0.7, L])


def quadratic(theta):
    return 0.5 * jnp.sum(EIGENVALUES * theta**2)


def test_gradient_descent_rate():
    """η = 2/(L+μ): both extreme modes shrink by (κ−1)/(κ+1) in every step, the fastest possible for the worse of them."""
    rate = (KAPPA - 1) / (KAPPA + 1)
    path = minimize(sgd(2 / (L + MU)), quadratic, np.ones(4), 200)
    powers = rate ** np.arange(201)
    np.testing.assert_allclose(path[:, 0], powers, rtol=1e-11)
    np.testing.assert_allclose(path[:, 3], powers * (-1.0) ** np.arange(201), rtol=1e-11)
    assert np.all(np.abs(path[:, 1:3]) <= powers[:, None])


@pytest.mark.parametrize(("factor", "converges"), [(0.999, True), (1.001, False)])
def test_gradient_descent_is_stable_up_to_two_over_l(factor, converges):
    path = minimize(sgd(factor * 2 / L), quadratic, np.ones(4), 3000)
    assert (abs(path[-1, 3]) < 0.01) == converges


@pytest.mark.parametrize("inside", [True, False])
def test_heavy_ball_rate(inside):
    """η = 4/(√L+√μ)², γ = q²: the extreme modes are (1 + b k)(±q)ᵏ, q = (√κ−1)/(√κ+1); the rate of all is q."""
    q = (np.sqrt(KAPPA) - 1) / (np.sqrt(KAPPA) + 1)
    eta = 4 / (np.sqrt(L) + np.sqrt(MU)) ** 2
    path = minimize(momentum(eta, q**2, learning_rate_inside=inside), quadratic, np.ones(4), 100)
    k = np.arange(101)
    # Double roots ±q of the recursion x ← (1 + γ − ηλ) x − γ x_prev; b follows from x₁ = 1 − ηλ.
    for mode, root in ((0, q), (3, -q)):
        b = (1 - eta * EIGENVALUES[mode]) / root - 1
        np.testing.assert_allclose(path[:, mode] / root**k, 1 + b * k, rtol=1e-9, atol=1e-9)
    # The inner modes: conjugate roots of modulus q, so an amplitude C qᵏ with C from the first two iterates.
    x, x_next = path[:-1, 1:3], path[1:, 1:3]
    half_trace = (1 + q**2 - eta * EIGENVALUES[1:3]) / 2
    amplitude = np.sqrt(x_next**2 - 2 * half_trace * x_next * x + q**2 * x**2)
    np.testing.assert_allclose(amplitude, amplitude[0] * q ** k[:-1, None], rtol=1e-9)


def test_nesterov_rate_on_a_quadratic():
    """η = 1/L, γ = (√κ−1)/(√κ+1): the slowest mode is (1 + k/√κ)(1 − 1/√κ)ᵏ, the stiffest is gone in one step."""
    root = np.sqrt(KAPPA)
    gamma = (root - 1) / (root + 1)
    path = minimize(nesterov_exact(1 / L, gamma), quadratic, np.ones(4), 200)
    k = np.arange(201)
    slowest = (1 + k / root) * (1 - 1 / root) ** k
    np.testing.assert_allclose(path[:, 0], slowest, rtol=1e-10)
    np.testing.assert_allclose(path[1:, 3], 0, atol=1e-15)


@pytest.mark.parametrize("inside", [True, False])
def test_nesterov_rate_in_look_ahead_coordinates(inside):
    """The same iterates seen from φ = θ − γ v = θ + γ (θ − θ_prev)."""
    root = np.sqrt(KAPPA)
    gamma = (root - 1) / (root + 1)
    path = minimize(nesterov(1 / L, gamma, learning_rate_inside=inside), quadratic, np.ones(4), 200)
    k = np.arange(201)
    theta = (1 + k / root) * (1 - 1 / root) ** k
    previous = np.concatenate([[1.0], theta[:-1]])
    np.testing.assert_allclose(path[:, 0], theta + gamma * (theta - previous), rtol=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "product"),
    [
        (sgd(0.3), 0.0),
        (momentum(0.3, 0.8), 0.8),
        (nesterov(0.3, 0.8), 0.8 * (1 - 0.3 * 0.5)),
        (nesterov_exact(0.3, 0.8), 0.8 * (1 - 0.3 * 0.5)),
    ],
    ids=["sgd", "momentum", "nesterov", "nesterov_exact"],
)
def test_nesterov_brakes_earlier(optimizer, product):
    """On λθ²/2 the swing x_{k+1}x_{k−1} − x_k² shrinks in each step by γ with momentum, by γ(1 − ηλ) with NAG."""
    x = minimize(optimizer, lambda theta: 0.25 * theta**2, np.float64(1.0), 40)
    swing = x[2:] * x[:-2] - x[1:-1] ** 2
    # Relative to the size of the terms: SGD has no swing at all.
    np.testing.assert_allclose(swing[1:], product * swing[:-1], rtol=1e-9, atol=1e-12 * np.max(x[1:-1] ** 2))


A = np.random.default_rng(3).normal(size=(6, 6)) * np.array([0.0, 0.0, 0.2, 0.5, 1.0, 2.0])
L_CURVED = np.linalg.norm(A, 2) ** 2 + MU


def curved(theta):
    """μ-strongly convex, L-smooth, not quadratic, least 0 at 0: Σ log cosh(Aθ) + μ‖θ‖²/2."""
    z = jnp.abs(A @ theta)
    return jnp.sum(z + jnp.log1p(jnp.exp(-2 * z)) - jnp.log(2.0)) + 0.5 * MU * jnp.sum(theta**2)


def test_nesterov_rate_on_a_strongly_convex_function():
    """f(θ_k) − f* ≤ (1 − 1/√κ)ᵏ (f(θ₀) − f* + μ‖θ₀ − θ*‖²/2); gradient descent breaks this bound."""
    root = np.sqrt(L_CURVED / MU)
    start = 3 * np.ones(6)
    steps = 400
    bound = (1 - 1 / root) ** np.arange(steps + 1) * (curved(start) + 0.5 * MU * np.sum(start**2))

    def gaps(optimizer):
        return np.asarray(jax.vmap(curved)(minimize(optimizer, curved, start, steps)))

    gamma = (root - 1) / (root + 1)
    assert np.all(gaps(nesterov_exact(1 / L_CURVED, gamma)) <= bound)
    assert np.any(gaps(sgd(1 / L_CURVED)) > bound)
    assert np.any(gaps(nesterov_exact(1 / L_CURVED, 0.5 * gamma)) > bound)


STEPS = 1000
N = 201


def nesterovs_worst(theta):
    """L/4 (½ θᵀTθ − θ₁), T = tridiag(−1, 2, −1): after k gradients from 0 only k coordinates can have moved."""
    differences = jnp.diff(theta, prepend=0.0, append=0.0)
    return L / 4 * (0.5 * jnp.sum(differences**2) - theta[0])


MINIMIZER = 1 - np.arange(1, N + 1) / (N + 1)
LEAST = -L / 8 * N / (N + 1)


def tks():
    t = [1.0]
    for _ in range(STEPS + 1):
        t.append((1 + np.sqrt(1 + 4 * t[-1] ** 2)) / 2)
    return np.array(t)  # t₁, t₂, ...


def accelerated(scale=1.0):
    t = tks()
    decay = np.concatenate([[0.0], (t[:-1] - 1) / t[1:]])  # step k+1 looks ahead by (t_k − 1)/t_{k+1}
    schedule = lambda count: scale * jnp.asarray(decay)[count]  # noqa: E731
    return minimize(nesterov_exact(1 / L, schedule), nesterovs_worst, np.zeros(N), STEPS)


def gaps_of(path):
    return np.asarray(jax.vmap(nesterovs_worst)(path)) - LEAST


def test_the_worst_function_is_what_it_says():
    assert abs(float(nesterovs_worst(MINIMIZER)) - LEAST) < 1e-15


def test_nesterov_bound_on_convex_functions():
    """f(θ_k) − f* ≤ 2L‖θ₀ − θ*‖²/(k+1)² for all k ≥ 1 (Nesterov 1983); half the momentum, or none, breaks this.

    At n = 2k+1 no method on gradients gets below 3L‖θ₀ − θ*‖²/(32(k+1)²).
    """
    distance = np.sum(MINIMIZER**2)
    k = np.arange(1, STEPS + 1)
    upper = 2 * L * distance / (k + 1) ** 2
    gaps = gaps_of(accelerated())
    assert np.all(gaps[1:] <= upper)
    assert gaps[N // 2] >= 3 * L * distance / (32 * (N // 2 + 1) ** 2)
    for slower in (minimize(sgd(1 / L), nesterovs_worst, np.zeros(N), STEPS), accelerated(0.5)):
        assert np.any(gaps_of(slower)[1:] > upper)


def test_nesterov_potential_never_grows():
    """2/L t_k²(f(θ_k) − f*) + ‖t_k θ_k − (t_k − 1) θ_{k−1} − θ*‖² falls (Beck & Teboulle 2009, Lemma 4.1)."""
    path = accelerated()
    t = tks()[:STEPS]
    ahead = t[:, None] * path[1:] - (t[:, None] - 1) * path[:-1] - MINIMIZER
    potential = 2 / L * t**2 * gaps_of(path)[1:] + np.sum(ahead**2, axis=1)
    assert np.all(np.diff(potential) <= 1e-12 * potential[0])
    assert potential[0] <= np.sum(MINIMIZER**2) * (1 + 1e-12)


def test_a_scheduled_momentum_is_that_of_its_step():
    """Beck & Teboulle's form without a velocity: x_k = y_k − ∇f(y_k)/L; y_{k+1} = x_k + (t_k − 1)/t_{k+1} (x_k − x_{k−1}).

    The bound above does not tell a schedule that is one step early from one that is in time; this does.
    """
    gradient = jax.jit(jax.grad(nesterovs_worst))
    t = tks()
    x = y = np.zeros(N)
    path = [x]
    for k in range(60):
        x, before = y - np.asarray(gradient(y)) / L, x
        y = x + (t[k] - 1) / t[k + 1] * (x - before)
        path.append(x)
    np.testing.assert_allclose(accelerated()[:61], path, rtol=1e-11, atol=1e-14)
