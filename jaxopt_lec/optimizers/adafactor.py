"""Adafactor: Adam's second moment of a matrix from its row and column means alone."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import abs2, sqrt
from jaxopt_lec.equation import equation
from jaxopt_lec.hyperparameters import NonNegative, Positive, ScalarOrSchedule
from jaxopt_lec.slots import zeros_real

__all__ = ["adafactor", "scale_by_adafactor"]


def row_means(p: jax.Array, hyper: Mapping[str, jax.Array]) -> jax.Array:
    """Return zeros for means over the last axis; a scalar for what is not a matrix."""
    v = zeros_real(p, hyper)
    return jnp.sum(v, -1, keepdims=True) if v.ndim > 1 else jnp.zeros((), v.dtype)


def column_means(p: jax.Array, hyper: Mapping[str, jax.Array]) -> jax.Array:
    """Return zeros for means over the last but one axis; a scalar for what is not a matrix."""
    v = zeros_real(p, hyper)
    return jnp.sum(v, -2, keepdims=True) if v.ndim > 1 else jnp.zeros((), v.dtype)


def unfactored(p: jax.Array, hyper: Mapping[str, jax.Array]) -> jax.Array:
    """Return zeros for the second moment of what is not a matrix; a scalar for a matrix."""
    v = zeros_real(p, hyper)
    return v if v.ndim <= 1 else jnp.zeros((), v.dtype)


def rms(x: Any) -> Any:
    """Return the root of the mean square of all elements."""
    return sqrt(jnp.mean(abs2(x)))


@equation(R=row_means, C=column_means, V=unfactored)
def scale_by_adafactor(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    *,
    learning_rate: NonNegative = 1e-2,
    decay_power: NonNegative = 0.8,
    eps: NonNegative = 1e-30,
    eps_floor: NonNegative = 0.0,
    machine_floor: bool = False,
    eps_scale: NonNegative = 1e-3,
    clip_threshold: Positive = 1.0,
) -> tuple[Any, dict[str, Any]]:
    """Divide by the root of the factored second moment, clip, and step relative to the parameter's size: u = −αₜ Û.

    Arguments, slots and reference as in `adafactor`.
    """
    if machine_floor:
        eps_floor = jnp.finfo(g.dtype).eps
    weight = t**-decay_power  # 1 − β̂₂
    square = abs2(g) + eps
    R, C, V = s.R, s.C, s.V
    if g.ndim > 1:
        R = R + weight * (jnp.mean(square, -1, keepdims=True) - R)
        C = C + weight * (jnp.mean(square, -2, keepdims=True) - C)
        V_hat = R / jnp.maximum(jnp.mean(R, -2, keepdims=True), eps_floor) * C
    else:
        V = V_hat = V + weight * (square - V)
    U = g / sqrt(jnp.maximum(V_hat, eps_floor**2))
    U = U / jnp.maximum(1, rms(U) / clip_threshold)
    alpha = jnp.maximum(eps_scale, rms(p)) * jnp.minimum(learning_rate, 1 / sqrt(t))
    return -alpha * U, {"R": R, "C": C, "V": V}


def adafactor(
    learning_rate: ScalarOrSchedule = 1e-2,
    *,
    decay_power: ScalarOrSchedule = 0.8,
    eps: ScalarOrSchedule = 1e-30,
    eps_floor: ScalarOrSchedule = 0.0,
    machine_floor: bool = False,
    eps_scale: ScalarOrSchedule = 1e-3,
    clip_threshold: ScalarOrSchedule = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """Adafactor without momentum: θ ← θ − max(ε_scale, RMS(θ)) ρₜ Û with ρₜ = min(η, 1/√t).

    R and C are averages of |g|² + ε over the last axis and over the last but one, with β̂₂ = 1 − t^(−c);
    V̂ = R C / max(mean(R), ε_floor);  U = g/√max(V̂, ε_floor²);  Û = U / max(1, RMS(U)/d).
    A leaf of fewer than two axes keeps all of V̂. A matrix of n × m has n + m numbers of state, where Adam has 2 n m.

    Args:
        learning_rate: η in [0, ∞), relative to the size of the parameter; the paper's 10⁻².
        decay_power: c in [0, ∞).
        eps: ε in [0, ∞), the paper's ε₁, added to |g|²; with ε and ε_floor 0, a zero gradient gives 0/0.
        eps_floor: ε_floor in [0, ∞), below which no root is taken (PyTorch); the paper has none.
        machine_floor: whether ε_floor is the machine epsilon of the dtype computed in, PyTorch's default.
        eps_scale: ε_scale in [0, ∞), the paper's ε₂: the step of a parameter that is zero.
        clip_threshold: d in (0, ∞).

    Slots: R, C, V, real: means over the last axis, over the last but one, and V̂ itself; what a leaf has not is a scalar.
    Errors: ValueError without `params`. Equals Keras `Adafactor`; with `eps=0.0, eps_floor=ε₁`, `torch.optim.Adafactor`.

    Reference: N. Shazeer and M. Stern, Adafactor: adaptive learning rates with sublinear memory cost, ICML 2018,
    Algorithm 4.
    """
    return scale_by_adafactor(
        learning_rate=learning_rate,
        decay_power=decay_power,
        eps=eps,
        eps_floor=eps_floor,
        machine_floor=machine_floor,
        eps_scale=eps_scale,
        clip_threshold=clip_threshold,
    )
