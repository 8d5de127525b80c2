"""Sweeps: every point of a grid of hyperparameters, with every seed and every starting point, in a few programs."""

import csv
import dataclasses
import hashlib
import importlib.metadata
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lec.lab.combinations import Combination, combinations, described
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.grid import Grid, Point
from jaxopt_lec.lab.lanes import COMPILERS, LaneProgram, Measured, Plan, Shapes, candidates, compiled, measure_plan
from jaxopt_lec.lab.measuring import MeasuringBudget, Work
from jaxopt_lec.lab.memory import fitting, free_memory, readable
from jaxopt_lec.lab.minimize import RUNNING, Stop
from jaxopt_lec.lab.processes import is_first, together
from jaxopt_lec.lab.progress import Report, lanes_bar
from jaxopt_lec.lab.study_folder import PLATFORM, Results, StudyFolder, another_study, opened
from jaxopt_lec.lab.tasks import Lane, Minimizing, Running, Task, lowered_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Halving", "Sweep", "sweep"]

Tree: TypeAlias = Any

# A kill loses at most the lanes that are running: about so long a time of work.
CHUNK_SECONDS = 10.0
# How many steps a plan is measured with: enough to rise above the cost of starting a program.
MEASURED_STEPS = 100
# In a study with a folder, the most groups that one call of a program runs, one after the other. A chunk may need several
# calls, because its length is known only after a program was compiled.
ROUNDS = 32
# Results lie on the devices, in NumPy arrays, and, while these are put together, once more.
COPIES = 3
STOPPED_BY = {RUNNING: "halving"} | {stop.value: stop.name.lower() for stop in Stop}


@dataclass(frozen=True)
class Halving:
    """Successive halving: after some steps only the best points go on, in several cuts.

    Before a cut all points that are left are run for the same number of steps, by which the mean of the objective over all
    lanes of a point is compared; what is not finite counts as ∞. With `keep` 1/3 and 2 cuts, all points get a ninth of the
    steps, the best third a third of them, and the best ninth all. A point that goes on starts anew, so that its numbers are
    those of a whole run and no optimizer's state is kept. That takes at most 1/(1 − keep) times the steps of going on.

    Args:
        keep: the share that goes on, in (0, 1).
        cuts: how many times, at least 1.

    Reference: K. Jamieson and A. Talwalkar, Non-stochastic best arm identification and hyperparameter optimization,
    AISTATS 2016.

    Errors: InputError for what is out of range.
    """

    keep: float = 1 / 3
    cuts: int = 2

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.keep < 1:
            raise InputError(f"keep {self.keep}: a number in (0, 1) is needed")
        if self.cuts < 1:
            raise InputError(f"cuts {self.cuts}: at least 1 is needed")

    def blocks(self, blocks: int) -> list[int]:
        """Return how many blocks of steps lanes take before each cut, and in the end.

        Raises:
            InputError: the steps cannot be cut so often.
        """
        rungs = [math.ceil(blocks * self.keep ** (self.cuts - i)) for i in range(self.cuts + 1)]
        if len(set(rungs)) < len(rungs):
            raise InputError(
                f"Halving(keep={self.keep:.3g}, cuts={self.cuts}): lanes run in {blocks} blocks of steps, too few for "
                "so many cuts; cut less often, or take a number of steps with more divisors up to 64"
            )
        return rungs

    def points(self, points: int) -> list[int]:
        """Return how many points are run for each of these."""
        counts = [points]
        for _ in range(self.cuts):
            counts.append(math.ceil(counts[-1] * self.keep))
        return counts


