"""Compiled programs that tests share, because compiling takes longer than the steps in these tests."""

from collections.abc import Callable
from typing import Any

import jax

_PROGRAMS: dict[Any, Any] = {}


def program(function: Callable[..., Any], *args: Any) -> Any:
    """The compiled function; optimizers that differ in numbers alone have one, because numbers are data of their state."""
    lowered = jax.jit(function).lower(*args)
    key = (lowered.as_text(), lowered.in_tree, lowered.out_tree)
    if key not in _PROGRAMS:
        _PROGRAMS[key] = lowered.compile()
    return _PROGRAMS[key]
