"""Adagrad: G ← G + g²; θ ← θ − η g / (√(G + ε_root) + ε)."""

from typing import Any

import optax

from jaxopt_lec.arithmetic import abs2, sqrt
from jaxopt_lec.equation import chain, equation
from jaxopt_lec.hyperparameters import NonNegative, ScalarOrSchedule
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import full_real

__all__ = ["adagrad", "scale_by_adagrad"]


@equation(G=full_real("initial_accumulator"))
def scale_by_adagrad(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    *,
    eps: NonNegative = 1e-10,
    eps_root: NonNegative = 0.0,
    initial_accumulator: NonNegative = 0.0,
    learning_rate_decay: NonNegative = 0.0,
) -> tuple[Any, dict[str, Any]]:
    """Divide by the root of the sum of squares: G ← G + |g|², u = g / ((√(G + ε_root) + ε)(1 + (t−1) d)).

    Arguments, slots and reference as in `adagrad`.
    """
    G = s.G + abs2(g)
    return g / ((sqrt(G + eps_root) + eps) * (1 + (t - 1) * learning_rate_decay)), {"G": G}


def adagrad(
    learning_rate: ScalarOrSchedule,
    eps: ScalarOrSchedule = 1e-10,
    eps_root: ScalarOrSchedule = 0.0,
    *,
    initial_accumulator: ScalarOrSchedule = 0.0,
    learning_rate_decay: ScalarOrSchedule = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Adagrad: G ← G + |g|²; θ ← θ − η g / (√(G + ε_root) + ε). G only grows, so the steps die out.

    The lecture's slide has ε inside the root: `adagrad(η, eps=0.0, eps_root=1e-10)`.

    Args:
        learning_rate: η in [0, ∞).
        eps: ε outside the root, in [0, ∞), the paper's δ; with both 0, a zero gradient gives 0/0.
        eps_root: ε inside the root, in [0, ∞).
        initial_accumulator: G₀ in [0, ∞); used once, by `init`.
        learning_rate_decay: d in [0, ∞), divides η by 1 + (t−1) d, as PyTorch's `lr_decay`.

    Slots: G, real, of the parameter's shape. For real parameters equals `torch.optim.Adagrad`; with `eps=0.0, eps_root=1e-7,
    initial_accumulator=0.1`, Keras `Adagrad` and `optax.adagrad`.

    Reference: J. Duchi, E. Hazan, Y. Singer, Adaptive subgradient methods for online learning, JMLR 2011.
    """
    return chain(
        "adagrad",
        scale_by_adagrad(
            eps=eps,
            eps_root=eps_root,
            initial_accumulator=initial_accumulator,
            learning_rate_decay=learning_rate_decay,
        ),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
