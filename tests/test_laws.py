"""Laws that hold for every row of tests/cases.py."""

import contextlib
import dataclasses
import functools
import gc
import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from agreement import agree
from cases import CASES, applying, kinds, kinds_and_numbers, programs
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec
from torch_steps import RATE, ROWS, START, followed, stored, wild_gradients

import jaxopt_lec as jl
from jaxopt_lec.train_state import TrainState


def for_cases(law):
    return pytest.mark.parametrize("case", applying(law), ids=str)


def for_programs(law=""):
    """For laws that no number of the state has a part in: rows of the same program are one."""
    return pytest.mark.parametrize("case", programs(law), ids=str)


def for_kinds(law=""):
    """For laws about the lifter alone."""
    return pytest.mark.parametrize("case", kinds(law))


def as_optax_and_flax_promote():
    """Their own code is not written for strict promotion."""
    return jax.numpy_dtype_promotion("standard")


def linear(params, slope):
    """A loss whose gradient is `slope` at any point."""
    return sum(jnp.sum((jnp.conj(s) * p).real) for s, p in zip(jax.tree.leaves(slope), jax.tree.leaves(params), strict=True))


def step(tx, gradient, state, params, *, value_fn=linear):
    """One step as a user makes it; methods that ask for the loss get one whose gradient is `gradient`."""
    updates, state = tx.update(gradient, state, params, value_fn=value_fn, slope=gradient)
    return optax.apply_updates(params, updates), state


def updates_of(tx, params, gradients, **compiler):
    """The sequence of updates over the stacked `gradients`, parameters moving along, in one scan."""

    def body(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params, value_fn=linear, slope=gradient)
        return (optax.apply_updates(params, updates), state), updates

    return jax.jit(lambda: jax.lax.scan(body, (params, tx.init(params)), gradients)[1], **compiler)()


def at_least(case, tree):
    """The tree, with leading axes of length 1 where the method wants more axes than a leaf has."""
    return jax.tree.map(lambda x: x.reshape((1,) * (case.min_ndim - x.ndim) + x.shape), tree)


def params_tree(case, dtype=jnp.float32):
    rng = np.random.default_rng(1)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape).astype(dtype))

    return at_least(case, {"dense": {"kernel": draw(4, 3), "bias": draw(3)}, "head": [draw(4, 3)], "scale": draw()})


def gradients_tree(case, steps, dtype=jnp.float32):
    rng = np.random.default_rng(2)
    # NumPy's, for JAX compiles a program for each shape that is sliced.
    return jax.tree.map(lambda p: rng.standard_normal((steps, *p.shape)).astype(dtype), params_tree(case))


def small(tree):
    """Part of a tree, where many leaves would only be many compilations."""
    return tree["dense"]


def at(tree, k):
    return jax.tree.map(lambda x: x[k, ...], tree)


@functools.cache
def jitted_step(case):
    """The step of `case.tx`, compiled once for the laws that take it with the same tree."""
    return jax.jit(functools.partial(step, case.tx))


# --- the equation itself


def oracle_of(case):
    return f"its equation and tests/oracles/{case.oracle.__module__.split('.')[-1]}.py"


def oracle_updates(case, gradients, theta, learning_rate):
    """What the oracle adds to θ in each step; from θ = 0 nothing is lost in the differences."""
    path = case.oracle(theta, lambda theta, t: gradients[t - 1], len(gradients), learning_rate, **case.arguments)
    return np.diff(path, axis=0)


SCHEDULES = {"number": 0.05, "schedule": lambda count: 0.05 / (1 + 0.1 * count)}


def numbers_and_schedules():
    """Each row with a number as its rate, and with a schedule; that the latter is obeyed is seen on one row of each kind."""
    for case in applying("oracle"):
        yield pytest.param(case, "number", id=f"{case}-number")
    for row in kinds_and_numbers("oracle"):
        yield pytest.param(row.values[0], "schedule", id=f"{row.id}-schedule", marks=row.marks)


