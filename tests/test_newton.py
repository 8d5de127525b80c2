"""Newton's method against its oracles, on losses with positive, zero and negative curvature."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxopt_lec as jl

SIZE = 7


def as_tree(flat):
    return {"a": flat[:4].reshape(2, 2), "b": flat[4:]}


def quartic(params, A, c):
    x = jnp.concatenate([params["a"].ravel(), params["b"]])
    return 0.5 * x @ (A @ x) - c @ x + 0.1 * jnp.sum(x**4)


def problem(spectrum):
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))
    A = Q @ np.diag(spectrum) @ Q.T
    return (A + A.T) / 2, rng.standard_normal(SIZE), rng.standard_normal(SIZE)


SPECTRA = {
    "convex": np.geomspace(0.1, 100, SIZE),
    "saddle": np.linspace(-3, 3, SIZE) * 10,
    "flat": np.array([0.0, 0, 0, 1, 2, 3, 4]),
}


def steps_from(tx, iterates, A, c):
    """One step of ours from each of the oracle's iterates: over a saddle the whole path would multiply rounding errors."""

    def step(theta):
        params = as_tree(theta)
        gradient = jax.grad(quartic)(params, A, c)
        updates, _ = tx.update(gradient, tx.init(params), params, value_fn=quartic, A=A, c=c, unrelated=1)
        return jnp.concatenate([updates["a"].ravel(), updates["b"]])

    return np.asarray(jax.lax.map(step, jnp.asarray(iterates)))


