"""The oracles against PyTorch and Optax in float64, and against numbers worked out by hand."""

import jax
import numpy as np
import optax
import pytest

from . import (
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    amsgrad,
    asgd,
    asgd_average,
    ftrl,
    lamb,
    lion,
    momentum,
    muon,
    nadam,
    nesterov,
    nesterov_look_ahead,
    newton,
    newton_cg,
    radam,
    rmsprop,
    rprop,
    sgd,
)
from .muon import newton_schulz

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


@pytest.fixture
def torch():
    """PyTorch, where it is installed, with float64 as its default dtype: NAdam's product is a tensor of that."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


def torch_path(torch, method, learning_rate=0.05, gradient=closed_loop, theta=THETA, *, slot=None, **arguments):
    """Return the iterates, or what the optimizer keeps under the name `slot`, theta before the first step."""
    p = torch.nn.Parameter(torch.tensor(theta))
    schedule = learning_rate if callable(learning_rate) else lambda count: learning_rate
    optimizer = getattr(torch.optim, method)([p], lr=schedule(0), **arguments)
    path, kept = [theta], [theta]
    for t in range(1, STEPS + 1):
        optimizer.param_groups[0]["lr"] = schedule(t - 1)
        p.grad = torch.tensor(gradient(path[-1], t))
        optimizer.step()
        path.append(p.detach().numpy().copy())
        if slot:
            kept.append(optimizer.state[p][slot].numpy().copy())
    return np.stack(kept if slot else path)


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


@pytest.mark.thorough
@pytest.mark.parametrize("learning_rate", RATES)
@pytest.mark.parametrize(
    ("oracle", "ours", "method", "theirs"),
    [
        (sgd, {}, "SGD", {}),
        (momentum, {"learning_rate_inside": False}, "SGD", {"momentum": 0.9}),
        (
            momentum,
            {"learning_rate_inside": False, "decay": 0.8, "dampening": 0.3},
            "SGD",
            {"momentum": 0.8, "dampening": 0.3},
        ),
        (
            momentum,
            {"learning_rate_inside": False, "decay": 0.8, "dampening": 1.0},
            "SGD",
            {"momentum": 0.8, "dampening": 1.0},
        ),
        (nesterov_look_ahead, {"learning_rate_inside": False}, "SGD", {"momentum": 0.9, "nesterov": True}),
        (adagrad, {}, "Adagrad", {}),
        (
            adagrad,
            {"initial_accumulator": 0.1, "eps": 1e-2},
            "Adagrad",
            {"initial_accumulator_value": 0.1, "eps": 1e-2},
        ),
        (adagrad, {"learning_rate_decay": 0.2}, "Adagrad", {"lr_decay": 0.2}),
        (rmsprop, {"decay": 0.99}, "RMSprop", {}),
        (rmsprop, {"eps": 1e-2}, "RMSprop", {"alpha": 0.9, "eps": 1e-2}),
        (rmsprop, {"centered": True}, "RMSprop", {"alpha": 0.9, "centered": True}),
        (rmsprop, {"momentum": 0.8}, "RMSprop", {"alpha": 0.9, "momentum": 0.8}),
        (
            rmsprop,
            {"momentum": 0.8, "centered": True, "eps": 1e-2},
            "RMSprop",
            {"alpha": 0.9, "momentum": 0.8, "centered": True, "eps": 1e-2},
        ),
        (adadelta, {}, "Adadelta", {"rho": 0.95}),
        (adadelta, {"rho": 0.8, "eps": 1e-2}, "Adadelta", {"rho": 0.8, "eps": 1e-2}),
        (adam, {}, "Adam", {}),
        (adam, {"b1": 0.7, "b2": 0.9, "eps": 1e-2}, "Adam", {"betas": (0.7, 0.9), "eps": 1e-2}),
        (adamw, {}, "AdamW", {}),
        (adamw, {"weight_decay": 0.3, "eps": 1e-2}, "AdamW", {"weight_decay": 0.3, "eps": 1e-2}),
        (amsgrad, {"b2": 0.8}, "Adam", {"amsgrad": True, "betas": (0.9, 0.8)}),
        (amsgrad, {"eps": 1e-2}, "Adam", {"amsgrad": True, "eps": 1e-2}),
        (adamax, {"eps": 0.0, "eps_max": 1e-8}, "Adamax", {}),
        (adamax, {"eps": 0.0, "eps_max": 0.5, "b2": 0.7}, "Adamax", {"eps": 0.5, "betas": (0.9, 0.7)}),
        (nadam, {}, "NAdam", {}),
        (nadam, {"momentum_decay": 0.5, "eps": 1e-2}, "NAdam", {"momentum_decay": 0.5, "eps": 1e-2}),
        # PyTorch adds epsilon to the uncorrected root.
        (radam, {"eps": 0.0, "eps_hat": 1e-8, "threshold": 5.0}, "RAdam", {}),
        (
            radam,
            {"eps": 0.0, "eps_hat": 0.1, "threshold": 5.0, "b2": 0.9},
            "RAdam",
            {"eps": 0.1, "betas": (0.9, 0.9)},
        ),
        (rprop, {}, "Rprop", {}),
        (
            rprop,
            {"eta_minus": 0.3, "eta_plus": 1.7, "step_min": 0.02, "step_max": 0.1},
            "Rprop",
            {"etas": (0.3, 1.7), "step_sizes": (0.02, 0.1)},
        ),
        (asgd, {}, "ASGD", {}),
        (asgd, {"decay": 0.3, "power": 0.6}, "ASGD", {"lambd": 0.3, "alpha": 0.6}),
    ],
)
def test_pytorch(torch, oracle, ours, method, theirs, learning_rate):
    close(oracle(THETA, closed_loop, STEPS, learning_rate, **ours), torch_path(torch, method, learning_rate, **theirs))


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
        (adamax, {"eps": 0.0, "eps_max": 0.5}, optax.adamax, {"eps": 0.5}),
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
        (lamb, {}, optax.lamb, {}),
        (
            lamb,
            {"b1": 0.7, "eps": 1e-3, "eps_root": 1e-2, "weight_decay": 0.3},
            optax.lamb,
            {"b1": 0.7, "eps": 1e-3, "eps_root": 1e-2, "weight_decay": 0.3},
        ),
        # With Nesterov's momentum Optax corrects a bias as NAdam does, which moves the direction; its ε is beside the
        # average, (1−μ) times the size of the sum.
        (muon, {"nesterov": False, "eps": 0.0}, optax.contrib.muon, {"nesterov": False, "eps": 0.0}),
        (
            muon,
            {"nesterov": False, "eps": 0.0, "weight_decay": 0.3, "adjust": "match_rms", "rms_rate": 0.4},
            optax.contrib.muon,
            {"nesterov": False, "eps": 0.0, "weight_decay": 0.3, "consistent_rms": 0.4},
        ),
    ],
)
def test_optax(oracle, ours, method, theirs, learning_rate):
    close(oracle(THETA, closed_loop, STEPS, learning_rate, **ours), optax_path(method(learning_rate, **theirs)))


def test_optax_adafactor():
    """Its alias has β̂₂ in float32, so here are its parts; it has no 1/√t, which is above η in the first 400 steps."""
    transformation = optax.chain(
        optax.scale_by_factored_rms(
            min_dim_size_to_factor=1, epsilon=1e-3, decay_rate_fn=lambda count, _: 1 - (count + 1.0) ** -0.6
        ),
        optax.clip_by_block_rms(1.2),
        optax.scale_by_param_block_rms(),
        optax.scale(-0.05),
    )
    ours = adafactor(THETA, closed_loop, STEPS, 0.05, eps=1e-3, decay_power=0.6, clip_threshold=1.2)
    close(ours, optax_path(transformation))


def in_shape(*shape):
    """The same start and gradients in another shape."""

    def gradient(theta, t):
        return closed_loop(theta.reshape(THETA.shape), t).reshape(shape)

    return THETA.reshape(shape), gradient


@pytest.mark.thorough
@pytest.mark.parametrize("learning_rate", RATES)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"eps_floor": np.finfo(float).eps}, {}),
        (
            {"eps_floor": 0.5, "eps_scale": 0.8, "clip_threshold": 1.1, "decay_power": 0.6},
            {"eps": (0.5, 0.8), "d": 1.1, "beta2_decay": -0.6},
        ),
    ],
)
@pytest.mark.parametrize("shape", [(), (12,), (3, 4), (2, 3, 2)])
def test_pytorch_adafactor(torch, shape, ours, theirs, learning_rate):
    theta, gradient = in_shape(*shape) if shape else (THETA[0, 0], lambda theta, t: np.asarray(NOISE[t, 0, 0]))
    expected = torch_path(torch, "Adafactor", learning_rate, gradient, theta, **theirs)
    close(adafactor(theta, gradient, STEPS, learning_rate, eps=0.0, **ours), expected)


@pytest.mark.thorough
@pytest.mark.parametrize("learning_rate", RATES)
def test_pytorch_asgd_average(torch, learning_rate):
    arguments = {"decay": 0.3, "power": 0.6, "start": 10}
    average = asgd_average(THETA, closed_loop, STEPS, learning_rate, **arguments)
    close(average, torch_path(torch, "ASGD", learning_rate, slot="ax", lambd=0.3, alpha=0.6, t0=10))
    # The average of the iterates from step 12 on, and before that the iterate itself.
    path = asgd(THETA, closed_loop, STEPS, learning_rate, **arguments)
    np.testing.assert_array_equal(average[:13], path[:13])
    close(average[12:], np.cumsum(path[12:], axis=0) / np.arange(1, STEPS - 10)[:, None, None])


@pytest.mark.thorough
@pytest.mark.parametrize("learning_rate", RATES)
@pytest.mark.parametrize("shape", [(3, 4), (6, 2)])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"eps_floor": 400.0}, {"eps": 20.0}),  # beside the average, (1−μ) = 1/20 times the sum
        ({"adjust": "match_rms", "nesterov": False}, {"adjust_lr_fn": "match_rms_adamw", "nesterov": False}),
    ],
)
def test_pytorch_muon(torch, shape, ours, theirs, learning_rate, monkeypatch):
    # PyTorch orthogonalizes in bfloat16, and that in place; here on a copy in float64.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    theta, gradient = in_shape(*shape)
    expected = torch_path(torch, "Muon", learning_rate, gradient, theta, weight_decay=0.3, **{"eps": 0.0, **theirs})
    close(muon(theta, gradient, STEPS, learning_rate, weight_decay=0.3, eps=0.0, output_axis=-2, **ours), expected)


@pytest.fixture
def keras(monkeypatch):
    """Keras on JAX, in float64."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # read at the first import
    keras = pytest.importorskip("keras")
    from keras.src.backend.common import dtypes

    # Keras promotes float64 to float32 in means and norms, except with TensorFlow.
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")

    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield keras
    keras.config.set_floatx(before)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("oracle", "ours", "name", "theirs"),
    [
        (adam, {"eps": 0.0, "eps_hat": 0.1}, "Adam", {"epsilon": 0.1}),
        (amsgrad, {"eps": 0.0, "eps_hat": 0.1, "b2": 0.8}, "Adam", {"epsilon": 0.1, "beta_2": 0.8, "amsgrad": True}),
        (adafactor, {}, "Adafactor", {}),
        (
            adafactor,
            {"eps": 1e-3, "eps_scale": 0.8, "clip_threshold": 1.1, "decay_power": 0.6},
            "Adafactor",
            {"epsilon_1": 1e-3, "epsilon_2": 0.8, "clip_threshold": 1.1, "beta_2_decay": -0.6},
        ),
        (ftrl, {}, "Ftrl", {}),
        # Keras halves both L2 penalties.
        (
            ftrl,
            {"power": 0.7, "initial_accumulator": 0.3, "l1": 0.5, "l2": 0.4, "l2_shrinkage": 0.2, "beta": 0.6},
            "Ftrl",
            {
                "learning_rate_power": -0.7,
                "initial_accumulator_value": 0.3,
                "l1_regularization_strength": 0.5,
                "l2_regularization_strength": 0.2,
                "l2_shrinkage_regularization_strength": 0.1,
                "beta": 0.6,
            },
        ),
        (lamb, {"eps": 1e-7}, "Lamb", {}),
        (lamb, {"eps": 1e-2, "b1": 0.7}, "Lamb", {"epsilon": 1e-2, "beta_1": 0.7}),
        (muon, {"adjust": "match_rms", "weight_decay": 0.3}, "Muon", {"weight_decay": 0.3}),
        (
            muon,
            {"adjust": "none", "nesterov": False, "decay": 0.7, "steps": 3},
            "Muon",
            {"rms_rate": None, "nesterov": False, "momentum": 0.7, "ns_steps": 3, "weight_decay": None},
        ),
    ],
)
def test_keras(oracle, ours, name, theirs, keras):
    variable = keras.Variable(THETA, dtype="float64")
    optimizer = getattr(keras.optimizers, name)(learning_rate=decayed(0), **theirs)
    path, steps = [THETA], 15
    for t in range(1, steps + 1):
        optimizer.learning_rate = decayed(t - 1)
        optimizer.apply([keras.ops.convert_to_tensor(closed_loop(path[-1], t))], [variable])
        path.append(np.asarray(variable))
    close(oracle(THETA, closed_loop, steps, decayed, **ours), np.stack(path))


