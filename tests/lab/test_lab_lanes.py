"""The executor: every plan gives the same numbers, and a diverged lane touches no other."""

import json
import math
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.lanes import Plan, Shapes, candidates, collect, compile_lanes, compiled, deal, measure_plan
from jaxopt_lec.lab.measuring import MeasuringBudget, Work
from jaxopt_lec.lab.training import Lane, Shared, batch_order, block_length, hold, seeded, train_lane
from jaxopt_lec.lab.workloads import load_workload

ROOT = Path(__file__).parents[2]
DEVICE = (jax.local_devices()[0],)


def double(lane, shared):
    return {"sum": lane["x"].sum() + shared, "pair": jnp.stack([lane["x"], 2 * lane["x"]])}


def some_lanes(n: int):
    return {"x": np.arange(3 * n, dtype=np.float32).reshape(n, 3)}


def test_a_cpu_factorizes_one_lane_at_a_time() -> None:
    def solved(lane, shared):
        matrix = jnp.outer(lane["x"], lane["x"]) + shared * jnp.eye(3)
        return jax.lax.cond(shared > 0, lambda: jnp.linalg.cholesky(matrix), lambda: matrix)

    programs = [compile_lanes(solved, some_lanes(4), np.float32(0), Plan(DEVICE, group)) for group in (1, 4)]
    if DEVICE[0].platform == "cpu":  # four at once may wait for each other's threads, for ever
        calls = [
            line for line in programs[1]._executable.as_text().splitlines() if "potrf" in line and "custom-call" in line
        ]
        assert calls
        assert not any("[4,3,3]" in line for line in calls)
    alone, together = (program(some_lanes(4), np.float32(1)) for program in programs)
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("group", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_results_come_back_in_order_without_padding(group: int, count: int) -> None:
    program = compile_lanes(double, some_lanes(7), np.float32(0), Plan(DEVICE, group))
    lanes, done = some_lanes(count), []
    result = program(lanes, np.float32(0.5), done.append)
    np.testing.assert_array_equal(result["sum"], lanes["x"].sum(1) + 0.5)
    np.testing.assert_array_equal(result["pair"], np.stack([lanes["x"], 2 * lanes["x"]], 1))
    assert sum(done) == count


def test_a_program_refuses_more_lanes_than_it_was_compiled_for() -> None:
    program = compile_lanes(double, some_lanes(2), np.float32(0), Plan(DEVICE, 1))
    with pytest.raises(ValueError, match="3 lanes given to a program compiled for 1 to 2"):
        program(some_lanes(3), np.float32(0))


def test_deal_and_collect_are_inverse() -> None:
    plan = Plan((None, None, None), 2)  # only their number matters here
    x = np.arange(10)
    dealt = deal(x, plan, 10)
    assert dealt.shape == (3, 2, 2)
    np.testing.assert_array_equal(dealt[1, 0], [2, 3])  # like cards: the second device gets the second group
    np.testing.assert_array_equal(collect(dealt)[:10], x)


class FakeDevice:
    def __init__(self, platform: str) -> None:
        self.platform = platform


def test_candidates_double_up_to_all_lanes_of_a_device() -> None:
    assert [plan.group for plan in candidates(55, (FakeDevice("cpu"),) * 2)] == [1, 2, 4, 8, 16, 28]
    assert [plan.group for plan in candidates(1, (FakeDevice("cpu"),) * 8)] == [1]
    assert [len(plan.devices) for plan in candidates(1, (FakeDevice("cpu"),) * 8)] == [1]


class FakeProgram:
    """Takes made-up seconds on a made-up clock, and counts the blocks of steps that its lanes took."""

    compile_seconds = 5.0
    capacity = 100

    def __init__(self, plan: Plan, clock: list[float], seconds: float, once: float = 0.0) -> None:
        self.plan, self.clock, self.seconds, self.once = plan, clock, seconds, once
        self.bytes = 10 * plan.round
        self.blocks_taken = 0
        clock[0] += self.compile_seconds

    def __call__(self, lanes, blocks: int) -> None:
        padded = -(-len(lanes) // self.plan.round) * self.plan.round
        self.blocks_taken += padded * blocks
        self.clock[0] += padded * self.seconds * (self.once + blocks)


def plenty() -> MeasuringBudget:
    return MeasuringBudget(Work(((10_000, 100),)))


def shorten(blocks: int) -> int:
    return blocks


def choose(seconds: dict[int, float], monkeypatch, platform: str = "cpu", devices: int = 1, **options):
    """Choose a plan by made-up seconds per lane on a made-up clock; a program takes 10 bytes per lane."""
    clock = [0.0]
    monkeypatch.setattr("jaxopt_lec.lab.lanes.time.perf_counter", lambda: clock[0])
    plans = [Plan((FakeDevice(platform),) * devices, group) for group in seconds]

    def compile_plan(plan: Plan) -> FakeProgram:
        return FakeProgram(plan, clock, seconds[plan.group])

    return measure_plan(plans, compile_plan, np.zeros(96), shorten, plenty(), **options)


@pytest.mark.parametrize(
    ("seconds", "chosen", "tried"),
    [
        ({1: 4.0, 2: 2.0, 4: 1.0, 8: 0.5, 16: 0.6, 32: 0.1}, 8, [4, 8, 16]),  # up, until it gets slower
        ({1: 1.0, 2: 0.5, 4: 1.0, 8: 0.98, 16: 0.5}, 2, [1, 2, 4, 8]),  # a gain within the noise is none; then down
        ({1: 1.0, 2: 2.0, 4: 3.0, 8: 4.0}, 1, [1, 2, 4, 8]),
        ({1: 1.0, 2: 0.5}, 2, [1, 2]),
        ({1: 1.0}, 1, []),  # nothing to choose from
    ],
)
def test_a_cpu_begins_with_groups_of_four_and_climbs(monkeypatch, seconds, chosen, tried) -> None:
    measured = choose(seconds, monkeypatch)
    assert measured.plan.group == measured.program.plan.group == chosen
    assert list(measured.seconds_per_lane) == tried
    if tried:
        assert measured.seconds_per_lane[chosen] == pytest.approx(seconds[chosen])


@pytest.mark.parametrize("options", [{"platform": "gpu"}, {"begin_wide": True}])
def test_elsewhere_the_widest_group_comes_first(monkeypatch, options) -> None:
    measured = choose({1: 1.0, 2: 1.0, 4: 1.0, 8: 0.6, 16: 0.5, 32: 0.7}, monkeypatch, **options)
    assert measured.plan.group == 16
    assert list(measured.seconds_per_lane) == [8, 16, 32]


@pytest.mark.parametrize(("cores", "seconds", "chosen"), [(3.9, 0.1, 4), (1.5, 0.3, 2), (1.5, 0.6, 4)])
def test_fewer_devices_are_tried_where_cores_are_busy(monkeypatch, cores: float, seconds: float, chosen: int) -> None:
    """At 0.5 seconds a lane on four devices, two must be faster, and one is not."""
    clock = [0.0]
    monkeypatch.setattr("jaxopt_lec.lab.lanes.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("jaxopt_lec.lab.lanes.time.process_time", lambda: cores * clock[0])

    def compile_plan(plan: Plan) -> FakeProgram:
        return FakeProgram(plan, clock, {4: 0.5, 2: seconds, 1: 1.0}[len(plan.devices)])

    plans = [Plan((FakeDevice("cpu"),) * 4, 1)]

    def measure(**options):
        return measure_plan(plans, compile_plan, np.zeros(96), shorten, plenty(), **options)

    measured = measure()
    assert len(measured.plan.devices) == len(measured.program.plan.devices) == chosen
    assert len(measure(fewer_devices=False).plan.devices) == 4


def test_plans_over_the_memory_limit_are_not_run(monkeypatch) -> None:
    measured = choose({1: 1.0, 2: 0.9, 4: 0.8, 8: 0.1}, monkeypatch, begin_wide=True, memory_limit=25)
    assert measured.plan.group == 2
    assert measured.seconds_per_lane[4] == measured.seconds_per_lane[8] == math.inf
    with pytest.raises(InputError, match="one lane at a time takes 20 bytes of memory; the limit is 15 bytes"):
        choose({2: 1.0, 4: 1.0}, monkeypatch, memory_limit=15)


@pytest.mark.parametrize("seconds", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("once", [0.0, 1.0, 20.0])
@pytest.mark.parametrize(("lanes", "blocks"), [(8, 1), (50, 20), (60, 4), (780, 20), (96, 1), (5000, 1), (5000, 64)])
def test_measuring_costs_at_most_a_tenth_of_the_study(monkeypatch, lanes, blocks, once, seconds) -> None:
    clock, programs = [0.0], []
    monkeypatch.setattr("jaxopt_lec.lab.lanes.time.perf_counter", lambda: clock[0])
    plans = candidates(min(lanes, 96), (FakeDevice("cpu"),) * 2)
    budget = MeasuringBudget(Work(((lanes, blocks),), once))

    def compile_plan(plan: Plan) -> FakeProgram:
        programs.append(FakeProgram(plan, clock, seconds, once))
        return programs[-1]

    measured = measure_plan(plans, compile_plan, np.zeros(min(lanes, 96)), shorten, budget, few=min(4, blocks))
    study = lanes * (once + blocks) * seconds
    beside = clock[0] - FakeProgram.compile_seconds  # the usual plan's program is needed in any case
    assert beside <= 0.1 * study * (1 + 1e-9)
    assert sum(program.blocks_taken for program in programs) <= lanes * blocks
    if study < 10 * FakeProgram.compile_seconds:  # another plan cannot pay for its compilation
        assert [program.plan.group for program in programs] == [measured.plan.group] == [min(4, lanes // 2)]
        assert measured.seconds_per_lane == {}


def test_a_study_too_small_for_a_glance_runs_nothing_before_it_runs(monkeypatch) -> None:
    clock: list[float] = [0.0]
    monkeypatch.setattr("jaxopt_lec.lab.lanes.time.perf_counter", lambda: clock[0])
    plans = candidates(8, (FakeDevice("cpu"),))
    budget = MeasuringBudget(Work(((8, 4),)))
    measured = measure_plan(plans, lambda plan: FakeProgram(plan, clock, 60.0), np.zeros(8), shorten, budget)
    assert (measured.plan.group, measured.cost, measured.program.blocks_taken) == (4, None, 0)
    assert clock[0] == FakeProgram.compile_seconds


def test_equal_functions_share_a_program() -> None:
    @dataclass(frozen=True)
    class Times:
        factor: float

        def __call__(self, lane, shared):
            return {"y": self.factor * lane["x"] + shared}

    lanes, shared, plan = Shapes.of(some_lanes(4)), Shapes.of(np.float32(0)), Plan(DEVICE, 2)
    program = compiled(Times(2.0), lanes, shared, plan)
    assert compiled(Times(2.0), lanes, shared, plan) is program
    others = [(Times(3.0), lanes, plan), (Times(2.0), Shapes.of(some_lanes(5)), plan), (Times(2.0), lanes, Plan(DEVICE, 1))]
    assert all(compiled(run, lanes, shared, plan) is not program for run, lanes, plan in others)
    np.testing.assert_array_equal(program(some_lanes(3), np.float32(1))["y"], 2 * some_lanes(3)["x"] + 1)


# --- with real training ------------------------------------------------------------------------------------------------

STEPS = 12
RATES = (0.01, 0.1, 1.0)


def exploding(learning_rate) -> optax.GradientTransformation:
    """SGD that overflows at once when the learning rate is at least 1."""
    return optax.chain(optax.scale(jnp.where(learning_rate < 1, 1.0, 1e38)), optax.sgd(learning_rate, momentum=0.9))


@cache
def study():
    workload = load_workload("digits-mlp")
    shared = Shared(
        workload.data.train,
        hold(workload.data.validation, 360),
        seeded(workload, range(2), 64, STEPS),
        np.int32(STEPS // block_length(STEPS)),
    )
    return partial(train_lane, workload, exploding, STEPS), shared


def lanes_of(points) -> Lane:
    rates, seeds = zip(*points, strict=True)
    return Lane(np.array(rates, np.float32), np.array(seeds, np.int32))


@pytest.mark.parametrize("group", [1, 3])
def test_a_diverged_lane_changes_no_other_bit(group: int) -> None:
    run, shared = study()
    with_bad = [(0.01, 0), (10.0, 0), (0.1, 0), (0.01, 1), (0.1, 1), (10.0, 1)]
    good = [point for point in with_bad if point[0] < 1]
    program = compile_lanes(run, lanes_of(with_bad), shared, Plan(DEVICE, group))
    mixed, alone = program(lanes_of(with_bad), shared), program(lanes_of(good), shared)
    np.testing.assert_array_equal(mixed.diverged, [rate > 1 for rate, _ in with_bad])
    assert not alone.diverged.any()
    for a, b in zip(jax.tree.leaves(mixed), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(a[~mixed.diverged], b)
    assert np.isfinite(mixed.training_loss[~mixed.diverged]).all()
    assert (mixed.score[~mixed.diverged] > 0.2).any()


def test_fewer_blocks_are_a_shorter_run() -> None:
    workload = load_workload("digits-logistic")
    steps = 90
    assert block_length(steps) == 5
    shared = Shared(workload.data.train, hold(workload.data.validation, 360), seeded(workload, [0], 64, steps), np.int32(1))
    program = compile_lanes(partial(train_lane, workload, optax.sgd, steps), lanes_of([(0.1, 0)]), shared, Plan(DEVICE, 1))
    short, whole = (program(lanes_of([(0.1, 0)]), shared._replace(blocks=np.int32(n))) for n in (1, 18))
    np.testing.assert_array_equal(short.training_loss[0, :5], whole.training_loss[0, :5])
    assert (short.training_loss[0, 5:] == 0).all()
    assert (whole.training_loss[0] > 0).all()


@pytest.mark.parametrize(("steps", "block"), [(500, 25), (1, 1), (18, 1), (36, 2), (1280, 64), (5000, 50), (67, 1)])
def test_blocks_divide_the_steps(steps: int, block: int) -> None:
    assert block_length(steps) == block


def test_a_lane_is_a_plain_training_loop() -> None:
    """The whole machinery against the loop that anybody would write."""
    run, shared = study()
    outcome = compile_lanes(run, lanes_of([(0.1, 1)]), shared, Plan(DEVICE, 1))(lanes_of([(0.1, 1)]), shared)
    workload = load_workload("digits-mlp")
    params, state, order, _ = jax.tree.map(lambda x: x[1], shared.seeded)
    optimizer = optax.sgd(0.1, momentum=0.9)
    memory = optimizer.init(params)
    value_and_grad = jax.jit(jax.value_and_grad(lambda p, b: workload.loss(p, state, b, jax.random.key(0))[0]))
    for t in range(STEPS):
        value, grads = value_and_grad(params, jax.tree.map(lambda x, t=t: x[order[t]], workload.data.train))
        assert float(value) == pytest.approx(float(outcome.training_loss[0, t]), rel=1e-4)
        updates, memory = optimizer.update(grads, memory)
        params = optax.apply_updates(params, updates)
    loss, score = workload.metric(params, state, workload.data.validation)
    assert float(outcome.loss[0]) == pytest.approx(float(loss.mean()), rel=1e-3)
    assert float(outcome.score[0]) == pytest.approx(float(score.mean()), abs=2 / 360)


def test_seeds_decide_start_and_batches_and_nothing_else_does() -> None:
    workload = load_workload("digits-logistic")
    one, two = seeded(workload, [3, 4], 64, STEPS), seeded(workload, [4], 64, STEPS)
    pick = [jax.tree.map(lambda x, i=i: x[i], part) for part, i in ((one, 1), (two, 0), (one, 0))]
    same, other = pick[1], pick[2]
    for a, b in zip(jax.tree.leaves(pick[0]), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(
            *(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in (a, b))
        )
    assert (pick[0].order != other.order).any()
    # All rates of a seed see the same first loss, bit for bit: same start, same first batch.
    run, shared = study()
    points = [(rate, seed) for rate in RATES[:2] for seed in (0, 1)]
    first = compile_lanes(run, lanes_of(points), shared, Plan(DEVICE, 1))(lanes_of(points), shared).training_loss[:, 0]
    assert first[0] == first[2] != first[1] == first[3]


def test_an_epoch_draws_no_example_twice() -> None:
    order = batch_order(0, 10, 3, 7)
    assert order.shape == (7, 3)
    for epoch in (order[:3], order[3:6]):
        assert len(set(epoch.ravel())) == 9
    assert (order[:3] != order[3:6]).any()
    np.testing.assert_array_equal(order, batch_order(0, 10, 3, 7))


def test_padding_of_held_out_sets_weighs_nothing() -> None:
    batch = (np.arange(7.0), np.arange(7))
    held = hold(batch, 2500)
    assert held.batch[0].shape == held.weight.shape == (3, 834)
    assert held.weight.sum() == 7
    np.testing.assert_array_equal(held.batch[0].ravel()[held.weight.ravel() == 1], batch[0])


SUBPROCESS = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
from tests_lanes import *
run, shared = study()
points = [(rate, seed) for rate in RATES for seed in (0, 1)][:5]
results = {}
for devices, group in ((1, 1), (2, 1), (2, 2), (1, 5)):
    plan = Plan(tuple(jax.local_devices()[:devices]), group)
    done = []
    outcome = compile_lanes(run, lanes_of(points), shared, plan)(lanes_of(points), shared, done.append)
    assert sum(done) == len(points), done
    keep = ~outcome.diverged
    results[f"{devices} {group}"] = [
        outcome.diverged.tolist(), outcome.training_loss[keep].tolist(), outcome.score[keep].tolist()
    ]
print(json.dumps(results))
"""


def test_every_plan_gives_the_same_numbers(tmp_path: Path) -> None:
    (tmp_path / "tests_lanes.py").write_text(Path(__file__).read_text())
    (tmp_path / "main.py").write_text(SUBPROCESS)
    ran = subprocess.run(
        [sys.executable, tmp_path / "main.py"],
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)
    assert len(results) == 4
    diverged, losses, scores = results.pop("1 1")
    assert diverged == [False, False, False, False, True]
    # One device or two: the same program per group, so the same bits. Other groups: other rounding.
    assert results["2 1"][1] == losses
    for other_diverged, other_losses, other_scores in results.values():
        assert other_diverged == diverged
        np.testing.assert_allclose(other_losses, losses, rtol=1e-4)
        np.testing.assert_allclose(other_scores, scores, atol=2 / 360)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the test sends a signal to a thread")
def test_ctrl_c_stops_the_program_after_the_group_it_is_at() -> None:
    """Otherwise the process could not end before all lanes are done: JAX waits for its programs."""
    run, shared = study()
    lanes = lanes_of([(0.1, 0)] * 200)
    program = compile_lanes(run, lanes, shared, Plan(DEVICE, 1))
    done: list[int] = []

    def interrupt(finished: int) -> None:
        done.append(finished)
        if len(done) == 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    # A shell starts its background jobs with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            program(lanes, shared, interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 3 <= len(done) < 200
    assert len(program(lanes_of([(0.1, 0)]), shared).loss) == 1  # and it can be used again
