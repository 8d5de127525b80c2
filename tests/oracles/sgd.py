"""Stochastic gradient descent (Robbins & Monro, 1951, "A stochastic approximation method")."""

import numpy as np

from ._start import at, exact


def sgd(theta, gradient, steps, learning_rate, *, weight_decay=0.0):
    """θ ← θ − η (g + λ θ)."""
    theta = exact(theta)
    path = [theta]
    for t in range(1, steps + 1):
        theta = theta - at(learning_rate, t) * (gradient(theta, t) + weight_decay * theta)
        path.append(theta)
    return np.stack(path)
