"""Printing that never fails: characters that a terminal cannot encode are replaced, output to a closed pipe is dropped."""

import codecs
import contextlib
import errno
import os
import sys
import unicodedata
from typing import IO, Any

from rich.console import Console
from rich.text import Text

__all__ = ["Terminal", "prepare_streams"]

STAND_INS = {
    "±": "+-",
    "–": "-",
    "—": "-",
    "−": "-",
    "×": "x",
    "·": "*",
    "∞": "inf",
    "‖": "||",
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "Σ": "sum",
    "λ": "lambda",
    "θ": "theta",
    "“": '"',
    "”": '"',
    "’": "'",
}
STAND_IN = "jaxopt_lec.stand_in"  # the name of the error handler


def stand_in(error: UnicodeError) -> tuple[str, int]:
    """Return replacements for characters that an encoding lacks: similar ASCII characters, else a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(STAND_INS.get(character) or in_ascii(character) for character in characters), error.end


def in_ascii(character: str) -> str:
    """Return a character without accents and the like; a question mark if nothing is left."""
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


codecs.register_error(STAND_IN, stand_in)


def prepare_streams() -> None:
    """Make standard output and standard error replace what they cannot encode; a closed one discards everything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=STAND_IN)


class Terminal(Console):
    """Rich's console on standard output or standard error; it accepts any text and raises no OSError."""

    def __init__(self, *, stderr: bool = False, stream: IO[str] | None = None) -> None:
        """Use the stream, or else the current `sys.stdout` or `sys.stderr`."""
        standard = sys.stderr if stderr else sys.stdout
        super().__init__(file=_Forgiving(standard if stream is None else stream))  # type: ignore[arg-type]

    def render_str(self, text: str, **options: Any) -> Text:
        """Replace characters before Rich measures the text, so that tables stay aligned."""
        return super().render_str(encodable(text, self.encoding), **options)


def encodable(text: str, encoding: str) -> str:
    """Return a text in which characters that an encoding lacks are replaced."""
    return text.encode(encoding, STAND_IN).decode(encoding)


class _Forgiving:
    """A stream that replaces what it cannot encode, and discards output if the pipe is closed or the disk is full."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(encodable(text, getattr(self._stream, "encoding", None) or "utf-8"))
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Redirect the stream to the null device, so that Python's flush at exit does not fail either."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if error.errno != errno.EPIPE and self._stream is not sys.stderr:
            print(f"standard output: {error.strerror}", file=_Forgiving(sys.stderr))
