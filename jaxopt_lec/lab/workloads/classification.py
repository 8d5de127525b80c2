"""Classification with a Flax NNX model, as a workload."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxopt_lec.lab.workloads.workload import ACCURACY, Batch, Data, Params, Score, State


@dataclass(frozen=True)
class Classification:
    """Softmax cross-entropy of an NNX model over batches of (images, labels).

    Args:
        name: how tables and plots call it.
        data: each set a pair of images, [n, height, width], and labels, [n] integers.
        model: builds the model from its random streams. It is called as ``model(images, key)`` in training mode and
            ``model(images, None)`` in evaluation mode.
        l2: λ in the training loss + λ/2 · Σ W² over the parameters with two or more axes.
    """

    name: str
    data: Data
    model: Callable[[nnx.Rngs], nnx.Module]
    l2: float = 0.0
    score: Score = field(default=ACCURACY, init=False)
    _graph: nnx.GraphDef[nnx.Module] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Keep the model's structure; its arrays live in the parameters and the state."""
        object.__setattr__(self, "_graph", nnx.graphdef(nnx.eval_shape(lambda: self.model(nnx.Rngs(0)))))

    def initialize(self, key: jax.Array) -> tuple[Params, State]:
        """Draw the parameters; the state is all else the model holds, such as running averages."""
        model = self.model(nnx.Rngs(key))
        return nnx.state(model, nnx.Param), nnx.state(model, nnx.Not(nnx.Param))

    def loss(self, params: Params, state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, State]:
        """Return the mean cross-entropy in training mode plus the L2 penalty, and the new state."""
        images, labels = batch
        model = nnx.merge(self._graph, params, state, copy=True)  # it writes its running averages
        value = optax.softmax_cross_entropy_with_integer_labels(model(images, key), labels).mean()
        if self.l2:
            value += 0.5 * self.l2 * sum(jnp.sum(p**2) for p in jax.tree.leaves(params) if p.ndim > 1)
        return value, nnx.state(model, nnx.Not(nnx.Param))

    def metric(self, params: Params, state: State, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return the cross-entropy of every example, without the penalty, and whether it was classified rightly."""
        images, labels = batch
        logits = nnx.merge(self._graph, params, state)(images, None)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return loss, (logits.argmax(-1) == labels).astype(jnp.float32)
