"""What the methods that see a whole array do to it, and the two that are older than Adam's family: Rprop and FTRL."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest

from jaxopt_lec import adafactor, adagrad, asgd, ftrl, lamb, muon, rprop

from .follow import follow, minimize, updates_for

A, B, C = 3.4445, -4.7750, 2.0315


def quintic(sigma, steps=1):
    for _ in range(steps):
        sigma = A * sigma + B * sigma**3 + C * sigma**5
    return sigma


def one_step(method, gradient):
    """The direction −Δθ/η of the first step, at η = 1."""
    return -updates_for(method, np.asarray(gradient)[None])[0]


def orthogonal(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


# --- Muon


@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (4, 4)])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_muon_moves_singular_values_and_keeps_singular_vectors(shape, steps):
    """Newton–Schulz is an odd polynomial in X: U Σ Vᵀ becomes U φ(Σ/‖Σ‖) Vᵀ, φ the quintic, so many times."""
    gradient = np.random.default_rng(21).normal(size=shape)
    U, sigma, Vh = np.linalg.svd(gradient, full_matrices=False)
    expected = U * quintic(sigma / np.linalg.norm(sigma), steps) @ Vh
    direction = one_step(muon(1.0, 0.0, eps=0.0, nesterov=False, adjust="none", steps=steps), gradient)
    np.testing.assert_allclose(direction, expected, rtol=0, atol=1e-12)


# (axes, how they are read) → the matrices that they are
READINGS = {
    "convolution": ((3, 2, 4, 5), {}, (1, 24, 5)),
    "convolution in one dimension": ((3, 4, 5), {"as_matrix": "flatten"}, (1, 12, 5)),
    "attention's output": ((2, 3, 5), {}, (1, 6, 5)),
    "attention's query": ((5, 2, 3), {"as_matrix": "heads"}, (1, 5, 6)),
    "layers under scan": ((3, 4, 5), {"as_matrix": "stack"}, (3, 4, 5)),
    "layers and experts": ((2, 3, 5, 4), {"as_matrix": "stack"}, (6, 5, 4)),
    "PyTorch's convolution": ((5, 4, 3, 2), {"output_axis": -2}, (1, 5, 24)),
    "PyTorch's query": ((2, 3, 5), {"output_axis": -2, "as_matrix": "heads"}, (1, 6, 5)),
    "without elements": ((3, 0, 4, 5), {}, (1, 0, 5)),
}


@pytest.mark.parametrize("what", READINGS)
def test_muon_of_more_than_two_axes_is_that_of_its_matrices_one_by_one(what):
    shape, options, matrices = READINGS[what]
    gradients = np.random.default_rng(26).normal(size=(3, *shape))
    found = updates_for(muon(0.1, **options), gradients)
    alone = {"output_axis": options.get("output_axis", -1)}
    parts = gradients.reshape(3, *matrices).swapaxes(0, 1)
    expected = np.stack([updates_for(muon(0.1, **alone), part) for part in parts], axis=1)
    np.testing.assert_allclose(found, expected.reshape(gradients.shape), rtol=0, atol=1e-14)
    path = oracles.muon(np.zeros(shape), lambda _, t: gradients[t - 1], 3, 0.1, **options) if found.size else np.zeros(1)
    np.testing.assert_allclose(found, np.diff(path, axis=0).reshape(found.shape), rtol=0, atol=1e-12)


def test_muon_says_which_leaves_are_no_matrices_and_which_readings_there_are():
    with pytest.raises(ValueError, match=r"this leaf has shape \(3,\); give it another optimizer with optax.partition"):
        one_step(muon(1.0), np.ones(3))
    with pytest.raises(ValueError, match="as_matrix is one of flatten, heads, stack; got 'conv'"):
        one_step(muon(1.0, as_matrix="conv"), np.ones((2, 2, 2)))


def test_muon_singular_values_end_between_the_extrema_of_the_quintic():
    """φ' = 0 at σ² = (−3b ± √(9b² − 20ac))/(10c): φ is 1.2024 there and 0.6818, and five times φ takes [0.0016, 1] between.

    What is smaller grows 3.4445⁵ = 485 times: from 0.001 it comes to 0.47.
    """
    peak, valley = np.sqrt((-3 * B + np.array([-1, 1]) * np.sqrt(9 * B**2 - 20 * A * C)) / (10 * C))
    highest, lowest = quintic(peak), quintic(valley)
    assert 1.2023 < highest < 1.2025
    assert 0.6818 < lowest < 0.6819
    method = muon(1.0, 0.0, eps=0.0, nesterov=False, adjust="none")
    smaller = np.concatenate([np.geomspace(1e-9, 1, 2001) / np.sqrt(2), [1e-3]])
    both = jnp.stack([jnp.sqrt(1 - smaller**2), smaller], axis=1)

    @jax.jit
    @jax.vmap
    def diagonal_after(sigma):
        gradient = jnp.diag(sigma)
        return -jnp.diag(method.update(gradient, method.init(gradient), gradient)[0])

    after = np.asarray(diagonal_after(both))
    np.testing.assert_allclose(after, quintic(np.asarray(both), 5), rtol=1e-11)
    assert np.all(after <= highest)
    assert np.all(after[smaller > 0.0016] >= lowest)
    assert np.all(after[:, 0] >= lowest)
    np.testing.assert_allclose(after[0, 1] / smaller[0], A**5, rtol=1e-9)
    assert 0.47 < after[-1, 1] < 0.48


CONVERGING = {"coefficients": (15 / 8, -10 / 8, 3 / 8), "steps": 30}  # φ(1) = 1, φ'(1) = φ''(1) = 0


@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (4, 4)])
def test_muon_with_converging_coefficients_is_the_polar_factor(shape):
    """U Vᵀ: with "match_rms" its root mean square is ρ exactly, with "original" its spectral norm √max(1, n_out/n_in)."""
    gradient = np.random.default_rng(22).normal(size=shape)
    U, _, Vh = np.linalg.svd(gradient, full_matrices=False)
    plain = one_step(muon(1.0, 0.0, eps=0.0, nesterov=False, adjust="none", **CONVERGING), gradient)
    np.testing.assert_allclose(plain, U @ Vh, atol=1e-13)
    matched = one_step(muon(1.0, 0.0, eps=0.0, adjust="match_rms", rms_rate=0.3, **CONVERGING), gradient)
    np.testing.assert_allclose(np.sqrt(np.mean(matched**2)), 0.3, rtol=1e-13)
    for axis in (-1, -2):
        original = one_step(muon(1.0, 0.0, eps=0.0, output_axis=axis, **CONVERGING), gradient)
        out_over_in = shape[axis] / shape[-3 - axis]
        np.testing.assert_allclose(np.linalg.norm(original, 2), np.sqrt(max(1, out_over_in)), rtol=1e-13)


MATRICES = np.random.default_rng(23).normal(size=(50, 4, 6))


def test_muon_turns_with_the_gradient():
    """No axes are special to it: gradients Q G P give the updates Q Δ P, and Gᵀ gives Δᵀ. Adam's do not turn."""
    method = muon(0.1, adjust="none")
    plain = updates_for(method, MATRICES)
    Q, P = orthogonal(4, 24), orthogonal(6, 25)
    np.testing.assert_allclose(updates_for(method, Q @ MATRICES @ P), Q @ plain @ P, rtol=0, atol=1e-13)
    np.testing.assert_allclose(updates_for(method, MATRICES.transpose(0, 2, 1)), plain.transpose(0, 2, 1), atol=1e-14)


