"""Nesterov's accelerated gradient.

Nesterov, 1983, "A method of solving a convex programming problem with convergence rate O(1/k²)", in the form of
Sutskever, Martens, Dahl & Hinton, 2013, "On the importance of initialization and momentum in deep learning", eq. 3-4.
"""

import numpy as np

from ._start import at, exact


def nesterov(theta, gradient, steps, learning_rate, *, decay=0.9, learning_rate_inside=True):
    """Inside: v ← γ v + η ∇J(θ − γ v) ; θ ← θ − v.  Outside: v ← γ v + ∇J(θ − η γ v) ; θ ← θ − η v.

    The iterates are θ. ``decay`` may be a function of the 0-based count; the look-ahead and the velocity of one step
    use the same γ.
    """
    theta = exact(theta)
    v = np.zeros_like(theta)
    path = [theta]
    for t in range(1, steps + 1):
        gamma, eta = at(decay, t), at(learning_rate, t)
        if learning_rate_inside:
            v = gamma * v + eta * gradient(theta - gamma * v, t)
            theta = theta - v
        else:
            v = gamma * v + gradient(theta - eta * gamma * v, t)
            theta = theta - eta * v
        path.append(theta)
    return np.stack(path)


def nesterov_look_ahead(phi, gradient, steps, learning_rate, *, decay=0.9, learning_rate_inside=True):
    """Inside: v ← γ v + η g ; φ ← φ − (γ v + η g).  Outside: v ← γ v + g ; φ ← φ − η (γ v + g).  g = ∇J(φ).

    The iterates are the look-ahead points φ = θ − γ v (outside: φ = θ − η γ v) of the same method; this is the form
    that PyTorch implements. Inside, the two forms agree for any schedule of η; outside, for a constant η only.
    """
    phi = exact(phi)
    v = np.zeros_like(phi)
    path = [phi]
    for t in range(1, steps + 1):
        g = gradient(phi, t)
        eta = at(learning_rate, t)
        if learning_rate_inside:
            v = decay * v + eta * g
            phi = phi - (decay * v + eta * g)
        else:
            v = decay * v + g
            phi = phi - eta * (decay * v + g)
        path.append(phi)
    return np.stack(path)
