"""`fuse`: one loop over memory gives the numbers of `update` and `apply_updates`, whatever the transformation is."""

import re
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES, kinds_and_numbers
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

import jaxopt_lec as jl
from jaxopt_lec import state
from jaxopt_lec.arithmetic import ema
from jaxopt_lec.fusing import fuse as fuse_module
from jaxopt_lec.fusing import runtime
from jaxopt_lec.slots import zeros

fuse = jl.fuse


@pytest.fixture(autouse=True)
def as_optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


def problem(steps=3, dtype=jnp.float32, min_ndim=0):
    rng = np.random.default_rng(0)
    shapes = {"kernel": (37, 5), "bias": (5,), "head": [(37, 5), (6, 7) if min_ndim else (2, 3, 7)], "scale": ()}
    params = jax.tree.map(
        lambda shape: jnp.asarray(rng.standard_normal((1,) * (min_ndim - len(shape)) + shape), dtype),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    gradients = [jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape), dtype), params) for _ in range(steps)]
    return params, gradients


def linear(params, slope):
    return sum(jnp.sum(s * p) for s, p in zip(jax.tree.leaves(slope), jax.tree.leaves(params), strict=True))


def plain_step(tx):
    def step(params, s, g, **extra):
        updates, s = optax.with_extra_args_support(tx).update(g, s, params, **extra)
        return optax.apply_updates(params, updates), s

    return step


def run(step, carry, gradients, **extra):
    for g in gradients:
        carry = step(*carry, g, **extra)
    return carry


def assert_same(ours, theirs, ulps=16, atol=1e-7):
    """To a few roundings: XLA and LLVM contract and order products differently."""

    def compare(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        if jnp.issubdtype(a.dtype, jnp.floating):
            eps = float(jnp.finfo(a.dtype).eps)
            np.testing.assert_allclose(np.float64(a), np.float64(b), rtol=ulps * eps, atol=atol)
        else:
            np.testing.assert_array_equal(a, b)

    jax.tree.map(compare, ours, theirs)


@pytest.mark.parametrize("case", kinds_and_numbers())
@pytest.mark.filterwarnings("ignore:fuse")
def test_every_optimizer_steps_as_with_xla(case):
    params, gradients = problem(min_ndim=case.min_ndim)
    start = (params, case.tx.init(params))
    fused, plain = fuse(case.tx), plain_step(case.tx)
    needs_loss = "value_fn" in case.needs

    def jitted(step):
        return jax.jit(lambda p, s, g: step(p, s, g, **({"value_fn": linear, "slope": g} if needs_loss else {})))

    ours, theirs = (run(jitted(step), start, gradients) for step in (fused.step, plain))
    # Where a number comes from a sum of larger ones, it has their rounding.
    summed = case.mixes or "float32" in case.skip
    assert_same(ours, theirs, ulps=64 if summed else 16, atol=3e-6 if summed else 2e-7)


ELEMENTWISE = {
    "adam": (optax.adam(0.1), 28),
    "adamw": (jl.adamw(0.1), 28),
    "momentum": (jl.momentum(0.1), 20),
    "nesterov": (optax.sgd(0.1, momentum=0.9, nesterov=True), 20),
    "rmsprop": (optax.rmsprop(0.1), 20),
    "adadelta": (jl.adadelta(0.1), 28),
    "lion": (jl.lion(0.1), 20),
    "amsgrad": (jl.amsgrad(0.1), 36),
    "sgd": (jl.sgd(0.1), 12),
    "clipped": (optax.chain(optax.clip_by_global_norm(0.5), optax.clip(0.1), jl.adam(0.1)), 28),
    "scheduled": (optax.adamw(optax.cosine_decay_schedule(0.1, 5)), 28),
    "injected": (optax.inject_hyperparams(optax.adam)(0.1), 28),
    "master": (state.master(jl.sgd(0.1), 32), 10),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_what_is_elementwise_is_one_loop_with_the_least_bytes(name):
    tx, least = ELEMENTWISE[name]
    params, gradients = problem(dtype=jnp.bfloat16 if name == "master" else jnp.float32)
    del params["scale"], gradients[0]["scale"], gradients[1]["scale"], gradients[2]["scale"]
    fused = fuse(tx)
    explained = fused.explain(params)
    assert re.search(rf"^one loop over 4 leaves, {least} bytes for each number: params/bias", explained), explained
    assert "whole arrays" not in explained
    start = (params, tx.init(params))
    ours, theirs = (run(jax.jit(step), start, gradients) for step in (fused.step, plain_step(tx)))
    if name == "master":  # the correction holds the parameter's low bits: only together are they a number
        ours, theirs = ((state.master_parameters(p, s), s.count, s.inner) for p, s in (ours, theirs))
    assert_same(ours, theirs)


def test_leaves_that_are_treated_differently_are_found_so():
    params, gradients = problem()
    masked = optax.masked(optax.adamw(0.1, weight_decay=0.3), jax.tree.map(lambda p: p.ndim > 1, params))
    parts = optax.partition({"a": optax.adam(0.1), "b": optax.sgd(0.5)}, jax.tree.map(lambda p: "ab"[p.ndim > 1], params))
    for tx in (masked, parts, optax.adamw(0.1, mask=jax.tree.map(lambda p: p.ndim > 1, params))):
        start = (params, tx.init(params))
        assert_same(run(jax.jit(fuse(tx).step), start, gradients), run(jax.jit(plain_step(tx)), start, gradients))


def test_an_update_that_is_one_call_still_has_a_loop_for_each_leaf():
    adam = optax.adam(0.1)
    called = optax.GradientTransformation(adam.init, jax.jit(adam.update))
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones((3, 4))}
    assert "one loop over 2 leaves, 28 bytes" in fuse(called).explain(params)


def test_a_call_does_not_read_what_it_does_not_need():
    @jax.jit
    def with_more(g, p, unneeded):
        return g * 2 - p, g + p

    def update(updates, state, params):
        both = jax.tree.map(with_more, updates, params, state)
        return jax.tree.map(lambda x: x[0] + x[1], both, is_leaf=lambda x: isinstance(x, tuple)), state

    tx = optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)
    params, gradients = problem()
    fused = fuse(tx)
    assert "one loop over 4 leaves, 12 bytes" in fused.explain(params)
    start = (params, tx.init(params))
    assert_same(run(jax.jit(fused.step), start, gradients), run(jax.jit(plain_step(tx)), start, gradients))


