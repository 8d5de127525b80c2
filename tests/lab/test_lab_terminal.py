"""Output can be printed on any terminal, and no terminal ends the program with an error."""

import errno
import io
import sys

import pytest
from rich.table import Table

from jaxopt_lec.lab.terminal import STAND_IN, Terminal, prepare_streams


class Stream(io.TextIOWrapper):
    """A stream to bytes, which may fail."""

    def __init__(self, encoding: str, failure: int = 0) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")
        self.failure = failure

    def flush(self) -> None:
        if self.failure:
            raise OSError(self.failure, "it cannot be written")
        super().flush()

    def text(self) -> str:
        return self.buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "1 ± 2 × ∞ – λ é ☂"),
        ("ascii", "1 +- 2 x inf - lambda e ?"),
        ("latin-1", "1 ± 2 × inf - lambda é ?"),
        ("cp1252", "1 ± 2 × inf – lambda é ?"),
    ],
)
def test_what_an_encoding_lacks_is_replaced(monkeypatch, encoding, shown):
    stream = Stream(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    table = Table("name", "score")
    table.add_row("1 ± 2 × ∞ – λ é ☂", "3 ± 4")
    terminal = Terminal()
    terminal.print(table)
    terminal.print("1 ± 2 × ∞ – λ é ☂")
    *rows, last = stream.text().splitlines()
    assert last == shown
    assert any(shown in row for row in rows)
    assert len({len(row) for row in rows}) == 1  # measured after the replacement


def test_what_is_printed_by_others_is_replaced_too(monkeypatch):
    stream = Stream("ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)  # closed
    prepare_streams()
    sys.stdout.write("λ ≥ ½")
    sys.stdout.flush()
    sys.stderr.write("nowhere")
    sys.stderr.close()
    assert stream.errors == STAND_IN
    assert stream.text() == "lambda >= 12"


def test_a_reader_that_is_gone_is_no_error_and_a_full_disk_is_told(monkeypatch):
    told = Stream("utf-8")
    monkeypatch.setattr(sys, "stderr", told)
    monkeypatch.setattr(sys, "stdout", Stream("utf-8", errno.EPIPE))
    Terminal().print("something")
    assert told.text() == ""
    monkeypatch.setattr(sys, "stdout", Stream("utf-8", errno.ENOSPC))
    Terminal().print("something")
    told.flush()
    assert told.text() == "standard output: it cannot be written\n"
    sys.stdout.failure = told.failure = 0  # so that they can be closed
