"""State dicts of older versions, with names, with groups, and of other packages, written by hand as NumPy arrays."""

import re

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_lec.compat import checkpoint
from jaxopt_lec.compat import torch as like_torch
from jaxopt_lec.compat.checkpoint import LINEAR, from_torch, to_torch

W = {"w": jnp.ones((2, 3))}
HALVES = np.full((2, 3), 0.5, np.float32)

# What PyTorch 1.7 saved of each class, or the version that it came with: options, and entries of a parameter.
ADAM = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.0}
MOMENTS = {"step": 7, "exp_avg": HALVES, "exp_avg_sq": 2 * HALVES}
IMPLEMENTATION = {"foreach": None, "maximize": False, "differentiable": False}
CAPTURABLE = {**IMPLEMENTATION, "capturable": False}
OLD = {
    "SGD": (
        {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0.1},
        {"momentum_buffer": HALVES},
        {**IMPLEMENTATION, "nesterov": False, "fused": False},
    ),
    "Adagrad": (
        {"lr": 0.1, "lr_decay": 0.1, "eps": 1e-4, "weight_decay": 0.1, "initial_accumulator_value": 0.2},
        {"step": 7, "sum": HALVES},
        {**IMPLEMENTATION, "fused": None},
    ),
    "RMSprop": (
        {"lr": 0.1, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1},
        {"step": 7, "square_avg": HALVES},
        {**CAPTURABLE, "momentum": 0, "centered": False},
    ),
    "Adadelta": (
        {"lr": 0.1, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1},
        {"step": 7, "square_avg": HALVES, "acc_delta": 2 * HALVES},
        CAPTURABLE,
    ),
    "Adam": (
        {**ADAM, "amsgrad": True},
        {**MOMENTS, "max_exp_avg_sq": 3 * HALVES},
        {**CAPTURABLE, "fused": None, "decoupled_weight_decay": False},
    ),
    "NAdam": (
        {**ADAM, "momentum_decay": 0.1},
        {**MOMENTS, "mu_product": 0.25},
        {**CAPTURABLE, "decoupled_weight_decay": False},
    ),
    "Adamax": (ADAM, {"step": 7, "exp_avg": HALVES, "exp_inf": 2 * HALVES}, CAPTURABLE),
    "ASGD": (
        {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 2.0, "weight_decay": 0.1},
        {"step": 7, "eta": 0.125, "mu": 0.2, "ax": HALVES},
        CAPTURABLE,
    ),
    "Rprop": (
        {"lr": 0.1, "etas": (0.25, 1.5), "step_sizes": (1e-3, 2.0)},
        {"step": 7, "prev": HALVES, "step_size": 2 * HALVES},
        CAPTURABLE,
    ),
    "SparseAdam": ({"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-4}, MOMENTS, {"maximize": False}),
}


def of_one(options, entries):
    return {"state": {0: entries}, "param_groups": [{**options, "params": [0]}]}


def same(ours, theirs):
    """Whether two entries have the same keys and numbers; an int and an array are the same number."""
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[key], np.float32(theirs[key])) for key in theirs)


# --- versions


@pytest.mark.parametrize("name", OLD)
def test_options_that_came_later_are_filled_in(name):
    options, entries, later = OLD[name]
    tx, state = from_torch(of_one(options, entries), W)
    assert tx.name == name
    assert tx.groups == ({**options, **later, "params": None},)
    assert same(to_torch(tx, state, W)["state"][0], entries)


@pytest.mark.parametrize("later", ["foreach", "maximize", "capturable", "differentiable", "fused", "amsgrad"])
def test_each_version_between_loads(later):
    options, entries, _ = OLD["Adam"]
    full = {**options, **OLD["Adam"][2], "amsgrad": False}
    del full[later]
    entries = {key: x for key, x in entries.items() if key != "max_exp_avg_sq"}
    tx, state = from_torch(of_one({**full, "initial_lr": 0.1}, entries), W)
    assert (tx.name, tx.groups[0][later]) == ("Adam", None if later in ("foreach", "fused") else False)
    assert same(to_torch(tx, state, W)["state"][0], entries)


