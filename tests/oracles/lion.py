"""Lion (Chen et al., 2023, "Symbolic discovery of optimization algorithms", arXiv:2302.06675, Program 1)."""

import numpy as np

from ._start import at, exact


def lion(theta, gradient, steps, learning_rate, *, b1=0.9, b2=0.99, weight_decay=0.0):
    """u = sign(β₁ m + (1−β₁) g) ; θ ← θ − η (u + λ θ) ; m ← β₂ m + (1−β₂) g.  sign(z) = z/|z|, sign(0) = 0."""
    theta = exact(theta)
    m = np.zeros_like(theta)
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        c = b1 * m + (1 - b1) * g
        size = np.abs(c)
        u = np.where(size > 0, c / np.where(size > 0, size, 1.0), 0.0)
        theta = theta - at(learning_rate, t) * (u + weight_decay * theta)
        m = b2 * m + (1 - b2) * g
        path.append(theta)
    return np.stack(path)
