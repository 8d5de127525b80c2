"""A workload of your own: what is trained, in four parts, for `jaxopt-lec compare` and for `lab.sweep`.

You learn: a workload is data, an initialisation, a loss and a metric, and says what it is scored by. Whatever has these
parts can be studied, from the command line too:

    jaxopt-lec compare --workload examples/your_own_workload.py:make --optimizers sgd,momentum,adam
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lec.lab.compare import Budget, Study
from jaxopt_lec.lab.contestants import find_contestants
from jaxopt_lec.lab.workloads import Data, Score


class MatrixCompletion:
    """Find a matrix of rank 3 from some of its entries: a product of two factors, which no loss surface makes convex."""

    name = "matrix-completion"
    score = Score("squared error", higher_is_better=False)

    def __init__(self, rows=60, columns=40, rank=3):
        """Draw the matrix, and which of its entries are known."""
        random = np.random.default_rng(0)
        truth = (random.normal(size=(rows, rank)) @ random.normal(size=(rank, columns))).astype(np.float32)
        places = random.permutation(rows * columns)
        where = np.stack(np.unravel_index(places, truth.shape), 1).astype(np.int32)
        examples = where, truth[tuple(where.T)] + 0.1 * random.normal(size=len(where)).astype(np.float32)
        cuts = [len(where) // 2, 3 * len(where) // 4]
        self.data = Data(*zip(*(np.split(array, cuts) for array in examples), strict=True))
        self.shape, self.rank = truth.shape, rank

    def initialize(self, key):
        """Draw the parameters; this model has no other state, such as running averages."""
        left, right = jax.random.split(key)
        rows, columns = self.shape
        factors = {
            "left": jax.random.normal(left, (rows, self.rank)) / 3,
            "right": jax.random.normal(right, (columns, self.rank)) / 3,
        }
        return factors, ()

    def loss(self, params, state, batch, key):
        """Return the loss of a mini-batch, and the new state; the key is for noise such as dropout."""
        return self.metric(params, state, batch)[0].mean(), state

    def metric(self, params, state, batch):
        """Return loss and score of every example."""
        where, wanted = batch
        found = (params["left"][where[:, 0]] * params["right"][where[:, 1]]).sum(1)
        error = jnp.square(found - wanted)
        return error, error


def make():
    return MatrixCompletion()


if __name__ == "__main__":
    study = Study(make(), find_contestants(["sgd", "momentum", "adam"]), Budget((0.01, 0.1, 1.0), steps=100, seeds=2))
    for result in study.run().results:
        if result.selection is not None:
            print(f"{result.name:9} rate {result.selection.learning_rate:<5g} test error {result.loss.mean:.4f}")
