"""The lifter: what it accepts, what it refuses and with which words, and what it does once for all equations."""

import functools
import re
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxopt_lec as jl
from jaxopt_lec import slots
from jaxopt_lec.arithmetic import ema, one_minus_power, sqrt
from jaxopt_lec.optimizers.radam import averaged_steps

PARAMS = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}, "scale": jnp.ones(())}
GRADIENTS = jax.tree.map(lambda p: 0.1 * p + 0.2, PARAMS)


def refused(kind, message, call, *args, **kwargs):
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    assert message in str(caught.value), str(caught.value)


@jl.equation(m=slots.zeros)
def scale_by_everything(g, s, p, t, *, b: jl.Decay = 0.9, power: int = 1, sign: bool = False, weight):
    m = ema(s.m, g, b)
    return weight * (jnp.sign(m) if sign else m**power), {"m": m}


@jl.equation()
def scale_by_chosen(g, s, p, t, *, which=None):
    return g, {}


# --- hyperparameters and extra arguments


def test_result_is_an_optax_transformation():
    assert isinstance(jl.scale_by_adam(), optax.GradientTransformationExtraArgs)
    assert isinstance(jl.adam(1e-3), optax.GradientTransformationExtraArgs)
    assert isinstance(jl.newton(), optax.GradientTransformationExtraArgs)


def test_numeric_hyperparameters_are_data_and_others_static():
    state = scale_by_everything(power=3).init(PARAMS)
    assert set(state.hyper) == {"b"}
    assert state.hyper["b"].dtype == jnp.float32
    assert not state.hyper["b"].weak_type


def test_an_integer_given_for_a_number_is_a_number():
    assert jl.sgd(1).init(PARAMS).hyper["learning_rate"].dtype == jnp.float32


def test_hyperparameters_are_never_cast_down():
    for given, kept in [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float32"), ("int32", "float32")]:
        assert jl.sgd(jnp.ones((), given)).init(PARAMS).hyper["learning_rate"].dtype == kept
    with jax.enable_x64(True):
        assert jl.sgd(jnp.float64(1)).init(PARAMS).hyper["learning_rate"].dtype == "float64"
        assert jl.sgd(0.1).init(PARAMS).hyper["learning_rate"].dtype == "float64"
        assert jl.sgd(jnp.float32(1)).init(PARAMS).hyper["learning_rate"].dtype == "float32"


def test_extra_argument_is_required_by_name():
    tx = scale_by_everything()
    state = tx.init(PARAMS)
    refused(ValueError, "scale_by_everything needs the extra argument 'weight'", tx.update, GRADIENTS, state)
    refused(TypeError, "'weight' is an extra argument: give it to update(..., weight=...)", scale_by_everything, weight=1.0)


def test_extra_argument_is_whole_or_split_by_leaves():
    tx = scale_by_everything(b=0.0)
    state = tx.init(PARAMS)
    by_two, _ = tx.update(GRADIENTS, state, weight=jnp.float32(2))
    weights = jax.tree.map(lambda p: jnp.full_like(p, 2), PARAMS)
    by_leaf, _ = tx.update(GRADIENTS, state, weight=weights)
    np.testing.assert_array_equal(by_two["dense"]["kernel"], 2 * GRADIENTS["dense"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, by_two, by_leaf)


def test_extra_argument_that_is_a_function_is_refused():
    tx = scale_by_everything()
    refused(TypeError, "'weight' is a function", tx.update, GRADIENTS, tx.init(PARAMS), weight=lambda x: x)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: jl.adam(-1e-3), ValueError, "scale_by_learning_rate: learning_rate must lie in [0, inf), got -0.001"),
        (lambda: jl.adam(float("nan")), ValueError, "learning_rate must lie in [0, inf), got nan"),
        (lambda: jl.adam(float("inf")), ValueError, "learning_rate must lie in [0, inf), got inf"),
        (lambda: jl.adam(1e-3, b1=1.0), ValueError, "scale_by_adam: b1 must lie in [0, 1), got 1.0"),
        (lambda: jl.adam(1e-3, b2=2), ValueError, "scale_by_adam: b2 must lie in [0, 1), got 2"),
        (lambda: jl.adam(1e-3, b2=-0.1), ValueError, "scale_by_adam: b2 must lie in [0, 1), got -0.1"),
        (lambda: jl.adam(1e-3, eps=-1e-8), ValueError, "scale_by_adam: eps must lie in [0, inf)"),
        (lambda: jl.adamw(1e-3, weight_decay=-1.0), ValueError, "add_decayed_weights: weight_decay must lie in [0, inf)"),
        (lambda: jl.momentum(0.1, decay=-0.9), ValueError, "scale_by_momentum: decay must lie in [0, 1), got -0.9"),
        (lambda: jl.momentum(0.1, dampening=1.5), ValueError, "scale_by_momentum: dampening must lie in [0, 1]"),
        (lambda: jl.nesterov(0.1, decay=1.0), ValueError, "scale_by_nesterov: decay must lie in [0, 1)"),
        (lambda: jl.nesterov_exact(0.1, decay=1.0), ValueError, "scale_by_nesterov_exact: decay must lie in [0, 1)"),
        (lambda: jl.rmsprop(0.1, momentum=1.0), ValueError, "scale_by_momentum: decay must lie in [0, 1)"),
        (lambda: jl.adagrad(0.1, initial_accumulator=-1), ValueError, "initial_accumulator must lie in [0, inf)"),
        (lambda: jl.adadelta(eps=0.0), ValueError, "scale_by_adadelta: eps must lie in (0, inf), got 0.0"),
        (lambda: jl.adam(0.1, b2=0.99999999), ValueError, "b2 must lie in [0, 1), got 0.99999999, which is 1 in float32"),
        (lambda: jl.adam(0.1, eps=1e-46), ValueError, "eps must lie in [0, inf), got 1e-46, which is 0 in float32"),
        (lambda: jl.adam(0.1, eps=1e-40), ValueError, "eps must lie in [0, inf), got 1e-40, which is"),
        (lambda: jl.sgd(1e39), ValueError, "learning_rate must lie in [0, inf), got 1e+39, which is inf in float32"),
        (lambda: jl.adadelta(rho=1.0), ValueError, "scale_by_adadelta: rho must lie in [0, 1)"),
        (lambda: jl.radam(0.1, threshold=3.0), ValueError, "scale_by_radam: threshold must lie in [4, inf)"),
        (lambda: jl.nadam(0.1, momentum_decay=-1.0), ValueError, "scale_by_nadam: momentum_decay must lie in [0, inf]"),
        (lambda: jl.newton(damping=-1.0), ValueError, "scale_by_newton: damping must lie in [0, inf)"),
        (lambda: jl.newton_cg(max_iterations=0), ValueError, "newton_cg: max_iterations must be at least 1"),
        (lambda: jl.newton_cg(max_iterations="9"), TypeError, "scale_by_newton_cg: max_iterations must be of type int, got"),
        (lambda: jl.sgd(lambda count: -0.1 * (count + 1)), ValueError, "learning_rate must lie in [0, inf)"),
        (lambda: jl.sgd(jnp.ones(3)), ValueError, "must be a scalar, got shape (3,); for many values use jax.vmap"),
        (lambda: jl.sgd("0.1"), TypeError, "learning_rate must be a number, a scalar array or a schedule, got '0.1'"),
        (lambda: jl.sgd(True), TypeError, "learning_rate must be a number"),
        (lambda: jl.sgd(0.1j), TypeError, "learning_rate must be a number"),
        (
            lambda: jl.sgd(lambda count: None),
            TypeError,
            "learning_rate: the schedule must return a number or a scalar array",
        ),
        (
            lambda: jl.sgd(lambda count: [0.1]),
            TypeError,
            "learning_rate: the schedule must return a number or a scalar array",
        ),
        (lambda: jl.sgd(lambda count: jnp.ones(2)), ValueError, "a real scalar, it returned float32 of shape (2,)"),
        (lambda: jl.sgd(None), TypeError, "learning_rate must be a number"),
        (lambda: jl.scale_by_adam(beta1=0.9), TypeError, "no hyperparameter 'beta1'; its hyperparameters are: b1, b2, eps,"),
        (lambda: jl.scale_by_adam(0.9), TypeError, "scale_by_adam takes its hyperparameters by keyword only"),
        (lambda: jl.scale_by_adam(bias_correction=1), TypeError, "bias_correction must be of type bool, got 1"),
        (lambda: scale_by_everything(power=2.5), TypeError, "power must be of type int, got 2.5"),
        (
            lambda: scale_by_chosen(which=[1]),
            TypeError,
            "scale_by_chosen: which has no float as default, so it is static and",
        ),
        (lambda: jl.Range(0, 1, closed="high"), ValueError, "closed must be 'low', 'both' or 'neither', got 'high'"),
        (lambda: jl.adamw(0.1, mask="bias"), TypeError, "adamw: mask must be a tree of bools like the parameters, or a"),
        (lambda: jl.lamb(0.1, mask={"w": 1.0}), TypeError, "lamb: mask must be a tree of bools like the parameters"),
        (lambda: jl.lion(0.1, mask=lambda p: p).init(PARAMS), TypeError, "lion: mask must be a tree of bools like the"),
    ],
)
def test_wrong_hyperparameters_are_refused_at_construction(call, kind, message):
    refused(kind, message, call)