def test_adam_and_adamw_of_older_versions_are_told_apart_by_the_caller():
    decaying = of_one({**ADAM, "amsgrad": False, "weight_decay": 0.1}, MOMENTS)
    message = (
        r"param_groups\[0\] has the options that Adam and AdamW both had .*; Adam has also decoupled_weight_decay=False "
        r"today, AdamW True. Give optimizer='Adam' or optimizer='AdamW'"
    )
    with pytest.raises(ValueError, match=message):
        from_torch(decaying, W)
    with pytest.raises(ValueError, match=message):  # a decay that comes with the call
        from_torch(of_one({**ADAM, "amsgrad": False}, MOMENTS), W, weight_decay=0.1)
    assert from_torch(of_one(FULL | {"decoupled_weight_decay": True}, MOMENTS), W, optimizer="Adam")[0].name == "Adam"
    for name in ("Adam", "AdamW"):
        tx, state = from_torch(decaying, W, optimizer=name)
        assert tx.name == name
        back = to_torch(tx, state, W)
        assert back["param_groups"][0]["decoupled_weight_decay"] is (name == "AdamW")
        assert same(back["state"][0], MOMENTS)
        assert from_torch(back, W)[0].name == name
    tx, _ = from_torch(decaying, W, decoupled_weight_decay=True)
    assert tx.groups[0]["decoupled_weight_decay"] is True
    assert from_torch(decaying, W, weight_decay=0.0)[0].name == "Adam"  # without decay they are one


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RAdam"])
def test_radam_of_older_versions_is_told_apart_by_the_caller(name):
    with pytest.raises(ValueError, match=r"that Adam and AdamW and RAdam all had.*; Adam has also \['amsgrad'.*optimizer="):
        from_torch(of_one(ADAM, MOMENTS), W)
    assert from_torch(of_one(ADAM, MOMENTS), W, optimizer=name)[0].name == name


@pytest.mark.parametrize(
    ("options", "optimizer", "message"),
    [
        ({**ADAM, "amsgrad": False}, "Adamw", "optimizer must be one of ASGD, Adadelta, .* got 'Adamw'"),
        ({**ADAM, "amsgrad": False}, "RAdam", "optimizer is 'RAdam', but the state dict has the options .* of Adam"),
        (ADAM, "Adamax", "optimizer is 'Adamax', but the state dict has the options and entries of Adam or RAdam"),
        (
            {**ADAM, **OLD["Adam"][2], "amsgrad": False},
            "AdamW",
            r"optimizer is 'AdamW', but param_groups\[0\] has decoupled_weight_decay=False, as Adam has",
        ),
    ],
)
def test_another_class_than_the_state_dicts_is_refused(options, optimizer, message):
    with pytest.raises(ValueError, match=message):
        from_torch(of_one(options, MOMENTS), W, optimizer=optimizer)


def test_velocities_that_are_none_are_none():
    options = {"lr": 0.1, "momentum": 0.0, "dampening": 0, "weight_decay": 0.1, "nesterov": False}
    tx, state = from_torch(of_one(options, {"momentum_buffer": None}), W)
    assert to_torch(tx, state, W)["state"] == {}


# --- names

NAMES = ["b.weight", "a.weight", "b.bias", "a.bias"]
SQUARES = {key: {"weight": jnp.ones((2, 2)), "bias": jnp.ones(2)} for key in "ab"}
KERNELS = {key: {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)} for key in "ab"}
FULL = {**ADAM, **OLD["Adam"][2], "amsgrad": False}


def moments(i, shape):
    """Entries whose numbers say which parameter they are of."""
    return {"step": np.float32(3), "exp_avg": np.full(shape, i, np.float32), "exp_avg_sq": np.full(shape, i, np.float32)}


SHAPES = [(2, 2), (2, 2), (2,), (2,)]


def named(sizes=(4,), names=NAMES, shapes=SHAPES):
    """A state dict whose groups have these numbers of parameters, and weight decays of 0.1, 0.2, ..."""
    numbers = iter(range(len(names or shapes)))
    groups = []
    for g, size in enumerate(sizes):
        params = [next(numbers) for _ in range(size)]
        own = {} if names is None else {"param_names": [names[i] for i in params]}
        groups.append({**FULL, "weight_decay": (g + 1) / 10, "params": params, **own})
    return {"state": {i: moments(i, shape) for i, shape in enumerate(shapes)}, "param_groups": groups}