def test_a_call_may_hold_calls_that_hold_constants():
    constants = jnp.arange(8.0)

    @jax.jit
    def scaled(x):
        return x * constants

    update = jax.jit(lambda g: scaled(g) + 1)
    params = {"a": jnp.ones(8), "b": 2 * jnp.ones(8)}
    fused = fuse(optax.stateless(lambda updates, params: jax.tree.map(update, updates)))
    new, _ = jax.jit(fused.step)(params, fused.init(params), params)
    np.testing.assert_array_equal(new["b"], 3 + 2 * np.arange(8))


def test_an_equation_of_ones_own():
    @jl.equation(m=zeros)
    def scale_by_mine(g, s, p, t, *, b: float = 0.9, floor: float = 1e-3):
        m = ema(s.m, jnp.tanh(g), b)
        return jnp.where(jnp.abs(m) > floor, jnp.sign(m) * jnp.log1p(jnp.abs(m)), 0) + jnp.maximum(m, -0.5) ** 3, {"m": m}

    tx = optax.chain(scale_by_mine(), optax.scale(-0.1))
    params, gradients = problem()
    fused = fuse(tx)
    assert "one loop over 4 leaves, 20 bytes" in fused.explain(params)
    start = (params, tx.init(params))
    assert_same(run(jax.jit(fused.step), start, gradients), run(jax.jit(plain_step(tx)), start, gradients))


