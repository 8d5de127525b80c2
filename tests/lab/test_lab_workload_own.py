"""A user's workload is found and tried out, and what is wrong with it is said before anything is trained."""

import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.workloads import Remedies, load_workload

EXAMPLE = Path(__file__).parents[2] / "examples" / "your_own_workload.py"

GOOD = """
import jax, jax.numpy as jnp, numpy as np
from jaxopt_lec.lab.workloads import Data, Score

class Line:
    name = "line"
    score = Score("error", higher_is_better=False)
    x = np.linspace(0, 1, 20, dtype=np.float32)
    data = Data(x, x[:5], x[5:])
    def initialize(self, key):
        return {"slope": jnp.zeros(())}, ()
    def loss(self, params, state, batch, key):
        return jnp.mean((params["slope"] * batch - batch) ** 2), state
    def metric(self, params, state, batch):
        error = (params["slope"] * batch - batch) ** 2
        return error, error

def make():
    return Line()

def with_data(data):
    made = Line()
    made.name = str(data)
    return made
"""


MADE = "data = Data(x, x[:5], x[5:])"
ERRORS = '(params["slope"] * batch - batch) ** 2'


@pytest.fixture
def written(tmp_path):
    def write(old: str = "", new: str = "") -> str:
        assert old in GOOD
        file = tmp_path / f"workload_{abs(hash((old, new)))}.py"
        file.write_text(GOOD.replace(old, new) if old else GOOD)
        return str(file)

    return write


def test_the_example_is_found_in_its_file_and_as_a_module(monkeypatch):
    workload = load_workload(f"{EXAMPLE}:make")
    assert workload.name == "matrix-completion"
    monkeypatch.syspath_prepend(EXAMPLE.parents[1])
    assert load_workload("examples.your_own_workload:make").name == "matrix-completion"


def test_the_example_runs_as_a_script(capsys):
    with jax.numpy_dtype_promotion("standard"):  # as a reader has it
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["sgd", "momentum", "adam"]
    assert min(float(line.split()[-1]) for line in lines) < 2  # the entries' own variance is about 3


def test_a_file_takes_no_modules_place(tmp_path):
    file = tmp_path / "json.py"
    file.write_text(GOOD)
    before = sys.modules.get("json")
    assert load_workload(f"{file}:make").name == "line"
    assert sys.modules.get("json") is before


def test_data_are_handed_on(written):
    file = written()
    assert load_workload(f"{file}:with_data", data=Path("there")).name == "there"
    with pytest.raises(InputError, match="it needs its data"):
        load_workload(f"{file}:with_data")
    with pytest.raises(InputError, match="takes no argument data"):
        load_workload(f"{file}:make", data=Path("there"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.py:make", "there is no file nowhere.py"),
        ("no_such_module:make", "there is no module no_such_module"),
        ("json:nothing", "json has no attribute nothing"),
        ("json:decoder", "decoder is a module, not a function"),
        ("json:", "not of the form package.module:name or file.py:name"),
        ("json:dumps", "making it failed: TypeError"),
        (
            "builtins:dict",
            "workload 'builtins:dict': ValueError: no signature|a dict is no workload: it has no name, data, score",
        ),
        ("nothing", "'nothing' is not known; known: digits-mlp, .*; your own is written file.py:make"),
    ],
)
def test_what_is_not_found_is_named(spec, message):
    with pytest.raises(InputError, match=message):
        load_workload(spec)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def metric", "def measure", "a Line is no workload: it has no metric"),
        ("import jax, ", "import no_such_thing, jax, ", "importing .* failed: ModuleNotFoundError: .*no_such_thing"),
        ('name = "line"', "name = 3", "its name is a int"),
        ('score = Score("error", higher_is_better=False)', 'score = "error"', "its score is a str, not a Score"),
        (MADE, "data = (x, x, x)", "its data are a tuple, not Data"),
        (MADE, "data = Data(x, x[:0], x)", "the arrays of data.validation need one first axis"),
        (MADE, "data = Data((x, x[1:]), x, x)", "the arrays of data.train need one first axis"),
        (MADE, "data = Data(x, x, x[:, None])", "the examples of its three sets differ"),
        ('return {"slope": jnp.zeros(())}, ()', 'return {"slope": jnp.zeros(())}', r"must return \(params, state\)"),
        ("jnp.zeros(())", "jnp.zeros((), int)", "all floating point arrays"),
        (MADE, "s = np.array(['a'] * 20); data = Data(s, s, s)", "data.train has an array of <U1, not of numbers"),
        (MADE, "data = Data([1.0, 2.0], x, x)", "data.train has a float, not an array of NumPy or JAX"),
        (MADE, "data = property(lambda self: open('no-such-file'))", "its data cannot be read: FileNotFoundError"),
        (f"mean({ERRORS}), state", f"mean({ERRORS}) > 1, state", "returns bool, which has no gradient"),
        (
            f"mean({ERRORS}), state",
            f"mean({ERRORS}).astype(jnp.complex64), state",
            "returns complex64, which has no gradient",
        ),
        (
            f"jnp.mean({ERRORS})",
            'jax.lax.while_loop(lambda x: x > 1, lambda x: x / 2, params["slope"])',
            "the gradient of loss.* in lanes, traced by JAX, failed: ValueError: Reverse-mode",
        ),
        (
            f"jnp.mean({ERRORS})",
            'jax.pure_callback(lambda x: x, jnp.zeros(()), jax.lax.stop_gradient(params["slope"]))',
            "the gradient of loss.* in lanes, traced by JAX, failed: NotImplementedError",
        ),
        ("return error, error", "return error, error.astype(jnp.complex64)", "must return real numbers"),
        ("return error, error", "return error, jnp.zeros(2)", "must return a loss and a score of every example"),
        ("class Line:", "raise SystemExit(3)\nclass Line:", "importing .* failed: SystemExit: 3"),
        ("def make():", "def make():\n    raise SystemExit(3)\n\ndef other():", "making it failed: SystemExit: 3"),
        ("jnp.mean(", "(", r"loss\(params, state, batch, key\) must return \(a number, state\)"),
        ("** 2), state", "** 2), 3.0", "changes the structure, shapes or dtypes of its state"),
        (
            'params["slope"] * batch - batch) ** 2)',
            'params["slop"] * batch - batch) ** 2)',
            "loss.* failed: KeyError: 'slop'",
        ),
        ("return error, error", "return error, error.mean()", "must return a loss and a score of every example"),
        ("def make():", "def make():\n    1 / 0\n\ndef other():", "making it failed: ZeroDivisionError"),
    ],
)
def test_what_is_no_workload_is_named(written, old, new, message):
    with pytest.raises(InputError, match=message):
        load_workload(f"{written(old, new)}:make")


def test_remedies_are_for_built_in_models(written):
    with pytest.raises(InputError, match=r"dropout does not apply to .*: it is your own"):
        load_workload(f"{written()}:make", Remedies(dropout=0.5))


def test_a_workload_that_was_tried_out_works(written):
    workload = load_workload(f"{written()}:make")
    params, state = workload.initialize(jax.random.key(0))
    assert float(workload.loss(params, state, workload.data.train, jax.random.key(0))[0]) > 0
    assert np.shape(workload.metric(params, state, workload.data.test)[0]) == (15,)
