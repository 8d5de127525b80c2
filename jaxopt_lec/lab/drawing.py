"""Pictures of surfaces and of the paths that optimizers take over them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxopt_lec.lab.figures import COLOURS, logarithmic, power_of_ten, styles, tidy
from jaxopt_lec.lab.minimize import Stop
from jaxopt_lec.lab.multi_start import MultiStart
from jaxopt_lec.lab.paths import Track
from jaxopt_lec.lab.surfaces import Minimum, Surface

__all__ = ["Measure", "Picture", "draw", "draw_basins"]

RESOLUTION = 300  # points of the grid along each axis
MOST_DOTS = 60  # a longer path has no dot at every step
MOST_MARKS = 400  # of local minima
POINTS_PER_STEP = 20  # of a ball's way along a curve
EDGE = [patheffects.withStroke(linewidth=3.2, foreground="white", alpha=0.9)]


@dataclass(frozen=True)
class Measure:
    """What the panel beside the surface shows of each track.

    Args:
        label: of the vertical axis.
        of: (track) -> [step], one number for each.
        log: whether the vertical axis is logarithmic.
        log_steps: whether the horizontal axis is.
        zero: whether 0 is marked with a line.
    """

    label: str
    of: Callable[[Track], np.ndarray]
    log: bool = False
    log_steps: bool = False
    zero: bool = False


@dataclass(frozen=True)
class Picture:
    """What is drawn.

    Args:
        surface: of one or two dimensions.
        tracks: the paths over it.
        title: above everything.
        measure: of the panel beside; None: the value above the lowest, or in one dimension x.
        box: (lowest, highest) of each coordinate to draw; None: the surface's, widened so that the starts are inside.
    """

    surface: Surface
    tracks: Sequence[Track]
    title: str
    measure: Measure | None = None
    box: Sequence[tuple[float, float]] | None = None


class Pen:
    """The lines of one track, which can be drawn up to any step."""

    def __init__(
        self, track: Track, path: np.ndarray, over_steps: np.ndarray, panels: tuple[Axes, Axes], style: Any
    ) -> None:
        """Make empty lines.

        `path` is [point, 2], with as many points for each step; `over_steps` is [step]; both as the panels show them.
        """
        self.steps, self.diverged = len(track.points) - 1, track.diverged
        self.path, self.over_steps = path, over_steps
        self.per_step = (len(path) - 1) // max(1, self.steps)
        map_, plot = panels
        edge = {"color": style["color"], "markeredgecolor": "white"}
        (self.line,) = map_.plot([], [], linewidth=1.7, path_effects=EDGE, zorder=4, **style)
        (self.dots,) = map_.plot([], [], "o", markersize=4, markeredgewidth=0.4, zorder=4.5, **edge)
        (self.head,) = map_.plot([], [], "o", markersize=7.5, zorder=6, **edge)
        (self.curve,) = plot.plot([], [], linewidth=1.7, label=legend_entry(track), **style)

    @property
    def lines(self) -> tuple[Line2D, ...]:
        """All that moves."""
        return self.line, self.dots, self.head, self.curve

    def show(self, step: int) -> None:
        """Draw the path up to a step, or up to its end."""
        step = min(step, self.steps)
        some = self.path[: step * self.per_step + 1]
        self.line.set_data(*some.T)
        self.head.set_data(*some[-1:].T)
        if self.steps <= MOST_DOTS:
            self.dots.set_data(*some[:: max(1, self.per_step)].T)
        first = self.steps + 1 - len(self.over_steps)  # 1 for what belongs to a step, not to a point
        kept = self.over_steps[: step + 1 - first]
        self.curve.set_data(np.arange(first, first + len(kept)), kept)


def draw(picture: Picture) -> Figure:
    """Return the figure: the surface with all paths, beside it the measure over the steps."""
    figure, pens, _ = prepare(picture)
    for pen in pens:
        pen.show(pen.steps)
    return figure


def legend_entry(track: Track) -> str:
    """Return "adam, 0.1", and what became of it if that is unusual."""
    return f"{track.name}, {track.learning_rate:g}" + (" (diverged)" if track.diverged else "")


def default_measure(surface: Surface) -> Measure:
    """Return the value above the lowest, or in one dimension x."""
    if surface.dimension == 1:
        return Measure("x", lambda track: track.points[:, 0])
    if not surface.minima:
        return Measure("f", lambda track: track.values)
    lowest = surface.minima[0].value
    # What is below is rounding.
    return Measure("f − lowest", lambda track: np.maximum(track.values - lowest, 1e-16), log=True)


def box_around(picture: Picture) -> list[tuple[float, float]]:
    """Return what is drawn: the box asked for, or the surface's, widened so that the starts are inside."""
    if picture.box is not None:
        return list(picture.box)
    box = []
    for i, (low, high) in enumerate(picture.surface.box):
        starts = [track.points[0, i] for track in picture.tracks]
        margin = 0.06 * (high - low)
        box.append((min([low, *(x - margin for x in starts)]), max([high, *(x + margin for x in starts)])))
    return box


