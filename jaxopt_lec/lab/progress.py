"""How far a long command is: a live bar on a terminal, a line now and then in a log."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import IO, Any, Protocol

__all__ = ["Progress", "Report", "lanes_bar", "shown"]

# A log says something after so many seconds, and then after half as long again as was passed, at most a minute later.
FIRST_LINE = 10.0
LATER = 1.5
LONGEST_SILENCE = 60.0


class Report(Protocol):
    """Called with what is being done, and how many more lanes are done; also from other threads.

    A third argument says in how many seconds all lanes are expected to run, where that was measured.
    """

    def __call__(self, status: str, lanes: int, expected: float | None = None, /) -> None:
        """Take it."""


class Progress:
    """How far a command is, and how long it still takes.

    Args:
        total: how many there are to do; None if that is not yet known.
        unit: of what.
        clock: returns seconds.
    """

    def __init__(self, total: int | None, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin."""
        self.total, self.unit, self.clock = total, unit, clock
        self.status, self.done = "starting", 0
        self.expected: float | None = None
        self.began = self.running_since = clock()
        self.done_before = 0  # what was done when the clock of `running_since` started
        self.on_change: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def add(self, status: str, more: int, expected: float | None = None, /) -> None:
        """Note that so many more are done. This is a `Report`."""
        with self._lock:
            if more and not self.done:  # the first ones tell when running began, and not how fast it is
                self.running_since, self.done_before = self.clock(), more
            self.status, self.done = status, self.done + more
            self.expected = self.expected if expected is None else expected
        self.on_change()

    def set(self, status: str, done: int, total: int) -> None:
        """Note how many of how many are done."""
        with self._lock:
            if total != self.total or not self.done:  # something else is counted, or the first one is done
                self.running_since, self.done_before = self.clock(), done
            self.status, self.done, self.total = status, done, total
        self.on_change()

    @property
    def elapsed(self) -> float:
        """Seconds from the beginning."""
        return self.clock() - self.began

    @property
    def left(self) -> float | None:
        """Seconds to the end: as fast as until now, else as was expected; None if neither is known."""
        if self.total is None:
            return None
        since = self.done - self.done_before
        if since > 0:
            return (self.clock() - self.running_since) / since * (self.total - self.done)
        return None if self.expected is None else self.expected * (1 - self.done / max(1, self.total))

    def left_words(self) -> str:
        """Say how long it still takes."""
        left = self.left
        return "" if left is None else f"about {hours(left)} left"

    def line(self) -> str:
        """Say what is going on, how far it is and how long it still takes."""
        how_far = "" if self.total is None else f"{self.done} of {self.total} {self.unit}".rstrip()
        return ", ".join(part for part in (f"{hours(self.elapsed)}: {self.status}", how_far, self.left_words()) if part)


def hours(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


class Log:
    """Lines about progress, now and then.

    Args:
        progress: how far it is.
        stream: where lines go.
    """

    def __init__(self, progress: Progress, stream: IO[str]) -> None:
        """Say nothing yet."""
        self.progress, self.stream, self.due = progress, stream, FIRST_LINE

    def tick(self) -> None:
        """Write a line if it is time for one."""
        elapsed = self.progress.elapsed
        if elapsed >= self.due:
            print(self.progress.line(), file=self.stream, flush=True)
            self.due = min(LATER * elapsed, elapsed + LONGEST_SILENCE)


@contextmanager
def shown(progress: Progress, stream: IO[str] | None = None) -> Iterator[None]:
    """Show progress on standard error: a bar if that is a terminal and rich is installed, else a line now and then."""
    console = None
    with suppress(ImportError):  # without rich, all else works
        from jaxopt_lec.lab.terminal import Terminal

        console = Terminal(stderr=True, stream=stream)
        stream = console.file
    stream = sys.stderr if stream is None else stream
    with bar(progress, console) if console is not None and console.is_terminal else lines(Log(progress, stream)):
        yield


@contextmanager
def lines(log: Log) -> Iterator[None]:
    """Write a log's lines from another thread, so that they come even while nothing is reported."""
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
        """How long it still takes."""

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
    """Show how many lanes are done."""
    progress = Progress(total, "lanes")
    with shown(progress):
        yield progress.add
