"""Momentum, Polyak's heavy ball: v ← γ v + η g; θ ← θ − v."""

from typing import Annotated, Any, TypeAlias

import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import complement
from jaxopt_lec.equation import chain, equation
from jaxopt_lec.hyperparameters import Decay, Hyper, Range, ScalarOrSchedule
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import zeros

__all__ = ["momentum", "scale_by_momentum"]

Dampening: TypeAlias = Annotated[Hyper, Range(0, 1, closed="both")]


@equation(v=zeros)
def scale_by_momentum(
    g: Any, s: Any, p: Any, t: Any, *, decay: Decay = 0.9, dampening: Dampening = 0.0, average: bool = False
) -> tuple[Any, dict[str, Any]]:
    """Accumulate a velocity: v ← γ v + (1−τ) g, u = v; the first step is not dampened, v₁ = g.

    Args:
        decay: γ in [0, 1).
        dampening: τ in [0, 1], with PyTorch's meaning.
        average: (1−γ) g for g, so that v is the average of the gradients, not their sum.

    Slots: v, zeros like the parameter. Equals `optax.trace(decay)` where τ = 0.
    """
    g = complement(decay) * g if average else g
    v = decay * s.v + jnp.where(t == 1, 1, complement(dampening)) * g
    return v, {"v": v}


def momentum(
    learning_rate: ScalarOrSchedule,
    decay: ScalarOrSchedule = 0.9,
    *,
    dampening: ScalarOrSchedule = 0.0,
    learning_rate_inside: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Momentum: v ← γ v + η g; θ ← θ − v, or with the learning rate outside v ← γ v + g; θ ← θ − η v.

    The two are equal while η is constant. When it changes, inside the velocity (the lecture, Keras) old gradients keep the
    rate they came with; outside (PyTorch, Optax) the new rate applies to all of them at once.

    Args:
        learning_rate: η in [0, ∞).
        decay: γ in [0, 1), the lecture's 0.9.
        dampening: τ in [0, 1], v ← γ v + (1−τ) g from the second step on, as in PyTorch.
        learning_rate_inside: whether η stands inside the velocity.

    Slots: v, zeros like the parameter, of the dimension of θ where η is inside, else of g. Equals Keras
    `SGD(momentum=γ)`; with `learning_rate_inside=False`, `torch.optim.SGD(momentum=γ, dampening=τ)` and
    `optax.sgd(momentum=γ)`.

    Reference: B. Polyak, Some methods of speeding up the convergence of iteration methods, 1964.
    """
    velocity = scale_by_momentum(decay=decay, dampening=dampening)
    if learning_rate_inside:
        eta = scale_by_learning_rate(learning_rate=learning_rate, flip_sign=False)
        return chain("momentum", eta, velocity, optax.scale(-1.0))
    return chain("momentum", velocity, scale_by_learning_rate(learning_rate=learning_rate))