def test_a_schedule_that_fails_is_named():
    with pytest.raises(TypeError) as caught:
        jl.adam(lambda: 0.1)
    assert caught.value.__notes__ == [
        "scale_by_learning_rate: learning_rate was called as a schedule, with the number of finished steps"
    ]


@pytest.mark.parametrize(
    "ask",
    [lambda x: x if x < 5 else 5, lambda x: max(x, 5), float, np.asarray, lambda x: [1, 2][x]],
    ids=["if", "max", "float", "asarray", "index"],
)
def test_a_schedule_that_needs_the_value_of_a_traced_count_is_named(ask):
    tx = jl.adam(0.1, b1=lambda count: 0.1 * ask(count))
    tx.update(GRADIENTS, tx.init(PARAMS), PARAMS)  # eagerly the count has a value
    message = "scale_by_adam: b1: the schedule needs the value of the step count in Python"
    refused(TypeError, message, jax.eval_shape, tx.update, GRADIENTS, tx.init(PARAMS), PARAMS)


def test_a_schedule_that_returns_something_else_later_is_named():
    tx = jl.sgd(lambda count: jnp.ones(3) if isinstance(count, jax.core.Tracer) else 0.1)
    message = (
        "scale_by_learning_rate: learning_rate: the schedule must return a real scalar, it returned float32 of shape (3,)"
    )
    refused(ValueError, message, jax.eval_shape, tx.update, GRADIENTS, tx.init(PARAMS), PARAMS)


