"""The workloads that have a name."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from flax import nnx

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.files import as_path
from jaxopt_lec.lab.workloads.characters import characters, library_text, read_text
from jaxopt_lec.lab.workloads.classification import Classification
from jaxopt_lec.lab.workloads.digits import digits
from jaxopt_lec.lab.workloads.idx import idx_folder
from jaxopt_lec.lab.workloads.models import CNN, MLP, Remedies
from jaxopt_lec.lab.workloads.own import find_own_workload
from jaxopt_lec.lab.workloads.quadratic import NoisyQuadratic
from jaxopt_lec.lab.workloads.workload import Data, Workload

CLASSES = 10
ALL = frozenset(field.name for field in fields(Remedies))


@dataclass(frozen=True)
class Recipe:
    """How a named workload is made."""

    make: Callable[[str, Remedies, Path | None], Workload]
    reads: Literal["the folder of its IDX files", "a text file"] | None = None  # what --data is
    has_default: bool = True  # whether there are data without --data
    remedies: frozenset[str] = ALL  # those that apply
    why: str = ""  # the others do not


def images(model: Callable[[Data, Remedies, nnx.Rngs], nnx.Module]) -> Callable[[str, Remedies, Path | None], Workload]:
    """Return the maker of a classification of images: scikit-learn's digits, or those in a folder."""

    def make(name: str, remedies: Remedies, folder: Path | None) -> Workload:
        data = digits() if folder is None else idx_folder(folder)
        return Classification(name, data, lambda rngs: model(data, remedies, rngs), remedies.l2)

    return make


def mlp(*hidden: int) -> Callable[[str, Remedies, Path | None], Workload]:
    """Return the maker of a perceptron with these hidden layers."""
    return images(lambda data, remedies, rngs: MLP(math.prod(data.train[0].shape[1:]), hidden, CLASSES, remedies, rngs=rngs))


def cnn(*channels: int) -> Callable[[str, Remedies, Path | None], Workload]:
    """Return the maker of a convolutional network with these channels."""
    return images(lambda data, remedies, rngs: CNN(data.train[0].shape[1], channels, CLASSES, remedies, rngs=rngs))


def transformer(name: str, remedies: Remedies, file: Path | None) -> Workload:
    """Make the transformer over the characters of a text, by default of Python's own documentation."""
    return characters(name, library_text() if file is None else read_text(file), remedies)


WORKLOADS = {
    "digits-mlp": Recipe(mlp(64, 64)),
    "digits-cnn": Recipe(cnn(8, 16)),
    "digits-logistic": Recipe(
        mlp(),
        remedies=frozenset({"initializer", "l2"}),
        why="it has no hidden layer",
    ),
    "fashion-mnist": Recipe(mlp(100), reads="the folder of its IDX files", has_default=False),
    "mnist": Recipe(mlp(100), reads="the folder of its IDX files", has_default=False),
    "characters": Recipe(
        transformer,
        reads="a text file",
        remedies=frozenset({"dropout", "l2"}),
        why="its blocks are a transformer's",
    ),
    "noisy-quadratic": Recipe(
        lambda name, remedies, file: NoisyQuadratic(),
        remedies=frozenset(),
        why="it is no network",
    ),
}


def load_workload(
    name: str,
    remedies: Remedies = Remedies(),  # noqa: B008
    data: str | os.PathLike[str] | None = None,
) -> Workload:
    """Make a workload, with its data.

    Args:
        name: a key of ``WORKLOADS``, or the user's own: ``package.module:make`` or ``file.py:make``.
        remedies: the model-side remedies; not all apply to every workload.
        data: where the data are, for workloads that read a file or a folder; ``~`` is your home.

    Raises:
        InputError: there is no such workload, a remedy does not apply to it, or its data cannot be read.
    """
    if not 0 <= remedies.dropout < 1:
        raise InputError(f"dropout {remedies.dropout}: a probability in [0, 1) is needed")
    if not (remedies.l2 >= 0 and math.isfinite(remedies.l2)):
        raise InputError(f"l2 {remedies.l2}: a finite number ≥ 0 is needed")
    path = None if data is None else as_path("data", data)
    if ":" in name:
        check_remedies(name, remedies, frozenset(), "it is your own")
        return find_own_workload(name, path)
    if name not in WORKLOADS:
        raise InputError(f"workload {name!r} is not known; known: {', '.join(WORKLOADS)}; your own is written file.py:make")
    recipe = WORKLOADS[name]
    check_remedies(name, remedies, recipe.remedies, recipe.why)
    if path is None and not recipe.has_default:
        raise InputError(f"workload {name} needs {recipe.reads} (--data)")
    if path is not None and recipe.reads is None:
        raise InputError(f"workload {name} reads no files (drop --data)")
    return recipe.make(name, remedies, path)


def check_remedies(name: str, remedies: Remedies, apply: frozenset[str], why: str) -> None:
    """Raise an InputError for a remedy that would change nothing."""
    default = Remedies()
    for option in sorted(ALL - apply):
        if getattr(remedies, option) != getattr(default, option):
            raise InputError(f"{option} does not apply to {name}: {why}")
