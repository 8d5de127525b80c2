"""Many starts in one program: the same ends as one by one, sorted into the minima that are known."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lec as jl
from jaxopt_lec.lab import Stop, Tolerances, grid_starts, minimize, multi_start, random_starts
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.surfaces import DoubleWell, Himmelblau, Rastrigin, Ravine, Saddle, StyblinskiTang, noisy

module = importlib.import_module("jaxopt_lec.lab.multi_start")  # its name is the function's


def test_all_four_minima_of_himmelblau_with_their_shares():
    surface = Himmelblau()
    starts = random_starts(jax.random.key(0), *surface.domain, 201)  # no multiple of the two devices
    found = multi_start(surface, starts, jl.momentum(1e-3), 500)
    assert len(jax.local_devices()) == 2
    assert (len(found.minima), found.diverged, found.unconverged) == (4, 0, 0)
    for basin in found.minima:
        distance = [np.linalg.norm(basin.params - minimum.point) for minimum in surface.minima]
        assert min(distance) < 1e-3
        assert abs(basin.value) < 1e-5
    assert len({int(np.argmin([np.linalg.norm(b.params - m.point) for m in surface.minima])) for b in found.minima}) == 4
    assert [b.value for b in found.minima] == sorted(b.value for b in found.minima)
    assert found.best is found.minima[0]
    assert [b.count for b in found.minima] == [int(np.sum(found.basin == i)) for i in range(4)]
    assert sum(b.count for b in found.minima) == 201
    assert sum(b.share for b in found.minima) == pytest.approx(1)


def test_every_one_of_121_minima_of_rastrigin():
    surface = Rastrigin()
    found = multi_start(surface, grid_starts(*surface.domain, 31), jl.sgd(0.002), 300)
    assert len(found.minima) == 121
    known = {tuple(np.round(m.point).astype(int)) for m in (*surface.minima, *surface.local_minima())}
    assert {tuple(np.round(b.params).astype(int)) for b in found.minima} == known
    np.testing.assert_allclose(found.best.params, 0, atol=1e-4)


def test_lanes_are_what_minimize_finds_one_by_one():
    surface, tx = StyblinskiTang(3), jl.adam(0.1)
    tolerances = Tolerances(gradient=1e-2, patience=2)
    starts = random_starts(jax.random.key(1), *surface.domain, 5)
    found = multi_start(surface, starts, tx, 60, tolerances=tolerances)
    for i, start in enumerate(starts):
        alone = minimize(surface, start, tx, 60, tolerances=tolerances)
        np.testing.assert_allclose(found.params[i], alone.params, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.values[i], alone.value, rtol=1e-5)
        assert (found.steps[i], found.stop[i]) == (alone.steps, alone.stop)


def test_what_diverged_and_what_has_not_converged_is_counted_apart():
    """On x²/2·4 with η = ½ the gradient never shrinks; with an infinite start there is none."""
    starts = np.array([[0.0], [1.0], [2.0], [np.inf], [1e-9], [np.nan]], np.float32)
    found = multi_start(Ravine(4.0, dimension=1), starts, jl.sgd(0.5), 50)
    assert [Stop(int(code)) for code in found.stop] == [
        Stop.GRADIENT, Stop.STEPS, Stop.STEPS, Stop.NOT_FINITE, Stop.GRADIENT, Stop.NOT_FINITE,
    ]  # fmt: skip
    assert (found.diverged, found.unconverged) == (2, 2)
    np.testing.assert_array_equal(found.basin, [0, -1, -1, -1, 0, -1])
    (only,) = found.minima
    assert (only.count, only.share) == (2, 2 / 6)
    lost = multi_start(Ravine(4.0, dimension=1), starts[1:4], jl.sgd(0.5), 50)
    assert lost.minima == ()
    assert lost.best is None


def test_a_tree_of_parameters_complex_ones_included():
    def loss(tree):
        w, z = tree["w"], tree["z"][0]
        return jnp.sum((w**2 - 1) ** 2) + jnp.abs(z**2 + 1) ** 2  # w = ±1 each, z = ±i

    random = np.random.default_rng(0)
    starts = {
        "w": random.normal(size=(300, 2)).astype(np.float32),
        "z": (random.normal(size=300) + 1j * random.normal(size=300),),
    }
    found = multi_start(loss, starts, jl.sgd(0.02), 2000, tolerances=Tolerances(gradient=1e-3))
    assert found.diverged == 0
    ends = {(*np.round(b.params["w"]).astype(int).tolist(), complex(np.round(b.params["z"][0]))) for b in found.minima}
    assert ends == {(a, b, z) for a in (-1, 1) for b in (-1, 1) for z in (1j, -1j)}
    assert len(found.minima) == 8
    assert found.params["w"].shape == (300, 2)


def test_minima_are_told_apart_by_the_stated_distance():
    surface = DoubleWell()
    starts = grid_starts(*surface.domain, 20)
    counts = {
        reach: [b.count for b in multi_start(surface, starts, jl.sgd(0.01), 500, same_within=reach).minima]
        for reach in (1e-2, 1.9, 2.1)
    }
    assert len(counts[1e-2]) == len(counts[1.9]) == 2
    assert counts[1e-2] == counts[1.9]
    assert counts[2.1] == [20]  # the wells are 2 apart


def test_sorting_is_deterministic_and_by_the_lowest_end():
    """A chain of ends 0.6 apart: the lowest takes what is within 1, the next lowest what is left within 1 of it."""
    end = module.End(
        value=np.array([3.0, 1.0, 0.0, 1.0, 2.0]),
        params=np.array([[1.2], [0.6], [0.0], [-1.8], [-2.4]]),
        steps=np.full(5, 9),
        stop=np.full(5, int(Stop.GRADIENT)),
    )
    basin, minima = module.sort_into_basins(end, 1.0)
    np.testing.assert_array_equal(basin, [2, 0, 0, 1, 1])
    assert [(m.value, m.count) for m in minima] == [(0.0, 2), (1.0, 2), (3.0, 1)]
    again, _ = module.sort_into_basins(end._replace(value=np.zeros(5)), 1.0)
    np.testing.assert_array_equal(again, [0, 0, 1, 2, 2])  # among equals the first start is the lowest


@pytest.mark.parametrize("side_by_side", [1, 3, 1000])
def test_how_many_run_side_by_side_changes_no_result(side_by_side):
    surface = Himmelblau()
    starts = random_starts(jax.random.key(3), *surface.domain, 11)
    wide = multi_start(surface, starts, jl.momentum(1e-3), 400)
    narrow = multi_start(surface, starts, jl.momentum(1e-3), 400, side_by_side=side_by_side)
    np.testing.assert_array_equal(wide.stop, narrow.stop)
    np.testing.assert_allclose(wide.params, narrow.params, atol=1e-4)
    np.testing.assert_array_equal(wide.values.shape, (11,))


def test_one_start():
    (only,) = multi_start(Himmelblau(), np.zeros((1, 2), np.float32), jl.sgd(0.01), 500).minima
    np.testing.assert_allclose(only.params, [3, 2], atol=1e-3)


def test_extras_and_keys():
    def loss(x, target):
        return jnp.sum((x - target) ** 2)

    starts = np.zeros((3, 2), np.float32)
    found = multi_start(loss, starts, jl.newton(), 3, extras={"target": np.array([1.0, 2.0])})
    np.testing.assert_allclose(found.best.params, [1, 2])
    noise = noisy(Ravine(2.0), 0.1)
    once, again, other = (multi_start(noise, starts, jl.sgd(0.1), 20, key=jax.random.key(seed)).params for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert (once != other).all()


def test_a_second_call_compiles_nothing(monkeypatch):
    tx = jl.sgd(0.1)
    starts = np.ones((4, 2), np.float32)
    first = multi_start(Saddle(), starts, tx, 7)
    monkeypatch.setattr("jaxopt_lec.lab.lanes.compile_lanes", None)
    second = multi_start(Saddle(), starts, tx, 7)
    np.testing.assert_array_equal(first.params, second.params)
    with pytest.raises(TypeError, match="NoneType"):  # a different program
        multi_start(Saddle(), starts, tx, 8)


def test_starts():
    low, high = {"a": np.array([0.0, 1.0]), "b": 10.0}, {"a": np.array([1.0, 3.0]), "b": 20.0}
    grid = grid_starts(low, high, (2, 3, 2))
    np.testing.assert_array_equal(grid["a"][:, 0], np.repeat([0, 1], 6))
    np.testing.assert_array_equal(grid["a"][:, 1], np.tile(np.repeat([1, 2, 3], 2), 2))
    np.testing.assert_array_equal(grid["b"], np.tile([10, 20], 6))
    drawn = random_starts(jax.random.key(0), low, high, 1000)
    assert jax.tree.map(jnp.shape, drawn) == {"a": (1000, 2), "b": (1000,)}
    for leaf, a, b in zip(*map(jax.tree.leaves, (drawn, low, high)), strict=True):
        assert (leaf >= a).all()
        assert (leaf <= b).all()
        np.testing.assert_allclose(leaf.mean(0), (a + np.asarray(b)) / 2, rtol=0.1)
    np.testing.assert_array_equal(drawn["a"], random_starts(jax.random.key(0), low, high, 1000)["a"])


ONES = np.ones((4, 2), np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"starts": {}}, "starts have no arrays"),
        ({"starts": np.ones((0, 2))}, "no starting point given"),
        ({"starts": {"a": np.ones((4, 2)), "b": np.ones(3)}}, r"they have starts\['a'\]: 4, starts\['b'\]: 3"),
        ({"starts": 1.0}, "they have starts: a scalar"),
        ({"starts": np.ones((4, 2), int)}, "params are of int32"),
        ({"starts": np.ones((4, 3))}, r"saddle takes an array of shape \(2,\), got \(3,\)"),
        ({"tolerances": Tolerances()}, "without any, no lane could be said to have converged"),
        ({"same_within": 0.0}, "same_within 0.0: a positive number"),
        ({"same_within": float("nan")}, "same_within nan"),
        ({"side_by_side": 0}, "side_by_side 0: at least 1"),
        ({"steps": 0}, "steps 0: at least 1"),
        ({"tx": optax.sgd}, "tx must be an optax.GradientTransformation, got a function"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_compiled(monkeypatch, arguments, message):
    monkeypatch.setattr(module, "compiled", None)
    given = {"fn": Saddle(), "starts": ONES, "tx": jl.sgd(0.1), "steps": 3} | arguments
    with pytest.raises(InputError, match=message) as error:
        multi_start(**given)
    assert "\n" not in str(error.value)


def test_wrong_boxes_are_named():
    key, low = jax.random.key(0), np.zeros(2, np.float32)
    for make in (lambda low, high: random_starts(key, low, high, 3), lambda low, high: grid_starts(low, high, 3)):
        for wrong_low, high, message in [
            (low, (1.0, 1.0), "different structure"),
            (low, np.ones(3, np.float32), r"different arrays: float32\[2\] and float32\[3\]"),
            (low, low, "finite and below"),
            (low, np.array([1, np.inf], np.float32), "finite and below"),
            (np.zeros(2, int), np.ones(2, int), "real floating point numbers, got int32"),
            ({}, {}, "low has no arrays"),
        ]:
            with pytest.raises(InputError, match=message):
                make(wrong_low, high)
    with pytest.raises(InputError, match="n 0: at least 1"):
        random_starts(key, low, low + 1, 0)
    for points in (1, (2, 2, 2), (2, 1)):
        with pytest.raises(InputError, match="one number for all of the 2 coordinates, or one each; at least 2"):
            grid_starts(low, low + 1, points)