@pytest.mark.parametrize(("case", "rate"), list(numbers_and_schedules()))
def test_float64_equals_the_oracle(case, rate):
    # Real and complex as two leaves of one tree: one program.
    dtypes = {"real": np.float64} | ({} if "complex" in case.skip else {"complex": np.complex128})
    start = 0.7 if "weight_decay" in case.arguments else 0.0
    gradients = {name: wild_gradients(50, dtype) for name, dtype in dtypes.items()}
    thetas = {name: np.full((6, 3), start, dtype) for name, dtype in dtypes.items()}
    with jax.enable_x64(True):
        updates = updates_of(case.make(SCHEDULES[rate]), *jax.tree.map(jnp.asarray, (thetas, gradients)))
    for name, theta in thetas.items():
        expected = oracle_updates(case, gradients[name], theta, SCHEDULES[rate])
        ours = np.asarray(updates[name])
        # Each coordinate against its own largest update and parameter: a misplaced ε shows only where gradients are small.
        scale = np.max(np.abs(expected), axis=0) + np.abs(theta)
        scale = np.max(scale) if case.mixes else scale
        agree(case, f"float64 is the oracle's, {name}", ours, expected, 1e-12, scale=scale, look=oracle_of(case))
        assert np.all(ours[:, 2, 1] == expected[:, 2, 1]) or start or case.mixes, f"{case}: {name}: moved without gradient"


@for_cases("float32")
def test_float32_stays_within_1e6_of_float64_over_1000_steps(case):
    rng = np.random.default_rng(3)
    gradients = (rng.standard_normal((1000, 40)) * rng.uniform(0.2, 5.0, 40)).astype(np.float32)
    learning_rate = 2.0**-6  # exact in float32: the rate's own rounding is not the optimizer's
    exactly = dataclasses.replace(case, arguments={**case.arguments, **case.float32})
    expected = oracle_updates(exactly, gradients.astype(np.float64), np.zeros(40), learning_rate)
    # With the optimizations that users have: a product and a sum that LLVM makes one operation are rounded once. AdaDelta,
    # whose S is a factor of its own next value, adds all roundings up.
    optimized = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
    gradients = jnp.asarray(gradients)
    ours = updates_of(case.make(learning_rate), jnp.zeros(40), gradients, compiler_options=optimized)
    largest = np.max(np.abs(expected), axis=1, keepdims=True)
    ours = np.asarray(ours, np.float64)
    agree(case, "float32 is float64 over 1,000 steps", ours, expected, 1e-6, scale=largest, look=oracle_of(case))


@pytest.mark.parametrize("case", [case for case in CASES if case.like_optax], ids=str)
def test_equals_optax(case):
    with jax.enable_x64(True), as_optax_and_flax_promote():
        gradients = jnp.asarray(wild_gradients(50))
        params = jnp.full((6, 3), 0.7)
        peer = optax.with_extra_args_support(case.like_optax(0.05))
        expected = np.asarray(updates_of(peer, params, gradients))
        ours = np.asarray(updates_of(case.make(0.05), params, gradients))
    scale = np.max(np.abs(expected) + 0.7, axis=0)
    agree(case, "equals optax", ours, expected, 1e-12, scale=scale, look="like_optax in tests/cases.py")


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_equals_torch(case):
    path = stored()[case.name]
    with jax.enable_x64(True):
        updates = updates_of(case.make(RATE), jnp.full((6, 3), START), jnp.asarray(wild_gradients(50)))
    ours = np.cumsum(np.asarray(updates), axis=0) + START
    scale = np.maximum.accumulate(np.abs(path), axis=0)
    agree(case, "equals torch", ours, path, 1e-12, scale=scale, look="like_torch in tests/cases.py")


@pytest.mark.thorough
@pytest.mark.parametrize("case", ROWS, ids=str)
def test_the_stored_steps_are_those_of_the_installed_torch(case):
    pytest.importorskip("torch")
    np.testing.assert_allclose(followed(case), stored()[case.name], rtol=1e-13)


# --- the program

NUMBER = re.compile(r"(?<![\w.])(-?\d+\.\d+(e[-+]?\d+)?|inf)(?=:f32)")


