"""The test functions against formulas written out in NumPy, their minima against calculus and against SciPy."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.surfaces import (
    SURFACES,
    Ackley,
    Cone,
    DoubleWell,
    Rastrigin,
    Ravine,
    Rosenbrock,
    Saddle,
    StyblinskiTang,
    find_surface,
    noisy,
)

ANY_DIMENSION = [Ravine, Rosenbrock, Rastrigin, Ackley, StyblinskiTang, Cone]
CASES = [
    *(find_surface(name) for name in SURFACES),
    Ravine(condition=1e4, dimension=5, angle=0.7),
    Ravine(dimension=1),
    Rosenbrock(dimension=3),
    Rastrigin(dimension=1),
    Ackley(dimension=3),
    StyblinskiTang(dimension=3),
    Saddle(bounded=False),
    DoubleWell(hill=0.2),
    Cone(dimension=3),
]
SMOOTH = [surface for surface in CASES if not isinstance(surface, Ackley)]
e, pi = math.e, math.pi


def label(surface):
    return str(surface).replace(" ", "")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def ravine(x, surface):
    """By its axes: R e₁ is the flattest direction; in two dimensions R turns by the angle."""
    d = len(x)
    R = np.eye(d)
    for i in range(d - 1):
        turn = np.eye(d)
        turn[i, i], turn[i, i + 1], turn[i + 1, i], turn[i + 1, i + 1] = (
            f(surface.angle) for f in (math.cos, lambda a: -math.sin(a), math.sin, math.cos)
        )
        R = R @ turn
    ratio = surface.condition ** (1 / (d - 1)) if d > 1 else 1
    first = 1 if d > 1 else surface.condition
    return sum(first * ratio**i * (R[:, i] @ x) ** 2 for i in range(d)) / 2


# Written out once more, with loops where the library has none.
FORMULAS = {
    "ravine": ravine,
    "rosenbrock": lambda x, _: sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x)),
    "beale": lambda x, _: sum((c - x[0] * (1 - x[1] ** k)) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))),
    "himmelblau": lambda x, _: (x[0] * x[0] + x[1] - 11) ** 2 + (x[0] + x[1] * x[1] - 7) ** 2,
    "booth": lambda x, _: np.sum((np.array([[1, 2], [2, 1]]) @ x - np.array([7, 5])) ** 2),
    "rastrigin": lambda x, _: 10 * len(x) + sum(a * a - 10 * math.cos(2 * pi * a) for a in x),
    "ackley": lambda x, _: (
        -20 * math.exp(-0.2 * math.sqrt(sum(a * a for a in x) / len(x)))
        - math.exp(sum(math.cos(2 * pi * a) for a in x) / len(x))
        + e
        + 20
    ),
    "styblinski-tang": lambda x, _: sum(((a * a - 16) * a + 5) * a for a in x) / 2,
    "saddle": lambda x, surface: x[0] ** 2 - x[1] ** 2 + (x[1] ** 4 / 4 if surface.bounded else 0),
    "double-well": lambda x, surface: scipy.integrate.quad(
        lambda a: 4 * (a + 1) * (a - surface.hill) * (a - 1), -1, x[0], epsabs=1e-13
    )[0],
    "cone": lambda x, _: math.sqrt(1 + sum(a * a for a in x)) - 1,
}


def points(surface, n=20):
    random = np.random.default_rng(0)
    low, high = surface.domain
    return random.uniform(low, high, (n, surface.dimension))


@pytest.mark.parametrize("surface", CASES, ids=label)
def test_values_are_those_of_the_formula(surface):
    x = points(surface)
    ours = jax.jit(jax.vmap(surface))(x)
    np.testing.assert_allclose(ours, [FORMULAS[surface.name](p, surface) for p in x], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("surface", CASES, ids=label)
def test_values_at_the_minima_are_as_stated(surface):
    for minimum in (*surface.minima, *itertools.islice(surface.local_minima(), 50)):
        assert float(surface(jnp.array(minimum.point))) == pytest.approx(minimum.value, rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("surface", SMOOTH, ids=label)
def test_minima_are_minima(surface):
    gradient, hessian = jax.jit(jax.grad(surface)), jax.jit(jax.hessian(surface))
    for minimum in (*surface.minima, *itertools.islice(surface.local_minima(), 50)):
        x = jnp.array(minimum.point)
        curvatures = np.linalg.eigvalsh(hessian(x))
        assert curvatures.min() > 0
        # As exact as a point in float64 can be.
        rounding = 1e-15 * max(1.0, float(jnp.max(jnp.abs(x)))) * curvatures.max()
        assert float(jnp.linalg.norm(gradient(x))) <= 4 * rounding


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_the_tip_of_ackley_is_a_minimum_with_a_gradient_of_zero_by_convention(dimension):
    surface = Ackley(dimension)
    (tip,) = surface.minima
    x = jnp.array(tip.point)
    np.testing.assert_array_equal(jax.grad(surface)(x), 0)
    random = np.random.default_rng(0).normal(size=(100, dimension))
    directions = random / np.linalg.norm(random, axis=1, keepdims=True)
    rise = jax.vmap(surface)(1e-6 * directions)
    np.testing.assert_allclose(rise, 4e-6 / math.sqrt(dimension), rtol=1e-4)  # a cone of that slope


@pytest.mark.parametrize("surface", [s for s in CASES if s.minima], ids=label)
def test_scipy_finds_nothing_lower_than_the_stated_minima(surface):
    population = jax.jit(jax.vmap(surface, in_axes=1))
    result = scipy.optimize.differential_evolution(population, surface.box, rng=0, vectorized=True, updating="deferred")
    assert result.fun == pytest.approx(surface.minima[0].value, abs=1e-6)
    assert min(np.linalg.norm(result.x - minimum.point) for minimum in surface.minima) < 1e-2


@pytest.mark.parametrize(
    "surface", [find_surface("himmelblau"), Saddle(), DoubleWell(), StyblinskiTang(2), Rastrigin(1)], ids=label
)
def test_scipy_finds_every_stated_minimum_and_no_other(surface):
    value_and_grad = jax.jit(jax.value_and_grad(surface))
    ends = [
        scipy.optimize.minimize(value_and_grad, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-6}).x
        for start in points(surface, 100 if surface.dimension == 1 else 40)
    ]
    stated = [minimum.point for minimum in (*surface.minima, *surface.local_minima())]
    distances = np.linalg.norm(np.array(ends)[:, None] - np.array(stated), axis=2)
    assert distances.min(axis=0).max() < 1e-4
    inside = np.all([(low < x) & (x < high) for x, (low, high) in zip(np.transpose(ends), surface.box, strict=True)], axis=0)
    assert distances.min(axis=1)[inside].max() < 1e-4


def test_how_many_local_minima():
    assert len(list(Rastrigin(2).local_minima())) == 11**2 - 1
    assert len({m.point for m in StyblinskiTang(4).local_minima()}) == 2**4 - 1
    next(StyblinskiTang(60).local_minima())  # lazily
    assert list(Rosenbrock(3).local_minima()) == []


def test_condition_and_rotation_of_the_ravine():
    surface = Ravine(condition=300.0, dimension=4, angle=0.4)
    H = jax.hessian(surface)(jnp.zeros(4))
    np.testing.assert_allclose(np.linalg.eigvalsh(H), [1, 300 ** (1 / 3), 300 ** (2 / 3), 300], rtol=1e-10)
    steepest = np.linalg.eigh(jax.hessian(Ravine(angle=0.3))(jnp.zeros(2)))[1][:, 1]
    np.testing.assert_allclose(np.abs(steepest), [math.sin(0.3), math.cos(0.3)], rtol=1e-12)


def test_the_wells_have_the_hill_between_them():
    surface = DoubleWell(hill=0.3)
    assert float(jax.grad(surface)(jnp.array([0.3]))[0]) == pytest.approx(0, abs=1e-14)
    assert jax.hessian(surface)(jnp.array([0.3]))[0, 0] < 0
    (deep,), (shallow,) = surface.minima, surface.local_minima()
    assert deep.value < shallow.value < float(surface(jnp.array([0.3])))


@pytest.mark.parametrize("bounded", [True, False])
def test_the_saddle_is_one(bounded):
    surface = Saddle(bounded=bounded)
    np.testing.assert_array_equal(jax.grad(surface)(jnp.zeros(2)), 0)
    np.testing.assert_allclose(np.linalg.eigvalsh(jax.hessian(surface)(jnp.zeros(2))), [-2, 2])
    assert (float(surface(jnp.array([0.0, 100.0]))) > 0) is bounded


@pytest.mark.parametrize("name", SURFACES)
def test_every_surface_of_the_registry(name):
    surface = find_surface(name)
    assert surface.name == name
    low, high = surface.domain
    assert surface == find_surface(name)
    assert hash(surface) == hash(find_surface(name))
    assert len(surface.start) == surface.dimension == len(low) == len(high)
    assert np.all((low < surface.start) & (surface.start < high))
    for minimum in surface.minima:
        assert np.all((low < minimum.point) & (minimum.point < high))
    assert any(sign in type(surface).__doc__ for sign in ("f(x)", "f(x, y)"))


@pytest.mark.parametrize("surface", CASES, ids=label)
def test_float32_stays_float32(surface):
    x = jnp.array(surface.start, jnp.float32)
    value, grad = jax.jit(jax.value_and_grad(surface))(x)
    assert value.dtype == grad.dtype == jnp.float32
    assert value.shape == ()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"rosenbrock takes an array of shape \(3,\), got \(2,\)"):
        Rosenbrock(3)(jnp.zeros(2))
    with pytest.raises(ValueError, match=r"beale takes an array of shape \(2,\), got \(5, 2\)"):
        SURFACES["beale"]()(jnp.zeros((5, 2)))
    with pytest.raises(TypeError, match="booth takes real floating point numbers, got int"):
        SURFACES["booth"]()(jnp.zeros(2, int))
    with pytest.raises(InputError, match="surface 'bowl' is not known; known: ravine, rosenbrock"):
        find_surface("bowl")
    for kind in ANY_DIMENSION:
        least = 2 if kind is Rosenbrock else 1
        with pytest.raises(InputError, match=f"dimension {least - 1}; at least {least} is needed"):
            kind(dimension=least - 1)
    for condition in (0.5, math.nan, math.inf):
        with pytest.raises(InputError, match="condition"):
            Ravine(condition=condition)
    for hill in (0, 1, math.nan):
        with pytest.raises(InputError, match="hill"):
            DoubleWell(hill=hill)
    for sigma in (-1, math.nan, math.inf):
        with pytest.raises(InputError, match="sigma"):
            noisy(Ravine(), sigma)


def test_noise_is_in_the_gradient_alone_and_comes_from_the_key():
    surface, sigma = Rosenbrock(4), 0.5
    f = noisy(surface, sigma)
    x = jnp.array(surface.start)
    keys = jax.random.split(jax.random.key(0), 20_000)
    values, grads = jax.jit(jax.vmap(jax.value_and_grad(f), in_axes=(None, 0)))(x, keys)
    np.testing.assert_allclose(values, surface(x), rtol=4e-16)  # but for the rounding of other programs
    noise = np.asarray(grads - jax.grad(surface)(x))
    # Four standard errors of mean, variance and covariance of 20,000 draws.
    np.testing.assert_allclose(noise.mean(0), 0, atol=4 * sigma / math.sqrt(20_000))
    np.testing.assert_allclose(np.cov(noise.T), sigma**2 * np.eye(4), atol=4 * sigma**2 * math.sqrt(2 / 20_000))
    np.testing.assert_array_equal(jax.grad(f)(x, keys[3]), jax.grad(f)(x, keys[3]))
    np.testing.assert_allclose(jax.grad(f)(x, keys[3]), grads[3], rtol=1e-12)
    np.testing.assert_array_equal(jax.grad(noisy(surface, 0.0))(x, keys[0]), jax.grad(surface)(x))
