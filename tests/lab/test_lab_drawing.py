"""Figures and animations have in them what they are to show."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxopt_lec.lab import animation
from jaxopt_lec.lab.animation import animate
from jaxopt_lec.lab.contestants import find_contestants
from jaxopt_lec.lab.drawing import Picture, draw, draw_basins
from jaxopt_lec.lab.figures import COLOURS, png
from jaxopt_lec.lab.gallery import many_starts
from jaxopt_lec.lab.paths import Descent
from jaxopt_lec.lab.surfaces import SURFACES, Beale, DoubleWell, Himmelblau, Ravine, Saddle, find_surface

TWO = find_contestants(["sgd", "momentum"])


def picture(surface, rates=(0.01,), steps=20, **options) -> Picture:
    return Picture(surface, Descent(surface, TWO, list(rates), steps=steps, **options).run(), "two")


def lines(axes, colour):
    return [line for line in axes.lines if line.get_color() == colour]


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_paths_minima_and_start_are_where_they_belong():
    made = picture(Himmelblau(), steps=30)
    figure = draw(made)
    map_, plot = figure.axes
    for track, colour in zip(made.tracks, COLOURS, strict=False):
        path = lines(map_, colour)[0]
        np.testing.assert_array_equal(np.column_stack(path.get_data()), track.points)
        np.testing.assert_array_equal(lines(plot, colour)[0].get_ydata(), np.maximum(track.values, 1e-16))
    by_label = {line.get_label(): line for line in map_.lines}
    stars = np.column_stack(by_label["minimum"].get_data())
    np.testing.assert_allclose(sorted(map(tuple, stars)), sorted(m.point for m in Himmelblau().minima))
    np.testing.assert_array_equal(np.column_stack(by_label["start"].get_data()), [Himmelblau().start])
    assert plot.get_yscale() == "log"
    assert labels(figure) == ["sgd, 0.01", "momentum, 0.01", "minimum", "start"]
    assert map_.get_xlabel() == "x₁"


def test_one_dimension_is_a_curve_with_the_ball_s_path_along_it():
    made = picture(DoubleWell())
    figure = draw(made)
    map_, plot = figure.axes
    for i, (track, colour) in enumerate(zip(made.tracks, COLOURS, strict=False)):
        x, y = lines(map_, colour)[0].get_data()
        assert x[0] == track.points[0, 0]
        np.testing.assert_allclose(x[:: (len(x) - 1) // 20], track.points[:, 0])
        above = y - np.array([float(DoubleWell()(np.array([p], np.float32))) for p in x])
        assert above.min() > 0
        np.testing.assert_allclose(above, above[0], rtol=1e-3)  # all along the curve, each ball at its own height
        assert i == 0 or above[0] > 0.2
        np.testing.assert_array_equal(lines(plot, colour)[0].get_ydata(), track.points[:, 0])
    assert "local minimum" in labels(figure)


@pytest.mark.parametrize(
    "name", [name if i < 3 else pytest.param(name, marks=pytest.mark.thorough) for i, name in enumerate(SURFACES)]
)
def test_every_surface_is_drawn_without_a_warning(name):
    assert png(draw(picture(find_surface(name), steps=3))).startswith(b"\x89PNG")


@pytest.mark.parametrize("surface", [Beale(), DoubleWell(), Saddle(bounded=False), Ravine(dimension=1)], ids=str)
def test_a_path_that_diverges_is_said_and_spoils_no_scale(surface):
    made = picture(surface, rates=(10.0, 1e-3))
    assert made.tracks[0].diverged or abs(made.tracks[0].values[-1]) > 1e10
    figure = draw(made)
    assert png(figure)
    assert png(draw(Picture(surface, made.tracks[:1], "it alone")))
    if made.tracks[0].diverged:
        assert labels(figure)[0] == "sgd, 10 (diverged)"
        low, high = figure.axes[1].get_ylim()
        assert high - low < 1e4


def test_a_start_outside_the_box_widens_the_picture():
    low, high = draw(picture(Himmelblau(), rates=(1e-6,), start=(-9.0, 0.0))).axes[0].get_xlim()
    assert low < -9
    assert high == 5.5


def test_contours_are_log_spaced_where_most_of_the_surface_is_near_the_bottom():
    def spacing(surface):
        (filled, *_) = draw(picture(surface, rates=(1e-6,))).axes[0].collections
        levels = np.asarray(filled.levels)
        return np.ptp(np.diff(levels)) / np.diff(levels).mean(), np.ptp(np.diff(np.log(levels)))

    assert spacing(find_surface("rosenbrock"))[1] < 1e-6
    assert spacing(find_surface("ackley"))[0] < 1e-6


def frames(gif: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(gif)) as image:
        found = []
        for k in range(image.n_frames):
            image.seek(k)
            found.append(np.asarray(image.convert("RGB")).astype(int))
        return found


def coloured(frame: np.ndarray, colour: str) -> int:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int(np.sum(np.abs(frame - rgb).max(axis=2) < 12))


def test_an_animation_grows_step_by_step_and_ends_with_the_picture():
    made = picture(Ravine(), steps=12)
    done = []
    gif = animate(made, progress=lambda *of: done.append(of))
    found = frames(gif)
    assert len(found) == 13
    assert done == [(i, 13) for i in range(1, 14)]
    for colour in COLOURS[:2]:
        pixels = [coloured(frame, colour) for frame in found]
        assert pixels[-1] > 2 * pixels[0]
        assert pixels[6] > pixels[0]
    # Nothing trembles: outside the panels and the counter, all frames are the same.
    legend = [frame[-40:, : frame.shape[1] * 3 // 4] for frame in found]
    assert all((part == legend[0]).all() for part in legend)
    with Image.open(io.BytesIO(gif)) as image:
        assert image.info["loop"] == 0


def test_a_long_animation_has_no_more_frames_than_it_may(monkeypatch):
    monkeypatch.setattr(animation, "MOST_FRAMES", 7)
    assert len(frames(animate(picture(DoubleWell(), rates=(1e-3,), steps=200)))) == 7


def test_basins_are_drawn_in_the_colour_of_their_minimum():
    surface, starts, found = many_starts()
    (axes,) = draw_basins(surface, starts, found, "basins").axes
    for i, colour in enumerate(COLOURS[:4]):
        dots = next(line for line in axes.lines if line.get_color() == colour)
        np.testing.assert_array_equal(np.column_stack(dots.get_data()), starts[found.basin == i])