def program(case):
    """What init and a step do, operation by operation, and the state's structure; the case's numbers are in both."""
    params, gradients = params_tree(case), at(gradients_tree(case, 1), 0)
    state = case.tx.init(params)
    init = jax.make_jaxpr(case.tx.init)(params)
    once = jax.make_jaxpr(functools.partial(step, case.tx))(gradients, state, params)
    assert not init.consts
    assert not once.consts
    return NUMBER.sub("number", str(init)), NUMBER.sub("number", str(once)), jax.tree.structure(state)


@pytest.mark.parametrize("case", [case for case in CASES if case.same_program_as], ids=str)
def test_a_row_of_the_same_program_differs_in_numbers_alone(case):
    [first] = [first for first in CASES if first.name == case.same_program_as]
    assert not first.same_program_as
    assert (case.needs, case.min_ndim) == (first.needs, first.min_ndim)
    assert program(case) == program(first)


# --- trees


@for_kinds("leaves")
def test_a_tree_is_its_leaves(case):
    params, gradients = params_tree(case), gradients_tree(case, 5)
    run = jax.jit(functools.partial(updates_of, case.tx))  # compiled once for leaves of one shape
    whole = run(params, gradients)
    for together, p, g in zip(*map(jax.tree.leaves, (whole, params, gradients)), strict=True):
        np.testing.assert_allclose(together, run(p, g), rtol=2e-6, atol=1e-7)


@for_kinds("leaves")
def test_permuting_leaves_permutes_results(case):
    params, gradients = jax.tree.leaves(params_tree(case)), jax.tree.leaves(gradients_tree(case, 5))
    order = [3, 1, 0, 2]
    straight = updates_of(case.tx, params, gradients)
    permuted = updates_of(case.tx, [params[i] for i in order], [gradients[i] for i in order])
    for i, permuted_leaf in zip(order, permuted, strict=True):
        np.testing.assert_allclose(permuted_leaf, straight[i], rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("hole", [None, optax.MaskedNode()], ids=["None", "masked"])
@for_kinds("holes")
def test_leaves_without_gradient_pass_through(case, hole):
    tx, params, gradients = case.tx, params_tree(case), gradients_tree(case, 3)
    state = tx.init(params)
    _, state = step(tx, at(gradients, 0), state, params)
    holed = at(gradients, 1) | {"scale": hole} | {"dense": {"kernel": hole, "bias": at(gradients, 1)["dense"]["bias"]}}
    updates, after = tx.update(holed, state, params)
    full, after_full = tx.update(at(gradients, 1), state, params)
    assert type(updates["scale"]) is type(updates["dense"]["kernel"]) is type(hole)
    np.testing.assert_array_equal(updates["dense"]["bias"], full["dense"]["bias"])
    for (path, x), before, other in zip(
        jax.tree_util.tree_leaves_with_path(after), *map(jax.tree.leaves, (state, after_full)), strict=True
    ):
        untouched = "slots" in str(path) and ("scale" in str(path[-1:]) or "kernel" in str(path[-1:]))
        np.testing.assert_array_equal(x, before if untouched else other)


@for_kinds("holes")
def test_masked_leaves_get_no_state(case):
    params, gradients = params_tree(case), at(gradients_tree(case, 1), 0)
    mask = {"dense": {"kernel": True, "bias": False}, "head": True, "scale": False}
    tx = optax.masked(case.make(0.1), mask)
    updates, state = tx.update(gradients, tx.init(params), params)
    np.testing.assert_array_equal(updates["scale"], gradients["scale"])  # Optax's masked hands these on unchanged
    alone = case.tx
    expected, _ = alone.update(gradients["head"], alone.init(params["head"]), params["head"])
    chex.assert_trees_all_close(updates["head"], expected, rtol=1e-6)
    assert not any("bias" in str(path) for path, _ in jax.tree_util.tree_leaves_with_path(state))


# --- compilation


@for_kinds()
def test_jit_equals_eager(case):
    with jax.enable_x64(True):
        params, gradients = small(params_tree(case, jnp.float64)), small(gradients_tree(case, 3, jnp.float64))
        tx = case.tx
        eager, compiled = (params, tx.init(params)), (params, tx.init(params))
        for k in range(3):
            eager = step(tx, at(gradients, k), eager[1], eager[0])
            compiled = jitted_step(case)(at(gradients, k), compiled[1], compiled[0])
        chex.assert_trees_all_close(eager, compiled, rtol=1e-12, atol=1e-14)


@for_kinds()
def test_scan_equals_loop(case):
    with jax.enable_x64(True):
        params, gradients = small(params_tree(case, jnp.float64)), small(gradients_tree(case, 4, jnp.float64))
        tx = case.tx
        scanned = updates_of(tx, params, gradients)
        state = tx.init(params)
        for k in range(4):
            updates, state = tx.update(at(gradients, k), state, params, value_fn=linear, slope=at(gradients, k))
            params = optax.apply_updates(params, updates)
            chex.assert_trees_all_close(updates, at(scanned, k), rtol=1e-12, atol=1e-14)


DTYPES = [
    ("float32", "float32"),
    ("bfloat16", "bfloat16"),
    ("float16", "float16"),
    ("bfloat16", "float32"),
    ("float32", "bfloat16"),
    ("float64", "float64"),
    ("complex64", "complex64"),
]


@pytest.mark.parametrize(("of_params", "of_gradients"), DTYPES, ids="-".join)
@for_programs()
def test_update_keeps_shapes_dtypes_and_weak_types(case, of_params, of_gradients):
    if of_params == "complex64" and "complex" in case.skip:
        pytest.skip(case.skip["complex"])
    with jax.enable_x64(of_params == "float64"):
        params, gradients = params_tree(case, of_params), at(gradients_tree(case, 1, of_gradients), 0)
        tx = case.tx
        state = tx.init(params)
        # A weakly typed gradient, as Python numbers give, must not leak into the state either.
        gradients = gradients | {
            "scale": gradients["scale"] if of_gradients != "float32" else at_least(case, jnp.asarray(0.3))
        }

        def update(gradients, state, params):
            return tx.update(gradients, state, params, value_fn=linear, slope=gradients)

        updates, after = jax.eval_shape(update, gradients, state, params)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), updates) == jax.tree.map(lambda x: (x.shape, x.dtype), gradients)
        avals = functools.partial(jax.tree.map, lambda x: (x.shape, x.dtype, jnp.asarray(x).weak_type))
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert avals(state) == jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), after)
        for x in jax.tree.leaves([jax.tree.leaves(s.slots) for s in equation_states(state)]):
            assert jnp.finfo(x.dtype).bits >= 32


