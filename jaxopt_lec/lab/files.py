"""Files that are whole or not there, even when the process is killed while it writes."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jaxopt_lec.lab.errors import InputError

__all__ = ["as_path", "check_folder", "write_new", "write_somewhere", "write_whole"]

PROBE = bytes(4096)  # written to find out whether the disk is full


def as_path(what: str, path: str | os.PathLike[str]) -> Path:
    """Return a path that a user gave; ``~`` is their home.

    Raises:
        InputError: it is not a path.
    """
    try:
        return Path(path).expanduser()
    except (TypeError, RuntimeError) as error:  # not a path; no home folder
        raise InputError(f"{what} {path!r} is not a path: {error}") from error


def check_folder(folder: Path) -> None:
    """Check that files can be written into a folder, which need not exist yet, by writing a file without a name.

    Permissions alone do not show it: root may do everything, and a disk may be full.

    Raises:
        InputError: the path, or the nearest existing path above it, is not a folder, or no file can be written there.
    """
    try:
        existing = _existing(folder)
        if not existing.is_dir():
            raise InputError(f"{folder}: {existing} is {'a file, ' if existing.exists() else ''}not a folder")
        with tempfile.TemporaryFile(dir=existing, buffering=0) as file:
            file.write(PROBE)
    except OSError as error:
        raise InputError(f"{folder}: it is not writable: {error.strerror}") from error


def _existing(path: Path) -> Path:
    """Return the path, or the nearest path above it that exists; a broken link counts as existing."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return _existing(path.parent)
    return path


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError, because some have none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made if need be: first all under temporary names, then all renamed.

    So a failure never leaves an incomplete file under one of the names.

    Raises:
        OSError: with the name of the file that cannot be written; all files are then unchanged.
    """
    written: list[tuple[Path, Path]] = []
    try:
        with _naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            with _naming(folder / name):
                descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
                written.append((Path(temporary), folder / name))
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).chmod(0o666 & ~current_umask())  # mkstemp's files are private
        for path, target in written:
            path.replace(target)
    finally:
        for path, _ in written:
            path.unlink(missing_ok=True)


def write_somewhere(folder: Path, contents: Mapping[str, bytes]) -> tuple[Path | None, OSError | None]:
    """Write files as `write_whole` does, or, if that fails, into a new temporary folder.

    Returns:
        The folder that has the files, None if they could not be written, and the error if it is not `folder`.
    """
    try:
        write_whole(folder, contents)
        return folder, None
    except OSError as error:
        try:
            other = Path(tempfile.mkdtemp(prefix="jaxopt-lec-"))
            write_whole(other, contents)
        except OSError:
            return None, error
        return other, error


def current_umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist yet; no other name, not even a temporary one, ever shows a part of it.

    Raises:
        FileExistsError: it exists.
        OSError: it cannot be written.
    """
    with _naming(path):
        _write_new(path, content)


def _write_new(path: Path, content: bytes) -> None:
    unnamed = getattr(os, "O_TMPFILE", None)  # Linux: a file without a name, which vanishes with its process
    if unnamed is not None and Path("/proc/self/fd").exists():
        try:
            descriptor = os.open(path.parent, unnamed | os.O_WRONLY, 0o666)
        except OSError:  # a file system that has none
            descriptor = None
        if descriptor is not None:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                # Only with a folder given does Python ask the system to follow the link, which is the file.
                os.link(f"/proc/self/fd/{file.fileno()}", path, src_dir_fd=file.fileno(), follow_symlinks=True)
            return
    # Beside the folder, not in it: what a kill leaves behind is then no part of the study.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.parent.name}.", dir=path.parent.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
