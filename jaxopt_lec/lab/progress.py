"""The progress of a long command: a live bar on a terminal, a line from time to time in a log."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import IO, Any, Protocol

__all__ = ["Progress", "Report", "lanes_bar", "shown"]

# A log gets its first line after 10 s; each later line comes at 1.5 times the elapsed time, but at most a minute later.
FIRST_LINE = 10.0
LATER = 1.5
LONGEST_SILENCE = 60.0


class Report(Protocol):
    """Called, also from other threads, with a description of the current work and the number of newly finished lanes.

    The third argument is the seconds that all lanes are expected to take, if that was measured.
    """

    def __call__(self, status: str, lanes: int, expected: float | None = None, /) -> None:
        """Receive a report."""


class Progress:
    """The progress of a command, and the time that is left.

    Args:
        total: how many items there are to do; None if that is not yet known.
        unit: what the items are, such as "lanes".
        clock: returns seconds.
    """

    def __init__(self, total: int | None, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock."""
        self.total, self.unit, self.clock = total, unit, clock
        self.status, self.done = "starting", 0
        self.expected: float | None = None
        self.began = self.running_since = clock()
        self.done_before = 0  # how many items were done at `running_since`
        self.on_change: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def add(self, status: str, more: int, expected: float | None = None, /) -> None:
        """Note that `more` items are done. This is a `Report`."""
        with self._lock:
            if more and not self.done:  # the first items include the start, so the rate is measured after them
                self.running_since, self.done_before = self.clock(), more
            self.status, self.done = status, self.done + more
            self.expected = self.expected if expected is None else expected
        self.on_change()

    def set(self, status: str, done: int, total: int) -> None:
        """Note that `done` of `total` items are done."""
        with self._lock:
            if total != self.total or not self.done:  # a new kind of item is counted, or the first one is done
                self.running_since, self.done_before = self.clock(), done
            self.status, self.done, self.total = status, done, total
        self.on_change()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.began

    @property
    def left(self) -> float | None:
        """Seconds that are left, at the rate so far, or else as expected; None if neither is known."""
        if self.total is None:
            return None
        since = self.done - self.done_before
        if since > 0:
            return (self.clock() - self.running_since) / since * (self.total - self.done)
        return None if self.expected is None else self.expected * (1 - self.done / max(1, self.total))

    def left_words(self) -> str:
        """Return the time that is left, in words."""
        left = self.left
        return "" if left is None else f"about {hours(left)} left"

    def line(self) -> str:
        """Return the elapsed time, the current work, the progress and the time that is left, as one line."""
        how_far = "" if self.total is None else f"{self.done} of {self.total} {self.unit}".rstrip()
        return ", ".join(part for part in (f"{hours(self.elapsed)}: {self.status}", how_far, self.left_words()) if part)


def hours(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


class Log:
    """Progress lines in a log, from time to time.

    Args:
        progress: the progress to report.
        stream: where the lines are written.
    """

    def __init__(self, progress: Progress, stream: IO[str]) -> None:
        """Write nothing yet."""
        self.progress, self.stream, self.due = progress, stream, FIRST_LINE

    def tick(self) -> None:
        """Write a line if one is due."""
        elapsed = self.progress.elapsed
        if elapsed >= self.due:
            print(self.progress.line(), file=self.stream, flush=True)
            self.due = min(LATER * elapsed, elapsed + LONGEST_SILENCE)


@contextmanager
def shown(progress: Progress, stream: IO[str] | None = None) -> Iterator[None]:
    """Show progress on standard error: a bar if that is a terminal and rich is installed, else lines."""
    console = None
    with suppress(ImportError):  # rich is optional
        from jaxopt_lec.lab.terminal import Terminal

        console = Terminal(stderr=True, stream=stream)
        stream = console.file
    stream = sys.stderr if stream is None else stream
    with bar(progress, console) if console is not None and console.is_terminal else lines(Log(progress, stream)):
        yield


@contextmanager
def lines(log: Log) -> Iterator[None]:
    """Write a log's lines from another thread, so that they are written even while nothing is reported."""
    stopped = threading.Event()

    def write() -> None:
        while not stopped.wait(0.5):
            log.tick()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextmanager
def bar(progress: Progress, console: Any) -> Iterator[None]:
    """Show a live bar on a terminal."""
    from rich import progress as rich
    from rich.table import Column
    from rich.text import Text

    class Left(rich.ProgressColumn):
        """A column with the time that is left."""

        def render(self, task: rich.Task) -> Text:
            return Text(progress.left_words())

    columns = (
        rich.TextColumn("{task.description:<30}", markup=False),
        rich.BarColumn(bar_width=None),
        rich.MofNCompleteColumn(),
        rich.TextColumn(progress.unit),
        rich.TimeElapsedColumn(),
        Left(Column(no_wrap=True)),
    )
    with rich.Progress(*columns, console=console, transient=True) as live:
        task = live.add_task(progress.status, total=progress.total)
        progress.on_change = lambda: live.update(
            task, description=progress.status, completed=progress.done, total=progress.total
        )
        yield


@contextmanager
def lanes_bar(total: int) -> Iterator[Report]:
    """Show the number of finished lanes."""
    progress = Progress(total, "lanes")
    with shown(progress):
        yield progress.add
