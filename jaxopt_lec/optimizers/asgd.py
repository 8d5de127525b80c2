"""Averaged SGD: the average of the iterates converges faster than the iterates themselves."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxopt_lec.equation import equation
from jaxopt_lec.hyperparameters import NonNegative, ScalarOrSchedule
from jaxopt_lec.slots import one, zeros

__all__ = ["asgd", "scale_by_asgd"]


@equation(average=zeros, eta=one)
def scale_by_asgd(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    *,
    learning_rate: NonNegative = 1e-2,
    decay: NonNegative = 1e-4,
    power: NonNegative = 0.75,
    start: NonNegative = 1e6,
) -> tuple[Any, dict[str, Any]]:
    """Step with a rate that falls like t^−α, and average the iterates: u = −ηₜ (g + λ θ).

    Arguments, slots and reference as in `asgd`.
    """
    u = -jnp.where(t == 1, learning_rate, s.eta) * (g + decay * p)
    average = s.average + (p + u - s.average) / jnp.maximum(1, t - 1 - start)
    eta = learning_rate / (1 + decay * learning_rate * t) ** power
    return u, {"average": average, "eta": eta}


def asgd(
    learning_rate: ScalarOrSchedule = 1e-2,
    *,
    decay: ScalarOrSchedule = 1e-4,
    power: ScalarOrSchedule = 0.75,
    start: ScalarOrSchedule = 1e6,
) -> optax.GradientTransformationExtraArgs:
    """Averaged SGD: θ ← θ − ηₜ (g + λ θ); θ̄ ← θ̄ + (θ − θ̄)/max(1, t − 1 − t₀).

    η₁ = η and ηₜ₊₁ = η/(1 + λ η t)^α: a scheduled η acts one step late, as in PyTorch. While the divisor is 1, θ̄ = θ. What
    is trained is θ; the average is read with `optax.tree.get(state, "average")`.

    Args:
        learning_rate: η in [0, ∞).
        decay: λ in [0, ∞): how fast the rate falls, and an L2 regularisation.
        power: α in [0, ∞).
        start: t₀ in [0, ∞), the step after which the average begins.

    Slots: average, like the parameter; eta, a real scalar for each leaf. Errors: ValueError without `params`. Equals
    `torch.optim.ASGD(lr=η, lambd=λ, alpha=α, t0=t₀)`.

    References: B. Polyak and A. Juditsky, Acceleration of stochastic approximation by averaging, 1992; W. Xu, Towards
    optimal one pass large scale learning with averaged stochastic gradient descent, 2011 (the rate).
    """
    return scale_by_asgd(learning_rate=learning_rate, decay=decay, power=power, start=start)