@pytest.mark.parametrize(
    "tx",
    [
        optax.chain(optax.add_noise(0.1, 0.5, key=1), optax.adam(0.1)),
        jl.muon(0.1),
        optax.apply_if_finite(optax.adam(0.1), 2),
        state.compress(jl.adam(0.1), where=lambda name, x: len(x.shape) > 0),
    ],
    ids=["noise", "muon", "conditional", "compressed"],
)
def test_what_is_not_elementwise_stays_with_xla_and_is_said(tx):
    params, gradients = problem(min_ndim=2)
    start = (params, tx.init(params))
    fused = fuse(tx)
    assert "whole arrays with XLA: " in fused.explain(params)
    with pytest.warns(
        UserWarning, match="not element-wise, so that XLA computes whole arrays: .* (read for|which gives) (params|state)/"
    ):
        ours = run(jax.jit(fused.step), start, gradients)
    assert_same(ours, run(jax.jit(plain_step(tx)), start, gradients), atol=3e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.jit(fused.step)(*start, gradients[0])


def test_bfloat16():
    """Optax computes in bfloat16: each operation is rounded in the loop, and in XLA's program where XLA likes."""
    params, gradients = problem(dtype=jnp.bfloat16)
    for tx, ulps in ((jl.adam(0.1), 1), (optax.adam(0.1), 8), (optax.adam(0.1, mu_dtype=jnp.bfloat16), 8)):
        start = (params, tx.init(params))
        ours, theirs = run(jax.jit(fuse(tx).step), start, gradients), run(jax.jit(plain_step(tx)), start, gradients)
        assert_same(ours, theirs, ulps=ulps, atol=ulps * 2.0**-8)
        assert "one loop over 4 leaves" in fuse(tx).explain(params)
    # Halfway between two numbers, the even one is taken.
    params, gradients = {"w": jnp.asarray([1, 1 + 2.0**-7], jnp.bfloat16)}, {"w": jnp.full(2, -(2.0**-8), jnp.bfloat16)}
    after, _ = jax.jit(fuse(jl.sgd(1.0)).step)(params, jl.sgd(1.0).init(params), gradients)
    np.testing.assert_array_equal(after["w"].astype(jnp.float32), [1, 1 + 2.0**-6])


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float16, jnp.complex64])
@pytest.mark.filterwarnings("ignore:fuse")
def test_other_dtypes_are_right_too(dtype):
    with jax.enable_x64(True):
        params = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4).astype(dtype)}
        tx = jl.adam(0.1)
        start, gradients = (params, tx.init(params)), [params, params]
        ours, theirs = run(jax.jit(fuse(tx).step), start, gradients), run(jax.jit(plain_step(tx)), start, gradients)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3 if dtype == jnp.float16 else 2e-6), ours, theirs
        )
        assert ("whole arrays" in fuse(tx).explain(params)) == (dtype != jnp.float64)


def test_nan_and_infinity_are_xlas():
    params = {"w": jnp.asarray([1.0, 2.0, 3.0, -1.0, 0.0])}
    g = {"w": jnp.asarray([jnp.nan, jnp.inf, -jnp.inf, 0.0, -0.0])}
    for tx in (jl.adam(0.1), jl.lion(0.1), jl.amsgrad(0.1), optax.chain(optax.clip(0.5), optax.adamax(0.1)), jl.rprop(0.1)):
        start = (params, tx.init(params))
        assert_same(run(jax.jit(fuse(tx).step), start, [g, g]), run(jax.jit(plain_step(tx)), start, [g, g]))


def test_leaves_without_numbers_and_holes():
    params = {"w": jnp.ones((4, 3)), "empty": jnp.ones((0, 3)), "frozen": jnp.ones(3), "none": None}
    g = {"w": jnp.ones((4, 3)), "empty": jnp.ones((0, 3)), "frozen": jnp.zeros(3), "none": None}
    tx = jl.adam(0.1)
    start = (params, tx.init(params))
    assert_same(jax.jit(fuse(tx).step)(*start, g), jax.jit(plain_step(tx))(*start, g))


def test_errors_are_the_transformations_own():
    tx = jl.adam(0.1)
    params = {"w": jnp.ones(3)}
    with pytest.raises(ValueError, match="scale_by_adam"):
        fuse(tx).step(params, tx.init(params), {"v": jnp.ones(3)})
    needy = next(case.tx for case in CASES if "value_fn" in case.needs)
    with pytest.raises(ValueError, match="needs the extra argument"):
        fuse(needy).step(params, needy.init(params), params)