def test_muon_in_float32_loses_no_more_than_the_quintic_multiplies():
    """φ' ≤ 3.4445 up to the peak of φ: an error of X of 2⁻²⁴ in each of four singular values is 1.2e-4 after five steps."""
    exact = updates_for(muon(1.0, adjust="none"), MATRICES)
    method = muon(1.0, adjust="none")

    @jax.jit
    def rounded(gradients):
        def step(state, g):
            update, state = method.update(g, state, jnp.zeros_like(g))
            return state, update

        return jax.lax.scan(step, method.init(gradients[0]), gradients)[1]

    ours = rounded(jnp.asarray(MATRICES, jnp.float32))
    assert ours.dtype == jnp.float32
    assert np.max(np.linalg.norm(np.asarray(ours, np.float64) - exact, 2, axis=(1, 2))) <= A**5 * 4 * 2.0**-24


# --- scales


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(muon(0.1, eps=0.0), id="muon"),
        pytest.param(lamb(0.1, eps=0.0), id="lamb"),
        pytest.param(adafactor(0.1, eps=0.0), id="adafactor"),
    ],
)
def test_the_scale_of_the_gradient_does_not_matter(method):
    """With ε = 0 a loss in other units changes nothing; a power of 2 not one bit."""

    def path(gradients):
        return follow(method, lambda theta, t: jnp.asarray(gradients)[t - 1], np.ones((4, 6)), len(gradients))

    plain = path(MATRICES)
    np.testing.assert_array_equal(path(MATRICES * 2.0**20), plain)
    np.testing.assert_allclose(path(MATRICES * 1e-7), plain, rtol=0, atol=1e-11)
    assert np.max(np.abs(path(MATRICES**3) - plain)) > 0.1


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(lamb(0.05, eps=0.0), id="lamb"),
        pytest.param(adafactor(0.05, eps=0.0, eps_scale=0.0), id="adafactor"),
    ],
)
def test_steps_relative_to_the_parameter_carry_its_unit(method):
    """θ' = θ/s: the whole path is divided by s, as AdaDelta's and Newton's are, here at any steepness."""
    target = np.arange(6.0).reshape(2, 3) + 1

    def loss(theta):
        return jnp.sum(jnp.log(jnp.cosh(theta - target)))

    start = np.array([[0.9, -0.4, 1.5], [2.0, 7.0, 3.0]])
    path = minimize(method, loss, start, 200)
    other = minimize(method, lambda theta: loss(32.0 * theta), start / 32.0, 200)
    np.testing.assert_allclose(other * 32.0, path, rtol=1e-9)
    assert np.min(np.abs(path[-1] - path[0])) > 1e-3


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_lamb_steps_a_fraction_of_the_norm(weight_decay):
    """‖Δθ‖ = η ‖θ‖ in every step, whatever the gradients."""
    gradients = jnp.asarray(np.random.default_rng(26).standard_cauchy(size=(200, 3, 4)))
    method = lamb(0.01, weight_decay=weight_decay)
    path = follow(method, lambda theta, t: gradients[t - 1], np.ones((3, 4)), 200)
    norms = np.linalg.norm(path, axis=(1, 2))
    np.testing.assert_allclose(np.linalg.norm(np.diff(path, axis=0), axis=(1, 2)), 0.01 * norms[:-1], rtol=1e-12)