def equation_states(state):
    return [s for s in jax.tree.leaves(state, is_leaf=is_equation_state) if is_equation_state(s)]


def is_equation_state(x):
    return isinstance(x, jl.EquationState)


@for_kinds()
def test_sharding_of_the_state_is_a_fixed_point(case):
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("model"))
    params = jax.device_put({"w": jnp.ones((4, 3)), "b": jnp.ones((2, 1)[: max(1, case.min_ndim)])}, split)
    gradients = jax.tree.map(lambda p: 0.1 * p, params)
    tx = case.tx
    state = tx.init(params)
    for slots in [s.slots for s in equation_states(state)]:
        for slot in slots.values():
            for x, parameter in zip(jax.tree.leaves(slot), jax.tree.leaves(params), strict=True):
                assert x.shape != parameter.shape or x.sharding.is_equivalent_to(split, x.ndim)
    new_params, after = jax.jit(functools.partial(step, tx))(gradients, state, params)
    for x, y in zip(jax.tree.leaves((params, state)), jax.tree.leaves((new_params, after)), strict=True):
        assert not y.ndim or y.sharding.is_equivalent_to(x.sharding, x.ndim)


# Each axis split, both, both over one, none because they do not divide, more and fewer axes than two.
SPLIT = {
    "rows": ((8, 6), PartitionSpec("data")),
    "columns": ((6, 8), PartitionSpec(None, "data")),
    "both": ((4, 6), PartitionSpec("data", "model")),
    "together": ((8, 3), PartitionSpec(("data", "model"))),
    "whole": ((3, 5), PartitionSpec()),
    "batch": ((2, 4, 6), PartitionSpec(None, "data", "model")),
    "stack": ((8, 4, 6), PartitionSpec("data")),
    "vector": ((4,), PartitionSpec("model")),
    "scalar": ((), PartitionSpec()),
}


