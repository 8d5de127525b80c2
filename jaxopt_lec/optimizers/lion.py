"""Lion: the sign of an interpolated momentum: θ ← θ − η (sign(β₁ m + (1−β₁) g) + λ θ)."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import ema
from jaxopt_lec.equation import chain, equation, masked
from jaxopt_lec.hyperparameters import Decay, ScalarOrSchedule
from jaxopt_lec.optimizers.adamw import add_decayed_weights
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import zeros

__all__ = ["lion", "scale_by_lion"]


@equation(m=zeros)
def scale_by_lion(g: Any, s: Any, p: Any, t: Any, *, b1: Decay = 0.9, b2: Decay = 0.99) -> tuple[Any, dict[str, Any]]:
    """Take the sign: u = sign(β₁ m + (1−β₁) g), m ← β₂ m + (1−β₂) g.

    Arguments, slots and reference as in `lion`. Equals `optax.scale_by_lion`.
    """
    return jnp.sign(ema(s.m, g, b1)), {"m": ema(s.m, g, b2)}


def lion(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.99,
    *,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Lion: θ ← θ − η (sign(β₁ m + (1−β₁) g) + λ θ); m ← β₂ m + (1−β₂) g.

    Every coordinate moves by η whatever its gradient, so η is 3 to 10 times smaller than Adam's and λ as much larger.

    Args:
        learning_rate: η in [0, ∞).
        b1: β₁ in [0, 1), of the step.
        b2: β₂ in [0, 1), of the momentum.
        weight_decay: λ in [0, ∞).
        mask: tree of bools like the parameters, or a function from them to one: where to decay. None: everywhere.

    Slots: m like the parameter. The sign of complex z is z/|z|. Errors: ValueError without `params`. Equals Keras `Lion`
    and `optax.lion`, whose default λ is 1e-3.

    Reference: X. Chen et al., Symbolic discovery of optimization algorithms, NeurIPS 2023.
    """
    return chain(
        "lion",
        scale_by_lion(b1=b1, b2=b2),
        masked("lion", add_decayed_weights(weight_decay=weight_decay), mask),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
