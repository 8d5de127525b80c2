"""Adam (Kingma & Ba, 2015, "Adam: a method for stochastic optimization", arXiv:1412.6980, Algorithm 1)."""

import numpy as np

from ._start import at, exact


def adam(
    theta,
    gradient,
    steps,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    eps_hat=0.0,
    bias_correction=True,
):
    """m ← β₁ m + (1−β₁) g ; v ← β₂ v + (1−β₂)|g|² ; θ ← θ − η m̂ / (√(v̂ + eps_root) + eps).

    m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ); without bias correction m̂ = m, v̂ = v. ``eps_hat`` is on the root of v itself, as in
    the reordered form of section 2, θ ← θ − η √(1−β₂ᵗ)/(1−β₁ᵗ) m / (√v + eps_hat).
    """
    theta = exact(theta)
    m = np.zeros_like(theta)
    v = np.zeros(theta.shape)
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        c1, c2 = (1 - b1**t, 1 - b2**t) if bias_correction else (1.0, 1.0)
        # √c₂ times the denominator, where the three epsilons have their places.
        root = np.sqrt(v + c2 * eps_root) + np.sqrt(c2) * eps + eps_hat
        theta = theta - at(learning_rate, t) * np.sqrt(c2) / c1 * m / root
        path.append(theta)
    return np.stack(path)