def complex_gradient(theta, t):
    return np.conj(NOISE[t] + 1j * NOISE[t, ::-1]) + 0.3 * theta


@pytest.mark.parametrize(
    ("oracle", "ours", "method", "theirs"),
    [
        (adam, {}, optax.adam, {}),
        (rmsprop, {"eps": 0.0, "eps_root": 1e-8, "centered": True}, optax.rmsprop, {"centered": True}),
        (lion, {}, optax.lion, {"weight_decay": 0.0}),
        (lamb, {"weight_decay": 0.1}, optax.lamb, {"weight_decay": 0.1}),
        (muon, {"nesterov": False, "eps": 0.0}, optax.contrib.muon, {"nesterov": False, "eps": 0.0}),
    ],
)
def test_complex(oracle, ours, method, theirs):
    theta = THETA + 1j * THETA[::-1]
    path = oracle(theta, complex_gradient, STEPS, 0.05, **ours)
    assert path.dtype == np.complex128
    close(path, optax_path(method(0.05, **theirs), complex_gradient, theta))


@pytest.mark.parametrize(
    "oracle",
    [adadelta, adafactor, adagrad, amsgrad, asgd, lamb, muon, nadam, radam, adamax, adamw, momentum, nesterov, sgd],
)
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


def test_adam_epsilons_have_their_places():
    """By hand, g = 4, β₂ = ¾, first step: m̂ = 4, v = 4, 1−β₂ = ¼: ε = 1 makes 4/(4+1), ε̂ = 1 makes 4/(4+2)."""
    for method in (adam, amsgrad):
        for arguments, step in [({"eps": 1.0}, 4 / 5), ({"eps": 0.0, "eps_root": 9.0}, 4 / 5), ({"eps_hat": 1.0}, 4 / 6)]:
            path = method([0.0], lambda theta, t: 4.0, 1, 1.0, b2=0.75, **{"eps": 0.0, **arguments})
            np.testing.assert_allclose(path[1], -step, rtol=1e-15)


