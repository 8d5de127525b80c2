"""Adam (Kingma & Ba, 2015, "Adam: a method for stochastic optimization", arXiv:1412.6980, Algorithm 1)."""

import numpy as np

from ._start import at, exact


def adam(theta, gradient, steps, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, bias_correction=True):
    """m ← β₁ m + (1−β₁) g ; v ← β₂ v + (1−β₂)|g|² ; θ ← θ − η m̂ / (√(v̂ + eps_root) + eps).

    m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ); without bias correction m̂ = m, v̂ = v.
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
        theta = theta - at(learning_rate, t) * m_hat / (np.sqrt(v_hat + eps_root) + eps)
        path.append(theta)
    return np.stack(path)
