"""Sweeps: each lane is the run that it says it is, whatever it is grouped with, and tables and choices follow from them."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lec as jl
from jaxopt_lec import lab
from jaxopt_lec.lab import grid
from jaxopt_lec.lab.memory import free_memory
from jaxopt_lec.lab.tasks import Lane
from jaxopt_lec.lab.workloads import load_workload

START = {"x": np.float32([[3, -2], [1, 1], [0.5, 0]])}


def bowl(params):
    return (params["x"] ** 2 * jnp.float32([1, 10])).sum()


def noisy(params, key):
    return bowl(params) + (params["x"] * jax.random.normal(key, (2,))).sum()


def momentum(learning_rate, decay=0.9, nesterov=False):
    return (jl.nesterov if nesterov else jl.momentum)(learning_rate, decay)


def test_every_lane_is_the_minimization_that_its_row_says():
    points = grid(learning_rate=[0.01, 0.05], nesterov=[False, True], decay=[0.5, 0.9])
    found = lab.sweep(lab.Minimizing(momentum, bowl, START, steps=20), points, side_by_side=4)
    assert list(found.columns)[:4] == ["learning_rate", "nesterov", "decay", "start"]
    assert len(found.table) == 8 * 3
    for i, row in found.table.iterrows():
        tx = momentum(row.learning_rate, row.decay, row.nesterov)
        alone = lab.minimize(bowl, {"x": START["x"][row.start]}, tx, 20)
        np.testing.assert_allclose(found.curves[i], alone.values, rtol=2e-5, atol=1e-7)
        np.testing.assert_allclose(found.ends["x"][i], alone.params["x"], rtol=1e-4, atol=1e-5)
        assert row.final == found.curves[i][-1]
        assert row.best == found.curves[i].min()
        assert (row.steps_taken, row.stopped_by) == (20, "steps")
    np.testing.assert_array_equal(found.curve_steps, np.arange(21))


def test_lanes_do_not_depend_on_their_neighbours_or_the_number_of_devices():
    task = lab.Minimizing(momentum, bowl, START, steps=20)
    whole = lab.sweep(task, grid(learning_rate=[0.01, 0.02, 0.05]), side_by_side=3)
    part = lab.sweep(task, grid(learning_rate=[0.02]), side_by_side=3)
    np.testing.assert_array_equal(whole.curves[3:6], part.curves)


def test_seeds_decide_the_noise_and_nothing_else_does():
    task = lab.Minimizing(jl.sgd, noisy, START, steps=10)
    found = lab.sweep(task, grid(learning_rate=[1e-6, 2e-6]), seeds=[3, 5], side_by_side=2)
    curves = found.curves.reshape(2, 2, 3, 11)
    assert list(found.table["seed"]) == [3, 3, 3, 5, 5, 5] * 2
    # The noise of step 0 is the same for both rates, and another one for another seed.
    np.testing.assert_array_equal(curves[0, :, :, 0], curves[1, :, :, 0])
    assert np.all(curves[0, 0, :, 0] != curves[0, 1, :, 0])


def test_lanes_stop_by_tolerance_and_at_what_is_not_finite():
    task = lab.Minimizing(jl.sgd, bowl, START, steps=200, tolerances=lab.Tolerances(gradient=1e-3))
    found = lab.sweep(task, grid(learning_rate=[0.05, 1e-4, 1e20])).table
    assert list(found.sort_values("learning_rate").groupby("learning_rate")["stopped_by"].unique().map(list)) == [
        ["steps"],
        ["gradient"],
        ["not_finite"],
    ]
    assert (found[found.learning_rate == 0.05].steps_taken < 200).all()


def test_training_gives_the_losses_of_training_alone():
    workload = load_workload("digits-logistic")
    task = lab.Training(jl.adam, workload, steps=8, batch_size=64)
    found = lab.sweep(task, grid(learning_rate=[0.01, 0.1], b2=[0.9, 0.999]), seeds=[1, 4], side_by_side=1)
    assert list(found.columns)[:3] == ["learning_rate", "b2", "seed"]
    assert {"validation_loss", "validation_accuracy", "final", "best"} <= set(found.columns)
    lane = next(i for i, row in found.table.iterrows() if (row.learning_rate, row.seed) == (0.1, 4) and row.b2 == 0.9)
    params, state = workload.initialize(jax.random.split(jax.random.key(4))[0])
    tx = jl.adam(0.1, b2=0.9)
    memory = tx.init(params)
    order = np.random.default_rng(4).permutation(len(workload.data.train[1]))[: 8 * 64].reshape(8, 64)
    for t in range(8):
        batch = jax.tree.map(lambda x, t=t: x[order[t]], workload.data.train)
        (loss, _), grads = jax.value_and_grad(workload.loss, has_aux=True)(params, state, batch, jax.random.key(0))
        np.testing.assert_allclose(found.curves[lane, t], loss, rtol=1e-5)
        updates, memory = tx.update(grads, memory, params)
        params = optax.apply_updates(params, updates)
    loss, right = workload.metric(params, state, workload.data.validation)
    np.testing.assert_allclose(found.columns["validation_loss"][lane], loss.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.columns["validation_accuracy"][lane], right.mean(), rtol=1e-6)
    np.testing.assert_array_equal(found.curve_steps, np.arange(1, 9))


def test_a_function_of_ones_own():
    def run(key, scale, shift=0.0, power=2):
        x = jax.random.normal(key, (3,))
        return {"final": scale * (x**power).sum() + shift, "largest": x.max(), "curve": jnp.cumsum(x)}

    found = lab.sweep(run, grid(scale=[0.5, 1.0], power=[2, 3], shift=[0.0, 1.0]), seeds=2)
    for i, row in found.table.iterrows():
        x = np.asarray(jax.random.normal(jax.random.key(int(row.seed)), (3,)))
        np.testing.assert_allclose(row.final, row.scale * (x ** int(row.power)).sum() + row["shift"], rtol=1e-5)
        np.testing.assert_allclose(row.largest, x.max())
        np.testing.assert_allclose(found.curves[i], np.cumsum(x), rtol=1e-5)
    lab.sweep(lambda key, scale: scale, grid(scale=[0.5]))


def test_the_best_point_has_the_lowest_mean_and_is_given_back_as_it_was_given():
    def run(key, method, rate):
        return jnp.where(rate == 0.5, -jnp.inf if method is jl.sgd else -1.0, rate) + 0 * jax.random.uniform(key)

    found = lab.sweep(run, grid(method=[jl.sgd, jl.adam], rate=[0.25, 0.5]), seeds=3)
    assert found.best == {"method": jl.adam, "rate": 0.5}  # −∞ is not finite
    np.testing.assert_allclose(found.objectives, [0.25, np.inf, 0.25, -1])
    assert list(found.table["method"])[::6] == ["sgd", "adam"]
    assert lab.sweep(lambda key, rate: jnp.nan * rate, grid(rate=[1.0, 2.0])).best is None


def test_a_point_is_judged_by_all_its_lanes_if_they_were_run_to_the_end():
    columns = {
        "value": np.array([3.0, np.inf, 1.0, 1.0, 2.0, 2.0]),
        "stopped_by": np.array(["steps", "not_finite", "halving", "halving", "steps", "steps"]),
    }
    found = lab.Sweep(grid(rate=[0.1, 0.2, 0.3]), "value", columns, None, None, None, 1, {})
    np.testing.assert_array_equal(found.objectives, [np.inf, np.inf, 2])
    assert found.best == {"rate": 0.3}


def test_halving_rounds_up_how_many_points_go_on():
    task = lab.Minimizing(jl.sgd, bowl, START, steps=60)
    halving = lab.Halving(keep=1 / 3, cuts=1)
    found = lab.sweep(task, grid(learning_rate=[1e-3, 1e-2, 0.02, 0.03]), side_by_side=3, halving=halving, curves=False)
    taken = found.columns["steps_taken"].reshape(4, -1)[:, 0]
    assert (taken == 60).sum() == halving.points(4)[1] == 2


@pytest.mark.parametrize("study", [False, True])
def test_halving_runs_the_best_to_the_end_with_the_same_numbers(study, tmp_path):
    rates = np.geomspace(1e-4, 0.09, 9)
    task = lab.Minimizing(jl.sgd, bowl, START, steps=360)
    whole = lab.sweep(task, grid(learning_rate=rates), side_by_side=3)
    halving = lab.Halving(keep=1 / 3, cuts=2)
    folder = tmp_path / "study" if study else None
    found = lab.sweep(task, grid(learning_rate=rates), side_by_side=3, halving=halving, study=folder)
    taken = found.columns["steps_taken"].reshape(9, 3)[:, 0]
    assert sorted(taken) == [40] * 6 + [120] * 2 + [360]
    assert found.best == whole.best
    (best,) = np.flatnonzero(taken == 360)
    np.testing.assert_allclose(found.curves[3 * best : 3 * best + 3], whole.curves[3 * best : 3 * best + 3], rtol=1e-6)
    stopped = found.table[found.table.stopped_by == "halving"]
    assert len(stopped) == 24
    for i, row in stopped.iterrows():
        np.testing.assert_allclose(found.curves[i, : row.steps_taken + 1], whole.curves[i, : row.steps_taken + 1], rtol=1e-6)
        assert np.isnan(found.curves[i, row.steps_taken + 1 :]).all()
    # Those that were stopped are no worse at their cut than those that went on: by their means.
    at_first_cut = whole.curves[:, 40].reshape(9, 3).mean(1)
    assert at_first_cut[taken > 40].max() <= at_first_cut[taken == 40].min()


def test_halving_of_training_compares_validation_losses():
    task = lab.Training(jl.sgd, load_workload("digits-logistic"), steps=60, batch_size=64)
    found = lab.sweep(task, grid(learning_rate=[1e-4, 1e-3, 0.1, 1e38]), seeds=2, halving=lab.Halving(keep=0.5, cuts=1))
    taken = found.columns["steps_taken"].reshape(4, 2)[:, 0]
    assert list(taken[:3]) == [30, 60, 60]
    assert taken[3] < 30
    assert found.best == {"learning_rate": 0.1}
    lost = found.table[found.table.learning_rate == 1e38]
    assert set(lost.stopped_by) == {"not_finite"}


def test_a_sweep_keeps_to_its_memory_limit():
    def run(key, scale):
        big = jnp.sin(scale * jax.random.normal(key, (300, 300)))
        return (big @ big @ big).sum()

    found = lab.sweep(run, grid(scale=list(np.linspace(1, 2, 40))))
    limited = lab.sweep(run, grid(scale=list(np.linspace(1, 2, 40))), memory_limit=8_000_000)
    np.testing.assert_allclose(limited.columns["final"], found.columns["final"], rtol=1e-3, atol=0.5)
    assert limited.group < 8_000_000 / 300**2 / 4
    with pytest.raises(lab.InputError, match=r"one lane at a time takes .* of memory; the limit is 100 kB"):
        lab.sweep(run, grid(scale=[1.0]), memory_limit=100_000)
    with pytest.raises(lab.InputError, match=r"the results of 40 lanes take .* curves=False takes less"):
        lab.sweep(
            lambda key, scale: {"final": scale, "curve": scale * jnp.ones(10000)},
            grid(scale=list(np.linspace(1, 2, 40))),
            memory_limit=1_000_000,
        )


def test_the_table_keeps_the_kinds_of_values():
    def run(key, a, b, c):
        return jnp.float32(0)

    found = lab.sweep(run, grid(a=[None, 0.5, "x", True], b=[1, 0.5], c=[False]))
    assert found.columns["a"][::2].tolist() == [None, 0.5, "x", True]
    assert [found.columns[name].dtype.kind for name in "abc"] == ["O", "f", "b"]


def test_curves_can_be_left_out():
    found = lab.sweep(lab.Minimizing(jl.sgd, bowl, START), grid(learning_rate=[0.1]), curves=False)
    assert found.curves is None
    assert found.curve_steps is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lab.sweep(3, grid(a=[1.0])), "a task or a function"),
        (lambda: lab.sweep(jl.sgd, {"learning_rate": [0.1]}), "grid: grid"),
        (lambda: lab.sweep(lambda key, a: a, grid(a=[1.0]), seeds=0), "at least one is needed"),
        (lambda: lab.sweep(lambda key, a: a, grid(a=[1.0]), seeds=[1, 1]), "none twice"),
        (lambda: lab.sweep(lambda key, a: a, grid(b=[1.0])), "has no hyperparameter 'b'; it has a"),
        (lambda: lab.sweep(lambda key, a: {"other": a}, grid(a=[1.0])), "must return a number or a dict with 'final'"),
        (
            lambda: lab.sweep(lambda key, a: a * jnp.ones(3), grid(a=[1.0])),
            r"'final' must be one real number, it is float32\[3\]",
        ),
        (lambda: lab.sweep(lambda key, a: a if a > 1 else 0, grid(a=[1.0])), "traced by JAX, failed"),
        (lambda: lab.sweep(lambda key, a: a, grid(a=[1.0]), side_by_side=0), "side_by_side 0"),
        (lambda: lab.sweep(lab.Minimizing(jl.sgd, bowl, START), grid(learning_rate=[0.1]), seeds=2), "has no argument key"),
        (
            lambda: lab.sweep(lab.Minimizing(jl.sgd, bowl, START), grid(learning_rate=[-0.1])),
            r"sgd\(learning_rate=-0.1\) failed",
        ),
        (lambda: lab.sweep(lab.Minimizing(momentum, bowl, START), grid(learning_rate=[0.1], decay=[0.5, 1.0])), "decay=1.0"),
        (lambda: lab.Minimizing(jl.sgd, bowl, {"x": np.zeros((0, 2))}), "no starting point"),
        (lambda: lab.Minimizing(jl.sgd, bowl, START, steps=0), "steps 0"),
        (lambda: lab.Minimizing("sgd", bowl, START), "factory: a function"),
        (lambda: lab.Training(jl.sgd, load_workload("digits-logistic"), batch_size=5000), "batch_size 5000"),
        (lambda: lab.Halving(keep=1.0), "keep 1.0"),
        (lambda: lab.Halving(cuts=0), "cuts 0"),
        (
            lambda: lab.sweep(
                lab.Minimizing(jl.sgd, bowl, START, steps=3), grid(learning_rate=[0.1]), halving=lab.Halving()
            ),
            "lanes run in 3 blocks of steps, too few",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(call, message):
    with pytest.raises(lab.InputError, match=message):
        call()


def test_a_lane_costs_no_python_once_it_is_compiled(monkeypatch):
    """All lanes of a combination are one program: the task's lane function is traced, never run."""
    task = lab.Minimizing(jl.sgd, bowl, START, steps=5)
    traced = []
    run_lane = lab.Minimizing.run_lane
    monkeypatch.setattr(
        lab.Minimizing,
        "run_lane",
        lambda self, c, lane, shared: traced.append(type(lane)) or run_lane(self, c, lane, shared),
    )
    lab.sweep(task, grid(learning_rate=list(np.geomspace(1e-4, 1e-2, 200))), side_by_side=4)
    assert traced.count(Lane) == len(traced) < 10


def test_free_memory_is_what_the_container_may_still_take(tmp_path):
    devices = jax.local_devices()
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:    4000 kB\n")
    assert free_memory(devices, tmp_path, meminfo) == 4000 * 1024 // 2
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_memory(devices, tmp_path, meminfo) == 4000 * 1024 // 2
    (tmp_path / "memory.max").write_text("3000\n")
    assert free_memory(devices, tmp_path, meminfo) == 1000
    with pytest.raises(lab.InputError, match="give memory_limit"):
        free_memory(devices, tmp_path / "none", tmp_path / "none")
    if sys.platform == "linux":
        assert free_memory(devices) > 0
