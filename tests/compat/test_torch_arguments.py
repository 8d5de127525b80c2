"""The torch-like constructors: groups by path, arguments that are refused and with which words, states."""

import copy
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lec as jl
from jaxopt_lec.compat import torch as like_torch

PARAMS = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, "norm": {"scale": jnp.ones(2)}}
GRADIENTS = jax.tree.map(lambda p: 0.5 * p, PARAMS)


def one_step(tx, params=PARAMS, gradients=GRADIENTS):
    updates, _ = tx.update(gradients, tx.init(params), params)
    return updates


def test_groups_are_found_by_path_and_the_last_takes_the_rest():
    tx = like_torch.SGD([{"params": "bias$", "lr": 0.5}, {"params": ["^norm/", "scale"], "lr": 0.25}, {}], lr=1.0)
    updates = one_step(tx)
    np.testing.assert_array_equal(updates["dense"]["kernel"], -0.5 * jnp.ones((3, 2)))
    np.testing.assert_array_equal(updates["dense"]["bias"], -0.25 * jnp.ones(2))
    np.testing.assert_array_equal(updates["norm"]["scale"], -0.125 * jnp.ones(2))


def test_a_group_gets_the_defaults_of_the_call():
    tx = like_torch.AdamW([{"params": "bias|scale", "weight_decay": 0.0}, {}], lr=0.1, weight_decay=1.0)
    assert [group["weight_decay"] for group in tx.groups] == [0.0, 1.0]
    assert [group["lr"] for group in tx.groups] == [0.1, 0.1]
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates = one_step(tx, gradients=zero)
    assert not updates["dense"]["bias"].any()
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.1)


def test_groups_see_missing_gradients():
    tx = jl.count_by_leaf(like_torch.Adam([{"params": "bias", "lr": 0.5}, {}], lr=1.0))
    state = tx.init(PARAMS)
    gradients = {**GRADIENTS, "dense": {**GRADIENTS["dense"], "bias": None}}
    updates, state = tx.update(gradients, state, PARAMS)
    assert not updates["dense"]["bias"].any()
    updates, state = tx.update(GRADIENTS, state, PARAMS)
    np.testing.assert_allclose(updates["dense"]["bias"], -0.5, rtol=1e-6)  # Adam's first step


