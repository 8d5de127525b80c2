"""NAdam, Adam with Nesterov momentum: the coming step's momentum is applied already."""

import math
from typing import Annotated, Any

import optax

from jaxopt_lec.arithmetic import abs2, debias, ema, sqrt
from jaxopt_lec.equation import chain, equation
from jaxopt_lec.hyperparameters import Decay, Hyper, NonNegative, Range, ScalarOrSchedule
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import one, zeros, zeros_real

__all__ = ["nadam", "scale_by_nadam"]


@equation(m=zeros, v=zeros_real, mu_product=one)
def scale_by_nadam(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    *,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    momentum_decay: Annotated[Hyper, Range(0, math.inf, closed="both")] = 0.004,
) -> tuple[Any, dict[str, Any]]:
    """Adam's direction with Nesterov momentum: u = m̂ / (√(v̂ + ε_root) + ε) with m̂ as in `nadam`.

    Arguments, slots and reference as in `nadam`.
    """

    def mu(t: Any) -> Any:
        return b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    m = ema(s.m, g, b1)
    v = ema(s.v, abs2(g), b2)
    mu_product = s.mu_product * mu(t)
    m_hat = mu(t + 1) * m / (1 - mu_product * mu(t + 1)) + (1 - mu(t)) * g / (1 - mu_product)
    return m_hat / (sqrt(debias(v, b2, t) + eps_root) + eps), {"m": m, "v": v, "mu_product": mu_product}


def nadam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    *,
    momentum_decay: ScalarOrSchedule = 0.004,
) -> optax.GradientTransformationExtraArgs:
    """NAdam: θ ← θ − η m̂ / (√(v̂ + ε_root) + ε), m and v as in `adam`, m̂ as below.

    μₜ = β₁ (1 − ½ · 0.96^(t ψ)),  m̂ = μₜ₊₁ m / (1 − Π_{i≤t+1} μᵢ) + (1 − μₜ) g / (1 − Π_{i≤t} μᵢ).

    The paper averages m with μₜ too; all frameworks, and this, with β₁.

    Args:
        learning_rate, b1, b2, eps, eps_root: as in `adam`.
        momentum_decay: ψ in [0, ∞]; ∞ keeps μ = β₁ constant.

    Slots: m like the parameter; v real, of its shape; mu_product, Π μᵢ, a real scalar for each leaf. For
    real parameters equals `torch.optim.NAdam`; with ψ = 1, Keras `Nadam`; with ψ = ∞, `optax.nadam`.

    Reference: T. Dozat, Incorporating Nesterov momentum into Adam, ICLR workshop 2016.
    """
    return chain(
        "nadam",
        scale_by_nadam(b1=b1, b2=b2, eps=eps, eps_root=eps_root, momentum_decay=momentum_decay),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