@pytest.mark.parametrize("learning_rate", [1.0, 0.5])
@pytest.mark.parametrize("damping", [0.0, 2.0])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_newton_equals_the_oracle(spectrum, damping, learning_rate):
    A, c, theta = problem(SPECTRA[spectrum])
    expected = oracles.newton(
        theta,
        lambda x, t: A @ x - c + 0.4 * x**3,
        lambda x, t: A + np.diag(1.2 * x**2),
        20,
        learning_rate,
        damping=damping,
    )
    with jax.enable_x64(True):
        ours = steps_from(jl.newton(learning_rate, damping=damping), expected[:-1], jnp.asarray(A), jnp.asarray(c))
    np.testing.assert_allclose(ours, np.diff(expected, axis=0), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("max_iterations", [1, 3, 100])
@pytest.mark.parametrize("damping", [0.0, 2.0])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_newton_cg_equals_the_oracle(spectrum, damping, max_iterations):
    A, c, theta = problem(SPECTRA[spectrum])
    expected = oracles.newton_cg(
        theta,
        lambda x, t: A @ x - c + 0.4 * x**3,
        lambda x, d, t: A @ d + 1.2 * x**2 * d,
        12,
        0.3,
        damping=damping,
        max_iterations=max_iterations,
    )
    with jax.enable_x64(True):
        tx = jl.newton_cg(0.3, damping=damping, max_iterations=max_iterations)
        ours = steps_from(tx, expected[:-1], jnp.asarray(A), jnp.asarray(c))
    np.testing.assert_allclose(ours, np.diff(expected, axis=0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", [jl.newton, jl.newton_cg])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_direction_is_always_downhill(method, spectrum):
    A, c, theta = problem(SPECTRA[spectrum])
    tx, params = method(), as_tree(jnp.asarray(theta, jnp.float32))
    arguments = {"A": jnp.asarray(A, jnp.float32), "c": jnp.asarray(c, jnp.float32)}
    gradient = jax.grad(quartic)(params, **arguments)
    updates, _ = tx.update(gradient, tx.init(params), params, value_fn=quartic, **arguments)
    assert optax.tree.vdot(updates, gradient) < 0


@pytest.mark.parametrize("method", [jl.newton, jl.newton_cg])
def test_at_a_stationary_point_nothing_moves(method):
    params = {"w": jnp.zeros(3)}
    bowl = lambda params: jnp.sum(params["w"] ** 2)  # noqa: E731
    tx = method()
    updates, _ = tx.update(jax.grad(bowl)(params), tx.init(params), params, value_fn=bowl)
    np.testing.assert_array_equal(updates["w"], 0)


@pytest.mark.parametrize("method", [jl.newton, jl.newton_cg])
@pytest.mark.parametrize(
    "search",
    [
        functools.partial(optax.scale_by_backtracking_linesearch, 30, increase_factor=np.inf),
        functools.partial(optax.scale_by_zoom_linesearch, 30, initial_guess_strategy="one"),
    ],
    ids=["backtracking", "zoom"],
)
def test_works_with_optax_line_searches_in_one_chain(method, search):
    def rosenbrock(params, scale):
        x = params["x"]
        return jnp.sum(scale * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    @jax.jit
    def step(params, state):
        value, grad = jax.value_and_grad(rosenbrock)(params, 100.0)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=rosenbrock, scale=100.0)
        return optax.apply_updates(params, updates), state

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = {"x": jnp.asarray([-1.2, 1.0])}
        tx = optax.chain(method(), search())
        state = tx.init(params)
        values = [float(rosenbrock(params, 100.0))]
        for _ in range(100):
            params, state = step(params, state)
            values.append(float(rosenbrock(params, 100.0)))
    assert values[-1] < 1e-12
    assert all(b <= a for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("method", [jl.newton, jl.newton_cg])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_not_hidden(method, bad):
    params, tx = {"w": jnp.ones(3)}, method()
    gradient = {"w": jnp.asarray([1.0, bad, 1.0])}
    updates, _ = tx.update(gradient, tx.init(params), params, value_fn=lambda params: jnp.sum(params["w"] ** 2))
    assert not np.all(np.isfinite(updates["w"]))


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e25])
def test_newton_cg_at_any_scale_of_the_gradient(size):
    params, tx = {"w": jnp.full(3, size)}, jl.newton_cg()
    updates, _ = tx.update(params, tx.init(params), params, value_fn=lambda params: 0.5 * jnp.sum(params["w"] ** 2))
    np.testing.assert_allclose(updates["w"], -params["w"], rtol=1e-6)


@pytest.mark.parametrize("method", [jl.newton, jl.newton_cg])
@pytest.mark.parametrize(
    ("gradient", "value_fn", "message"),
    [
        ({"w": jnp.ones(3, int)}, bool, "at 'w': the gradient has dtype int32"),
        ({"w": jnp.ones(2)}, bool, r"at 'w': the gradient has shape \(2,\), the parameter \(3,\)"),
        ({"w": None}, bool, "at 'w': the gradient is None; the loss function needs every parameter"),
        ({"w": optax.MaskedNode()}, bool, "at 'w': the gradient is masked; the loss function needs every parameter"),
        ({"w": jnp.ones(3)}, 3.0, "value_fn must be a function of the parameters, got 3.0"),
        ({"w": jnp.ones(3)}, lambda params: params["w"], r"value_fn must return a scalar, got shape \(3,\)"),
        (
            {"w": jnp.ones(3)},
            lambda params: (params["w"].sum(), 0.0),
            r"value_fn must return a scalar, got shape \(\(\), \(\)\)",
        ),
    ],
)
def test_bad_input_is_named(method, gradient, value_fn, message):
    params, tx = {"w": jnp.ones(3)}, method()
    with pytest.raises((TypeError, ValueError), match=message):
        tx.update(gradient, tx.init(params), params, value_fn=value_fn)


@pytest.mark.parametrize("method", [jl.newton, jl.newton_cg])
def test_complex_parameters_are_refused(method):
    params = {"z": jnp.ones(2, complex)}
    loss = lambda params: jnp.sum(jnp.abs(params["z"]) ** 2)  # noqa: E731
    tx = method()
    with pytest.raises(TypeError, match="complex parameters have no Hessian"):
        tx.update(jax.grad(loss)(params), tx.init(params), params, value_fn=loss)


def test_bfloat16_parameters_are_solved_in_float32():
    params = {"w": jnp.asarray([1.0, 2.0], jnp.bfloat16)}
    bowl = lambda params: jnp.sum(jnp.asarray([1.0, 100.0]) * (params["w"] - 1) ** 2)  # noqa: E731
    tx = jl.newton()
    gradient = jax.tree.map(lambda p: (2 * jnp.asarray([1.0, 100.0]) * (p.astype(jnp.float32) - 1)).astype(p.dtype), params)
    updates, _ = tx.update(gradient, tx.init(params), params, value_fn=bowl)
    assert updates["w"].dtype == jnp.bfloat16
    np.testing.assert_allclose(updates["w"].astype(jnp.float32), [0.0, -1.0], atol=1e-2)


@pytest.mark.parametrize("method", [jl.newton, jl.newton_cg])
def test_without_a_program_on_explicit_axes(method):
    mesh = jax.make_mesh((2,), ("data",))
    params = {"a": np.arange(4, dtype=np.float32).reshape(2, 2), "b": np.ones((1, 2), np.float32)}
    where = {"a": NamedSharding(mesh, PartitionSpec("data")), "b": NamedSharding(mesh, PartitionSpec(None, "data"))}
    bowl = lambda params: 0.5 * (jnp.sum(params["a"] ** 2) + jnp.sum(params["b"] ** 2))  # noqa: E731
    tx = method(damping=0.6)
    placed = jax.device_put(params, where)
    found, _ = tx.update(placed, tx.init(placed), placed, value_fn=bowl)
    for key, x in found.items():
        np.testing.assert_allclose(x, -params[key] / 1.6, rtol=1e-6)
        assert x.sharding.is_equivalent_to(where[key], 2)


@pytest.mark.parametrize("method", [jl.newton(), jl.newton(damping=0.5), jl.newton_cg()], ids=["newton", "damped", "cg"])
@pytest.mark.parametrize(
    "params",
    [
        {"a": np.zeros(0, np.float32), "b": np.zeros((2, 1), np.float32)},
        [np.zeros((3, 0), np.float32), np.zeros(0, np.float32)],
        {},
    ],
    ids=["some", "all", "no leaves"],
)
def test_leaves_without_elements_stay(method, params):
    def loss(params):
        return sum((0.5 * jnp.sum((p - 1) ** 2) for p in jax.tree.leaves(params)), jnp.zeros(()))

    updates, _ = method.update(jax.grad(loss)(params) if params else params, method.init(params), params, value_fn=loss)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    assert all(np.all(u > 0.6) for u in jax.tree.leaves(updates))