def test_lamb_without_a_norm_is_adam():
    """From 0 the first step has the ratio 1: Adam's η in each coordinate. And no gradient, no step."""
    np.testing.assert_allclose(one_step(lamb(1.0, eps=0.0), [3.0, -1e-3]), [1, -1], rtol=1e-12)
    still = follow(lamb(0.1), lambda theta, t: jnp.zeros_like(theta), np.ones(3), 5)
    np.testing.assert_array_equal(still, 1.0)


# --- Adafactor


def test_adafactor_of_a_rank_one_square_is_exact():
    """Where |g| = |cₜ| a bᵀ, row and column means lose nothing: the steps are those of the same numbers as a vector."""
    draw = np.random.default_rng(27)
    a, b = np.exp(draw.normal(size=(4, 1))), np.exp(draw.normal(size=(1, 6)))
    gradients = np.exp(draw.normal(size=(100, 1, 1))) * a * b * draw.choice([-1, 1], size=(100, 4, 6))
    method = adafactor(0.1, eps=0.0, eps_scale=1.0)
    factored, full = updates_for(method, gradients), updates_for(method, gradients.reshape(100, 24))
    np.testing.assert_allclose(factored.reshape(100, 24), full, rtol=1e-12)
    factored, full = updates_for(method, MATRICES), updates_for(method, MATRICES.reshape(50, 24))
    assert np.max(np.abs(factored.reshape(50, 24) - full)) > 0.01


