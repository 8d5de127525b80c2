"""The command, from end to end, with tiny settings."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import typer
from quick_compiler import environment
from typer.testing import CliRunner

from jaxopt_lec.cli import app, told
from jaxopt_lec.lab import files

ROOT = Path(__file__).parents[2]
SMALL = ["--steps", "5", "--seeds", "1", "--learning-rates", "0.01,0.1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(app, ["compare", *arguments])


def optimizers(folder: Path) -> dict:
    return {o["name"]: o for o in json.loads((folder / "results.json").read_text())["optimizers"]}


def test_the_installed_way_with_a_user_s_own_optimizer(elsewhere: Path) -> None:
    """A process of its own: it chooses its devices, finds a module in the current directory, and writes its files."""
    (elsewhere / "mine.py").write_text(
        "import optax\n\ndef half(learning_rate):\n    return optax.sgd(0.5 * learning_rate)\n"
    )
    command = "from jaxopt_lec.cli import app; app(prog_name='jaxopt-lec')"
    arguments = ["compare", *SMALL, "--optimizers", "sgd,adam", "--optimizer", "mine:half", "--optimizer", "optax:adam"]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", command, *arguments],
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": "", "COLUMNS": "80", "HOME": str(elsewhere)}
        | environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert all(name in ran.stdout for name in ("sgd", "adam", "half", "optax:adam", "±"))
    assert max(map(len, ran.stdout.splitlines())) <= 80
    found = optimizers(elsewhere / "comparison")
    assert list(found) == ["sgd", "adam", "half", "optax:adam"]
    assert found["half"]["spec"] == "mine:half"
    # Half the learning rate of the same method, so not the same result, from the same first loss.
    sgd, half = found["sgd"]["mean_training_loss_per_step"], found["half"]["mean_training_loss_per_step"]
    assert sgd[0] == half[0]
    assert sgd[-1] < half[-1]
    names = sorted(path.name for path in (elsewhere / "comparison").iterdir())
    assert names == [
        "evaluations.csv",
        "learning_rates.png",
        "loss_curves.png",
        "report.html",
        "results.csv",
        "results.json",
    ]


def test_idx_files_and_remedies(elsewhere: Path) -> None:
    random = np.random.default_rng(0)
    for prefix, n in (("train", 180), ("t10k", 20)):
        for name, array in (
            ("images-idx3-ubyte", random.integers(0, 256, (n, 6, 6))),
            ("labels-idx1-ubyte", random.integers(0, 10, n)),
        ):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (elsewhere / f"{prefix}-{name}").write_bytes(header + array.astype(np.uint8).tobytes())
    options = ["--activation", "sigmoid", "--initializer", "normal", "--batch-norm", "--dropout", "0.2", "--l2", "1e-4"]
    ran = run(*SMALL, "--workload", "fashion-mnist", "--data", ".", "--optimizers", "sgd", "--out", "out", *options)
    assert ran.exit_code == 0, ran.output
    content = json.loads((elsewhere / "out" / "results.json").read_text())
    assert content["workload"]["examples"] == {"training": 150, "validation": 30, "test": 20}
    assert content["baseline"] == "sgd"
    assert content["settings"] == {
        "workload": "fashion-mnist",
        "data": ".",
        "optimizers": ["sgd"],
        "baseline": None,
        "target": None,
        "activation": "sigmoid",
        "initializer": "normal",
        "batch_norm": True,
        "dropout": 0.2,
        "l2": 1e-4,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workload", "digits"], "workload 'digits' is not known"),
        (["--optimizers", "adam,adm"], "optimizer 'adm' is not known; known: sgd"),
        (["--optimizers", ""], "no optimizer given"),
        (["--optimizers", "sgd", "--optimizer", "absent.module:f"], "there is no module absent"),
        (["--optimizers", "sgd", "--optimizer", "json:dumps"], "'json:dumps'"),
        (["--learning-rates", "0.1,big"], "--learning-rates: 'big' is not a number"),
        (["--learning-rates", "0.1,0.01"], "learning rates must ascend"),
        (["--workload", "digits-logistic", "--activation", "relu"], "activation does not apply to digits-logistic"),
        (["--workload", "mnist"], "needs the folder of its IDX files"),
        (["--workload", "mnist", "--data", "nowhere"], "nowhere: no such folder"),
        (["--out", "taken"], "taken is a file, not a folder"),
        (["--dropout", "1.5"], "dropout 1.5"),
        (["--target", "95"], "target 95: accuracy is a share in [0, 1]"),
        (["--optimizers", "sgd,adam", "--baseline", "lion"], "baseline 'lion' does not take part; these do: sgd, adam"),
        (["--optimizer", "[bold]:x"], "'[bold]:x' is not of the form"),
    ],
)
def test_wrong_input_gets_one_line_and_leaves_nothing(elsewhere: Path, arguments: list[str], message: str) -> None:
    (elsewhere / "taken").write_text("")
    ran = run(*arguments)
    assert ran.exit_code == 2, ran.output
    assert message in ran.stderr
    assert ran.stderr.startswith("Error: ")
    assert ran.stderr.count("\n") == 1
    assert ran.stdout == ""
    assert [path.name for path in elsewhere.iterdir()] == ["taken"]


OWN = """
import jax.numpy as jnp, numpy as np
from jaxopt_lec.lab.workloads import Data, Score

