"""The study: selection, pairing, fairness, and contestants found and tried out beforehand."""

import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lec
from jaxopt_lec.lab.compare import HALF_DECADES, Budget, Comparison, Mean, Run, Study, goodness, select
from jaxopt_lec.lab.contestants import DEFAULT, KNOWN, Contestant, find_contestants, try_out
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.training import Lane, Shared, Watched, block_length, evaluation_steps, hold, seeded, train_lane
from jaxopt_lec.lab.workloads import ACCURACY, Classification, Data, Remedies, Score, load_workload

PARAMS = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}


def tuned(table: dict[float, list[tuple[float, float] | None]]) -> list[Run]:
    return [
        Run(rate, seed, 0.0, math.nan, 0.1, True) if end is None else Run(rate, seed, 0.0, end[1], end[0], False)
        for rate, ends in table.items()
        for seed, end in enumerate(ends)
    ]


@pytest.mark.parametrize(
    ("table", "rate", "accuracy", "edge"),
    [
        ({0.1: [(0.5, 1), (0.6, 1)], 1.0: [(0.9, 1), (0.8, 1)], 10.0: [(0.7, 1), (0.7, 1)]}, 1.0, 0.85, None),
        # the mean counts, not the best seed
        ({0.1: [(0.7, 1), (0.7, 1)], 1.0: [(0.9, 1), (0.4, 1)], 10.0: [(0.1, 1), (0.1, 1)]}, 0.1, 0.7, "lowest"),
        # a tie goes to the lower loss, and then to the lower rate
        ({0.1: [(0.7, 2)], 1.0: [(0.7, 1)], 10.0: [(0.7, 3)]}, 1.0, 0.7, None),
        ({0.1: [(0.6, 1)], 1.0: [(0.7, 1)], 10.0: [(0.7, 1)]}, 1.0, 0.7, None),
        # a diverged lane counts as accuracy 0, whatever accuracy its NaNs happened to have
        ({0.1: [(0.6, 1), (0.6, 1)], 1.0: [(1.0, 1), None], 10.0: [None, None]}, 0.1, 0.6, "lowest"),
        ({0.1: [(0.1, 1), (0.1, 1)], 1.0: [None, None], 10.0: [(1.0, 1), None]}, 10.0, 0.5, "highest"),
        # among equals, one with a diverged lane has an infinite loss
        ({0.1: [(0.4, 1), (0.6, 1)], 1.0: [(1.0, 0), None], 10.0: [None, None]}, 0.1, 0.5, "lowest"),
        ({0.1: [(0.4, 1)]}, 0.1, 0.4, None),  # a single rate is no edge
    ],
)
def test_selection(table, rate: float, accuracy: float, edge: str | None) -> None:
    selection = select(tuned(table), ACCURACY)
    assert selection is not None
    assert (selection.learning_rate, selection.edge) == (rate, edge)
    assert selection.score == pytest.approx(accuracy)


ERROR, SHARE = Score("squared error", higher_is_better=False), Score("error rate", higher_is_better=False, percent=True)


@pytest.mark.parametrize(
    ("score", "table", "rate", "mean"),
    [
        (ERROR, {0.1: [(3, 1), (5, 1)], 1.0: [(2, 1), (1, 1)], 10.0: [(2, 1), (2, 1)]}, 1.0, 1.5),
        # a tie goes to the lower loss, and then to the lower rate
        (ERROR, {0.1: [(2, 2)], 1.0: [(2, 1)], 10.0: [(2, 1)]}, 1.0, 2.0),
        # a diverged lane is worse than any other, however bad
        (ERROR, {0.1: [(1e30, 1), (1e30, 1)], 1.0: [(0.1, 1), None], 10.0: [None, None]}, 0.1, 1e30),
        (SHARE, {0.1: [(0.6, 1), (0.6, 1)], 1.0: [(0.3, 1), None]}, 0.1, 0.6),
        # among rates that all lost lanes, the one that lost fewer, then the better of the others
        (ERROR, {0.1: [(5, 1), (5, 1), None], 1.0: [(0.1, 1), None, None], 10.0: [(4, 1), (4, 1), None]}, 10.0, math.inf),
        # where the score is a share, one unlucky seed does not rule a rate out
        (SHARE, {0.1: [(0.9, 1), (0.9, 1)], 1.0: [(0.1, 1), None]}, 1.0, 0.55),
    ],
)
def test_selection_where_lower_is_better(score: Score, table, rate: float, mean: float) -> None:
    selection = select(tuned(table), score)
    assert selection is not None
    assert selection.learning_rate == rate
    assert selection.score == pytest.approx(mean)


