"""Tables of benchmarks: on the terminal, and in a page of the documentation between the two marks of their benchmark."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table


def show(console: Console, title: str, rows: list[list[str]]) -> None:
    """Print a table; its first row is the heading."""
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if i else "left")
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)


def markdown(title: str, rows: list[list[str]]) -> str:
    lines = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def add_write(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page, between its two marks")


def write(page: Path, benchmark: str, text: str) -> None:
    """Replace what stands between the two marks of a page."""
    marks = f"<!-- written by benchmarks/{benchmark} -->", f"<!-- end of what benchmarks/{benchmark} wrote -->"
    before, _, rest = page.read_text().partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise SystemExit(f"{page} has no place for the tables, between {marks[0]} and {marks[1]}")
    page.write_text(f"{before}{marks[0]}\n\n{text}\n\n{marks[1]}{after}")
