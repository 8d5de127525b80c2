"""The reference has every public name, once, and each leads to what a user gets under that name."""

import importlib
import inspect
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jax

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PUBLIC = (
    "jaxopt_lec",
    "jaxopt_lec.arithmetic",
    "jaxopt_lec.compat.checkpoint",
    "jaxopt_lec.compat.keras",
    "jaxopt_lec.compat.torch",
    "jaxopt_lec.lab",
    "jaxopt_lec.lab.surfaces",
    "jaxopt_lec.lab.workloads",
    "jaxopt_lec.slots",
    "jaxopt_lec.state",
    "jaxopt_lec.train_state",
)


def at(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_every_public_name_is_in_the_reference_once():
    paths = [path for page in REFERENCE.glob("*.md") for path in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]
    # A type that is written with brackets is one object for equal ones: the name counts too.
    shown = Counter((path.rpartition(".")[2], id(at(path))) for path in paths)
    assert max(shown.values()) == 1
    public = {(name, id(at(f"{module}.{name}"))) for module in PUBLIC for name in importlib.import_module(module).__all__}
    surfaces = {("surfaces", id(importlib.import_module("jaxopt_lec.lab.surfaces")))}  # a page of its own
    assert set(shown) == public - surfaces


def test_what_has_no_docstring_is_told_on_its_page():
    for page in REFERENCE.glob("*.md"):
        for path, below in re.findall(r"^::: (\S+)$(?=\s*(:::|#|.?))", page.read_text(), re.MULTILINE):
            it = at(path)
            has_docstring = it is not Any and (
                inspect.isclass(it) or inspect.isroutine(it) or isinstance(it, jax.custom_jvp)
            )
            assert has_docstring == (below in (":::", "#", "")), path
