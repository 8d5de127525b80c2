"""What the lanes of a sweep do: train a workload, minimise a function, or run what the user wrote."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lec.lab.combinations import Combination, check_values, name_of
from jaxopt_lec.lab.contestants import Contestant, try_out
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.grid import Grid
from jaxopt_lec.lab.minimize import RUNNING, At, Given, Problem, Stop, Tolerances, begin, prepare, step, traced
from jaxopt_lec.lab.multi_start import End, count_lanes, end_at
from jaxopt_lec.lab.training import BATCH_SIZE, block_length, examples, hold, scoring_in_steps, seeded, train_lane
from jaxopt_lec.lab.training import Lane as TrainingLane
from jaxopt_lec.lab.training import Shared as TrainingShared
from jaxopt_lec.transformation import of_multi_steps

if TYPE_CHECKING:
    from jaxopt_lec.lab.workloads import Workload

__all__ = ["Lane", "Minimizing", "Running", "Task", "Training"]

Tree: TypeAlias = Any
Factory: TypeAlias = Callable[..., optax.GradientTransformation]


class Lane(NamedTuple):
    """What tells one lane from another: data, so that all lanes of a combination share one program."""

    traced: dict[str, Any]  # the hyperparameters that are data
    seed: Any  # its place among the seeds
    start: Any  # its place among the starting points


class Task(ABC):
    """What a sweep asks of a task.

    Attributes:
        name: how files call it.
        factory: takes the hyperparameters by name.
        given: those of the factory's arguments that do not come from the grid.
        steps: of a whole lane.
        objective: the column of the table that points are judged by, the lower the better.
        first_step: the step that the first point of a curve belongs to.
        takes_seeds: whether a seed changes anything.
        n_starts: how many starting points there are.
        begin_wide: whether the widest groups are tried first on a CPU too.
        once: the work of a lane besides its steps, such as scoring, counted in steps.
    """

    name: str
    factory: Callable[..., Any]
    given: ClassVar[tuple[str, ...]] = ()
    steps: int
    objective: ClassVar[str]
    first_step: ClassVar[int]
    takes_seeds: bool
    n_starts: int
    begin_wide: ClassVar[bool] = False
    once: float = 0.0

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the hyperparameters that are data."""
        return np.dtype(np.float32)

    @property
    def block(self) -> int:
        """A lane can be cut short at multiples of so many steps."""
        return block_length(self.steps)

    @abstractmethod
    def check(self, grid: Grid, combination: Combination) -> None:
        """Raise an InputError if the points of a combination cannot be run; nothing is compiled."""

    @abstractmethod
    def shared(self, seeds: Sequence[int]) -> Any:
        """Return what all lanes read: a NamedTuple with the field `blocks`, how many blocks of steps to take."""

    def given_data(self, seeds: Sequence[int], shared: Any) -> Any:
        """Return the data that determine `shared`, but no computed values, which another machine may round differently."""
        return shared

    @abstractmethod
    def run_lane(self, combination: Combination, lane: Lane, shared: Any) -> dict[str, Any]:
        """Run one lane, traceable by JAX.

        Returns:
            Scalars, which become columns of the table, the objective among them; perhaps `stopped_by`, the code of a `Stop`,
            or RUNNING if the lane was cut short; perhaps `curve`, NaN behind the last step; perhaps the tree `ends`.
        """