def test_groups_work_in_jit_and_chain():
    tx = optax.chain(optax.clip(0.1), like_torch.SGD([{"params": "kernel", "lr": 2.0}, {}], lr=1.0))
    updates, _ = jax.jit(tx.update)(GRADIENTS, jax.jit(tx.init)(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.2, rtol=1e-6)


def test_the_parts_of_a_complex_parameter_are_two_parameters():
    z = jnp.array([1 + 2j, -3 + 0.5j])
    g = jnp.array([0.1 - 5j, 2 + 0j])
    tx = like_torch.Adam(lr=0.1)
    update = one_step(tx, z, g)
    parts = one_step(like_torch.Adam(lr=0.1), (z.real, z.imag), (g.real, g.imag))
    np.testing.assert_array_equal(update, jax.lax.complex(*parts))
    assert abs(update[0].real) == pytest.approx(0.1, rel=1e-5)  # with |g|² it would be a fiftieth of it


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: like_torch.Adam(PARAMS), TypeError, "Adam: params must be None or a list of groups"),
        (lambda: like_torch.Adam([PARAMS["dense"]["kernel"]]), TypeError, "the parameters themselves are given to init"),
        (lambda: like_torch.Adam([{"params": "a", "rate": 1.0}]), TypeError, r"group 0 has the unknown options \['rate'\]"),
        (lambda: like_torch.Adam([{"params": "("}]), ValueError, r"group 0: '\(' is not a regular expression"),
        (lambda: like_torch.Adam([{}, {"lr": 1.0}]), ValueError, "only one group can take the rest"),
        (
            lambda: like_torch.Adam([{"params": "b", "betas": (0.9, 1.0)}, {}]),
            ValueError,
            r"Adam: group 0: betas\[1\] must lie in \[0, 1\)",
        ),
        (lambda: like_torch.Adam(lr=-1.0), ValueError, r"Adam: lr must lie in \[0, inf\)"),
        (lambda: like_torch.Adam(learning_rate=1.0), TypeError, "Adam: got an unexpected keyword argument 'learning_rate'"),
        (lambda: like_torch.SGD(nesterov=True), ValueError, "nesterov needs momentum and zero dampening"),
        (lambda: like_torch.SGD(momentum=0.9, dampening=0.1, nesterov=True), ValueError, "nesterov needs momentum"),
        (lambda: like_torch.Adafactor(d=0.5), ValueError, r"d must lie in \[1, inf\), got 0.5"),
        (lambda: like_torch.Muon(adjust_lr_fn="arbitrary"), ValueError, "adjust_lr_fn is None, 'original' or"),
        (lambda: like_torch.Muon(ns_steps=100), ValueError, r"ns_steps must lie in \[0, 100\)"),
        (lambda: like_torch.Muon(adjust_lr_fn=["original"]), TypeError, "Muon: adjust_lr_fn must be a string, got"),
        (lambda: like_torch.LBFGS([{}]), ValueError, "LBFGS takes all parameters together"),
        (lambda: like_torch.LBFGS(line_search_fn="armijo"), ValueError, "strong_wolfe"),
        (lambda: like_torch.LBFGS(max_iter="a"), TypeError, "LBFGS: max_iter must be an integer, got 'a'"),
        (lambda: like_torch.LBFGS(max_eval=0), ValueError, r"LBFGS: max_eval must lie in \[1, inf\), got 0"),
        (lambda: like_torch.LBFGS(tolerance_grad=jnp.ones(())), TypeError, "LBFGS: tolerance_grad must be a number"),
        (lambda: like_torch.Adam(betas=0.9), TypeError, "Adam: betas must be 2 values, got 0.9"),
        (lambda: like_torch.Adam(betas=(0.9, 0.99, 0.999)), TypeError, "Adam: betas must be 2 values"),
        (lambda: like_torch.Adam(amsgrad="no"), TypeError, "Adam: amsgrad must be True or False, got 'no'"),
        (lambda: like_torch.Adam(maximize=1), TypeError, "Adam: maximize must be True or False, got 1"),
        (lambda: like_torch.Muon(ns_coefficients=(1.0, 2.0)), TypeError, "Muon: ns_coefficients must be 3 values"),
        (lambda: like_torch.Muon(ns_steps=5.0), TypeError, "Muon: ns_steps must be an integer, got 5.0"),
        (lambda: like_torch.Muon(ns_steps=jnp.array(5)), TypeError, "optax.inject_hyperparams leaves alone .* static_args"),
        (lambda: like_torch.Muon(output_axis=0), ValueError, r"Muon: output_axis must lie in \[-2, -1\], got 0"),
        (lambda: like_torch.Adam([{"params": [0]}]), TypeError, "Adam: group 0 must be a regular expression or a list"),
        (lambda: like_torch.Adam([{"params": []}, {}]), ValueError, "Adam: group 0 has no patterns"),
        (
            lambda: like_torch.Adafactor(beta2_decay=lambda count: -0.8),
            TypeError,
            "Adafactor: beta2_decay: a number is needed, not a schedule",
        ),
        (lambda: like_torch.Muon(ns_steps=lambda count: 5), TypeError, "Muon: ns_steps: an integer is needed, not a sched"),
    ],
)
def test_wrong_arguments_are_refused_at_construction(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"params": "bias"}], "the parameter 'dense/kernel' is in no group"),
        ([{"params": "bias"}, {"params": "dense"}, {}], r"the parameter 'dense/bias' is in the groups \[0, 1\]"),
        ([{"params": "biases"}, {}], "Adam: group 0: no parameter matches 'biases'; there are 'dense/bias', 'dense/kernel'"),
        ([{"params": ["bias", "biases"]}, {}], "Adam: group 0: no parameter matches 'biases'"),
    ],
)
def test_wrong_groups_are_refused_when_the_parameters_are_known(groups, message):
    with pytest.raises(ValueError, match=message):
        like_torch.Adam(groups).init(PARAMS)