def split_tree(case, of):
    """Shapes and types of arrays on a mesh of eight devices, which need not exist, with axes of the types."""
    mesh = AbstractMesh((4, 2), ("data", "model"), axis_types=of)
    ndims = {case.min_ndim} if case.min_ndim else {0, 1, 2, 3}
    return {
        name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
        for name, (shape, spec) in SPLIT.items()
        if len(shape) in ndims and (AxisType.Auto not in of or "model" not in str(spec))
    }


def types(tree):
    """What `jax.lax.scan` and a donated argument ask to be the same, within a program."""
    return jax.tree.map(lambda x: str(jax.typeof(x)), tree)


@for_programs()
def test_types_of_arrays_on_explicit_axes_are_a_fixed_point(case):
    def two_steps(params, gradients):
        def body(carry, _):
            updates, state = case.tx.update(gradients, carry[1], carry[0], value_fn=bowl)
            assert types(updates) == types(gradients)
            assert [types(s.slots) for s in equation_states(state)] == [types(s.slots) for s in equation_states(carry[1])]
            return (optax.apply_updates(carry[0], updates), state), updates

        start = (params, case.tx.init(params))
        for name, slots in ((k, s.slots) for s in equation_states(start[1]) for k in s.slots):
            for x, p in zip(jax.tree.leaves(slots[name]), jax.tree.leaves(params), strict=True):
                assert x.shape != p.shape or types(x) == types(p)
        return jax.lax.scan(body, start, None, length=2)[0]

    for of, set_mesh in (("Explicit", False), ("Explicit", True), ("Auto", True)):
        params = split_tree(case, (AxisType.Explicit, AxisType[of]))
        mesh = next(iter(params.values())).sharding.mesh
        with jax.sharding.use_abstract_mesh(mesh) if set_mesh else contextlib.nullcontext():
            jax.eval_shape(two_steps, params, params)


@for_kinds()
def test_one_trace_for_many_steps_and_many_learning_rates(case):
    params, gradients = params_tree(case), gradients_tree(case, 4)
    tx = case.tx
    traces = []

    @jax.jit
    def counted(gradients, state, params):
        traces.append(1)
        return step(tx, gradients, state, params)

    state = tx.init(params)
    for k, rate in enumerate([0.1, 0.03, 0.01, 0.003]):
        state = optax.tree.set(state, learning_rate=jnp.float32(rate))
        params, state = counted(at(gradients, k), state, params)
    assert len(traces) == 1
    # Where the rate acts in two places, in both.
    assert {float(rate) for _, rate in optax.tree.get_all_with_path(state, "learning_rate")} == {float(np.float32(0.003))}


@for_programs("set_rate")
def test_a_learning_rate_set_in_the_state_is_the_one_used(case):
    params, gradients = small(params_tree(case)), small(at(gradients_tree(case, 1), 0))
    set_rate = optax.tree.set(case.make(0.1).init(params), learning_rate=jnp.float32(0.025))
    chex.assert_trees_all_equal(
        step(case.make(0.1), gradients, set_rate, params)[0],
        step(case.make(0.025), gradients, case.make(0.025).init(params), params)[0],
    )


@for_programs()
def test_number_array_and_schedule_give_one_structure(case):
    params = params_tree(case)
    states = [case.make(rate).init(params) for rate in (0.1, jnp.asarray(0.1), np.float64(0.1), lambda count: 0.1)]
    for other in states[1:]:
        chex.assert_trees_all_equal(states[0], other)
        chex.assert_trees_all_equal_shapes_and_dtypes(states[0], other)


