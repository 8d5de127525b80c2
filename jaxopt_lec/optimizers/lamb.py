"""LAMB: Adam's direction, as long for each layer as a fraction η of the layer's own norm."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import abs2, sqrt
from jaxopt_lec.equation import chain, equation, masked
from jaxopt_lec.hyperparameters import ScalarOrSchedule
from jaxopt_lec.optimizers.adam import scale_by_adam
from jaxopt_lec.optimizers.adamw import add_decayed_weights
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate

__all__ = ["lamb", "scale_by_trust_ratio"]


@equation()
def scale_by_trust_ratio(g: Any, s: Any, p: Any, t: Any) -> tuple[Any, dict[str, Any]]:
    """Make the direction as long as the parameter: u = (‖θ‖/‖g‖) g, norms of the leaf; g itself where either norm is 0.

    Slots: none. Errors: ValueError without `params`. Equals `optax.scale_by_trust_ratio`.
    """
    p_norm, g_norm = sqrt(jnp.sum(abs2(p))), sqrt(jnp.sum(abs2(g)))
    defined = (p_norm > 0) & (g_norm > 0)
    return jnp.where(defined, p_norm / jnp.where(defined, g_norm, 1), 1) * g, {}


def lamb(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-6,
    eps_root: ScalarOrSchedule = 0.0,
    *,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """LAMB: θ ← θ − η (‖θ‖/‖r‖) r with r = m̂/(√(v̂ + ε_root) + ε) + λ θ, m̂ and v̂ as in `adam`, norms for each leaf.

    Args:
        learning_rate, b1, b2, eps, eps_root: as in `adam`.
        weight_decay: λ in [0, ∞).
        mask: tree of bools like the parameters, or a function from them to one: where to decay. None: everywhere.

    Slots: m like the parameter; v real, of its shape. Errors: ValueError without `params`. Equals `optax.lamb`; without
    weight decay, Keras `Lamb`, which decays θ before the step and so outside the ratio.

    Reference: Y. You et al., Large batch optimization for deep learning: training BERT in 76 minutes, ICLR 2020.
    """
    return chain(
        "lamb",
        scale_by_adam(b1=b1, b2=b2, eps=eps, eps_root=eps_root),
        masked("lamb", add_decayed_weights(weight_decay=weight_decay), mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
