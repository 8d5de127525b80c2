"""Adam: m and v are averages of g and g²; θ ← θ − η m̂ / (√(v̂ + ε_root) + ε)."""

from typing import Any

import optax

from jaxopt_lec.arithmetic import abs2, ema, one_minus_power, sqrt
from jaxopt_lec.equation import chain, equation
from jaxopt_lec.hyperparameters import Decay, NonNegative, ScalarOrSchedule
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import zeros, zeros_real

__all__ = ["adam", "scale_by_adam"]


@equation(m=zeros, v=zeros_real)
def scale_by_adam(
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
    bias_correction: bool = True,
) -> tuple[Any, dict[str, Any]]:
    """Divide the mean gradient by its root mean square: u = m̂ / (√(v̂ + ε_root) + ε + ε̂/√(1−β₂ᵗ)).

    m ← β₁ m + (1−β₁) g,  v ← β₂ v + (1−β₂)|g|²,  m̂ = m/(1−β₁ᵗ),  v̂ = v/(1−β₂ᵗ).

    Arguments, slots and reference as in `adam`. Equals `optax.scale_by_adam`.
    """
    m = ema(s.m, g, b1)
    v = ema(s.v, abs2(g), b2)
    c1, c2 = (one_minus_power(b1, t), one_minus_power(b2, t)) if bias_correction else (1.0, 1.0)
    return m / c1 / (sqrt(v / c2 + eps_root) + eps + eps_hat / sqrt(c2)), {"m": m, "v": v}


def adam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    *,
    eps_hat: ScalarOrSchedule = 0.0,
    bias_correction: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Adam: θ ← θ − η m̂ / (√(v̂ + ε_root) + ε), m̂ and v̂ the bias-corrected averages of g and |g|².

    m ← β₁ m + (1−β₁) g,  v ← β₂ v + (1−β₂)|g|²,  m̂ = m/(1−β₁ᵗ),  v̂ = v/(1−β₂ᵗ).
    The lecture's slide has ε inside the root: `adam(η, eps=0.0, eps_root=1e-8)`; its β₂ = 0.9999 is a slip for 0.999.

    Args:
        learning_rate: η in [0, ∞).
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε outside the root, in [0, ∞); with both 0, a zero gradient gives 0/0.
        eps_root: ε inside the root, in [0, ∞); above 0 it also keeps derivatives through many steps bounded.
        eps_hat: ε̂ in [0, ∞), on the uncorrected root, √v + ε̂, as in the paper's section 2: the denominator gets
            ε̂/√(1−β₂ᵗ) beside ε.
        bias_correction: False takes m̂ = m and v̂ = v, to see what the correction is for.

    Slots: m like the parameter; v real, of its shape. For real parameters equals `torch.optim.Adam`, which squares real and
    imaginary parts apart; equals `optax.adam`; with `eps=0.0, eps_hat=1e-7`, Keras `Adam`.

    Reference: D. Kingma and J. Ba, Adam: a method for stochastic optimization, ICLR 2015.
    """
    return chain(
        "adam",
        scale_by_adam(b1=b1, b2=b2, eps=eps, eps_root=eps_root, eps_hat=eps_hat, bias_correction=bias_correction),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