@pytest.mark.filterwarnings("ignore:fuse")
def test_what_a_step_prints_is_printed(capfd):
    def speaking(updates, params):
        jax.debug.print("norm {}", optax.tree.norm(updates))
        return updates

    tx = optax.chain(optax.stateless(speaking), jl.adam(0.1))
    params, gradients = problem()
    ours = jax.jit(fuse(tx).step)(params, tx.init(params), gradients[0])
    jax.effects_barrier()
    assert "norm " in capfd.readouterr().out
    assert_same(ours, jax.jit(plain_step(tx))(params, tx.init(params), gradients[0]))


def test_eager_scan_and_vmap():
    tx = jl.adam(0.1)
    params, gradients = problem()
    fused, start = fuse(tx), (params, tx.init(params))
    wanted = run(jax.jit(plain_step(tx)), start, gradients)
    assert_same(run(fused.step, start, gradients), wanted)
    stacked = jax.tree.map(lambda *g: jnp.stack(g), *gradients)
    scanned, _ = jax.jit(lambda c, gs: jax.lax.scan(lambda c, g: (fused.step(*c, g), None), c, gs))(start, stacked)
    assert_same(scanned, wanted)
    batched = jax.jit(jax.vmap(fused.step, in_axes=(None, None, 0)))(*start, stacked)
    for k, g in enumerate(gradients):
        assert_same(jax.tree.map(lambda x, k=k: x[k], batched), plain_step(tx)(*start, g))


def test_donated_arrays_are_updated_in_place():
    tx = jl.adam(0.1)
    params, gradients = problem()
    s = tx.init(params)
    program = jax.jit(fuse(tx).step, donate_argnums=(0, 1)).lower(params, s, gradients[0]).compile()
    text = program.as_text()
    assert text.count("custom_call_target") == 1
    assert not re.findall(r"f32\[(?:37,5|5|2,3,7)\]\S* copy\(", text)
    assert program.memory_analysis().alias_size_in_bytes >= 3 * 4 * sum(p.size for p in jax.tree.leaves(params))
    # And what is not donated is left alone.
    before = jax.tree.map(np.array, (params, s))
    jax.jit(fuse(tx).step)(params, s, gradients[0])
    jax.tree.map(np.testing.assert_array_equal, before, (params, s))


def test_an_input_that_is_used_again_keeps_its_value():
    tx = jl.momentum(0.1)
    params, gradients = problem()
    s = tx.init(params)

    def step(p, s, g):
        new, after = fuse(tx).step(p, s, g)
        return new, after, jax.tree.map(lambda a, b: a - b, new, p)

    new, _, moved = jax.jit(step)(params, s, gradients[0])
    jax.tree.map(lambda m, a, b: np.testing.assert_allclose(m, a - b, atol=1e-7), moved, new, params)


def test_many_chunks_and_leaves():
    rng = np.random.default_rng(0)
    params = [jnp.asarray(rng.standard_normal(n), jnp.float32) for n in (100_000, 1, 16_384, 16_385, 300_001, *range(1, 60))]
    tx = jl.adam(0.1)
    start = (params, tx.init(params))
    assert_same(run(jax.jit(fuse(tx).step), start, [params] * 2), run(jax.jit(plain_step(tx)), start, [params] * 2))


def test_on_several_devices_each_works_on_its_part():
    mesh = Mesh(np.array(jax.devices()), "x")
    params, gradients = {"w": jnp.arange(48.0).reshape(8, 6), "b": jnp.ones(8)}, {"w": jnp.ones((8, 6)), "b": jnp.ones(8)}
    tx = optax.chain(optax.clip_by_global_norm(1.0), jl.adam(0.1))
    start = (params, tx.init(params))
    sharded = jax.tree.map(
        lambda x: jax.device_put(x, NamedSharding(mesh, PartitionSpec("x") if x.ndim else PartitionSpec())),
        (start, gradients),
    )
    fused = jax.jit(fuse(tx).step)
    ours = run(fused, sharded[0], [sharded[1]] * 3)
    assert_same(ours, run(jax.jit(plain_step(tx)), start, [gradients] * 3))
    assert ours[0]["w"].sharding.is_equivalent_to(sharded[0][0]["w"].sharding, 2)
    text = fused.lower(*sharded[0], sharded[1]).compile().as_text()
    assert "jaxopt_lec_" in text
    assert "all-gather" not in text
    manual = jax.shard_map(
        fuse(jl.adam(0.1)).step,
        mesh=mesh,
        in_specs=jax.tree.map(
            lambda x: PartitionSpec("x") if x.ndim else PartitionSpec(),
            (*(a := (params, jl.adam(0.1).init(params))), gradients),
        ),
        out_specs=jax.tree.map(lambda x: PartitionSpec("x") if x.ndim else PartitionSpec(), a),
        check_vma=False,
    )
    assert_same(jax.jit(manual)(*a, gradients), plain_step(jl.adam(0.1))(*a, gradients))


