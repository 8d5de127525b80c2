"""Files that are whole or not there, even when the process is killed while it writes."""

import os
import tempfile
from pathlib import Path

__all__ = ["write_new"]


def write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist yet; no other name, not even a temporary one, ever shows a part of it.

    Raises:
        FileExistsError: it exists.
    """
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