@dataclass(frozen=True)
class Sweep:
    """What became of a sweep: one row for each lane, in the order of grid, seeds and starting points.

    Attributes:
        grid: the points.
        objective: the column that points are judged by, the lower the better.
        columns: name → [lane]: hyperparameters, `seed`, `start`, and what the task measured.
        curves: [lane, point], NaN behind a lane's last step; None if the task has none or they were not asked for.
        curve_steps: [point], the step that each point belongs to.
        ends: of `Minimizing`, the tree of parameters at the end with a first axis of lanes; else None.
        group: how many lanes ran side by side on a device.
        seconds: how long this call was measuring, waiting for compilers (most is done while lanes run), and running.
    """

    grid: Grid
    objective: str
    columns: dict[str, np.ndarray]
    curves: np.ndarray | None
    curve_steps: np.ndarray | None
    ends: Tree | None
    group: int
    seconds: dict[str, float]

    @cached_property
    def table(self) -> "pd.DataFrame":
        """The columns as a tidy pandas table; row i belongs to `curves[i]`."""
        try:
            import pandas as pd  # all else works without it
        except ImportError as error:
            raise ImportError(
                "the table is a pandas.DataFrame: pip install 'jaxopt_lec[lab]'; `columns` has the same"
            ) from error
        return pd.DataFrame(self.columns).rename_axis("lane")

    @cached_property
    def objectives(self) -> np.ndarray:
        """[point]: the mean of the objective over all lanes of a point that were run to the end; ∞ if one is not finite."""
        means = mean_objectives(self.columns[self.objective], len(self.grid))
        stopped = self.columns.get("stopped_by")
        if stopped is not None:
            means[(stopped.reshape(len(self.grid), -1) == "halving").any(1)] = np.inf
        return means

    @property
    def best(self) -> Point | None:
        """The hyperparameters of the point with the lowest objective, as they were given; None if no point's is finite."""
        i = int(np.argmin(self.objectives))
        return self.grid.point(i) if np.isfinite(self.objectives[i]) else None


def mean_objectives(objective: np.ndarray, points: int) -> np.ndarray:
    """Return the mean for each point of [lane], ∞ where one lane's is not finite."""
    each = objective.reshape(points, -1).astype(np.float64)
    return np.where(np.isfinite(each).all(1), np.where(np.isfinite(each), each, 0).mean(1), np.inf)


def sweep(
    task: Task | Callable[..., Any],
    grid: Grid,
    *,
    seeds: int | Sequence[int] = 1,
    study: str | Path | None = None,
    halving: Halving | None = None,
    curves: bool = True,
    side_by_side: int | None = None,
    memory_limit: int | None = None,
    progress: bool = True,
) -> Sweep:
    """Run a task with every point of a grid × every seed × every starting point.

    Hyperparameters that are numbers are data: all lanes that share the static ones are one compiled program. Lanes are
    sharded over all devices; on each they run in groups, the lanes of a group side by side. The group size is chosen
    once, by timing the first program if that costs little compared with the sweep itself. One call of a program runs as many
    groups as fit into the memory limit. A second call with the same task compiles only what is new.

    With a `study`, every chunk that is done is written into that folder, and the same call continues a study that was
    killed. It ends with the same numbers, to the last bit, because the group size is written down first. With another number
    of devices it continues too, to the same numbers up to rounding.

    In a program of several `jax.distributed` processes every process calls `sweep` with the same arguments and runs its
    share; the study's folder, which all must see, is how results travel. All return the whole sweep.

    Args:
        task: `Training`, `Minimizing`, or a function `run(key, **hyperparameters)`.
        grid: `grid(...)`, `random_grid(...)`, or a product of some.
        seeds: how many, which are then 0, 1, …, or which.
        study: the folder of the study; it is made if need be.
        halving: when to stop hopeless points early; None: never.
        curves: whether curves are kept.
        side_by_side: how many lanes make a group, on each device; None: the size with which the study was begun, else the
            usual or the fastest size. Lanes in groups of another size differ by rounding.
        memory_limit: in bytes, of all devices of this process together; None: half of what is free.
        progress: whether to show the progress on standard error: a bar if that is a terminal and rich is installed, else a
            line after ten seconds and then at growing intervals of at most a minute.

    Errors: InputError, before anything is compiled, for what cannot be run or does not belong to the study.
    LostProcessError, if another process is gone.
    """
    if not isinstance(task, Task):
        task = Running(task)
    if not isinstance(grid, Grid):
        raise InputError(f"grid: grid(...) or random_grid(...) is needed, got a {type(grid).__name__}")
    if side_by_side is not None and side_by_side < 1:
        raise InputError(f"side_by_side {side_by_side}: at least 1 is needed")
    if jax.process_count() > 1 and study is None:
        raise InputError("study: several processes need a folder that all of them see")
    run = _Run(task, grid, checked_seeds(task, seeds), halving, curves, side_by_side, memory_limit)
    quiet: AbstractContextManager[Report] = nullcontext(lambda status, lanes, expected=None: None)
    with lanes_bar(run.total) if progress and is_first() else quiet as report:
        if study is None:
            return run.run(None, report)
        with opened(Path(study), run.asked()) as folder:
            return run.run(folder, report)


