"""AdamW: Adam with the weight decay beside the gradient, not in it: θ ← θ − η (m̂/(√v̂ + ε) + λ θ)."""

from typing import Any

import optax

from jaxopt_lec.equation import chain, equation, masked
from jaxopt_lec.hyperparameters import NonNegative, ScalarOrSchedule
from jaxopt_lec.optimizers.adam import scale_by_adam
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate

__all__ = ["adamw", "add_decayed_weights", "decay_weights"]


@equation()
def add_decayed_weights(g: Any, s: Any, p: Any, t: Any, *, weight_decay: NonNegative = 0.0) -> tuple[Any, dict[str, Any]]:
    """Add a multiple of the parameter: u = g + λ θ.

    Before the other atoms of a chain it is L2 regularisation, after them decoupled weight decay. Give it a mask with
    `optax.masked`.

    Args:
        weight_decay: λ in [0, ∞).

    Slots: none. Errors: ValueError without `params`. Equals `optax.add_decayed_weights`; here λ is in the state.
    """
    return g + weight_decay * p, {}


@equation()
def decay_weights(
    g: Any, s: Any, p: Any, t: Any, *, learning_rate: NonNegative = 1.0, weight_decay: NonNegative = 0.0
) -> tuple[Any, dict[str, Any]]:
    """Add the decay itself: u = g − η λ θ, for methods whose step holds its learning rate already.

    Args:
        learning_rate: η in [0, ∞).
        weight_decay: λ in [0, ∞).

    Slots: none. Errors: ValueError without `params`.
    """
    return g - learning_rate * weight_decay * p, {}


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    *,
    weight_decay: ScalarOrSchedule = 1e-2,
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """AdamW: θ ← θ − η (m̂ / (√(v̂ + ε_root) + ε) + λ θ), m̂ and v̂ as in `adam`.

    Args:
        learning_rate, b1, b2, eps, eps_root: as in `adam`.
        weight_decay: λ in [0, ∞); multiplied by η, as in PyTorch and Optax (the paper's schedule multiplier is η here).
        mask: tree of bools like the parameters, or a function from them to one: where to decay. None: everywhere.

    Slots: m like the parameter; v real, of its shape. Errors: ValueError without `params`. For real parameters equals
    `torch.optim.AdamW`, and for all `optax.adamw`, whose default λ is 1e-4.

    Reference: I. Loshchilov and F. Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    return chain(
        "adamw",
        scale_by_adam(b1=b1, b2=b2, eps=eps, eps_root=eps_root),
        masked("adamw", add_decayed_weights(weight_decay=weight_decay), mask),
        scale_by_learning_rate(learning_rate=learning_rate),
    )
