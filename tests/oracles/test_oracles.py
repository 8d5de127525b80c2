"""The oracles against PyTorch and Optax in float64, and against numbers worked out by hand."""

import jax
import numpy as np
import optax
import pytest
import torch

from . import (
    adadelta,
    adagrad,
    adam,
    adamax,
    adamw,
    amsgrad,
    lion,
    momentum,
    nadam,
    nesterov,
    nesterov_look_ahead,
    newton,
    newton_cg,
    radam,
    rmsprop,
    sgd,
)

STEPS = 60
THETA = np.random.default_rng(0).normal(size=(3, 4))
# Sizes from 1e-2 to 1e2, so that a misplaced epsilon shows.
SCALE = 10.0 ** np.linspace(-2, 2, THETA.size).reshape(THETA.shape)
CURVATURE = np.linspace(0.1, 2.0, THETA.size).reshape(THETA.shape)
NOISE = np.random.default_rng(1).normal(size=(STEPS + 1, *THETA.shape)) * SCALE


def closed_loop(theta, t):
    """A noisy gradient that depends on where it is taken: a wrong iterate shows in all that follow."""
    return np.minimum(SCALE, 1.0) * CURVATURE * theta + NOISE[t]


def decayed(count):
    return 0.05 / (1 + 0.1 * count)


def close(ours, theirs, rtol=1e-12):
    """Relative to the largest entry of the coordinate's path: an iterate may pass through zero."""
    size = np.abs(theirs).max(axis=0)
    assert np.all(np.isfinite(ours))
    assert np.abs(theirs - theirs[0]).max() > 1e-3, "a path that goes nowhere compares nothing"
    np.testing.assert_array_less(np.abs(ours - theirs) / size, rtol)


@pytest.fixture(autouse=True)
def _torch_float64():
    # Some of torch's scalars (NAdam's product) are tensors of the default dtype.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def torch_path(method, learning_rate=0.05, gradient=closed_loop, theta=THETA, **arguments):
    p = torch.nn.Parameter(torch.tensor(theta))
    schedule = learning_rate if callable(learning_rate) else lambda count: learning_rate
    optimizer = method([p], lr=schedule(0), **arguments)
    path = [theta]
    for t in range(1, STEPS + 1):
        optimizer.param_groups[0]["lr"] = schedule(t - 1)
        p.grad = torch.tensor(gradient(path[-1], t))
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return np.stack(path)


def optax_path(transformation, gradient=closed_loop, theta=THETA):
    # Optax is not written for strict promotion, should that be on.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        p = jax.numpy.asarray(theta)
        state = transformation.init(p)
        update = jax.jit(transformation.update)
        path = [theta]
        for t in range(1, STEPS + 1):
            updates, state = update(jax.numpy.asarray(gradient(path[-1], t)), state, p)
            p = optax.apply_updates(p, updates)
            path.append(np.asarray(p))
    return np.stack(path)


RATES = [pytest.param(0.05, id="constant"), pytest.param(decayed, id="schedule")]
OPTIM = torch.optim