@pytest.mark.parametrize("score", [ACCURACY, ERROR, SHARE])
def test_a_diverged_lane_is_worse_than_any_other(score: Score) -> None:
    worst = 0.0 if score.higher_is_better else 1.0 if score.percent else 1e30
    awful, lost = tuned({0.1: [(worst, 100.0)]}), tuned({0.1: [None]})
    fine = tuned({0.1: [(0.5, 1.0)]})
    assert goodness(fine, score) > goodness(awful, score) > goodness(lost, score) >= goodness([], score)
    # One lane each that is fine: the other is awful, or diverged.
    assert goodness(fine + awful, score) > goodness(fine + lost, score)


def test_an_unbounded_score_that_is_better_higher() -> None:
    score = Score("log likelihood", higher_is_better=True)
    selection = select(tuned({0.1: [(-5, 1), (-6, 1)], 1.0: [(-1, 1), None]}), score)
    assert selection is not None
    assert (selection.learning_rate, selection.score) == (0.1, -5.5)


@pytest.mark.parametrize("score", [ACCURACY, ERROR])
def test_nothing_is_selected_where_all_diverged(score: Score) -> None:
    assert select(tuned({0.1: [None], 1.0: [None]}), score) is None


def test_mean_and_standard_error() -> None:
    mean = Mean.of([1.0, 2.0, 6.0])
    assert mean.mean == 3
    assert mean.standard_error == pytest.approx(math.sqrt(7 / 3))
    assert math.isnan(Mean.of([1.0]).standard_error)
    assert math.isnan(Mean.of([]).mean)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"steps": 0}, "steps 0"),
        ({"seeds": 0}, "seeds 0"),
        ({"batch_size": -1}, "batch_size -1"),
        ({"learning_rates": ()}, "no learning rate"),
        ({"learning_rates": (0.1, 0.1)}, "must ascend: 0.1 is followed by 0.1"),
        ({"learning_rates": (0.0, 0.1)}, "learning rate 0.0: a positive number"),
        ({"learning_rates": (0.1, math.inf)}, "learning rate inf"),
        ({"learning_rates": (math.nan,)}, "learning rate nan"),
        ({"learning_rates": (1e-60, 1.0)}, "learning rate 1e-60"),
    ],
)
def test_a_wrong_budget_is_named(budget, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Budget(**budget)


def test_fresh_seeds_are_not_tuning_seeds() -> None:
    assert not set(Budget().tuning_seeds) & set(Budget().fresh_seeds)
    assert len(Budget().fresh_seeds) == len(Budget().tuning_seeds) == Budget().seeds
    assert Budget().learning_rates == HALF_DECADES


# --- contestants -------------------------------------------------------------------------------------------------------


def test_built_in_names_are_the_package_s_own() -> None:
    contestants = find_contestants(KNOWN)
    assert [c.name for c in contestants] == list(KNOWN)
    assert KNOWN[: len(DEFAULT)] == DEFAULT
    assert all(c.factory is getattr(jaxopt_lec, c.name) for c in contestants)


@pytest.mark.parametrize("name", KNOWN)
def test_every_built_in_optimizer_can_be_tried_out(name: str) -> None:
    try_out(find_contestants([name])[0], PARAMS)


def test_a_name_that_two_have_becomes_the_whole_spec() -> None:
    assert [c.name for c in find_contestants(["adam", "sgd", "optax:adam"])] == ["adam", "sgd", "optax:adam"]
    assert [c.name for c in find_contestants(["sgd", "optax:adam"])] == ["sgd", "adam"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch):
    """Write a user's module; it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str, name: str = "my_optimizers") -> None:
        (tmp_path / f"{name}.py").write_text("import optax\nimport jax.numpy as jnp\n" + source)

    yield write
    sys.modules.pop("my_optimizers", None)


@pytest.mark.parametrize(
    ("spec", "source", "message"),
    [
        ("adm", "", "optimizer 'adm' is not known; known: sgd, momentum.*newton_cg; any other.*jaxopt_lec:lamb"),
        ("nowhere_at_all:f", "", "'nowhere_at_all:f': there is no module nowhere_at_all"),
        ("optax.nowhere:f", "", "there is no module optax.nowhere"),
        ("my_optimizers:f", "g = 1", "my_optimizers has no attribute f"),
        ("my_optimizers:f", "f = 3", "f is a int, not a function"),
        ("my_optimizers:f", "import absent_module", "importing my_optimizers failed: ModuleNotFoundError.*absent_module"),
        ("my_optimizers:f", "1 / 0", "importing my_optimizers failed: ZeroDivisionError"),
        ("my_optimizers:f", "def f(:", "importing my_optimizers failed: SyntaxError"),
        (":f", "", "not of the form package.module:name"),
        ("my_optimizers:", "", "not of the form"),
        ("my optimizers:f", "", "not of the form"),
    ],
)
def test_a_wrong_name_is_named(module, spec: str, source: str, message: str) -> None:
    module(source)
    with pytest.raises(InputError, match=message) as caught:
        find_contestants([spec])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("f = lambda lr: 3", "the factory returned a int, not an optax.GradientTransformation"),
        ("f = lambda lr: (optax.sgd(lr).init, optax.sgd(lr).update)", "returned a tuple, not an optax"),
        ("f = lambda: optax.sgd(1)", "failed: TypeError: .*takes 0 positional arguments"),
        ("def f(lr):\n    if lr > 1: pass\n    return optax.sgd(lr)", "traced by JAX, failed: TracerBoolConversionError"),
        ("f = lambda lr: optax.stateless(lambda g, p: 1 / 0)", "ZeroDivisionError"),
        ("f = lambda lr: optax.stateless(lambda g, p: {k: v[..., None] + g[k][..., None] for k, v in p.items()})", "shape"),
        (
            "f = lambda lr: optax.GradientTransformation(lambda p: jnp.int32(0), lambda g, s, p: (g, jnp.float32(1)))",
            "update changes the structure, shapes or dtypes of its state",
        ),
    ],
)
def test_a_broken_optimizer_is_named_before_training(module, source: str, message: str) -> None:
    module(source)
    [contestant] = find_contestants(["my_optimizers:f"])
    with pytest.raises(InputError, match=message) as caught:
        try_out(contestant, PARAMS)
    assert "my_optimizers:f" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("specs", [["sgd", "adam", "sgd"], ["optax:adam", "optax:adam"]])
def test_an_optimizer_given_twice_is_named(specs: list[str]) -> None:
    with pytest.raises(InputError, match="is named twice"):
        find_contestants(specs)


def test_no_optimizer_at_all() -> None:
    with pytest.raises(InputError, match="no optimizer given"):
        find_contestants([])


# --- whole studies -----------------------------------------------------------------------------------------------------


def test_a_study_runs_every_lane_and_pairs_them() -> None:
    def twin(learning_rate) -> optax.GradientTransformation:
        return optax.sgd(learning_rate)

    contestants = [Contestant("one", "one", optax.sgd), Contestant("two", "two", twin)]
    budget = Budget(learning_rates=(1e-3, 0.1, 3e38), steps=20, seeds=2)
    study = Study(load_workload("digits-logistic"), contestants, budget)
    done: list[int] = []
    comparison = study.run(lambda status, lanes, *expected: done.append(lanes))
    assert sum(done) == study.lanes == comparison.lanes == 2 * (3 * 2 + 2)
    one, two = comparison.results
    # Equal optimizers on equal seeds and batches: equal to the last bit.
    assert [(r.learning_rate, r.seed, r.score) for r in one.tuning] == [
        (r.learning_rate, r.seed, r.score) for r in two.tuning
    ]
    np.testing.assert_array_equal(one.training_loss, two.training_loss)
    assert [run.diverged for run in one.tuning] == [False] * 4 + [True] * 2
    assert one.selection is not None
    assert one.selection.learning_rate == 0.1
    assert {run.seed for run in one.fresh} == set(budget.fresh_seeds)
    assert all(np.isfinite(one.training_loss))


def test_tests_are_scored_on_test_data_and_tuning_on_validation_data() -> None:
    """Held-out sets that give themselves away by their labels, and that differ in size."""
    base = load_workload("digits-logistic")
    images, labels = base.data.train
    right, wrong = (images[:50], labels[:50]), (images[:30], (labels[:30] + 1) % 10)
    workload = Classification(base.name, Data((images[:200], labels[:200]), right, wrong), base.model)
    budget = Budget(learning_rates=(0.3,), steps=200, seeds=2)
    [result] = Study(workload, [Contestant("sgd", "sgd", optax.sgd)], budget).run().results
    assert all(run.score > 0.8 for run in result.tuning)
    assert all(run.score < 0.2 for run in result.fresh)
    # On their way, lanes with fresh seeds are looked at with validation data.
    assert (result.evaluations.score[:, -1] > 0.8).all()


def test_an_optimizer_that_diverges_everywhere_is_not_tested() -> None:
    def hopeless(learning_rate) -> optax.GradientTransformation:
        return optax.stateless(lambda g, p: jax.tree.map(lambda x: x * jnp.inf, g))

    contestants = [Contestant("hopeless", "hopeless", hopeless), Contestant("sgd", "sgd", optax.sgd)]
    study = Study(load_workload("digits-logistic"), contestants, Budget(learning_rates=(0.1,), steps=4, seeds=1))
    done: list[int] = []
    hopeless_result, sgd = study.run(lambda status, lanes, *expected: done.append(lanes)).results
    assert hopeless_result.selection is None
    assert hopeless_result.fresh == ()
    assert [run.diverged_at for run in hopeless_result.tuning] == [2]  # the first loss after an update
    assert [run.diverged_at for run in sgd.tuning] == [None]
    assert math.isnan(hopeless_result.score.mean)
    assert sum(done) == study.lanes  # the bar reaches its end nonetheless
    assert sgd.selection is not None


def test_optimizers_get_value_gradient_and_function_of_the_same_mini_batch() -> None:
    """Exact Nesterov evaluates the gradient itself; it must agree with the form that iterates on look-ahead points."""
    contestants = find_contestants(["nesterov", "nesterov_exact", "newton_cg"])
    study = Study(load_workload("digits-logistic"), contestants, Budget(learning_rates=(0.03,), steps=5, seeds=1))
    phi, exact, newton = study.run().results
    assert phi.tuning[0].training_loss == pytest.approx(exact.tuning[0].training_loss, rel=0.2)
    assert not newton.tuning[0].diverged
    assert newton.training_loss[-1] < newton.training_loss[0]


def test_value_fn_is_the_loss_of_that_step() -> None:
    """Move by value_fn(params) − value: nothing at all, unless batch, dropout key or state differed."""

    def suspicious(learning_rate) -> optax.GradientTransformationExtraArgs:
        def update(grads, state, params, *, value, grad, value_fn, **extra):
            again, grad_again = jax.value_and_grad(value_fn)(params)
            gap = jnp.abs(again - value) + sum(
                jnp.abs(a - b).max() for a, b in zip(jax.tree.leaves(grad), jax.tree.leaves(grad_again), strict=True)
            )
            return jax.tree.map(lambda g: jnp.where(gap < 1e-5, -learning_rate * g, jnp.nan), grads), state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    workload = load_workload("digits-mlp", Remedies(dropout=0.3, batch_norm=True, l2=1e-3))
    contestants = [Contestant("suspicious", "suspicious", suspicious)]
    [result] = Study(workload, contestants, Budget(learning_rates=(0.1,), steps=6, seeds=1)).run().results
    assert not any(run.diverged for run in (*result.tuning, *result.fresh))


def test_a_training_set_smaller_than_a_batch_is_named() -> None:
    message = (
        "1077 training examples are fewer than a mini-batch of 2000; choose at most 1077 with --batch-size, or with Budget"
    )
    with pytest.raises(InputError, match=message):
        Study(load_workload("digits-mlp"), find_contestants(["sgd"]), Budget(batch_size=2000))


def test_a_broken_optimizer_stops_the_study_before_it_starts() -> None:
    broken = Contestant("broken", "my:broken", lambda learning_rate: 3)
    with pytest.raises(InputError, match="'my:broken'"):
        Study(load_workload("digits-mlp"), [*find_contestants(["sgd"]), broken], Budget())


# --- watching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (500, range(25, 501, 25)),
        (5, range(1, 6)),
        (1, [1]),
        (67, [3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45, 48, 51, 54, 57, 60, 63, 66, 67]),
        (1280, range(64, 1281, 64)),
    ],
)
def test_evaluation_steps_are_evenly_spaced_and_end_with_the_last(steps: int, expected) -> None:
    assert list(evaluation_steps(steps)) == list(expected)


@pytest.mark.parametrize("steps", [1, 2, 19, 50, 66, 67, 180, 499, 510, 1000, 4096, 10000])
def test_there_are_about_25_of_them(steps: int) -> None:
    found = evaluation_steps(steps)
    assert min(steps, 17) <= len(found) <= 38
    assert found[-1] == steps
    assert (np.diff(found)[:-1] == found[0]).all()


@pytest.mark.parametrize(
    "name",
    ["adam", *(pytest.param(name, marks=pytest.mark.thorough) for name in ["sgd", "adamw", "lion", "radam", "newton_cg"])],
)
def test_watching_changes_no_bit(name: str) -> None:
    workload = load_workload("digits-mlp", Remedies(dropout=0.2, batch_norm=True))
    steps, validation = 40, hold(workload.data.validation, 360)
    blocks = np.int32(steps // block_length(steps))
    plain = Shared(workload.data.train, hold(workload.data.test, 360), seeded(workload, [0, 1], 32, steps), blocks)
    lanes = Lane(np.float32([0.01, 0.1]), np.int32([0, 1]))
    factory = getattr(jaxopt_lec, name)
    run = jax.jit(jax.vmap(partial(train_lane, workload, factory, steps), in_axes=(0, None)))
    unwatched = run(lanes, plain)
    for on in (False, True):
        watched = run(lanes, plain._replace(watched=Watched(validation, np.bool_(on))))
        for one, other in zip(unwatched[:4], watched[:4], strict=True):
            np.testing.assert_array_equal(one, other)
        assert (watched.record.loss > 0).all() == on


def test_what_is_recorded_is_what_happened() -> None:
    """Against a plain loop over the same batches: scores after, norms of, and weights before every evaluation step."""
    workload = load_workload("digits-logistic")
    steps, rate = 40, 0.1
    validation = hold(workload.data.validation, 360)
    start = seeded(workload, [3], 32, steps)
    shared = Shared(workload.data.train, hold(workload.data.test, 360), start, np.int32(steps // block_length(steps)))
    shared = shared._replace(watched=Watched(validation, np.bool_(True)))
    momentum = partial(optax.sgd, momentum=0.9)
    record = jax.jit(partial(train_lane, workload, momentum, steps))(Lane(np.float32(rate), np.int32(0)), shared).record

    optimizer = momentum(rate)
    params, state = jax.tree.map(lambda x: x[0], (start.params, start.state))
    memory, seen = optimizer.init(params), []
    for t in range(steps):
        batch = jax.tree.map(lambda x: x[start.order[0, t]], workload.data.train)  # noqa: B023
        grads, _ = jax.grad(workload.loss, has_aux=True)(params, state, batch, start.dropout[0])
        updates, memory = optimizer.update(grads, memory, params)
        before, params = params, optax.apply_updates(params, updates)
        if t + 1 in evaluation_steps(steps):
            loss, score = (x.mean() for x in workload.metric(params, state, workload.data.validation))
            seen.append([loss, score, *(jnp.linalg.norm(leaf) for leaf in jax.tree.leaves((grads, updates, before)))])
    found = np.stack([record.loss, record.score, *jax.tree.leaves(record[2:])], -1)
    np.testing.assert_allclose(found, np.array(seen), rtol=2e-4)


# --- targets, the baseline and time ------------------------------------------------------------------------------------


def test_the_default_target_is_what_the_baseline_reached_with_every_seed(comparison: Comparison) -> None:
    # The curves end, and are best, at 0.6 and 0.8.
    assert comparison.target == pytest.approx(0.6)
    plain, edgy, wild = comparison.results
    assert comparison.reached(plain).steps == (20, 15)  # 0.1 + 0.7 · ¾ = 0.625
    assert comparison.reached(edgy).steps == (15, None)  # 0.1 + 0.8 · ¾; one that diverged never was there
    assert comparison.reached(edgy).median is None
    assert comparison.reached(wild).steps == ()
    assert plain.seconds_per_step == 0.002  # the median of three turns
    assert comparison.seconds_to_target(plain) == pytest.approx(17.5 * 0.002)
    assert comparison.seconds_to_target(edgy) is None


def test_a_target_where_lower_is_better(regression: Comparison) -> None:
    # These curves rise from 0.1 to the score, so that the best of each is its first.
    assert regression.target == pytest.approx(0.1 + 0.26 / 4)
    assert regression.reached(regression.result("base")).steps == (5,) * 5
    assert regression.reached(regression.result("bad")).count == 0
    assert regression.differences["good"].words("base") == "better than base"
    assert regression.differences["bad"].words("base") == "worse than base"
    assert regression.differences["alike"].words("base") == "not distinguishable from base at 5 seeds"


def test_a_baseline_without_a_test_leaves_no_target_and_no_differences(make_comparison, comparison: Comparison) -> None:
    lost = make_comparison(comparison.budget, list(comparison.results), "wild")
    assert lost.target is None
    assert lost.differences == {}
    assert lost.reached(lost.results[0]).steps == (None, None)
    assert lost.seconds_to_target(lost.results[0]) is None


def test_a_step_too_short_for_the_clock_has_no_duration(comparison: Comparison) -> None:
    assert replace(comparison.results[0], turns=(1e-9, -1e-9, -2e-9)).seconds_per_step is None
    assert replace(comparison.results[0], turns=()).seconds_per_step is None


def test_effective_rates_and_ratios(comparison: Comparison) -> None:
    seen = comparison.results[0].evaluations
    np.testing.assert_allclose(seen.effective_learning_rate, 0.01)
    np.testing.assert_allclose(seen.update_to_weight, 0.001)
    still = replace(seen, update_norms=0 * seen.update_norms, weight_norms=0 * seen.weight_norms)
    assert (still.update_to_weight == 0).all()
    from_zeros = replace(seen, weight_norms=0 * seen.weight_norms)
    assert np.isinf(from_zeros.update_to_weight).all()


def test_a_study_measures_steps_and_evaluations() -> None:
    budget = Budget(learning_rates=(0.03,), steps=40, seeds=2)
    contestants = find_contestants(["sgd", "adam", "momentum"])
    comparison = Study(load_workload("digits-logistic"), contestants, budget).run()
    assert comparison.baseline == "adam"
    assert set(comparison.differences) == {"sgd", "momentum"}
    for result in comparison.results:
        assert result.evaluations.score.shape == (2, len(evaluation_steps(40)))
        assert np.isfinite(result.evaluations.effective_learning_rate).all()
        assert result.evaluations.leaves == ("readout/bias", "readout/kernel")
        assert 1 <= len(result.turns) <= 5
    sgd = comparison.result("sgd").evaluations
    np.testing.assert_allclose(sgd.effective_learning_rate, 0.03, rtol=1e-5)
    assert comparison.reached(comparison.result("adam")).count == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "adam"}, "baseline 'adam' does not take part; these do: sgd, lion"),
        ({"target": 95.0}, r"target 95: accuracy is a share in \[0, 1\]"),
        ({"target": math.nan}, "target nan: a finite number"),
    ],
)
def test_a_wrong_target_or_baseline_is_named(options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Study(load_workload("digits-logistic"), find_contestants(["sgd", "lion"]), Budget(), **options)


def test_the_baseline_is_adam_or_the_first() -> None:
    workload = load_workload("digits-logistic")
    assert Study(workload, find_contestants(["sgd", "adam"]), Budget()).baseline == "adam"
    assert Study(workload, find_contestants(["sgd", "lion"]), Budget()).baseline == "sgd"
    assert Study(workload, find_contestants(["sgd", "lion"]), Budget(), baseline="lion").baseline == "lion"
