"""The budget for timing: at most a tenth of the time of the study.

Only timing shows how many lanes run best side by side, and how long a step takes. If timing would cost more than it can
save, it is left out: a study of a few seconds uses the usual plan of its platform.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Cost", "MeasuringBudget", "Work"]

SHARE = 0.1


@dataclass(frozen=True)
class Cost:
    """The seconds that a lane takes: `once` for its start and scoring, and `block` for each block of its steps."""

    once: float
    block: float

    def lane(self, blocks: int) -> float:
        """Return the seconds of a lane with the given number of blocks."""
        return self.once + blocks * self.block


@dataclass(frozen=True)
class Work:
    """The work of a study, in blocks of steps; it is known before anything runs.

    Args:
        runs: pairs of a number of lanes and the number of blocks that each of them runs.
        once: the work of a lane besides its steps, such as scoring, in blocks.
    """

    runs: tuple[tuple[int, int], ...]
    once: float = 0.0

    @property
    def blocks(self) -> int:
        """The number of blocks of the longest lanes."""
        return max(blocks for _, blocks in self.runs)

    @property
    def total(self) -> float:
        """The work of all lanes, in blocks, scoring included."""
        return sum(self.of(lanes, blocks) for lanes, blocks in self.runs)

    def of(self, lanes: int, blocks: int) -> float:
        """Return the work of so many lanes with so many blocks."""
        return lanes * (self.once + blocks)

    def seconds(self, cost: Cost) -> float:
        """Return the seconds of the study if a lane has that cost."""
        return sum(lanes * cost.lane(blocks) for lanes, blocks in self.runs)


@dataclass
class MeasuringBudget:
    """How much timing is allowed: a tenth of the study's seconds, and never more steps than the study has.

    Before anything has run, the seconds are not known; then a tenth of the study's work is allowed.

    Args:
        work: the work of the study.
        seconds: how long the study is expected to take; None before that is known.
        spent: the seconds spent on timing so far.
        done: the work done for timing so far.
    """

    work: Work
    seconds: float | None = None
    spent: float = 0.0
    done: float = 0.0

    def allows(self, work: float, seconds: float = 0.0) -> bool:
        """Return whether the budget allows that much more work, which takes about that many seconds."""
        done = self.done + work
        if self.seconds is None:
            return done <= SHARE * self.work.total
        return done <= self.work.total and self.spent + seconds <= SHARE * self.seconds

    @contextmanager
    def spending(self, work: float = 0.0) -> Iterator[None]:
        """Charge the body of the `with` statement to the budget."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent += time.perf_counter() - start
            self.done += work
