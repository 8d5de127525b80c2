"""Rprop (Riedmiller & Braun, 1993), as iRprop− (Igel & Hüsken, 2000, "Improving the Rprop learning algorithm")."""

import numpy as np

from ._start import at, exact


def rprop(theta, gradient, steps, learning_rate, *, eta_minus=0.5, eta_plus=1.2, step_min=1e-6, step_max=50.0):
    """c = g g_prev ; s ← clip(s·(η⁺ | 1 | η⁻), s_min, s_max) for c > 0, = 0, < 0 ; g ← 0 where c < 0.

    θ ← θ − sign(g) s ; g_prev ← g. The learning rate is s₀, and nothing else. The gradient that turned is forgotten, so
    that the next step is taken with the shrunken s; there is no way back to the point before.
    """
    theta = exact(theta)
    s = np.full(theta.shape, float(at(learning_rate, 1)))
    previous = np.zeros_like(theta)
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        agreement = np.sign(g) * np.sign(previous)
        s = np.clip(s * np.select([agreement > 0, agreement < 0], [eta_plus, eta_minus], 1.0), step_min, step_max)
        g = np.where(agreement < 0, 0.0, g)
        theta = theta - np.sign(g) * s
        previous = g
        path.append(theta)
    return np.stack(path)
