"""Paths over a surface: those that `minimize` finds, at the rate that was asked for or the best one."""

import jax
import numpy as np
import pytest

from jaxopt_lec.lab import minimize
from jaxopt_lec.lab.contestants import Contestant, find_contestants
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.paths import Descent
from jaxopt_lec.lab.surfaces import Beale, DoubleWell, Ravine, Rosenbrock


def test_paths_are_those_of_minimize_in_float64():
    contestants = find_contestants(["sgd", "nesterov_exact", "newton_cg"])
    tracks = Descent(Rosenbrock(), contestants, [1e-3, 1e-4, 0.5], start=(-1.0, 0.5), steps=7).run()
    assert [(t.name, t.learning_rate, len(t.points)) for t in tracks] == [
        ("sgd", 1e-3, 8),
        ("nesterov_exact", 1e-4, 8),
        ("newton_cg", 0.5, 8),
    ]
    with jax.enable_x64(True):
        for track, contestant in zip(tracks, contestants, strict=True):
            result = minimize(Rosenbrock(), np.array([-1.0, 0.5]), contestant.factory(track.learning_rate), 7)
            np.testing.assert_allclose(track.points, result.trajectory, rtol=1e-12)
            np.testing.assert_allclose(track.values, result.values, rtol=1e-12)
    np.testing.assert_allclose(tracks[0].updates, np.diff(tracks[0].points, axis=0))


def test_one_rate_is_for_all_and_without_one_each_has_its_best():
    contestants = find_contestants(["sgd", "momentum", "adam"])
    assert [t.learning_rate for t in Descent(Ravine(), contestants, [0.01], steps=3).run()] == [0.01] * 3
    best = Descent(Ravine(), contestants, steps=50).run()
    for track, contestant in zip(best, contestants, strict=True):
        for rate in (track.learning_rate / 3, 3 * track.learning_rate):
            (other,) = Descent(Ravine(), [contestant], [rate], steps=50).run()
            leaves = np.abs(other.points).max() > 1.5
            assert other.diverged or leaves or other.values.mean() > track.values.mean()


def test_a_path_that_diverges_ends_with_its_last_finite_point():
    (track,) = Descent(Beale(), find_contestants(["sgd"]), [10.0]).run()
    assert track.diverged
    assert 1 <= len(track.points) < 20
    assert np.isfinite(track.points).all()
    assert np.isfinite(track.values).all()


SGD = find_contestants(["sgd"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"surface": Rosenbrock(3)}, "rosenbrock of dimension 3: only 1 and 2 can be drawn"),
        ({"steps": 0}, "steps 0: at least 1"),
        ({"start": (1.0,)}, "start 1: rosenbrock needs 2 finite numbers"),
        ({"start": (1.0, float("inf"))}, "start 1, inf: rosenbrock needs 2 finite numbers"),
        ({"start": (1e200, 0.0)}, r"start 1e\+200, 0: rosenbrock is not finite there"),
        ({"surface": DoubleWell(), "start": (1.0, 2.0)}, "double-well needs 1 finite numbers"),
        ({"learning_rates": [0.1, 0.2]}, "2 learning rates for 1 optimizer: one for all or one each"),
        ({"learning_rates": []}, "0 learning rates for 1 optimizer: one"),
        ({"learning_rates": [-0.1]}, "learning rate -0.1: a positive number"),
        ({"learning_rates": [float("nan")]}, "learning rate nan: a positive number"),
        ({"contestants": [Contestant("x", "m:x", lambda rate: rate)]}, "optimizer 'm:x': the factory returned a"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        Descent(**({"surface": Rosenbrock(), "contestants": SGD} | arguments))