def test_rprop_by_hand():
    """g = 1, 2, −1, −1, −1, 0, −1: after the turn one step is left out, and a gradient of 0 keeps the size."""
    gradients = [1.0, 2.0, -1.0, -1.0, -1.0, 0.0, -1.0]
    path = rprop([0.0], lambda theta, t: gradients[t - 1], 7, 1.0, eta_minus=0.25, eta_plus=2.0)
    # s: 1, 2, ½, ½, 1, 1, 1
    np.testing.assert_array_equal(np.diff(path[:, 0]), [-1, -2, 0, 0.5, 1, 0, 1])


def test_asgd_by_hand():
    """η = 1, λ = 1, α = 1, g = 0: η_t = 1, ½, ⅓, so θ dies in the first step; with λ = ½: 1, ⅔, ½ halve, ⅔ and ¾ it."""
    assert np.all(asgd([1.0], lambda theta, t: 0.0, 3, 1.0, decay=1.0, power=1.0)[1:] == 0)
    path = asgd([1.0], lambda theta, t: 0.0, 3, 1.0, decay=0.5, power=1.0)
    np.testing.assert_allclose(path[:, 0], [1, 1 / 2, 1 / 3, 1 / 4], rtol=1e-15)
    # From t₀ = 0 the divisors are 1, 1, 2: the average of the last two.
    average = asgd_average([1.0], lambda theta, t: 0.0, 3, 1.0, decay=0.5, power=1.0, start=0)
    np.testing.assert_allclose(average[:, 0], [1, 1 / 2, 1 / 3, 7 / 24], rtol=1e-15)