@dataclass(frozen=True, eq=False)
class Training(Task):
    """Train a workload; the hyperparameters are an optimizer's.

    The table gets the loss of the last mini-batch as `final`, the lowest as `best`, and loss and score (such as
    `validation_accuracy`) on validation data. Points are judged by the `validation_loss`. The test data are not looked at.
    A curve has the loss of each step's mini-batch.

    Args:
        factory: takes hyperparameters by name and returns an Optax transformation.
        workload: what is trained. A seed decides initial parameters, order of examples and dropout, and nothing else does.
        steps: of every lane, at least 1.
        batch_size: examples in a mini-batch, at least 1.

    Errors: InputError for what is out of range.
    """

    factory: Factory
    workload: "Workload"
    steps: int = 500
    batch_size: int = BATCH_SIZE

    takes_seeds: bool = field(default=True, init=False)
    n_starts: int = field(default=1, init=False)
    objective: ClassVar[str] = "validation_loss"
    first_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check the ranges, and check the workload with a mini-batch."""
        from jaxopt_lec.lab.workloads.checks import try_out_workload  # needs Flax, as the workload does

        check_factory(self.factory)
        check_steps(self.steps)
        try_out_workload(self.workload)
        n = examples(self.workload.data.train)
        if not 1 <= self.batch_size <= n:
            raise InputError(f"batch_size {self.batch_size}: at least 1 and at most the {n} training examples are needed")

    @property
    def name(self) -> str:  # type: ignore[override]
        """What is trained."""
        return self.workload.name

    @property
    def once(self) -> float:  # type: ignore[override]
        """The work of scoring the validation data, counted in steps."""
        return scoring_in_steps(examples(self.workload.data.validation), self.batch_size)

    def check(self, grid: Grid, combination: Combination) -> None:
        """Try the factory out, and one step of what it makes."""
        check_values(grid, self.factory, combination, self.dtype)
        params, _ = jax.eval_shape(self.workload.initialize, jax.random.key(0))

        def factory(number: jax.Array) -> optax.GradientTransformation:
            return combination.make(self.factory, dict.fromkeys(combination.traced, number))

        try_out(Contestant(combination.label, combination.label, factory), params)

    def shared(self, seeds: Sequence[int]) -> TrainingShared:
        """Return the data, and all that the seeds decide."""
        data = self.workload.data
        return TrainingShared(
            data.train,
            hold(data.validation, examples(data.validation)),
            seeded(self.workload, seeds, self.batch_size, self.steps),
            np.int32(self.steps // self.block),
        )

    def given_data(self, seeds: Sequence[int], shared: TrainingShared) -> Any:
        """Return the data and, in place of the initial parameters, the seeds and the program that computes them."""
        initialize = lowered_text(self.workload.initialize, jax.random.key(0))
        drawn = shared.seeded._replace(params=np.array(seeds), state=np.frombuffer(initialize.encode(), np.uint8))
        return shared._replace(seeded=drawn)

    def run_lane(self, combination: Combination, lane: Lane, shared: TrainingShared) -> dict[str, Any]:
        """Train, and score on validation data."""
        factory = partial(combination.make, self.factory)
        # The lane's learning rate is what the factory is given: here all hyperparameters that are data.
        outcome = train_lane(self.workload, factory, self.steps, TrainingLane(lane.traced, lane.seed), shared)
        last = jnp.asarray(shared.blocks, jnp.int32) * self.block
        taken = jnp.arange(self.steps) < last
        finite = jnp.isfinite(outcome.training_loss)
        cut_short = jnp.where(last < self.steps, jnp.int32(RUNNING), jnp.int32(Stop.STEPS))
        score = f"validation_{self.workload.score.name.replace(' ', '_')}"
        return {
            "final": outcome.training_loss[last - 1],
            "best": jnp.where(taken & finite, outcome.training_loss, jnp.inf).min(),
            "steps_taken": jnp.where(finite.all(), last, jnp.argmin(finite).astype(jnp.int32)),
            "stopped_by": jnp.where(outcome.diverged, jnp.int32(Stop.NOT_FINITE), cut_short),
            score: outcome.score,
            "validation_loss": outcome.loss,  # which a score may be called too
            "curve": jnp.where(taken, outcome.training_loss, jnp.nan),
        }


class MinimizingShared(NamedTuple):
    """What all lanes of a minimisation read."""

    starts: Tree  # [start, ...]
    keys: jax.Array  # [seed]
    extras: dict[str, Any]
    blocks: Any


@dataclass(frozen=True, eq=False)
class Minimizing(Task):
    """Minimise a function as `minimize` does; the hyperparameters are an optimizer's.

    The table gets the value at the end as `final`, by which points are judged, and the lowest on the way as `best`. A curve
    has the values of all points from the start on. `Sweep.ends` has the parameters at the end.

    Args:
        factory: takes hyperparameters by name and returns an Optax transformation.
        fn: as for `minimize`. If it has an argument `key`, the seed decides the key, and with it the noise of each step.
        starts: a tree like the parameters with a first axis of starting points: `random_starts`, `grid_starts`, or your own.
        steps: the most steps to take, at least 1.
        tolerances: when to stop earlier.
        extras: as for `minimize`.

    Errors: InputError for what cannot be minimised so.
    """

    factory: Factory
    fn: Callable[..., Any]
    starts: Tree
    steps: int = 500
    tolerances: Tolerances = field(default_factory=Tolerances)
    extras: Mapping[str, Any] = field(default_factory=dict)

    objective: ClassVar[str] = "final"
    first_step: ClassVar[int] = 0
    begin_wide: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_factory(self.factory)
        if not callable(self.fn):
            raise InputError(f"fn must be a function of the parameters, got a {type(self.fn).__name__}")
        check_steps(self.steps)
        count_lanes(self.starts)
        starts = jax.tree.map(np.asarray, self.starts)
        starts = jax.tree.map(lambda x: x.astype(jax.dtypes.canonicalize_dtype(x.dtype)), starts)
        object.__setattr__(self, "starts", starts)

    @property
    def name(self) -> str:  # type: ignore[override]
        """What is minimised."""
        return getattr(self.fn, "name", None) or name_of(self.fn)

    @property
    def takes_seeds(self) -> bool:  # type: ignore[override]
        """A function without noise is the same with every seed."""
        try:
            return "key" in inspect.signature(self.fn).parameters
        except ValueError:  # some built-in functions have no signature
            return False

    @property
    def n_starts(self) -> int:  # type: ignore[override]
        """The length of the first axis."""
        return count_lanes(self.starts)

    @property
    def dtype(self) -> np.dtype:
        """The parameters' own precision, but at least float32."""
        reals = [jnp.finfo(leaf.dtype).dtype for leaf in jax.tree.leaves(self.starts)]
        return np.dtype(np.float64 if np.dtype(np.float64) in reals else np.float32)

    def check(self, grid: Grid, combination: Combination) -> None:
        """Try the factory, the function and one step out."""
        start = jax.tree.map(lambda x: x[0], self.starts)
        key = jax.random.key(0) if self.takes_seeds else None
        tx = optax.identity()  # first the function alone, so that its mistakes are not laid to the optimizer
        prepare(self.fn, start, tx, self.steps, self.tolerances, self.extras, key)
        check_values(grid, self.factory, combination, self.dtype)
        tx = self.factory(**grid.point(int(combination.points[0])))
        prepare(self.fn, start, tx, self.steps, self.tolerances, self.extras, key)
        lane = Lane({name: jnp.zeros((), self.dtype) for name in combination.traced}, np.int32(0), np.int32(0))
        traced(combination.label, partial(self.run_lane, combination), lane, self.shared([0]))

    def shared(self, seeds: Sequence[int]) -> MinimizingShared:
        """Return the starting points and the keys."""
        extras = jax.tree.map(jnp.asarray, dict(self.extras))
        keys = jax.vmap(jax.random.key)(np.array(seeds))
        return MinimizingShared(self.starts, keys, extras, np.int32(self.steps // self.block))

    def run_lane(self, combination: Combination, lane: Lane, shared: MinimizingShared) -> dict[str, Any]:
        """Minimise from a starting point."""
        tx = optax.with_extra_args_support(of_multi_steps(combination.make(self.factory, lane.traced)))
        problem = Problem(self.fn, tx, self.steps, self.tolerances)
        given = Given(shared.extras, shared.keys[lane.seed] if self.takes_seeds else None)

        # As in `multi_start`, a lane that has stopped goes on while its end is kept: so what lanes share is computed once.
        def advance(carry: tuple[At, End], _: None) -> tuple[tuple[At, End], jax.Array]:
            at, end = carry
            at = step(problem, given, at)
            end = jax.tree.map(partial(jnp.where, end.stop == RUNNING), end_at(at), end)
            return (at, end), end.value

        def unfinished(carry: tuple[Any, At, End, jax.Array]) -> jax.Array:
            i, _, end, _ = carry
            return (i < shared.blocks) & any_lane(end.stop == RUNNING)

        def take_block(carry: tuple[Any, At, End, jax.Array]) -> tuple[Any, At, End, jax.Array]:
            i, at, end, values = carry
            (at, end), some = jax.lax.scan(advance, (at, end), length=self.block)
            return i + 1, at, end, jax.lax.dynamic_update_slice(values, some, (1 + i * self.block,))

        at = begin(problem, jax.tree.map(lambda x: jnp.asarray(x)[lane.start], shared.starts), given)
        values = jnp.full(self.steps + 1, at.value)
        _, _, end, values = jax.lax.while_loop(unfinished, take_block, (jnp.int32(0), at, end_at(at), values))
        taken = jnp.arange(self.steps + 1) <= end.steps
        return {
            "final": end.value,
            "best": jnp.where(taken & jnp.isfinite(values), values, jnp.inf).min(),
            "steps_taken": end.steps,
            "stopped_by": end.stop,
            "curve": jnp.where(taken, values, jnp.nan),
            "ends": end.params,
        }


@jax.custom_batching.custom_vmap
def any_lane(flag: jax.Array) -> jax.Array:
    """Return whether the flag is set in any of the lanes that run side by side: one answer, so that a loop can end."""
    return flag


@any_lane.def_vmap
def _any_lane(_: int, batched: list[bool], flags: jax.Array) -> tuple[jax.Array, bool]:
    return jnp.any(flags), False


class RunningShared(NamedTuple):
    """What all runs of the user's function read."""

    keys: jax.Array  # [seed]
    blocks: Any


@dataclass(frozen=True, eq=False)
class Running(Task):
    """Run the user's own function `run(key, **hyperparameters)`.

    It returns a real scalar, which becomes the column `final`, or a dict of scalars, each a column; that called `final` is
    what points are judged by, the lower the better. A dict may have a one-dimensional `curve` too.

    Args:
        run: traceable by JAX. The key is made from the seed.

    Errors: InputError for what cannot be run so.
    """

    run: Callable[..., Any]

    given: ClassVar[tuple[str, ...]] = ("key",)
    steps: int = field(default=1, init=False)
    takes_seeds: bool = field(default=True, init=False)
    n_starts: int = field(default=1, init=False)
    objective: ClassVar[str] = "final"
    first_step: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Check that it can be called."""
        if not callable(self.run):
            raise InputError(f"a task or a function run(key, **hyperparameters) is needed, got a {type(self.run).__name__}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """The function's name."""
        return name_of(self.run)

    @property
    def factory(self) -> Callable[..., Any]:  # type: ignore[override]
        """Here the hyperparameters are those of the run itself."""
        return self.run

    def check(self, grid: Grid, combination: Combination) -> None:
        """Trace one run, and look at what it returns."""
        lane = Lane({name: jnp.zeros((), self.dtype) for name in combination.traced}, np.int32(0), np.int32(0))
        found = traced(combination.label, partial(self.run_lane, combination), lane, self.shared([0]))
        if "final" not in found:
            raise InputError(f"{combination.label} must return a number or a dict with 'final'; it has {', '.join(found)}")
        for name, x in found.items():
            shape, real = getattr(x, "shape", None), jnp.isrealobj(x)
            if shape is None or not real or len(shape) != (1 if name == "curve" else 0):
                wanted = "one axis of real numbers" if name == "curve" else "one real number"
                what = type(x).__name__ if shape is None else f"{x.dtype}{list(shape)}"
                raise InputError(f"{combination.label}: {name!r} must be {wanted}, it is {what}")

    def shared(self, seeds: Sequence[int]) -> RunningShared:
        """Return the keys."""
        return RunningShared(jax.vmap(jax.random.key)(np.array(seeds)), np.int32(1))

    def run_lane(self, combination: Combination, lane: Lane, shared: RunningShared) -> dict[str, Any]:
        """Run the function."""
        found = combination.make(partial(self.run, shared.keys[lane.seed]), lane.traced)
        return dict(found) if isinstance(found, Mapping) else {"final": found}


def lowered_text(fn: Callable[..., Any], *arguments: Any) -> str:
    """Return a function's program as text, the same on every platform."""
    return str(jax.jit(fn).trace(*arguments).lower(lowering_platforms=("cpu",)).as_text())


def check_factory(factory: Any) -> None:
    """Raise an InputError if a factory cannot be called."""
    if not callable(factory):
        raise InputError(
            f"factory: a function of hyperparameters that returns an Optax transformation is needed, got a "
            f"{type(factory).__name__}"
        )


def check_steps(steps: Any) -> None:
    """Raise an InputError if there is no step to take."""
    if not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps {steps!r}: a whole number, at least 1, is needed")
