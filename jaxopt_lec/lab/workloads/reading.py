"""Reading the data files of workloads."""

import gzip
import zlib
from pathlib import Path

from jaxopt_lec.lab.errors import InputError

__all__ = ["read_bytes"]

GZIP = b"\x1f\x8b"  # the first bytes of a gzip file


def read_bytes(path: Path) -> bytes:
    """Read a file, and unpack it if its content is gzip, whatever its name.

    Raises:
        InputError: it cannot be read, or is a damaged gzip file; the message names it.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP) else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
