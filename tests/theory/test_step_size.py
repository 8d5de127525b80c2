"""How long the steps are: Adam's true bound, bias correction, Adagrad's dying step."""

import numpy as np
import pytest

from jaxopt_lec import adadelta, adagrad, adam, rmsprop

from .follow import updates_for

B1, B2 = 0.9, 0.999


def adam_bound(t):
    """max |m̂_t|/√v̂_t over all gradients, by Cauchy-Schwarz on m = Σ β₁^(t−i) g_i against v = Σ β₂^(t−i) g_i².

    (1−β₁)/(1−β₁ᵗ) · √((1−β₂ᵗ)/(1−β₂)) · √((1−rᵗ)/(1−r)), r = β₁²/β₂.
    """
    r = B1**2 / B2
    return (1 - B1) / (1 - B1**t) * np.sqrt((1 - B2**t) / (1 - B2) * (1 - r**t) / (1 - r))


def test_adam_step_reaches_its_bound():
    """Equality is at g_i ∝ (β₂/β₁)ⁱ, at every t at once: gradients that grow by 11 percent a step."""
    t = np.arange(1, 1001)
    steps = updates_for(adam(0.01, B1, B2, 0.0), (B2 / B1) ** t)
    np.testing.assert_allclose(steps, -0.01 * adam_bound(t), rtol=1e-11)


def test_adam_step_is_more_than_seven_learning_rates():
    """t → ∞: (1−β₁)/√(1−β₂)/√(1−β₁²/β₂) = 7.27, more than the paper's (1−β₁)/√(1−β₂) = 3.16 (section 2.1)."""
    t = np.arange(1, 20001)
    limit = (1 - B1) / np.sqrt(1 - B2) / np.sqrt(1 - B1**2 / B2)
    assert 7.27 < limit < 7.271
    # So small for so long that the bias is gone and nothing of it is left in the averages.
    gradients = (B2 / B1) ** (np.maximum(t, 19000) - 20000.0)
    last = updates_for(adam(0.01, B1, B2, 0.0), gradients)[-1]
    np.testing.assert_allclose(last, -0.01 * limit, rtol=1e-8)


def test_a_gradient_after_silence():
    """The paper's (1−β₁)/√(1−β₂) is the step for one large gradient after a long time of none to speak of."""
    gradients = np.full(20000, 1e-20)
    gradients[-1] = 1.0
    last = updates_for(adam(0.01, B1, B2, 0.0), gradients)[-1]
    np.testing.assert_allclose(last, -0.01 * (1 - B1) / np.sqrt(1 - B2), rtol=1e-8)


def test_no_gradients_break_the_bound():
    """Heavy tails, jumps and growth: never above the bound of their step, which exceeds the learning rate from t = 2."""
    draw = np.random.default_rng(13)
    t = np.arange(1, 1001)
    gradients = np.stack(
        [
            draw.standard_cauchy(t.size),
            np.exp(3 * draw.normal(size=t.size)),
            1.05**t,
            1.3**t,
            np.where(t % 50 < 8, 1.11 ** (t % 50), 1e-3),
            np.sign(np.sin(t / 7.0)),
        ],
        axis=1,
    )
    sizes = np.abs(updates_for(adam(1.0, B1, B2, 0.0), gradients))
    assert np.all(sizes <= adam_bound(t)[:, None] * (1 + 1e-12))
    assert np.all(sizes.max(axis=0)[:5] > 1.4)


def test_bias_correction():
    """Constant gradient: each step is the learning rate. Uncorrected it is (1−β₁ᵗ)/√(1−β₂ᵗ) of them: 3.2, up to 6.5."""
    t = np.arange(1, 15001)
    gradients = np.full(t.size, 5.0)
    np.testing.assert_allclose(updates_for(adam(0.01, B1, B2, 0.0), gradients), -0.01, rtol=1e-10)
    bare = updates_for(adam(0.01, B1, B2, 0.0, bias_correction=False), gradients) / -0.01
    np.testing.assert_allclose(bare, (1 - B1**t) / np.sqrt(1 - B2**t), rtol=1e-10)
    assert bare[0] > 3.1
    assert bare.max() > 6.0
    assert abs(bare[-1] - 1) < 1e-6  # it fades


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_adagrad_dies_and_rmsprop_does_not(size):
    """Constant gradient: Adagrad's t-th step is η/√t, RMSProp's η/√(1−γᵗ), which goes to η."""
    t = np.arange(1, 2001)
    gradients = np.full(t.size, size)
    np.testing.assert_allclose(updates_for(adagrad(0.1, eps=0.0), gradients), -0.1 / np.sqrt(t), rtol=1e-11)
    np.testing.assert_allclose(updates_for(rmsprop(0.1, eps=0.0), gradients), -0.1 / np.sqrt(1 - 0.9**t), rtol=1e-11)


def test_adagrad_does_not_recover_and_rmsprop_does():
    """A thousand large gradients, then small ones: RMSProp forgets the large ones, Adagrad never does."""
    gradients = np.concatenate([np.full(1000, 100.0), np.full(1000, 0.01)])
    assert abs(updates_for(adagrad(0.1, eps=0.0), gradients)[-1]) < 1e-6
    np.testing.assert_allclose(updates_for(rmsprop(0.1, eps=0.0), gradients)[-1], -0.1, rtol=1e-11)


def test_adadelta_finds_its_own_step():
    """Constant gradient: it starts with √(ε/(1−ρ)); later Δ² = S + ε, so that S and Δ² grow by (1−ρ)ε a step."""
    rho, eps = 0.95, 1e-6
    # So large a gradient that ε is nothing beside G.
    steps = updates_for(adadelta(1.0, rho, eps), np.full(3000, 1e6))
    np.testing.assert_allclose(steps[0], -np.sqrt(eps / (1 - rho)), rtol=1e-12)
    np.testing.assert_allclose(np.diff(steps[1000:] ** 2), (1 - rho) * eps, rtol=1e-6)