@for_kinds()
def test_a_state_may_be_donated_and_the_users_arrays_survive(case):
    # All leaves, the scalar too: there what init fills with a hyperparameter has the hyperparameter's own shape.
    params, gradients, rate = params_tree(case), at(gradients_tree(case, 1), 0), jnp.asarray(0.1)
    for tx in (case.make(rate), case.tx):
        donating = jax.jit(functools.partial(step, tx), donate_argnums=(1, 2))
        for _ in range(2):
            donating(gradients, tx.init(params), jax.tree.map(jnp.copy, params))
    assert rate == 0.1


@for_kinds()
def test_a_learning_rate_from_outside_a_trace_is_obeyed_in_each_step(case):
    params, gradients = small(params_tree(case)), small(at(gradients_tree(case, 1), 0))
    injected = optax.inject_hyperparams(lambda learning_rate: case.make(learning_rate))(learning_rate=0.1)
    with as_optax_and_flax_promote():
        state = injected.init(params)
        one_program = jax.jit(functools.partial(step, injected))
        for rate in (0.1, 0.025):
            state.hyperparams["learning_rate"] = jnp.asarray(rate)
            plain = case.make(rate)
            fresh = state._replace(inner_state=plain.init(params))
            ours, _ = one_program(gradients, fresh, params)
            expected, _ = jax.jit(functools.partial(step, plain))(gradients, plain.init(params), params)
            chex.assert_trees_all_equal(ours, expected)


@for_programs()
def test_init_needs_only_shapes(case):
    tx, params = case.tx, params_tree(case)
    abstract = jax.eval_shape(tx.init, jax.eval_shape(functools.partial(params_tree, case)))
    chex.assert_trees_all_equal_shapes_and_dtypes(abstract, tx.init(params))


@for_kinds()
def test_no_tracer_leaks(case):
    gc.freeze()  # the check collects garbage at each trace: from what the test makes, not from all that is loaded
    params = gradients = at_least(case, {"w": jnp.ones(2)})  # checking for leaks caches nothing
    with jax.checking_leaks():
        jax.jit(lambda rate: step(case.make(rate), gradients, case.make(rate).init(params), params))(0.1)


@for_kinds()
def test_update_leaves_its_arguments_alone(case):
    tx, params, gradients = case.tx, params_tree(case), at(gradients_tree(case, 1), 0)
    state = tx.init(params)
    copies = jax.tree.map(jnp.copy, (params, gradients, state))
    step(tx, gradients, state, params)
    chex.assert_trees_all_equal(copies, (params, gradients, state))


# --- hyperparameters as data