def test_adafactor_by_hand():
    """g = [[3, 4], [0, 5]]: R = 25/2, 25/2; C = 9/2, 41/2; mean 25/2; V̂ = both rows C. RMS(θ) = 2, no clipping."""
    theta = np.full((2, 2), 2.0)
    g = np.array([[3.0, 4.0], [0.0, 5.0]])
    path = adafactor(theta, lambda theta, t: g, 1, 0.5, eps=0.0, clip_threshold=10.0)
    expected = g / np.sqrt([9 / 2, 41 / 2])
    np.testing.assert_allclose(path[1], theta - 2 * 0.5 * expected, rtol=1e-15)
    clipped = adafactor(theta, lambda theta, t: g, 1, 0.5, eps=0.0, clip_threshold=0.5)
    np.testing.assert_allclose(np.sqrt(np.mean((clipped[1] - theta) ** 2)), 2 * 0.5 * 0.5, rtol=1e-15)
    # From nothing the step is eps_scale ρ; and ρ falls below η once 1/√t does.
    from_zero = adafactor([0.0], lambda theta, t: 1.0, 9, 0.5, eps_scale=1.0)
    np.testing.assert_allclose(-np.diff(from_zero[:, 0])[:4], [0.5, 0.5, 0.5, 0.5 * 1.5], rtol=1e-15)
    np.testing.assert_allclose(np.diff(from_zero[:, 0])[8] / from_zero[8, 0], 1 / 3, rtol=1e-15)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_newton_schulz_is_a_polynomial_of_the_singular_values(shape):
    X = np.random.default_rng(4).normal(size=shape)
    U, sigma, Vh = np.linalg.svd(X / np.linalg.norm(X), full_matrices=False)
    raised = 3.4445 * sigma - 4.7750 * sigma**3 + 2.0315 * sigma**5
    ours = newton_schulz(X / np.linalg.norm(X), (3.4445, -4.7750, 2.0315), 1)
    np.testing.assert_allclose(ours, U * raised @ Vh, atol=1e-15)


