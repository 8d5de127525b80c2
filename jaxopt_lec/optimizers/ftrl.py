"""FTRL-Proximal: the point that would have been best against all gradients so far, held near the path by Adagrad's rates."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import abs2
from jaxopt_lec.equation import equation
from jaxopt_lec.hyperparameters import NonNegative, Positive, ScalarOrSchedule
from jaxopt_lec.slots import full_real, zeros

__all__ = ["ftrl", "scale_by_ftrl"]


@equation(z=zeros, n=full_real("initial_accumulator"))
def scale_by_ftrl(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    *,
    learning_rate: Positive = 1e-3,
    power: NonNegative = 0.5,
    initial_accumulator: NonNegative = 0.1,
    l1: NonNegative = 0.0,
    l2: NonNegative = 0.0,
    l2_shrinkage: NonNegative = 0.0,
    beta: NonNegative = 0.0,
) -> tuple[Any, dict[str, Any]]:
    """Step to the minimizer of the linearized losses so far with L1, L2 and proximal terms: u = θ_new − θ.

    Arguments, slots and reference as in `ftrl`.
    """
    if jnp.iscomplexobj(g):
        raise TypeError("the L1 threshold is for real numbers; wrap the optimizer in optax.contrib.split_real_and_imaginary")
    n = s.n + abs2(g)
    z = s.z + g + l2_shrinkage * p - (n**power - s.n**power) / learning_rate * p
    p_new = (jnp.clip(z, -l1, l1) - z) / ((n**power + beta) / learning_rate + l2)
    return p_new - p, {"z": z, "n": n}


def ftrl(
    learning_rate: ScalarOrSchedule = 1e-3,
    *,
    power: ScalarOrSchedule = 0.5,
    initial_accumulator: ScalarOrSchedule = 0.1,
    l1: ScalarOrSchedule = 0.0,
    l2: ScalarOrSchedule = 0.0,
    l2_shrinkage: ScalarOrSchedule = 0.0,
    beta: ScalarOrSchedule = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """FTRL-Proximal: θ ← (clip(z, −λ₁, λ₁) − z) / ((n^c + β)/η + λ₂), exactly 0 where |z| ≤ λ₁.

    n_new = n + g²;  z ← z + g + λₛ θ − (n_new^c − n^c)/η θ. Without the λ and β it is θ ← θ − η g/√n
    from θ₀ = 0. z₀ = 0 belongs to θ₀ = 0: of another θ₀ only 1 − (n₀/n)^c is left after the first step, as in Keras.

    Args:
        learning_rate: η in (0, ∞), the paper's α. All of θ is proportional to it: a schedule that decays towards 0 takes θ
            there. At 0 itself the formula is 0/0 and θ NaN, as in Keras: end a schedule above it.
        power: c in [0, ∞), the paper's ½.
        initial_accumulator: n₀ in [0, ∞); used once, by `init`. With 0, a zero gradient at the start gives 0/0.
        l1: λ₁ in [0, ∞).
        l2: λ₂ in [0, ∞); Keras has 2 λ₂ there.
        l2_shrinkage: λₛ in [0, ∞), an L2 penalty that acts through the gradient alone; Keras has 2 λₛ there.
        beta: β in [0, ∞).

    Slots: z like the parameter, n real, of its shape. Errors: ValueError without `params`, TypeError for complex gradients.
    Equals Keras `Ftrl`.

    Reference: H. B. McMahan et al., Ad click prediction: a view from the trenches, KDD 2013, Algorithm 1.
    """
    return scale_by_ftrl(
        learning_rate=learning_rate,
        power=power,
        initial_accumulator=initial_accumulator,
        l1=l1,
        l2=l2,
        l2_shrinkage=l2_shrinkage,
        beta=beta,
    )
