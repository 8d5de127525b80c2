"""The scenes that show what momentum, Nesterov's look-ahead and adaptive steps do: one picture for each claim."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import jaxopt_lec
from jaxopt_lec.lab.contestants import Contestant
from jaxopt_lec.lab.drawing import Measure, Picture, draw_basins
from jaxopt_lec.lab.multi_start import MultiStart, multi_start
from jaxopt_lec.lab.paths import Descent, Track
from jaxopt_lec.lab.starts import grid_starts
from jaxopt_lec.lab.surfaces import Cone, DoubleWell, Ravine, Rosenbrock, Saddle, StyblinskiTang, Surface

__all__ = ["SCENES", "Scene", "many_starts", "many_starts_figure"]

STEP_SIZE = Measure("size of the step", lambda track: np.linalg.norm(track.updates, axis=1), log=True, log_steps=True)


@dataclass(frozen=True)
class Scene:
    """A claim, and the paths that show it.

    Args:
        name: of the file.
        claim: above the picture.
        surface: where.
        optimizers: label → (factory, learning rate).
        start: one number for each coordinate.
        steps: how many.
        measure: what the panel beside the surface shows.
        box: (lowest, highest) of each coordinate to draw; None: the surface's.
    """

    name: str
    claim: str
    surface: Surface
    optimizers: dict[str, tuple[Callable[..., Any], float]]
    start: tuple[float, ...]
    steps: int
    measure: Measure
    box: tuple[tuple[float, float], ...] | None = None

    def tracks(self) -> tuple[Track, ...]:
        """Run the optimizers."""
        contestants = [Contestant(label, label, factory) for label, (factory, _) in self.optimizers.items()]
        rates = [rate for _, rate in self.optimizers.values()]
        return Descent(self.surface, contestants, rates, self.start, self.steps).run()

    def picture(self) -> Picture:
        """Run the optimizers, and return what is to be drawn."""
        return Picture(self.surface, self.tracks(), self.claim, self.measure, self.box)


def along_the_start(track: Track) -> np.ndarray:
    """Return where each point is on the line from the minimum at 0 to the start: 1 at the start, below 0 beyond."""
    start = track.points[0]
    return track.points @ start / (start @ start)


SCENES = (
    Scene(
        "ravine_oscillation",
        "Momentum damps the oscillation across a ravine (at the same η/(1−γ))",
        Ravine(condition=50.0),
        {"sgd": (jaxopt_lec.sgd, 0.038), "momentum": (jaxopt_lec.momentum, 0.0038)},
        start=(-1.3, 0.5),
        steps=60,
        measure=Measure("x₂, across the ravine", lambda track: track.points[:, 1], zero=True),
        box=((-1.5, 0.5), (-0.75, 0.75)),
    ),
    Scene(
        "momentum_overshoot",
        "Momentum overshoots and circles the minimum, SGD does neither",
        Ravine(condition=3.0, angle=0.6),
        {"sgd": (jaxopt_lec.sgd, 0.05), "momentum": (jaxopt_lec.momentum, 0.05)},
        start=(-1.3, 0.5),
        steps=60,
        measure=Measure("place on the way from the start (1) to the minimum (0)", along_the_start, zero=True),
    ),
    Scene(
        "nesterov_brakes",
        "Nesterov's look-ahead brakes earlier: a lower top speed, less overshoot",
        Ravine(condition=1.0, dimension=1),
        {
            "momentum": (partial(jaxopt_lec.momentum, decay=0.95), 0.1),
            "nesterov_exact": (partial(jaxopt_lec.nesterov_exact, decay=0.95), 0.1),
        },
        start=(-1.3,),
        steps=60,
        measure=Measure("velocity: x after the step − x before", lambda track: track.updates[:, 0], zero=True),
    ),
    Scene(
        "adagrad_dies",
        "On a steady slope Adagrad's steps die like 1/√t, RMSProp's do not",
        Cone(),
        {"adagrad": (jaxopt_lec.adagrad, 0.3), "rmsprop": (jaxopt_lec.rmsprop, 0.3)},
        start=(-36.0,),
        steps=90,
        measure=STEP_SIZE,
    ),
    Scene(
        "adam_bias_correction",
        "Without bias correction Adam's first steps are far too large",
        Cone(),
        {
            "adam": (jaxopt_lec.adam, 0.1),
            "adam without correction": (partial(jaxopt_lec.adam, bias_correction=False), 0.1),
        },
        start=(-36.0,),
        steps=60,
        measure=STEP_SIZE,
    ),
    Scene(
        "shallow_minimum",
        "SGD stays in the shallow minimum, momentum rolls through it",
        DoubleWell(),
        {"sgd": (jaxopt_lec.sgd, 0.01), "momentum": (jaxopt_lec.momentum, 0.01)},
        start=(2.1,),
        steps=120,
        measure=Measure("x", lambda track: track.points[:, 0]),
    ),
    Scene(
        "saddle_escape",
        "Beside a saddle SGD hardly moves; momentum gathers speed, adaptive steps ignore how flat it is",
        Saddle(),
        {
            "sgd": (jaxopt_lec.sgd, 0.05),
            "momentum": (jaxopt_lec.momentum, 0.05),
            "rmsprop": (jaxopt_lec.rmsprop, 0.05),
            "adam": (jaxopt_lec.adam, 0.05),
        },
        start=(-1.6, 1e-3),
        steps=100,
        measure=Measure("|x₂|, away from the saddle", lambda track: np.abs(track.points[:, 1]), log=True),
    ),
    Scene(
        "newton_steps",
        "Newton's method follows the curvature: a handful of steps, where Adam takes hundreds",
        Rosenbrock(),
        {"newton": (jaxopt_lec.newton, 1.0), "adam": (jaxopt_lec.adam, 0.1)},
        start=(-1.2, 1.0),
        steps=300,
        measure=Measure("f", lambda track: np.maximum(track.values, 1e-16), log=True),
        box=((-1.7, 1.5), (-0.6, 1.9)),
    ),
)


def many_starts() -> tuple[Surface, np.ndarray, MultiStart]:
    """Search the function of Styblinski and Tang with momentum, from a grid of 1,600 points."""
    surface = StyblinskiTang()
    starts = np.asarray(grid_starts(*surface.domain, 40))
    return surface, starts, multi_start(surface, starts, jaxopt_lec.momentum(3e-3), 1000)


def many_starts_figure() -> Figure:
    """Draw `many_starts`."""
    return draw_basins(*many_starts(), "No method knows the global minimum; many starting points find it")