def by_name(state_dict):
    """The form whose indices are names."""
    names = [name for group in state_dict["param_groups"] for name in group["param_names"]]
    groups = [{key: x for key, x in group.items() if key != "param_names"} for group in state_dict["param_groups"]]
    groups = [{**group, "params": [names[i] for i in group["params"]]} for group in groups]
    return {"state": {names[i]: x for i, x in state_dict["state"].items()}, "param_groups": groups}


def flattened(state_dict):
    nested = by_name(state_dict)
    flat = {f"state.{name}.{key}": x for name, entries in nested["state"].items() for key, x in entries.items()}
    for group in nested["param_groups"]:
        options = {key: x for key, x in group.items() if key != "params"}
        flat |= {f"param_groups.{name}.{key}": x for name in group["params"] for key, x in options.items()}
    return flat


def given_to(tx, state, path):
    """The number of the parameter whose averages this one has, and its weight decay."""
    node = optax.tree.get_all_with_path(state, "m")
    (m,) = [x for _, slots in node for key, x in checkpoint.named_leaves(slots) if key == path and hasattr(x, "shape")]
    (group,) = [g for g in tx.groups if g["params"] is None or any(re.search(at, path) for at in g["params"])]
    return int(m.ravel()[0]), group["weight_decay"]


FORMS = pytest.mark.parametrize("form", [lambda x: x, by_name, flattened], ids=["indices", "names", "flattened"])


@FORMS
@pytest.mark.parametrize("sizes", [(4,), (2, 2), (1, 2, 1)])
def test_names_say_which_parameter_it_is(form, sizes):
    saved = named(sizes)
    tx, state = from_torch(form(saved), SQUARES)
    decays = [(g + 1) / 10 for g, size in enumerate(sizes) for _ in range(size)]
    for i, name in enumerate(NAMES):
        assert given_to(tx, state, name.replace(".", "/")) == (i, decays[i])
    order = {"a.weight": ("a/kernel", LINEAR), "b.weight": ("b/kernel", LINEAR)}  # the other names are here too
    tx, state = from_torch(form(saved), KERNELS, order)
    for i, path in enumerate(["b/kernel", "a/kernel", "b/bias", "a/bias"]):
        assert given_to(tx, state, path) == (i, decays[i])
    # Back, PyTorch's own order and names, not those of the tree.
    for written in (to_torch(tx, state, KERNELS), to_torch(tx, state, KERNELS, order)):
        assert [group["params"] for group in written["param_groups"]] == [g["params"] for g in saved["param_groups"]]
        assert [group["param_names"] for group in written["param_groups"]] == [
            g["param_names"] for g in saved["param_groups"]
        ]
        assert all(same(written["state"][i], entries) for i, entries in saved["state"].items())


def test_a_name_that_is_known_is_not_written_for_another_parameter():
    tx, state = from_torch(named((2, 2)), SQUARES)
    message = "order has 'a/weight' where PyTorch has 'b.weight', which was 'b/weight' in from_torch: without an order"
    for order in (["a/weight", "b/weight", "b/bias", "a/bias"], {"b.weight": "a/weight", "a.weight": "b/weight"}):
        with pytest.raises(ValueError, match=message):
            to_torch(tx, state, SQUARES, order)


