"""A study's folder: what was asked for, how it is run, and the results of all lanes that are done.

Each file is written once and whole, so the folder can be read, and the study continued, after a kill at any moment.
"""

import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.files import write_new
from jaxopt_lec.lab.processes import is_first, together

if sys.platform != "win32":
    import fcntl

__all__ = ["StudyFolder", "another_study", "opened"]

Results: TypeAlias = dict[str, np.ndarray]

STUDY, PLAN, TABLE = "study.json", "plan.json", "table.csv"
# The platform must match to run the remaining lanes, but not to read the finished ones.
PLATFORM = "platform"
OWN = re.compile(rf"{STUDY}|{PLAN}|{TABLE}|lanes-\d+-\d+-\d+\.npz")


class StudyFolder:
    """The files of a study; make it with `opened`."""

    def __init__(self, path: Path) -> None:
        """Take the folder."""
        self.path = path

    def plan(self) -> dict[str, Any] | None:
        """Return how the study is run, None before that was decided."""
        return read_json(self.path / PLAN)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Say how the study is run."""
        write_new(self.path / PLAN, as_json(plan))

    def platform(self) -> str:
        """Return the platform on which the study was begun."""
        before = read_json(self.path / STUDY)
        assert before is not None
        return str(before[PLATFORM])

    def chunk(self, rung: int, combination: int, start: int) -> Path:
        """Return the name of the file for the lanes of a combination from `start` on."""
        return self.path / f"lanes-{rung}-{combination:04}-{start:08}.npz"

    def write(self, file: Path, results: Results) -> None:
        """Write the results of some lanes."""
        buffer = io.BytesIO()
        np.savez(buffer, **{name: storable(x) for name, x in results.items()})  # type: ignore[arg-type]
        write_new(file, buffer.getvalue())

    def read(self, file: Path) -> Results:
        """Read the results of some lanes.

        Raises:
            InputError: the file is damaged.
        """
        try:
            with file.open("rb") as opened_file, np.load(opened_file, allow_pickle=False) as archive:
                return {name: restored(x) for name, x in archive.items()}
        except (zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
            raise InputError(f"{file} is damaged ({error}); delete it, and its lanes are run again") from error

    def write_table(self, content: bytes) -> None:
        """Write the table of the finished study, for other programs."""
        if not (self.path / TABLE).exists():
            write_new(self.path / TABLE, content)


@contextmanager
def opened(path: Path, asked: Mapping[str, Any]) -> Iterator[StudyFolder]:
    """Open the folder of a study, which is made if need be, and keep other programs from running the same one.

    Args:
        path: the folder.
        asked: what decides the numbers, as JSON values; a study that continues was asked the same.

    Raises:
        InputError: the folder cannot be made, holds another study or other files, or another program is running this one.
    """
    lock = None
    nothing = f"Nothing was run yet; the same call with {path} begins anew."
    try:
        with together("opening the study", nothing):
            if is_first():
                try:
                    path.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise InputError(f"study {path}: the folder cannot be made: {error.strerror}") from error
                lock = locked(path)
                begin(path, asked)
        with together("comparing the study with what it was", nothing):
            check_same(path, asked)
        yield StudyFolder(path)
    finally:
        if lock is not None:
            os.close(lock)


def locked(path: Path) -> int | None:
    """Lock the folder for this process; the system unlocks it however the process ends. Windows has no such locks."""
    if sys.platform == "win32":
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise InputError(f"study {path}: another program is running it") from error
    return descriptor


def begin(path: Path, asked: Mapping[str, Any]) -> None:
    """Write the request into the folder, unless the study continues."""
    if (path / STUDY).exists():
        return
    others = sorted(found.name for found in path.iterdir())
    if others:
        raise InputError(f"study {path}: it holds no study but other files, such as {others[0]}; give an empty folder")
    write_new(path / STUDY, as_json(asked))


def check_same(path: Path, asked: Mapping[str, Any]) -> None:
    """Check that the folder holds this study.

    Raises:
        InputError: it was asked something else, and what.
    """
    before = read_json(path / STUDY)
    if before is None:
        raise InputError(f"study {path}: all processes must see the same folder; process 0 has begun it, and it is not here")
    for found in sorted(path.iterdir()):
        if not OWN.fullmatch(found.name):
            raise InputError(f"study {path}: {found.name} is no part of a study")
    now = json.loads(as_json(asked))
    for name in now | before:
        if name != PLATFORM and before.get(name) != now.get(name):
            raise another_study(path, name, before.get(name), now.get(name))


def another_study(path: Path, name: str, before: Any, now: Any) -> InputError:
    """Return the error for a folder that holds another study."""
    said = f"{name}: {shortened(before)} there, {shortened(now)} here"
    return InputError(f"study {path} is another one, with other {said}; give another folder")


def storable(x: np.ndarray) -> np.ndarray:
    """Return an array that NumPy's files can store: a dtype unknown to them, such as bfloat16, becomes a field."""
    return x.view([(x.dtype.name, f"u{x.dtype.itemsize}")]) if x.dtype.kind == "V" else x


def restored(x: np.ndarray) -> np.ndarray:
    """Return the array that `storable` was given."""
    return x if x.dtype.names is None else x.view(jnp.dtype(x.dtype.names[0]))


def shortened(value: Any) -> str:
    """Return a value for a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:99] + "…"


def as_json(value: Mapping[str, Any]) -> bytes:
    """Return JSON that people can read."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def read_json(file: Path) -> dict[str, Any] | None:
    """Return what a file holds, None if there is none."""
    if not file.exists():
        return None
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}): this study cannot continue") from error