def prepare(picture: Picture) -> tuple[Figure, list[Pen], list[Line2D]]:
    """Return the figure without its paths, the pens that draw them, and the marks that lie over them."""
    figure = Figure(figsize=(10.6, 5.7), layout="constrained")
    map_, plot = figure.subplots(1, 2)
    surface, tracks, measure = picture.surface, picture.tracks, picture.measure or default_measure(picture.surface)
    box = box_around(picture)
    lift = draw_surface(map_, surface, box)
    pens = []
    for i, (track, style) in enumerate(zip(tracks, styles(len(tracks)), strict=True)):
        points = near(track.points, box)
        path = along_curve(surface, points[:, 0], (i + 1) * lift) if surface.dimension == 1 else points
        pens.append(Pen(track, path, measure.of(track), (map_, plot), style))
    marks = mark_minima(map_, surface, box)
    starts = np.unique([as_drawn(surface, track.points[0], track.values[0]) for track in tracks], axis=0)
    marks += map_.plot(*starts.T, "s", markersize=6, color="black", markeredgecolor="white", zorder=5, label="start")
    map_.set_xlim(*box[0])
    finish_measure(plot, measure, pens)
    figure.suptitle(picture.title, fontsize=12)
    handles = [*(pen.curve for pen in pens), *marks]
    figure.legend(
        handles=handles,
        title="optimizer, learning rate",
        loc="outside lower center",
        ncols=4,
        frameon=False,
        handlelength=3,
        fontsize=9.5,
        title_fontsize=9.5,
    )
    return figure, pens, marks


def as_drawn(surface: Surface, point: Sequence[float], value: float) -> tuple[float, float]:
    """Return where a point is in the picture: in one dimension, on the curve."""
    x, y = (*point, value)[:2]
    return float(x), float(y)


