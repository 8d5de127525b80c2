"""The paths that optimizers take over a surface."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lec.lab.compare import HALF_DECADES
from jaxopt_lec.lab.contestants import Contestant, try_out
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.minimize import Minimization, Stop, minimize
from jaxopt_lec.lab.surfaces import Surface
from jaxopt_lec.lab.wording import count

__all__ = ["Descent", "Track"]


@dataclass(frozen=True)
class Track:
    """One optimizer's path.

    Attributes:
        name: what legends call the optimizer.
        learning_rate: η.
        points: [step, coordinate], the start first; where it diverged, up to the last finite point.
        values: [step], the surface there.
        diverged: whether a value or gradient was not finite.
    """

    name: str
    learning_rate: float
    points: np.ndarray
    values: np.ndarray
    diverged: bool

    @property
    def updates(self) -> np.ndarray:
        """[step, coordinate], from each point to the next."""
        return np.diff(self.points, axis=0)


@dataclass(frozen=True)
class Descent:
    """Several optimizers from one point of a surface; all that can be checked beforehand is checked here.

    Args:
        surface: of one or two dimensions, so that it can be drawn.
        contestants: the optimizers.
        learning_rates: one for all, or one each. None: for each the one of `HALF_DECADES` with the lowest
            mean value along its path; a path that stays inside the surface's box is preferred to one that does not.
        start: one number for each coordinate; None: the surface's own.
        steps: at least 1.

    Raises:
        InputError: one of these cannot be used.
    """

    surface: Surface
    contestants: Sequence[Contestant]
    learning_rates: Sequence[float] | None = None
    start: Sequence[float] | None = None
    steps: int = 100

    def __post_init__(self) -> None:
        """Check the arguments, and try the optimizers out."""
        if self.surface.dimension > 2:
            raise InputError(f"{self.surface.name} of dimension {self.surface.dimension}: only 1 and 2 can be drawn")
        if self.steps < 1:
            raise InputError(f"steps {self.steps}: at least 1 is needed")
        if self.start is not None:
            check_start(self.surface, self.start)
        rates = self.learning_rates
        if rates is not None:
            if len(rates) not in (1, len(self.contestants)):
                raise InputError(
                    f"{count(len(rates), 'learning rate')} for {count(len(self.contestants), 'optimizer')}: one for all or "
                    "one each is needed"
                )
            for rate in rates:
                if not 0 < rate < math.inf:
                    raise InputError(f"learning rate {rate}: a positive number is needed")
        for contestant in self.contestants:
            try_out(contestant, jax.ShapeDtypeStruct((self.surface.dimension,), jnp.float32))

    def run(self, progress: Callable[[str, int], None] = lambda name, done: None) -> tuple[Track, ...]:
        """Run all of them, in float64.

        Args:
            progress: called before each one with its name and how many are done.
        """
        tracks = []
        for i, contestant in enumerate(self.contestants):
            progress(contestant.name, i)
            rates = self.learning_rates
            tracks.append(self.follow(contestant, HALF_DECADES if rates is None else [rates[i % len(rates)]]))
        return tuple(tracks)

    def follow(self, contestant: Contestant, rates: Sequence[float]) -> Track:
        """Run one optimizer at all of some rates in one program, and return its best path."""
        start = np.array(self.surface.start if self.start is None else self.start)
        with jax.enable_x64(True):
            run = jax.vmap(lambda rate: minimize(self.surface, start, contestant.factory(rate), self.steps))
            results = jax.tree.map(np.asarray, run(jnp.array(rates, float)))
        best = best_lane(self.surface, results)
        result = jax.tree.map(lambda x: x[best], results)
        diverged = int(result.stop) == Stop.NOT_FINITE
        kept = max(1, int(result.steps) + (0 if diverged else 1))
        return Track(contestant.name, rates[best], result.trajectory[:kept], result.values[:kept], diverged)


def best_lane(surface: Surface, results: Minimization) -> int:
    """Return the lane with the lowest mean value along its path, preferably of those that never leave the box."""
    low, high = surface.domain
    inside = np.all((low <= results.trajectory) & (results.trajectory <= high), axis=(1, 2))
    means = np.mean(results.values, axis=1)  # the end alone would often favour a rate that leaps about and was lucky at last
    means = np.where(np.isfinite(means), means, np.inf)
    return int(np.lexsort((means, ~inside))[0])


def check_start(surface: Surface, start: Sequence[float]) -> None:
    """Raise an InputError for a start from which no path can begin."""
    said = ", ".join(f"{x:g}" for x in start)
    if len(start) != surface.dimension or not all(map(math.isfinite, start)):
        raise InputError(f"start {said}: {surface.name} needs {surface.dimension} finite numbers")
    with jax.enable_x64(True):
        if not np.isfinite(surface(jnp.array(start, float))):
            raise InputError(f"start {said}: {surface.name} is not finite there")