def test_programs_on_two_devices_at_once():
    tx = jl.adam(0.1)
    params = {"w": jnp.ones(200_000)}
    step = jax.jit(fuse(tx).step)
    carries = [jax.device_put((params, tx.init(params)), device) for device in jax.devices()]
    for _ in range(20):
        carries = [step(*carry, carry[0]) for carry in carries]
    jax.tree.map(np.testing.assert_array_equal, *carries)


def test_other_platforms_get_plain_xla():
    tx = jl.adam(0.1)
    params, gradients = problem()
    text = jax.jit(fuse(tx).step).trace(params, tx.init(params), gradients[0]).lower(lowering_platforms=("tpu",)).as_text()
    assert "custom_call" not in text
    assert "sqrt" in text


@pytest.mark.parametrize("numba", [True, False])
def test_on_gpus_small_equal_leaves_share_their_scalars_in_one_array(monkeypatch, numba):
    monkeypatch.setattr(fuse_module, "_has_numba", lambda: numba)
    fused = fuse(jl.adam(0.1))
    for shapes, shared in ({"a": (3,), "b": (3,)}, True), ({"a": (3,), "b": (2**20 + 1,), "c": (2**20 + 1,)}, False):
        params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
        traced = jax.jit(fused.step).trace(params, jax.eval_shape(fused.init, params), params)
        assert ("optimization_barrier" in traced.lower(lowering_platforms=("cuda",)).as_text()) == shared


def test_without_numba_a_step_is_plain_xla(monkeypatch):
    monkeypatch.setattr(fuse_module, "_has_numba", lambda: False)
    tx = jl.adam(0.1)
    params, gradients = problem()
    start = (params, tx.init(params))
    assert "custom_call" not in jax.jit(fuse(tx).step).lower(*start, gradients[0]).as_text()
    assert_same(run(jax.jit(fuse(tx).step), start, gradients), run(jax.jit(plain_step(tx)), start, gradients))


def test_one_compilation_serves_all_shapes(monkeypatch):
    registered = []
    register = runtime.register
    monkeypatch.setattr(runtime, "register", lambda *args: (registered.append(args), register(*args)))
    tx = optax.chain(optax.scale(0.12345), jl.adam(0.1))  # a constant that no other test has
    for shapes in ([(3,), (4, 5)], [(2, 2, 2)], [(7,)] * 9):
        params = [jnp.ones(shape) for shape in shapes]
        jax.jit(fuse(tx).step)(params, tx.init(params), params)
    assert len(registered) == 1


