"""Sharded state: eight devices in a program of their own, two processes of four, and the errors."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

import jaxopt_lec as jl
from jaxopt_lec import state

PROGRAM = Path(__file__).with_name("shard_program.py")


@pytest.fixture(scope="module")
def said():
    found = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=280)
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout.splitlines()


@pytest.mark.parametrize(
    "line",
    [
        *(f"placed {x}" for x in ("adam", "masked", "parts", "accumulated", "injected", "schedule free", "compressed")),
        "placed adafactor",
        "placed optax adafactor",
        "placed rows, columns and scales",
        *(f"explicit {x}" for x in ("adam", "adafactor", "lamb", "muon", "newton", "newton_cg")),
        *(f"explicit sharded {x}" for x in ("adafactor", "muon")),
        "each device computes its part",
        "nnx trains",
        "memory device works",
        "memory pinned_host works",
        "memory nowhere is refused",
        "restored onto grid",
        "restored onto explicit grid",
        "restored onto one device",
    ],
)
def test_on_eight_devices(said, line):
    if line.startswith("memory") and jax.__version_info__ < (0, 10, 2):
        pytest.skip("needs JAX 0.10.2")
    assert line in said


@pytest.mark.thorough  # three processes, each of which compiles
def test_two_processes_compute_what_one_does(said):
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen([sys.executable, str(PROGRAM), str(k), "2", str(port)], stdout=subprocess.PIPE, text=True)
        for k in range(2)
    ]
    outputs = [process.communicate(timeout=280)[0].splitlines() for process in processes]
    alone = [line for line in said if line.startswith("zero")]
    assert len(alone) == 3
    for output in outputs:
        found = [line for line in output if line.startswith("zero")]
        assert [line.split()[1] for line in found] == [line.split()[1] for line in alone]
        np.testing.assert_allclose(*([float(x.split()[2]) for x in lines] for lines in (found, alone)), rtol=1e-5)


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()), "data")


def with_table(shape):
    """A transformation with a large leaf that belongs to no parameter."""
    return optax.GradientTransformation(
        lambda params: {"table": jnp.zeros(shape), "seen": jnp.zeros(3)}, lambda updates, s, params=None: (updates, s)
    )


def test_errors_say_what_is_wrong(mesh):
    params = {"layer": {"w": jnp.ones((8, 8))}}
    whole = NamedSharding(mesh, PartitionSpec())
    with pytest.raises(ValueError, match="layer/w needs a NamedSharding, it has SingleDeviceSharding"):
        state.shardings(jl.adam(0.1), params)
    other = NamedSharding(Mesh(np.array(jax.devices()[:1]), "data"), PartitionSpec())
    with pytest.raises(ValueError, match="must be on one mesh, they are on 2"):
        state.shardings(jl.adam(0.1), {"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": whole, "b": other})
    with pytest.raises(ValueError, match="zero='model' is no axis of the mesh; it has data"):
        state.shardings(jl.adam(0.1), params, whole, zero="model")
    with pytest.raises(ValueError, match="no leaf of the state matches 'tabel'; there are "):
        state.shardings(jl.adam(0.1), params, whole, rules={"tabel": PartitionSpec()})
    with pytest.raises(ValueError, match=r"no rule places table, float32\[100, 100\]; give rules="):
        state.shardings(with_table((100, 100)), params, whole)
    found = state.shardings(with_table((100, 100)), params, whole, rules={"table": PartitionSpec("data")})
    assert found["table"].spec == PartitionSpec("data")
    assert found["seen"].is_fully_replicated
    assert state.shardings(with_table((10, 10)), params, whole)["table"].is_fully_replicated


def test_zero_takes_the_first_axis_that_divides(mesh):
    whole = NamedSharding(mesh, PartitionSpec())
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones((3, 5)), "c": jnp.ones((4, 4)), "d": jnp.ones(())}
    m = state.shardings(jl.adam(0.1), params, whole, zero="data")[0].slots["m"]
    assert [m[key].spec for key in "abcd"] == [
        PartitionSpec(None, "data"),
        PartitionSpec(None, None),
        PartitionSpec("data", None),
        PartitionSpec(),
    ]
    already = {key: NamedSharding(mesh, PartitionSpec("data") if key == "c" else PartitionSpec()) for key in params}
    assert state.shardings(jl.adam(0.1), params, already, zero="data")[0].slots["m"]["c"].spec == PartitionSpec("data", None)


# What JAX alone would refuse on Explicit axes: rows against columns that one axis splits, blocks of several devices' parts.
ON_EXPLICIT_AXES = {
    "adam": jl.adam(0.1),
    "adafactor": jl.adafactor(),
    "optax": optax.adafactor(0.1, min_dim_size_to_factor=4),
    "compressed": state.compress(jl.adam(0.1), where=lambda name, leaf: len(leaf.shape) == 2),
    "exact": jl.nesterov_exact(0.1),
    "parts": optax.partition({"a": jl.muon(0.1), "b": jl.lamb(0.1)}, {"w": "a", "v": "b", "b": "b"}),
}


@pytest.mark.parametrize("types", [("Explicit", "Explicit"), ("Explicit", "Auto"), ("Auto", "Explicit")], ids="-".join)
@pytest.mark.parametrize("name", ON_EXPLICIT_AXES)
def test_types_on_explicit_axes(name, types):
    mesh = AbstractMesh((4, 2), ("data", "model"), axis_types=tuple(AxisType[x] for x in types))
    shapes = {"w": (8, 384), "v": (384, 4), "b": (3,)}
    specs = {"w": PartitionSpec(None, "model"), "v": PartitionSpec(), "b": PartitionSpec()}
    where = {key: NamedSharding(mesh, spec) for key, spec in specs.items()}
    params = {key: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where[key]) for key, shape in shapes.items()}
    tx = state.shard(ON_EXPLICIT_AXES[name], where, zero="data")
    placed = jax.tree.leaves(state.shardings(tx, params, where, zero="data"))
    explicit = [axis for axis, kind in zip(mesh.axis_names, types, strict=True) if kind == "Explicit"]

    def run(params, gradients):
        def step(carry, _):
            updates, s = tx.update(gradients, carry[1], carry[0], value_fn=lambda p: sum(jnp.sum(x**2) for x in p.values()))
            assert jax.tree.map(jax.typeof, updates) == jax.tree.map(jax.typeof, gradients)
            for x, sharding in zip(jax.tree.leaves(s), placed, strict=True):
                spec = str(jax.typeof(x).sharding.spec)
                assert [axis in spec for axis in explicit] == [axis in str(sharding.spec) for axis in explicit]
            return (optax.apply_updates(carry[0], updates), s), None

        return jax.lax.scan(step, (params, tx.init(params)), None, length=2)[0]

    with jax.sharding.use_abstract_mesh(mesh):
        jax.eval_shape(run, params, params)


def test_inside_shard_map_the_transformation_itself_is_used():
    mesh = jax.make_mesh((2,), ("data",))
    tx = state.shard(jl.adam(0.1), NamedSharding(mesh, PartitionSpec()), zero="data")
    inside = jax.shard_map(tx.init, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec())
    with pytest.raises(ValueError, match=r"inside jax.shard_map over data .* use the transformation itself there"):
        jax.eval_shape(inside, jnp.ones((4, 4)))


def test_zero_takes_the_first_axis_that_divides_after_it_is_split_already():
    mesh = AbstractMesh((2, 2), ("data", "model"))
    params = {"six": jnp.ones((3, 6)), "eight": jnp.ones((3, 8))}
    columns = NamedSharding(mesh, PartitionSpec(None, "model"))
    m = state.shardings(jl.adam(0.1), params, columns, zero="data")[0].slots["m"]
    assert m["six"].spec == PartitionSpec(None, "model")
    assert m["eight"].spec == PartitionSpec(None, ("model", "data"))


def test_scales_are_split_only_between_blocks(mesh):
    columns = NamedSharding(mesh, PartitionSpec(None, "data"))
    params = {"in_the_middle": jnp.ones((64, 510)), "between": jnp.ones((64, 512))}  # 4 blocks of 128 in both
    found = state.shardings(state.compress(jl.adam(0.1)), params, columns)
    specs = [sharding.spec for sharding in found.scales]
    assert set(specs) == {PartitionSpec(None, "data"), PartitionSpec(None, None)}
    assert [found.codes[0].slots["m"][key].spec for key in params] == [PartitionSpec(None, "data")] * 2


def test_a_missing_gradient_stays_missing(mesh):
    whole = NamedSharding(mesh, PartitionSpec())
    params = {"a": jnp.ones((4, 4)), "b": jnp.ones(4)}
    tx = state.shard(jl.adam(0.1), whole, zero="data")
    updates, _ = tx.update({"a": jnp.ones((4, 4)), "b": None}, tx.init(params), params)
    assert updates["b"] is None
