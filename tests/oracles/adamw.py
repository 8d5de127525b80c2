"""AdamW (Loshchilov & Hutter, 2019, "Decoupled weight decay regularization", arXiv:1711.05101, Algorithm 2)."""

import numpy as np

from ._start import at, exact


def adamw(
    theta,
    gradient,
    steps,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    weight_decay=1e-2,
    bias_correction=True,
):
    """Adam's u = m̂ / (√(v̂ + eps_root) + eps) ; θ ← θ − η (u + λ θ), with θ from before the step.

    The paper's schedule multiplier η_t multiplies the decay and its α does not; here one η does both, as in PyTorch.
    """
    theta = exact(theta)
    m = np.zeros_like(theta)
    v = np.zeros(theta.shape)
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        m_hat = m / (1 - b1**t) if bias_correction else m
        v_hat = v / (1 - b2**t) if bias_correction else v
        u = m_hat / (np.sqrt(v_hat + eps_root) + eps)
        theta = theta - at(learning_rate, t) * (u + weight_decay * theta)
        path.append(theta)
    return np.stack(path)
