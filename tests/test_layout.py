"""The folder is the level: who may import what, and what every method must have."""

import ast
import importlib
import inspect
from pathlib import Path

import oracles
import pytest
from cases import CASES

import jaxopt_lec as jl

ROOT = Path(jl.__file__).parent
METHODS = sorted(path.stem for path in (ROOT / "optimizers").glob("*.py") if path.stem != "__init__")
# Methods that need the whole tree say so in their first line; here is why.
WHOLE_TREE = {
    "newton": "the Hessian couples all leaves",
    "nesterov": "nesterov_exact evaluates the gradient of the loss at a point of its own",
    "batch_gradient_descent": "no update rule: it sums gradients over a data set",
}
LEVELS = [
    "paths",
    "transformation",
    "foreign",
    "launches",
    "fusing",
    "arithmetic",
    "hyperparameters",
    "slots",
    "meshes",
    "hoisting",
    "equation",
    "optimizers",
    "compat",
]


# Internal modules that every folder may import, and what each says once for all of them.
SHARED = {
    "transformation": "what a transformation is",
    "meshes": "what JAX refuses on Explicit axes",
    "foreign": "which arrays are of another library",
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def level_of(module):
    return next((i for i, level in enumerate(LEVELS) if module.startswith(f"jaxopt_lec.{level}")), None)


def speaks_of_trees(path):
    source = ast.parse(path.read_text())
    names = {
        f"{n.value.id}.{n.attr}" for n in ast.walk(source) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    return bool(names & {"jax.tree", "jax.tree_util", "optax.tree"}) or any("tree" in name for name in imports(path))


def is_atom(function):
    """An equation that was lifted, not a chain of them: it takes its hyperparameters by keyword only."""
    return all(q.kind is q.KEYWORD_ONLY for q in inspect.signature(function).parameters.values())


def test_only_the_listed_methods_speak_of_trees():
    speaking = {name for name in METHODS if speaks_of_trees(ROOT / "optimizers" / f"{name}.py")}
    assert speaking == set(WHOLE_TREE)


def test_import_direction_is_one_way():
    for level in LEVELS:
        path = ROOT / level
        for file in path.glob("*.py") if path.is_dir() else [ROOT / f"{level}.py"]:
            for module in imports(file):
                if module.startswith("jaxopt_lec"):
                    assert level_of(module) is not None, f"{file.name} imports {module}"
                    assert level_of(module) <= LEVELS.index(level), f"{file.name} imports {module}"


def test_the_core_imports_jax_and_optax_only():
    import subprocess
    import sys

    core = [ROOT / "__init__.py", *(path for level in LEVELS if (path := ROOT / f"{level}.py").exists())]
    core += [*(ROOT / "optimizers").glob("*.py"), *(ROOT / "state").glob("*.py"), *(ROOT / "fusing").glob("*.py")]
    outside = {module.split(".")[0] for file in core for module in imports(file)} - set(sys.stdlib_module_names)
    later = {"numba", "llvmlite", "orbax", "pandas"}  # extras, imported where they are used
    assert outside == {"jax", "optax", "numpy", "jaxopt_lec"} | later  # NumPy is JAX's own dependency
    code = "import sys, jaxopt_lec.state; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not later & set(loaded)


@pytest.mark.parametrize("folder", ["lab", "state"])
def test_the_laboratory_and_the_state_tools_stand_on_the_public_names(folder):
    for file in (ROOT / folder).rglob("*.py"):
        for module in imports(file):
            private = module.startswith("jaxopt_lec.") and not hasattr(jl, module.removeprefix("jaxopt_lec."))
            mine = (f"jaxopt_lec.{folder}", *(f"jaxopt_lec.{name}" for name in SHARED))
            assert not private or module.startswith(mine), f"{file.name} imports {module}"


def test_the_laboratory_needs_its_extra_only_where_it_says_so():
    import subprocess
    import sys

    code = "import sys, jaxopt_lec.lab; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"flax", "matplotlib", "pandas", "rich", "sklearn", "typer"} & set(loaded)


def test_init_re_exports_and_nothing_else():
    body = ast.parse((ROOT / "__init__.py").read_text()).body
    assert all(isinstance(node, ast.ImportFrom | ast.Assign | ast.Expr) for node in body)
    assert len(set(jl.__all__)) == len(jl.__all__)
    assert all(hasattr(jl, name) for name in jl.__all__)


def test_no_file_is_called_utils():
    names = {path.stem for path in [*ROOT.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]}
    assert not names & {"utils", "helpers", "misc", "common"}


@pytest.mark.parametrize("method", [name for name in METHODS if name != "batch_gradient_descent"])
def test_every_method_has_its_case_its_oracle_and_its_public_names(method):
    module = importlib.import_module(f"jaxopt_lec.optimizers.{method}")
    assert method in module.__all__
    assert any(is_atom(getattr(module, name)) for name in module.__all__)
    for name in module.__all__:
        assert getattr(jl, name) is getattr(module, name), f"{name} is not re-exported"
    mine = [case for case in CASES if inspect.getmodule(case.factory) is module]
    assert mine, f"tests/cases.py has no row for {method}"
    for case in mine:
        assert case.oracle in vars(oracles).values()


PUBLIC = [getattr(jl, name) for name in jl.__all__ if callable(getattr(jl, name)) and inspect.isfunction(getattr(jl, name))]


@pytest.mark.parametrize("function", PUBLIC, ids=lambda f: f.__name__)
def test_public_docstrings_follow_the_template(function):
    lines = inspect.getdoc(function).splitlines()
    atom_or_optimizer = inspect.getmodule(function).__name__.startswith("jaxopt_lec.optimizers")
    if atom_or_optimizer and function.__name__ not in ("full_batch_value_and_grad", "nesterov_parameters"):
        text = "\n".join(lines)
        assert any(sign in lines[0] for sign in "←=−√/"), f"no formula: {lines[0]}"
        assert "Slots: " in text or "slots" in text
        if not is_atom(function):
            assert "Reference" in text
            assert "quals" in text or "No other framework" in text or function.__name__.startswith("newton")
        for name in inspect.signature(function).parameters:
            assert name in text or "rguments" in text, f"{name} is not explained"
    assert len(lines) <= (30 if function is jl.equation else 20)
