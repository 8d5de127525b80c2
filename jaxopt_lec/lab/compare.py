"""The study: every optimizer over one grid of learning rates, chosen on validation data, tested on fresh seeds."""

import itertools
import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import jax
import numpy as np

import jaxopt_lec
from jaxopt_lec.lab.contestants import Contestant, try_out
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.lanes import (
    COMPILERS,
    LaneProgram,
    Measured,
    Plan,
    candidates,
    compile_lanes,
    measure_plan,
    shardings,
    usual_place,
)
from jaxopt_lec.lab.measuring import MeasuringBudget, Work
from jaxopt_lec.lab.progress import Report
from jaxopt_lec.lab.statistics import Difference, compare_to
from jaxopt_lec.lab.targets import Reached, best_on_every_seed, first_reaching
from jaxopt_lec.lab.training import (
    BATCH_SIZE,
    Lane,
    Outcome,
    Record,
    Shared,
    Watched,
    block_length,
    evaluation_steps,
    examples,
    hold,
    scoring_in_steps,
    seeded,
    train_lane,
)
from jaxopt_lec.lab.workloads import Score, Workload
from jaxopt_lec.lab.workloads.checks import try_out_workload

HALF_DECADES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
# How many steps of the workload a plan is measured with: enough to rise above the cost of starting a program.
MEASURED_STEPS = 100
# How often every optimizer's step is timed, and with how many steps.
TURNS = 5
TIMED_STEPS = 100
DEFAULT_BASELINE = "adam"


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
    def lane_examples(self) -> int:
        """How many examples one training run sees, counted as often as it sees them."""
        return self.steps * self.batch_size

    @property
    def tuning_examples(self) -> int:
        """How many examples an optimizer's training runs see while its learning rate is chosen."""
        return len(self.learning_rates) * self.seeds * self.lane_examples

    @property
    def lanes(self) -> int:
        """How many training runs one optimizer takes."""
        return (len(self.learning_rates) + 1) * self.seeds


@dataclass(frozen=True)
class Run:
    """One lane's end: loss and score on validation data while tuning, on test data with a fresh seed."""

    learning_rate: float
    seed: int
    training_loss: float
    loss: float
    score: float
    diverged: bool
    diverged_at: int | None = None  # the first step whose training loss is not finite


@dataclass(frozen=True)
class Selection:
    """The learning rate that validation data chose, and whether the grid ended there."""

    learning_rate: float
    score: float  # mean over the tuning seeds, diverged lanes as the worst of all: what it was chosen by
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
class Evaluations:
    """What the lanes with fresh seeds were on their way.

    Attributes:
        steps: [evaluation], after which steps they were looked at.
        loss, score: [seed, evaluation], on validation data.
        leaves: the names of the parameters.
        gradient_norms, update_norms, weight_norms: [seed, evaluation, leaf], of that step, the weights' before it.
    """

    steps: np.ndarray
    loss: np.ndarray
    score: np.ndarray
    leaves: tuple[str, ...]
    gradient_norms: np.ndarray
    update_norms: np.ndarray
    weight_norms: np.ndarray

    @property
    def effective_learning_rate(self) -> np.ndarray:
        """‖u‖/‖g‖ over all parameters, [seed, evaluation]: the rate at which plain SGD would take a step as long."""
        return ratio(together(self.update_norms), together(self.gradient_norms))

    @property
    def update_to_weight(self) -> np.ndarray:
        """‖u‖/‖θ‖ over all parameters, [seed, evaluation]: by how much of itself the model changes in a step."""
        return ratio(together(self.update_norms), together(self.weight_norms))


