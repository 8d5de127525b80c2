"""Reading the files that workloads are made of."""

import gzip
import zlib
from pathlib import Path

from jaxopt_lec.lab.errors import InputError

__all__ = ["read_bytes"]

GZIP = b"\x1f\x8b"  # what a gzip file begins with


def read_bytes(path: Path) -> bytes:
    """Read a file, unpacked if it is gzip by its content: its name may say otherwise.

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