def test_names_may_be_the_keys_of_a_flat_tree():
    tx, state = from_torch(named(), dict(zip(NAMES, [jnp.ones(shape) for shape in SHAPES], strict=True)))
    assert [given_to(tx, state, name)[0] for name in NAMES] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("names", "params", "order", "message"),
    [
        (
            NAMES,
            KERNELS,
            None,
            "the state dict has the parameter 'b.weight', which is no path here: give order= as a dict from its names to "
            r"paths .*; its names are 'b.weight', 'a.weight', .*; the paths here are 'a/bias', 'a/kernel', ",
        ),
        (
            NAMES,
            SQUARES,
            ["a/weight", "b/weight", "a/bias", "b/bias"],
            "order has 'a/weight' where the state dict has 'b.weight': .*; its names are .*; the paths here are ",
        ),
        (NAMES, KERNELS, ["a/kernel", "b/kernel", "a/bias", "b/bias"], "order has 'a/kernel' where .* has 'b.weight'"),
        (NAMES, KERNELS, [["a/kernel", "b/kernel"], ["b/bias", "a/bias"]], "2 groups of 2 and 2 parameters, .* 1 of 4"),
        (
            NAMES,
            {**SQUARES, "c": jnp.ones(2)},
            None,
            "has 4 parameters, params has 5; its names are 'b.weight', .*; the paths here are 'a/bias', ",
        ),
        (
            NAMES,
            KERNELS,
            {"b.weigth": "b/kernel"},
            "order has the key 'b.weigth', which is not a name in the state dict; its",
        ),
        (NAMES, KERNELS, {"b.weight": "b/kernel", "a.weight": "b/kernel"}, "order names 'b/kernel' twice"),
        (NAMES, KERNELS, {"b.weight": "b/weight"}, "order names 'b/weight', but there is no such parameter; there are 'a/b"),
        (["a.weight", "a.weight", "b.bias", "a.bias"], SQUARES, None, "have the name 'a.weight' twice: \\['a.weight', "),
        (["a.weight", "b.weight", "b.bias", "x.bias"], SQUARES, None, "has the parameter 'x.bias', which is no path here"),
    ],
)
def test_names_that_contradict_are_refused(names, params, order, message):
    with pytest.raises(ValueError, match=message):
        from_torch(named(names=names), params, order)


@pytest.mark.parametrize("form", [lambda x: x, by_name], ids=["indices", "names"])
@pytest.mark.parametrize("params", [KERNELS, {"params": KERNELS}, {"net": KERNELS}], ids=["bare", "params", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "encoder."])
def test_what_wraps_a_model_hides_no_contradiction(prefix, params, form):
    outer = next(iter(params)) + "/" if params is not KERNELS else ""
    saved = form(named((2, 2), names=[prefix + name for name in NAMES]))
    order = [outer + path for path in ("b/kernel", "a/kernel", "b/bias", "a/bias")]
    tx, state = from_torch(saved, params, order)
    assert [given_to(tx, state, path)[0] for path in order] == [0, 1, 2, 3]
    for i, j in ((0, 1), (2, 3)):
        wrong = list(order)
        wrong[i], wrong[j] = order[j], order[i]
        with pytest.raises(ValueError, match=f"order has '{order[j]}' where the state dict has '{prefix}{NAMES[i]}': give"):
            from_torch(saved, params, wrong)


def test_an_order_that_agrees_with_the_names_is_taken():
    for params, last in ((SQUARES, "weight"), (KERNELS, "kernel")):
        tx, state = from_torch(named((2, 2)), params, [f"b/{last}", f"a/{last}", "b/bias", "a/bias"])
        assert given_to(tx, state, f"b/{last}") == (0, 0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda groups: groups[1].pop("param_names"),
            r"param_groups\[0\] has 'param_names', \['b.weight', .*\[1\] has none",
        ),
        (lambda groups: groups[0].pop("param_names"), r"param_groups\[1\] has 'param_names', \['b.bias', .*\[0\] has none"),
        (
            lambda groups: groups[1]["param_names"].pop(),
            r"param_groups\[1\] has 2 parameters, but the 'param_names' \['b.bias'",
        ),
        (lambda groups: groups[1].update(param_names=[0, 1]), r"param_groups\[1\] has 2 parameters, but .* \[0, 1\]"),
        (lambda groups: groups[1].update(params=["b.bias", "a.bias"]), r"param_groups\[1\] has the parameter 'b.bias'"),
    ],
)
def test_names_that_are_not_of_all_parameters_are_refused(change, message):
    saved = named((2, 2))
    change(saved["param_groups"])
    with pytest.raises(ValueError, match=message):
        from_torch(saved, SQUARES)


def test_names_that_are_indices_are_checked_too():
    saved = by_name(named((2, 2)))
    saved["param_groups"][0]["param_names"] = ["a.weight", "b.weight"]
    with pytest.raises(ValueError, match=r"param_groups\[0\] has the 'params' \['b.weight', .* 'param_names' \['a.weight'"):
        from_torch(saved, SQUARES)
    saved = by_name(named())
    saved["state"]["c.weight"] = saved["state"]["a.weight"]
    with pytest.raises(ValueError, match=r"there is a state of parameter 'c.weight', but only 4"):
        from_torch(saved, SQUARES)


# --- groups without names


