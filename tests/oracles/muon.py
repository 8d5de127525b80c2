"""Muon (Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks").

``adjust="match_rms"``: Liu et al., 2025, "Muon is scalable for LLM training", arXiv:2502.16982, section 2.2.
"""

import numpy as np

from ._start import at, exact


def muon(
    theta,
    gradient,
    updates,
    learning_rate,
    *,
    decay=0.95,
    nesterov=True,
    weight_decay=0.0,
    eps=1e-7,
    eps_floor=0.0,
    coefficients=(3.4445, -4.7750, 2.0315),
    steps=5,
    adjust="original",
    rms_rate=0.2,
    output_axis=-1,
    as_matrix="flatten",
):
    """v ← μ v + g ; x = g + μ v, or v ; X = x / (max(‖x‖, eps_floor) + eps), ‖·‖ Frobenius's.

    ``steps`` times X ← (a I + b A + c A²) X, A = X Xᴴ ; θ ← θ − η (factor X + λ θ).  factor = √max(1, n_out/n_in)
    ("original"), rms_rate √max(n_out, n_in) ("match_rms"), 1 ("none"). ``updates`` is what the other oracles call steps.
    """
    theta = exact(theta)
    shape = matrices(theta.shape, as_matrix, output_axis)
    n_out, n_in = shape[output_axis], shape[-3 - output_axis]
    factor = {
        "original": np.sqrt(max(1.0, n_out / n_in)),
        "match_rms": rms_rate * np.sqrt(max(n_out, n_in)),
        "none": 1.0,
    }[adjust]
    v = np.zeros_like(theta)
    path = [theta]
    for t in range(1, updates + 1):
        g = gradient(theta, t)
        v = decay * v + g
        x = g + decay * v if nesterov else v
        X = [newton_schulz(x / (max(np.linalg.norm(x), eps_floor) + eps), coefficients, steps) for x in x.reshape(shape)]
        theta = theta - at(learning_rate, t) * (factor * np.reshape(X, theta.shape) + weight_decay * theta)
        path.append(theta)
    return np.stack(path)


def matrices(shape, as_matrix, output_axis):
    """Return (number of matrices, rows, columns).

    Keller Jordan flattens a convolution, (out, in, h, w) → (out, in·h·w); in Flax's layout all lies the other way round.
    """
    *rows, last = shape
    first, *columns = shape
    flattened = {-1: (1, int(np.prod(rows)), last), -2: (1, first, int(np.prod(columns)))}
    return {
        "flatten": flattened[output_axis],
        "heads": flattened[-3 - output_axis],  # (in, heads, d) → (in, heads·d)
        "stack": (int(np.prod(shape[:-2])), *shape[-2:]),
    }[as_matrix]


def newton_schulz(X, coefficients, steps):
    """Apply σ ↦ a σ + b σ³ + c σ⁵ to the singular values, ``steps`` times."""
    a, b, c = coefficients
    if X.shape[0] > X.shape[1]:  # the same polynomial either way; the Gram matrix is smaller on this side
        return newton_schulz(X.T, coefficients, steps).T
    for _ in range(steps):
        A = X @ X.T.conj()
        X = (a * np.eye(len(X)) + b * A + c * A @ A) @ X
    return X
