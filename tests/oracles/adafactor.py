"""Adafactor (Shazeer & Stern, 2018, "Adafactor: adaptive learning rates with sublinear memory cost", arXiv:1804.04235)."""

import numpy as np

from ._start import at, exact


def adafactor(
    theta,
    gradient,
    steps,
    learning_rate,
    *,
    decay_power=0.8,
    eps=1e-30,
    eps_floor=0.0,
    eps_scale=1e-3,
    clip_threshold=1.0,
):
    """Algorithms 4 (matrices) and 5 (vectors), β̂₂ = 1 − t^(−decay_power), ρ = min(η, 1/√t), α = max(eps_scale, RMS(θ)) ρ.

    R, C ← β̂₂ R + (1−β̂₂) mean(|g|² + eps) along the last axis, and along the last but one ; V̂ = R C / mean(R).
    U = g/√V̂ ; Û = U / max(1, RMS(U)/d) ; θ ← θ − α Û. An array of more than two axes is a stack of matrices; RMS is of
    the whole array. The paper sums where this averages, which cancels. PyTorch has no eps: mean(R) ≥ eps_floor and
    V̂ ≥ eps_floor² instead.
    """
    theta = exact(theta)
    factored = theta.ndim >= 2
    R = C = V = 0.0
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        b2 = 1 - t**-decay_power
        square = np.abs(g) ** 2 + eps
        if factored:
            R = b2 * R + (1 - b2) * square.mean(axis=-1, keepdims=True)
            C = b2 * C + (1 - b2) * square.mean(axis=-2, keepdims=True)
            v_hat = R * C / np.maximum(R.mean(axis=-2, keepdims=True), eps_floor)
        else:
            V = b2 * V + (1 - b2) * square
            v_hat = V
        u = g / np.sqrt(np.maximum(v_hat, eps_floor**2))
        u = u / max(1.0, _rms(u) / clip_threshold)
        theta = theta - max(eps_scale, _rms(theta)) * min(at(learning_rate, t), 1 / np.sqrt(t)) * u
        path.append(theta)
    return np.stack(path)


def _rms(x):
    return np.sqrt(np.mean(np.abs(x) ** 2))
