"""Our constructors, step by step, against what the frameworks did: tests/compat/trajectories, written by record.py.

`problems.excess` says what agreement is. The tests that begin with `test_a_neighbour` show that it is sharp.
"""

import functools
import importlib
import inspect

import jax
import jax.numpy as jnp
import keras_cases
import numpy as np
import optax
import pytest
import record
from compiling import program
from problems import RATES, Problem, excess, flat, gradient, loss

import jaxopt_lec as jl
from jaxopt_lec.compat import keras, torch

MODULES = {"torch": torch, "keras": keras}
RATE = {"torch": "lr", "keras": "learning_rate"}
TABLES = {framework: record.table(framework) for framework in MODULES}


def every_case():
    """All cases; `thorough` if earlier ones have each of its optimizer's options, and the framework such gradients."""
    seen = set()
    for framework, table in TABLES.items():
        for name, case in table.items():
            gradients = (case.scheduled, case.missing, bool(case.groups), case.problem.is_complex, case.problem.sparse)
            parts = {(framework, case.optimizer, option) for option in ("", *case.options)} | {(framework, gradients)}
            yield pytest.param(
                framework, name, id=f"{framework}-{name}", marks=[pytest.mark.thorough] if parts <= seen else []
            )
            seen |= parts


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def stored(framework):
    return record.load(framework)


def nested(leaves):
    """The tree of what is named by paths."""
    tree = {}
    for path, leaf in leaves.items():
        half, name = path.split("/")
        tree.setdefault(half, {})[name] = leaf
    return tree


def by_path(tree):
    return {f"{half}/{name}": leaf for half, leaves in tree.items() for name, leaf in leaves.items()}


def scheduled(rate):
    """The schedule that the recorder's scheduler follows."""
    return lambda count: rate * jnp.asarray(RATES)[count]


def made(framework, case):
    """Our optimizer for the case."""
    make, rate, options = getattr(MODULES[framework], case.optimizer), RATE[framework], dict(case.options)
    groups = [dict(group) for group in case.groups]
    if case.scheduled:
        options.setdefault(rate, inspect.signature(make).parameters[rate].default)
        for given in [options, *groups]:
            if rate in given:
                given[rate] = scheduled(given[rate])
    tx = make(**options, **({"params": groups} if groups else {}))
    # PyTorch counts the steps of each parameter, Keras those of the optimizer.
    return jl.count_by_leaf(tx) if framework == "torch" and case.missing else tx


def average_in(state):
    """Path → running average: the parts of all groups, and of real and imaginary parts."""
    found = {}
    for _, tree in optax.tree.get_all_with_path(state, "average"):
        for path, leaf in by_path(tree).items():
            if isinstance(leaf, tuple) and len(leaf) == 2:
                found[path] = jax.lax.complex(*leaf)
            elif not isinstance(leaf, optax.MaskedNode):
                found[path] = leaf
    return found


def moved(params, updates):
    """The parameters after the updates; where there is none they stay."""
    return jax.tree.map(
        lambda u, p: p if u is None else optax.apply_updates(p, u), updates, params, is_leaf=lambda u: u is None
    )


def followed(tx, case):
    """What is tracked after the recorded steps, as `record.follow` has it."""
    problem, programs = case.problem, {}

    def value(params):
        return loss(params["closed"], jnp.log)

    def step(absent, params, state, i):
        gradients = problem.gradients(by_path(params), i, lambda table: jnp.asarray(table)[i])
        gradients = nested({path: None if path in absent else g for path, g in gradients.items()})
        extra = {} if problem.open else {"value_fn": value}
        updates, state = tx.update(gradients, state, params, **extra)
        return moved(params, updates), state

    params = jax.tree.map(jnp.asarray, nested(problem.start()))
    state = tx.init(params)

    def take(i):
        nonlocal params, state
        absent = case.absent(i)
        if absent not in programs:
            programs[absent] = program(functools.partial(step, absent), params, state, i)
        params, state = programs[absent](params, state, i)
        return {"params": by_path(params)} | ({"average": average_in(state)} if "average" in case.tracks else {})

    return record.follow(case, take)


