"""AMSGrad (Reddi, Kale & Kumar, 2018, "On the convergence of Adam and beyond", arXiv:1904.09237, Algorithm 2)."""

import numpy as np

from ._start import at, exact


def amsgrad(
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
    """Adam's m and v ; v_max ← max(v_max, v) ; θ ← θ − η m̂ / (√(v_max/(1−β₂ᵗ) + eps_root) + eps).

    The maximum is over the uncorrected v. The paper corrects neither m nor v_max, ``bias_correction=False``, and has
    no eps. ``eps_hat`` is on √v_max, as Adam's on √v.
    """
    theta = exact(theta)
    m = np.zeros_like(theta)
    v = np.zeros(theta.shape)
    v_max = np.zeros(theta.shape)
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        v_max = np.maximum(v_max, v)
        c1, c2 = (1 - b1**t, 1 - b2**t) if bias_correction else (1.0, 1.0)
        root = np.sqrt(v_max + c2 * eps_root) + np.sqrt(c2) * eps + eps_hat
        theta = theta - at(learning_rate, t) * np.sqrt(c2) / c1 * m / root
        path.append(theta)
    return np.stack(path)
