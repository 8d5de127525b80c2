"""Classification with a Flax NNX model, as a workload."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.workloads.checks import SETS, TRIED, canonical, check_data, described, traced
from jaxopt_lec.lab.workloads.workload import ACCURACY, Batch, Data, Params, Score, State


def check_range(what: str, labels: np.ndarray | jax.Array, outputs: int) -> None:
    """Raise an InputError if a label is not the number of an output."""
    low, high = int(labels.min()), int(labels.max())
    if low >= 0 and high < outputs:
        return
    way = f"number the classes from 0 to {outputs - 1}"
    if low >= 0:
        way += f", or give the model {high + 1} outputs"
    if low == 1 and high == outputs:
        way = "subtract 1"
    raise InputError(f"{what} range from {low} to {high}, but the model has {outputs} outputs: {way}")


@dataclass(frozen=True)
class Classification:
    """Softmax cross-entropy of an NNX model over batches of (images, labels).

    Args:
        name: the name in tables and plots.
        data: each set is a pair of images, [n, height, width], and labels, [n] integers from 0 to the number of outputs − 1.
        model: builds the model from its random streams. It is called as ``model(images, key)`` in training mode and
            ``model(images, None)`` in evaluation mode.
        l2: λ in the training loss + λ/2 · Σ W² over the parameters with two or more axes.

    Raises:
        InputError: the data are not such pairs, or a label is not the number of one of the model's outputs.
    """

    name: str
    data: Data
    model: Callable[[nnx.Rngs], nnx.Module]
    l2: float = 0.0
    score: Score = field(default=ACCURACY, init=False)
    _graph: nnx.GraphDef[nnx.Module] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Keep the model's structure, whose arrays are in the parameters and the state, and check the labels."""
        model = nnx.eval_shape(lambda: self.model(nnx.Rngs(0)))
        object.__setattr__(self, "_graph", nnx.graphdef(model))
        self._check_labels(nnx.state(model))

    def _check_labels(self, model: State) -> None:
        """Check that every label is the number of an output: for any other, the loss is NaN or that of another label."""
        what = f"workload {self.name!r}"
        check_data(self.data, what)
        for part in SETS:
            if not isinstance(getattr(self.data, part), tuple | list) or len(getattr(self.data, part)) != 2:
                raise InputError(f"{what}: data.{part} must be a pair (images, labels)")
        images, labels = self.data.train
        if not isinstance(labels, np.ndarray | jax.Array) or not jnp.issubdtype(labels.dtype, jnp.integer):
            dtype = getattr(labels, "dtype", type(labels).__name__)
            raise InputError(
                f"{what}: its labels are {dtype}, but they must be integers, the numbers of outputs: labels.astype(int)"
            )
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((TRIED, *x.shape[1:]), canonical(x)), images)
        logits = traced(what, "model(images, None)", lambda m, x: nnx.merge(self._graph, m)(x, None), model, batch)
        shape = getattr(logits, "shape", ())
        if not shape or shape[:-1] != (TRIED, *labels.shape[1:]):
            raise InputError(
                f"{what}: for {TRIED} examples, with labels of shape {(TRIED, *labels.shape[1:])}, the model must return an "
                f"array with one more axis, the outputs, but it returns {described(logits)}"
            )
        for part in SETS:
            check_range(f"{what}: the labels of data.{part}", getattr(self.data, part)[1], shape[-1])

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
