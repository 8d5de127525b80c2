"""The workloads that have a name."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flax import nnx

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.workloads.classification import Classification
from jaxopt_lec.lab.workloads.digits import digits
from jaxopt_lec.lab.workloads.idx import idx_folder
from jaxopt_lec.lab.workloads.models import CNN, MLP, Remedies
from jaxopt_lec.lab.workloads.workload import Data

CLASSES = 10


@dataclass(frozen=True)
class Recipe:
    """How a named workload is made."""

    summary: str
    model: Callable[[Data, Remedies, nnx.Rngs], nnx.Module]
    from_folder: bool = False  # the data come from a folder of IDX files, not from inside a package
    has_hidden_layers: bool = True


def mlp(*hidden: int) -> Callable[[Data, Remedies, nnx.Rngs], nnx.Module]:
    """Return the maker of a perceptron with these hidden layers."""
    return lambda data, remedies, rngs: MLP(math.prod(data.train[0].shape[1:]), hidden, CLASSES, remedies, rngs=rngs)


def cnn(*channels: int) -> Callable[[Data, Remedies, nnx.Rngs], nnx.Module]:
    """Return the maker of a convolutional network with these channels."""
    return lambda data, remedies, rngs: CNN(data.train[0].shape[1], channels, CLASSES, remedies, rngs=rngs)


WORKLOADS = {
    "digits-mlp": Recipe("scikit-learn's digits, 64-64-64-10 perceptron", mlp(64, 64)),
    "digits-cnn": Recipe("scikit-learn's digits, two 3×3 convolutions (8 and 16 channels)", cnn(8, 16)),
    "digits-logistic": Recipe("scikit-learn's digits, logistic regression", mlp(), has_hidden_layers=False),
    "fashion-mnist": Recipe("Fashion-MNIST from --data, 784-100-10 perceptron", mlp(100), from_folder=True),
    "mnist": Recipe("MNIST from --data, 784-100-10 perceptron", mlp(100), from_folder=True),
}


def load_workload(name: str, remedies: Remedies = Remedies(), folder: Path | None = None) -> Classification:  # noqa: B008
    """Make a named workload, with its data.

    Args:
        name: a key of ``WORKLOADS``.
        remedies: the model-side remedies; logistic regression has no hidden layer and takes only `initializer` and `l2`.
        folder: where the IDX files lie, for those workloads that read some.

    Raises:
        InputError: there is no such workload, a remedy does not apply to it, or its data cannot be read.
    """
    if name not in WORKLOADS:
        raise InputError(f"workload {name!r} is not known; known: {', '.join(WORKLOADS)}")
    recipe = WORKLOADS[name]
    if not 0 <= remedies.dropout < 1:
        raise InputError(f"dropout {remedies.dropout}: a probability in [0, 1) is needed")
    if not (remedies.l2 >= 0 and math.isfinite(remedies.l2)):
        raise InputError(f"l2 {remedies.l2}: a finite number ≥ 0 is needed")
    if not recipe.has_hidden_layers:
        default = Remedies()
        for option in ("activation", "batch_norm", "dropout"):
            if getattr(remedies, option) != getattr(default, option):
                raise InputError(f"{option} does not apply to {name}: it has no hidden layer")
    if recipe.from_folder and folder is None:
        raise InputError(f"workload {name} needs the folder of its IDX files (--data FOLDER)")
    if not recipe.from_folder and folder is not None:
        raise InputError(f"workload {name} reads no folder: its data come inside scikit-learn (drop --data)")
    data = idx_folder(folder) if folder is not None else digits()
    return Classification(name, data, lambda rngs: recipe.model(data, remedies, rngs), remedies.l2)
