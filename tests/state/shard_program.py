"""Sharded state on eight devices, checked: [PROCESS PROCESSES PORT]. One line for each check that holds."""

import functools
import re
import sys
import tempfile
from pathlib import Path

import jax

PLACE = [int(x) for x in sys.argv[1:]]
jax.config.update("jax_num_cpu_devices", 4 if PLACE else 8)
if PLACE:
    process, processes, port = PLACE
    jax.distributed.initialize(f"localhost:{port}", processes, process, shutdown_timeout_seconds=10)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402
from jax.sharding import Mesh, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

import jaxopt_lec as jl  # noqa: E402
from jaxopt_lec import state  # noqa: E402

DEVICES = np.array(jax.devices())
# The axes that `make_mesh` gives are Explicit, those of `Mesh` are Auto.
LINE, EXPLICIT_GRID = jax.make_mesh((8,), ("data",)), jax.make_mesh((2, 4), ("data", "model"))
AUTO_LINE, GRID = Mesh(DEVICES, "data"), Mesh(DEVICES.reshape(2, 4), ("data", "model"))
SPECS = {"in": P("data", "model"), "out": P(None, "model"), "bias": P("model"), "scale": P()}
SHAPES = {"in": (64, 256), "out": (256, 512), "bias": (512,), "scale": ()}


def parameters(dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


def put(tree, where):
    """Place host arrays on devices that may belong to other processes too."""
    return jax.tree.map(lambda x, s: jax.make_array_from_callback(x.shape, s, lambda at: np.asarray(x)[at]), tree, where)


def trained(tx, params, gradients, steps=5, donate=True):
    def step(params, s, g):
        updates, s = tx.update(g, s, params)
        return optax.apply_updates(params, updates), s

    s = tx.init(params)
    jitted = jax.jit(step, donate_argnums=(0, 1) if donate else ())
    for _ in range(steps):
        params, s = jitted(params, s, gradients)
    return params, s


def read(tree):
    """The whole numbers, also of what other processes hold."""
    return jax.tree.map(
        lambda x: np.asarray(x.addressable_data(0), np.float32),
        jax.jit(lambda t: t, out_shardings=NamedSharding(LINE, P()))(tree),
    )


def per_device(tree):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def zero_is_the_unsharded_run():
    """Five steps of ZeRO-1, the digest of whose result other numbers of processes must print too."""
    for name, tx, dtype, mesh in (
        ("adam", jl.adam(0.01), jnp.float32, LINE),
        ("optax", optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01)), jnp.float32, AUTO_LINE),
        ("small", state.master(state.compress(jl.adamw(0.01))), jnp.bfloat16, LINE),
    ):
        whole = NamedSharding(mesh, P())
        params, gradients = parameters(dtype), parameters(dtype, seed=1)
        wanted, _ = jax.jit(lambda p, g, tx=tx: trained(tx, p, g, donate=False))(params, gradients)
        wanted = jax.tree.map(lambda x: np.asarray(x, np.float32), wanted)
        everywhere = dict.fromkeys(params, whole)
        sharded = state.shard(tx, whole, zero="data")
        found, s = trained(sharded, put(params, everywhere), put(gradients, everywhere))
        for key, x in read(found).items():
            np.testing.assert_allclose(x, wanted[key], rtol=2e-2 if dtype == jnp.bfloat16 else 2e-5, atol=1e-6)
        assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(found))
        large = [x for x in jax.tree.leaves(s) if x.size >= 512]
        assert all(8 * x.addressable_shards[0].data.size == x.size for x in large)
        print(f"zero {name} {float(sum(np.abs(x).sum() for x in read(found).values())):.6e}", flush=True)


