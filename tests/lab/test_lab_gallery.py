"""What each scene claims, as a test on its numbers: the pictures cannot show anything else."""

import numpy as np
import pytest

from jaxopt_lec.lab.gallery import SCENES, Scene, many_starts


def tracks(name: str):
    (scene,) = (scene for scene in SCENES if scene.name == name)
    found = scene.tracks()
    assert not any(track.diverged for track in found)
    assert all(len(track.points) == scene.steps + 1 for track in found)
    return found


def crossings(x: np.ndarray) -> int:
    return int(np.sum(np.sign(x[1:]) != np.sign(x[:-1])))


def test_momentum_damps_the_oscillation_across_a_ravine():
    sgd, momentum = tracks("ravine_oscillation")
    assert momentum.learning_rate / (1 - 0.9) == pytest.approx(sgd.learning_rate)
    assert crossings(sgd.points[:, 1]) == 60  # in every step
    assert crossings(momentum.points[:, 1]) < 10
    across = [np.abs(track.updates[:, 1]).sum() for track in (sgd, momentum)]
    assert across[1] < across[0] / 3
    along = [abs(track.points[-1, 0]) for track in (sgd, momentum)]
    assert along[1] < along[0]  # and it does not come less far


def test_momentum_overshoots_and_circles():
    sgd, momentum = tracks("momentum_overshoot")
    start = sgd.points[0]
    assert (sgd.points @ start).min() > 0
    assert (momentum.points @ start).min() / (start @ start) < -0.4
    # How far around the minimum: the angle that the path runs through, all turns in one direction counted.
    turned = [abs(np.diff(np.unwrap(np.arctan2(*track.points.T[::-1])))).sum() / (2 * np.pi) for track in (sgd, momentum)]
    assert turned[0] < 0.25
    assert turned[1] > 1


def test_nesterov_brakes_earlier():
    momentum, nesterov = tracks("nesterov_brakes")
    fastest = [int(track.updates[:, 0].argmax()) + 1 for track in (momentum, nesterov)]
    assert fastest == [5, 4]
    speeds = [track.updates[:, 0].max() for track in (momentum, nesterov)]
    assert speeds[1] < 0.9 * speeds[0]
    overshoots = [track.points.max() / 1.3 for track in (momentum, nesterov)]
    assert overshoots[1] < 0.65 * overshoots[0]
    # In the first step there is no velocity, and so nothing ahead to look at.
    assert momentum.points[1] == pytest.approx(nesterov.points[1])
    # Its swinging dies sooner.
    late = [np.abs(track.points[40:]).max() for track in (momentum, nesterov)]
    assert late[1] < late[0] / 5


def test_newton_arrives_where_adam_is_on_its_way():
    newton, adam = tracks("newton_steps")
    assert int(np.argmax(newton.values < 1e-10)) <= 6
    assert adam.values[-1] > 1e-3


def test_steps_of_adagrad_die_and_those_of_rmsprop_do_not():
    adagrad, rmsprop = (np.abs(track.updates[:, 0]) for track in tracks("adagrad_dies"))
    t = np.arange(1, 91)
    np.testing.assert_allclose(adagrad, 0.3 / np.sqrt(t), rtol=1e-3)
    np.testing.assert_allclose(rmsprop[40:], 0.3, rtol=0.02)
    np.testing.assert_allclose(rmsprop, 0.3 / np.sqrt(1 - 0.9**t), rtol=0.01)


def test_without_bias_correction_the_first_steps_are_far_too_large():
    corrected, plain = (np.abs(track.updates[:, 0]) for track in tracks("adam_bias_correction"))
    np.testing.assert_allclose(corrected, 0.1, rtol=1e-3)
    assert plain[0] == pytest.approx(0.1 * 0.1 / np.sqrt(0.001), rel=1e-3)
    assert plain[:20].max() > 6 * 0.1
    assert plain[-1] < 0.7 * plain.max()  # it fades


def test_momentum_rolls_through_the_shallow_minimum():
    sgd, momentum = (track.points[:, 0] for track in tracks("shallow_minimum"))
    assert sgd[-1] == pytest.approx(1, abs=0.01)
    assert (sgd >= 1).all()
    assert momentum[-1] == pytest.approx(-1, abs=0.01)


def test_who_leaves_the_saddle_first():
    first = {track.name: int(np.argmax(np.abs(track.points[:, 1]) > 1)) for track in tracks("saddle_escape")}
    assert 0 < first["rmsprop"] < first["adam"] < first["momentum"] < first["sgd"]
    assert first["sgd"] > 2.5 * first["momentum"]
    # Beside the saddle, |x₂| grows by 1 + 2η in each step of SGD.
    sgd = next(track.points[:, 1] for track in tracks("saddle_escape") if track.name == "sgd")
    np.testing.assert_allclose(sgd[1:30] / sgd[:29], 1.1, rtol=1e-3)


def test_many_starts_find_the_global_minimum_and_all_others():
    surface, starts, found = many_starts()
    assert len(starts) == 1600
    assert (len(found.minima), found.diverged, found.unconverged) == (4, 0, 0)
    np.testing.assert_allclose(found.best.params, surface.minima[0].point, atol=1e-3)
    assert all(0.15 < basin.share < 0.35 for basin in found.minima)


def test_scenes_have_names_and_claims_of_their_own():
    assert len({scene.name for scene in SCENES}) == len({scene.claim for scene in SCENES}) == len(SCENES)
    assert all(isinstance(scene, Scene) and scene.name.isidentifier() for scene in SCENES)