@pytest.mark.parametrize("learning_rate", RATES)
@pytest.mark.parametrize(
    ("oracle", "ours", "method", "theirs"),
    [
        (sgd, {}, OPTIM.SGD, {}),
        (momentum, {"learning_rate_inside": False}, OPTIM.SGD, {"momentum": 0.9}),
        (
            momentum,
            {"learning_rate_inside": False, "decay": 0.8, "dampening": 0.3},
            OPTIM.SGD,
            {"momentum": 0.8, "dampening": 0.3},
        ),
        (nesterov_look_ahead, {"learning_rate_inside": False}, OPTIM.SGD, {"momentum": 0.9, "nesterov": True}),
        (adagrad, {}, OPTIM.Adagrad, {}),
        (
            adagrad,
            {"initial_accumulator": 0.1, "eps": 1e-2},
            OPTIM.Adagrad,
            {"initial_accumulator_value": 0.1, "eps": 1e-2},
        ),
        (rmsprop, {"decay": 0.99}, OPTIM.RMSprop, {}),
        (rmsprop, {"eps": 1e-2}, OPTIM.RMSprop, {"alpha": 0.9, "eps": 1e-2}),
        (rmsprop, {"centered": True}, OPTIM.RMSprop, {"alpha": 0.9, "centered": True}),
        (rmsprop, {"momentum": 0.8}, OPTIM.RMSprop, {"alpha": 0.9, "momentum": 0.8}),
        (
            rmsprop,
            {"momentum": 0.8, "centered": True, "eps": 1e-2},
            OPTIM.RMSprop,
            {"alpha": 0.9, "momentum": 0.8, "centered": True, "eps": 1e-2},
        ),
        (adadelta, {}, OPTIM.Adadelta, {"rho": 0.95}),
        (adadelta, {"rho": 0.8, "eps": 1e-2}, OPTIM.Adadelta, {"rho": 0.8, "eps": 1e-2}),
        (adam, {}, OPTIM.Adam, {}),
        (adam, {"b1": 0.7, "b2": 0.9, "eps": 1e-2}, OPTIM.Adam, {"betas": (0.7, 0.9), "eps": 1e-2}),
        (adamw, {}, OPTIM.AdamW, {}),
        (adamw, {"weight_decay": 0.3, "eps": 1e-2}, OPTIM.AdamW, {"weight_decay": 0.3, "eps": 1e-2}),
        (amsgrad, {"b2": 0.8}, OPTIM.Adam, {"amsgrad": True, "betas": (0.9, 0.8)}),
        (amsgrad, {"eps": 1e-2}, OPTIM.Adam, {"amsgrad": True, "eps": 1e-2}),
        # PyTorch's epsilon is in the maximum: only without it are the two the same.
        (adamax, {"eps": 0.0}, OPTIM.Adamax, {"eps": 0.0}),
        (adamax, {"eps": 0.0, "b2": 0.7}, OPTIM.Adamax, {"eps": 0.0, "betas": (0.9, 0.7)}),
        (nadam, {}, OPTIM.NAdam, {}),
        (nadam, {"momentum_decay": 0.5, "eps": 1e-2}, OPTIM.NAdam, {"momentum_decay": 0.5, "eps": 1e-2}),
        # PyTorch adds epsilon to the uncorrected root.
        (radam, {"eps": 0.0, "threshold": 5.0}, OPTIM.RAdam, {"eps": 0.0}),
        (radam, {"eps": 0.0, "threshold": 5.0, "b2": 0.9}, OPTIM.RAdam, {"eps": 0.0, "betas": (0.9, 0.9)}),
    ],
)
def test_pytorch(oracle, ours, method, theirs, learning_rate):
    close(oracle(THETA, closed_loop, STEPS, learning_rate, **ours), torch_path(method, learning_rate, **theirs))


@pytest.mark.parametrize("learning_rate", RATES)
@pytest.mark.parametrize(
    ("oracle", "ours", "method", "theirs"),
    [
        (adam, {"eps": 1e-3, "eps_root": 1e-2}, optax.adam, {"eps": 1e-3, "eps_root": 1e-2}),
        (
            adamw,
            {"eps": 1e-3, "eps_root": 1e-2, "weight_decay": 0.1},
            optax.adamw,
            {"eps": 1e-3, "eps_root": 1e-2, "weight_decay": 0.1},
        ),
        (lion, {}, optax.lion, {"weight_decay": 0.0}),
        (lion, {"b1": 0.5, "b2": 0.8, "weight_decay": 0.1}, optax.lion, {"b1": 0.5, "b2": 0.8, "weight_decay": 0.1}),
        (adamax, {"eps": 0.0}, optax.adamax, {"eps": 0.0}),
        (radam, {"threshold": 5.0, "eps": 1e-3}, optax.radam, {"threshold": 5.0, "eps": 1e-3}),
        (adadelta, {"rho": 0.9}, optax.adadelta, {"rho": 0.9}),
        (
            adagrad,
            {"initial_accumulator": 0.1, "eps": 0.0, "eps_root": 1e-3},
            optax.adagrad,
            {"initial_accumulator_value": 0.1, "eps": 1e-3},
        ),
        (rmsprop, {"eps": 0.0, "eps_root": 1e-2}, optax.rmsprop, {"eps": 1e-2}),
        (
            rmsprop,
            {"eps": 0.0, "eps_root": 1e-2, "centered": True},
            optax.rmsprop,
            {"eps": 1e-2, "centered": True},
        ),
    ],
)
def test_optax(oracle, ours, method, theirs, learning_rate):
    close(oracle(THETA, closed_loop, STEPS, learning_rate, **ours), optax_path(method(learning_rate, **theirs)))


def complex_gradient(theta, t):
    return np.conj(NOISE[t] + 1j * NOISE[t, ::-1]) + 0.3 * theta


@pytest.mark.parametrize(
    ("oracle", "ours", "method", "theirs"),
    [
        (adam, {}, optax.adam, {}),
        (rmsprop, {"eps": 0.0, "eps_root": 1e-8, "centered": True}, optax.rmsprop, {"centered": True}),
        (lion, {}, optax.lion, {"weight_decay": 0.0}),
    ],
)
def test_complex(oracle, ours, method, theirs):
    theta = THETA + 1j * THETA[::-1]
    path = oracle(theta, complex_gradient, STEPS, 0.05, **ours)
    assert path.dtype == np.complex128
    close(path, optax_path(method(0.05, **theirs), complex_gradient, theta))