@for_kinds()
def test_vmap_over_learning_rates_equals_separate_runs(case):
    with jax.enable_x64(True):
        params, gradients = small(params_tree(case, jnp.float64)), small(gradients_tree(case, 3, jnp.float64))
        rates = jnp.asarray([0.3, 0.01])
        run = jax.jit(lambda rate: updates_of(case.make(rate), params, gradients))
        together = jax.vmap(run)(rates)
        for k, rate in enumerate(rates):
            chex.assert_trees_all_close(at(together, k), run(rate), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("case", kinds_and_numbers("hyper_gradient"))
def test_differentiable_in_the_learning_rate(case):
    with jax.enable_x64(True):
        # A coordinate that starts at its minimum has gradient 0, and a bias starts at 0: there a careless √ has derivative
        # ∞ · 0, of a coordinate or of a leaf's norm.
        params = at_least(case, {"w": jnp.asarray([1.0, -2.0, 0.0, 0.5, 1.0]), "bias": jnp.zeros(2)})

        def loss(params):
            w, bias = params["w"], params["bias"]
            squares = jnp.sum(w[..., :3] ** 2) + jnp.sum((w[..., 4:] - 1) ** 2) + jnp.sum((bias - 1) ** 2)
            return squares + jnp.sum((w[..., 3] - 1) ** 4)

        def after_training(rate):
            tx = case.make(rate)

            def body(carry, _):
                params, state = carry
                updates, state = tx.update(jax.grad(loss)(params), state, params, value_fn=loss)
                return (optax.apply_updates(params, updates), state), None

            return loss(jax.lax.scan(body, (params, tx.init(params)), length=4)[0][0])

        @jax.jit
        def value_reverse_and_forward(rate):
            return *jax.value_and_grad(after_training)(rate), jax.jacfwd(after_training)(rate)

        h = 1e-6
        (lower, _, _), (_, exact, forward), (upper, _, _) = (value_reverse_and_forward(0.01 + d) for d in (-h, 0, h))
        assert np.isfinite(exact)
        np.testing.assert_allclose(exact, (upper - lower) / (2 * h), rtol=1e-5)
        np.testing.assert_allclose(forward, exact, rtol=1e-9)


# --- extra arguments


@for_kinds()
def test_unknown_extra_arguments_are_accepted_and_missing_ones_named(case):
    tx, params, gradients = case.tx, params_tree(case), at(gradients_tree(case, 1), 0)
    state = tx.init(params)
    known, _ = tx.update(gradients, state, params, value_fn=linear, slope=gradients)
    more, _ = tx.update(gradients, state, params, value_fn=linear, slope=gradients, epoch=3, note="x")
    chex.assert_trees_all_equal(known, more)
    if "value_fn" in case.needs:
        with pytest.raises(ValueError, match="needs the extra argument 'value_fn'"):
            tx.update(gradients, state, params)
    if "params" in case.needs:
        with pytest.raises(ValueError, match="needs params"):
            tx.update(gradients, state, value_fn=linear, slope=gradients)
    else:
        chex.assert_trees_all_equal(tx.update(gradients, state)[0], known)


# --- life inside others

WRAPPERS = {
    "chain": lambda make: optax.chain(optax.clip_by_global_norm(1e9), make(0.1)),
    "named_chain": lambda make: optax.named_chain(("first", make(0.1))),
    "masked": lambda make: optax.masked(make(0.1), lambda params: jax.tree.map(lambda _: True, params)),
    "partition": lambda make: optax.partition({"all": make(0.1)}, lambda params: jax.tree.map(lambda _: "all", params)),
    "MultiSteps": lambda make: optax.GradientTransformationExtraArgs(
        *optax.MultiSteps(make(0.1), 1).gradient_transformation()
    ),
    "apply_if_finite": lambda make: optax.apply_if_finite(make(0.1), 3),
    "inject_hyperparams": lambda make: optax.inject_hyperparams(lambda learning_rate: make(learning_rate))(
        learning_rate=0.1
    ),
    "conditionally_mask": lambda make: optax.conditionally_mask(make(0.1), lambda step: step >= 0),
    "conditionally_transform": lambda make: optax.conditionally_transform(make(0.1), lambda step: step >= 0),
    "before keep_params_nonnegative": lambda make: optax.chain(make(0.1), optax.keep_params_nonnegative()),
    "with_extra_args_support": lambda make: optax.with_extra_args_support(make(0.1)),
}


@for_kinds()
def test_lives_inside_optax_wrappers(case):
    # All wrappers in one program: what is tested is the fit, and each alone would be a compilation.
    params = at_least(case, {"w": jnp.full((3, 2), 10.0), "b": jnp.full(2, 20.0)})
    gradients = {"w": jnp.arange(12.0).reshape(2, 3, 2) - 5, "b": jnp.asarray([[0.1, 0.2], [-3.0, 4.0]])}
    gradients = jax.tree.map(lambda g, p: g.reshape(2, *p.shape), gradients, params)
    wrapped = {name: wrap(case.make) for name, wrap in WRAPPERS.items()}
    if "value_fn" in case.needs:
        del wrapped["partition"]  # it hands a method masked parameters, and the loss function needs every parameter
    if "nonnegative" in case.skip:
        del wrapped["before keep_params_nonnegative"]

    @jax.jit
    def train(params):
        results = {}
        for name, tx in {"plain": case.tx, **wrapped}.items():
            tx = optax.with_extra_args_support(tx)
            trained, state = params, tx.init(params)
            for k in range(2):
                trained, state = step(tx, at(gradients, k), state, trained)
            results[name] = trained, state
        return results

    with as_optax_and_flax_promote():
        results = train(params)
    for name, (trained, state) in results.items():
        np.testing.assert_allclose(trained["w"], results["plain"][0]["w"], rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(trained["b"], results["plain"][0]["b"], rtol=1e-6, err_msg=name)
        assert optax.tree.get_all_with_path(state, "learning_rate"), name


@for_kinds()
def test_optax_finds_the_parameter_shaped_parts_of_the_state(case):
    tx, params = case.tx, params_tree(case)
    state = tx.init(params)
    marked = optax.tree.map_params(tx, lambda x: "slot", state, transform_non_params=lambda x: "other")
    slots = sum(len(s.slots) for s in equation_states(state))
    assert jax.tree.leaves(marked).count("slot") == slots * len(jax.tree.leaves(params))


def bowl(params):
    return sum(jnp.sum((p - 1) ** 2 + 0.1 * (p - 1) ** 4) for p in jax.tree.leaves(params))


@for_kinds()
def test_trains_in_nnx_optimizer(case):
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(3, 2, use_bias=case.min_ndim < 2, rngs=rngs)

    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, case.make(0.1), wrt=nnx.Param)
    loss = lambda model: bowl(nnx.as_pure(nnx.state(model, nnx.Param)))  # noqa: E731

    @nnx.jit
    def train_step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model), value_fn=bowl)

    with as_optax_and_flax_promote():
        before = loss(model)
        for _ in range(3):
            train_step(model, optimizer)
    assert loss(model) < before


