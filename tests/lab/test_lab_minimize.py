"""One program from start to end: against plain loops, for every kind of optimizer, and with every reason to stop."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lec as jl
from jaxopt_lec.lab import Minimization, Stop, Tolerances, minimize
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.surfaces import Booth, Ravine, Rosenbrock, Saddle, noisy

BOWL = Ravine(condition=4.0)
START = jnp.array([-1.3, 0.5])


def bowl_loop(tx, start, steps):
    """What anybody would write, with all that an update may ask for."""
    tx = optax.with_extra_args_support(tx)
    params, state = start, tx.init(start)
    points, values = [params], [BOWL(params)]

    @jax.jit
    def step(params, state):
        value, grad = jax.value_and_grad(BOWL)(params)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=BOWL)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
        points.append(params)
        values.append(BOWL(params))
    return np.stack(points), np.stack(values)


TRANSFORMATIONS = {
    "sgd": jl.sgd(0.1),
    "momentum": jl.momentum(0.05),
    "adam": jl.adam(0.1),
    "nesterov_exact": jl.nesterov_exact(0.05),
    "newton": jl.newton(0.5),
    "newton_cg": jl.newton_cg(0.5),
    "schedule": jl.adam(optax.exponential_decay(0.3, 5, 0.5)),
    "lbfgs": optax.lbfgs(),
    "line search": optax.chain(jl.sgd(1.0), optax.scale_by_backtracking_linesearch(10)),
    "clipped": optax.chain(optax.clip_by_global_norm(0.5), jl.rmsprop(0.05)),
    "optax.sgd": optax.sgd(0.1, 0.9),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_it_is_the_loop(name):
    tx = TRANSFORMATIONS[name]
    result = minimize(BOWL, START, tx, 10)
    points, values = bowl_loop(tx, START, 10)
    np.testing.assert_allclose(result.trajectory, points, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.values, values, rtol=1e-3, atol=1e-6)
    assert (int(result.steps), int(result.stop)) == (10, Stop.STEPS)
    np.testing.assert_array_equal(result.params, result.trajectory[-1])
    np.testing.assert_array_equal(result.value, result.values[-1])


def test_a_tree_of_parameters():
    def loss(tree):
        return jnp.sum((tree["w"] - 2) ** 2) + jnp.abs(tree["b"][0] - 1j) ** 2 + tree["b"][1] ** 2

    tree = {"w": jnp.zeros((2, 3)), "b": (jnp.array(1 + 0j), 3.0)}
    result = minimize(loss, tree, jl.sgd(0.25), 40, tolerances=Tolerances(gradient=1e-5))
    assert int(result.stop) == Stop.GRADIENT
    np.testing.assert_allclose(result.params["w"], 2, atol=1e-5)
    np.testing.assert_allclose(result.params["b"][0], 1j, atol=1e-5)
    np.testing.assert_allclose(result.params["b"][1], 0, atol=1e-5)
    assert jax.tree.map(jnp.shape, result.trajectory) == {"w": (41, 2, 3), "b": ((41,), (41,))}


@pytest.mark.parametrize(
    ("tolerances", "stop", "steps"),
    [
        # f = x²/2 with η = ½: x halves in each step, from 1. Gradient 2⁻ᵏ, change of value 3/8 · 4¹⁻ᵏ, update 2⁻ᵏ.
        (Tolerances(), Stop.STEPS, 20),
        (Tolerances(gradient=2**-6), Stop.GRADIENT, 6),
        (Tolerances(gradient=2**-6, patience=3), Stop.GRADIENT, 8),
        (Tolerances(gradient=1.0), Stop.GRADIENT, 0),
        (Tolerances(value=1.5 * 4.0**-5), Stop.VALUE, 5),
        (Tolerances(update=2**-7), Stop.UPDATE, 7),
        (Tolerances(update=2**-7, patience=2), Stop.UPDATE, 8),
        (Tolerances(gradient=2**-9, update=2**-7), Stop.UPDATE, 7),
        (Tolerances(gradient=2**-20), Stop.GRADIENT, 20),
        (Tolerances(gradient=2**-21), Stop.STEPS, 20),
    ],
)
def test_when_and_why_it_stops(tolerances, stop, steps):
    result = minimize(lambda x: x**2 / 2, 1.0, jl.sgd(0.5), 20, tolerances=tolerances)
    assert (Stop(int(result.stop)), int(result.steps)) == (stop, steps)
    expected = 0.5 ** np.minimum(np.arange(21), steps)
    np.testing.assert_array_equal(result.trajectory, expected)  # what lies behind repeats the last
    np.testing.assert_array_equal(result.values, expected**2 / 2)
    assert float(result.params) == expected[-1]


def test_patience_lets_a_ball_roll_through_a_minimum():
    """At the bottom of its swing the gradient is small for a moment, and the speed is not."""
    one = minimize(BOWL, START, jl.momentum(0.1), 1000, tolerances=Tolerances(gradient=0.05))
    three = minimize(BOWL, START, jl.momentum(0.1), 1000, tolerances=Tolerances(gradient=0.05, patience=3))
    speed = [float(jnp.linalg.norm(r.trajectory[r.steps] - r.trajectory[r.steps - 1])) for r in (one, three)]
    assert speed[0] > 2 * speed[1]
    assert int(one.steps) < int(three.steps) < 1000


def test_it_stops_where_something_is_not_finite():
    diverging = minimize(Booth(), jnp.array([1.0, 1.0]), jl.sgd(10.0), 200)
    assert int(diverging.stop) == Stop.NOT_FINITE
    steps = int(diverging.steps)
    assert 1 < steps < 200
    assert np.isfinite(diverging.values[:steps]).all()
    assert not np.isfinite(diverging.values[steps:]).any()

    def cliff(x):
        return jnp.sqrt(x)  # value 0 and an infinite gradient at 0

    edge = minimize(cliff, 0.0, jl.sgd(0.1), 10)
    assert (int(edge.stop), int(edge.steps), float(edge.value)) == (Stop.NOT_FINITE, 0, 0.0)
    nothing = minimize(cliff, -1.0, jl.sgd(0.1), 10, tolerances=Tolerances(1.0, 1.0, 1.0))
    assert (int(nothing.stop), int(nothing.steps)) == (Stop.NOT_FINITE, 0)


def test_lanes_of_a_vmap_are_runs_of_their_own():
    rates = jnp.array([0.01, 0.2, 10.0, 0.5])
    tolerances = Tolerances(gradient=1e-3)

    def run(rate) -> Minimization:
        return minimize(BOWL, START, jl.sgd(rate), 50, tolerances=tolerances)

    lanes = jax.vmap(run)(rates)
    assert [Stop(int(code)) for code in lanes.stop] == [Stop.STEPS, Stop.GRADIENT, Stop.NOT_FINITE, Stop.STEPS]
    for i, rate in enumerate(rates):
        alone = run(rate)
        assert int(alone.steps) == int(lanes.steps[i])
        np.testing.assert_allclose(lanes.trajectory[i], alone.trajectory, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(lanes.values[i], alone.values, rtol=1e-5, atol=1e-6)


def test_it_is_differentiable_in_the_learning_rate():
    def end(rate):
        return minimize(lambda x: x**2 / 2, 1.0, jl.sgd(rate), 5).value

    assert float(jax.grad(end)(0.1)) == pytest.approx(-5 * 0.9**9, rel=1e-5)  # of (1 − η)¹⁰/2


def test_a_second_call_compiles_nothing():
    traces = []

    def fn(x):
        traces.append(x)
        return jnp.sum(x**2)

    tx = jl.adam(0.1)
    minimize(fn, jnp.ones(3), tx, 5)
    compiled = len(traces)
    minimize(fn, jnp.zeros(3), tx, 5)
    checked = len(traces) - compiled
    assert 0 < checked < compiled  # only the check traces again


def test_extras_reach_whom_they_are_for():
    seen = {}

    def spy_update(updates, state, params, **extra):
        seen.update(extra)
        return jax.tree.map(lambda g: -0.5 * extra["trust"] * g, updates), state

    spy = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), spy_update)

    def loss(x, target):  # it has no argument `trust`
        return jnp.sum((x - target) ** 2)

    extras = {"target": jnp.array([1.0, 2.0]), "trust": 0.5}
    result = minimize(loss, jnp.zeros(2), spy, 60, extras=extras)
    np.testing.assert_allclose(result.params, [1, 2], atol=1e-5)
    assert set(seen) == {"value", "grad", "value_fn", "target", "trust"}
    newton = minimize(loss, jnp.zeros(2), jl.newton(), 1, extras=extras)
    np.testing.assert_allclose(newton.params, [1, 2], rtol=1e-6)
    everything = minimize(lambda x, **kw: loss(x, kw["target"]) * kw["trust"], jnp.zeros(2), jl.newton(), 1, extras=extras)
    np.testing.assert_allclose(everything.params, [1, 2], rtol=1e-6)


def test_a_key_gives_every_step_its_own_noise_and_a_step_one_noise():
    f = noisy(BOWL, 0.3)
    key = jax.random.key(7)
    result = minimize(f, START, jl.sgd(0.1), 30, key=key)
    same = minimize(f, START, jl.sgd(0.1), 30, key=key)
    other = minimize(f, START, jl.sgd(0.1), 30, key=jax.random.key(8))
    np.testing.assert_array_equal(result.trajectory, same.trajectory)
    assert (result.trajectory[1:] != other.trajectory[1:]).any(axis=1).all()
    steps = (result.trajectory[:-1] - result.trajectory[1:]) / 0.1
    noise = steps - jax.vmap(jax.grad(BOWL))(result.trajectory[:-1])
    expected = [0.3 * jax.random.normal(jax.random.fold_in(key, t), (2,)) for t in range(30)]
    np.testing.assert_allclose(noise, expected, atol=1e-5)

    # value_fn is the function of the same step: at the same point it has the gradient that update was given.
    def check(updates, state, params, *, value_fn, **_):
        return jax.tree.map(lambda g, h: -0.1 * g + 0 * h, updates, state), jax.grad(value_fn)(params) - updates

    same_gradient = optax.GradientTransformationExtraArgs(jnp.zeros_like, check)
    np.testing.assert_allclose(
        minimize(f, START, same_gradient, 30, key=key).trajectory, result.trajectory, rtol=1e-5, atol=1e-6
    )
    value, grad = jax.value_and_grad(f)(START, jax.random.fold_in(key, 0))
    assert float(value) == pytest.approx(float(result.values[0]), rel=1e-6)
    np.testing.assert_allclose(START - 0.1 * grad, result.trajectory[1], rtol=1e-6)


def test_functions_that_cannot_be_hashed_and_bound_methods():
    class Model:
        __hash__ = None

        def __init__(self, target):
            self.target = target

        def __call__(self, x):
            return (x - self.target) ** 2

        def loss(self, x):
            return self(x)

    for target in (1.0, 2.0):
        for fn in (Model(target), Model(target).loss):
            assert float(minimize(fn, 0.0, jl.newton(), 2).params) == pytest.approx(target)


def test_in_float64():
    with jax.enable_x64(True):
        result = minimize(Rosenbrock(), np.array([-1.2, 1.0]), jl.newton(), 20, tolerances=Tolerances(gradient=1e-12))
        assert result.values.dtype == np.float64
        assert int(result.stop) == Stop.GRADIENT
        np.testing.assert_allclose(result.params, 1, rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fn": 3.0}, "fn must be a function of the parameters, got a float"),
        ({"tx": optax.adam}, "tx must be an optax.GradientTransformation, got a function"),
        ({"steps": 0}, "steps 0: at least 1 is needed"),
        ({"steps": 1.5}, "steps must be a whole number, got 1.5"),
        ({"params": jnp.array([1, 2])}, "params are of int32; floating point or complex numbers are needed"),
        ({"params": {"a": {"b": jnp.array([True])}}}, r"params\['a'\]\['b'\] are of bool"),
        ({"params": {}}, "params have no arrays"),
        ({"fn": lambda x: x}, r"fn must return one real floating point number, it returned float32\[2\]"),
        ({"fn": lambda x: (jnp.sum(x), x)}, "fn must return one real floating point number, it returned a tuple"),
        (
            {"fn": lambda x: jax.lax.complex(x[0], x[1])},
            r"fn must return one real floating point number, it returned complex64\[\]",
        ),
        ({"fn": lambda x: jnp.sum(x > 0)}, r"it returned int32\[\]"),
        (
            {"fn": Rosenbrock(3)},
            r"fn\(params\), traced by JAX, failed: ValueError: rosenbrock takes an array of shape \(3,\)",
        ),
        ({"fn": lambda x, y: jnp.sum(x)}, r"fn\(params\), traced by JAX, failed: TypeError"),
        ({"extras": {"value_fn": 1.0}}, "extras must not be called 'value_fn'"),
        ({"tx": optax.trace(0.9)._replace(init=lambda params: 0.0)}, "tx.update, traced by JAX, failed"),
        (
            {"tx": optax.GradientTransformation(lambda p: jnp.zeros(2), lambda u, s, p: (u, jnp.zeros(3)))},
            "tx changes the structure, shapes or dtypes of its state",
        ),
        (
            {"tx": optax.stateless(lambda u, p: jnp.zeros((2, 2)))},
            "tx returns updates of another structure or other shapes than the parameters",
        ),
        ({"key": jax.random.key(0)}, r"fn\(params\), traced by JAX, failed: TypeError"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_compiled(monkeypatch, arguments, message):
    monkeypatch.setattr(importlib.import_module("jaxopt_lec.lab.minimize"), "_with_trajectory", None)
    given = {"fn": Saddle(), "params": jnp.ones(2), "tx": jl.sgd(0.1), "steps": 3} | arguments
    with pytest.raises(InputError, match=message) as error:
        minimize(**given)
    assert "\n" not in str(error.value)


def test_wrong_tolerances_are_named():
    for name in ("gradient", "value", "update"):
        for wrong in (-1.0, float("nan")):
            with pytest.raises(InputError, match=f"tolerance {name}="):
                Tolerances(**{name: wrong})
    with pytest.raises(InputError, match="patience 0"):
        Tolerances(patience=0)
