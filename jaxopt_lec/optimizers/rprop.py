"""Rprop: a step size for each coordinate, that grows while the gradient keeps its sign and shrinks when it turns."""

import math
from typing import Annotated, Any

import jax.numpy as jnp
import optax

from jaxopt_lec.equation import equation
from jaxopt_lec.hyperparameters import Hyper, NonNegative, Range, ScalarOrSchedule
from jaxopt_lec.slots import zeros

__all__ = ["rprop", "scale_by_rprop"]


@equation(g_prev=zeros, step_size=zeros)
def scale_by_rprop(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    *,
    learning_rate: NonNegative = 1e-2,
    eta_minus: Annotated[Hyper, Range(0, 1, closed="neither")] = 0.5,
    eta_plus: Annotated[Hyper, Range(1, math.inf, closed="neither")] = 1.2,
    step_min: NonNegative = 1e-6,
    step_max: NonNegative = 50.0,
) -> tuple[Any, dict[str, Any]]:
    """Take a step of each coordinate's own size: u = −sign(g) s.

    Arguments, slots and reference as in `rprop`.
    """
    if jnp.iscomplexobj(g):
        raise TypeError("a complex gradient has no sign; wrap the optimizer in optax.contrib.split_real_and_imaginary")
    same = jnp.sign(g) * jnp.sign(s.g_prev)  # the product of small gradients would be 0 in float32
    kept, turned = same > 0, same < 0
    step_size = jnp.where(t == 1, learning_rate, s.step_size)
    step_size = jnp.clip(step_size * jnp.where(kept, eta_plus, jnp.where(turned, eta_minus, 1)), step_min, step_max)
    g = jnp.where(turned, 0, g)
    return -jnp.sign(g) * step_size, {"g_prev": g, "step_size": step_size}


def rprop(
    learning_rate: ScalarOrSchedule = 1e-2,
    eta_minus: ScalarOrSchedule = 0.5,
    eta_plus: ScalarOrSchedule = 1.2,
    step_min: ScalarOrSchedule = 1e-6,
    step_max: ScalarOrSchedule = 50.0,
) -> optax.GradientTransformationExtraArgs:
    """Rprop (iRprop−): θ ← θ − sign(g) s, the step sizes s multiplied by η⁺ or η⁻ as the gradient keeps or turns its sign.

    s ← clip(s η⁺, s_min, s_max) where g·g_prev > 0;  s ← clip(s η⁻, s_min, s_max) and g ← 0 where g·g_prev < 0;  g_prev ← g.
    Only signs enter, so it is for the full gradient: with mini-batches signs turn by chance and the steps die out.

    Args:
        learning_rate: s₀ in [0, ∞); used at the first step only.
        eta_minus: η⁻ in (0, 1).
        eta_plus: η⁺ in (1, ∞).
        step_min, step_max: the interval of s, in [0, ∞).

    Slots: g_prev, step_size, like the parameter. Errors: TypeError for complex gradients. Equals `torch.optim.Rprop(lr=s₀,
    etas=(η⁻, η⁺), step_sizes=(s_min, s_max))` for real parameters.

    References: M. Riedmiller and H. Braun, A direct adaptive method for faster backpropagation learning, 1993;
    C. Igel and M. Hüsken, Improving the Rprop learning algorithm, 2000 (iRprop−).
    """
    return scale_by_rprop(
        learning_rate=learning_rate, eta_minus=eta_minus, eta_plus=eta_plus, step_min=step_min, step_max=step_max
    )