@pytest.mark.parametrize("wrap", [lambda tx: tx, jl.count_by_leaf], ids=["shared count", "count_by_leaf"])
@pytest.mark.parametrize("hole", [None, optax.MaskedNode()], ids=str)
def test_a_mask_that_is_a_function_takes_missing_gradients(hole, wrap):
    params = {"a": np.ones(3, np.float32), "b": np.ones((2, 2), np.float32)}
    gradients = {"a": hole, "b": params["b"]}

    def matrices(tree):
        return jax.tree.map(lambda x: x.ndim > 1, tree)

    def updates(mask):
        made = [make(0.1, weight_decay=0.1, mask=mask) for make in (jl.adamw, jl.lamb, jl.lion)]
        return [tx.update(gradients, tx.init(params), params)[0] for tx in map(wrap, made)]

    found, expected = jax.jit(lambda: (updates(matrices), updates({"a": False, "b": True})))()
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("mask", [{"w": True, "b": np.False_}, lambda p: {name: name == "w" for name in p}])
def test_a_mask_says_where_to_decay(mask):
    tx, params = jl.adamw(1.0, weight_decay=0.1, mask=mask), {"w": jnp.ones(2), "b": jnp.ones(2)}
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-6)
    np.testing.assert_array_equal(updates["b"], 0)


def test_values_known_only_at_run_time_are_not_checked():
    assert jax.vmap(lambda rate: jl.sgd(rate).init(PARAMS).hyper["learning_rate"])(jnp.arange(3.0)).shape == (3,)


def test_schedules_see_the_step_count_from_zero_and_show_their_value():
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    tx = jl.sgd(schedule)
    state = tx.init(PARAMS)
    assert state.hyper["learning_rate"] == schedule(0)
    for k in range(5):
        updates, state = tx.update(GRADIENTS, state)
        np.testing.assert_allclose(updates["scale"], -schedule(k) * GRADIENTS["scale"], rtol=1e-6)
        np.testing.assert_allclose(state.hyper["learning_rate"], schedule(k), rtol=1e-6)


def test_any_numeric_hyperparameter_may_be_a_schedule():
    scheduled = jl.scale_by_adam(b1=lambda count: 0.5, b2=lambda count: 0.9, eps=lambda count: 1e-3)
    plain = jl.scale_by_adam(b1=0.5, b2=0.9, eps=1e-3)
    u, v = (tx.update(GRADIENTS, tx.init(PARAMS))[0] for tx in (scheduled, plain))
    jax.tree.map(np.testing.assert_array_equal, u, v)


def test_a_checkpoint_survives_the_switch_from_number_to_schedule():
    number, schedule = jl.adam(0.1), jl.adam(optax.cosine_decay_schedule(0.1, 10))
    _, state = number.update(GRADIENTS, number.init(PARAMS), PARAMS)
    _updates, after = jax.jit(schedule.update)(GRADIENTS, state, PARAMS)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert optax.tree.get(after, "learning_rate") == optax.cosine_decay_schedule(0.1, 10)(1)


def test_get_and_set_by_name():
    state = jl.adam(0.1).init(PARAMS)
    assert jax.tree.structure(optax.tree.get(state, "m")) == jax.tree.structure(PARAMS)
    assert optax.tree.get(state, "b2") == np.float32(0.999)
    state = optax.tree.set(state, learning_rate=0.5, b1=jnp.float32(0.8))
    _, state = jl.adam(0.1).update(GRADIENTS, state)
    assert optax.tree.get(state, "learning_rate") == 0.5
    assert not optax.tree.get(state, "learning_rate").weak_type


def test_help_shows_the_hyperparameters():
    import inspect

    assert list(inspect.signature(jl.scale_by_adam).parameters) == [
        "b1",
        "b2",
        "eps",
        "eps_root",
        "eps_hat",
        "bias_correction",
    ]
    assert list(inspect.signature(jl.scale_by_newton).parameters) == ["damping"]


@pytest.mark.thorough  # a checker reads all of JAX first
def test_type_checker_knows_the_hyperparameters(tmp_path):
    source = tmp_path / "user.py"
    source.write_text(
        textwrap.dedent("""
        import jaxopt_lec as jl
        jl.scale_by_adam(b1=0.9, b2=lambda count: 0.99, eps=1e-3)
        jl.scale_by_newton(damping=0.1)
        jl.scale_by_adam(beta1=0.9)
        jl.scale_by_newton(dampening=0.1)
        jl.adam(0.1, beta1=0.9)
        """)
    )
    checked = subprocess.run([sys.executable, "-m", "mypy", "--config-file=", source], capture_output=True, text=True)
    assert [line.split(":")[1] for line in checked.stdout.splitlines() if ": error:" in line] == ["5", "6", "7"], (
        checked.stdout
    )


# --- equations that are not equations


def test_signature_is_checked_at_decoration():
    with pytest.raises(TypeError, match=r"short must take \(g, s, p, t\) by position, it takes \(g, s\)"):

        @jl.equation()
        def short(g, s):
            return g, {}

    with pytest.raises(TypeError, match=r"loss_free must take \(g, s, p, t, f\) by position"):

        @jl.tree_equation()
        def loss_free(g, s, p, t):
            return g, {}

    with pytest.raises(TypeError, match="must name its arguments"):

        @jl.equation()
        def open_ended(g, s, p, t, **rest):
            return g, {}


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda g, s: (g, {}), "the equation returned the slots [], declared are ['m']"),
        (lambda g, s: (g, {"m": s.m, "v": s.m}), "the equation returned the slots ['m', 'v'], declared are ['m']"),
        (lambda g, s: (g.sum(), {"m": s.m}), "the direction came out with shape (), expected (3, 2)"),
        (lambda g, s: (g, {"m": s.m.sum()}), "slot 'm' came out with shape (), expected (3, 2)"),
        (lambda g, s: (g * 1j, {"m": s.m}), "the direction came out complex, expected float32"),
        (lambda g, s: (g, {"m": 1j * s.m}), "slot 'm' came out complex, expected float32"),
    ],
)
def test_a_wrong_result_of_an_equation_is_refused(result, message):
    @jl.equation(m=slots.zeros)
    def scale_by_mistake(g, s, p, t):
        return result(g, s)

    tx = scale_by_mistake()
    params = {"dense": {"kernel": PARAMS["dense"]["kernel"]}}
    refused((TypeError, ValueError), f"scale_by_mistake: at 'dense/kernel': {message}", tx.update, params, tx.init(params))


