"""The study: every optimizer over one grid of learning rates, chosen on validation data, tested on fresh seeds."""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import jax
import numpy as np

from jaxopt_lec.lab.contestants import Contestant, try_out
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.lanes import LaneProgram, Measured, Plan, candidates, compile_lanes, measure_plan
from jaxopt_lec.lab.training import (
    Lane,
    Outcome,
    Shared,
    block_length,
    examples,
    hold,
    seeded,
    train_lane,
)
from jaxopt_lec.lab.workloads import Workload

HALF_DECADES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
BATCH_SIZE = 128
# How many steps of the workload a plan is measured with: enough to rise above the cost of starting a program.
MEASURED_STEPS = 100

Progress: TypeAlias = Callable[[str, int], None]


@dataclass(frozen=True)
class Budget:
    """What every optimizer gets, the same for all.

    Args:
        learning_rates: the grid, ascending.
        steps: training steps of every lane.
        seeds: how many seeds the learning rate is chosen on, and how many fresh ones test it.
        batch_size: examples in a mini-batch.

    Raises:
        InputError: one of them is out of range.
    """

    learning_rates: tuple[float, ...] = HALF_DECADES
    steps: int = 500
    seeds: int = 5
    batch_size: int = BATCH_SIZE

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("steps", "seeds", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: at least 1 is needed")
        if not self.learning_rates:
            raise InputError("no learning rate given")
        for rate in self.learning_rates:
            if not 0 < np.float32(rate) < np.inf:
                raise InputError(f"learning rate {rate}: a positive number within the range of float32 is needed")
        for low, high in zip(self.learning_rates, self.learning_rates[1:], strict=False):
            if not low < high:
                raise InputError(f"learning rates must ascend: {low:g} is followed by {high:g}")

    @property
    def tuning_seeds(self) -> tuple[int, ...]:
        """The seeds that learning rates are chosen on."""
        return tuple(range(self.seeds))

    @property
    def fresh_seeds(self) -> tuple[int, ...]:
        """The seeds that the chosen learning rate is tested on."""
        return tuple(range(self.seeds, 2 * self.seeds))

    @property
    def lanes(self) -> int:
        """How many training runs one optimizer takes."""
        return (len(self.learning_rates) + 1) * self.seeds


@dataclass(frozen=True)
class Run:
    """One lane's end: loss and accuracy on validation data while tuning, on test data with a fresh seed."""

    learning_rate: float
    seed: int
    training_loss: float
    loss: float
    accuracy: float
    diverged: bool


@dataclass(frozen=True)
class Selection:
    """The learning rate that validation data chose, and whether the grid ended there."""

    learning_rate: float
    accuracy: float  # mean over the tuning seeds
    edge: Literal["lowest", "highest"] | None


@dataclass(frozen=True)
class Mean:
    """Mean ± standard error (n − 1) over the lanes that did not diverge; NaN where these are too few."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """Return the mean and its standard error."""
        n = len(values)
        return cls(
            float(np.mean(values)) if n else math.nan,
            float(np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
        )


@dataclass(frozen=True)
class Result:
    """What became of one optimizer."""

    name: str
    spec: str
    tuning: tuple[Run, ...]
    selection: Selection | None  # None: every lane of the grid diverged, so nothing was tested
    fresh: tuple[Run, ...]
    training_loss: np.ndarray  # [step]: mean over the fresh lanes that did not diverge; empty without any
    compile_seconds: float
    run_seconds: float

    @property
    def accuracy(self) -> Mean:
        """Test accuracy."""
        return Mean.of([run.accuracy for run in self.fresh if not run.diverged])

    @property
    def loss(self) -> Mean:
        """Test loss."""
        return Mean.of([run.loss for run in self.fresh if not run.diverged])


@dataclass(frozen=True)
class Comparison:
    """A whole study."""

    workload: str
    parameters: int
    examples: tuple[int, int, int]  # training, validation, test
    budget: Budget
    results: tuple[Result, ...]
    plan: Plan
    seconds_per_lane: dict[int, float]  # of every group size that was measured
    setup_seconds: float  # drawing the seeds, compiling and timing candidate plans
    seconds: float

    @property
    def lanes(self) -> int:
        """How many training runs there were."""
        return sum(len(result.tuning) + len(result.fresh) for result in self.results)


@dataclass
class Study:
    """A study that is set up and can be run; all that can be checked beforehand is checked here.

    Args:
        workload: what is trained.
        contestants: the optimizers.
        budget: what every one of them gets.

    Raises:
        InputError: the training set is smaller than a mini-batch, or an optimizer cannot take a step.
    """

    workload: Workload
    contestants: Sequence[Contestant]
    budget: Budget

    def __post_init__(self) -> None:
        """Check the budget against the data, and try the optimizers out."""
        n = examples(self.workload.data.train)
        if n < self.budget.batch_size:
            raise InputError(
                f"{self.workload.name}: {n} training examples are fewer than a mini-batch of {self.budget.batch_size}"
            )
        params, _ = jax.eval_shape(self.workload.initialize, jax.random.key(0))
        for contestant in self.contestants:
            try_out(contestant, params)

    @property
    def lanes(self) -> int:
        """How many training runs there will be."""
        return len(self.contestants) * self.budget.lanes

    def run(self, progress: Progress = lambda status, lanes: None) -> Comparison:
        """Run it.

        Args:
            progress: called with what is being done and how many more lanes are done; also from other threads.
        """
        start = time.perf_counter()
        budget, data = self.budget, self.workload.data
        progress("drawing the seeds", 0)
        # Validation and test set get the same room, so that one program scores either.
        room = max(examples(data.validation), examples(data.test))
        tuning = Shared(
            data.train,
            hold(data.validation, room),
            seeded(self.workload, (*budget.tuning_seeds, *budget.fresh_seeds), budget.batch_size, budget.steps),
            np.int32(budget.steps // block_length(budget.steps)),
        )
        testing = tuning._replace(held=hold(data.test, room))

        progress("measuring how lanes run best", 0)
        measured = self._measure(tuning)
        setup_seconds = time.perf_counter() - start

        results = []
        for contestant in self.contestants:
            if contestant is self.contestants[0]:
                program = measured.program
            else:
                progress(f"compiling {contestant.name}", 0)
                program = self._compile(contestant, tuning, measured.plan)
            results.append(self._run_one(contestant, program, tuning, testing, progress))
        return Comparison(
            workload=self.workload.name,
            parameters=sum(leaf[0].size for leaf in jax.tree.leaves(tuning.seeded.params)),
            examples=(examples(data.train), examples(data.validation), examples(data.test)),
            budget=budget,
            results=tuple(results),
            plan=measured.plan,
            seconds_per_lane=measured.seconds_per_lane,
            setup_seconds=setup_seconds,
            seconds=time.perf_counter() - start,
        )

    def _compile(self, contestant: Contestant, shared: Shared, plan: Plan) -> LaneProgram:
        run_lane = partial(train_lane, self.workload, contestant.factory, self.budget.steps)
        return compile_lanes(run_lane, lanes(grid(self.budget)), shared, plan)

    def _measure(self, shared: Shared) -> Measured:
        """Choose the plan once, with the first optimizer, whose program is then kept."""
        steps = self.budget.steps
        short = shared._replace(blocks=np.int32(min(-(-MEASURED_STEPS // block_length(steps)), shared.blocks)))
        points = grid(self.budget)
        return measure_plan(
            candidates(len(points), tuple(jax.local_devices())),
            lambda plan: self._compile(self.contestants[0], shared, plan),
            lanes(points),
            short,
        )

    def _run_one(
        self, contestant: Contestant, program: LaneProgram, tuning: Shared, testing: Shared, progress: Progress
    ) -> Result:
        start = time.perf_counter()
        budget = self.budget
        points = grid(budget)
        outcome = program(lanes(points), tuning, partial(progress, f"tuning {contestant.name}"))
        tuned = runs(points, outcome)
        selection = select(tuned)
        fresh: tuple[Run, ...] = ()
        curve = np.zeros(0)
        if selection is None:
            progress(f"{contestant.name} diverged everywhere", budget.seeds)
        else:
            points = [(selection.learning_rate, seed) for seed in budget.fresh_seeds]
            outcome = program(lanes(points), testing, partial(progress, f"testing {contestant.name}"))
            fresh = runs(points, outcome)
            if not outcome.diverged.all():
                curve = outcome.training_loss[~outcome.diverged].mean(0, dtype=np.float64)
        return Result(
            name=contestant.name,
            spec=contestant.spec,
            tuning=tuned,
            selection=selection,
            fresh=fresh,
            training_loss=curve,
            compile_seconds=program.compile_seconds,
            run_seconds=time.perf_counter() - start,
        )


def grid(budget: Budget) -> list[tuple[float, int]]:
    """Return every learning rate with every tuning seed."""
    return list(itertools.product(budget.learning_rates, budget.tuning_seeds))


def lanes(points: Sequence[tuple[float, int]]) -> Lane:
    """Pack learning rates and seeds for the program. Seeds count from 0, so a seed is its own place in `Shared`."""
    rates, seeds = zip(*points, strict=True)
    return Lane(np.array(rates, np.float32), np.array(seeds, np.int32))


def runs(points: Sequence[tuple[float, int]], outcome: Outcome) -> tuple[Run, ...]:
    """Tell every lane's end."""
    ends = zip(outcome.training_loss[:, -1], outcome.loss, outcome.score, outcome.diverged, strict=True)
    return tuple(
        Run(rate, seed, float(last), float(loss), float(score), bool(diverged))
        for (rate, seed), (last, loss, score, diverged) in zip(points, ends, strict=True)
    )


def select(tuned: Sequence[Run]) -> Selection | None:
    """Choose the learning rate with the best mean accuracy; among equals the lower mean loss, then the lower rate.

    A diverged lane counts as accuracy 0 and loss ∞: worse than any that did not, but one unlucky seed does not rule a
    learning rate out. Returns None if every lane diverged.
    """
    if all(run.diverged for run in tuned):
        return None
    by_rate: dict[float, list[Run]] = {}
    for run in tuned:
        by_rate.setdefault(run.learning_rate, []).append(run)

    def accuracy(rate: float) -> float:
        return float(np.mean([0.0 if run.diverged else run.accuracy for run in by_rate[rate]]))

    def loss(rate: float) -> float:
        return float(np.mean([math.inf if run.diverged else run.loss for run in by_rate[rate]]))

    rates = sorted(by_rate)
    best = max(rates, key=lambda rate: (accuracy(rate), -loss(rate), -rate))
    edge: Literal["lowest", "highest"] | None = None
    if len(rates) > 1 and best in (rates[0], rates[-1]):
        edge = "lowest" if best == rates[0] else "highest"
    return Selection(best, accuracy(best), edge)
