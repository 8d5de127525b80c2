"""Muon: momentum, orthogonalized: every singular value of a matrix's step becomes about 1."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import abs2, sqrt
from jaxopt_lec.equation import chain, equation
from jaxopt_lec.hyperparameters import NonNegative, ScalarOrSchedule
from jaxopt_lec.optimizers.adamw import add_decayed_weights
from jaxopt_lec.optimizers.momentum import scale_by_momentum
from jaxopt_lec.optimizers.nesterov import scale_by_nesterov
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate

__all__ = ["muon", "orthogonalize"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


@equation()
def orthogonalize(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    *,
    eps: NonNegative = 1e-7,
    eps_floor: NonNegative = 0.0,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    steps: int = 5,
    adjust: str = "original",
    rms_rate: NonNegative = 0.2,
    output_axis: int = -1,
    as_matrix: str = "flatten",
) -> tuple[Any, dict[str, Any]]:
    """Replace U Σ Vᵀ by about U Vᵀ, by Newton–Schulz steps: X ← a X + (b A + c A²) X with A = X Xᵀ; times a factor.

    X starts as g / (max(‖g‖, ε_floor) + ε), ‖·‖ the Frobenius norm; for a tall matrix all is done on its transpose.

    Args:
        eps, eps_floor: in [0, ∞); with both 0, a zero gradient gives 0/0. PyTorch has ε_floor, Keras and the original ε.
        coefficients: (a, b, c); these raise small singular values fast and take those from 0.0016 to 1
            into [0.68, 1.21] in 5 steps, not to 1.
        steps: number of Newton–Schulz steps.
        adjust: the factor: "original", √max(1, n_out/n_in); "match_rms", ρ √max(n_out, n_in), so that with ρ = 0.2 rates
            tuned for AdamW serve; "none", 1.
        rms_rate: ρ in [0, ∞).
        output_axis: −1 if matrices are (n_in, n_out), as in Flax and Keras; −2 if they are (n_out, n_in), as in PyTorch.
        as_matrix: how a leaf with more than two axes is reshaped. "flatten": (…, n_in, n_out) → (…·n_in, n_out), for kernels
            of convolutions and for attention's output (heads, d, n_out); "heads": (n_in, heads, d) → (n_in, heads·d), for
            its queries, keys and values; "stack": one matrix for each index of the leading axes, for layers under `scan`.
            With `output_axis` −2 the axes are the other way round: "flatten" is (n_out, n_in, …) → (n_out, n_in·…).

    Slots: none. Errors: ValueError for a leaf of fewer than two axes, and for an unknown `adjust`, `output_axis` or
    `as_matrix`.
    """
    if g.ndim < 2:
        raise ValueError(
            f"only matrices can be orthogonalized, this leaf has shape {g.shape}; give it another optimizer with "
            "optax.partition"
        )
    factors = {"original": _aspect_ratio, "match_rms": _longer_side, "none": lambda shape, output_axis: 1.0}
    if adjust not in factors or output_axis not in (-1, -2):
        raise ValueError(f"adjust is one of {', '.join(factors)}, output_axis −1 or −2; got {adjust!r} and {output_axis}")
    shape = _matrix_shape(g.shape, as_matrix, output_axis)
    a, b, c = coefficients

    def orthogonalized(G: Any) -> Any:
        X = G if G.shape[0] <= G.shape[1] else G.T
        X = X / (jnp.maximum(sqrt(jnp.sum(abs2(X))), eps_floor) + eps)
        for _ in range(steps):
            A = X @ X.T.conj()
            X = a * X + (b * A + c * A @ A) @ X
        return X if G.shape[0] <= G.shape[1] else X.T

    u = (orthogonalized if len(shape) == 2 else jax.vmap(orthogonalized))(g.reshape(shape)).reshape(g.shape)
    return factors[adjust](shape[-2:], output_axis) * (rms_rate if adjust == "match_rms" else 1) * u, {}


def _matrix_shape(shape: tuple[int, ...], as_matrix: str, output_axis: int) -> tuple[int, ...]:
    """Return the shape to which a leaf is reshaped: a matrix, or a stack of matrices along the first axis."""
    if as_matrix not in ("flatten", "heads", "stack"):
        raise ValueError(f"as_matrix is one of flatten, heads, stack; got {as_matrix!r}")
    if len(shape) == 2:
        return shape
    if as_matrix == "stack":
        return (math.prod(shape[:-2]), *shape[-2:])
    # One side of the matrix is either the last axis or the first; the other axes are flattened.
    if (as_matrix == "flatten") == (output_axis == -1):
        return math.prod(shape[:-1]), shape[-1]
    return shape[0], math.prod(shape[1:])


def _aspect_ratio(shape: tuple[int, int], output_axis: int) -> float:
    n_out, n_in = shape[output_axis], shape[-3 - output_axis]
    return max(1.0, n_out / max(n_in, 1)) ** 0.5  # a leaf without elements has no ratio


def _longer_side(shape: tuple[int, int], output_axis: int) -> float:
    return float(max(shape)) ** 0.5


def muon(
    learning_rate: ScalarOrSchedule = 2e-2,
    decay: ScalarOrSchedule = 0.95,
    *,
    nesterov: bool = True,
    weight_decay: ScalarOrSchedule = 0.0,
    eps: ScalarOrSchedule = 1e-7,
    eps_floor: ScalarOrSchedule = 0.0,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    steps: int = 5,
    adjust: str = "original",
    rms_rate: ScalarOrSchedule = 0.2,
    output_axis: int = -1,
    as_matrix: str = "flatten",
) -> optax.GradientTransformationExtraArgs:
    """Muon: v ← μ v + g; θ ← θ − η (O + λ θ), O the orthogonalized g + μ v, or v without Nesterov's look-ahead.

    It is for the matrices between hidden layers; give biases, gains, embeddings and the output layer to another optimizer
    with `optax.partition`.

    Args:
        learning_rate: η in [0, ∞).
        decay: μ in [0, 1).
        nesterov: whether to look ahead.
        weight_decay: λ in [0, ∞).
        eps, eps_floor, coefficients, steps, adjust, rms_rate, output_axis: as in `orthogonalize`.
        as_matrix: how a kernel with more than two axes is reshaped, as in `orthogonalize`; the default suits convolutions.

    Slots: v, like the parameter. Errors: ValueError for a leaf of fewer than two axes, and without `params`. Equals Keras
    `Muon` on its matrices with `adjust="match_rms"`; `torch.optim.Muon` averages, v ← μ v + (1−μ) g, which the normalization
    undoes.

    Reference: K. Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024; "match_rms": J. Liu et al.,
    Muon is scalable for LLM training, 2025.
    """
    return chain(
        "muon",
        (scale_by_nesterov if nesterov else scale_by_momentum)(decay=decay),
        orthogonalize(
            eps=eps,
            eps_floor=eps_floor,
            coefficients=coefficients,
            steps=steps,
            adjust=adjust,
            rms_rate=rms_rate,
            output_axis=output_axis,
            as_matrix=as_matrix,
        ),
        add_decayed_weights(weight_decay=weight_decay),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