def test_annotations_as_strings_keep_their_range(tmp_path, monkeypatch):
    (tmp_path / "future_equation.py").write_text(
        textwrap.dedent("""
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from jaxopt_lec import Decay, equation
        if TYPE_CHECKING:
            from elsewhere import Number

        @equation()
        def scale_by_future(g, s, p, t, *, b: Decay = 0.5, c: Number = 1.0):
            return b * c * g, {}
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    from future_equation import scale_by_future

    refused(ValueError, "scale_by_future: b must lie in [0, 1), got 1.0", scale_by_future, b=1.0)
    scale_by_future(c=-3.0)


# --- trees, leaves and states that do not fit

ADAM = jl.scale_by_adam()
# What JAX sees of a parameter of PyTorch, which need not be installed.
Parameter = type("Parameter", (), {"__module__": "torch.nn", "dtype": "torch.float32", "shape": (2,), "detach": None})
TENSOR = Parameter()
AS_ARRAYS = "arrays of JAX or NumPy: jnp.asarray(x.detach().cpu().numpy())"
IS_TENSOR = f"torch.Parameter; give {AS_ARRAYS}"


class LikeTensorFlow:
    """An array with a dtype that NumPy does not know."""

    dtype, shape = "<dtype: 'float32'>", (2,)


@pytest.mark.thorough
def test_tensors_of_the_installed_torch_are_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=re.escape(f"parameter at 'a' is a {IS_TENSOR}")):
        ADAM.init({"a": torch.nn.Parameter(torch.ones(2))})


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda s: ADAM.init({"a": {"n": jnp.arange(3)}}), TypeError, "parameter at 'a/n' has dtype int32"),
        (lambda s: ADAM.init([jnp.ones(2), jnp.array([True])]), TypeError, "parameter at '1' has dtype bool"),
        (lambda s: ADAM.init({"a": {"f": "relu"}}), TypeError, "parameter at 'a/f' is 'relu'; only floating-point"),
        (lambda s: ADAM.init({"a": TENSOR}), TypeError, f"parameter at 'a' is a {IS_TENSOR}"),
        (
            lambda s: ADAM.update(TENSOR, ADAM.init(jnp.ones(2))),
            TypeError,
            f"at the only leaf: the gradient is a {IS_TENSOR}",
        ),
        (
            lambda s: jl.adamw(0.1).update(jnp.ones(2), jl.adamw(0.1).init(jnp.ones(2)), TENSOR),
            TypeError,
            f"scale_by_adam: at the only leaf: the parameter is a {IS_TENSOR}",
        ),
        (
            lambda s: ADAM.init({"a": LikeTensorFlow()}),
            TypeError,
            "'a' is a test_equation.LikeTensorFlow; give arrays of JAX",
        ),
        (lambda s: ADAM.init(nn.Dense(3)), TypeError, "parameter at the only leaf is a flax.Dense; only floating-point"),
        (
            lambda s: jl.adam(0.1).update(jl.adam(0.1).init(PARAMS), GRADIENTS),
            TypeError,
            "adam: an optimizer state came first",
        ),
        (
            lambda s: jl.adam(0.1).update(GRADIENTS, None),
            TypeError,
            "adam: the state is a NoneType, expected the tuple",
        ),
        (
            lambda s: jl.adam(0.1).update(GRADIENTS, jl.momentum(0.1).init(PARAMS)),
            TypeError,
            "adam: the state is a tuple of 3,",
        ),
        (
            lambda s: jl.adam(0.1).update(GRADIENTS, [{"count": 0}, {"count": 0}]),
            TypeError,
            "adam: the state is a list of 2, expected the tuple of 2 states made by this optimizer's init; restore",
        ),
        (
            lambda s: ADAM.update(GRADIENTS, {"count": 0}),
            TypeError,
            "restore a checkpoint onto jax.eval_shape(tx.init, params)",
        ),
        (
            lambda s: ADAM.update(s, GRADIENTS),
            TypeError,
            "an optimizer state came first; the order is update(updates, state,",
        ),
        (
            lambda s: ADAM.update(GRADIENTS, optax.scale_by_adam().init(PARAMS)),
            TypeError,
            "the state is a ScaleByAdamState, expected the EquationState made by this transformation's init",
        ),
        (
            lambda s: ADAM.update(GRADIENTS, jl.scale_by_adagrad().init(PARAMS)),
            TypeError,
            "this state belongs to another optimizer: it has slots ['G']",
        ),
        (
            lambda s: ADAM.update({"dense": GRADIENTS["dense"]}, s),
            ValueError,
            "slot 'm' has a leaf 'scale', updates have none",
        ),
        (
            lambda s: ADAM.update(GRADIENTS | {"more": jnp.ones(1)}, s),
            ValueError,
            "updates have a leaf 'more', slot 'm' has none",
        ),
        (
            lambda s: ADAM.update(GRADIENTS, s, PARAMS | {"more": jnp.ones(1)}),
            ValueError,
            "updates and params are different trees: params has a leaf 'more', updates have none there",
        ),
        (
            lambda s: ADAM.update(list(GRADIENTS.values()), s),
            ValueError,
            "scale_by_adam: updates and slot 'm' are different trees",
        ),
        (
            lambda s: ADAM.update(with_bias(jnp.ones(5)), s, PARAMS),
            ValueError,
            "at 'dense/bias': the gradient has shape (5,)",
        ),
        (lambda s: ADAM.update(with_bias(jnp.ones(5)), s), TypeError, "scale_by_adam: at 'dense/bias'"),
        (
            lambda s: ADAM.update(with_bias(jnp.ones(1)), s),
            ValueError,
            "at 'dense/bias': the direction came out with shape (2,)",
        ),
        (lambda s: ADAM.update(with_bias(jnp.ones(2, int)), s), TypeError, "at 'dense/bias': the gradient has dtype int32"),
        (lambda s: ADAM.update(with_bias(jnp.full(2, 1j)), s, PARAMS), TypeError, "one is complex, the other is not"),
        (
            lambda s: ADAM.update(GRADIENTS, s, PARAMS | {"scale": None}),
            ValueError,
            "at 'scale': there is a gradient, but the parameter is None",
        ),
        (
            lambda s: ADAM.update(GRADIENTS, ADAM.init(PARAMS | {"scale": None})),
            ValueError,
            "at 'scale': there is a gradient, but slot 'm' is None",
        ),
        (
            lambda s: jl.adamw(0.1).update(GRADIENTS, jl.adamw(0.1).init(PARAMS)),
            ValueError,
            "add_decayed_weights needs params: call update(updates, state, params)",
        ),
        (
            lambda s: jl.newton().update(GRADIENTS, jl.newton().init(PARAMS), value_fn=lambda p: 0.0),
            ValueError,
            "scale_by_newton needs params",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_path(call, kind, message):
    state = ADAM.init(PARAMS)
    before = jax.tree.map(jnp.copy, state)
    refused(kind, message, call, state)
    jax.tree.map(np.testing.assert_array_equal, state, before)


def with_bias(bias):
    return {"dense": {"kernel": GRADIENTS["dense"]["kernel"], "bias": bias}, "scale": GRADIENTS["scale"]}


def test_an_equation_may_close_over_a_traced_value():
    def step(x):
        @jl.equation()
        def scale_by_closure(g, s, p, t, *, b=0.5):
            return g * x * b, {}

        tx = scale_by_closure()
        return tx.update(PARAMS, tx.init(PARAMS))[0]["scale"]

    assert jax.jit(step)(3.0) == 1.5
    assert jax.grad(step)(3.0) == 0.5


def test_a_number_with_a_range_is_numeric_even_if_written_as_an_integer():
    @jl.equation()
    def shrink(g, s, p, t, *, by: jl.NonNegative = 0):
        return g - by * g, {}

    assert shrink(by=0.5).init(PARAMS).hyper["by"] == 0.5
    refused(ValueError, "shrink: by must lie in [0, inf), got -1", shrink, by=-1)


def test_errors_of_other_kinds_keep_their_kind_and_say_where():
    @jl.equation()
    def scale_by_typo(g, s, p, t, *, power: None = None):
        return s.momentum, {}

    with pytest.raises(AttributeError) as caught:
        scale_by_typo().update(PARAMS, scale_by_typo().init(PARAMS))
    assert "scale_by_typo: at 'dense/bias'" in caught.value.__notes__


@pytest.mark.parametrize(
    ("result", "kind", "message"),
    [
        (lambda g, s: g, TypeError, "walk: the equation must return (direction, {slot: array, ...})"),
        (lambda g, s: (g, {}), ValueError, "walk: the equation returned the slots [], declared are ['m']"),
        (lambda g, s: (3.0, {"m": s.m}), ValueError, "walk: updates and the direction are different trees"),
        (lambda g, s: (g, {"m": None}), ValueError, "walk: updates and the new slot 'm' are different trees"),
        (
            lambda g, s: (jax.tree.map(jnp.sum, g), {"m": s.m}),
            ValueError,
            "walk: at 'dense/bias': the direction came out with shape (), expected (2,)",
        ),
        (
            lambda g, s: (g, {"m": jax.tree.map(lambda m: 1j * m, s.m)}),
            TypeError,
            "walk: at 'dense/bias': the new slot 'm' came out complex, expected float32",
        ),
    ],
)
def test_a_wrong_result_of_a_tree_equation_is_refused(result, kind, message):
    @jl.tree_equation(m=slots.zeros)
    def walk(g, s, p, t, f):
        return result(g, s)

    refused(kind, message, walk().update, GRADIENTS, walk().init(PARAMS), PARAMS, value_fn=lambda p: 0.0)


def test_what_is_no_initialiser_is_refused():
    def scale_by_average(g, s, p, t):
        return g, {"m": s.m}

    refused(TypeError, "scale_by_average: slot 'm' needs an initialiser", jl.equation(m=0.0), scale_by_average)
    refused(
        TypeError, "scale_by_average: slot 'm' at 'dense/bias': ", jl.equation(m=jnp.zeros)(scale_by_average)().init, PARAMS
    )
    nothing = jl.equation(m=lambda p, hyper: None)(scale_by_average)()
    refused(TypeError, "slot 'm' at 'dense/bias': the initialiser returned None, not an array", nothing.init, PARAMS)
    unknown = jl.equation(m=slots.full_real("scale"))(scale_by_average)()
    with pytest.raises(KeyError) as caught:
        unknown.init(PARAMS)
    assert caught.value.__notes__ == ["scale_by_average: slot 'm' at 'dense/bias'"]


def test_an_equation_without_slots_in_its_result_is_refused():
    @jl.equation()
    def scale_by_nothing(g, s, p, t):
        return g

    tx = scale_by_nothing()
    refused(TypeError, "the equation must return (direction, {slot: array, ...})", tx.update, PARAMS, tx.init(PARAMS))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", [jl.adam, jl.asgd, jl.nesterov_exact], ids=lambda make: make.__name__)
def test_float64_of_numpy_is_taken_as_jax_takes_it(make):
    params, tx = {"w": np.ones(3)}, make(0.1)
    updates, state = tx.update(params, tx.init(params), params, value_fn=lambda p: p["w"].sum())
    assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
    assert not any(x.dtype == "float64" for x in jax.tree.leaves(state))


def test_float32_gradients_of_float64_parameters_are_worked_on_in_float64():
    with jax.enable_x64(True):
        params, gradients = jnp.ones(2), jnp.ones(2, jnp.float32)
        tx = jl.scale_by_momentum(decay=0.9)
        _, state = tx.update(gradients, tx.init(params), params)
        updates, state = tx.update(gradients, state, params)
    assert updates.dtype == jnp.float32
    np.testing.assert_array_equal(state.slots["v"], np.full(2, 0.9 + 1.0))


def test_an_array_given_anew_is_used_and_a_number_is_that_of_the_state():
    params = jnp.ones(2)
    state = jl.sgd(jnp.float32(0.1)).init(params)
    updates, after = jl.sgd(jnp.float32(0.025)).update(params, state, params)
    np.testing.assert_array_equal(updates, -np.full(2, 0.025, np.float32))
    assert after.hyper["learning_rate"] == np.float32(0.025)
    np.testing.assert_array_equal(jl.sgd(0.025).update(params, state, params)[0], -np.full(2, 0.1, np.float32))


def test_an_array_given_as_hyperparameter_is_not_donated_with_the_state():
    rate = jnp.float32(0.1)
    state = jl.sgd(rate).init(jnp.ones(2))
    jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)(state)
    assert rate == np.float32(0.1)


def test_second_moments_of_complex_parameters_are_real():
    slots = jax.eval_shape(jl.adam(0.1).init, jax.ShapeDtypeStruct((2,), jnp.complex64))[0].slots
    assert (slots["m"].dtype, slots["v"].dtype) == (jnp.complex64, jnp.float32)


def test_python_numbers_and_abstract_arrays_are_parameters_too():
    tx = jl.adamw(0.1)
    updates, _ = tx.update({"a": 1.0}, tx.init({"a": 2.0}), {"a": 2.0})
    np.testing.assert_allclose(updates["a"], -0.1 * (1 + 0.01 * 2.0), rtol=1e-5)
    assert tx.init({"a": jax.ShapeDtypeStruct((3,), jnp.bfloat16)})[0].slots["m"]["a"].dtype == jnp.float32


def test_an_extra_argument_shaped_like_the_gradients_skips_where_these_are_missing():
    tx = scale_by_everything(b=0.0)
    weights = jax.tree.map(lambda p: jnp.full_like(p, 2), PARAMS)
    updates, _ = tx.update(GRADIENTS | {"dense": None}, tx.init(PARAMS), weight=weights)
    assert updates["dense"] is None
    np.testing.assert_allclose(updates["scale"], 2 * GRADIENTS["scale"])
    refused(
        ValueError, "extra argument 'weight' are different trees", tx.update, GRADIENTS, tx.init(PARAMS), weight={"x": 1.0}
    )


def test_transformations_of_one_equation_share_what_was_traced():
    traced = []

    @jl.equation()
    def scale_by_counting(g, s, p, t, *, b=0.5):
        traced.append(g.shape)
        return b * g, {}

    for b in (0.1, 0.2, 0.3):
        tx = scale_by_counting(b=b)
        tx.update(PARAMS["scale"], tx.init(PARAMS["scale"]))
    assert traced == [()]


def missing_in_turn(steps):
    """Gradients of PARAMS of which the bias's is missing in every second step, the first among them."""
    for i in range(steps):
        gradient = jax.tree.map(lambda g, i=i: g * (1 + i), GRADIENTS)
        yield gradient if i % 2 else {**gradient, "dense": {**gradient["dense"], "bias": None}}


def test_count_by_leaf_gives_a_leaf_the_steps_of_its_own_gradients():
    tx, alone = jl.count_by_leaf(jl.adam(0.1)), jl.adam(0.1)
    params, state = PARAMS, tx.init(PARAMS)
    bias, bias_state = PARAMS["dense"]["bias"], alone.init(PARAMS["dense"]["bias"])
    for gradient in missing_in_turn(6):
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)  # a missing gradient became an update of zeros
        if gradient["dense"]["bias"] is not None:
            update, bias_state = alone.update(gradient["dense"]["bias"], bias_state, bias)
            bias = optax.apply_updates(bias, update)
    np.testing.assert_array_equal(params["dense"]["bias"], bias)
    counts = state[0].count
    assert int(counts.updates) == 6
    assert jax.tree.map(int, counts.leaves["dense"]) == {"kernel": 6, "bias": 3}
    assert int(state[1].count) == 6  # no slots: nothing of its own to count


def test_schedules_follow_the_updates_of_the_tree_also_under_count_by_leaf():
    decay = optax.linear_schedule(0.0, 0.9, 10)
    tx = jl.count_by_leaf(jl.scale_by_momentum(decay=decay))
    state = tx.init(PARAMS)
    for step, gradient in enumerate(missing_in_turn(4)):
        _, state = tx.update(gradient, state)
        assert float(state.hyper["decay"]) == pytest.approx(0.09 * step)


def test_count_by_leaf_changes_no_number_where_no_gradient_is_missing():
    for make in (jl.adam, jl.nadam, jl.adafactor, jl.rprop):
        plain, counted = make(0.1), jl.count_by_leaf(make(0.1))
        states = plain.init(PARAMS), counted.init(PARAMS)
        for _ in range(3):
            ours, state = jax.jit(counted.update)(GRADIENTS, states[1], PARAMS)
            theirs, other = jax.jit(plain.update)(GRADIENTS, states[0], PARAMS)
            states = other, state
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-7), ours, theirs)


