"""RMSProp: G ← γ G + (1−γ) g²; θ ← θ − η g / (√(G + ε_root) + ε)."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import abs2, ema, sqrt
from jaxopt_lec.equation import chain, equation
from jaxopt_lec.hyperparameters import Decay, NonNegative, ScalarOrSchedule
from jaxopt_lec.optimizers.momentum import scale_by_momentum
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import zeros, zeros_real

__all__ = ["rmsprop", "scale_by_centered_rmsprop", "scale_by_rmsprop"]


@equation(G=zeros_real)
def scale_by_rmsprop(
    g: Any, s: Any, p: Any, t: Any, *, decay: Decay = 0.9, eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0
) -> tuple[Any, dict[str, Any]]:
    """Divide by a running root mean square: G ← γ G + (1−γ) |g|², u = g / (√(G + ε_root) + ε).

    Arguments, slots and reference as in `rmsprop`. Equals `optax.scale_by_rms` with the ε of one's choice.
    """
    G = ema(s.G, abs2(g), decay)
    return g / (sqrt(G + eps_root) + eps), {"G": G}


@equation(m=zeros, G=zeros_real)
def scale_by_centered_rmsprop(
    g: Any, s: Any, p: Any, t: Any, *, decay: Decay = 0.9, eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0
) -> tuple[Any, dict[str, Any]]:
    """Divide by a running standard deviation: m ← γ m + (1−γ) g, u = g / (√(G − |m|² + ε_root) + ε).

    The variance G − |m|² is taken as 0 where rounding makes it negative. Arguments, slots and reference as in `rmsprop`.
    """
    m = ema(s.m, g, decay)
    G = ema(s.G, abs2(g), decay)
    return g / (sqrt(jnp.maximum(G - abs2(m), 0) + eps_root) + eps), {"m": m, "G": G}


def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: ScalarOrSchedule = 0.9,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    *,
    centered: bool = False,
    momentum: ScalarOrSchedule | None = None,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp: G ← γ G + (1−γ) |g|²; θ ← θ − η g / (√(G + ε_root) + ε).

    The lecture has ε inside the root, `rmsprop(η, eps=0.0, eps_root=1e-8)`; its slide's √(γG + ε) is a slip, and equals
    this with η/√γ and ε/γ. There is no bias correction: G₀ = 0 makes the first step η g/(√(1−γ) |g|).

    Args:
        learning_rate: η in [0, ∞).
        decay: γ in [0, 1).
        eps: ε outside the root, in [0, ∞); with both 0, a zero gradient gives 0/0.
        eps_root: ε inside the root, in [0, ∞).
        centered: divide by the standard deviation, √(G − |m|²) with m the running mean of g, as A. Graves does.
        momentum: μ in [0, 1) of a velocity over the scaled gradients, b ← μ b + u; θ ← θ − η b. None: no velocity.
            In the state it is the `decay` of its own atom, beside γ: `optax.tree.set` needs a filter to tell them apart.

    Slots: G, real, of the parameter's shape; m like the parameter if centered; v like the parameter with momentum.
    For real parameters equals `torch.optim.RMSprop(alpha=γ, ...)`; with ε inside, `optax.rmsprop`
    and Keras `RMSprop` without momentum.

    References: T. Tieleman and G. Hinton, Lecture 6.5, 2012; A. Graves, Generating sequences with RNNs, 2013.
    """
    scale = scale_by_centered_rmsprop if centered else scale_by_rmsprop
    return chain(
        "rmsprop",
        scale(decay=decay, eps=eps, eps_root=eps_root),
        *([] if momentum is None else [scale_by_momentum(decay=momentum)]),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