@pytest.mark.parametrize("name", ["Adafactor", "Muon", "SparseAdam"])
def test_complex_parameters_are_refused_where_torch_refuses_them(name):
    with pytest.raises(TypeError, match=f"{name} does not take complex parameters, as in PyTorch: 'w'"):
        getattr(like_torch, name)().init({"w": jnp.ones((2, 2), jnp.complex64)})


def test_sparse_adam_steps_rows_with_a_zero_as_a_whole():
    params = jnp.ones((2, 2))
    gradients = [jnp.asarray([[1.0, 1.0], [0.0, 0.0]]), jnp.asarray([[0.0, 1.0], [0.0, 0.0]])]
    last = []
    for tx in (like_torch.SparseAdam(lr=0.1), like_torch.Adam(lr=0.1)):
        state = tx.init(params)
        for g in gradients:
            updates, state = tx.update(g, state, params)
        last.append(updates)
    np.testing.assert_allclose(last[0], last[1], rtol=1e-5)
    assert last[0][0, 0] != 0


def test_muon_names_the_parameter_that_is_no_matrix():
    with pytest.raises(ValueError, match=r"Muon takes matrices only, as in PyTorch: 'dense/bias' has shape \(2,\)"):
        like_torch.Muon().init(PARAMS)


# What lies outside each range, with the argument's name in the error.
OUTSIDE = [
    *((name, {"lr": -1.0}) for name in like_torch.__all__ if name != "TorchOptimizer"),
    *((name, {"weight_decay": -1.0}) for name in ("SGD", "Adam", "ASGD", "Adafactor", "Muon", "RMSprop")),
    *(
        (name, {"betas": betas})
        for name in ("Adam", "NAdam", "RAdam", "Adamax", "SparseAdam")
        for betas in [(1.0, 0), (0, 1)]
    ),
    *((name, {"eps": -1.0}) for name in ("Adagrad", "RMSprop", "Adadelta", "Adam", "NAdam", "RAdam", "Adamax", "Muon")),
    *((name, {"momentum": 1.0}) for name in ("SGD", "RMSprop", "Muon")),
    ("SGD", {"dampening": 1.5}),
    ("Adagrad", {"lr_decay": -1.0}),
    ("Adagrad", {"initial_accumulator_value": -1.0}),
    ("RMSprop", {"alpha": 1.0}),
    ("Adadelta", {"rho": 1.0}),
    ("Adadelta", {"eps": 0.0}),
    ("NAdam", {"momentum_decay": -1.0}),
    *(("ASGD", {key: -1.0}) for key in ("lambd", "alpha", "t0")),
    *(("Rprop", {"etas": etas}) for etas in [(1.0, 1.2), (0.5, 1.0)]),
    *(("Rprop", {"step_sizes": sizes}) for sizes in [(-1.0, 50), (1e-6, -1.0)]),
    ("Adafactor", {"beta2_decay": 0.8}),
    *(("Adafactor", {"eps": eps}) for eps in [(-1.0, 1e-3), (None, -1.0)]),
]


@pytest.mark.parametrize(("name", "options"), OUTSIDE, ids=str)
def test_what_is_out_of_range_is_named_as_in_pytorch(name, options):
    ((key, _),) = options.items()
    with pytest.raises(ValueError, match=rf"^{name}: {key}(\[[01]\])? must lie in [\[(]"):
        getattr(like_torch, name)(**options)


def test_a_schedule_s_first_value_is_named_as_in_pytorch():
    with pytest.raises(ValueError, match=r"RMSprop: alpha must lie in \[0, 1\), got 1.0"):
        like_torch.RMSprop(alpha=lambda count: 1.0 + count)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda schedule: like_torch.AdamW(lr=schedule), "AdamW: lr"),
        (lambda schedule: like_torch.SGD(momentum=schedule), "SGD: momentum"),
        (lambda schedule: like_torch.SGD([{"params": "bias", "lr": schedule}, {}]), "SGD: group 0: lr"),
        (lambda schedule: like_torch.LBFGS(lr=schedule), "LBFGS: lr"),
    ],
    ids=["alone", "momentum", "group", "LBFGS"],
)
def test_a_schedule_that_branches_in_python_is_named_as_in_pytorch(make, named):
    tx, params = make(lambda count: 0.1 if count < 10 else 0.01), {"bias": jnp.ones(2), "kernel": jnp.ones(2)}
    update = functools.partial(tx.update, value_fn=lambda params: params["bias"].sum())
    with pytest.raises(TypeError, match=f"^{named}: the schedule needs the value of the step count in Python"):
        jax.eval_shape(update, params, tx.init(params), params)