def test_count_by_leaf_without_params_passes_a_missing_gradient_on():
    tx = jl.count_by_leaf(jl.scale_by_adam())
    updates, _ = tx.update({"a": None, "b": jnp.ones(2)}, tx.init({"a": jnp.ones(2), "b": jnp.ones(2)}))
    assert updates["a"] is None


def test_count_by_leaf_is_refused_by_methods_that_need_every_gradient():
    tx = jl.count_by_leaf(jl.nesterov_exact(0.1))
    state = tx.init(PARAMS)
    refused(
        TypeError, "scale_by_nesterov_exact needs all gradients", tx.update, GRADIENTS, state, PARAMS, value_fn=lambda p: 0.0
    )


def test_a_missing_gradient_may_stand_for_a_whole_branch():
    tx = jl.scale_by_adam()
    state = tx.init(PARAMS)
    updates, after = tx.update({"dense": None, "scale": GRADIENTS["scale"]}, state, PARAMS)
    assert updates["dense"] is None
    np.testing.assert_array_equal(after.slots["m"]["dense"]["kernel"], 0)
    assert after.slots["m"]["scale"] != 0


# --- written once


def test_leaves_of_equal_shape_are_traced_once():
    traced = []

    @jl.equation(m=slots.zeros)
    def scale_by_counting(g, s, p, t):
        traced.append(g.shape)
        return g, {"m": s.m}

    params = {f"layer{i}": {"w": jnp.ones((4, 4)), "b": jnp.ones(4)} for i in range(20)}
    tx = scale_by_counting()
    jax.jit(tx.update)(params, tx.init(params), params)
    assert sorted(traced) == [(4,), (4, 4)]


