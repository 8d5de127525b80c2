"""An interactive page: one self-contained HTML file in which optimizers run over the surfaces in the browser."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import islice
from typing import Any

from jaxopt_lec.lab.compare import HALF_DECADES
from jaxopt_lec.lab.figures import COLOURS
from jaxopt_lec.lab.surfaces import SURFACES, Surface

__all__ = ["RULES", "surface_page"]

# The optimizers whose update rules the page has, in JavaScript, at the hyperparameters of the library.
RULES = (
    "sgd",
    "momentum",
    "nesterov",
    "nesterov_exact",
    "adagrad",
    "rmsprop",
    "adadelta",
    "adam",
    "adamw",
    "amsgrad",
    "adamax",
    "nadam",
    "radam",
    "lion",
)
PLACE = "/*GIVEN*/null"


def surface_page(
    surface: str, optimizers: Mapping[str, float], start: Sequence[float] | None = None, steps: int = 100
) -> str:
    """Return the page, as HTML.

    Args:
        surface: the name of the surface that is shown first.
        optimizers: name → learning rate of those that are switched on at first; names from `RULES`.
        start: the first starting point; None: the surface's own.
        steps: how many steps paths have at first.

    Errors: ValueError for an optimizer that the page does not have.
    """
    unknown = [name for name in optimizers if name not in RULES]
    if unknown:
        raise ValueError(f"the page has no update rule for {', '.join(unknown)}; it has {', '.join(RULES)}")
    surfaces = {name: described(kind()) for name, kind in SURFACES.items()}
    given = {
        "surface": surface,
        "optimizers": dict(optimizers),
        "start": list(surfaces[surface]["start"] if start is None else start),
        "steps": steps,
        "surfaces": surfaces,
        "rates": HALF_DECADES,
        "colours": COLOURS,
    }
    template = resources.files("jaxopt_lec.lab").joinpath("surface_page.html").read_text(encoding="utf-8")
    return template.replace(PLACE, json.dumps(given, allow_nan=False).replace("</", "<\\/"))


def described(surface: Surface) -> dict[str, Any]:
    """Return what the page has to know of a surface besides its formula."""
    return {
        "dimension": surface.dimension,
        "box": surface.box,
        "start": surface.start,
        "minima": [minimum.point for minimum in surface.minima],
        "local_minima": [minimum.point for minimum in islice(surface.local_minima(), 400)],
        "lowest": surface.minima[0].value if surface.minima else None,
        "parameters": dataclasses.asdict(surface),  # type: ignore[call-overload]  # every surface is a dataclass
    }
