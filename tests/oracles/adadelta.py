"""AdaDelta (Zeiler, 2012, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, Algorithm 1)."""

import numpy as np

from ._start import at, exact


def adadelta(theta, gradient, steps, learning_rate=1.0, *, rho=0.95, eps=1e-6):
    """G ← ρ G + (1−ρ)|g|² ; Δ = √(S+ε)/√(G+ε) · g ; S ← ρ S + (1−ρ)|Δ|² ; θ ← θ − η Δ.

    The paper has no learning rate, η = 1; S accumulates Δ, not η Δ.
    """
    theta = exact(theta)
    G = np.zeros(theta.shape)
    S = np.zeros(theta.shape)
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        G = rho * G + (1 - rho) * np.abs(g) ** 2
        delta = np.sqrt(S + eps) / np.sqrt(G + eps) * g
        S = rho * S + (1 - rho) * np.abs(delta) ** 2
        theta = theta - at(learning_rate, t) * delta
        path.append(theta)
    return np.stack(path)
