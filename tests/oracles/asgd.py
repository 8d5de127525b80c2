"""Averaged SGD (Polyak & Juditsky, 1992, "Acceleration of stochastic approximation by averaging").

The rate η (1 + λ η t)^(−α): Xu, 2011, "Towards optimal one pass large scale learning with averaged stochastic gradient
descent", arXiv:1107.2490.
"""

import numpy as np

from ._start import at, exact


def asgd(theta, gradient, steps, learning_rate, *, decay=1e-4, power=0.75, start=1e6):
    """θ ← θ − η_t (g + λ θ) ; η₁ = η, η_{t+1} = η (1 + λ η t)^(−α).  The iterates are θ."""
    return _trajectories(theta, gradient, steps, learning_rate, decay, power, start)[0]


def asgd_average(theta, gradient, steps, learning_rate, *, decay=1e-4, power=0.75, start=1e6):
    """θ̄ ← θ̄ + (θ − θ̄) / max(1, t − 1 − t₀), beside the same θ.  The iterates are θ̄; row 0 is θ₀."""
    return _trajectories(theta, gradient, steps, learning_rate, decay, power, start)[1]


def _trajectories(theta, gradient, steps, learning_rate, decay, power, start):
    theta = exact(theta)
    average = theta
    eta = at(learning_rate, 1)
    path, averages = [theta], [average]
    for t in range(1, steps + 1):
        theta = theta - eta * (gradient(theta, t) + decay * theta)
        count = t - 1 - start
        average = average + (theta - average) / count if count > 1 else theta
        # What acts in step t + 1 is made of step t's rate: so PyTorch, whose schedules therefore come one step late.
        eta = at(learning_rate, t) * (1 + decay * at(learning_rate, t) * t) ** -power
        path.append(theta)
        averages.append(average)
    return np.stack(path), np.stack(averages)