@for_kinds()
def test_trains_in_linen_train_state(case):
    model = nn.Dense(2, use_bias=case.min_ndim < 2)
    params = model.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=case.make(0.1))

    @jax.jit
    def train_step(state):
        return state.apply_gradients(grads=jax.grad(bowl)(state.params), extra_args={"value_fn": bowl})

    after = train_step(train_step(state))
    assert after.step == 2
    assert after.tx is state.tx
    assert bowl(after.params) < bowl(params)


@for_kinds()
def test_next_step_after_orbax_restore_is_bit_equal(case, tmp_path):
    params, gradients = small(params_tree(case)), small(gradients_tree(case, 3))
    tx = case.tx
    train = jitted_step(case)
    state = tx.init(params)
    for k in range(2):
        params, state = train(at(gradients, k), state, params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", (params, state))
        checkpointer.wait_until_finished()
        template = jax.eval_shape(lambda: (params, tx.init(params)))
        template = jax.tree.map(
            lambda x, y: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=y.sharding), template, (params, state)
        )
        restored_params, restored = checkpointer.restore(tmp_path / "saved", template)
    chex.assert_trees_all_equal(train(at(gradients, 2), restored, restored_params), train(at(gradients, 2), state, params))


# --- and it optimizes

# Each family's rate for a loss of curvature 2 and up, a few units from the minimum; 0.2 where steps have the rate's size.
RATES = {"sgd": 0.1, "momentum": 0.02, "nesterov": 0.02, "adadelta": 30.0, "adagrad": 0.5, "newton": 1.0}


@for_cases("converges")
def test_converges_to_the_minimum(case):
    params = {name: tree for name, tree in params_tree(case).items() if name != "head"}  # as large as the kernel
    if case.factory is jl.lamb:
        # Its step is a share of the leaf's norm: a leaf of one number shrinks towards 0 and passes it only by underflow.
        params = jax.tree.map(jnp.abs, params)
    rate = RATES.get(case.name.split("_")[0], 0.2)
    tx = case.make(optax.cosine_decay_schedule(rate, 1000))

    def body(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(bowl)(params)
        updates, state = tx.update(gradient, state, params, value=value, grad=gradient, value_fn=bowl)
        return (optax.apply_updates(params, updates), state), None

    with as_optax_and_flax_promote():
        (params, _), _ = jax.jit(lambda: jax.lax.scan(body, (params, tx.init(params)), length=1000))()
    bound = 0.1 if case.name in ("adamw", "lamb_decayed", "sgd_decayed") else 1e-3  # weight decay pulls towards the origin
    reached = max(float(np.max(np.abs(p - 1))) for p in jax.tree.leaves(params))
    assert reached < bound, f"{case}: converges: measured {reached:.2e} from the minimum, permitted {bound:g}, at {rate = }"