@dataclass(frozen=True)
class Result:
    """What became of one optimizer."""

    name: str
    spec: str
    tuning: tuple[Run, ...]
    selection: Selection | None  # None: every lane of the grid diverged, so nothing was tested
    fresh: tuple[Run, ...]
    training_loss: np.ndarray  # [step]: mean over the fresh lanes that did not diverge; empty without any
    evaluations: Evaluations | None  # of the fresh lanes; None without any
    compile_seconds: float
    run_seconds: float
    turns: tuple[float, ...] = ()  # what a step took, in seconds, each time it was timed

    @property
    def score(self) -> Mean:
        """Test score."""
        return Mean.of([run.score for run in self.fresh if not run.diverged])

    @property
    def loss(self) -> Mean:
        """Test loss."""
        return Mean.of([run.loss for run in self.fresh if not run.diverged])

    @property
    def finished(self) -> np.ndarray:
        """Which of the fresh lanes did not diverge."""
        return np.array([not run.diverged for run in self.fresh], bool)

    @property
    def seconds_per_step(self) -> float | None:
        """The median of all turns; None if steps were not timed, or are too short for the clock."""
        median = float(np.median(self.turns)) if self.turns else math.nan
        return median if median > 0 else None


@dataclass(frozen=True)
class Comparison:
    """A whole study."""

    workload: str
    score: Score
    baseline: str  # the optimizer that the others are compared with
    given_target: float | None
    parameters: int
    examples: tuple[int, int, int]  # training, validation, test
    budget: Budget
    results: tuple[Result, ...]
    plan: Plan
    seconds_per_lane: dict[int, float]  # of every group size that was timed; empty if timing would have cost too much
    setup_seconds: float  # drawing the seeds, compiling the first program, and timing group sizes if there is time for it
    seconds: float

    @property
    def lanes(self) -> int:
        """How many training runs there were."""
        return sum(len(result.tuning) + len(result.fresh) for result in self.results)

    def result(self, name: str) -> Result:
        """Return the result of an optimizer."""
        return next(result for result in self.results if result.name == name)

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """How the test score of every other optimizer differs from the baseline's; empty if nothing of that was tested."""

        def scores(result: Result) -> list[float | None]:
            by_seed = {run.seed: None if run.diverged else run.score for run in result.fresh}
            return [by_seed.get(seed) for seed in self.budget.fresh_seeds]

        baseline = self.result(self.baseline)
        if not baseline.finished.any():
            return {}
        others = {r.name: scores(r) for r in self.results if r is not baseline and r.selection is not None}
        return compare_to(scores(baseline), others, self.score.higher_is_better)

    @cached_property
    def target(self) -> float | None:
        """The validation score to be reached: the given one, or what the baseline reached with every fresh seed.

        That is the worst over its seeds of its best score, and None if all of these diverged.
        """
        if self.given_target is not None:
            return self.given_target
        baseline = self.result(self.baseline)
        if baseline.evaluations is None:
            return None
        return best_on_every_seed(baseline.evaluations.score[baseline.finished], self.score.higher_is_better)

    def reached(self, result: Result) -> Reached:
        """Return how soon an optimizer's fresh lanes reached the target; one that diverged never did."""
        if self.target is None or result.evaluations is None:
            return Reached((None,) * len(result.fresh))
        seen = result.evaluations
        return Reached(
            tuple(
                None if run.diverged else first_reaching(seen.steps, scores, self.target, self.score.higher_is_better)
                for run, scores in zip(result.fresh, seen.score, strict=True)
            )
        )

    def seconds_to_target(self, result: Result) -> float | None:
        """Return the median steps to the target times what a step takes; None if either is missing."""
        steps, each = self.reached(result).median, result.seconds_per_step
        return None if steps is None or each is None else steps * each


