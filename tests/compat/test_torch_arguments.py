"""The torch-like constructors: groups by path, arguments that are refused and with which words, states."""

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
    tx = like_torch.SGD([{"params": "bias$", "lr": 0.5}, {"params": ["^norm/", "nothing"], "lr": 0.25}, {}], lr=1.0)
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
        (lambda: like_torch.Adam([{"params": "b", "betas": (0.9, 1.0)}, {}]), ValueError, "Adam: .*b2 must lie in"),
        (lambda: like_torch.Adam(lr=-1.0), ValueError, "Adam: .*learning_rate must lie in"),
        (lambda: like_torch.Adam(learning_rate=1.0), TypeError, "learning_rate"),
        (lambda: like_torch.SGD(nesterov=True), ValueError, "nesterov needs momentum and zero dampening"),
        (lambda: like_torch.SGD(momentum=0.9, dampening=0.1, nesterov=True), ValueError, "nesterov needs momentum"),
        (lambda: like_torch.Adafactor(d=0.5), ValueError, r"d must lie in \[1, inf\), got 0.5"),
        (lambda: like_torch.Muon(adjust_lr_fn="arbitrary"), ValueError, "adjust_lr_fn is None, 'original' or"),
        (lambda: like_torch.Muon(ns_steps=100), ValueError, r"ns_steps must lie in \[0, 100\)"),
        (lambda: like_torch.LBFGS([{}]), ValueError, "LBFGS takes all parameters together"),
        (lambda: like_torch.LBFGS(line_search_fn="armijo"), ValueError, "strong_wolfe"),
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
        ([{"params": "biases"}, {}], "group 0 matches no parameter: 'biases'"),
    ],
)
def test_wrong_groups_are_refused_when_the_parameters_are_known(groups, message):
    with pytest.raises(ValueError, match=message):
        like_torch.Adam(groups).init(PARAMS)


@pytest.mark.parametrize("name", ["Adafactor", "Muon", "SparseAdam"])
def test_complex_parameters_are_refused_where_torch_refuses_them(name):
    with pytest.raises(TypeError, match=f"{name} does not take complex parameters, as in PyTorch: 'w'"):
        getattr(like_torch, name)().init({"w": jnp.ones((2, 2), jnp.complex64)})


def test_muon_names_the_parameter_that_is_no_matrix():
    tx = like_torch.Muon()
    with pytest.raises(ValueError, match=r"'dense/bias'.*only matrices can be orthogonalized, this leaf has shape \(2,\)"):
        tx.update(GRADIENTS, tx.init(PARAMS), PARAMS)


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
