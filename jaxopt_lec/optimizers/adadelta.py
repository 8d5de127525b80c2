"""AdaDelta: Δ = √(S+ε)/√(G+ε) · g; θ ← θ − Δ."""

from typing import Any

import optax

from jaxopt_lec.arithmetic import abs2, beside, ema, sqrt
from jaxopt_lec.equation import chain, equation
from jaxopt_lec.hyperparameters import Decay, Positive, ScalarOrSchedule
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import zeros_real

__all__ = ["adadelta", "scale_by_adadelta"]


@equation(G=zeros_real, S=zeros_real)
def scale_by_adadelta(
    g: Any, s: Any, p: Any, t: Any, *, rho: Decay = 0.95, eps: Positive = 1e-6
) -> tuple[Any, dict[str, Any]]:
    """Give the gradient the units of the parameter: G ← ρ G + (1−ρ)|g|², u = Δ = √(S+ε)/√(G+ε) g, S ← ρ S + (1−ρ)|Δ|².

    Arguments, slots and reference as in `adadelta`. Equals `optax.scale_by_adadelta` for real gradients.
    """
    G = ema(s.G, abs2(g), rho)
    delta = sqrt(s.S + eps) / sqrt(G + eps) * g
    S = ema(s.S, abs2(delta), rho)
    return beside(delta, S), {"G": G, "S": S}


def adadelta(
    learning_rate: ScalarOrSchedule = 1.0, rho: ScalarOrSchedule = 0.95, eps: ScalarOrSchedule = 1e-6
) -> optax.GradientTransformationExtraArgs:
    """AdaDelta: G ← ρ G + (1−ρ)|g|²; Δ = √(S+ε)/√(G+ε) g; S ← ρ S + (1−ρ)|Δ|²; θ ← θ − η Δ.

    Δ carries the units of θ, so the paper needs no learning rate: η = 1. The lecture's slide accumulates Δ in S, not Δ²;
    its own units argument needs the square, and literally S could go negative.

    Args:
        learning_rate: η in [0, ∞).
        rho: ρ in [0, 1).
        eps: ε in (0, ∞), inside both roots; with 0 nothing ever moves, since S₀ = 0.

    Slots: G, S, real, of the parameter's shape. For real parameters equals `torch.optim.Adadelta(lr=η, rho=ρ, eps=ε)`
    and Keras `Adadelta`.

    Reference: M. Zeiler, ADADELTA: an adaptive learning rate method, arXiv:1212.5701, 2012.
    """
    return chain("adadelta", scale_by_adadelta(rho=rho, eps=eps), scale_by_learning_rate(learning_rate=learning_rate))
