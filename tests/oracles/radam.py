"""RAdam (Liu et al., 2020, "On the variance of the adaptive learning rate and beyond", arXiv:1908.03265, Alg. 2)."""

import numpy as np

from ._start import at, exact


def radam(
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
    threshold=4.0,
):
    """Adam's m̂, v̂ ; ρ_∞ = 2/(1−β₂) − 1 ; ρ_t = ρ_∞ − 2 t β₂ᵗ/(1−β₂ᵗ).

    ρ_t > threshold: θ ← θ − η r_t m̂ / (√(v̂ + eps_root) + eps),
    r_t² = (ρ_t−4)(ρ_t−2)ρ_∞ / ((ρ_∞−4)(ρ_∞−2)ρ_t); otherwise θ ← θ − η m̂. The paper's threshold is 4, PyTorch's 5.
    ``eps_hat`` is on √v, as Adam's.
    """
    theta = exact(theta)
    m = np.zeros_like(theta)
    v = np.zeros(theta.shape)
    decay = np.longdouble(b2)  # ρ_t is the difference of two numbers near ρ_∞, which costs three digits
    rho_inf = 2 / (1 - decay) - 1
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        m_hat = m / (1 - b1**t)
        c2 = 1 - b2**t
        rho = rho_inf - 2 * t * decay**t / (1 - decay**t)
        if rho > threshold:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            root = np.sqrt(v + c2 * eps_root) + np.sqrt(c2) * eps + eps_hat
            u = float(r) * m_hat * np.sqrt(c2) / root
        else:
            u = m_hat
        theta = theta - at(learning_rate, t) * u
        path.append(theta)
    return np.stack(path)