def distance(framework, tx, case):
    """The largest `excess`: above 1 the two do not agree."""
    return case.excess(stored(framework)[str(case)], followed(tx, case))


@pytest.mark.parametrize(("framework", "name"), list(every_case()))
def test_trajectory_is_the_frameworks(framework, name, record_property):
    case = TABLES[framework][name]
    measured = distance(framework, made(framework, case), case)
    assert measured <= 1, (
        f"{framework} {name}: the recorded trajectory: measured {measured:.3g} times the permitted error, permitted 1; "
        f"look at {case.optimizer} in jaxopt_lec/compat/{framework}.py, or run tests/compat/record.py {framework} again"
    )
    record_property("agrees with", framework)  # counted at the end: see conftest.py


@pytest.mark.parametrize("framework", TABLES)
def test_every_case_is_recorded_and_nothing_else(framework):
    names = [str(case) for case in importlib.import_module(f"{framework}_cases").cases()]
    assert len(set(names)) == len(names)
    assert set(stored(framework)) == set(names)
    assert len(names) >= {"torch": 264, "keras": 90}[framework]
    assert {case.optimizer for case in TABLES[framework].values()} == set(record.OPTIMIZERS[framework])


def test_recorded_trajectories_are_small():
    assert sum(path.stat().st_size for path in record.TRAJECTORIES.iterdir()) <= 3 * 2**20


# Arguments that a framework takes and that change nothing, and two that PyTorch's own database has at values that change
# nothing in so few steps.
IDLE = [
    {"SGD(lr=0.1)", "SGD(lr=0.1, dampening=0.5)"},  # without momentum
    {"ASGD()", "ASGD(t0=100)"},
    {"Muon(lr=0.02)", "Muon(lr=0.02, adjust_lr_fn=original)"},
    {"LBFGS()", "LBFGS(tolerance_grad=1e-06)"},
    {"Adafactor()", "Adafactor(relative_step=False)"},
    {"Adafactor(learning_rate=0.4, relative_step=False)", "Adafactor(learning_rate=0.4, relative_step=True)"},
]


@pytest.mark.parametrize("framework", TABLES)
def test_no_two_cases_say_the_same(framework):
    same = {}
    for name, case in TABLES[framework].items():
        same.setdefault((case.optimizer, stored(framework)[name].tobytes()), set()).add(name)
    assert all(names in IDLE for names in same.values() if len(names) > 1)


@pytest.mark.parametrize("framework", TABLES)
def test_criterion_sees_a_part_in_a_hundred_million_of_what_moved(framework):
    for name, case in TABLES[framework].items():
        theirs, start = stored(framework)[name], flat(case.problem.start())
        ours = start + (theirs - start) * (1 + 1e-8)
        seen = np.max(excess(theirs, ours, start), axis=(0, 1)) > 1
        assert np.mean(seen) > 0.7, name


