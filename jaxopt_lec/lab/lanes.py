"""How lanes are run: many independent runs of one function, in one compiled program.

A lane is one run: the same function on its own small input. Lanes are sharded over the devices; every device works through
its lanes in groups, one group after the other, the lanes of a group side by side (``jax.vmap``). One wide vmap suits a GPU;
on a CPU small groups stay in the cache, but how small depends on the workload. So several sizes are timed, if that
costs little compared with the study itself.
"""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.measuring import Cost, MeasuringBudget
from jaxopt_lec.lab.memory import readable

Tree: TypeAlias = Any
RunLane: TypeAlias = Callable[[Tree, Tree], Tree]

AXIS = "lanes"
# How many programs are compiled at a time; a compiler keeps one core busy.
COMPILERS = 2
# Primitives of JAX that are LAPACK's on a CPU.
_FACTORIZATIONS = {
    *("cholesky", "eig", "eigh", "geqp3", "geqrf", "hessenberg", "householder_product", "lu", "qr", "schur", "svd"),
    *("triangular_solve", "tridiagonal"),
}
# The next plan must beat the last one by this much: timings this short are noisy.
WORTH_IT = 0.95
# The index of a CPU's usual plan among the candidates: groups of four.
PROMISING = 2
# How many lanes of each device are run to time a plan, at least.
MEASURED_LANES = 16
# One lane in so many, but at least one round, is run to estimate how long the study takes.
ONE_IN = 100
# With so small a share of its cores at work, a program shares them with others.
BUSY = 0.75


@dataclass(frozen=True)
class Plan:
    """Which devices the lanes are sharded over, and how many lanes of one device run side by side."""

    devices: tuple[jax.Device, ...]
    group: int

    @property
    def round(self) -> int:
        """How many lanes run at a time, over all devices."""
        return len(self.devices) * self.group


@dataclass(frozen=True)
class Measured:
    """The plan that was chosen, and the times that were measured.

    Attributes:
        plan: how the lanes run.
        program: the program that was compiled for it.
        seconds_per_lane: the time of a lane with a few steps, for every group size that was timed; empty if none was.
        cost: the time of a lane with the usual plan; None if measuring even that would have cost too much.
    """

    plan: Plan
    program: "LaneProgram"
    seconds_per_lane: dict[int, float]
    cost: Cost | None


