"""Newton's method (Nocedal & Wright, 2006, "Numerical Optimization", 2nd ed., section 3.4 and Algorithm 7.1)."""

import itertools

import numpy as np

from ._start import at, exact


def newton(theta, gradient, hessian, steps, learning_rate=1.0, *, damping=0.0):
    """Solve A d = g, A = H + δ I ; θ ← θ − η d.  ``hessian(theta, t)`` has shape (n, n), n = theta.size.

    Where A is not positive definite: d = V diag(1/max(|λ|, floor)) Vᵀ g, λ and V the eigenvalues and -vectors of A,
    floor = ε max|λ| n with ε of float64; d = g where A = 0.
    """
    theta = exact(theta)
    n = theta.size
    path = [theta]
    for t in range(1, steps + 1):
        g = np.reshape(gradient(theta, t), n)
        A = np.reshape(hessian(theta, t), (n, n)) + damping * np.eye(n)
        eigenvalues, V = np.linalg.eigh(A)
        if eigenvalues.min() > 0:
            d = np.linalg.solve(A, g)
        else:
            floor = np.finfo(np.float64).eps * np.abs(eigenvalues).max() * n or 1.0
            d = V @ ((V.T @ g) / np.maximum(np.abs(eigenvalues), floor))
        theta = theta - at(learning_rate, t) * d.reshape(theta.shape)
        path.append(theta)
    return np.stack(path)


def newton_cg(
    theta,
    gradient,
    hessian_vector_product,
    steps,
    learning_rate=1.0,
    *,
    damping=0.0,
    max_iterations=None,
    tolerance=None,
):
    """Solve (H + δ I) d = g by conjugate gradients ; θ ← θ − η d.  ``hessian_vector_product(theta, vector, t)``.

    Stops at a residual below ``tolerance`` (default min(½, √‖g‖)·‖g‖), after ``max_iterations`` (default: never), or
    at a direction of curvature ≤ 0: then d is what was reached so far, and g itself at the first direction.
    """
    theta = exact(theta)
    path = [theta]
    for t in range(1, steps + 1):
        g = np.reshape(gradient(theta, t), theta.shape)
        d = _conjugate_gradients(
            g,
            lambda vector, theta=theta, t=t: hessian_vector_product(theta, vector, t) + damping * vector,
            itertools.count() if max_iterations is None else range(max_iterations),
            tolerance,
        )
        theta = theta - at(learning_rate, t) * d
        path.append(theta)
    return np.stack(path)


def _conjugate_gradients(g, multiply, iterations, tolerance):
    # Algorithm 7.1 solves B p = −g; its z, r, d with the signs turned, because the result is subtracted.
    norm = np.linalg.norm(g)
    if tolerance is None:
        tolerance = min(0.5, np.sqrt(norm)) * norm
    z = np.zeros_like(g)
    r = g
    d = g
    for j in iterations:
        Bd = multiply(d)
        curvature = np.sum(d * Bd)
        if curvature <= 0:
            return g if j == 0 else z
        alpha = np.sum(r * r) / curvature
        z = z + alpha * d
        r_next = r - alpha * Bd
        if np.linalg.norm(r_next) < tolerance:
            return z
        d = r_next + np.sum(r_next * r_next) / np.sum(r * r) * d
        r = r_next
    return z
