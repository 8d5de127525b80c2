"""FTRL-Proximal (McMahan et al., 2013, "Ad click prediction: a view from the trenches", KDD, Algorithm 1)."""

import numpy as np

from ._start import at, exact


def ftrl(
    theta,
    gradient,
    steps,
    learning_rate,
    *,
    power=0.5,
    initial_accumulator=0.1,
    l1=0.0,
    l2=0.0,
    l2_shrinkage=0.0,
    beta=0.0,
):
    """σ = ((n + g²)^p − n^p)/η ; z ← z + g + λ_s θ − σ θ ; n ← n + g².

    θ ← 0 where |z| ≤ λ₁, else −(z − sign(z) λ₁) / ((β + n^p)/η + λ₂).  The paper has p = ½, n₀ = 0, λ_s = 0 and
    θ₀ = 0, what z₀ = 0 stands for; from another θ₀ the first step keeps the part σ of (β + n^p)/η + λ₂ of it.
    """
    theta = exact(theta)
    z = np.zeros_like(theta)
    n = np.full(theta.shape, float(initial_accumulator))
    path = [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        eta = at(learning_rate, t)
        sigma = ((n + g**2) ** power - n**power) / eta
        z = z + g + l2_shrinkage * theta - sigma * theta
        n = n + g**2
        theta = np.where(np.abs(z) <= l1, 0.0, -(z - np.sign(z) * l1) / ((beta + n**power) / eta + l2))
        path.append(theta)
    return np.stack(path)