def test_one_kernel_call_is_left_by_no_leaf():
    tx = jl.scale_by_adam()
    jaxpr = jax.make_jaxpr(tx.update)(GRADIENTS, tx.init(PARAMS))
    assert not [e for e in jaxpr.jaxpr.eqns if "jit" in e.primitive.name and e.params.get("name") == "on_leaf"]


def test_scope_names_the_equation():
    tx = jl.adam(0.1)
    text = jax.jit(tx.update).lower(GRADIENTS, tx.init(PARAMS)).as_text(debug_info=True)
    assert "scale_by_adam" in text
    assert "scale_by_learning_rate" in text


def test_hyperparameters_vmap_in_the_state():
    tx = jl.adam(0.1)
    state = tx.init(PARAMS)
    rates = jnp.asarray([0.1, 0.2])
    many = jax.vmap(lambda rate: tx.update(GRADIENTS, optax.tree.set(state, learning_rate=rate))[0])(rates)
    np.testing.assert_allclose(many["scale"][1], 2 * many["scale"][0], rtol=1e-6)


def test_hyperparameters_differentiate_in_the_state():
    tx = jl.momentum(0.1)
    state = tx.init(PARAMS)
    slope = jax.grad(lambda rate: tx.update(GRADIENTS, optax.tree.set(state, learning_rate=rate))[0]["scale"])(0.1)
    np.testing.assert_allclose(slope, -GRADIENTS["scale"], rtol=1e-6)


