"""Every optimizer of the frameworks is here, with its signature; options that choose an implementation have no effect."""

import inspect

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from record import OPTIMIZERS

from jaxopt_lec.compat import keras as ours_keras
from jaxopt_lec.compat import torch as ours_torch

IMPLEMENTATION = {"foreach": True, "fused": True, "capturable": True, "differentiable": True}


def parameters(function):
    """Name, kind and default of each argument; annotations are each side's own."""
    return [(q.name, q.kind, q.default) for q in inspect.signature(function).parameters.values()]


def optimizers_of(module, base):
    return {name for name, it in vars(module).items() if inspect.isclass(it) and issubclass(it, base) and it is not base}


def test_every_optimizer_of_pytorch_is_here(live_torch):
    assert optimizers_of(live_torch.optim, live_torch.optim.Optimizer) == set(OPTIMIZERS["torch"])
    assert set(OPTIMIZERS["torch"]) == set(ours_torch.__all__) - {"TorchOptimizer"}


def test_every_optimizer_of_keras_is_here(live_keras):
    around_others = {"LossScaleOptimizer", "MultiOptimizer"}  # the second is `optax.partition`
    theirs = optimizers_of(live_keras.optimizers, live_keras.optimizers.Optimizer)
    assert theirs - around_others == set(OPTIMIZERS["keras"])
    assert theirs - {"MultiOptimizer"} == {name for name in ours_keras.__all__ if hasattr(live_keras.optimizers, name)}


@pytest.mark.parametrize("name", OPTIMIZERS["torch"])
def test_signature_is_pytorchs(name, live_torch):
    (_, kind, _), *rest = parameters(getattr(live_torch.optim, name))
    ours = parameters(getattr(ours_torch, name))
    if name == "Muon":  # has arguments of its own behind PyTorch's
        assert all(kind is inspect.Parameter.KEYWORD_ONLY for _, kind, _ in ours[len(rest) + 1 :])
        ours = ours[: len(rest) + 1]
    assert ours == [("params", kind, None), *rest]


@pytest.mark.parametrize("name", OPTIMIZERS["keras"])
def test_signature_is_keras(name, live_keras):
    *theirs, (_, kind, _) = parameters(getattr(live_keras.optimizers, name))
    assert kind is inspect.Parameter.VAR_KEYWORD
    ours = parameters(getattr(ours_keras, name))
    # The optimizer's own arguments, at their places, and what all share, by keyword.
    by_position = [q[0] for q in ours if q[1] is not inspect.Parameter.KEYWORD_ONLY]
    assert by_position == [q[0] for q in theirs][: len(by_position)]
    defaults = {key: default for key, _, default in ours}
    assert defaults.pop("exclude_from_weight_decay") == ()
    assert defaults == {key: default for key, _, default in theirs}


def test_signature_of_the_loss_scale_is_keras(live_keras):
    *theirs, (_, kind, _) = parameters(live_keras.optimizers.LossScaleOptimizer)  # the rest is refused there
    assert kind is inspect.Parameter.VAR_KEYWORD
    assert parameters(ours_keras.LossScaleOptimizer) == theirs


def test_the_shared_options_have_types_for_type_checkers():
    around = inspect.signature(ours_keras._around).parameters.values()
    typed = ours_keras.KerasOptions.__annotations__.keys() | ours_keras.SharedOptions.__annotations__.keys()
    assert {q.name for q in around if q.kind is q.KEYWORD_ONLY} == typed


def steps(tx):
    """Parameters after three steps."""
    params = {"w": jnp.arange(6.0).reshape(2, 3) - 2}
    state = tx.init(params)
    for k in range(3):
        gradient = {"w": jnp.sin(params["w"] + k)}
        updates, state = tx.update(gradient, state, params, value_fn=lambda p, k=k: -jnp.sum(jnp.cos(p["w"] + k)))
        params = optax.apply_updates(params, updates)
    return np.asarray(params["w"])


@pytest.mark.parametrize("name", OPTIMIZERS["torch"])
def test_choosing_an_implementation_changes_nothing(name):
    make = getattr(ours_torch, name)
    known = inspect.signature(make).parameters
    plain = steps(make())
    rate = known["lr"].default
    for given in [{key: value} for key, value in IMPLEMENTATION.items() if key in known] + [{"lr": np.float64(rate)}]:
        np.testing.assert_array_equal(steps(make(**given)), plain, err_msg=str(given))
    np.testing.assert_allclose(steps(make(lr=jnp.asarray(rate, jnp.float32))), plain, rtol=1e-6)  # a tensor in PyTorch


def test_the_name_changes_nothing_in_keras():
    np.testing.assert_array_equal(steps(ours_keras.Adam(name="Adam the first")), steps(ours_keras.Adam()))