@pytest.mark.parametrize("hole", [None, optax.MaskedNode()], ids=str)
def test_a_group_keeps_its_parameters_whose_gradients_are_missing(hole):
    tx, params = like_torch.AdamW(GROUPED, lr=0.1), {"bias": jnp.ones(2), "kernel": jnp.ones(2)}
    updates, _ = tx.update({**params, "bias": hole}, tx.init(params), params)
    assert type(updates["bias"]) is type(hole)
    np.testing.assert_array_equal(updates["kernel"], tx.update(params, tx.init(params), params)[0]["kernel"])


GROUPED = [{"params": "bias"}, {}]


@pytest.mark.parametrize("tx", [like_torch.Adam(), like_torch.Adam(GROUPED), like_torch.Muon()], ids=["one", "two", "real"])
@pytest.mark.parametrize(
    "other", [like_torch.RAdam(), like_torch.SGD(GROUPED), optax.adam(0.1)], ids=["one", "two", "optax"]
)
def test_swapped_arguments_and_foreign_states_are_told(tx, other):
    params = {"bias": jnp.ones((2, 2)), "kernel": jnp.ones((2, 3))}
    with pytest.raises(TypeError, match=f"^{tx.name}: an optimizer state came first; the order is update"):
        tx.update(tx.init(params), params, params)
    with pytest.raises(TypeError, match=f"^{tx.name}: an optimizer state came last; the order is update"):
        tx.update(params, params, tx.init(params))
    with pytest.raises(TypeError, match=f"^{tx.name}: this is not a state that the optimizer's init makes"):
        tx.update(params, other.init(params), params)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", [like_torch.Adam, like_torch.LBFGS])
def test_float64_of_numpy_is_taken_as_jax_takes_it(make):
    params, tx = {"w": np.ones(3)}, make()
    updates, _ = tx.update(params, tx.init(params), params, value_fn=lambda params: (params["w"] ** 2).sum())
    assert updates["w"].dtype == "float32"


def test_python_numbers_are_parameters_too():
    params = {"w": 1.0}
    for make in (like_torch.SparseAdam, like_torch.Adam):
        tx = make(lr=0.1)
        np.testing.assert_allclose(tx.update(params, tx.init(params), params)[0]["w"], -0.1, rtol=1e-6)


def test_other_errors_of_update_stay_what_they_are():
    tx = jl.count_by_leaf(like_torch.Adam())
    with pytest.raises(ValueError, match=r"the gradient has shape \(3,\)"):
        tx.update({"w": jnp.ones(3)}, tx.init({"w": jnp.ones(2)}), {"w": jnp.ones(2)})
    decayed = like_torch.SGD(weight_decay=0.1)
    with pytest.raises(ValueError, match="params"):
        decayed.update({"w": jnp.ones(2)}, decayed.init({"w": jnp.ones(2)}))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda tx: jax.tree.map(lambda x: x, tx)])
def test_a_copy_is_the_same_optimizer(again):
    tx = like_torch.Adam([{"params": "bias", "lr": 0.5}, {}], lr=1.0)
    copied = again(tx)
    assert (type(copied), copied.name, copied.groups) == (like_torch.TorchOptimizer, "Adam", tx.groups)
    jax.tree.map(np.testing.assert_array_equal, one_step(copied), one_step(tx))


def test_an_nnx_optimizer_can_be_copied():
    optimizer = nnx.Optimizer(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), like_torch.Adam(), wrt=nnx.Param)
    assert copy.deepcopy(optimizer).tx.name == "Adam"