def test_threads_stay_within_the_affinity_of_the_process():
    program = (
        "import os; os.sched_setaffinity(0, {0})\n"
        "import jax, jax.numpy as jnp, jaxopt_lec as jl\n"
        "tx = jl.adam(0.1); p = [jnp.ones(1_000_000)]\n"
        "step = jax.jit(jl.fuse(tx).step); c = (p, tx.init(p))\n"
        "for _ in range(5): c = step(*c, p)\n"
        "jax.block_until_ready(c)\n"
        "print({tuple(sorted(os.sched_getaffinity(int(t)))) for t in os.listdir('/proc/self/task')})\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "{(0,)}"


def test_branches_of_platforms_stay_what_they_are():
    def negated(updates, _):
        return jax.tree.map(lambda g: jax.lax.platform_dependent(g, cpu=lambda g: -g, default=lambda g: -2 * g), updates)

    params = {"w": jnp.ones(64)}
    fused = jl.fuse(optax.stateless(negated))
    with pytest.warns(UserWarning, match="not element-wise") as said:
        new, _ = fused.step(params, fused.init(params), params)
    assert [warning.filename for warning in said] == [__file__]
    np.testing.assert_array_equal(new["w"], 0)


def test_scalars_are_shared_only_where_they_are_the_same():
    class Times:
        def __init__(self, factor):
            self.factor = factor

        def __repr__(self):
            return "Times"

        def __call__(self, x):
            return np.float32(x * self.factor)

    one, two = (
        lambda x, factor=factor: jax.pure_callback(Times(factor), jax.ShapeDtypeStruct((), jnp.float32), x)
        for factor in (1, 2)
    )
    tx = optax.GradientTransformation(
        lambda params: jnp.float32(3), lambda u, s, p=None: ({"a": u["a"] * one(s), "b": u["b"] * two(s)}, s)
    )
    params = {"a": jnp.ones(8), "b": jnp.ones(9)}
    new, _ = jl.fuse(tx).step(params, tx.init(params), params)
    assert (new["a"][0], new["b"][0]) == (4, 7)


def test_constants_that_print_alike_are_not_the_same():
    tx = optax.GradientTransformation(
        lambda params: jnp.float32(1), lambda u, s, p=None: ({"a": u["a"] * (s * 0.25), "b": u["b"] * (s * 0.2501)}, s)
    )
    params = {"a": jnp.ones(8), "b": jnp.ones(9)}
    with np.printoptions(precision=2):
        new, _ = fuse(tx).step(params, tx.init(params), params)
    assert (new["a"][0], new["b"][0]) == (1.25, np.float32(1.2501))


def test_threads_may_meet_the_same_loop_at_once():
    at_once = threading.Barrier(4)
    params = {"w": jnp.ones(64)}

    def stepped(_):
        fused = fuse(optax.stateless(lambda updates, params: jax.tree.map(lambda g: jnp.tanh(g) * 0.375, updates)))
        at_once.wait()
        return jax.jit(lambda p, g: fused.step(p, fused.init(p), g))(params, params)

    with ThreadPoolExecutor(4) as threads:
        for new, _ in threads.map(stepped, range(4)):
            np.testing.assert_allclose(new["w"], 1 + 0.375 * np.tanh(1), rtol=1e-6)


def test_no_tracer_outlives_its_trace():
    params, gradients = problem()

    def step(p, s, g, learning_rate):
        return fuse(optax.adam(learning_rate)).step(p, s, g)

    with jax.checking_leaks():
        jax.jit(step)(params, optax.adam(0.1).init(params), gradients[0], 0.1)


def test_a_number_among_the_extra_arguments_is_traced_once():
    traces = []

    def scaled(updates, state, params=None, *, value):
        traces.append(value)
        return jax.tree.map(lambda g: g * value, updates), state

    fused = jl.fuse(optax.GradientTransformationExtraArgs(lambda params: (), scaled))
    params = {"w": jnp.ones(64)}
    for value in (1.0, 2.0, 3.0):
        new, _ = fused.step(params, fused.init(params), params, value=value)
        np.testing.assert_array_equal(new["w"], 1 + value)
    assert len(traces) == 1


def test_only_transformations_are_fused():
    with pytest.raises(TypeError, match="fuse takes an Optax transformation, got a Fused"):
        jl.fuse(jl.fuse(jl.adam(0.1)))


@pytest.mark.parametrize(
    ("tx", "shape"),
    # Three blocks of 128 over eight devices; a product over a split axis: the compiler must place what JAX would not.
    [(state.compress(jl.adam(0.1), where=lambda name, leaf: len(leaf.shape) == 2), (8, 384)), (jl.muon(0.1), (8, 16))],
    ids=["compress", "muon"],
)
@pytest.mark.filterwarnings("ignore:fuse. not element-wise")
def test_what_is_left_to_the_compiler_keeps_its_mesh(tx, shape):
    mesh = AbstractMesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    p = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(None, "data")))

    def two_steps(p, g):
        step = lambda carry, _: (fuse(tx).step(*carry, g), None)  # noqa: E731
        return jax.lax.scan(step, (p, tx.init(p)), None, length=2)[0]

    with jax.sharding.use_abstract_mesh(mesh):
        new, _ = jax.eval_shape(two_steps, p, p)
    assert new.sharding.spec == p.sharding.spec
