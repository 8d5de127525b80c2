"""RAdam, rectified Adam: momentum alone until the second moment has seen enough steps to be trusted."""

import math
from typing import Annotated, Any

import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import abs2, complement, debias, ema, one_minus_power, sqrt
from jaxopt_lec.equation import chain, equation
from jaxopt_lec.hyperparameters import Decay, Hyper, NonNegative, Range, ScalarOrSchedule
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import zeros, zeros_real

__all__ = ["radam", "scale_by_radam"]


def averaged_steps(b: Any, t: Any) -> Any:
    """Return ρₜ = ρ_∞ − 2 t bᵗ/(1−bᵗ), ρ_∞ = 2/(1−b) − 1: how many steps an average with decay b has behind it.

    As written it subtracts two numbers near ρ_∞ to get one near t, 1e-4 wrong in float32. There, while b ≥ 0.9 and
    bᵗ > 1/e, it is summed from x = −t log b by the Bernoulli series of x/(eˣ−1) instead, in which ρ_∞ cancels exactly.
    """
    c = complement(b)
    direct = (1 + b) / c - 2 * t * (1 - one_minus_power(b, t)) / one_minus_power(b, t)
    if t.dtype == jnp.float64:
        return direct
    x = jnp.minimum(-t * jnp.log1p(-jnp.minimum(c, 0.1)), 1)
    series = c / 6 + c**2 / 12 + 19 * c**3 / 360 + 3 * c**4 / 80 + 863 * c**5 / 30240
    series += t * (1 - x / 6 + x**3 / 360 - x**5 / 15120 + x**7 / 604800 - x**9 / 23950080)
    return jnp.where((c <= 0.1) & (x < 1), series, direct)


@equation(m=zeros, v=zeros_real)
def scale_by_radam(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    *,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    eps_hat: NonNegative = 0.0,
    threshold: Annotated[Hyper, Range(4, math.inf)] = 4.0,
) -> tuple[Any, dict[str, Any]]:
    """Rectify Adam's direction: u = rₜ m̂ / (√(v̂ + ε_root) + ε + ε̂/√(1−β₂ᵗ)) where ρₜ > threshold, else m̂.

    Arguments, slots, rₜ and reference as in `radam`. Equals `optax.scale_by_radam`, whose threshold is 5.
    """
    m = ema(s.m, g, b1)
    v = ema(s.v, abs2(g), b2)
    m_hat = debias(m, b1, t)
    rho_inf, rho = (1 + b2) / complement(b2), averaged_steps(b2, t)
    # The maximum keeps the branch that is not taken real.
    r2 = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    c2 = one_minus_power(b2, t)
    rectified = sqrt(jnp.maximum(r2, 0)) * m_hat / (sqrt(v / c2 + eps_root) + eps + eps_hat / sqrt(c2))
    return jnp.where(rho > threshold, rectified, m_hat), {"m": m, "v": v}


def radam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    *,
    eps_hat: ScalarOrSchedule = 0.0,
    threshold: ScalarOrSchedule = 4.0,
) -> optax.GradientTransformationExtraArgs:
    """RAdam: θ ← θ − η rₜ m̂ / (√(v̂ + ε_root) + ε) if ρₜ > threshold, else θ ← θ − η m̂; m̂ and v̂ as in `adam`.

    ρ_∞ = 2/(1−β₂) − 1,  ρₜ = ρ_∞ − 2tβ₂ᵗ/(1−β₂ᵗ),  rₜ² = (ρₜ−4)(ρₜ−2)ρ_∞ / ((ρ_∞−4)(ρ_∞−2)ρₜ).

    Args:
        learning_rate, b1, b2, eps, eps_root, eps_hat: as in `adam`.
        threshold: in [4, ∞): the variance of the step is finite above 4, the paper's value; PyTorch and Optax have 5.

    Slots: m like the parameter; v real, of its shape. Equals `optax.radam` with `threshold=5.0` (there ρₜ ≥ 5);
    for real parameters, with `threshold=5.0, eps=0.0, eps_hat=1e-8`, `torch.optim.RAdam`.

    Reference: L. Liu et al., On the variance of the adaptive learning rate and beyond, ICLR 2020.
    """
    return chain(
        "radam",
        scale_by_radam(b1=b1, b2=b2, eps=eps, eps_root=eps_root, eps_hat=eps_hat, threshold=threshold),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
