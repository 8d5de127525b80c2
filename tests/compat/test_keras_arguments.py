"""The Keras-like constructors: arguments that are refused and with which words, missing gradients, numbers as parameters."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from record import OPTIMIZERS

import jaxopt_lec as jl
from jaxopt_lec.compat import keras as like_keras

PARAMS = {"hidden": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}, "out": {"kernel": jnp.ones((4, 2))}}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)
# All but LossScaleOptimizer, which stands around another: see test_loss_scale.py.
NAMES = OPTIMIZERS["keras"]


def one_step(tx, params=PARAMS, gradients=PARAMS):
    updates, _ = tx.update(gradients, tx.init(params), params)
    return updates


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: like_keras.Adam(lr=0.1), TypeError, "^Adam: got an unexpected keyword argument 'lr'"),
        (lambda: like_keras.SGD(0.1, 0.9, False, 1e-4), TypeError, "^SGD: too many positional arguments"),
        (lambda: like_keras.AdamW(weight_decay=None), TypeError, "^AdamW: weight_decay must be a number"),
        (lambda: like_keras.Adam(amsgrad="no"), TypeError, "Adam: amsgrad must be True or False, got 'no'"),
        (lambda: like_keras.Adam(use_ema=1), TypeError, "Adam: use_ema must be True or False"),
        (lambda: like_keras.Adam(gradient_accumulation_steps=2.5), TypeError, "steps must be an integer, got 2.5"),
        (lambda: like_keras.Adam(gradient_accumulation_steps=1), ValueError, r"steps must lie in \[2, inf\), got 1"),
        (lambda: like_keras.Adam(ema_overwrite_frequency=0), ValueError, r"frequency must lie in \[1, inf\), got 0"),
        (lambda: like_keras.Adam(ema_momentum=1.5), ValueError, r"^Adam: ema_momentum must lie in \[0, 1\], got 1.5"),
        (lambda: like_keras.Adam(loss_scale_factor=0), ValueError, r"Adam: loss_scale_factor must lie in \(0, inf\)"),
        (lambda: like_keras.SGD(clipnorm=-1.0), ValueError, r"SGD: clipnorm must lie in \(0, inf\), got -1.0"),
        (lambda: like_keras.SGD(clipnorm="1"), TypeError, "SGD: clipnorm must be a number, got '1'"),
        (lambda: like_keras.SGD(clipvalue=lambda count: 1.0), TypeError, "clipvalue: a number is needed, not a schedule"),
        (lambda: like_keras.SGD(clipnorm=1.0, clipvalue=1.0), ValueError, "SGD: only one of clipnorm, clipvalue and"),
        (lambda: like_keras.Ftrl(learning_rate_power=lambda count: -0.5), TypeError, "a number is needed, not a schedule"),
        (lambda: like_keras.Adafactor(beta_2_decay=lambda count: -0.8), TypeError, "beta_2_decay: a number is needed"),
        (lambda: like_keras.Adam(exclude_from_weight_decay=["("]), ValueError, r"decay: '\(' is not a regular expression"),
        (lambda: like_keras.Adam(exclude_from_weight_decay=5), TypeError, "must be a regular expression or a list of them"),
        (lambda: like_keras.ScheduleFreeAdamW(beta_1=lambda count: 0.9), TypeError, "beta_1: a number is needed, not a sch"),
        (lambda: like_keras.Muon(muon_a=jnp.ones(())), TypeError, "muon_a must be a number, got .*static_args"),
    ],
)
def test_wrong_arguments_are_refused_at_construction(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


BETAS = ("Adam", "AdamW", "Adamax", "Nadam", "Lion", "Lamb", "ScheduleFreeAdamW")
OUTSIDE = [
    *((name, {"learning_rate": -1.0}) for name in NAMES),
    *((name, {"weight_decay": -1.0}) for name in NAMES),
    *((name, {"epsilon": -1.0}) for name in NAMES if name not in ("SGD", "Ftrl", "Lion", "Adafactor")),
    *((name, {f"beta_{i}": 1.0}) for name in BETAS for i in (1, 2)),
    ("ScheduleFreeAdamW", {"beta_1": 0.0}),  # x = (y − (1−β₁) z)/β₁
    ("ScheduleFreeAdamW", {"warmup_steps": -1}),
    *((name, {"momentum": 1.0}) for name in ("SGD", "RMSprop", "Muon")),
    *((name, {"rho": 1.0}) for name in ("RMSprop", "Adadelta")),
    *((name, {"initial_accumulator_value": -1.0}) for name in ("Adagrad", "Ftrl")),
    ("Ftrl", {"learning_rate_power": 0.5}),
    *(("Ftrl", {f"{key}_regularization_strength": -1.0}) for key in ("l1", "l2", "l2_shrinkage")),
    ("Ftrl", {"beta": -1.0}),
    ("Adafactor", {"beta_2_decay": 0.8}),
    *(("Adafactor", {key: -1.0}) for key in ("epsilon_1", "epsilon_2", "clip_threshold")),
    *(("Muon", {key: -1.0}) for key in ("adam_lr_ratio", "rms_rate", "adam_weight_decay", "adam_beta_1", "adam_beta_2")),
    ("Muon", {"ns_steps": -1}),
]


@pytest.mark.parametrize(("name", "options"), OUTSIDE, ids=str)
def test_what_is_out_of_range_is_named_as_in_keras(name, options):
    ((key, _),) = options.items()
    with pytest.raises(ValueError, match=rf"^{name}: {key} must lie in [\[(]"):
        getattr(like_keras, name)(**options)


@pytest.mark.parametrize("excluded", ["bias|out", ["bias", "out"], ("bias", "out")])
def test_a_string_is_one_pattern(excluded):
    updates = one_step(like_keras.AdamW(0.1, weight_decay=0.5, exclude_from_weight_decay=excluded), gradients=ZEROS)
    np.testing.assert_allclose(updates["hidden"]["kernel"], -0.05, rtol=1e-6)
    assert not updates["hidden"]["bias"].any()
    assert not updates["out"]["kernel"].any()


def test_a_layer_can_be_given_as_a_string():
    state = like_keras.Muon(exclude_layers="^out").init(PARAMS)
    assert [v.shape for v in jax.tree.leaves(optax.tree.get(state.inner_states["muon"], "v"))] == [(3, 4)]


@pytest.mark.parametrize(
    "tx",
    [
        like_keras.Adam(weight_decay=0.1, exclude_from_weight_decay=["bias", "typo"]),
        like_keras.Muon(exclude_layers=["typo"]),
    ],
    ids=["exclude_from_weight_decay", "exclude_layers"],
)
def test_a_pattern_that_matches_nothing_is_refused(request, tx):
    argument = request.node.callspec.id
    with pytest.raises(ValueError, match=f": {argument}: no parameter matches 'typo'; there are 'hidden/bias', "):
        tx.init(PARAMS)


def test_muon_s_ratio_survives_a_new_learning_rate():
    tx = like_keras.Muon(0.1, adam_lr_ratio=0.5, weight_decay=None, adam_weight_decay=None)
    state = optax.tree.set(tx.init(PARAMS), learning_rate=jnp.float32(0.2))
    updates, _ = tx.update(PARAMS, state, PARAMS)
    np.testing.assert_allclose(updates["hidden"]["bias"], -0.2 * 0.5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"use_ema": True, "gradient_accumulation_steps": 2, "weight_decay": 0.1}])
def test_swapped_arguments_and_foreign_states_are_told(options):
    tx = like_keras.Adam(**options)
    with pytest.raises(TypeError, match=r"^Adam: an optimizer state came first; the order is update"):
        tx.update(tx.init(PARAMS), PARAMS, PARAMS)
    for other in (like_keras.SGD(), like_keras.Adam(use_ema=True), optax.adam(0.1)):
        with pytest.raises(TypeError, match=r"^Adam: this is not a state that the optimizer's init makes"):
            tx.update(PARAMS, other.init(PARAMS), PARAMS)


@pytest.mark.filterwarnings("error")
def test_float64_of_numpy_is_taken_as_jax_takes_it():
    params = {"w": np.ones(3)}
    tx = like_keras.Adam(use_ema=True, ema_overwrite_frequency=2, gradient_accumulation_steps=2, weight_decay=0.1)
    state = tx.init(params)
    for _ in range(4):
        updates, state = tx.update(params, state, params)
    assert updates["w"].dtype == "float32"


@pytest.mark.parametrize("tx", [like_keras.AdamW(), like_keras.Muon()], ids=["AdamW", "Muon"])
def test_missing_parameters_and_other_trees_are_told(request, tx):
    name, state = request.node.callspec.id, tx.init(PARAMS)
    with pytest.raises(ValueError, match=r"^weight_decay needs params: call update\(updates, state, params\)"):
        tx.update(PARAMS, state)
    with pytest.raises(ValueError, match=f"^{name}: updates and params are different trees: updates have a leaf 'other'"):
        tx.update({"other": jnp.ones(2)}, state, PARAMS)
    with pytest.raises(TypeError, match=f"^{name}: an optimizer state came last; the order is update"):
        tx.update(PARAMS, PARAMS, state)


def test_parameters_that_are_none_have_no_average_to_start_from():
    params = {"a": jnp.ones(2), "b": None}
    tx = like_keras.SGD(1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)
    state = tx.init(params)
    for expected in (-1.0, -0.5):  # the second step, and half of it back
        updates, state = tx.update({"a": jnp.ones(2), "b": None}, state, params)
        assert updates["b"] is None
        np.testing.assert_allclose(updates["a"], expected)
        params = optax.apply_updates(params, {"a": updates["a"], "b": None})


HOLES = {
    "decay": lambda: like_keras.AdamW(0.1, exclude_from_weight_decay=["out"], clipnorm=1.0),
    "average": lambda: like_keras.Adam(0.1, weight_decay=0.1, use_ema=True, ema_overwrite_frequency=2),
    "accumulate": lambda: like_keras.SGD(0.1, gradient_accumulation_steps=2),
    "labels": lambda: like_keras.Muon(0.1, exclude_layers=["out"]),
    "product": lambda: like_keras.Nadam(0.1),
}


@pytest.mark.parametrize("wrap", [lambda tx: tx, jl.count_by_leaf], ids=["shared count", "count_by_leaf"])
@pytest.mark.parametrize("what", HOLES)
def test_a_masked_gradient_is_a_missing_one(what, wrap):
    def updates(hole):
        tx, gradients = wrap(HOLES[what]()), {**PARAMS, "out": {"kernel": hole}}
        state = tx.init(PARAMS)
        for _ in range(2):
            found, state = tx.update(gradients, state, PARAMS)
        return found["hidden"], state

    masked, missing = jax.jit(lambda: (updates(optax.MaskedNode()), updates(None)))()
    jax.tree.map(np.testing.assert_array_equal, *map(jax.tree.leaves, (masked, missing)))


def test_clipping_takes_complex_gradients_where_they_have_an_order():
    gradients = {"w": jnp.array([3.0, 4.0j], jnp.complex64)}
    for options in ({"clipnorm": 1.0}, {"global_clipnorm": 1.0}):
        updates = one_step(like_keras.SGD(1.0, **options), gradients, gradients)
        np.testing.assert_allclose(updates["w"], [-0.6, -0.8j], rtol=1e-6)
    with pytest.raises(TypeError, match=r"^SGD: clipvalue needs real gradients, and at 'w' it is complex64: clipnorm and"):
        one_step(like_keras.SGD(clipvalue=1.0), gradients, gradients)


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}], ids=str)
def test_a_schedule_that_branches_in_python_is_named_as_in_keras(options):
    tx = like_keras.Adam(lambda count: 0.1 if count < 10 else 0.01, **options)
    with pytest.raises(TypeError, match=r"^Adam: learning_rate: the schedule needs the value of the step count in Python"):
        jax.eval_shape(tx.update, PARAMS, tx.init(PARAMS), PARAMS)


@pytest.mark.parametrize(
    "options",
    [
        {"use_ema": True},
        {"use_ema": True, "ema_overwrite_frequency": 2, "weight_decay": 0.1},
        {"gradient_accumulation_steps": 2},
        {"gradient_accumulation_steps": 2, "use_ema": True, "clipnorm": 1.0, "loss_scale_factor": 2.0},
    ],
    ids=str,
)
def test_numbers_of_python_are_parameters_too(options):
    tx = like_keras.Adam(**options)
    numbers, arrays = {"x": 1.0}, {"x": jnp.array(1.0)}
    states = [tx.init(numbers), tx.init(arrays)]
    for _ in range(2):
        steps = [tx.update(x, state, x) for x, state in zip((numbers, arrays), states, strict=True)]
        jax.tree.map(np.testing.assert_array_equal, *steps)
        states = [state for _, state in steps]


@pytest.mark.parametrize("name", NAMES)
def test_the_state_can_be_donated_after_an_eager_step(name):
    tx = getattr(like_keras, name)()
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    jax.block_until_ready(jax.jit(lambda state: tx.update(PARAMS, state, PARAMS)[1], donate_argnums=0)(state))


@pytest.mark.parametrize("name", NAMES)
def test_hyperparameters_can_be_injected(name):
    make = getattr(like_keras, name)
    static = ("muon_a", "muon_b", "muon_c", "ns_steps") if name == "Muon" else ()
    injected = optax.inject_hyperparams(make, static_args=static)(learning_rate=0.1, clipnorm=1.0, weight_decay=0.1)
    plain = make(learning_rate=0.1, clipnorm=1.0, weight_decay=0.1)
    updates, expected = (jax.jit(lambda tx=tx: one_step(tx))() for tx in (injected, plain))
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5), updates, expected)


def test_all_arguments_are_shown():
    assert not any(q.kind is q.VAR_KEYWORD for q in inspect.signature(like_keras.SGD).parameters.values())