@pytest.mark.parametrize("is_complex", [False, True])
def test_gradient_by_hand_is_the_gradient(is_complex):
    problem = Problem(is_complex=is_complex)
    start = {path.split("/")[1]: p for path, p in problem.start().items() if path.startswith("closed")}
    arrays = jax.tree.map(jnp.asarray, start)
    derived = jax.grad(lambda p: loss(p, jnp.log))(arrays)
    for leaf, by_hand in gradient(start).items():
        np.testing.assert_allclose(gradient(arrays)[leaf], by_hand, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(derived[leaf].conj(), by_hand, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("optimizer", record.OPTIMIZERS["torch"])
def test_recorded_is_what_torch_does_now(optimizer, live_torch):
    names = [name for name, case in TABLES["torch"].items() if case.optimizer == optimizer]
    for name in [names[0], names[-1]]:
        case = TABLES["torch"][name]
        assert case.excess(stored("torch")[name], record.torch_trajectory(case)) <= 1


def test_check_of_the_recorder_finds_what_is_off(capsys):
    names = list(TABLES["torch"])[:3]
    cases = {name: TABLES["torch"][name] for name in names}
    live = {name: stored("torch")[name] for name in names}
    assert record.check(stored("torch"), live, cases) == 0
    live[names[1]] = live[names[1]] * (1 + 1e-8)
    assert record.check({name: stored("torch")[name] for name in names[:2]}, live, cases) == 2
    assert capsys.readouterr().out.count(names[1]) == 1


def neighbours():
    """Whose convention it is, the case it is close to, and what makes it."""
    yield "eps inside the root", "torch", "Adam(lr=0.1, eps=0.5)", lambda: jl.adam(0.1, eps=0.0, eps_root=0.5)
    yield "Keras's eps of Adam", "torch", "Adam()", lambda: keras.Adam(1e-3, epsilon=1e-8)
    yield "PyTorch's eps", "keras", "Adam()", lambda: torch.Adam(lr=1e-3, eps=1e-7)
    yield "maximum of the corrected v", "torch", "Adam(amsgrad=True)", lambda: optax.amsgrad(1e-3)
    yield "Keras's eps of RMSprop", "torch", "RMSprop()", lambda: keras.RMSprop(0.01, rho=0.99, epsilon=1e-8)
    yield "no accumulator", "keras", "Adagrad()", lambda: keras.Adagrad(initial_accumulator_value=0.0)
    yield "Keras's momentum schedule", "torch", "NAdam()", lambda: keras.Nadam(2e-3, epsilon=1e-8)
    yield (
        "rate inside the velocity",
        "torch",
        "SGD(lr=0.03, momentum=0.9, nesterov=True, weight_decay=0.1) scheduled",
        lambda: optax.chain(jl.add_decayed_weights(weight_decay=0.1), keras.SGD(scheduled(0.03), 0.9, nesterov=True)),
    )
    yield (
        "first step dampened",
        "torch",
        "SGD(momentum=0.9, dampening=0.5)",
        lambda: optax.chain(optax.scale(0.5), optax.trace(0.9), optax.scale(-1e-3)),
    )
    yield (
        "schedule a step ahead",
        "torch",
        "Adadelta(lr=0.3, rho=0.7, eps=0.1, maximize=True) scheduled",
        lambda: torch.Adadelta(lr=lambda count: scheduled(0.3)(count + 1), rho=0.7, eps=0.1, maximize=True),
    )
    yield (
        "the step sees the variable before it is shrunk",
        "keras",
        str(keras_cases.case("Lamb", keras_cases.LIVELY["Lamb"] | keras_cases.DECAYED)),
        lambda: optax.chain(
            keras.Lamb(**keras_cases.LIVELY["Lamb"]),
            optax.add_decayed_weights(-0.05 * 0.3, dict.fromkeys(("open", "closed"), SHRUNK)),
        ),
    )
    yield "average a step later", "torch", "ASGD(t0=0)", lambda: torch.ASGD(t0=1)
    yield (
        "all parameters counted alike",
        "torch",
        "Adam(lr=0.1, eps=0.1) missing",
        lambda: torch.Adam(lr=0.1, eps=0.1),
    )
    yield (
        "eps added to the norm",
        "torch",
        "Muon(lr=0.02, eps=1.0)",
        lambda: jl.muon(0.02, eps=20.0, weight_decay=0.1, output_axis=-2),  # of 20 times the velocity
    )


SHRUNK = {"kernel": True, "embedding": True, "bias": False, "scale": False}


@pytest.mark.parametrize(("framework", "name", "make"), [pytest.param(*rest, id=whose) for whose, *rest in neighbours()])
def test_a_neighbours_convention_does_not_pass(framework, name, make):
    case = TABLES[framework][name]
    with jax.numpy_dtype_promotion("standard"):  # Optax's own code is not written for strict promotion
        assert distance(framework, make(), case) > 1e3