def slots_are_placed_like_parameters():
    where = {name: NamedSharding(GRID, spec) for name, spec in SPECS.items()}
    mask = {"in": True, "out": True, "bias": False, "scale": False}
    matrices = {"in": "muon", "out": "muon", "bias": "adam", "scale": "adam"}
    transformations = {
        "adam": jl.adam(0.01),
        "masked": optax.masked(optax.adamw(0.01), mask),
        "parts": optax.partition({"muon": jl.muon(0.01), "adam": optax.adam(0.01)}, matrices),
        "accumulated": optax.MultiSteps(optax.adam(0.01), 2).gradient_transformation(),
        "injected": optax.inject_hyperparams(optax.rmsprop)(0.01),
        "schedule free": optax.contrib.schedule_free_adamw(0.01),
        "compressed": state.compress(jl.adam(0.01)),
        "adafactor": jl.adafactor(0.01),
        "optax adafactor": optax.adafactor(0.01, min_dim_size_to_factor=64),
    }
    for name, tx in transformations.items():
        params = parameters()
        found = state.shardings(tx, params, where)
        shapes = jax.eval_shape(tx.init, params)
        for (path, leaf), sharding in zip(jl.named_leaves(shapes), jax.tree.leaves(found), strict=True):
            for key, spec in SPECS.items():
                if path.endswith(f"/{key}") and leaf.shape == SHAPES[key]:
                    assert sharding.spec == P(*spec, *[None] * (len(leaf.shape) - len(spec))), (name, path)
        placed = jax.tree.map(jax.device_put, params, where)
        s = jax.jit(tx.init, out_shardings=found)(placed)
        step = state.shard(tx, where)
        updates, s = jax.jit(step.update)(placed, s, placed)
        kept = jax.tree.map(lambda x, w: x.sharding.is_equivalent_to(w, x.ndim), (updates, s), (where, found))
        assert all(jax.tree.leaves(kept)), name
        plain, _ = tx.update(params, tx.init(params), params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), updates, plain)
        print(f"placed {name}")
    rows = state.shardings(jl.adafactor(0.01), params, where)
    assert rows.slots["R"]["in"].spec == P("data", None)
    assert rows.slots["C"]["in"].spec == P(None, "model")
    scales = state.shardings(state.compress(jl.adam(0.01)), params, where).scales
    assert scales[0].spec == P("data", None)  # 2 blocks, 4 shards: the columns cannot be kept
    assert scales[1].spec == P(None, "model")
    print("placed rows, columns and scales")


def methods_on_explicit_axes():
    """Methods that mix coordinates, and one that does not: two steps, against the numbers of one device."""
    specs = {"rows": P("data"), "columns": P(None, "model"), "both": P("data", "model"), "whole": P()}
    where = {name: NamedSharding(EXPLICIT_GRID, spec) for name, spec in specs.items()}
    rng = np.random.default_rng(0)
    params, gradients = ({name: rng.standard_normal((4, 8), np.float32) for name in specs} for _ in range(2))
    methods = {
        "adam": jl.adam(0.1),
        "adafactor": jl.adafactor(),
        "lamb": jl.lamb(0.1),
        "muon": jl.muon(0.1),
        "newton": jl.newton(damping=0.5),
        "newton_cg": jl.newton_cg(damping=0.5),
    }
    sharded = {f"sharded {name}": state.shard(methods[name], where, zero="data") for name in ("adafactor", "muon")}

    def after_two_steps(tx, params, gradients):
        def step(carry, _):
            updates, s = tx.update(gradients, carry[1], carry[0], value_fn=lambda p: sum(jnp.sum(x**4) for x in p.values()))
            return (optax.apply_updates(carry[0], updates), s), None

        return jax.lax.scan(step, (params, tx.init(params)), None, length=2)[0]

    def run(methods, params, gradients):
        return {name: after_two_steps(tx, params, gradients) for name, tx in methods.items()}

    wanted = jax.jit(functools.partial(run, methods))(params, gradients)
    found = jax.jit(functools.partial(run, methods | sharded))(*(jax.device_put(x, where) for x in (params, gradients)))
    for name, (moved, s) in found.items():
        alone, _ = wanted[name.removeprefix("sharded ")]
        for key, x in moved.items():
            np.testing.assert_allclose(x, alone[key], rtol=2e-4, atol=2e-5)
            assert x.sharding.is_equivalent_to(where[key], 2), (name, key)
        if name in sharded:
            placed = jax.tree.leaves(state.shardings(sharded[name], params, where, zero="data"))
            assert all(x.sharding.is_equivalent_to(w, x.ndim) for x, w in zip(jax.tree.leaves(s), placed, strict=True))
        print(f"explicit {name}")