@dataclass
class Study:
    """A study that is set up and can be run; all that can be checked beforehand is checked here.

    Args:
        workload: what is trained.
        contestants: the optimizers.
        budget: what every one of them gets.
        target: the validation score that they shall reach, in units of the score; None: what the baseline reaches.
        baseline: the optimizer that the others are compared with; None: adam if it takes part, else the first.

    Raises:
        InputError: the workload lacks a part, the training set is smaller than a mini-batch, an optimizer cannot take a
            step, the target cannot be a score, or the baseline does not take part.
    """

    workload: Workload
    contestants: Sequence[Contestant]
    budget: Budget
    target: float | None = None
    baseline: str | None = None

    def __post_init__(self) -> None:
        """Check the budget against the data, and try the optimizers out."""
        names = [contestant.name for contestant in self.contestants]
        if self.baseline is None:
            self.baseline = DEFAULT_BASELINE if DEFAULT_BASELINE in names else names[0]
        elif self.baseline not in names:
            raise InputError(f"baseline {self.baseline!r} does not take part; these do: {', '.join(names)}")
        if self.target is not None:
            check_target(self.target, self.workload.score)
        try_out_workload(self.workload)
        n = examples(self.workload.data.train)
        if n < self.budget.batch_size:
            raise InputError(
                f"{self.workload.name}: {n} training examples are fewer than a mini-batch of {self.budget.batch_size}; "
                f"choose at most {n} with --batch-size, or with Budget(batch_size=)"
            )
        params, _ = jax.eval_shape(self.workload.initialize, jax.random.key(0))
        for contestant in self.contestants:
            try_out(contestant, params)

    @property
    def lanes(self) -> int:
        """How many training runs there will be."""
        return len(self.contestants) * self.budget.lanes

    def run(self, progress: Report = lambda status, lanes, expected=None: None) -> Comparison:
        """Run it.

        Args:
            progress: called, also from other threads, with a description of the current work, the number of lanes finished
                since the last call, and, if known, the seconds that all lanes are expected to take.
        """
        start = time.perf_counter()
        budget, data = self.budget, self.workload.data
        progress("drawing the seeds", 0)
        # Validation and test set get the same room, so that one program scores either.
        room = max(examples(data.validation), examples(data.test))
        validation = hold(data.validation, room)
        tuning = Shared(
            data.train,
            validation,
            seeded(self.workload, (*budget.tuning_seeds, *budget.fresh_seeds), budget.batch_size, budget.steps),
            np.int32(budget.steps // block_length(budget.steps)),
            Watched(validation, np.bool_(False)),
        )
        # On their way, lanes with fresh seeds are looked at with validation data; test data see the end alone.
        testing = tuning._replace(held=hold(data.test, room), watched=Watched(validation, np.bool_(True)))

        budget_of_time = MeasuringBudget(self._work())
        compilers = ThreadPoolExecutor(COMPILERS)  # the next optimizers' programs are compiled while lanes run
        try:
            measured, coming = self._measure(tuning, budget_of_time, compilers, progress)
            setup_seconds = time.perf_counter() - start
            results, programs = [], [measured.program]
            for i, contestant in enumerate(self.contestants):
                if i:
                    progress(f"compiling {contestant.name}", 0)
                    programs.append(coming[i - 1].result())
                results.append(self._run_one(contestant, programs[i], tuning, testing, progress))
        finally:
            compilers.shutdown(wait=False, cancel_futures=True)
        progress("timing steps", 0)
        budget_of_time.seconds = time.perf_counter() - start
        turns = time_steps(programs, results, tuning, measured.plan, budget, budget_of_time)
        results = [replace(result, turns=seconds) for result, seconds in zip(results, turns, strict=True)]
        assert self.baseline is not None
        return Comparison(
            workload=self.workload.name,
            score=self.workload.score,
            baseline=self.baseline,
            given_target=self.target,
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

    def _work(self) -> Work:
        """Return the work of all lanes together."""
        block = block_length(self.budget.steps)
        scoring = scoring_in_steps(examples(self.workload.data.validation), self.budget.batch_size)
        return Work(((self.lanes, self.budget.steps // block),), scoring / block)

    def _measure(
        self, shared: Shared, budget: MeasuringBudget, compilers: ThreadPoolExecutor, progress: Report
    ) -> tuple[Measured, list[Future[LaneProgram]]]:
        """Choose the plan once, with the first optimizer; return it, and the other programs that were started."""
        points = grid(self.budget)
        plans = candidates(len(points), tuple(jax.local_devices()))
        usual = plans[usual_place(plans)]
        progress(f"compiling {self.contestants[0].name}", 0)
        # The usual plan is most often the one that is chosen, so its programs are compiled before anything is measured.
        ahead = [compilers.submit(self._compile, c, shared, usual) for c in self.contestants[:COMPILERS]]

        def compile_plan(plan: Plan) -> LaneProgram:
            if plan != usual:
                progress(f"measuring groups of {plan.group}", 0)
                return self._compile(self.contestants[0], shared, plan)
            wait(ahead)  # a compiler that runs at the same time would disturb the measurement
            progress("measuring how lanes run best", 0)
            return ahead[0].result()

        measured = measure_plan(
            plans,
            compile_plan,
            lanes(points),
            lambda blocks: shared._replace(blocks=np.int32(blocks)),
            budget,
            few=min(-(-MEASURED_STEPS // block_length(self.budget.steps)), budget.work.blocks),
        )
        if measured.cost is not None:
            progress("measured", 0, budget.seconds)
        done = ahead[1:] if measured.plan == usual else []
        left = self.contestants[1 + len(done) :]
        return measured, [*done, *(compilers.submit(self._compile, c, shared, measured.plan) for c in left)]

    def _run_one(
        self, contestant: Contestant, program: LaneProgram, tuning: Shared, testing: Shared, progress: Report
    ) -> Result:
        start = time.perf_counter()
        budget = self.budget
        points = grid(budget)
        progress(f"tuning {contestant.name}", 0)
        outcome = program(lanes(points), tuning, partial(progress, f"tuning {contestant.name}"))
        tuned = runs(points, outcome)
        selection = select(tuned, self.workload.score)
        fresh: tuple[Run, ...] = ()
        curve = np.zeros(0)
        seen: Evaluations | None = None
        if selection is None:
            progress(f"{contestant.name} diverged everywhere", budget.seeds)
        else:
            points = [(selection.learning_rate, seed) for seed in budget.fresh_seeds]
            outcome = program(lanes(points), testing, partial(progress, f"testing {contestant.name}"))
            fresh = runs(points, outcome)
            seen = evaluations(outcome.record, budget.steps)
            if not outcome.diverged.all():
                curve = outcome.training_loss[~outcome.diverged].mean(0, dtype=np.float64)
        return Result(
            name=contestant.name,
            spec=contestant.spec,
            tuning=tuned,
            selection=selection,
            fresh=fresh,
            training_loss=curve,
            evaluations=seen,
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
    ends = zip(outcome.training_loss, outcome.loss, outcome.score, outcome.diverged, strict=True)
    return tuple(
        Run(rate, seed, float(losses[-1]), float(loss), float(score), bool(diverged), first_not_finite(losses))
        for (rate, seed), (losses, loss, score, diverged) in zip(points, ends, strict=True)
    )


def first_not_finite(losses: np.ndarray) -> int | None:
    """Return the first step whose loss is not finite, counted from 1; None if all are."""
    bad = np.flatnonzero(~np.isfinite(losses))
    return int(bad[0]) + 1 if len(bad) else None


def evaluations(record: Record, steps: int) -> Evaluations:
    """Arrange what watched lanes brought home."""

    def stacked(tree: Any) -> np.ndarray:
        return np.stack(jax.tree.leaves(tree), -1)

    return Evaluations(
        evaluation_steps(steps),
        np.asarray(record.loss),
        np.asarray(record.score),
        tuple(name for name, _ in jaxopt_lec.named_leaves(record.gradient_norm)),
        stacked(record.gradient_norm),
        stacked(record.update_norm),
        stacked(record.weight_norm),
    )


def together(norms: np.ndarray) -> np.ndarray:
    """Return the norm over all leaves from those of each, along the last axis."""
    return np.sqrt(np.square(norms, dtype=np.float64).sum(-1))


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a/b: 0 where both are 0, ∞ where b alone is; without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(a == 0, 0.0, a / b)


def time_steps(
    programs: Sequence[LaneProgram],
    results: Sequence[Result],
    shared: Shared,
    plan: Plan,
    budget: Budget,
    measuring: MeasuringBudget,
) -> list[tuple[float, ...]]:
    """Time every optimizer's steps in turns: wall time over steps and lanes, on a full round of the plan.

    The time of a run without any step, which starts and scores, is subtracted. Optimizers that diverged everywhere are left
    out. There are at most five turns of about a hundred steps, and fewer or none if the budget does not allow more.

    Args:
        programs: compiled and warmed up.
        results: which learning rate each has, by which alone its steps could depend on the result.
        shared: what lanes read, not watched.
        plan: that of the study.
        budget: the seeds and the number of steps.
        measuring: the budget for timing.
    """
    block = block_length(budget.steps)
    timed = [(program, result) for program, result in zip(programs, results, strict=True) if result.selection is not None]
    n = min(plan.round, programs[0].capacity)
    # Estimated from the time of the study's own lanes, which includes the evaluations of the watched ones.
    lane = sum(result.run_seconds / (len(result.tuning) + len(result.fresh)) for _, result in timed)
    work = measuring.work

    def turn(blocks: int) -> tuple[float, float]:
        """Return the work of a turn, and its expected seconds."""
        done = work.of(plan.round, 0) + work.of(plan.round, blocks)
        return len(timed) * done, lane * done / work.of(1, work.blocks)

    blocks = min(-(-TIMED_STEPS // block), work.blocks)
    while blocks > 1 and not measuring.allows(*turn(blocks)):
        blocks //= 2
    # There beforehand, so that no turn pays for the transfer.
    ready = jax.device_put(shared, shardings(plan)[1])
    seconds: list[tuple[float, ...]] = [() for _ in programs]
    for _ in range(TURNS):
        if not measuring.allows(*turn(blocks)):
            break
        for i, (program, result) in enumerate(zip(programs, results, strict=True)):
            if result.selection is None:
                continue
            seeds = itertools.cycle(budget.tuning_seeds)
            some = lanes([(result.selection.learning_rate, seed) for seed in itertools.islice(seeds, n)])
            took = []
            for count in (0, blocks):
                with measuring.spending(work.of(plan.round, count)):
                    start = time.perf_counter()
                    program(some, ready._replace(blocks=np.int32(count)))
                    took.append(time.perf_counter() - start)
            seconds[i] += ((took[1] - took[0]) / (blocks * block) / n,)
    return seconds


def check_target(target: float, score: Score) -> None:
    """Check that a target can be a score.

    Raises:
        InputError: it cannot.
    """
    if not math.isfinite(target):
        raise InputError(f"target {target}: a finite number is needed")
    if score.percent and not 0 <= target <= 1:
        raise InputError(f"target {target:g}: {score.name} is a share in [0, 1]")


def mean_score(runs: Sequence[Run], score: Score) -> float:
    """Return the mean over all lanes, a diverged one being the worst share, or infinitely bad where scores have no worst."""
    unbounded = -math.inf if score.higher_is_better else math.inf
    worst = (0.0 if score.higher_is_better else 1.0) if score.percent else unbounded
    return float(np.mean([worst if run.diverged else run.score for run in runs]))


def goodness(runs: Sequence[Run], score: Score) -> tuple[float, ...]:
    """Return what lanes are ordered by, the more the better.

    A diverged lane is worse than any that is not. Where the score is a share, it counts as the worst share, so that one
    unlucky seed does not decide alone; else it counts as infinitely bad. Equals are told apart by fewer diverged lanes, then
    by the means of score and loss of the others.
    """
    finished = [run for run in runs if not run.diverged]
    if not finished:
        return (-math.inf, -math.inf)
    sign = 1 if score.higher_is_better else -1
    others = Mean.of([run.score for run in finished]).mean, Mean.of([run.loss for run in finished]).mean
    return (sign * mean_score(runs, score), len(finished), sign * others[0], -others[1])


def select(tuned: Sequence[Run], score: Score) -> Selection | None:
    """Choose the learning rate whose lanes are best; among equals the lowest. Returns None if every lane diverged."""
    if all(run.diverged for run in tuned):
        return None
    by_rate: dict[float, list[Run]] = {}
    for run in tuned:
        by_rate.setdefault(run.learning_rate, []).append(run)
    rates = sorted(by_rate)
    best = max(rates, key=lambda rate: goodness(by_rate[rate], score))  # the first of equals
    edge: Literal["lowest", "highest"] | None = None
    if len(rates) > 1 and best in (rates[0], rates[-1]):
        edge = "lowest" if best == rates[0] else "highest"
    return Selection(best, mean_score(by_rate[best], score), edge)
