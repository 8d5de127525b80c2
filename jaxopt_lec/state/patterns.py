"""What the user says of a state's leaves by patterns of their names."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

__all__ = ["by_pattern"]

T = TypeVar("T")


def by_pattern(what: str, patterns: Mapping[str, T | None], names: Sequence[str]) -> list[T | None]:
    """Return for each name what the first pattern found in it says, or `None`; refuse a pattern that is found in none."""
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            raise ValueError(f"{what}: no leaf of the state matches {pattern!r}; there are {', '.join(names[:20])}")
    return [next((said for pattern, said in patterns.items() if re.search(pattern, name)), None) for name in names]