def each_device_computes_its_part():
    for mesh in (LINE, AUTO_LINE):
        whole = NamedSharding(mesh, P())
        params = {"w": jax.device_put(jnp.ones((64, 128)), whole)}
        tx = state.shard(jl.adam(0.01), whole, zero="data")
        text = jax.jit(tx.update).lower(params, tx.init(params), params).compile().as_text()
        assert re.search(r"f32\[8,128\]\S* sqrt\(", text), "no root of a part"
        assert not re.search(r"f32\[64,128\]\S* sqrt\(", text), "a root of the whole"
        inside = jax.jit(lambda p, tx=tx: tx.init(p))(params)
        assert inside[0].slots["m"]["w"].sharding.is_equivalent_to(NamedSharding(mesh, P("data")), 2)
    print("each device computes its part")


def nnx_trains():
    whole = NamedSharding(LINE, P())
    model = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    nnx.update(model, jax.device_put(nnx.state(model), whole))
    optimizer = nnx.Optimizer(model, state.shard(state.compress(jl.adam(0.02)), whole, zero="data"), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(jnp.eye(64)) - 1) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]
    codes = nnx.as_pure(optimizer.opt_state).codes[0].slots["m"]["kernel"]
    assert codes.dtype == jnp.uint8
    assert codes.sharding.is_equivalent_to(NamedSharding(LINE, P("data")), 2)
    print("nnx trains")


def memory_kinds():
    whole = NamedSharding(LINE, P())
    params = {"w": jax.device_put(jnp.ones((64, 128)), whole)}
    plain, _ = trained(jl.adam(0.01), params, params, donate=False)
    for kind in ("device", "pinned_host"):
        tx = state.shard(jl.adam(0.01), whole, zero="data", memory_kind=kind)
        s = tx.init(params)
        assert s[0].slots["m"]["w"].sharding.memory_kind == kind
        found, s = trained(tx, params, params, donate=False)
        assert s[0].slots["m"]["w"].sharding.memory_kind == kind
        np.testing.assert_allclose(found["w"], plain["w"], rtol=1e-5)
        print(f"memory {kind} works")
    try:
        state.shardings(jl.adam(0.01), params, memory_kind="nowhere")
    except ValueError as error:
        if "has no memory of kind 'nowhere'; it has " in str(error):
            print("memory nowhere is refused")


def checkpoints_go_to_other_meshes():
    whole = NamedSharding(LINE, P())
    tx = state.master(state.compress(jl.adamw(0.01)))
    params = jax.device_put(parameters(jnp.bfloat16), whole)
    params, s = trained(state.shard(tx, whole, zero="data"), params, jax.device_put(parameters(jnp.bfloat16, 1), whole))
    with tempfile.TemporaryDirectory() as folder:
        state.save(Path(folder) / "s", s)
        grid = {name: NamedSharding(GRID, spec) for name, spec in SPECS.items()}
        explicit = {name: NamedSharding(EXPLICIT_GRID, spec) for name, spec in SPECS.items()}
        one = NamedSharding(Mesh(DEVICES[:1], "data"), P())
        for name, of_params in (("grid", grid), ("explicit grid", explicit), ("one device", one)):
            like = state.abstract(tx, params, of_params)
            found = state.restore(Path(folder) / "s", like)
            jax.tree.map(np.testing.assert_array_equal, found, s)
            assert all(jax.tree.leaves(jax.tree.map(lambda x, y: x.sharding == y.sharding, found, like)))
            print(f"restored onto {name}")


if __name__ == "__main__":
    zero_is_the_unsharded_run()
    if not PLACE:
        methods_on_explicit_axes()
        slots_are_placed_like_parameters()
        each_device_computes_its_part()
        nnx_trains()
        if jax.__version_info__ >= (0, 10, 2):
            memory_kinds()
        checkpoints_go_to_other_meshes()
