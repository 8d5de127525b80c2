"""Linen's `TrainState` for optimizers that need extra arguments: Newton's method, exact Nesterov, line searches."""

import functools
from collections.abc import Mapping
from typing import Any, Self

import optax
from flax.training import train_state

from jaxopt_lec.transformation import of_multi_steps

__all__ = ["TrainState"]


class TrainState(train_state.TrainState):
    """`flax.training.train_state.TrainState` whose `apply_gradients` forwards extra arguments to the optimizer."""

    def apply_gradients(self, *, grads: Any, extra_args: Mapping[str, Any] | None = None, **kwargs: Any) -> Self:
        """Apply the gradients as Flax does, calling `tx.update(grads, opt_state, params, **extra_args)`.

        Args:
            grads: gradients, a tree like `params`.
            extra_args: such as `{"value_fn": loss, "batch": batch}`; `None` forwards nothing.
            **kwargs: further fields to replace, as in Flax.
        """
        tx = optax.with_extra_args_support(of_multi_steps(self.tx))
        bound = optax.GradientTransformationExtraArgs(tx.init, functools.partial(tx.update, **(extra_args or {})))
        state = super(TrainState, self.replace(tx=bound)).apply_gradients(grads=grads, **kwargs)
        return state.replace(tx=self.tx)