def test_groups_without_names_need_a_list_each():
    saved = named((2, 2), names=None)
    as_the_model_has_them = ["b/weight", "b/bias", "a/weight", "a/bias"]
    for order in (None, as_the_model_has_them):
        with pytest.raises(
            ValueError, match=r"2 groups.*PyTorch numbers parameters group by group, .*of 2 and 2 paths|shape"
        ):
            from_torch(saved, SQUARES, order)
    order = [["b/weight", "a/weight"], [("b/bias", (0,)), "a/bias"]]
    tx, state = from_torch(saved, SQUARES, order)
    expected = {"b/weight": (0, 0.1), "a/weight": (1, 0.1), "b/bias": (2, 0.2), "a/bias": (3, 0.2)}
    assert {path: given_to(tx, state, path) for path in expected} == expected
    # On the way back PyTorch's numbers go group by group, however the paths are given.
    for again in (None, order, as_the_model_has_them):
        written = to_torch(tx, state, SQUARES, again)
        assert [group["params"] for group in written["param_groups"]] == [[0, 1], [2, 3]]
        assert all(same(written["state"][i], entries) for i, entries in saved["state"].items())
    with pytest.raises(ValueError, match="order has 'b/bias' in group 0 of 2, the optimizer in group 1 of 2"):
        to_torch(tx, state, SQUARES, [["b/weight", "b/bias"], ["a/weight", "a/bias"]])
    with pytest.raises(ValueError, match=r"order has 2 groups of 1 and 3 parameters, .* 2 of 2 and 2"):
        from_torch(saved, SQUARES, [["b/weight"], ["a/weight", "b/bias", "a/bias"]])


def test_one_list_is_enough_where_shapes_tell_the_groups_apart():
    flat = ["b/weight", "a/weight", "b/bias", "a/bias"]
    tx, state = from_torch(named((2, 2), names=None), SQUARES, flat)
    assert given_to(tx, state, "a/bias") == (3, 0.2)
    with pytest.raises(ValueError, match=r"'b/weight' and 'a/weight' have both the shape \(2, 2\). PyTorch numbers"):
        from_torch(named((1, 3), names=None), SQUARES, flat)
    without = named((2, 2), names=None)
    without["state"].pop(0), without["state"].pop(3)
    with pytest.raises(ValueError, match=r"'b/weight' and 'a/bias' have no state, whose shapes could tell. PyTorch numbers"):
        from_torch(without, SQUARES, flat)
    with pytest.raises(ValueError, match=r"'exp_avg' has shape .*another parameter's. PyTorch numbers them group by group"):
        from_torch(named((2, 2), names=None), SQUARES, ["b/bias", "a/bias", "b/weight", "a/weight"])
    foreign = [f"layers.{i}.{last}" for last in ("weight", "bias") for i in range(2)]  # names that say nothing here
    with pytest.raises(ValueError, match="have both the shape"):
        from_torch(named((1, 3), names=foreign), KERNELS, ["b/kernel", "a/kernel", "b/bias", "a/bias"])


def test_names_of_an_optimizer_that_was_made_here_are_written():
    tx = like_torch.AdamW([{"params": "bias", "weight_decay": 0.0}, {}])
    order = {f"{key}.{last}": f"{key}/{last}" for key in "ba" for last in ("weight", "bias")}
    groups = to_torch(tx, tx.init(SQUARES), SQUARES, order)["param_groups"]
    assert [(group["params"], group["param_names"]) for group in groups] == [
        ([0, 1], ["b.bias", "a.bias"]),
        ([2, 3], ["b.weight", "a.weight"]),
    ]


# --- other packages, and what is no state dict


