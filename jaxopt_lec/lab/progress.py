"""A live progress bar over lanes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

__all__ = ["Report", "lanes_bar"]

# Called with what is being done, and how many more lanes are done; also from other threads.
Report: TypeAlias = Callable[[str, int], None]


@contextmanager
def lanes_bar(total: int) -> Iterator[Report]:
    """Show a bar on standard error, if that is a terminal and rich is installed."""
    try:
        from rich import progress as rich

        from jaxopt_lec.lab.terminal import Terminal
    except ImportError:  # all else works without it
        yield lambda status, lanes: None
        return
    console = Terminal(stderr=True)
    columns = (
        rich.TextColumn("{task.description:<30}"),
        rich.BarColumn(bar_width=None),
        rich.MofNCompleteColumn(),
        rich.TextColumn("lanes"),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("starting", total=total)
        yield lambda status, lanes: shown.update(task, description=status, advance=lanes)
