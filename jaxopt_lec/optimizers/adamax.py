"""AdaMax, Adam in the infinity norm: u ← max(β₂ u, |g|); θ ← θ − η m̂ / (u + ε)."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import debias, ema
from jaxopt_lec.equation import chain, equation
from jaxopt_lec.hyperparameters import Decay, NonNegative, ScalarOrSchedule
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import zeros, zeros_real

__all__ = ["adamax", "scale_by_adamax"]


@equation(m=zeros, u=zeros_real)
def scale_by_adamax(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    *,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_max: NonNegative = 0.0,
) -> tuple[Any, dict[str, Any]]:
    """Divide the mean by the decaying maximum: m ← β₁ m + (1−β₁) g, u ← max(β₂ u, |g| + ε_max); the direction is m̂/(u + ε).

    Arguments, slots and reference as in `adamax`.
    """
    m = ema(s.m, g, b1)
    u = jnp.maximum(b2 * s.u, jnp.abs(g) + eps_max)
    return debias(m, b1, t) / (u + eps), {"m": m, "u": u}


def adamax(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    *,
    eps_max: ScalarOrSchedule = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """AdaMax: m ← β₁ m + (1−β₁) g; u ← max(β₂ u, |g| + ε_max); θ ← θ − η m̂ / (u + ε).

    Args:
        learning_rate: η in [0, ∞); the paper suggests 2e-3.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε in [0, ∞). The paper has none; with 0, a coordinate that never saw a gradient gives 0/0.
        eps_max: ε_max in [0, ∞), inside the maximum.

    In float32, u = β₂ᵏ|g| carries the rounding of β₂ and of k products: about 5e-6 at β₂ = 0.999 after 1,000 steps.

    Slots: m like the parameter; u real, of its shape. Equals Keras `Adamax`; with `eps=0.0,
    eps_max=1e-8`, `optax.adamax` and, for real parameters, `torch.optim.Adamax`.

    Reference: D. Kingma and J. Ba, Adam: a method for stochastic optimization, section 7.1, ICLR 2015.
    """
    return chain(
        "adamax",
        scale_by_adamax(b1=b1, b2=b2, eps=eps, eps_max=eps_max),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
