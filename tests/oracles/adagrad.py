"""Adagrad (Duchi, Hazan & Singer, 2011, "Adaptive subgradient methods", JMLR 12), with the diagonal matrix."""

import numpy as np

from ._start import at, exact


def adagrad(
    theta,
    gradient,
    steps,
    learning_rate,
    *,
    eps=1e-10,
    eps_root=0.0,
    initial_accumulator=0.0,
    learning_rate_decay=0.0,
):
    """G ← G + |g|² ; θ ← θ − η/(1 + (t−1) d) g / (√(G + eps_root) + eps), d = learning_rate_decay."""
    theta = exact(theta)
    G = np.full(theta.shape, float(initial_accumulator))
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        G = G + np.abs(g) ** 2
        eta = at(learning_rate, t) / (1 + (t - 1) * learning_rate_decay)
        theta = theta - eta * g / (np.sqrt(G + eps_root) + eps)
        path.append(theta)
    return np.stack(path)