def checked_seeds(task: Task, seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Return the seeds one by one.

    Raises:
        InputError: there are none, one is given twice or negative, or they would change nothing.
    """
    given = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
    if not given or min(given) < 0 or len(set(given)) < len(given):
        raise InputError(f"seeds {seeds}: at least one is needed, from 0 on, none twice")
    if len(given) > 1 and not task.takes_seeds:
        raise InputError(f"seeds {seeds}: {task.name} has no argument key, so all seeds would do the same")
    return given


@dataclass(frozen=True)
class _Chosen:
    """How a study is run. It makes a study continue to the same numbers; on another number of devices, up to rounding."""

    side_by_side: int | None  # as the caller gave it
    group: int  # lanes side by side on a device; rounding depends on it
    rounds: int  # groups that a program runs on each device, one after the other
    chunk: int  # lanes that become one file
    memory_per_device: int  # in bytes; groups get smaller until a program keeps to it
    seconds_per_lane: dict[str, float]  # of a lane with a few steps, for every group size that was timed


@dataclass(frozen=True)
class _LaneOf:
    """The function that runs one lane of a combination; equal ones share their compiled programs."""

    task: Task
    label: str
    static: tuple[tuple[str, Any], ...]
    traced: tuple[str, ...]
    curves: bool

    def __call__(self, lane: Lane, shared: Any) -> dict[str, Any]:
        combination = Combination(self.label, dict(self.static), self.traced, np.zeros(0, int))
        found = self.task.run_lane(combination, lane, shared)
        return {name: x for name, x in found.items() if self.curves or name != "curve"}


@dataclass(frozen=True)
class _Chunk:
    """Some lanes of one combination."""

    rung: int
    combination: int
    start: int  # its place among the lanes of the combination that are left
    lanes: np.ndarray  # their places in the table


class _Run:
    """One call of `sweep`."""

    def __init__(
        self,
        task: Task,
        grid: Grid,
        seeds: tuple[int, ...],
        halving: Halving | None,
        curves: bool,
        side_by_side: int | None,
        memory_limit: int | None,
    ) -> None:
        self.task, self.grid, self.seeds = task, grid, seeds
        self.halving, self.curves, self.side_by_side = halving, curves, side_by_side
        self.combinations = combinations(grid, task.factory, task.given)
        for combination in self.combinations:
            task.check(grid, combination)
        blocks = task.steps // task.block
        self.rungs = [blocks] if halving is None else halving.blocks(blocks)
        self.lanes_of_a_point = len(seeds) * task.n_starts
        points = [len(grid)] if halving is None else halving.points(len(grid))
        self.total = sum(points) * self.lanes_of_a_point
        self.devices = tuple(jax.local_devices())
        self.memory_limit = free_memory(self.devices) if memory_limit is None else memory_limit
        self.shared = task.shared(seeds)
        self.results = self._results_of(0)
        for i, combination in enumerate(self.combinations[1:], 1):
            if isinstance(task, Running) and self._results_of(i) != self.results:
                raise InputError(f"{combination.label} and {self.combinations[0].label} have results of different kinds")
        n = len(grid) * self.lanes_of_a_point
        size = n * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.results))
        if COPIES * size > self.memory_limit:
            raise InputError(
                f"the results of {n} lanes take {readable(COPIES * size)} of memory; the limit is "
                f"{readable(self.memory_limit)}" + ("; curves=False takes less" if "curve" in self.results else "")
            )
        runs = [(points * self.lanes_of_a_point, blocks) for points, blocks in zip(points, self.rungs, strict=True)]
        self.budget = MeasuringBudget(Work(tuple(runs), task.once / task.block))
        self.programs: dict[int, LaneProgram] = {}
        self.seconds = {"measuring": 0.0, "compiling": 0.0, "running": 0.0}

    def _runner(self, i: int) -> "_LaneOf":
        combination = self.combinations[i]
        return _LaneOf(self.task, combination.label, tuple(combination.static.items()), combination.traced, self.curves)

    def _results_of(self, i: int) -> dict[str, Any]:
        """Return the shapes and dtypes of the results of a lane of a combination."""
        return jax.eval_shape(self._runner(i), self._one_lane(i), self.shared)

    def _one_lane(self, i: int) -> Lane:
        return jax.tree.map(lambda x: x[0], self._pack(i, self._lanes(i, np.ones(len(self.grid), bool))[:1]))

    def _lanes(self, i: int, alive: np.ndarray) -> np.ndarray:
        """Return the places in the table of a combination's lanes, of the points that are left."""
        points = self.combinations[i].points
        points = points[alive[points]]
        return (points[:, None] * self.lanes_of_a_point + np.arange(self.lanes_of_a_point)).ravel()

    def _pack(self, i: int, lanes: np.ndarray) -> Lane:
        """Return what tells lanes from another."""
        point, rest = np.divmod(lanes, self.lanes_of_a_point)
        seed, start = np.divmod(rest, self.task.n_starts)
        columns = self.grid.columns
        traced = {n: np.array([columns[n][p] for p in point], self.task.dtype) for n in self.combinations[i].traced}
        return Lane(traced, seed.astype(np.int32), start.astype(np.int32))

    def asked(self) -> dict[str, Any]:
        """Return all that decides the numbers, as JSON values: a study that continues must have been asked the same."""
        programs = []
        for i, combination in enumerate(self.combinations):
            text = lowered_text(self._runner(i), self._one_lane(i), self.shared)
            programs.append([combination.label, hashlib.sha256(text.encode()).hexdigest()])
        return {
            "format": 2,
            "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "optax")},
            PLATFORM: self.devices[0].platform,
            "task": f"{type(self.task).__name__}: {self.task.name}",
            "steps": self.task.steps,
            "grid": {name: described(name, values) for name, values in self.grid.columns.items()},
            "seeds": list(self.seeds),
            "starting points": self.task.n_starts,
            "halving": None if self.halving is None else {"keep": self.halving.keep, "cuts": self.halving.cuts},
            "curves": self.curves,
            "programs": programs,
            "data": digest(self.task.given_data(self.seeds, self.shared)),
        }

    def run(self, folder: StudyFolder | None, report: Report) -> Sweep:
        """Run what is not yet done, and put the results together."""
        chosen = self._choose(folder, report)
        merged: dict[str, np.ndarray] = {}
        alive = np.ones(len(self.grid), bool)
        for rung, blocks in enumerate(self.rungs):
            if rung:
                alive = self._cut(merged, alive)
            for chunk, found in self._run_rung(rung, blocks, alive, chosen, folder, report):
                for name, x in found.items():
                    if name not in merged:
                        merged[name] = np.zeros((len(self.grid) * self.lanes_of_a_point, *x.shape[1:]), x.dtype)
                    merged[name][chunk.lanes] = x
        result = self._gather(merged, chosen)
        if folder is not None and is_first():
            folder.write_table(as_csv(result.columns))
        return result

    def _choose(self, folder: StudyFolder | None, report: Report) -> _Chosen:
        """Return how the study is run: as it was, or as a short measurement says."""
        if folder is None:
            return self._measure(report, resumable=False)
        with together("measuring how lanes run best", f"Nothing was run yet; the same call with {folder.path} goes on."):
            if is_first() and folder.plan() is None:
                folder.write_plan(dataclasses.asdict(self._measure(report, resumable=True)))
        plan = folder.plan()
        assert plan is not None
        chosen = _Chosen(**plan)
        before = chosen.side_by_side or chosen.group
        if self.side_by_side not in (None, before):
            raise another_study(folder.path, "side_by_side", before, self.side_by_side)
        return chosen

    def _measure(self, report: Report, resumable: bool) -> _Chosen:
        report("measuring how lanes run best", 0)
        started = time.perf_counter()
        n = len(self._lanes(0, np.ones(len(self.grid), bool)))
        bytes_per_lane = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.results))
        capacity = max(1, min(n, int(self.memory_limit / COPIES / max(1, bytes_per_lane))))
        plans = candidates(capacity, self.devices)
        if self.side_by_side is not None:
            plans = [Plan(self.devices[:capacity], min(self.side_by_side, capacity))]

        def rounds(plan: Plan) -> int:
            needed = -(-capacity // plan.round)
            return min(ROUNDS, needed) if resumable else needed

        measured = measure_plan(
            plans,
            lambda plan: self._compiled(0, plan, rounds(plan)),
            self._pack(0, self._lanes(0, np.ones(len(self.grid), bool))[:capacity]),
            lambda blocks: self.shared._replace(blocks=np.int32(blocks)),
            self.budget,
            few=min(-(-MEASURED_STEPS // self.task.block), self.rungs[-1]),
            repeats=3 if self.rungs[-1] > 1 else 1,  # a lane of a single block cannot be shortened, so it is run only once
            memory_limit=self.memory_limit,
            begin_wide=self.task.begin_wide,
            fewer_devices=self.side_by_side is None,
        )
        plan = measured.plan
        if len(plan.devices) < len(plans[0].devices):
            self.devices = plan.devices
        self.programs[0] = measured.program
        self.seconds["measuring"] = time.perf_counter() - started
        if measured.cost is not None:
            report("measured", 0, self.budget.seconds)
        return _Chosen(
            side_by_side=self.side_by_side,
            group=plan.group,
            rounds=rounds(plan),
            chunk=self._chunk(measured, capacity) if resumable else capacity,
            memory_per_device=self.memory_limit // len(self.devices[:capacity]),
            seconds_per_lane={str(group): seconds for group, seconds in measured.seconds_per_lane.items()},
        )

    def _chunk(self, measured: Measured, capacity: int) -> int:
        """Return how many lanes become one file: about ten seconds of work, or one round if the time is not known."""
        plan = measured.plan
        rounds = 1
        if measured.cost is not None:
            seconds = measured.cost.lane(self.rungs[-1]) * plan.round
            rounds = max(1, int(min(CHUNK_SECONDS / max(seconds, 1e-9), capacity)))
        # A process's share should not be one chunk that another one waits for.
        n, processes = len(self._lanes(0, np.ones(len(self.grid), bool))), jax.process_count()
        share = -(-n // (4 * processes)) if processes > 1 else n
        return min(capacity, max(1, min(rounds, -(-share // plan.round))) * plan.round)

    def _compiled(self, i: int, plan: Plan, rounds: int) -> LaneProgram:
        """Return the program of a combination that runs `rounds` groups on each device, one after the other."""
        lanes = np.resize(self._lanes(i, np.ones(len(self.grid), bool)), rounds * plan.round)
        return compiled(self._runner(i), Shapes.of(self._pack(i, lanes)), Shapes.of(self.shared), plan)

    def _compile(self, i: int, chosen: _Chosen, report: Report) -> LaneProgram:
        """Return the compiled program of a combination, with groups small enough for the memory limit.

        The group size depends only on what the study has written down, not on this machine.
        """
        combination = self.combinations[i]
        lanes = len(self._lanes(i, np.ones(len(self.grid), bool)))
        devices, group = self.devices[:lanes], min(chosen.group, lanes)
        while True:
            report(f"compiling {combination.label}", 0)
            program = self._compiled(i, Plan(devices, group), min(chosen.rounds, -(-lanes // group)))
            each = program.bytes // len(devices)
            if each > chosen.memory_per_device:
                if group == 1:
                    raise InputError(
                        f"{combination.label}: one lane at a time takes {readable(each)} of memory; the limit is "
                        f"{readable(chosen.memory_per_device)}"
                    )
                group //= 2
                continue
            enough = fitting(devices, each, self.memory_limit)
            if len(enough) == len(devices):
                return program
            if not enough:
                raise InputError(
                    f"{combination.label}: the study was begun in groups of {group} lanes, which take {readable(each)} of "
                    f"memory; the limit is {readable(self.memory_limit)}. With a greater memory_limit it continues"
                )
            devices = enough

    def _run_chunks(
        self, chunks: Sequence[_Chunk], blocks: int, chosen: _Chosen, report: Report
    ) -> Iterator[tuple[_Chunk, Results]]:
        """Run chunks, and compile the programs of the next ones meanwhile."""
        shared = self.shared._replace(blocks=np.int32(blocks))
        needed = [i for i in dict.fromkeys(chunk.combination for chunk in chunks) if i not in self.programs]
        compilers = ThreadPoolExecutor(COMPILERS)
        try:
            coming = {i: compilers.submit(self._compile, i, chosen, report) for i in needed}
            for chunk in chunks:
                i = chunk.combination
                started = time.perf_counter()
                if i not in self.programs:
                    self.programs[i] = coming.pop(i).result()
                ready = time.perf_counter()
                found = self._call(i, chunk.lanes, shared, partial(report, self.combinations[i].label))
                self.seconds["compiling"] += ready - started
                self.seconds["running"] += time.perf_counter() - ready
                ends = jax.tree.leaves(found.pop("ends", None))
                yield chunk, found | {f"ends/{k}": leaf for k, leaf in enumerate(ends)}
        finally:
            compilers.shutdown(wait=False, cancel_futures=True)

    def _call(self, i: int, lanes: np.ndarray, shared: Any, on_lanes: Callable[[int], None]) -> dict[str, Any]:
        """Run some lanes of a combination, in as many calls of its program as necessary."""
        program = self.programs[i]
        parts = [lanes[k : k + program.capacity] for k in range(0, len(lanes), program.capacity)]
        found = [program(self._pack(i, part), shared, on_lanes) for part in parts]
        return found[0] if len(found) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)

    def _run_rung(
        self, rung: int, blocks: int, alive: np.ndarray, chosen: _Chosen, folder: StudyFolder | None, report: Report
    ) -> Iterator[tuple[_Chunk, Results]]:
        """Run the chunks of a rung that are not yet done, and yield all of them."""
        chunks = []
        for i in range(len(self.combinations)):
            lanes = self._lanes(i, alive)
            for start in range(0, len(lanes), chosen.chunk):
                chunks.append(_Chunk(rung, i, start, lanes[start : start + chosen.chunk]))
        if folder is None:
            yield from self._run_chunks(chunks, blocks, chosen, report)
            return
        files = [folder.chunk(rung, chunk.combination, chunk.start) for chunk in chunks]
        left = f"What is done is in {folder.path}: the same call continues it."
        with together("looking for what is done", left):
            missing = [k for k, file in enumerate(files) if not file.exists()]
        report(
            "reading what is done", sum(len(chunk.lanes) for chunk in chunks) - sum(len(chunks[k].lanes) for k in missing)
        )
        n, me = jax.process_count(), jax.process_index()
        with together("running lanes", left):
            if missing and folder.platform() != self.devices[0].platform:
                raise InputError(
                    f"study {folder.path} is run on a {folder.platform()}, and here is a {self.devices[0].platform}, which "
                    f"rounds differently; {sum(len(chunks[k].lanes) for k in missing)} lanes are missing: continue it there"
                )
            # Neighbours go to the same process, so that it compiles few programs.
            mine = [chunks[k] for k in missing[me * len(missing) // n : (me + 1) * len(missing) // n]]
            for chunk, found in self._run_chunks(mine, blocks, chosen, report):
                folder.write(folder.chunk(rung, chunk.combination, chunk.start), found)
        with together("reading the results", left):
            results = [folder.read(file) for file in files]
        yield from zip(chunks, results, strict=True)

    def _cut(self, merged: dict[str, np.ndarray], alive: np.ndarray) -> np.ndarray:
        """Return which points go on: the best of those that are left, among equals the first."""
        assert self.halving is not None
        means = np.where(alive, mean_objectives(merged[self.task.objective], len(self.grid)), np.inf)
        order = sorted(np.flatnonzero(alive), key=lambda point: means[point])
        go_on = np.zeros_like(alive)
        go_on[order[: math.ceil(len(order) * self.halving.keep)]] = True
        return go_on

    def _gather(self, merged: dict[str, np.ndarray], chosen: _Chosen) -> Sweep:
        """Return the sweep: what tells lanes apart first, then what was measured."""
        n = self.lanes_of_a_point
        columns: dict[str, np.ndarray] = {}
        for name, values in self.grid.columns.items():
            shown = described(name, values)
            kinds = {type(value) for value in shown}
            # NumPy would make one kind of what is several, as text of numbers.
            columns[name] = np.repeat(np.array(shown, None if len(kinds) == 1 or kinds == {int, float} else object), n)
        if self.task.takes_seeds:
            columns["seed"] = np.tile(np.repeat(self.seeds, self.task.n_starts), len(self.grid))
        if isinstance(self.task, Minimizing):
            columns["start"] = np.tile(np.arange(self.task.n_starts), len(self.grid) * len(self.seeds))
        for name, x in sorted(merged.items(), key=lambda item: item[0] != self.task.objective):
            if name == "stopped_by":
                columns[name] = np.array([STOPPED_BY[int(code)] for code in x])
            elif name != "curve" and not name.startswith("ends/"):
                columns[name] = x
        curve = merged.get("curve")
        ends = None
        if "ends" in self.results:
            leaves, structure = jax.tree.flatten(self.results["ends"])
            ends = jax.tree.unflatten(structure, [merged[f"ends/{k}"] for k in range(len(leaves))])
        return Sweep(
            grid=self.grid,
            objective=self.task.objective,
            columns=columns,
            curves=curve,
            curve_steps=None if curve is None else self.task.first_step + np.arange(curve.shape[1]),
            ends=ends,
            group=chosen.group,
            seconds=self.seconds,
        )


def as_csv(columns: dict[str, np.ndarray]) -> bytes:
    """Return columns as a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["lane", *columns])
    writer.writerows([i, *row] for i, row in enumerate(zip(*(x.tolist() for x in columns.values()), strict=True)))
    return text.getvalue().encode()


def digest(tree: Tree) -> str:
    """Return a hash of arrays, keys of random numbers among them."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(leaf)
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()