# --- the careful arithmetic


@pytest.mark.parametrize("b", [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999])
def test_one_minus_power_is_accurate_in_float32(b):
    b32, t = np.float32(b), np.arange(1, 2001)
    ours = np.asarray(one_minus_power(b32, jnp.asarray(t, jnp.float32)), np.float64)
    np.testing.assert_allclose(ours, -np.expm1(t * np.log1p(np.float64(b32) - 1)) if b else 1.0, rtol=4e-7)


NEAR_ONE = {
    "rmsprop": (lambda b: jl.rmsprop(1.0, b), lambda b: {"decay": b}, oracles.rmsprop),
    "adadelta": (lambda b: jl.adadelta(1.0, b), lambda b: {"rho": b}, oracles.adadelta),
    "adam": (
        lambda b: jl.adam(1.0, b2=b, bias_correction=False),
        lambda b: {"b2": b, "bias_correction": False},
        oracles.adam,
    ),
    "adam corrected": (lambda b: jl.adam(1.0, b, b), lambda b: {"b1": b, "b2": b}, oracles.adam),
    "radam": (lambda b: jl.radam(1.0, b2=b), lambda b: {"b2": b}, oracles.radam),
}


@pytest.mark.parametrize("decay", [0.999, 0.9999, 0.99999])
@pytest.mark.parametrize("method", NEAR_ONE)
def test_float32_keeps_a_decay_close_to_one(method, decay):
    make, arguments, oracle = NEAR_ONE[method]
    gradients = (1 + 0.3 * np.random.default_rng(0).standard_normal((500, 1))).astype(np.float32)
    tx = make(decay)
    _, found = jax.jit(functools.partial(jax.lax.scan, lambda state, g: tx.update(g, state)[::-1]))(
        tx.init(jnp.zeros(1)), gradients
    )
    path = oracle(np.zeros(1), lambda _, t: gradients[t - 1].astype(float), 500, 1.0, **arguments(decay))
    np.testing.assert_allclose(np.asarray(found, float), np.diff(path, axis=0), rtol=2e-5)


