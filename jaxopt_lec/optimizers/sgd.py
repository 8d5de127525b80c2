"""Stochastic gradient descent: θ ← θ − η g."""

from typing import Any

import optax

from jaxopt_lec.equation import equation
from jaxopt_lec.hyperparameters import NonNegative, ScalarOrSchedule

__all__ = ["scale_by_learning_rate", "sgd"]


@equation()
def scale_by_learning_rate(
    g: Any, s: Any, p: Any, t: Any, *, learning_rate: NonNegative = 1.0, flip_sign: bool = True
) -> tuple[Any, dict[str, Any]]:
    """Multiply by the learning rate, and turn uphill into downhill: u = −η g.

    Args:
        learning_rate: η in [0, ∞).
        flip_sign: False leaves the sign, u = η g, for a learning rate that stands before other atoms of a chain.

    Slots: none. Equals `optax.scale_by_learning_rate`; here the rate is in the state, number and schedule alike.
    """
    return (-learning_rate if flip_sign else learning_rate) * g, {}


def sgd(learning_rate: ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient descent, θ ← θ − η g.

    Batch gradient descent is the same step on the exact gradient of the whole data set: `full_batch_value_and_grad`.

    Args:
        learning_rate: η in [0, ∞).

    Slots: none. Equals `optax.sgd`, `torch.optim.SGD` and Keras `SGD` without momentum.

    Reference: H. Robbins and S. Monro, A stochastic approximation method, 1951.
    """
    return scale_by_learning_rate(learning_rate=learning_rate)
