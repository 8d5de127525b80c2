"""`compress` around every optimizer: it changes what is kept, and nothing of what is computed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from cases import Case, kinds
from flax import nnx

import jaxopt_lec as jl
from jaxopt_lec import state


@dataclasses.dataclass(frozen=True)
class Bits:
    """A codec that loses nothing."""

    def encode(self, x, seed):
        return jax.lax.bitcast_convert_type(x, jnp.uint32), None

    def decode(self, codes, scales):
        return jax.lax.bitcast_convert_type(codes, jnp.float32)


def with_axes(name, leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating) and len(leaf.shape) > 0


def number_encoded(s):
    return sum(chosen is not None for chosen in s.format.leaves)


def linear(params, slope):
    return sum(jnp.sum(s * p) for s, p in zip(jax.tree.leaves(slope), jax.tree.leaves(params), strict=True))


def trained(tx, params, gradients, scan=jax.lax.scan):
    def body(carry, g):
        p, s = carry
        u, s = tx.update(g, s, p, value_fn=linear, slope=g)
        return (optax.apply_updates(p, u), s), None

    with jax.numpy_dtype_promotion("standard"):
        return scan(body, (params, tx.init(params)), gradients)[0]


def one_by_one(body, carry, xs):
    """A scan outside a program: XLA cannot fuse what stands beside an operation into it, and round otherwise."""
    for k in range(len(jax.tree.leaves(xs)[0])):
        carry, _ = body(carry, jax.tree.map(lambda x, k=k: x[k], xs))
    return carry, None


def problem(steps=10, shape=(6, 8)):
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.standard_normal(shape), jnp.float32), "bias": jnp.zeros(shape[-1:])}
    gradients = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal((steps, *p.shape)), jnp.float32), params)
    return params, gradients


def holding(case):
    """The problem, with leaves that the method takes."""
    params, gradients = problem()
    if case.min_ndim > 1:
        params, gradients = {"kernel": params["kernel"]}, {"kernel": gradients["kernel"]}
    return params, gradients


OPTAX = {
    "adam": optax.adam(0.1),
    "adafactor": optax.adafactor(0.1, min_dim_size_to_factor=4),
    "lookahead": optax.multi_transform({"all": optax.adamw(0.1)}, "all"),
    "injected": optax.inject_hyperparams(optax.rmsprop)(0.1),
    "accumulated": optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
    "skipping": optax.apply_if_finite(optax.yogi(0.1), 3),
}


@pytest.mark.parametrize("case", [*kinds(), *(pytest.param(tx, id=name) for name, tx in OPTAX.items())])
def test_a_codec_that_loses_nothing_changes_no_bit(case):
    tx, (params, gradients) = (case.tx, holding(case)) if isinstance(case, Case) else (case, problem())
    gradients = jax.tree.map(lambda g: g[:3], gradients)
    plain, plain_state = trained(tx, params, gradients, one_by_one)
    ours, our_state = trained(state.compress(tx, Bits(), where=with_axes), params, gradients, one_by_one)
    floats = [x for x in jax.tree.leaves(plain_state) if x.ndim and x.dtype == jnp.float32]
    assert number_encoded(our_state) == len(floats)
    jax.tree.map(np.testing.assert_array_equal, (ours, state.decompress(our_state)), (plain, plain_state))


@pytest.mark.parametrize("case", kinds(without="value_fn"))
def test_eight_bits_train_every_optimizer(case):
    """Its path stays near that of full width: within a tenth of the way that it goes, for each leaf in the 2-norm."""
    params, gradients = holding(case)
    wide, _ = trained(case.tx, params, gradients)
    ours, small = trained(state.compress(case.tx, where=with_axes), params, gradients)
    assert all(x.ndim == 0 or x.dtype != jnp.float32 for x in jax.tree.leaves(small.codes))
    for key in params:
        way = np.linalg.norm(wide[key] - params[key])
        assert np.linalg.norm(ours[key] - wide[key]) < 0.1 * way, key


def test_the_state_is_a_fixed_point_of_update_and_repeats():
    tx = state.compress(jl.adam(0.1), where=with_axes)
    params, gradients = problem()
    shapes = jax.eval_shape(tx.init, params)
    one, first = trained(tx, params, gradients)
    assert jax.tree.structure(first) == jax.tree.structure(shapes)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), first) == jax.tree.map(lambda x: (x.shape, x.dtype), shapes)
    two, second = trained(tx, params, gradients)
    jax.tree.map(np.testing.assert_array_equal, (one, first), (two, second))


def test_a_coordinate_without_gradient_never_moves():
    tx = state.compress(jl.adam(0.1), where=with_axes)
    params = jax.random.normal(jax.random.key(0), (3, 200))
    seen = jnp.arange(200) % 7 > 0

    def body(carry, key):
        p, s = carry
        u, s = tx.update(jnp.where(seen, jax.random.normal(key, p.shape), 0), s, p)
        return (optax.apply_updates(p, u), s), None

    (end, _), _ = jax.lax.scan(body, (params, tx.init(params)), jax.random.split(jax.random.key(1), 10_000))
    np.testing.assert_array_equal(end[:, ~seen], params[:, ~seen])
    assert bool((end != params)[:, seen].all())


def test_second_moments_keep_up_where_rounding_to_the_nearest_would_stall():
    """v falls by 0.1 % in a step, and its codes stand 1.6 % apart: it must fall all the same."""
    tx = state.compress(jl.scale_by_adam(), where=with_axes)
    params = jnp.zeros((8, 128))

    def body(s, g):
        return tx.update(jnp.full_like(params, g), s, params)[1], None

    s, _ = jax.lax.scan(body, tx.init(params), jnp.concatenate([jnp.ones(1000), jnp.full(3000, 0.1)]))
    v = np.asarray(state.decompress(s).slots["v"], np.float64)
    exact = (1 - 0.999**1000) * 0.999**3000 + 0.01 * (1 - 0.999**3000)
    # One noise for each coordinate: the mean is sharp, the spread is that of the codes.
    assert abs(v.mean() / exact - 1) < 0.03
    assert v.std() / exact < 0.2


def test_large_leaves_are_chosen_and_copies_of_parameters_are_not():
    kernel = jnp.ones((64, 64))
    params = {"kernel": kernel, "bias": jnp.ones(64), "column": jnp.ones((5000, 1)), "complex": kernel.astype(complex)}
    assert number_encoded(state.compress(jl.adam(0.1)).init(params)) == 3  # two of the kernel, one real one of the complex
    assert jax.jit(state.compress(optax.adam(0.1)).init)(params).codes[0].nu["kernel"].dtype == jnp.uint8
    averaging = optax.contrib.schedule_free_adamw(0.1)
    s = state.compress(averaging).init({"kernel": kernel})
    assert s.codes.z["kernel"].dtype == jnp.float32  # starts as θ
    assert number_encoded(s) == 1


def test_patterns_choose_codecs():
    params = {"embedding": jnp.ones((64, 64)), "head": jnp.ones((64, 64))}
    codecs = {"embedding": None, "/v/": state.blockwise_8bit, "/m/": state.bfloat16}
    slots = state.compress(jl.adam(0.1), codecs).init(params).codes[0].slots
    assert slots["m"]["head"].dtype == jnp.bfloat16
    assert slots["v"]["head"].dtype == jnp.uint8
    assert slots["v"]["embedding"].dtype == jnp.float32
    slots = state.compress(jl.adam(0.1), where=lambda name, leaf: "head" in name).init(params).codes[0].slots
    assert slots["m"]["head"].dtype == jnp.uint8
    assert slots["m"]["embedding"].dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_a_leaf_comes_back_in_its_dtype(dtype):
    tx = state.compress(optax.adam(0.1, mu_dtype=dtype))
    params = jnp.ones((64, 64))
    s = tx.init(params)
    assert s.codes[0].mu.dtype == jnp.uint8
    with jax.numpy_dtype_promotion("standard"):
        assert state.decompress(tx.update(params, s, params)[1])[0].mu.dtype == dtype


def test_each_leaf_and_each_step_has_noise_of_its_own():
    params = [jnp.zeros((4, 128))] * 2
    tx = state.compress(jl.scale_by_momentum(), where=with_axes)
    g = jax.random.normal(jax.random.key(0), (4, 128))
    s = tx.init(params)
    one, two = tx.update([g, g], s, params)[1].codes.slots["v"]
    later, _ = tx.update([g, g], s._replace(count=jnp.int32(1)), params)[1].codes.slots["v"]
    assert not bool((one == two).all())
    assert not bool((one == later).all())


def test_vmap_equals_separate_runs():
    params, gradients = problem()

    def run(rate):
        return trained(state.compress(jl.adam(rate), where=with_axes), params, gradients)

    rates = jnp.array([0.01, 0.1])
    together = jax.vmap(run)(rates)
    for i, rate in enumerate(rates):
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6), together[0], run(rate)[0])


def test_the_next_step_after_orbax_is_bit_equal(tmp_path):
    params, gradients = problem()
    tx = state.compress(jl.adamw(0.1), where=with_axes)
    params, s = trained(tx, params, gradients)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", s)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", jax.eval_shape(tx.init, params))
    step = jax.jit(tx.update)
    g = jax.tree.map(lambda g: g[0], gradients)
    jax.tree.map(np.testing.assert_array_equal, step(g, restored, params), step(g, s, params))


def test_trains_in_nnx_optimizer():
    model = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, state.compress(jl.adam(0.02)), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(jnp.eye(64)) - 1) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    with jax.numpy_dtype_promotion("standard"):
        losses = [step(model, optimizer) for _ in range(200)]
    assert losses[-1] < 0.01 * losses[0]
    assert nnx.as_pure(optimizer.opt_state).codes[0].slots["v"]["kernel"].dtype == jnp.uint8


def test_skipping_faults_around_compress_keeps_the_state():
    params, _ = problem()
    tx = optax.apply_if_finite(state.compress(jl.adam(0.1), where=with_axes), 3)
    s = tx.init(params)
    _, after = tx.update(jax.tree.map(lambda p: p * jnp.nan, params), s, params)
    jax.tree.map(np.testing.assert_array_equal, after.inner_state, s.inner_state)


def test_errors_say_what_is_wrong():
    params = {"kernel": jnp.ones((64, 64))}
    with pytest.raises(ValueError, match=r"no leaf of the state matches 'kernle'; there are 0/count"):
        state.compress(jl.adam(0.1), {"kernle": state.bfloat16}).init(params)
    with pytest.raises(TypeError, match="0/count is int32; real floating leaves"):
        state.compress(jl.adam(0.1), where=lambda name, leaf: True).init(params)
    with pytest.raises(ValueError, match="0/hyper/b1 is a scalar"):
        state.compress(jl.adam(0.1), where=lambda name, leaf: "b1" in name).init(params)
    with pytest.raises(TypeError, match="expected the CompressState made by its init"):
        state.compress(jl.adam(0.1)).update(params, jl.adam(0.1).init(params), params)


def test_what_is_no_codec_is_refused():
    with pytest.raises(TypeError, match="compress: '8bit' is no codec"):
        state.compress(jl.adam(0.1), "8bit")
