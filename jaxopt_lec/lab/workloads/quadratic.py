"""The noisy quadratic: the model of a loss near its minimum in which most is known about optimizers."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lec.lab.workloads.workload import Batch, Data, Params, Score, State

EXAMPLES = 4096


@dataclass(frozen=True)
class NoisyQuadratic:
    """f(θ) = ½ θᵀ H θ, known only through mini-batches: ½ (θ − c̄)ᵀ H (θ − c̄), c̄ the mean of B centres drawn from N(0, H⁻¹).

    So the gradient is H θ plus noise of covariance H / B, as large as the curvature, as it is for the negative logarithm of
    a likelihood. H = Q diag(h) Qᵀ has nine tenths of its eigenvalues in (0, 1) and one tenth in (30, 60); Q is a random
    rotation, so that methods which work coordinate by coordinate find no axis prepared for them. H and Q are always the
    same; a seed draws the start, of N(0, 9 I), and the noise of every step.

    An example is nothing but its place in a mini-batch. All held-out sets are scored by f itself, exactly.

    Args:
        dimensions: at least 10.

    Reference: G. Zhang et al., Which algorithmic choices matter at which batch sizes? Insights from a noisy quadratic
    model, NeurIPS 2019.
    """

    dimensions: int = 100
    name: str = field(default="noisy-quadratic", init=False)
    score: Score = field(default=Score("excess loss", higher_is_better=False), init=False)
    eigenvalues: np.ndarray = field(init=False, repr=False, compare=False)
    rotation: np.ndarray = field(init=False, repr=False, compare=False)  # the columns are the eigenvectors

    def __post_init__(self) -> None:
        """Draw the eigenvalues and the rotation."""
        random = np.random.default_rng(0)
        steep = self.dimensions // 10
        eigenvalues = np.concatenate([random.uniform(0, 1, self.dimensions - steep), random.uniform(30, 60, steep)])
        rotation, _ = np.linalg.qr(random.standard_normal((self.dimensions, self.dimensions)))
        object.__setattr__(self, "eigenvalues", eigenvalues.astype(np.float32))
        object.__setattr__(self, "rotation", rotation.astype(np.float32))

    @property
    def data(self) -> Data:
        """Only the number of examples matters."""
        return Data(*(np.zeros(n, np.int8) for n in (EXAMPLES, 1, 1)))

    def initialize(self, key: jax.Array) -> tuple[Params, State]:
        """Draw the start; there is no state."""
        return {"theta": 3 * jax.random.normal(key, (self.dimensions,))}, ()

    def loss(self, params: Params, state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, State]:
        """Return the mean loss over the mini-batch's centres, without the part that does not depend on θ."""
        centre = jax.random.normal(key, (self.dimensions,)) / jnp.sqrt(self.eigenvalues * len(batch))  # Qᵀ c̄
        return self._value(params["theta"] @ self.rotation - centre), state

    def metric(self, params: Params, state: State, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return f, for every example."""
        value = jnp.full(len(batch), self._value(params["theta"] @ self.rotation))
        return value, value

    def _value(self, x: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(self.eigenvalues * x**2)
