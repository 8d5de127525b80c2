"""LAMB (You et al., 2020, "Large batch optimization for deep learning: training BERT in 76 minutes", arXiv:1904.00962)."""

import numpy as np

from ._start import at, exact


def lamb(theta, gradient, steps, learning_rate, *, b1=0.9, b2=0.999, eps=1e-6, eps_root=0.0, weight_decay=0.0):
    """Algorithm 2, φ the identity: Adam's u = m̂/(√(v̂ + eps_root) + eps) ; r = u + λ θ ; θ ← θ − η (‖θ‖/‖r‖) r.

    m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ). Norms are of the whole array; where one of them is 0 the ratio is 1.
    """
    theta = exact(theta)
    m = np.zeros_like(theta)
    v = np.zeros(theta.shape)
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        r = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps) + weight_decay * theta
        theta_norm, r_norm = np.linalg.norm(theta), np.linalg.norm(r)
        ratio = theta_norm / r_norm if theta_norm > 0 and r_norm > 0 else 1.0
        theta = theta - at(learning_rate, t) * ratio * r
        path.append(theta)
    return np.stack(path)
