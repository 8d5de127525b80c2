"""What a state costs is said before it is there, and what is in one is said in a line for each leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxopt_lec as jl
from jaxopt_lec import state
from jaxopt_lec.lab import observe

HUGE = {"kernel": jax.ShapeDtypeStruct((10**6, 10**6), jnp.float32), "bias": jax.ShapeDtypeStruct((10**6,), jnp.float32)}


def rows(cost):
    return {(row[0], row[2]): row for row in cost.rows}


def test_bytes_are_counted_without_allocating_them():
    number = 10**12 + 10**6
    found = rows(state.inspect(jl.adam(1e-3), HUGE))
    assert found["parameters", "float32"][1:] == (2, "float32", 4 * number, 4.0, 4 * number)
    assert found["0/slots/m", "float32"][3:5] == (4 * number, 4.0)
    assert found["0/slots/v", "float32"][3:5] == (4 * number, 4.0)
    assert found["scalars", "int32"][3] == 4 * 2  # the counts of two atoms
    assert found["all", ""][4] == pytest.approx(12.0, abs=1e-6)


def test_a_parameter_may_be_a_number():
    assert rows(state.inspect(optax.sgd(0.1), {"x": 1.0, "y": jnp.ones(2)}))["parameters", "float32"][1:4] == (
        2,
        "float32",
        12,
    )


def test_encoded_factored_and_optax_state():
    low = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.bfloat16), HUGE)
    small = state.inspect(state.master(state.compress(jl.adamw(1e-3))), low)
    assert small.bytes_per_parameter == pytest.approx(2 + 1 + 2 * (1 + 4 * 7813 / 10**6), abs=1e-5)
    found = rows(small)
    assert found["inner/codes/0/slots/m", "uint8"][3] == 10**12 + 10**6
    assert found["inner/codes/0/slots/m (scales)", "float32"][3] == 4 * (7813 * 10**6 + 7813)
    assert found["corrections", "int8"][4] == 1.0
    factored = rows(state.inspect(optax.adafactor(1e-3), HUGE))
    assert factored["0/v_row", "float32"][3] == 4 * (10**6 + 1)


def test_bytes_on_a_device_come_from_shardings():
    whole = NamedSharding(Mesh(np.array(jax.devices()), "data"), PartitionSpec())
    params = {"w": jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=whole)}
    where = state.shardings(jl.adam(1e-3), params, zero="data")
    found = rows(state.inspect(jl.adam(1e-3), params, of_params={"w": whole}, of_state=where))
    assert found["parameters", "float32"][5] == 64 * 64 * 4
    assert found["0/slots/m", "float32"][5] == 64 * 64 * 4 // 2


def test_the_table_is_aligned_and_pandas_has_it_too():
    cost = state.inspect(jl.adam(1e-3), HUGE)
    lines = str(cost).splitlines()
    assert lines[0].split() == ["slot", "leaves", "dtype", "bytes", "bytes/parameter", "bytes/device"]
    assert len({len(line) for line in lines}) == 1
    assert "4,000,004,000,000" in lines[1]
    assert cost.table.loc["0/slots/m", "bytes/parameter"] == 4.0
    assert list(cost.table.columns) == ["leaves", "dtype", "bytes", "bytes/parameter", "bytes/device"]


def test_summary_says_what_is_in_a_state():
    params = {"w": jnp.asarray([[3.0, -4.0], [0.0, 0.0]])}
    tx = jl.adam(1e-3)
    _, s = tx.update(params, tx.init(params), params)
    lines = {line.split()[0]: line for line in state.summary(s, values=True).splitlines()}
    assert "float32" in lines["0/slots/m/w"]
    assert lines["0/slots/m/w"].endswith("-0.4 to 0.3, rms 0.25")
    assert lines["0/count"].split()[-1] == "1"
    assert lines["0/hyper/b1"].split()[-1] == "0.9"
    without = state.summary(s)
    assert "rms" not in without
    assert "0/slots/m/w" in state.summary(jax.eval_shape(tx.init, HUGE | {"w": HUGE["bias"]}))


def test_odd_states_can_be_looked_at():
    s = {"key": jax.random.key(0), "complex": jnp.ones(2, complex), "empty": jnp.ones((0, 3)), "bool": jnp.array(True)}
    text = state.summary(s, values=True)
    assert "rms 1" in text
    assert "key<fry>" in text


def test_a_parameter_may_be_called_like_a_slot():
    params = {"w": jnp.ones((64, 128)), "v": {"w": jnp.ones((8, 8))}}
    cost = rows(state.inspect(jl.adam(0.1), params))
    assert cost["0/slots/v", "float32"][1] == 2
    whole = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("data",)), PartitionSpec())
    found = state.shardings(jl.adam(0.1), params, whole)
    assert jax.tree.structure(found) == jax.tree.structure(jax.eval_shape(jl.adam(0.1).init, params))
    assert rows(state.inspect(jl.adam(0.1), params, of_params=whole)) == cost


@pytest.mark.parametrize("tool", [state.abstract, state.compress, state.inspect, state.master, state.shard, state.shardings])
def test_what_is_no_transformation_is_refused_by_every_tool(tool):
    given = [{"w": jnp.ones(3)}] if tool in (state.abstract, state.inspect, state.shard, state.shardings) else []
    with pytest.raises(TypeError, match=f"^{tool.__name__} takes an Optax transformation, got a function; call it"):
        tool(jl.adam, *given)
    with pytest.raises(TypeError, match=f"^{tool.__name__} takes an Optax transformation, got a Fused$"):
        tool(jl.fuse(jl.adam(0.1)), *given)


def test_every_tool_takes_multi_steps():
    whole = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("data",)), PartitionSpec())
    params = jax.device_put({"w": jnp.ones((64, 64), jnp.bfloat16)}, whole)
    accumulating = optax.MultiSteps(jl.adam(0.1), 2)
    as_transformation = optax.GradientTransformationExtraArgs(accumulating.init, accumulating.update)
    tools = {
        "compress": state.compress,
        "master": state.master,
        "shard": lambda tx: state.shard(tx, whole),
        "fuse": jl.fuse,
        "count_by_leaf": jl.count_by_leaf,
        "observe": observe,
    }
    for tool in tools.values():
        found, expected = (jax.eval_shape(tool(tx).init, params) for tx in (accumulating, as_transformation))
        assert found == expected
    assert state.inspect(accumulating, params) == state.inspect(as_transformation, params)
    assert state.shardings(accumulating, params, whole) == state.shardings(as_transformation, params, whole)
    assert state.abstract(accumulating, params) == state.abstract(as_transformation, params)