@dataclass
class LaneProgram:
    """A function over lanes, compiled for up to `capacity` of them. Make it with ``compile_lanes``."""

    plan: Plan
    capacity: int
    compile_seconds: float
    _executable: jax.stages.Compiled = field(repr=False)
    _listener: "_Listener" = field(repr=False)

    @property
    def bytes(self) -> int:
        """The memory that it takes while it runs, on all its devices together, by the compiler's account."""
        stats = self._executable.memory_analysis()
        if stats is None:  # a platform that keeps no account
            return 0
        each = stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes
        return int(each) * len(self.plan.devices)

    def __call__(self, lanes: Tree, shared: Tree, on_lanes: Callable[[int], None] = lambda lanes: None) -> Tree:
        """Run lanes, and return their results stacked along a first axis, as NumPy arrays.

        Args:
            lanes: a tree of arrays; the first axis counts lanes, of which there may be 1 to `capacity`.
            shared: what all lanes read, with the shapes and dtypes that the program was compiled for.
            on_lanes: called with a number of lanes whenever that many more are done; from another thread.
        """
        count = len(jax.tree.leaves(lanes)[0])
        if not 1 <= count <= self.capacity:
            raise ValueError(f"{count} lanes given to a program compiled for 1 to {self.capacity}")
        rounds = -(-count // self.plan.round)
        self._listener.on_lanes, self._listener.go_on = on_lanes, True
        sharded, replicated = shardings(self.plan)
        arguments = (
            jax.device_put(deal(lanes, self.plan, self.capacity), sharded),
            jax.device_put(deal(np.arange(count) < count, self.plan, self.capacity, fill=False), sharded),
            jax.device_put(shared, replicated),
            jax.device_put(np.int32(rounds), replicated),
        )
        # In a thread, as a wait inside JAX would keep Ctrl-C out until all lanes are done.
        with ThreadPoolExecutor(1) as thread:
            try:
                result = thread.submit(lambda: jax.block_until_ready(self._executable(*arguments))).result()
            except BaseException:
                self._listener.go_on = False
                raise
        return jax.tree.map(lambda leaf: collect(leaf)[:count], result)


class _Listener:
    """Whom the running program tells about finished lanes, and asks whether to go on. It changes from call to call."""

    def __init__(self) -> None:
        self.on_lanes: Callable[[int], None] = lambda lanes: None
        self.go_on = True

    def __call__(self, lanes: np.ndarray, after: np.ndarray) -> np.ndarray:
        self.on_lanes(int(lanes))
        return np.array(self.go_on)


def shardings(plan: Plan) -> tuple[NamedSharding, NamedSharding]:
    """Return how lanes and how shared data lie on the plan's devices."""
    mesh = jax.make_mesh((len(plan.devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=plan.devices)
    return NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())


def deal(lanes: Tree, plan: Plan, capacity: int, fill: Any = None) -> Tree:
    """Deal lanes out like cards: [lane, ...] → [device, round, place in the group, ...], filled up to `capacity`.

    Unfilled places repeat the last lane unless `fill` is given; their results are dropped.
    """
    rounds = -(-capacity // plan.round)

    def leaf(x: Any) -> np.ndarray:
        x = np.asarray(x)
        padding = np.broadcast_to(x[-1] if fill is None else fill, (rounds * plan.round - len(x), *x.shape[1:]))
        dealt = np.concatenate([x, padding]).reshape(rounds, len(plan.devices), plan.group, *x.shape[1:])
        return dealt.swapaxes(0, 1)

    return jax.tree.map(leaf, lanes)


def collect(dealt: jax.Array) -> np.ndarray:
    """Undo ``deal``, but for the padding."""
    x = np.asarray(dealt).swapaxes(0, 1)
    return x.reshape(-1, *x.shape[3:])


def compile_lanes(run_lane: RunLane, lanes: Tree, shared: Tree, plan: Plan) -> LaneProgram:
    """Compile a function over lanes.

    Args:
        run_lane: ``run_lane(lane, shared) -> result``, traceable by JAX.
        lanes: as many lanes as the program shall be able to take; only their shapes and dtypes matter.
        shared: what all lanes read; only its shapes and dtypes matter.
        plan: where and how the lanes run.
    """
    start = time.perf_counter()
    capacity = len(jax.tree.leaves(lanes)[0])
    listener = _Listener()

    def one_group(group: Tree, shared: Tree) -> Tree:
        if plan.group > 1:
            lane = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), group)
            if plan.devices[0].platform == "cpu" and _factorizes(jax.make_jaxpr(run_lane)(lane, shared)):
                return jax.lax.map(lambda lane: run_lane(lane, shared), group)
            return jax.vmap(run_lane, in_axes=(0, None))(group, shared)
        # Not a vmap of one: batched convolutions and matrix products would take slower paths.
        result = run_lane(jax.tree.map(lambda x: x[0], group), shared)
        return jax.tree.map(lambda x: x[None], result)

    def one_device(lanes: Tree, real: jax.Array, shared: Tree, rounds: jax.Array) -> Tree:
        lanes, real = jax.tree.map(lambda x: x[0], (lanes, real))

        def unfinished(carry: tuple[jax.Array, jax.Array, Tree]) -> jax.Array:
            i, go_on, _ = carry
            return go_on & (i < rounds)

        def body(carry: tuple[jax.Array, jax.Array, Tree]) -> tuple[jax.Array, jax.Array, Tree]:
            i, _, results = carry
            result = one_group(jax.tree.map(lambda x: x[i], lanes), shared)
            # The last argument holds the call back until the group's results are there.
            go_on = io_callback(
                listener, jax.ShapeDtypeStruct((), bool), real[i].sum(), jax.tree.leaves(result)[0].ravel()[0]
            )
            return i + 1, go_on, jax.tree.map(lambda all_, one: all_.at[i].set(one), results, result)

        shapes = jax.eval_shape(one_group, jax.tree.map(lambda x: x[0], lanes), shared)
        empty = jax.tree.map(lambda s: jnp.zeros((len(real), *s.shape), s.dtype), shapes)
        # The number of rounds is data, so one program serves the whole grid and the few lanes after it.
        _, _, results = jax.lax.while_loop(unfinished, body, (jnp.int32(0), jnp.bool(True), empty))
        return jax.tree.map(lambda x: x[None], results)

    sharded, replicated = shardings(plan)
    split, whole = sharded.spec, replicated.spec
    # check_vma would ask an optimizer's constant initial state to be marked as varying over devices.
    program = jax.jit(
        jax.shard_map(
            one_device, mesh=sharded.mesh, in_specs=(split, split, whole, whole), out_specs=split, check_vma=False
        ),
        in_shardings=(sharded, sharded, replicated, replicated),
    )
    dealt = deal((lanes, np.ones(capacity, bool)), plan, capacity)
    # By shape alone: with several processes, JAX wants to be told that an array is this process's own.
    shapes = jax.eval_shape(lambda *arguments: arguments, *dealt, shared, np.int32(0))
    executable = program.lower(*shapes).compile()
    return LaneProgram(plan, capacity, time.perf_counter() - start, executable, listener)


def _factorizes(jaxpr: Any) -> bool:
    """Whether a program factorizes matrices; of many at once a CPU's few threads may all wait for each other, for ever."""
    return any(
        operation.primitive.name in _FACTORIZATIONS
        or any(_factorizes(part) for part in jax.tree.leaves(list(operation.params.values())) if hasattr(part, "eqns"))
        for operation in jaxpr.eqns
    )


@dataclass(frozen=True)
class Shapes:
    """A tree's structure, shapes and dtypes, as the key of a cache."""

    structure: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, tree: Tree) -> "Shapes":
        """Return those of a tree of arrays."""
        leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: tree))
        return cls(structure, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves))

    def structs(self) -> Tree:
        """Return the tree, with shapes for arrays."""
        return jax.tree.unflatten(self.structure, self.leaves)

    def zeros(self) -> Tree:
        """Return the tree, with zeros."""
        return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), self.structs())