@pytest.mark.parametrize(
    ("options", "entries", "message"),
    [
        (ADAM, {"step": 7, "state1": HALVES, "state2": HALVES, "qmap1": HALVES}, r"\['qmap1', 'state1', 'state2'\]"),
        ({**ADAM, "bias_correction": True, "step": 7}, MOMENTS, r"\['bias_correction', 'step'\]"),  # apex
        ({**ADAM, "correct_bias": True}, MOMENTS, r"\['correct_bias'\]"),  # Transformers
        ({"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.1}, {"exp_avg": HALVES}, r"Adam has also \['eps'\]"),  # Lion
        (
            {
                "lr": None,
                "eps": (1e-30, 1e-3),
                "weight_decay": 0.0,
                "clip_threshold": 1.0,
                "decay_rate": -0.8,
                "beta1": None,
                "scale_parameter": True,
                "relative_step": True,
                "warmup_init": False,
            },
            {"step": 7, "exp_avg_sq_row": HALVES[:, 0], "exp_avg_sq_col": HALVES[0], "RMS": 0.1},
            r"\['RMS', 'exp_avg_sq_col', 'exp_avg_sq_row'\]",
        ),
        ({**ADAM, "d": 1e-6, "d0": 1e-6, "k": 3, "decouple": True}, {}, r"\['d0', 'decouple', 'k'\]"),  # Prodigy
        ({**ADAM, "k": 3, "r": 0.0, "train_mode": True, "weight_sum": 1.0}, {"z": HALVES, "exp_avg_sq": HALVES}, r"\['z'\]"),
        ({**ADAM, "amsgrad": False, "caution": False}, MOMENTS, r"\['caution'\]"),  # timm
        (OLD["Adamax"][0], OLD["Rprop"][1], r"options of .*Adamax, but the state has the entries \['prev'"),
    ],
)
def test_other_packages_are_refused_by_what_they_have(options, entries, message):
    for state in (entries, {}) if "has also" in message else (entries,):
        with pytest.raises(ValueError, match=message) as caught:
            from_torch(of_one(options, state), W)
        assert "SparseAdam" not in str(caught.value)


def test_notes_beside_a_complete_group_are_ignored():
    tx, _ = from_torch(of_one({**FULL, "name": "decoder", "lr_scale": 0.5}, MOMENTS), W)
    assert tx.name == "Adam"
    with pytest.raises(ValueError, match=r"the options \['name'\], which .* added these options yourself, delete them"):
        from_torch(of_one({**ADAM, "amsgrad": False, "name": "decoder", "initial_lr": 0.1}, MOMENTS), W)


class Stateful:
    def state_dict(self):
        return named()


class Optimizer(Stateful):
    param_groups = ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "an empty dict"),
        ({"a.weight": HALVES}, "a dict of arrays only, like a model's state_dict, with the keys 'a.weight'"),
        ({"model": {"w": HALVES}, "optimizer": named(), "epoch": 3}, r"it contains one: give state_dict\['optimizer'\]$"),
        ({"g": named(), "d": flattened(named())}, r"give state_dict\['g'\] or state_dict\['d'\]$"),
        ({"optimizer_states": [named()], "epoch": 3}, r"give state_dict\['optimizer_states'\]\[0\]"),
        ({"scale": 2.0, "growth_factor": 2.0, "backoff_factor": 0.5, "_growth_tracker": 0}, "the state of a GradScaler"),
        ({"last_epoch": 3, "base_lrs": [0.1], "_step_count": 4}, "the state of a learning rate scheduler"),
        ({"state": {}, "lr": 1, "a": 1, "b": 1, "c": 1, "d": 1}, "with the keys 'state', 'lr', 'a', 'b', 'c', 'd'$"),
        (Stateful(), r"a Stateful; give the state_dict\(\) of the optimizer"),
        (Optimizer(), r"a Optimizer; give its state_dict\(\)"),
        (None, "a NoneType"),
        ([named()], "a list"),
        ({"state": {}, "param_groups": "Adam"}, "with the keys"),
    ],
)
def test_what_is_no_state_dict_of_an_optimizer_is_told(given, message):
    with pytest.raises(TypeError, match=f"not the state_dict of a PyTorch optimizer, which has .*: .*{message}"):
        from_torch(given, W)


class Sharded:
    """A tensor of which this process has a part; PyTorch refuses to make it an array of NumPy."""

    dtype, shape = np.dtype("float32"), (2, 3)

    def __array__(self, *_, **__):
        raise RuntimeError(".numpy() is not supported for tensor subclasses.")


def test_a_sharded_tensor_is_refused_with_the_way_to_a_whole_one():
    with pytest.raises(TypeError, match=r"Adam: 'w': 'exp_avg' is a Sharded, not a plain tensor .*full_state_dict=True"):
        from_torch(of_one(FULL, {**MOMENTS, "exp_avg": Sharded()}), W)


def test_a_path_that_is_none_is_named():
    with pytest.raises(FileNotFoundError, match="adam"):
        from_torch("adam", W)
