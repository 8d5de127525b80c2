"""Adagrad (Duchi, Hazan & Singer, 2011, "Adaptive subgradient methods", JMLR 12), with the diagonal matrix."""

import numpy as np

from ._start import at, exact


def adagrad(theta, gradient, steps, learning_rate, *, eps=1e-10, eps_root=0.0, initial_accumulator=0.0):
    """G ← G + |g|² ; θ ← θ − η g / (√(G + eps_root) + eps)."""
    theta = exact(theta)
    G = np.full(theta.shape, float(initial_accumulator))
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        G = G + np.abs(g) ** 2
        theta = theta - at(learning_rate, t) * g / (np.sqrt(G + eps_root) + eps)
        path.append(theta)
    return np.stack(path)
