"""Stochastic gradient descent (Robbins & Monro, 1951, "A stochastic approximation method")."""

import numpy as np

from ._start import at, exact


def sgd(theta, gradient, steps, learning_rate):
    """θ ← θ − η g."""
    theta = exact(theta)
    path = [theta]
    for t in range(1, steps + 1):
        theta = theta - at(learning_rate, t) * gradient(theta, t)
        path.append(theta)
    return np.stack(path)
