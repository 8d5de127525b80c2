"""AdaMax (Kingma & Ba, 2015, "Adam: a method for stochastic optimization", arXiv:1412.6980, Algorithm 2)."""

import numpy as np

from ._start import at, exact


def adamax(theta, gradient, steps, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, eps_max=0.0):
    """m ← β₁ m + (1−β₁) g ; w ← max(β₂ w, |g| + eps_max) ; θ ← θ − η m̂ / (w + eps), m̂ = m/(1−β₁ᵗ).

    w needs no correction. The paper has neither eps; PyTorch and Optax have eps_max.
    """
    theta = exact(theta)
    m = np.zeros_like(theta)
    w = np.zeros(theta.shape)
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        m = b1 * m + (1 - b1) * g
        w = np.maximum(b2 * w, np.abs(g) + eps_max)
        theta = theta - at(learning_rate, t) * m / (1 - b1**t) / (w + eps)
        path.append(theta)
    return np.stack(path)
