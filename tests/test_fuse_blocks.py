"""A leaf whose state is encoded in blocks is one kernel on GPUs and TPUs, with the numbers of the plain step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lec as jl
from jaxopt_lec import state
from jaxopt_lec.fusing import fuse as fuse_module


@pytest.fixture(autouse=True)
def as_optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


def plain_step(tx):
    def step(params, s, g):
        updates, s = tx.update(g, s, params)
        return optax.apply_updates(params, updates), s

    return step


SMALL = {
    "adam": (state.compress(jl.adam(0.1)), jnp.float32),
    "optax": (state.compress(optax.adamw(0.1)), jnp.float32),
    "momentum": (state.compress(jl.momentum(0.1), state.blockwise_8bit), jnp.float32),
    "master": (state.master(state.compress(jl.adamw(0.1))), jnp.bfloat16),
}


def problem(dtype):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {"kernel": (32, 256), "cube": (3, 16, 128), "bias": (100,), "ragged": (50, 100)}
    params = {
        name: jax.random.normal(key, shape).astype(dtype) for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    return params, jax.tree.map(lambda p: (p * 0.3 + 0.1).astype(dtype), params)


def plan_of(tx, params, s, g):
    return fuse_module._Plan(jl.fuse(tx)._plain, params, s, g, {})


thorough = pytest.mark.thorough


# A TPU's kernel and a GPU's share all but their calls: in the short run each meets two optimizers.
@pytest.mark.parametrize(
    ("name", "platform"),
    [
        ("adam", "tpu"),
        ("master", "cuda"),
        ("momentum", "cuda"),
        ("optax", "tpu"),
        *(
            pytest.param(name, platform, marks=thorough)
            for name, platform in [("adam", "cuda"), ("master", "tpu"), ("momentum", "tpu"), ("optax", "cuda")]
        ),
    ],
)
def test_the_kernel_is_the_step(name, platform):
    tx, dtype = SMALL[name]
    params, g = problem(dtype)
    carry = (params, tx.init(params))
    for _ in range(2):  # so that no slot is zero
        carry = jax.jit(plain_step(tx))(*carry, g)
    plan = plan_of(tx, *carry, g)
    assert sorted(plan.names[blocks.positions[0]] for blocks in plan.blocks) == ["params/cube", "params/kernel"]
    program = plan.program
    known = dict(zip(program.inputs, jax.tree.leaves((*carry, g, {})), strict=True)) | program.consts
    known.update(zip(plan.read, program.evaluate(plan.with_xla, known, plan.read), strict=True))
    for blocks in plan.blocks:
        operands = [known[v] for v in blocks.operands]
        wanted = jax.jit(blocks.plain)(*operands)
        found = jax.jit(lambda *x, blocks=blocks: blocks.kernel(*x, interpret=platform))(*operands)
        for a, b in zip(found, wanted, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            if a.dtype == jnp.float32:
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
            else:
                # Rounded by chance, they differ by a unit where the last bit of float32 decides: in 1 of 256 of corrections,
                # which hold 16 bits of its 24, and in fewer codes. A parameter is the correction's carry.
                off = np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32))
                assert (off > 0).mean() < 2**-7
                assert off.max() <= 1 or a.dtype == jnp.int8


@pytest.mark.parametrize("name", ["master", *(pytest.param(name, marks=thorough) for name in SMALL if name != "master")])
@pytest.mark.filterwarnings("ignore:fuse")
def test_on_cpus_and_under_vmap_it_is_plain_xla(name):
    tx, dtype = SMALL[name]
    if name == "master":
        tx = state.master(state.compress(jl.adamw(0.1)), 32)  # with 24 bits a correction is rounded by chance
    params, g = problem(dtype)
    carry = (params, tx.init(params))
    fused = jl.fuse(tx)
    ours, theirs = carry, carry
    for _ in range(3):
        ours, theirs = jax.jit(fused.step)(*ours, g), jax.jit(plain_step(tx))(*theirs, g)
    if name == "master":  # the low bits too: a bfloat16 alone may be one of two neighbors
        ours, theirs = ((state.master_parameters(*run), run[1]) for run in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours[0], theirs[0])
    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), g)
    both, _ = jax.jit(jax.vmap(fused.step, in_axes=(None, None, 0)))(*carry, stacked)
    one, _ = jax.jit(plain_step(tx))(*carry, g)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.float32(a[0]), np.float32(b), rtol=1e-5, atol=1e-5), both, one)
    assert "one kernel on GPUs and TPUs, XLA's on CPUs: params/kernel" in fused.explain(params)


def test_what_is_not_block_by_block_is_left_alone():
    mixing = optax.stateless(lambda updates, params: jax.tree.map(lambda u: u - jnp.mean(u, axis=0), updates))
    tx = state.compress(optax.chain(jl.adam(0.1), mixing))
    params, g = problem(jnp.float32)
    del params["bias"], params["ragged"], g["bias"], g["ragged"]
    s = tx.init(params)
    carry = jax.jit(plain_step(tx))(params, s, g)
    with pytest.warns(UserWarning, match="not element-wise"):
        ours = jax.jit(jl.fuse(tx).step)(params, s, g)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=1e-5, atol=1e-5), ours, carry)