def test_a_decay_that_is_set_is_what_float32_holds():
    def second_moment(tx, b):
        state = optax.tree.set(tx.init(jnp.zeros(())), decay=b)
        return optax.tree.get(tx.update(jnp.ones(()), state)[1], "G")

    given, as_array = jl.rmsprop(1.0, 0.9999), jl.rmsprop(1.0, jnp.float32(0.9))
    near, far = jnp.float32(0.9999), jnp.float32(0.99)
    assert optax.tree.get(given.init(jnp.zeros(())), "decay") == near
    np.testing.assert_allclose(second_moment(given, near), 1e-4, rtol=1e-7)  # the number that was given, set again
    np.testing.assert_array_equal(second_moment(given, far), 1 - far)
    np.testing.assert_array_equal(second_moment(as_array, near), 1 - np.float32(0.9))  # an array stays in force
    both = jax.vmap(functools.partial(second_moment, given))(jnp.stack([near, far]))
    np.testing.assert_array_equal(both, [second_moment(given, near), second_moment(given, far)])
    assert jax.grad(functools.partial(second_moment, given))(near) == -1
    with jax.enable_x64(True):  # the state has all of the number, and a float32 leaf what it needs of it
        state = given.init(jnp.zeros((), jnp.float32))
        found = optax.tree.get(given.update(jnp.ones((), jnp.float32), state)[1], "G")
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, 1e-4, rtol=1e-7)


@pytest.mark.parametrize("number", [float, np.float64, np.array], ids=["python", "numpy", "array"])
@pytest.mark.parametrize("b", [0.9999, 0.99999])
def test_a_velocity_that_is_an_average_keeps_a_decay_close_to_one(b, number):
    decay = number(b)
    for make in (
        lambda: jl.scale_by_momentum(decay=decay, average=True),
        lambda: jl.scale_by_momentum(decay=decay, dampening=decay),
        lambda: jl.scale_by_nesterov(decay=decay, average=True),
    ):
        tx = make()
        state = tx.init(jnp.zeros(()))._replace(count=jnp.int32(1))  # the first step is not dampened
        np.testing.assert_allclose(optax.tree.get(tx.update(jnp.ones(()), state)[1], "v"), 1 - b, rtol=1e-6)


@pytest.mark.parametrize("b", [0.99, 0.5, 0.3, 0.0])
def test_an_average_of_anything_is_what_its_formula_says(b):
    @jl.equation(m=slots.zeros)
    def average(g, s, p, t, *, b: jl.Decay = 0.9):
        m = ema(s.m, g, b)
        return m, {"m": m}

    given, as_array = average(b=b), average(b=jnp.float32(b))
    state = given.init(jnp.zeros(5))._replace(slots={"m": jnp.array([jnp.inf, -jnp.inf, 1e10, 0.0, 1.0])})
    x = jnp.array([1.0, 1.0, 1.0, jnp.inf, 3.0])
    np.testing.assert_allclose(given.update(x, state)[0], as_array.update(x, state)[0], rtol=1e-6)


def test_one_minus_power_has_the_derivative_of_a_polynomial():
    for b, t in [(0.0, 1.0), (0.0, 3.0), (0.7, 4.0)]:
        expected = -t * (b ** (t - 1) if t > 1 else 1.0)
        np.testing.assert_allclose(jax.grad(one_minus_power)(b, t), expected, rtol=1e-6)


def test_sqrt_has_a_finite_derivative_at_zero():
    assert jax.grad(lambda x: sqrt(x * x))(0.0) == 0
    np.testing.assert_allclose(jax.grad(sqrt)(4.0), 0.25)


@pytest.mark.parametrize("b", [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999])
def test_averaged_steps_is_accurate_in_float32(b):
    b32, t = np.float32(b), np.arange(1, 3000)
    age = np.arange(3000, dtype=np.longdouble)
    weights = np.longdouble(b32) ** age
    # The definition, a sum without cancellation: twice the mean age of the averaged gradients, plus one.
    exact = 2 * np.cumsum(age * weights)[t - 1] / np.cumsum(weights)[t - 1] + 1
    ours = np.asarray(averaged_steps(b32, jnp.asarray(t, jnp.float32)), np.float64)
    np.testing.assert_allclose(ours, exact.astype(float), rtol=2e-6)


def test_static_hyperparameters_that_compare_equal_are_two():
    @jl.equation()
    def scaled(g, s, p, t, *, by=None):
        return g * (100 if by is True else by), {}

    g = jnp.ones(())
    by_one, by_true = scaled(by=1), scaled(by=True)
    assert float(by_one.update(g, by_one.init(g))[0]) == 1
    assert float(by_true.update(g, by_true.init(g))[0]) == 100


@jl.equation(L=lambda p, hyper: jnp.zeros((p.shape[0], p.shape[0])), m=slots.zeros)
def scale_by_rows(g, s, p, t, *, eps=1e-2):
    L = s.L + g @ g.T
    return jnp.linalg.solve(L + eps * jnp.eye(g.shape[0]), g), {"L": L, "m": s.m + g}


@pytest.mark.parametrize("spec", [PartitionSpec("data"), PartitionSpec(None, "data")], ids=str)
def test_what_jax_refuses_on_explicit_axes_is_left_to_the_compiler(spec):
    mesh = jax.make_mesh((2,), ("data",))
    g = np.arange(8, dtype=np.float32).reshape(2, 4) + np.eye(2, 4, dtype=np.float32)
    tx = scale_by_rows()
    wanted, after = tx.update(g, tx.init(g), g)
    placed = jax.device_put(g, NamedSharding(mesh, spec))
    with pytest.raises(Exception, match="shard"):
        placed @ placed.T
    state = tx.init(placed)
    for update in (tx.update, jax.jit(tx.update)):
        found, new = update(placed, state, placed)
        np.testing.assert_allclose(found, wanted, rtol=1e-3)
        np.testing.assert_allclose(new.slots["L"], after.slots["L"], rtol=1e-6)
        assert jax.typeof(found) == jax.typeof(placed) == jax.typeof(new.slots["m"])
    vector = jax.device_put(np.ones(2, np.float32), NamedSharding(mesh, PartitionSpec("data")))
    muon = jl.muon(0.1)
    refused(ValueError, "orthogonalize: at 'w': only matrices", muon.update, {"w": vector}, muon.init({"w": vector}))