@lru_cache(maxsize=64)
def compiled(run_lane: RunLane, lanes: Shapes, shared: Shapes, plan: Plan) -> LaneProgram:
    """Compile as `compile_lanes`, or return the program that was compiled for an equal function and the same shapes."""
    return compile_lanes(run_lane, lanes.zeros(), shared.structs(), plan)


def first(lanes: Tree, count: int) -> Tree:
    """Return the first lanes."""
    return jax.tree.map(lambda x: x[:count], lanes)


def candidates(lanes: int, devices: tuple[jax.Device, ...]) -> list[Plan]:
    """Return the plans worth trying, from groups of one lane to the widest, by doubling."""
    devices = devices[:lanes]
    wide = -(-lanes // len(devices))
    groups = [1]
    while groups[-1] < wide:
        groups.append(min(2 * groups[-1], wide))
    return [Plan(devices, group) for group in groups]


def usual_place(plans: Sequence[Plan], begin_wide: bool = False) -> int:
    """Return the index of the usual plan of the platform: groups of four on a CPU, the widest elsewhere.

    Args:
        plans: from the narrowest groups to the widest.
        begin_wide: whether the widest groups are usual on a CPU too, for lanes that do little work.
    """
    on_cpu = plans[0].devices[0].platform == "cpu"
    return min(PROMISING, len(plans) - 1) if on_cpu and not begin_wide else len(plans) - 1


def measure_plan(
    plans: Sequence[Plan],
    compile_plan: Callable[[Plan], LaneProgram],
    lanes: Tree,
    shorten: Callable[[int], Tree],
    budget: MeasuringBudget,
    *,
    few: int = 1,
    repeats: int = 3,
    memory_limit: float = math.inf,
    begin_wide: bool = False,
    fewer_devices: bool = True,
) -> Measured:
    """Choose a plan: the usual one or, if the budget allows timing a few lanes, a faster one.

    From the usual plan the search goes to wider or narrower groups, until the next one is not faster or would cost too much
    to time. If the study is too short for any timing, only the usual plan's program is compiled, and nothing is run.

    Args:
        plans: from the narrowest groups to the widest.
        compile_plan: compiles the real program for a plan.
        lanes: the real lanes; some of them are run, one round at least.
        shorten: returns the shared data with which a lane runs the given number of blocks of steps.
        budget: the budget for timing.
        few: how many blocks a lane runs when plans are compared.
        repeats: how many timed runs; the fastest counts.
        memory_limit: plans whose program takes more bytes are not run.
        begin_wide: whether the widest groups are usual on a CPU too, for lanes that do little work.
        fewer_devices: whether to try half of a CPU's cores, a quarter and so on, if other programs keep the cores busy.

    Raises:
        InputError: no plan keeps to the memory limit.
    """
    trials = _Trials(compile_plan, lanes, shorten, budget, few, repeats, memory_limit)
    best = place = trials.widest_that_fits(plans, usual_place(plans, begin_wide))
    if trials.learn_cost(plans[best]):
        while best + 1 < len(plans) and trials.is_faster(plans[best + 1], plans[best]):
            best += 1
        if best == place:
            while best > 0 and trials.is_faster(plans[best - 1], plans[best]):
                best -= 1
    plan = plans[best]
    on_cpu = plan.devices[0].platform == "cpu"
    while fewer_devices and on_cpu and len(plan.devices) > 1 and trials.cores_are_busy(plan):
        fewer = Plan(plan.devices[: len(plan.devices) // 2], plan.group)
        if not trials.is_faster(fewer, plan):
            break
        plan = fewer
    same = [tried for tried in trials.times if len(tried.devices) == len(plan.devices)]
    seconds = {tried.group: trials.times[tried] for tried in sorted(same, key=lambda tried: tried.group)}
    return Measured(plan, trials.programs[plan], seconds, trials.cost)


@dataclass
class _Trials:
    """Plans that were compiled and timed, each once."""

    compile_plan: Callable[[Plan], LaneProgram]
    lanes: Tree
    shorten: Callable[[int], Tree]
    budget: MeasuringBudget
    few: int
    repeats: int
    memory_limit: float
    programs: dict[Plan, LaneProgram] = field(default_factory=dict)
    times: dict[Plan, float] = field(default_factory=dict)  # seconds per lane, ∞ where the memory does not suffice
    cores: dict[Plan, float] = field(default_factory=dict)  # how many were at work
    cost: Cost | None = None

    def widest_that_fits(self, plans: Sequence[Plan], place: int) -> int:
        """Return the index of the first plan, from `place` down to narrower groups, that keeps to the memory limit."""
        while True:
            program = self.programs[plans[place]] = self.compile_plan(plans[place])
            if program.bytes <= self.memory_limit:
                return place
            self.times[plans[place]] = math.inf
            if place == 0:
                least, limit = readable(program.bytes), readable(self.memory_limit)
                raise InputError(f"one lane at a time takes {least} of memory; the limit is {limit}")
            place -= 1

    def learn_cost(self, plan: Plan) -> bool:
        """Measure the time of a lane, which says how long the study runs; return False if that would cost too much."""
        work = self.budget.work
        rounds = max(1, self._capacity(plan) // ONE_IN // plan.round)
        # The first call without steps sets up buffers and thread pools; the second times the lanes' work besides steps.
        short = 0 if work.blocks > 1 else 1

        def needed(blocks: int) -> float:
            return 2 * work.of(rounds * plan.round, short) + work.of(rounds * plan.round, blocks)

        # More blocks give less noise: up to half of the allowance is spent on them.
        blocks = next((n for n in range(self.few, 1, -1) if self.budget.allows(2 * needed(n))), 1)
        if not self.budget.allows(needed(blocks)):
            return False
        count = min(rounds * plan.round, self._capacity(plan))
        _, (once, _), (whole, self.cores[plan]) = (self._run(plan, count, n, 1) for n in (short, short, blocks))
        self.cost = Cost(once, max(0.0, whole - once) / blocks) if short == 0 else Cost(0.0, min(once, whole))
        self.budget.seconds = work.seconds(self.cost)
        return True

    def is_faster(self, plan: Plan, other: Plan) -> bool:
        """Return whether a plan is faster than another; False if timing it would cost too much."""
        return self._may_be_timed(plan, other) and self.seconds(plan) <= WORTH_IT * self.seconds(other)

    def _may_be_timed(self, plan: Plan, other: Plan) -> bool:
        assert self.cost is not None
        compiling = 0.0 if plan in self.programs else self.programs[other].compile_seconds
        untimed = [tried for tried in (plan, other) if tried not in self.times]
        lanes = sum((1 + self.repeats) * max(self._count(tried), tried.round) for tried in untimed)
        return self.budget.allows(
            self.budget.work.of(lanes, self.few), compiling + lanes * self.cost.lane(self.few) if untimed else 0.0
        )

    def cores_are_busy(self, plan: Plan) -> bool:
        """Return whether other programs seem to keep the cores of a plan busy, if the plan was timed."""
        return plan in self.cores and self.cores[plan] < BUSY * len(plan.devices)

    def seconds(self, plan: Plan) -> float:
        if plan not in self.times:
            if plan not in self.programs:
                with self.budget.spending():
                    self.programs[plan] = self.compile_plan(plan)
            self.times[plan] = math.inf
            if self.programs[plan].bytes <= self.memory_limit:
                count = self._count(plan)
                # Sets up buffers and thread pools; a lane of a single block cannot be shortened.
                self._run(plan, count, 0 if self.budget.work.blocks > 1 else 1, 1)
                self.times[plan], self.cores[plan] = self._run(plan, count, self.few, self.repeats)
        return self.times[plan]

    def _capacity(self, plan: Plan) -> int:
        return min(self.programs[plan].capacity, len(jax.tree.leaves(self.lanes)[0]))

    def _count(self, plan: Plan) -> int:
        """Return how many lanes a plan is timed with.

        It is the same number for narrow groups and wide ones, so that they share the cost of a call equally.
        """
        return min(max(plan.round, MEASURED_LANES * len(plan.devices)), len(jax.tree.leaves(self.lanes)[0]))

    def _run(self, plan: Plan, count: int, blocks: int, repeats: int) -> tuple[float, float]:
        with self.budget.spending(repeats * self.budget.work.of(max(count, plan.round), blocks)):
            return clocked(self.programs[plan], first(self.lanes, count), self.shorten(blocks), repeats)


def clocked(program: LaneProgram, lanes: Tree, short: Tree, repeats: int) -> tuple[float, float]:
    """Return the seconds that a lane takes, and how many cores were at work for them."""
    runs = []
    for _ in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        program(lanes, short)
        runs.append((time.perf_counter() - start, time.process_time() - cpu))
    elapsed, cpu = min(runs)
    return elapsed / len(jax.tree.leaves(lanes)[0]), cpu / max(elapsed, 1e-9)
