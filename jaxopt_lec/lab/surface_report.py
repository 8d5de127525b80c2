"""What the command `surface` leaves behind: a table on the terminal, and pictures and a page in a folder."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from jaxopt_lec.lab.animation import animate
from jaxopt_lec.lab.drawing import Picture, draw
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.figures import png
from jaxopt_lec.lab.gallery import SCENES, many_starts_figure
from jaxopt_lec.lab.paths import Descent, Track
from jaxopt_lec.lab.surface_page import RULES, surface_page
from jaxopt_lec.lab.wording import count

__all__ = ["DEFAULT", "FIGURES", "FILES", "check_page", "check_scenes", "gallery_files", "surface_files", "table"]

DEFAULT = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam")

# The files that the command `surface` can write.
FILES = ("surface.png", "surface.gif", "surface.html")

# What draws the scenes; figures without paths do not move.
FIGURES: Mapping[str, Callable[[], Picture | Figure]] = {
    **{scene.name: scene.picture for scene in SCENES},
    "many_starts": many_starts_figure,
}

# Called with what is being done, and how much of it is done, and of how much.
Progress: TypeAlias = Callable[[str, int, int], None]


def check_page(names: Sequence[str]) -> None:
    """Check that the page has one of these optimizers.

    Raises:
        InputError: it has none.
    """
    if not set(names) & set(RULES):
        raise InputError(f"the page has none of these optimizers: {', '.join(names)}; it has {', '.join(RULES)}")


def title(descent: Descent) -> str:
    """Return what stands above the table and the picture."""
    return f"{descent.surface.name}: {count(descent.steps, 'step')}"


def table(descent: Descent, tracks: Sequence[Track]) -> Table:
    """Return the outcome of each path."""
    made = Table(title=title(descent), box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("optimizer", no_wrap=True)
    for column in ("learning\nrate", "value", "distance to\nthe minimum", "end"):
        made.add_column(column, justify="right", no_wrap=True)
    for track in tracks:
        distances = [float(np.linalg.norm(track.points[-1] - minimum.point)) for minimum in descent.surface.minima]
        made.add_row(
            track.name,
            f"{track.learning_rate:g}",
            "diverged" if track.diverged else f"{track.values[-1]:.4g}",
            "–" if track.diverged or not distances else f"{min(distances):.3g}",
            "–" if track.diverged else ", ".join(f"{x:.4g}" for x in track.points[-1]),
        )
    return made


def surface_files(
    descent: Descent, *, animation: bool, page: bool, progress: Progress
) -> tuple[tuple[Track, ...], dict[str, bytes]]:
    """Run and draw; return the paths, and name → content of surface.png, and surface.gif and surface.html if asked for."""
    tracks = descent.run(lambda name, done: progress(f"running {name}", done, len(descent.contestants)))
    picture = Picture(descent.surface, tracks, title(descent))
    progress("drawing", 0, 1)
    files = {"surface.png": png(draw(picture))}
    if animation:
        files["surface.gif"] = animate(picture, progress=lambda done, of: progress("animating", done, of))
    if page:
        rates = {track.name: track.learning_rate for track in tracks if track.name in RULES}
        files["surface.html"] = surface_page(descent.surface.name, rates, descent.start, descent.steps).encode()
    return tracks, files


def check_scenes(names: Sequence[str]) -> None:
    """Check that there are scenes of these names.

    Raises:
        InputError: there is none of a name, or no name.
    """
    for name in names:
        if name not in FIGURES:
            raise InputError(f"scene {name!r} is not known; known: {', '.join(FIGURES)}")
    if not names:
        raise InputError("no scene given")


def gallery_files(names: Sequence[str], *, animation: bool, progress: Progress) -> dict[str, bytes]:
    """Draw scenes; return name → content, a PNG for each, and a GIF of those with paths if asked for."""
    files = {}
    for i, name in enumerate(names):
        progress(f"drawing {name}", i, len(names))
        made = FIGURES[name]()
        files[f"{name}.png"] = png(draw(made) if isinstance(made, Picture) else made)
        if animation and isinstance(made, Picture):
            files[f"{name}.gif"] = animate(made)
    return files
