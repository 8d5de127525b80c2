"""cloudpickle sends optimizers that were already used to other processes, as Ray, submitit and Dask do."""

import copy
import pickle
import subprocess
import sys

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import programs
from test_laws import at_least, linear

import jaxopt_lec as jl
from jaxopt_lec import state
from jaxopt_lec.compat import keras, torch
from jaxopt_lec.slots import zeros

PARAMS = {"bias": np.linspace(-1, 1, 3, dtype=np.float32), "kernel": np.linspace(-1, 2, 6, dtype=np.float32).reshape(2, 3)}
GRADIENTS = jax.tree.map(lambda p: np.sin(3 * p) + np.float32(0.1), PARAMS)
USED = {"value_fn": linear, "slope": GRADIENTS}


def own():
    """An equation of the user's: as one of `__main__`, it travels with its code."""

    @jl.equation(v=zeros)
    def own_momentum(g, s, p, t, *, decay: jl.Decay = 0.9, look_ahead: bool = False):
        v = decay * s.v + g
        return (decay * v + g if look_ahead else v) / (1 - decay**t), {"v": v}

    return own_momentum


OWN = own()
TOOLS = {
    "own": lambda: optax.chain(OWN(decay=0.5, look_ahead=True), optax.scale(-0.1)),
    "schedule": lambda: jl.adam(optax.cosine_decay_schedule(0.1, 10)),
    "count_by_leaf": lambda: jl.count_by_leaf(jl.radam(0.1)),
    "mask": lambda: jl.adamw(0.1, mask=lambda tree: jax.tree.map(lambda x: jnp.ndim(x) > 1, tree)),
    "partition": lambda: optax.partition({"muon": jl.muon(0.1), "adam": jl.adam(0.1)}, {"bias": "adam", "kernel": "muon"}),
    "compress": lambda: state.compress(jl.momentum(0.1)),
    "torch": lambda: torch.AdamW(lr=0.1),
    "keras": lambda: keras.Muon(0.1, clipnorm=1.0, use_ema=True),
}


def after_a_step(tx):
    """The updates and the state of the first step, and that the optimizer was used eagerly and under jit."""
    before = tx.init(PARAMS)
    jax.eval_shape(lambda g: tx.update(g, before, PARAMS, **USED), GRADIENTS)
    return tx.update(GRADIENTS, before, PARAMS, **USED)


def assert_equal(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)


@pytest.mark.parametrize("case", programs(), ids=str)
def test_a_used_optimizer_travels(case):
    params = at_least(case, PARAMS)
    gradients = at_least(case, GRADIENTS)

    def shapes(tx):
        return jax.eval_shape(lambda g: tx.update(g, tx.init(params), params, value_fn=linear, slope=g), gradients)

    expected = shapes(case.tx)
    data = cloudpickle.dumps(case.tx)
    assert shapes(pickle.loads(data)) == expected
    assert len(data) < 50_000  # the code, and nothing that was traced


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_made_of_optimizers_travels(tool):
    tx = TOOLS[tool]()
    expected = after_a_step(tx)
    assert_equal(after_a_step(pickle.loads(cloudpickle.dumps(tx))), expected)
    assert_equal(copy.deepcopy(expected[1]), expected[1])
    assert_equal(after_a_step(copy.deepcopy(tx)), expected)
    assert_equal(cloudpickle.loads(cloudpickle.dumps(expected[1])), expected[1])


def test_a_fused_optimizer_travels():
    fused = jl.fuse(jl.sgd(0.1))
    expected = fused.step(PARAMS, fused.init(PARAMS), GRADIENTS)
    other = pickle.loads(cloudpickle.dumps(fused))
    assert_equal(other.step(PARAMS, other.init(PARAMS), GRADIENTS), expected)


def test_another_process_computes_the_same_numbers():
    def work(params, gradients):
        # A task that makes its optimizers itself carries the factory along; the other optimizer is made and used already.
        made = OWN(decay=0.25)
        return [jax.device_get(tx.update(gradients, tx.init(params), params)) for tx in (made, used)]

    used = optax.chain(jl.adamw(0.1, weight_decay=0.01), OWN(decay=0.5))
    expected = work(PARAMS, GRADIENTS)
    there = "import pickle, sys; work, *data = pickle.load(sys.stdin.buffer); pickle.dump(work(*data), sys.stdout.buffer)"
    done = subprocess.run(
        [sys.executable, "-c", there],
        input=cloudpickle.dumps((work, PARAMS, GRADIENTS)),
        capture_output=True,
        check=True,
    )
    assert_equal(pickle.loads(done.stdout), expected)
