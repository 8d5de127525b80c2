"""Schedule-Free AdamW (Defazio et al., 2024, "The road less scheduled", arXiv:2405.15682, Algorithm 1 with AdamW's step)."""

import numpy as np

from ._start import at, exact


def schedule_free_adamw(theta, gradient, steps, learning_rate, **options):
    """y = (1−β₁) z + β₁ x, where the gradient is taken.  The iterates are y."""
    return _trajectories(theta, gradient, steps, learning_rate, **options)[0]


def schedule_free_adamw_average(theta, gradient, steps, learning_rate, **options):
    """x ← (1−c) x + c z, beside the same y.  The iterates are x; row 0 is θ₀."""
    return _trajectories(theta, gradient, steps, learning_rate, **options)[1]


def _trajectories(
    theta,
    gradient,
    steps,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    warmup_steps=0,
    weight_decay=0.0,
    corrects_rate=True,
    uniform_weights=False,
    decays_x=False,
):
    """z ← z − γ_t (g / (√v + ε) + λ y) with γ_t = η √(1−β₂ᵗ) min(1, t/w), and c = γ_t² / Σ γ².

    Implementations leave the paper in three places. Without `corrects_rate` γ_t has no √(1−β₂ᵗ), and v is corrected
    instead, so that ε is on √v̂. With `uniform_weights` c = 1/t, whatever the rates are. With `decays_x` the decay, at the
    rate before the warmup, takes y alone along, which moves x and not z. Keras does all three.
    """
    x = z = y = exact(theta)
    v, weights = np.zeros(y.shape), 0.0
    ys, xs = [y], [x]
    for t in range(1, steps + 1):
        g = gradient(y, t)
        eta = at(learning_rate, t)
        rate = eta * min(1, t / warmup_steps) if warmup_steps else eta
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        v_hat = v if corrects_rate else v / (1 - b2**t)
        rate = rate * np.sqrt(1 - b2**t) if corrects_rate else rate
        if decays_x:
            x = x - eta * weight_decay * y / b1
        else:
            z = z - rate * weight_decay * y
        z = z - rate * g / (np.sqrt(v_hat) + eps)
        weight = 1 if uniform_weights else rate**2
        weights += weight
        x = x + weight / weights * (z - x)
        y = (1 - b1) * z + b1 * x
        ys.append(y)
        xs.append(x)
    return np.stack(ys), np.stack(xs)
