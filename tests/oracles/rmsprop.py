"""RMSProp (Tieleman & Hinton, 2012, Coursera lecture 6.5).

Centred, and with momentum: Graves, 2013, "Generating sequences with recurrent neural networks", eq. 38-45.
"""

import numpy as np

from ._start import at, exact


def rmsprop(theta, gradient, steps, learning_rate, *, decay=0.9, eps=1e-8, eps_root=0.0, centered=False, momentum=None):
    """G ← γ G + (1−γ)|g|² ; u = g / (√(G + eps_root) + eps) ; θ ← θ − η u.

    Centred: m ← γ m + (1−γ) g, and G − |m|², the variance, stands for G in the root.
    With momentum μ: b ← μ b + u ; θ ← θ − η b, the learning rate outside as in PyTorch (Graves has it inside).
    """
    theta = exact(theta)
    G = np.zeros(theta.shape)
    m = np.zeros_like(theta)
    b = np.zeros_like(theta)
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        G = decay * G + (1 - decay) * np.abs(g) ** 2
        m = decay * m + (1 - decay) * g
        # A variance is never negative; rounding may say so where the gradient is constant.
        second_moment = np.maximum(G - np.abs(m) ** 2, 0.0) if centered else G
        u = g / (np.sqrt(second_moment + eps_root) + eps)
        b = (0.0 if momentum is None else momentum) * b + u
        theta = theta - at(learning_rate, t) * b
        path.append(theta)
    return np.stack(path)