def test_adafactor_keeps_row_and_column_means():
    """V̂ = R C/mean(R), the rank-one matrix of least I-divergence from V, has V's row and column means."""
    squares = MATRICES[0] ** 2
    direction = one_step(adafactor(1.0, eps=0.0, eps_scale=1.0, clip_threshold=1e9), MATRICES[0])
    estimate = (MATRICES[0] / direction) ** 2
    np.testing.assert_allclose(estimate.mean(axis=1), squares.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(estimate.mean(axis=0), squares.mean(axis=0), rtol=1e-12)
    assert np.linalg.matrix_rank(estimate, tol=1e-10) == 1


@pytest.mark.parametrize("threshold", [1.0, 0.5])
def test_adafactor_steps_are_clipped(threshold):
    """RMS(Δθ) ≤ max(ε₂, RMS(θ)) min(η, 1/√t) d, and reaches it: Cauchy gradients jump above what V̂ expects."""
    gradients = jnp.asarray(np.random.default_rng(28).standard_cauchy(size=(400, 3, 4)))
    method = adafactor(0.1, clip_threshold=threshold)
    path = follow(method, lambda theta, t: gradients[t - 1], np.ones((3, 4)), 400)
    rms = np.sqrt(np.mean(path**2, axis=(1, 2)))
    steps = np.sqrt(np.mean(np.diff(path, axis=0) ** 2, axis=(1, 2)))
    bound = np.maximum(1e-3, rms[:-1]) * np.minimum(0.1, 1 / np.sqrt(np.arange(1, 401))) * threshold
    assert np.all(steps <= bound * (1 + 1e-12))
    assert np.sum(steps >= bound * (1 - 1e-12)) > 20
    assert np.sum(steps < bound * 0.9) > 20


def test_adafactor_of_a_constant_gradient():
    """β̂₂ starts at 0 and needs no correction: V̂ = g² at every t, so that from 0 with ε₂ = 1 the step is min(η, 1/√t)."""
    t = np.arange(1, 401)
    steps = updates_for(adafactor(0.1, eps=0.0, eps_scale=1.0), np.full((400, 3), 5.0))
    np.testing.assert_allclose(steps, -np.minimum(0.1, 1 / np.sqrt(t))[:, None].repeat(3, axis=1), rtol=1e-12)


# --- ASGD


def with_averages(method, noise, theta):
    """Return the iterates on J = θ²/2 under noise, and the averages that the method keeps of them."""

    def step(carry, noise):
        theta, state = carry
        update, state = method.update(theta + noise, state, theta)
        theta = optax.apply_updates(theta, update)
        return (theta, state), (theta, optax.tree.get(state, "average"))

    @jax.jit
    def run(noise, theta):
        return jax.lax.scan(step, (theta, method.init(theta)), noise)[1]

    return [np.asarray(x) for x in run(jnp.asarray(noise), jnp.asarray(theta))]


def test_asgd_average_is_nearer_than_the_last_iterate():
    """J = θ²/2 with unit noise is an AR(1) process with r = 1 − η: variance of θ η/(2−η), of the mean of n its known sum.

    Polyak & Juditsky's 1/n, which no constant-rate iterate reaches: at η = 0.2 and n = 1,000, 1/9 against 1/1000.
    """
    eta, burn, n, copies = 0.2, 100, 1000, 1000
    noise = np.random.default_rng(29).normal(size=(burn + n, copies))
    method = asgd(eta, decay=0.0, start=float(burn - 1))
    theta, average = with_averages(method, noise, np.zeros(copies))
    np.testing.assert_allclose(average[:burn], theta[:burn], rtol=0, atol=1e-15)
    np.testing.assert_allclose(average[-1], theta[burn:].mean(axis=0), rtol=0, atol=1e-14)
    r = 1 - eta
    of_last = eta / (2 - eta)
    of_mean = of_last / n * ((1 + r) / (1 - r) - 2 * r * (1 - r**n) / (n * (1 - r) ** 2))
    # A variance of 1,000 copies has a standard error of 4.5 percent.
    np.testing.assert_allclose(np.mean(theta[-1] ** 2), of_last, rtol=0.18)
    np.testing.assert_allclose(np.mean(average[-1] ** 2), of_mean, rtol=0.18)
    assert np.mean(average[-1] ** 2) < np.mean(theta[-1] ** 2) / 100
    np.testing.assert_allclose(of_mean, 1 / n, rtol=0.01)


def test_asgd_decay_alone():
    """No gradient, α = 1: η_t = η/(1 + λη(t−1)) telescopes, ∏(1 − λη_t) = (1 − λη)/(1 + λη(t−1))."""
    rate, decay = 0.5, 0.4
    path = follow(asgd(rate, decay=decay, power=1.0), lambda theta, t: jnp.zeros_like(theta), np.ones(1), 200)
    t = np.arange(1, 201)
    # 1 − λη_t = (1 + λη(t−2))/(1 + λη(t−1)) from t = 2 on.
    np.testing.assert_allclose(path[1:, 0], (1 - decay * rate) / (1 + decay * rate * (t - 1)), rtol=1e-12)


# --- Rprop


def test_rprop_sees_signs_only():
    """Any positive factor in any coordinate and step, from 1e-100 to 1e100, changes not one bit."""
    draw = np.random.default_rng(30)
    gradients = draw.normal(size=(300, 8))
    plain = updates_for(rprop(0.1), gradients)
    np.testing.assert_array_equal(updates_for(rprop(0.1), gradients * 10.0 ** draw.uniform(-100, 100, (300, 8))), plain)
    np.testing.assert_array_equal(updates_for(rprop(0.1), np.sign(gradients)), plain)
    np.testing.assert_array_equal(updates_for(rprop(0.1), -gradients), -plain)


def test_rprop_does_not_feel_the_condition_number():
    """On an axis-aligned quadratic all curvatures from 1e-12 to 1 give the same path, to the same minimum."""
    curvature = np.logspace(-12, 0, 7)
    path = minimize(rprop(0.1), lambda theta: 0.5 * jnp.sum(curvature * theta**2), np.full(7, 3.0), 150)
    np.testing.assert_array_equal(path, path[:, :1].repeat(7, axis=1))
    assert np.all(np.abs(path[-1]) < 1e-5)


def test_rprop_step_sizes_grow_and_shrink_geometrically():
    """Constant sign: s₀ η⁺^(t−1) up to s_max. Alternating sign: a step, then none, each half the last, down to s_min."""
    t = np.arange(100)
    growing = -updates_for(rprop(0.1, step_max=3.0), np.ones(100))
    np.testing.assert_allclose(growing, np.minimum(0.1 * 1.2**t, 3.0), rtol=1e-12)
    turning = np.abs(updates_for(rprop(0.1, step_min=1e-4), (-1.0) ** t))
    np.testing.assert_array_equal(turning[1::2], 0)
    np.testing.assert_allclose(turning[::2], np.maximum(0.1 * 0.5 ** np.arange(50), 1e-4), rtol=1e-12)


# --- FTRL


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_ftrl_without_penalties_is_adagrad(beta):
    """From θ₀ = 0 the proximal terms telescope: θ ← θ − η g/(√n + β), Adagrad with β as its ε."""
    gradients = np.random.default_rng(31).normal(size=(300, 8)) * 10.0 ** np.arange(-3, 5)
    ours = follow(ftrl(0.3, beta=beta), lambda theta, t: jnp.asarray(gradients)[t - 1], np.zeros(8), 300)
    expected = np.cumsum(updates_for(adagrad(0.3, eps=beta, initial_accumulator=0.1), gradients), axis=0)
    np.testing.assert_allclose(ours[1:], expected, rtol=0, atol=1e-11)


def test_ftrl_minimizes_its_regularized_sum():
    """θ minimizes Σ gᵢθ + ½ Σ σᵢ(θ − θᵢ)² + ½ ((n₀^p + β)/η + λ₂) θ² + λ₁|θ|, over the whole history and without z."""
    eta, power, start, l1, l2, beta = 0.3, 0.6, 0.5, 2.0, 0.4, 0.7
    gradients = np.random.default_rng(32).normal(size=(200, 40))
    method = ftrl(eta, power=power, initial_accumulator=start, l1=l1, l2=l2, beta=beta)
    path = follow(method, lambda theta, t: jnp.asarray(gradients)[t - 1], np.zeros(40), 200)
    n = start + np.concatenate([np.zeros((1, 40)), np.cumsum(gradients**2, axis=0)])
    sigma = np.diff(n**power, axis=0) / eta
    zeros = 0
    for t in (1, 2, 10, 50, 200):
        theta = path[t]
        smooth = gradients[:t].sum(axis=0) + (sigma[:t] * (theta - path[:t])).sum(axis=0)
        smooth += ((start**power + beta) / eta + l2) * theta
        at_zero = theta == 0
        assert np.all(np.abs(smooth[at_zero]) <= l1 * (1 + 1e-12))
        np.testing.assert_allclose(smooth[~at_zero], -l1 * np.sign(theta[~at_zero]), rtol=1e-10)
        zeros += at_zero.sum()
    assert 0 < zeros < 5 * 40


def test_ftrl_keeps_exact_zeros_and_lets_go_of_them():
    """θ is 0.0, not merely small, until the sum of the gradients exceeds λ₁; then −(Σg − λ₁)η/√n. SGD's path never rests."""
    gradients = np.full((10, 1), 0.5)
    path = follow(
        ftrl(1.0, initial_accumulator=0.0, l1=2.0), lambda theta, t: jnp.asarray(gradients)[t - 1], np.zeros(1), 10
    )
    np.testing.assert_array_equal(path[:5], 0.0)  # sums ½, 1, 1½, 2
    np.testing.assert_allclose(path[5], -(2.5 - 2.0) / np.sqrt(5 * 0.25), rtol=1e-12)
    assert np.all(np.diff(path[4:, 0]) < 0)


def test_ftrl_forgets_a_start_that_is_not_zero():
    """z₀ = 0 stands for θ₀ = 0: of another θ₀ the first step keeps 1 − √(n₀/n), as Keras does."""
    path = follow(ftrl(0.1), lambda theta, t: jnp.full_like(theta, 2.0), np.array([5.0, -3.0]), 1)
    n = 0.1 + 4.0
    np.testing.assert_allclose(path[1], path[0] * (1 - np.sqrt(0.1 / n)) - 0.1 * 2 / np.sqrt(n), rtol=1e-12)


def test_ftrl_converges_at_a_constant_rate():
    """A cosine schedule, which the law of convergence uses, takes η to 0 and with it θ = −η z/√n, all of it."""
    target = np.array([1.0, -2.0, 0.5])

    def loss(theta):
        return 0.5 * jnp.sum((theta - target) ** 2)

    np.testing.assert_allclose(minimize(ftrl(1.0), loss, np.zeros(3), 500)[-1], target, rtol=1e-9)
    scheduled = minimize(ftrl(optax.cosine_decay_schedule(1.0, 501)), loss, np.zeros(3), 500)
    assert np.all(np.abs(scheduled[-1]) < 0.01)
    assert np.max(np.abs(scheduled[100] - target)) < 0.1