class Line:
    name = "line"
    score = Score("error", higher_is_better=False)
    x = np.linspace(0, 1, 40, dtype=np.float32)
    data = Data(x, x[:5], x[5:10])
    def initialize(self, key):
        return {"slope": jnp.ones(())}, ()
    def loss(self, params, state, batch, key):
        return jnp.log(-params["slope"]) * batch.mean(), state
    def metric(self, params, state, batch):
        return batch * params["slope"], batch * params["slope"]
"""


def test_a_loss_that_is_nan_from_the_start_is_explained_on_any_terminal(elsewhere: Path) -> None:
    (elsewhere / "own.py").write_text(OWN)
    asked = ("--workload", "own.py:Line", "--optimizers", "sgd,adam", *SMALL)
    ran = run(*asked)
    assert ran.exit_code == 2
    assert "40 training examples are fewer than a mini-batch of 128; choose at most 40 with --batch-size" in ran.stderr
    ran = CliRunner(charset="ascii").invoke(app, ["compare", *asked, "--batch-size", "8"])
    assert ran.exit_code == 3
    assert "Error: every lane diverged, with every optimizer. sgd: the training loss is not finite at step 1" in ran.stderr
    assert "line: 5 steps of 8 examples" in ran.stdout
    assert "2 learning rates x 1 seed x 5 steps" in " ".join(ran.stdout.split())
    assert json.loads((elsewhere / "comparison" / "results.json").read_text())["budget"]["batch_size"] == 8


def test_files_are_elsewhere_where_the_folder_takes_none(elsewhere: Path, monkeypatch, capsys) -> None:
    def write(name: str) -> None:
        with told(Path(name)) as written:
            Path(name).write_text("a file, where a folder could have been made")
            written.write({"x": b"1"})

    (elsewhere / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere / "temporary"))
    with pytest.raises(typer.Exit) as ended:
        write("full")
    assert ended.value.exit_code == 1
    [place] = (elsewhere / "temporary").iterdir()
    assert (place / "x").read_bytes() == b"1"
    assert capsys.readouterr().err.splitlines() == [
        f"wrote {place}/x",
        f"Error: full: File exists; the files are in {place} instead",
    ]
    monkeypatch.setattr(files, "write_whole", no_space)
    with pytest.raises(typer.Exit):
        write("too")
    assert capsys.readouterr().err == "Error: too/x: No space left on device; nothing was saved\n"


def no_space(folder: Path, contents: dict[str, bytes]) -> None:
    raise OSError(28, "No space left on device", f"{folder}/{next(iter(contents))}")


@pytest.mark.parametrize("wrote", [False, True])
def test_ctrl_c_says_what_is_kept(elsewhere: Path, monkeypatch, capsys, wrote) -> None:
    def interrupted() -> None:
        with told(Path("~/out")) as written:
            if wrote:
                written.write({"x": b"1"})
            raise KeyboardInterrupt

    monkeypatch.setenv("HOME", str(elsewhere))
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    folder = elsewhere / "out"
    kept = "" if wrote else f" Nothing is kept of what was running, and nothing was written to {folder}."
    assert capsys.readouterr().err.splitlines() == [f"Interrupted.{kept}", *([f"wrote {folder}/x"] if wrote else [])]


def test_version_and_help() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.startswith("jaxopt-lec ")
    assert "compare" in CliRunner().invoke(app, ["--help"]).output
    assert "--learning-rates" in CliRunner().invoke(app, ["compare", "--help"], env={"COLUMNS": "120"}).output


def test_help_shows_defaults_whole_in_a_narrow_terminal() -> None:
    shown = CliRunner().invoke(app, ["compare", "--help"], env={"COLUMNS": "80"}).output
    assert "[default: sgd, momentum," in shown
    assert "radam, lion]" in shown
    assert "3, 10]" in shown
