"""NAdam (Dozat, 2016, "Incorporating Nesterov momentum into Adam", Algorithm 2), as PyTorch reads it."""

import numpy as np

from ._start import at, exact


def nadam(theta, gradient, steps, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, momentum_decay=0.004):
    """μ_t = β₁ (1 − ½·0.96^(t ψ)) ; m ← β₁ m + (1−β₁) g ; v ← β₂ v + (1−β₂)|g|² ; v̂ = v/(1−β₂ᵗ).

    m̄ = μ_{t+1} m / (1 − ∏_{i≤t+1} μ_i) + (1−μ_t) g / (1 − ∏_{i≤t} μ_i) ; θ ← θ − η m̄ / (√(v̂ + eps_root) + eps).

    The paper averages m with μ_t and has β₂ v/(1−β₂ᵗ) as v̂; PyTorch, and this, average with β₁ and correct v as Adam.
    """

    def mu(t):
        return b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    theta = exact(theta)
    m = np.zeros_like(theta)
    v = np.zeros(theta.shape)
    product = 1.0
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        product = product * mu(t)
        m_bar = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
        v_hat = v / (1 - b2**t)
        theta = theta - at(learning_rate, t) * m_bar / (np.sqrt(v_hat + eps_root) + eps)
        path.append(theta)
    return np.stack(path)
