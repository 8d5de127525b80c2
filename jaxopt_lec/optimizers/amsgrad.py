"""AMSGrad: Adam whose denominator never shrinks: v_max ← max(v_max, v)."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import abs2, ema, one_minus_power, sqrt
from jaxopt_lec.equation import chain, equation
from jaxopt_lec.hyperparameters import Decay, NonNegative, ScalarOrSchedule
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import zeros, zeros_real

__all__ = ["amsgrad", "scale_by_amsgrad"]


@equation(m=zeros, v=zeros_real, v_max=zeros_real)
def scale_by_amsgrad(
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
    """Divide by the largest root mean square so far: v_max ← max(v_max, v), u = m̂ / (√(v̂_max + ε_root) + ε + ε̂/√(1−β₂ᵗ)).

    Arguments, slots and reference as in `amsgrad`.
    """
    m = ema(s.m, g, b1)
    v = ema(s.v, abs2(g), b2)
    v_max = jnp.maximum(s.v_max, v)
    c1, c2 = (one_minus_power(b1, t), one_minus_power(b2, t)) if bias_correction else (1.0, 1.0)
    return m / c1 / (sqrt(v_max / c2 + eps_root) + eps + eps_hat / sqrt(c2)), {"m": m, "v": v, "v_max": v_max}


def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    *,
    eps_hat: ScalarOrSchedule = 0.0,
    bias_correction: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """AMSGrad: v_max ← max(v_max, v); θ ← θ − η m̂ / (√(v_max/(1−β₂ᵗ) + ε_root) + ε), m and v as in `adam`.

    The maximum is over the uncorrected v, as in the paper and PyTorch; `optax.amsgrad` takes it over v̂.

    Args:
        learning_rate, b1, b2, eps, eps_root, eps_hat: as in `adam`.
        bias_correction: False is the paper's Algorithm 2 to the letter, which leaves the correction out "for simplicity".

    Slots: m like the parameter; v, v_max real, of its shape. For real parameters equals `torch.optim.Adam(amsgrad=True)`;
    with `eps=0.0, eps_hat=1e-7`, Keras `Adam(amsgrad=True)`.

    Reference: S. Reddi, S. Kale, S. Kumar, On the convergence of Adam and beyond, ICLR 2018.
    """
    return chain(
        "amsgrad",
        scale_by_amsgrad(b1=b1, b2=b2, eps=eps, eps_root=eps_root, eps_hat=eps_hat, bias_correction=bias_correction),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
