"""A study that is killed, continued, or shared by several processes ends with the numbers of one that is not."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweep_program

import jaxopt_lec as jl
from jaxopt_lec import lab
from jaxopt_lec.lab.files import write_new
from jaxopt_lec.lab.study_folder import OWN, StudyFolder
from jaxopt_lec.lab.workloads import load_workload

SWEEP = sys.modules["jaxopt_lec.lab.sweep"]  # as an attribute of the package it is the function
PROGRAM = Path(sweep_program.__file__)
# The program decides how many devices there are, and XLA_FLAGS of a caller must not.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


def start(folder: Path, *place: int) -> subprocess.Popen:
    command = [sys.executable, str(PROGRAM), str(folder), *map(str, place)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Return the exit status and what was said on standard error."""
    _, errors = process.communicate(timeout=250)
    return process.returncode, errors


def wait_for_chunks(folder: Path, count: int, process: subprocess.Popen) -> None:
    while len(list(folder.glob("lanes-*"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def assert_whole(folder: Path) -> None:
    """Every file has its final name and can be read to its end."""
    for file in folder.iterdir():
        assert OWN.fullmatch(file.name), file
        if file.suffix == ".npz":
            with np.load(file) as archive:
                assert all(np.isfinite(x).any() for name, x in archive.items() if name != "stopped_by")
        elif file.suffix == ".json":
            json.loads(file.read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "plan.json"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "study"
    run_to_the_end(folder)
    assert len(list(folder.glob("lanes-*"))) == 18
    return folder


def run_to_the_end(folder: Path) -> None:
    """Run what is missing of the program's study, in a process of its own."""
    status, errors = finish(start(folder))
    assert status == 0, errors


def test_a_study_killed_again_and_again_ends_with_the_same_files(undisturbed, tmp_path):
    folder = tmp_path / "study"
    for done in (0, 7):  # 0: as soon as the folder is there
        process = start(folder)
        while not folder.exists():
            time.sleep(0.001)
        wait_for_chunks(folder, done, process)
        process.send_signal(signal.SIGKILL)
        finish(process)
        assert_whole(folder)
    assert list(tmp_path.iterdir()) == [folder]
    run_to_the_end(folder)
    assert contents(folder) == contents(undisturbed)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.mark.thorough  # processes that each compile
def test_two_processes_end_with_the_files_of_one(undisturbed, tmp_path):
    folder, port = tmp_path / "study", free_port()
    processes = [start(folder, i, 2, port) for i in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=250)
        assert process.returncode == 0, errors
        assert "'learning_rate': 0.01" in output
    assert contents(folder) == contents(undisturbed)


@pytest.mark.thorough  # processes that each compile
def test_a_lost_process_is_an_error_and_the_study_goes_on(undisturbed, tmp_path):
    folder, port = tmp_path / "study", free_port()
    first, second = (start(folder, i, 2, port) for i in range(2))
    wait_for_chunks(folder, 2, second)
    second.send_signal(signal.SIGKILL)
    finish(second)
    status, errors = finish(first)
    assert status != 0
    assert "LostProcessError: one of 2 processes was lost while running lanes" in errors
    assert "the same call continues it" in errors
    assert_whole(folder)
    run_to_the_end(folder)  # one process finishes what two began
    assert contents(folder) == contents(undisturbed)


@pytest.mark.thorough  # processes that each compile
def test_a_process_that_fails_ends_the_others(tmp_path):
    """An error before any work, here a folder that is no study, is every process's error."""
    folder, port = tmp_path / "study", free_port()
    folder.mkdir()
    (folder / "letter.txt").write_text("Dear")
    processes = [start(folder, i, 2, port) for i in range(2)]
    (status_0, said_0), (status_1, said_1) = map(finish, processes)
    assert (status_0, status_1) == (1, 1)
    assert "InputError: study" in said_0
    assert "it holds no study but other files, such as letter.txt" in said_0
    assert "LostProcessError: process 0 of 2 failed while opening the study" in said_1


# --- in one process ------------------------------------------------------------------------------------------------------


def training(**options) -> lab.Sweep:
    task = lab.Training(jl.adam, load_workload("digits-logistic"), steps=20, batch_size=64)
    points = lab.grid(learning_rate=[0.01, 0.1, 1.0], b1=[0.5, 0.9])
    return lab.sweep(task, points, seeds=2, side_by_side=2, **options)


@pytest.mark.parametrize(("place", "reason"), [("letter.txt", "File exists"), ("letter.txt/study", "Not a directory")])
def test_a_study_where_a_file_is_gets_one_line(tmp_path, place, reason):
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(lab.InputError, match=rf"^study .*{place}: the folder cannot be made: {reason}$"):
        training(study=tmp_path / place)
    assert (tmp_path / "letter.txt").read_text() == "Dear"


def test_a_finished_study_is_read_without_running_anything(tmp_path, monkeypatch):
    folder = tmp_path / "study"
    first = training(study=folder)
    monkeypatch.setattr(SWEEP, "compiled", lambda *_: pytest.fail("compiled"))
    again = training(study=folder)
    np.testing.assert_array_equal(again.curves, first.curves)
    assert again.table.equals(first.table)
    csv = np.genfromtxt(folder / "table.csv", delimiter=",", names=True)
    np.testing.assert_allclose(csv["validation_loss"], first.columns["validation_loss"])


def test_lanes_that_are_missing_are_run_again_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(SWEEP, "CHUNK_SECONDS", 0.0)
    folder = tmp_path / "study"
    first = training(study=folder)
    shutil.copytree(folder, tmp_path / "copy")
    files = sorted(folder.glob("lanes-*"))
    assert len(files) == 3
    files[1].unlink()
    again = training(study=folder)
    np.testing.assert_array_equal(again.curves, first.curves)
    assert contents(folder) == contents(tmp_path / "copy")


# --- on other hardware ---------------------------------------------------------------------------------------------------


def without(folder: Path, *places: int) -> None:
    """Delete some files of lanes, as if the study had been killed."""
    files = sorted(folder.glob("lanes-*"))
    for place in places:
        files[place].unlink()


def assert_alike(folder: Path, other: Path, run_again: set[int]) -> None:
    """What was done before is as it was, and what was run again is the same but for rounding."""
    names = sorted(file.name for file in folder.glob("lanes-*"))
    assert names == sorted(file.name for file in other.glob("lanes-*"))
    assert (folder / "table.csv").exists()
    for place, name in enumerate(names):
        with np.load(folder / name) as here, np.load(other / name) as there:
            for column in there:
                alike = partial(np.testing.assert_allclose, rtol=1e-3)
                (alike if place in run_again else np.testing.assert_array_equal)(here[column], there[column])


@pytest.mark.parametrize(("begun", "continued"), [(2, 1), (1, 2)])
def test_a_study_goes_on_with_another_number_of_devices(tmp_path, monkeypatch, begun, continued):
    devices = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:begun])
    training(study=tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    (tmp_path / "there" / "table.csv").unlink()
    without(tmp_path / "there", 0)
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:continued])
    training(study=tmp_path / "there")
    assert_alike(tmp_path / "there", tmp_path / "here", {0})


def test_a_finished_study_is_read_on_any_machine(tmp_path, finished, monkeypatch):
    """With fewer devices, on another platform, with little memory, and whatever side_by_side was."""
    folder = tmp_path / "study"
    shutil.copytree(finished, folder)
    of_gpu = (folder / "study.json").read_text().replace('"platform": "cpu"', '"platform": "gpu"')
    (folder / "study.json").write_text(of_gpu)
    devices = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    monkeypatch.setattr(SWEEP, "compiled", lambda *_: pytest.fail("compiled"))
    found = small_study(folder, memory_limit=10**5, side_by_side=None)
    assert np.isfinite(found.columns["validation_loss"]).all()
    without(folder, 0)
    with pytest.raises(lab.InputError, match=r"is run on a gpu, and here is a cpu, .*; 2 lanes are missing"):
        small_study(folder)


def test_a_study_goes_on_with_less_memory_or_says_how_much_it_needs(tmp_path, monkeypatch):
    training(study=tmp_path / "study")
    shutil.copytree(tmp_path / "study", tmp_path / "smaller")
    without(tmp_path / "smaller", 1)
    with pytest.raises(lab.InputError, match=r"begun in groups of 2 lanes, which take .*; the limit is 100 kB\. With a"):
        training(study=tmp_path / "smaller", memory_limit=100_000)
    # Enough for one of the two devices.
    devices, sizes = [], []
    compiled = SWEEP.compiled

    def counting(run, lanes, shared, plan):
        program = compiled(run, lanes, shared, plan)
        devices.append(len(plan.devices))
        sizes.append(program.bytes)
        return program

    monkeypatch.setattr(SWEEP, "compiled", counting)
    each = biggest_program(tmp_path / "study", tmp_path / "measured", sizes)
    devices.clear()
    (tmp_path / "smaller" / "table.csv").unlink()
    training(study=tmp_path / "smaller", memory_limit=each + each // 2)
    assert devices == [2, 1]
    assert_alike(tmp_path / "smaller", tmp_path / "study", {1})


def biggest_program(folder: Path, copy: Path, sizes: list[int]) -> int:
    """Return what a study's program takes of each of two devices."""
    shutil.copytree(folder, copy)
    without(copy, 1)
    training(study=copy)
    return sizes[-1] // 2


def small_study(folder, factory=jl.adam, steps=20, batch_size=64, rates=(0.01, 0.1), data=0, **options):
    workload = load_workload("digits-logistic")
    workload.data.train[0][0, 0, 0] += data
    task = lab.Training(factory, workload, steps=steps, batch_size=batch_size)
    points = lab.grid(learning_rate=rates)
    return lab.sweep(task, points, study=folder, **({"seeds": 2, "side_by_side": 1} | options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "study"
    small_study(folder)
    return folder


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": 3}, r"seeds: \[0, 1\] there, \[0, 1, 2\] here"),
        ({"steps": 21}, "steps: 20 there, 21 here"),
        ({"batch_size": 32}, "programs: "),
        ({"data": 1}, "data: "),
        ({"rates": [0.01, 0.2]}, "grid: "),
        ({"factory": lambda learning_rate: jl.adam(learning_rate, eps=1e-3)}, "programs: "),
        ({"halving": lab.Halving(0.5, 1)}, "halving: null there"),
        ({"side_by_side": 2}, "side_by_side: 1 there, 2 here"),
    ],
)
def test_another_study_is_not_mixed_into_the_first(tmp_path, finished, changed, message):
    shutil.copytree(finished, tmp_path / "study")
    with pytest.raises(lab.InputError, match=message):
        small_study(tmp_path / "study", **changed)
    assert contents(tmp_path / "study") == contents(finished)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(lab.InputError, match=r"holds no study but other files, such as letter\.txt"):
        training(study=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]


def test_damaged_files_are_named(tmp_path):
    training(study=tmp_path)
    chunk = next(tmp_path.glob("lanes-*"))
    chunk.write_bytes(chunk.read_bytes()[:-200])
    with pytest.raises(lab.InputError, match=rf"{chunk.name} is damaged .*; delete it"):
        training(study=tmp_path)
    chunk.unlink()
    training(study=tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(lab.InputError, match=r"study\.json is damaged"):
        training(study=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks on folders")
def test_a_study_runs_once_at_a_time(tmp_path):
    import fcntl

    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(lab.InputError, match="another program is running it"):
            training(study=tmp_path)
    finally:
        os.close(descriptor)
    training(study=tmp_path)


def test_results_of_any_dtype_are_read_as_they_were(tmp_path):
    """NumPy's own files give bfloat16 back as bytes."""
    folder = StudyFolder(tmp_path)
    dtypes = (jnp.bfloat16, jnp.float8_e4m3fn, np.float16, np.int32, bool)
    results = {str(i): np.array([[0.5, 1], [2, 3]]).astype(dtype) for i, dtype in enumerate(dtypes)}
    folder.write(folder.chunk(0, 0, 0), results)
    for name, x in folder.read(folder.chunk(0, 0, 0)).items():
        assert x.dtype == results[name].dtype
        np.testing.assert_array_equal(x, results[name])


def test_files_are_new_and_whole(tmp_path, monkeypatch):
    file = tmp_path / "folder" / "file"
    file.parent.mkdir()
    write_new(file, b"first")
    with pytest.raises(FileExistsError):
        write_new(file, b"second")
    assert file.read_bytes() == b"first"
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)  # other systems, other file systems
    with pytest.raises(FileExistsError):
        write_new(file, b"second")
    write_new(file.with_name("other"), b"second")
    assert {found.name: found.read_bytes() for found in file.parent.iterdir()} == {"file": b"first", "other": b"second"}
    assert list(tmp_path.iterdir()) == [file.parent]
