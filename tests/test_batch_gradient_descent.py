"""Full-batch gradients in pieces are the gradient of the whole."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lec as jl

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((103, 5)), RNG.standard_normal(103)
PARAMS = {"w": np.ones(5), "b": np.zeros(())}


def loss(params, batch):
    return jnp.mean(jnp.tanh(batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2)


def chunks(*ends):
    return [{"x": X[a:b], "y": Y[a:b]} for a, b in zip((0, *ends), (*ends, len(X)), strict=True)]


@pytest.mark.parametrize("ends", [(), (50,), (7, 8, 60), (0, 64)], ids=str)
@pytest.mark.parametrize("micro_batch_size", [1, 8, 64, 1000])
def test_equals_the_gradient_of_the_whole(ends, micro_batch_size):
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, PARAMS)
        whole = jax.value_and_grad(loss)(params, {"x": jnp.asarray(X), "y": jnp.asarray(Y)})
        value_and_grad = jl.full_batch_value_and_grad(loss, micro_batch_size)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), value_and_grad(params, chunks(*ends)), whole)


@pytest.mark.filterwarnings("error")
def test_the_micro_batch_size_may_be_an_integer_of_numpy():
    value, _ = jl.full_batch_value_and_grad(loss, np.int64(8))(PARAMS, chunks())
    np.testing.assert_allclose(value, jl.full_batch_value_and_grad(loss, 8)(PARAMS, chunks())[0])


def test_batch_gradient_descent_decreases_at_every_step():
    value_and_grad = jl.full_batch_value_and_grad(loss, 16)
    tx, params = jl.sgd(0.2), jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), PARAMS)
    state, values = tx.init(params), []
    data = jax.tree.map(lambda x: x.astype(np.float32), chunks(40))
    for _ in range(30):
        value, grad = value_and_grad(params, (chunk for chunk in data))
        updates, state = tx.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        values.append(float(value))
    assert all(later < earlier for earlier, later in itertools.pairwise(values))


def test_each_chunk_length_is_compiled_once():
    traces = []

    def counted(params, batch):
        traces.append(1)
        return loss(params, batch)

    value_and_grad = jl.full_batch_value_and_grad(counted, 10)
    data = jax.tree.map(lambda x: x.astype(np.float32), chunks(20, 40, 60, 80, 100))
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), PARAMS)
    value_and_grad(params, data)
    after_one = len(traces)
    value_and_grad(params, data)
    assert len(traces) == after_one


def test_bad_input_is_named():
    for wrong in (0, 2.5):
        with pytest.raises(ValueError, match=f"micro_batch_size must be a whole number from 1, got {wrong}"):
            jl.full_batch_value_and_grad(loss, wrong)
    value_and_grad = jl.full_batch_value_and_grad(loss, 4)
    with pytest.raises(ValueError, match="the chunks hold no examples; was a generator used up"):
        value_and_grad(PARAMS, iter(()))
    with pytest.raises(ValueError, match=r"leading axes of a chunk must agree, got lengths \[3, 4\]"):
        value_and_grad(PARAMS, [{"x": X[:3], "y": Y[:4]}])
    with pytest.raises(ValueError, match="a chunk is a tree of arrays with a leading axis of examples, got "):
        value_and_grad(PARAMS, [np.ones(())])
    with pytest.raises(TypeError, match=r"chunks are to be iterated over, got one array: give \[array\]"):
        value_and_grad(PARAMS, X)


@pytest.mark.parametrize(("dtype", "size"), [(jnp.bfloat16, 1.0), (jnp.float16, 100.0)])
def test_low_precision_sums_neither_stall_nor_overflow(dtype, size):
    value_and_grad = jl.full_batch_value_and_grad(lambda params, batch: jnp.mean(batch @ params), 1)
    value, grad = value_and_grad(jnp.ones(1, dtype), [jnp.full((1000, 1), size, dtype)])
    np.testing.assert_allclose(value, size, rtol=1e-6)
    assert grad == size
    assert grad.dtype == dtype