def near(points: np.ndarray, box: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the points, those far outside the box moved nearer: a path that diverges reaches numbers no canvas has."""
    low, high = np.transpose(box)
    # In two dimensions far enough that the lines keep their directions; along a curve there are none to keep.
    margin = (0.5 if len(low) == 1 else 20) * (high - low)
    return np.clip(points, low - margin, high + margin)


def along_curve(surface: Surface, x: np.ndarray, lift: float) -> np.ndarray:
    """Return the way of a ball along the curve, a little above it, so that the ways of several can be told apart."""
    share = np.arange(POINTS_PER_STEP) / POINTS_PER_STEP
    between = (x[:-1, None] + share * np.diff(x)[:, None]).ravel()
    way = np.append(between, x[-1])
    return np.column_stack([way, evaluated(surface, way[:, None]) + lift])


def draw_surface(axes: Axes, surface: Surface, box: Sequence[tuple[float, float]]) -> float:
    """Draw the surface alone; in one dimension, return how far apart balls on the curve are drawn."""
    if surface.dimension == 1:
        return draw_curve(axes, surface, box[0])
    draw_contours(axes, surface, box)
    return 0.0


def draw_curve(axes: Axes, surface: Surface, interval: tuple[float, float]) -> float:
    """Draw a surface of one dimension."""
    x = np.linspace(*interval, 2 * RESOLUTION)
    y = evaluated(surface, x[:, None])
    axes.plot(x, y, color="0.45", linewidth=1.5, zorder=2)
    height = y.max() - y.min()
    axes.fill_between(x, y, y.min() - 0.06 * height, color="0.93", linewidth=0, zorder=1)
    axes.set_ylim(y.min() - 0.06 * height, y.max() + 0.1 * height)
    axes.set_xlabel("x")
    axes.set_ylabel("f(x)")
    tidy(axes)
    return float(0.022 * height)


def draw_contours(axes: Axes, surface: Surface, box: Sequence[tuple[float, float]]) -> None:
    """Draw a surface of two dimensions, the deeper the darker."""
    x, y = (np.linspace(*interval, RESOLUTION) for interval in box)
    z = evaluated(surface, np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).reshape(RESOLUTION, RESOLUTION)
    levels, lowest = contour_levels(z, surface)
    shades = mpl.colors.LinearSegmentedColormap.from_list("depth", ["0.70", "0.86", "0.97"])
    axes.contourf(x, y, z - lowest, levels, cmap=shades, norm=mpl.colors.BoundaryNorm(levels, shades.N), extend="both")
    axes.contour(x, y, z - lowest, levels, colors="0.55", linewidths=0.5, zorder=2)
    axes.set_ylim(*box[1])
    axes.set_xlabel("x₁")
    axes.set_ylabel("x₂", rotation=0, labelpad=8)
    axes.set_aspect("equal" if 0.5 < np.ptp(box[0]) / np.ptp(box[1]) < 2 else "auto")


def contour_levels(z: np.ndarray, surface: Surface) -> tuple[np.ndarray, float]:
    """Return the levels above a lowest value, and that: log-spaced where most of the surface is near the bottom."""
    lowest = min([float(z.min()), *(minimum.value for minimum in surface.minima)])
    above = z - lowest
    highest = float(above.max())
    if np.median(above) < 0.3 * highest:
        return np.geomspace(max(np.quantile(above, 0.002), 1e-6 * highest), highest, 18), lowest
    return np.linspace(0, highest, 18)[1:], lowest


def evaluated(surface: Surface, points: np.ndarray) -> np.ndarray:
    """Return the surface at [point, coordinate]."""
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.vmap(surface))(jnp.asarray(points, float)))


def mark_minima(axes: Axes, surface: Surface, box: Sequence[tuple[float, float]]) -> list[Line2D]:
    """Mark the known minima inside the box."""

    def inside(minima: Iterable[Minimum]) -> np.ndarray:
        return np.array(
            [
                as_drawn(surface, *minimum)
                for minimum in minima
                if all(low <= x <= high for x, (low, high) in zip(minimum.point, box, strict=True))
            ]
        )

    lines = []
    if len(points := inside(surface.minima)):
        lines += axes.plot(*points.T, "*", markersize=13, color="black", markeredgecolor="white", zorder=7, label="minimum")
    if len(points := inside(islice(surface.local_minima(), MOST_MARKS))):
        size = 8 if len(points) <= 10 else 4
        lines += axes.plot(*points.T, "+", markersize=size, color="0.2", zorder=3, label="local minimum")
    return lines


def finish_measure(axes: Axes, measure: Measure, pens: Sequence[Pen]) -> None:
    """Scale and label the panel of the measure for all that will be in it."""
    everything = np.concatenate([worth_seeing(pen) for pen in pens])
    steps = max(1, *(pen.steps for pen in pens))
    low, high = float(everything.min()), float(everything.max())
    if measure.log:
        axes.set_ylim(low / 1.5, high * 1.5)
        logarithmic(axes)
    else:
        margin = 0.05 * (high - low or 1)
        axes.set_ylim(low - margin, high + margin)
    if measure.log_steps:
        axes.set_xscale("log")
        axes.set_xlim(1, steps)
        axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(power_of_ten))
    else:
        axes.set_xlim(0, steps)
    if measure.zero:
        axes.axhline(0, color="0.5", linewidth=0.8, zorder=1)
    axes.set_xlabel("step")
    axes.set_ylabel(measure.label)
    tidy(axes)


def worth_seeing(pen: Pen) -> np.ndarray:
    """Return the values that the panel must have room for: of a path that diverged, or is about to, its beginning."""
    values = np.abs(pen.over_steps)
    first = max(float(values[0]), 1.0) if len(values) else 1.0
    if pen.diverged or (len(values) and values[-1] > 1e6 * first):
        return pen.over_steps[values <= 10 * first]
    return pen.over_steps


def draw_basins(surface: Surface, starts: np.ndarray, found: MultiStart, title: str) -> Figure:
    """Return a figure of a multi-start in two dimensions: every starting point in the colour of the minimum it led to.

    Args:
        surface: of two dimensions.
        starts: [lane, 2].
        found: what `multi_start` found from them.
        title: above it.
    """
    figure = Figure(figsize=(8.6, 6.2), layout="constrained")
    axes = figure.subplots()
    draw_contours(axes, surface, surface.box)
    for i, (basin, colour) in enumerate(zip(found.minima, COLOURS, strict=False)):
        mine = starts[found.basin == i]
        where = ", ".join(f"{x:.2f}" for x in basin.params)
        label = f"({where}): f = {basin.value:.3g}, {100 * basin.share:.0f}% of the starts"
        axes.plot(*mine.T, "o", markersize=4, markeredgewidth=0, alpha=0.75, color=colour, label=label)
        axes.plot(*basin.params, "*", markersize=20, color=colour, markeredgecolor="white", markeredgewidth=1.5)
    others = found.basin >= len(COLOURS)
    for mask, marker, label in (
        (others, ".", f"{len(found.minima) - len(COLOURS)} further minima"),
        (found.stop == Stop.STEPS, "+", "not converged"),
        (found.stop == Stop.NOT_FINITE, "x", "diverged"),
    ):
        if mask.any():
            axes.plot(*starts[mask].T, marker, markersize=4, color="0.35", label=label)
    axes.set_xlim(*surface.box[0])
    axes.set_title(title, fontsize=12)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9.5, markerscale=1.6)
    return figure
