"""The commands `surface` and `gallery`, from end to end."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from quick_compiler import environment
from typer.testing import CliRunner

from jaxopt_lec.cli import app
from jaxopt_lec.lab import surface_report
from jaxopt_lec.lab.gallery import SCENES

ROOT = Path(__file__).parents[2]
SMALL = ["--steps", "4", "--learning-rates", "0.01"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(app, [*arguments])


def given_to(page: str) -> dict:
    return json.loads(re.search(r"const GIVEN = (.*);\n", page)[1])


def test_the_installed_way_with_a_user_s_own_optimizer(elsewhere: Path) -> None:
    """A process of its own, in which every warning is an error."""
    (elsewhere / "mine.py").write_text(
        "import optax\n\ndef half(learning_rate):\n    return optax.sgd(0.5 * learning_rate)\n"
    )
    command = "from jaxopt_lec.cli import app; app(prog_name='jaxopt-lec')"
    arguments = ["surface", "--surface", "rosenbrock", "--start", "-1,0.5", "--steps", "9", "--animation", "--page"]
    arguments += ["--optimizers", "sgd,nesterov_exact", "--optimizer", "mine:half", "--learning-rates", "1e-3,2e-3,4e-3"]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", command, *arguments],
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": "", "COLUMNS": "80", "HOME": str(elsewhere)}
        | environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    rows = {line.split()[0]: line.split()[1:] for line in ran.stdout.splitlines() if line.strip()}
    assert rows["sgd"][0] == "0.001"
    assert rows["nesterov_exact"][0] == "0.002"
    assert rows["half"][0] == "0.004"
    assert float(rows["half"][1]) < float(rows["sgd"][1]) < 29
    assert max(map(len, ran.stdout.splitlines())) <= 80
    folder = elsewhere / "surface"
    assert sorted(path.name for path in folder.iterdir()) == ["surface.gif", "surface.html", "surface.png"]
    assert (folder / "surface.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "surface.gif").read_bytes().startswith(b"GIF89a")
    given = given_to((folder / "surface.html").read_text(encoding="utf-8"))
    assert (given["surface"], given["start"], given["steps"]) == ("rosenbrock", [-1.0, 0.5], 9)
    assert given["optimizers"] == {"sgd": 0.001, "nesterov_exact": 0.002}  # the page has no rule for a user's own


def test_a_picture_alone_and_the_best_rates(elsewhere: Path) -> None:
    ran = run("surface", "--surface", "double-well", "--optimizers", "sgd,momentum", "--steps", "60", "--out", "a/b")
    assert ran.exit_code == 0, ran.output
    assert [path.name for path in (elsewhere / "a" / "b").iterdir()] == ["surface.png"]
    rates = dict(re.findall(r"^ *(sgd|momentum) +(\S+)", ran.stdout, re.MULTILINE))
    assert set(rates.values()) <= {"0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03", "0.1", "0.3", "1", "3", "10"}


def test_what_diverged_is_said() -> None:
    ran = run("surface", "--surface", "beale", "--optimizers", "sgd,adam", "--learning-rates", "10,0.1", "--steps", "9")
    assert ran.exit_code == 0, ran.output
    assert "diverged" in next(line for line in ran.stdout.splitlines() if line.strip().startswith("sgd"))
    assert "diverged" not in next(line for line in ran.stdout.splitlines() if line.strip().startswith("adam"))


def test_a_gallery_of_chosen_scenes(elsewhere: Path) -> None:
    ran = run("gallery", "--scenes", "nesterov_brakes,many_starts", "--animation")
    assert ran.exit_code == 0, ran.output
    names = sorted(path.name for path in (elsewhere / "gallery").iterdir())
    assert names == ["many_starts.png", "nesterov_brakes.gif", "nesterov_brakes.png"]


def test_the_gallery_has_every_scene() -> None:
    assert list(surface_report.FIGURES) == [*(scene.name for scene in SCENES), "many_starts"]
    made = {name: surface_report.FIGURES[name]() for name in ("adagrad_dies", "many_starts")}
    assert made["adagrad_dies"].title == next(scene.claim for scene in SCENES if scene.name == "adagrad_dies")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--surface", "bowl"], "surface 'bowl' is not known; known: ravine, rosenbrock"),
        (["--optimizers", "adam,adm"], "optimizer 'adm' is not known"),
        (["--optimizers", ""], "no optimizer given"),
        (["--optimizer", "absent.module:f"], "there is no module absent"),
        (["--learning-rates", "0.1,0.2"], "2 learning rates for 7 optimizers: one for all or one each is needed"),
        (["--optimizers", "adam", "--learning-rates", "1,2"], "2 learning rates for 1 optimizer: one for all or"),
        (["--learning-rates", "big"], "--learning-rates: 'big' is not a number"),
        (["--learning-rates", "0"], "learning rate 0.0: a positive number is needed"),
        (["--start", "1,2,3"], "start 1, 2, 3: ravine needs 2 finite numbers"),
        (["--start", "1,y"], "--start: 'y' is not a number"),
        (["--start", "1e300,0"], "start 1e+300, 0: ravine is not finite there"),
        (["--out", "taken"], "taken is a file, not a folder"),
        (["--page", "--optimizers", "newton_cg"], "the page has none of these optimizers: newton_cg; it has sgd"),
    ],
)
def test_wrong_input_gets_one_line_and_leaves_nothing(elsewhere: Path, arguments: list[str], message: str) -> None:
    (elsewhere / "taken").write_text("")
    ran = run("surface", *arguments)
    assert ran.exit_code == 2, ran.output
    assert message in ran.stderr
    assert ran.stderr.startswith("Error: ")
    assert ran.stderr.count("\n") == 1
    assert ran.stdout == ""
    assert [path.name for path in elsewhere.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "taken"], "taken is a file, not a folder"),
        (["--scenes", "ravine"], "scene 'ravine' is not known; known: ravine_oscillation"),
        (["--scenes", ""], "no scene given"),
    ],
)
def test_wrong_input_to_the_gallery(elsewhere: Path, arguments: list[str], message: str) -> None:
    (elsewhere / "taken").write_text("")
    ran = run("gallery", *arguments)
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert [path.name for path in elsewhere.iterdir()] == ["taken"]


def test_a_failure_in_the_middle_leaves_the_old_files(elsewhere: Path, monkeypatch) -> None:
    arguments = ["surface", "--optimizers", "sgd", *SMALL, "--page"]
    assert run(*arguments).exit_code == 0
    before = {path.name: path.read_bytes() for path in (elsewhere / "surface").iterdir()}
    real, calls = os.fsync, []

    def full_disk(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(descriptor)

    monkeypatch.setattr(os, "fsync", full_disk)
    (elsewhere / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere / "temporary"))
    ran = run(*arguments, "--start", "1,1")
    assert ran.exit_code == 1
    [place] = (elsewhere / "temporary").iterdir()  # the new ones, once the disk takes them
    assert sorted(path.name for path in place.iterdir()) == ["surface.html", "surface.png"]
    assert ran.stderr.splitlines()[-1] == (
        f"Error: surface/surface.html: No space left on device; the files are in {place} instead"
    )
    assert {path.name: path.read_bytes() for path in (elsewhere / "surface").iterdir()} == before


def test_no_file_of_an_earlier_run_stays_beside_a_new_picture(elsewhere: Path) -> None:
    (elsewhere / "surface").mkdir()
    for name in ("surface.gif", "surface.html", "mine.gif"):
        (elsewhere / "surface" / name).write_text("old")
    ran = run("surface", "--optimizers", "sgd", *SMALL)
    assert ran.exit_code == 0
    assert sorted(path.name for path in (elsewhere / "surface").iterdir()) == ["mine.gif", "surface.png"]
    assert "removed surface/surface.gif, which an earlier run had left" in ran.stderr


def test_help_names_the_choices() -> None:
    shown = CliRunner().invoke(app, ["surface", "--help"], env={"COLUMNS": "120"}).output
    assert all(word in shown for word in ("--learning-rates", "styblinski-tang", "--animation", "nesterov_exact"))