def test_muon_by_hand():
    """Coefficients (1, 0, 0) leave x/‖x‖: v = 3, then ½·3 + 4; a tall matrix has the factor √2, a wide one none."""
    gradients = [np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]])]
    arguments = {"decay": 0.5, "coefficients": (1.0, 0.0, 0.0), "eps": 0.0}
    plain = muon(np.zeros((1, 2)), lambda theta, t: gradients[t - 1], 2, 1.0, nesterov=False, adjust="none", **arguments)
    np.testing.assert_allclose(np.diff(plain, axis=0)[:, 0], [[-1, 0], -np.array([1.5, 4]) / np.hypot(1.5, 4)], rtol=1e-15)
    ahead = muon(np.zeros((1, 2)), lambda theta, t: gradients[t - 1], 2, 1.0, adjust="none", **arguments)
    np.testing.assert_allclose(np.diff(ahead, axis=0)[1, 0], -np.array([0.75, 6]) / np.hypot(0.75, 6), rtol=1e-15)
    for axis, factor in [(-1, np.sqrt(2)), (-2, 1.0)]:
        path = muon(np.zeros((1, 2)), lambda theta, t: gradients[0], 1, 1.0, output_axis=axis, **arguments)
        np.testing.assert_allclose(path[1], [[-factor, 0]], rtol=1e-15)


def test_ftrl_by_hand():
    """n₀ = 0, p = ½, g = 3 then 4, η = 1: n = 9, 25; z = 3, then 3 + 4 − (5−3)·θ₁; θ₁ = −(3 − λ₁)/3."""
    gradients = [3.0, 4.0]
    path = ftrl([0.0], lambda theta, t: gradients[t - 1], 2, 1.0, initial_accumulator=0.0)
    np.testing.assert_allclose(path[:, 0], [0, -1, -9 / 5], rtol=1e-15)
    lasso = ftrl([0.0], lambda theta, t: gradients[t - 1], 2, 1.0, initial_accumulator=0.0, l1=1.5)
    np.testing.assert_allclose(lasso[:, 0], [0, -1 / 2, -(8 - 1.5) / 5], rtol=1e-15)
    asleep = ftrl([0.0], lambda theta, t: gradients[t - 1], 2, 1.0, initial_accumulator=0.0, l1=7.0)
    np.testing.assert_array_equal(asleep[:, 0], 0)
    ridge = ftrl([0.0], lambda theta, t: 3.0, 1, 0.5, initial_accumulator=0.0, beta=2.0, l2=5.0)
    np.testing.assert_allclose(ridge[1], -3 / ((3 + 2) / 0.5 + 5), rtol=1e-15)


def test_lamb_by_hand():
    """θ = (3, 4), g = (1, −1), λ = ¼: u = (1, −1), r = (7/4, 0), so the step is 5 η along the first axis."""
    theta = np.array([3.0, 4.0])
    path = lamb(theta, lambda theta, t: np.array([1.0, -1.0]), 1, 0.1, eps=0.0, weight_decay=0.25)
    np.testing.assert_allclose(path[1], [2.5, 4], rtol=1e-15)
    # At the origin the ratio is 1.
    np.testing.assert_allclose(lamb([0.0], lambda theta, t: 7.0, 1, 0.1, eps=0.0)[1], -0.1, rtol=1e-15)


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
