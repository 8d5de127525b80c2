"""Momentum, the heavy ball (Polyak, 1964, "Some methods of speeding up the convergence of iteration methods")."""

import numpy as np

from ._start import at, exact


def momentum(theta, gradient, steps, learning_rate, *, decay=0.9, dampening=0.0, learning_rate_inside=True):
    """Inside: v ← γ v + (1−τ) η g ; θ ← θ − v.  Outside: v ← γ v + (1−τ) g ; θ ← θ − η v.

    The dampening τ in [0, 1] leaves the first step alone, v₁ = g, as in PyTorch.
    """
    theta = exact(theta)
    v = np.zeros_like(theta)
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        eta = at(learning_rate, t)
        share = 1.0 if t == 1 else 1.0 - dampening
        if learning_rate_inside:
            v = decay * v + share * eta * g
            theta = theta - v
        else:
            v = decay * v + share * g
            theta = theta - eta * v
        path.append(theta)
    return np.stack(path)