@pytest.mark.parametrize("oracle", [adadelta, adagrad, amsgrad, nadam, radam, adamax, adamw, momentum, nesterov, sgd])
def test_complex_follows_the_phase(oracle):
    """Turning every gradient and the start by one phase turns the path: only |g|² may enter the denominators."""
    phase = np.exp(0.7j)
    straight = oracle(THETA + 0j, lambda theta, t: NOISE[t] + 0.3 * theta, 20, 0.05)
    turned = oracle(phase * THETA, lambda theta, t: phase * NOISE[t] + 0.3 * theta, 20, 0.05)
    close(turned / phase, straight)


def test_rmsprop_divides_before_momentum():
    """By hand, γ = ½, μ = ½, g = 2: G = 2 and 3, u = √2 and 2/√3, b = √2 and √2/2 + 2/√3."""
    path = rmsprop([0.0], lambda theta, t: 2.0, 2, 1.0, decay=0.5, eps=0.0, momentum=0.5)
    np.testing.assert_allclose(path[:, 0], [0, -np.sqrt(2), -1.5 * np.sqrt(2) - 2 / np.sqrt(3)], rtol=1e-15)


def test_momentum_by_hand():
    """J = θ²/2 from θ = 1, γ = ½, η halved after the first step: the place of η shows in the second."""
    rates = [0.4, 0.2]
    gradient = lambda theta, t: theta  # noqa: E731
    # v: 0.4, 0.2 + 0.2·0.6 = 0.32
    inside = momentum([1.0], gradient, 2, rates.__getitem__, decay=0.5)
    np.testing.assert_allclose(inside[:, 0], [1, 0.6, 0.28], rtol=1e-15)
    # v: 1, 0.5 + 0.6 = 1.1
    outside = momentum([1.0], gradient, 2, rates.__getitem__, decay=0.5, learning_rate_inside=False)
    np.testing.assert_allclose(outside[:, 0], [1, 0.6, 0.38], rtol=1e-15)
    # dampening ½: v: 0.4, 0.2 + ½·0.2·0.6 = 0.26
    dampened = momentum([1.0], gradient, 2, rates.__getitem__, decay=0.5, dampening=0.5)
    np.testing.assert_allclose(dampened[:, 0], [1, 0.6, 0.34], rtol=1e-15)


def test_nesterov_by_hand():
    """J = θ²/2 from θ = 1, γ = ½, η = 0.4: v = 0.4, then 0.2 + 0.4·(0.6 − 0.2) = 0.36."""
    path = nesterov([1.0], lambda theta, t: theta, 2, 0.4, decay=0.5)
    np.testing.assert_allclose(path[:, 0], [1, 0.6, 0.24], rtol=1e-15)
    # γ = 0.5, then 0.25: v = 0.4, then 0.1 + 0.4·(0.6 − 0.1) = 0.3
    path = nesterov([1.0], lambda theta, t: theta, 2, 0.4, decay=[0.5, 0.25].__getitem__)
    np.testing.assert_allclose(path[:, 0], [1, 0.6, 0.3], rtol=1e-15)


@pytest.mark.parametrize(("inside", "learning_rate"), [(True, 0.05), (True, decayed), (False, 0.05)])
def test_nesterov_in_both_coordinates(inside, learning_rate):
    """θ = φ + γ v, with γ v = γ (θ_{t−1} − θ_t) read off the textbook path itself."""
    theta = nesterov(THETA, closed_loop, STEPS, learning_rate, learning_rate_inside=inside)
    phi = nesterov_look_ahead(THETA, closed_loop, STEPS, learning_rate, learning_rate_inside=inside)
    velocity = np.concatenate([np.zeros((1, *THETA.shape)), theta[:-1] - theta[1:]])
    close(phi + 0.9 * velocity, theta)


def test_adam_without_bias_correction():
    """By hand, first step with g = 1: m = 0.1, √v = √0.001, so θ = −0.1/√0.001 and not −1."""
    path = adam([0.0], lambda theta, t: 1.0, 1, 1.0, eps=0.0, bias_correction=False)
    np.testing.assert_allclose(path[1], -0.1 / np.sqrt(0.001), rtol=1e-14)