@pytest.mark.parametrize(
    ("make", "static", "options"),
    [
        (like_torch.SGD, (), {"momentum": 0.9, "nesterov": True}),
        (like_torch.Adafactor, (), {"weight_decay": 0.1}),
        (like_torch.Muon, ("ns_steps", "output_axis"), {}),
    ],
)
def test_hyperparameters_can_be_injected(make, static, options):
    params = {"w": jnp.array([[1.0, 2.0], [3.0, -1.0]])}
    injected = optax.inject_hyperparams(make, static_args=static)(lr=0.1, **options)
    updates, expected = (jax.jit(lambda tx=tx: one_step(tx, params, params))() for tx in (injected, make(lr=0.1, **options)))
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-6)


def test_an_attribute_called_value_is_part_of_the_path():
    class Attention(NamedTuple):
        query: jax.Array
        value: jax.Array

    params = Attention(jnp.ones(2), jnp.ones(2))
    updates = one_step(like_torch.SGD([{"params": "^value$", "lr": 0.5}, {}], lr=1.0), params, params)
    assert (updates.query[0], updates.value[0]) == (-1.0, -0.5)


@pytest.mark.parametrize("shape", [(0, 3), (0,)])
def test_empty_arrays_are_parameters_too(shape):
    tx = like_torch.LBFGS(line_search_fn="strong_wolfe")
    params = {"empty": jnp.ones(shape), "w": jnp.ones(2)}

    def loss(params):
        return sum(jnp.sum(p**2) for p in jax.tree.leaves(params))

    for tree in (params, {"empty": params["empty"]}):
        updates, _ = tx.update(jax.grad(loss)(tree), tx.init(tree), tree, value_fn=loss)
        assert updates["empty"].shape == shape
        assert "w" not in tree or jnp.allclose(updates["w"], -1)


@pytest.mark.parametrize("steps", [0, 1])
def test_the_state_of_lbfgs_can_be_donated(steps):
    w, tx = jnp.ones(2), like_torch.LBFGS(max_iter=2)

    def step(state):
        return tx.update(2 * w, state, w, value_fn=lambda w: jnp.sum(w**2))[1]

    state = tx.init(w)
    for _ in range(steps):
        state = step(state)
    jax.block_until_ready(jax.jit(step, donate_argnums=0)(state))


def test_options_that_choose_an_implementation_change_nothing():
    plain = one_step(like_torch.Adam(lr=0.1))
    chosen = one_step(like_torch.Adam(lr=0.1, foreach=True, fused=False, capturable=True, differentiable=True))
    jax.tree.map(np.testing.assert_array_equal, plain, chosen)


def test_hyperparameters_are_set_in_the_state():
    tx = like_torch.SGD(lr=0.1)
    state = optax.tree.set(tx.init(PARAMS), learning_rate=jnp.float32(0.4))
    updates, _ = tx.update(GRADIENTS, state, PARAMS)
    np.testing.assert_allclose(updates["norm"]["scale"], -0.2)


def test_groups_find_the_parameters_of_an_nnx_model():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    before = model.bias[...], model.kernel[...]
    optimizer = nnx.Optimizer(model, like_torch.SGD([{"params": "bias$", "lr": 0.0}, {}], lr=1.0), wrt=nnx.Param)
    optimizer.update(model, nnx.grad(lambda model: model(jnp.ones((1, 2))).sum())(model))
    np.testing.assert_array_equal(model.bias[...], before[0])
    np.testing.assert_allclose(model.kernel[...], before[1] - 1, rtol=1e-6)


def test_muon_s_momentum_is_set_in_the_state():
    g = {"w": jnp.array([[1.0, 2.0], [3.0, -1.0]])}
    set_later, given = like_torch.Muon(), like_torch.Muon(momentum=0.5)
    states = [optax.tree.set(set_later.init(g), decay=jnp.float32(0.5)), given.init(g)]
    for scale in (1.0, -3.0):
        gradient = jax.tree.map(lambda x, scale=scale: scale * x.T, g)
        steps = [tx.update(gradient, state, g) for tx, state in zip((set_later, given), states, strict=True)]
        jax.tree.map(np.testing.assert_array_equal, steps[0][0], steps[1][0])
        jax.tree.map(np.testing.assert_array_equal, steps[0][1], steps[1][1])
        states = [state for _, state in steps]
