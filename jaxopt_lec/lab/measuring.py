"""What measuring may cost: at most a tenth of the study that it serves.

How many lanes run best side by side, and what a step takes, can only be measured. A measurement that costs more than it can
save is not made: a study of a few seconds takes the usual plan of its platform.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Cost", "MeasuringBudget", "Work"]

SHARE = 0.1


@dataclass(frozen=True)
class Cost:
    """What a lane takes, in seconds: once, and for each block of its steps."""

    once: float
    block: float

    def lane(self, blocks: int) -> float:
        """Return the seconds that a lane of so many blocks takes."""
        return self.once + blocks * self.block


@dataclass(frozen=True)
class Work:
    """What a study has to do, in blocks of steps: known before anything runs.

    Args:
        runs: pairs of a number of lanes and the blocks of steps that each of them takes.
        once: what a lane does besides its steps, such as scoring, in blocks.
    """

    runs: tuple[tuple[int, int], ...]
    once: float = 0.0

    @property
    def blocks(self) -> int:
        """The blocks of the longest lanes."""
        return max(blocks for _, blocks in self.runs)

    @property
    def total(self) -> float:
        """All blocks of all lanes, with what the lanes do besides."""
        return sum(self.of(lanes, blocks) for lanes, blocks in self.runs)

    def of(self, lanes: int, blocks: int) -> float:
        """Return what some lanes of some blocks do."""
        return lanes * (self.once + blocks)

    def seconds(self, cost: Cost) -> float:
        """Return how long the study runs if a lane has that cost."""
        return sum(lanes * cost.lane(blocks) for lanes, blocks in self.runs)


@dataclass
class MeasuringBudget:
    """How much may be measured: a tenth of the study's seconds, and never more steps than the study has.

    Before anything has run, nobody knows the seconds; then a tenth of the work may be done.

    Args:
        work: what the study has to do.
        seconds: how long the study is expected to take; None before that is known.
        spent: the seconds that measuring has taken.
        done: the work that measuring has done.
    """

    work: Work
    seconds: float | None = None
    spent: float = 0.0
    done: float = 0.0

    def allows(self, work: float, seconds: float = 0.0) -> bool:
        """Return whether so much work, which takes about so many seconds, may be done for a measurement."""
        done = self.done + work
        if self.seconds is None:
            return done <= SHARE * self.work.total
        return done <= self.work.total and self.spent + seconds <= SHARE * self.seconds

    @contextmanager
    def spending(self, work: float = 0.0) -> Iterator[None]:
        """Charge what is done inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent += time.perf_counter() - start
            self.done += work