def test_amsgrad_keeps_the_uncorrected_maximum():
    """By hand, β₁ = 0, β₂ = ½, g = 4 then 0 then 2: v = 8, 4, 4; the maximum stays 8, and its correction fades."""
    gradients = [4.0, 0.0, 2.0]
    path = amsgrad([0.0], lambda theta, t: gradients[t - 1], 3, 1.0, b1=0.0, b2=0.5, eps=0.0)
    np.testing.assert_allclose(path[:, 0], [0, -1, -1, -1 - 2 / np.sqrt(8 / 0.875)], rtol=1e-15)
    letter = amsgrad([0.0], lambda theta, t: gradients[t - 1], 3, 1.0, b1=0.0, b2=0.5, eps=0.0, bias_correction=False)
    np.testing.assert_allclose(letter[:, 0], [0, -np.sqrt(2), -np.sqrt(2), -np.sqrt(2) - 2 / np.sqrt(8)], rtol=1e-15)


def test_radam_threshold():
    """ρ₅ = 4.996 at β₂ = 0.999: the paper's threshold of 4 rectifies in step 5, PyTorch's 5 does not."""
    paper = radam(THETA, closed_loop, 6, 0.05)
    pytorch = radam(THETA, closed_loop, 6, 0.05, threshold=5.0)
    np.testing.assert_array_equal(paper[:5], pytorch[:5])
    assert np.abs(paper[5] - pytorch[5]).max() > 1e-2


HESSIAN = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]])
SADDLE = np.diag([2.0, -4.0, 1e-30])


def test_newton_by_hand():
    theta = np.array([1.0, -2.0, 3.0])
    one = newton(theta, lambda theta, t: HESSIAN @ theta, lambda theta, t: HESSIAN, 1)
    np.testing.assert_allclose(one[1], 0, atol=1e-15)
    damped = newton([3.0], lambda theta, t: 2 * theta, lambda theta, t: np.array([[2.0]]), 1, 0.5, damping=1.0)
    np.testing.assert_allclose(damped[1], 3 - 0.5 * 6 / 3, rtol=1e-15)
    flat = newton([3.0], lambda theta, t: [2.0], lambda theta, t: [[0.0]], 1)
    np.testing.assert_array_equal(flat[1], [1.0])
    # At a saddle: down along the negative curvature, and a curvature of nothing divides by the floor 4·3·ε.
    saddle = newton(np.zeros(3), lambda theta, t: np.array([2.0, 4.0, 1e-20]), lambda theta, t: SADDLE, 1)
    np.testing.assert_allclose(saddle[1], [-1, -1, -1e-20 / (12 * np.finfo(float).eps)], rtol=1e-14)


def test_newton_cg_by_hand():
    theta = np.array([1.0, 1.0, 1.0])

    def gradient(theta, t):
        return HESSIAN @ theta

    def product(theta, vector, t):
        return HESSIAN @ vector

    # n iterations of exact conjugate gradients solve the system.
    np.testing.assert_allclose(newton_cg(theta, gradient, product, 1, tolerance=0.0, max_iterations=3)[1], 0, atol=1e-14)
    # One iteration is steepest descent with the exact line search.
    g = HESSIAN @ theta
    first = newton_cg(theta, gradient, product, 1, max_iterations=1)[1]
    np.testing.assert_allclose(first, theta - (g @ g) / (g @ HESSIAN @ g) * g, rtol=1e-15)
    # The default tolerance stops where ‖r‖ < ½‖g‖, here after that one iteration.
    assert np.linalg.norm(HESSIAN @ first) < 0.5 * np.linalg.norm(g)
    np.testing.assert_array_equal(newton_cg(theta, gradient, product, 1)[1], first)
    # Near the minimum the tolerance tightens, so that the rate is superlinear: ‖g'‖ ≤ ‖g‖^1.5.
    path = newton_cg(theta / 100, gradient, product, 3)
    norms = np.linalg.norm(path @ HESSIAN, axis=1)
    assert np.all(norms[1:] < norms[:-1] ** 1.5)


def test_newton_cg_at_negative_curvature():
    def product(theta, vector, t):
        return np.array([2.0, -4.0]) * vector

    # g = (1, 1): gᵀHg = −2, steepest descent at once.
    path = newton_cg(np.zeros(2), lambda theta, t: np.array([1.0, 1.0]), product, 1)
    np.testing.assert_array_equal(path[1], [-1, -1])
    # g = (2, 1): gᵀHg = 4, α = 5/4, z = (2.5, 1.25); r = (−3, 6); β = 9; d = (15, 15): curvature −450, stop at z.
    path = newton_cg(np.zeros(2), lambda theta, t: np.array([2.0, 1.0]), product, 1, tolerance=0.0)
    np.testing.assert_allclose(path[1], [-2.5, -1.25], rtol=1e-15)
