"""What a workload is: the small protocol that the study asks for, and nothing about optimizers."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import jax

Params: TypeAlias = Any
State: TypeAlias = Any
Batch: TypeAlias = Any


@dataclass(frozen=True)
class Data:
    """The three sets of a workload, each a tree of arrays whose first axis counts examples.

    The learning rate is chosen on ``validation``; ``test`` is looked at once, with the chosen learning rate.
    """

    train: Batch
    validation: Batch
    test: Batch


@dataclass(frozen=True)
class Score:
    """What the examples of a held-out set are scored by.

    Args:
        name: how tables and plots call it.
        higher_is_better: whether more of it is better.
        percent: whether it is a share, to be shown as a percentage.
    """

    name: str
    higher_is_better: bool
    percent: bool = False


ACCURACY = Score("accuracy", higher_is_better=True, percent=True)


class Workload(Protocol):
    """What is trained: data, an initialisation, a loss and a metric.

    All methods are pure functions of arrays: they run inside ``jax.jit`` and ``jax.vmap``.
    """

    @property
    def name(self) -> str:
        """How tables and plots call it."""

    @property
    def data(self) -> Data:
        """The training, validation and test sets."""

    @property
    def score(self) -> Score:
        """What `metric` scores by."""

    def initialize(self, key: jax.Array) -> tuple[Params, State]:
        """Draw the parameters, and whatever else the model carries from step to step (such as running averages)."""

    def loss(self, params: Params, state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, State]:
        """Return the training loss of a mini-batch, a scalar, and the new state. `key` is for dropout and the like."""

    def metric(self, params: Params, state: State, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return the loss and the score (accuracy: 1 if right, 0 if wrong) of every example, in evaluation mode."""
