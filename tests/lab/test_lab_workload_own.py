"""A user's workload is found and tried out, and what is wrong with it is said before anything is trained."""

import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import jaxopt_lec as jl
from jaxopt_lec import lab
from jaxopt_lec.lab.compare import Budget, Study
from jaxopt_lec.lab.contestants import find_contestants
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.workloads import Classification, Data, Remedies, load_workload
from jaxopt_lec.lab.workloads.checks import try_out_workload

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
        return {"slope": jnp.zeros((), jnp.float32)}, ()
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
SIXTEEN = """np.float16)
    data = Data(x, x[:5], x[5:])
    def initialize(self, key):
        return {"slope": jnp.zeros((), jnp.float16)}, ()
"""
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


@pytest.mark.thorough  # `.ci/run` runs all examples
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


@pytest.fixture
def standard():
    """Promote dtypes as JAX does by default, for a user's functions that mix them."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_half_precision_trains_as_float32_does(written):
    """A loss, a metric, data and parameters of 16 bits: the curve and the means are of 32."""
    plain, *half = (
        load_workload(f"{file}:make")
        for file in (
            written("return {", "return {"),
            written(f"jnp.mean({ERRORS}), state", f"jnp.mean({ERRORS}).astype(jnp.bfloat16), state"),
            written("return error, error", "return error.astype(jnp.float16), error > 0.5"),
            written(SIXTEEN.replace("16", "32"), SIXTEEN),
        )
    )

    def ends(workload):
        columns = lab.sweep(lab.Training(jl.adam, workload, steps=3, batch_size=4), lab.grid(learning_rate=[0.1])).columns
        assert columns["final"].dtype == columns["validation_loss"].dtype == np.float32
        return columns["final"], columns["validation_loss"]

    for workload in half:
        np.testing.assert_allclose(ends(workload), ends(plain), rtol=0.02)


def test_a_workload_made_by_hand_is_tried_out_too(written):
    for parts, message in (
        ({}, "workload Half: a Half is no workload: it has no name"),
        (
            vars(load_workload(f"{written()}:make").__class__) | {"loss": lambda self, p, s, b, key: 3.0},
            "workload Half: loss",
        ),
    ):
        workload = type("Half", (), dict(parts))()
        with pytest.raises(InputError, match=message):
            lab.Training(jl.adam, workload, batch_size=4)
        with pytest.raises(InputError, match=message):
            Study(workload, find_contestants(["sgd"]), Budget(batch_size=4))


class Model(nnx.Module):
    """Two outputs."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, x, key):
        return self.linear(x)


def classification(labels, x=None):
    """Make a classification of 12 examples."""
    x = np.ones((12, 2), np.float32) if x is None else x
    labels = np.resize(labels, 12) if np.ndim(labels) == 1 else labels
    return Classification("sides", Data(*zip(*(np.split(a, [4, 8]) for a in (x, labels)), strict=True)), Model)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.array([0, 5]),
            "data.train range from 0 to 5, but the model has 2 outputs: .* 0 to 1, or give the model 6 outputs",
        ),
        (np.array([1, 2]), "range from 1 to 2, but the model has 2 outputs: subtract 1$"),
        (np.array([-1, 1]), "range from -1 to 1, but the model has 2 outputs: number the classes from 0 to 1$"),
        (np.arange(12) // 11 * 2, r"the labels of data.test range from 0 to 2"),
        (np.array([0.0, 1.0]), "its labels are float64, but they must be integers"),
        (np.array([False, True]), "its labels are bool, but they must be integers"),
        (
            np.zeros((12, 1), int),
            r"labels of shape \(8, 1\), the model must return .* but it returns an array of shape \(8, 2\)",
        ),
        (np.eye(2, dtype=int)[np.arange(12) % 2], r"labels of shape \(8, 2\), the model must"),
    ],
)
def test_labels_are_numbers_of_outputs(labels, message):
    with pytest.raises(InputError, match=f"workload 'sides': .*{message}"):
        classification(labels)


@pytest.mark.usefixtures("standard")
def test_data_of_a_classification_are_checked_when_it_is_made():
    labels = np.zeros(12, int)
    with pytest.raises(InputError, match=r"data\.train has an array of object, not of numbers"):
        classification(labels, np.ones((12, 2), object))
    with pytest.raises(InputError, match=r"model\(images, None\), traced by JAX, failed: TypeError"):
        classification(labels, np.ones((12, 3), np.float32))
    with pytest.raises(InputError, match=r"data\.train must be a pair"):
        Classification("sides", Data(*np.ones((3, 4, 2))), Model)
    with pytest.raises(InputError, match=r"data\.validation need one first axis, of its examples; they have 0"):
        Classification("sides", Data(*((np.ones((n, 2)), np.zeros(n, int)) for n in (4, 0, 4))), Model)
    with pytest.raises(InputError, match="they have 4 and 3"):
        Classification("sides", Data(*((np.ones((4, 2)), np.zeros(n, int)) for n in (3, 4, 4))), Model)
    for dtype in (np.int32, np.uint8):
        try_out_workload(classification(labels, np.ones((12, 2), dtype)))


def test_numbers_that_are_not_finite_are_refused_where_they_spoil_the_metric(written):
    x = np.ones((12, 2), np.float32)
    x[6] = np.inf
    with pytest.raises(InputError, match=r"1 of the examples of data.validation hold NaN or inf, the first is number 2"):
        try_out_workload(classification(np.zeros(12, int), x))
    spoiled = "x = np.where(np.arange(20) > 17, np.nan, 1).astype(np.float32)"
    line = "x = np.linspace(0, 1, 20, dtype=np.float32)"
    with pytest.raises(InputError, match=r"2 of the examples of data.train hold NaN or inf, the first is number 18"):
        load_workload(f"{written(line, spoiled)}:make")
    masked = load_workload(f"{written('return error, error', 'return (jnp.nan_to_num(error),) * 2')}:make")
    masked.data = Data(*(np.array([1, np.nan], np.float32) for _ in range(3)))
    assert try_out_workload(masked) is masked


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f"jnp.mean({ERRORS}), state", "3.0, state", "TypeError: it returns a float, which JAX did not compute"),
        (f"jnp.mean({ERRORS}), state", f"float(jnp.mean({ERRORS})), state", "ConcretizationTypeError"),
        (f"jnp.mean({ERRORS}), state", f"jnp.mean({ERRORS})", r"and returns an array of shape \(\)"),
        ("def metric", "def measure", "a Line is no workload: it has no metric"),
        ("import jax, ", "import no_such_thing, jax, ", "importing .* failed: ModuleNotFoundError: .*no_such_thing"),
        ('name = "line"', "name = 3", "its name is a int"),
        ('score = Score("error", higher_is_better=False)', 'score = "error"', "its score is a str, not a Score"),
        (MADE, "data = (x, x, x)", "its data are a tuple, not Data"),
        (MADE, "data = Data(x, x[:0], x)", "the arrays of data.validation need one first axis"),
        (MADE, "data = Data((x, x[1:]), x, x)", "the arrays of data.train need one first axis"),
        (MADE, "data = Data(x, x, x[:, None])", "the examples of its three sets differ"),
        (
            'return {"slope": jnp.zeros((), jnp.float32)}, ()',
            'return {"slope": jnp.zeros(())}',
            r"must return \(params, state\)",
        ),
        ("jnp.zeros((), jnp.float32)", "jnp.zeros((), int)", "all floating point arrays"),
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
