"""What of a grid is data and what is not: one program for each combination of the static hyperparameters."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.grid import Grid, Point
from jaxopt_lec.lab.importing import one_line

__all__ = ["Combination", "combinations", "described", "name_of"]

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Combination:
    """The points of a grid that share a program.

    Attributes:
        label: how messages and study directories call it.
        static: the hyperparameters that all its points have in common and that are part of the program.
        traced: the names of the others, which are data.
        points: the places of its points in the grid.
    """

    label: str
    static: Point
    traced: tuple[str, ...]
    points: np.ndarray

    def make(self, factory: Callable[..., Any], traced: Point) -> Any:
        """Call the factory with static and traced hyperparameters."""
        return factory(**self.static, **traced)


def combinations(grid: Grid, factory: Callable[..., Any], given: Sequence[str] = ()) -> list[Combination]:
    """Check a grid against the signature of a factory, and sort its points by their static hyperparameters.

    Args:
        grid: the points.
        factory: takes the hyperparameters by name.
        given: the names of those of its arguments that do not come from the grid.

    Raises:
        InputError: a name that the factory does not have, or one missing.
    """
    check_names(grid, factory, given)
    static = [name for name in grid.columns if is_static(grid, factory, name)]
    columns = {name: described(name, grid.columns[name]) for name in static}
    members: dict[tuple[Any, ...], list[int]] = {}
    for i in range(len(grid)):
        members.setdefault(tuple(columns[name][i] for name in static), []).append(i)
    found = []
    for key, points in members.items():
        label = ", ".join(f"{name}={value!r}" for name, value in zip(static, key, strict=True))
        common = {name: grid.columns[name][points[0]] for name in static}
        traced = tuple(name for name in grid.columns if name not in static)
        found.append(Combination(f"{name_of(factory)}({label})", common, traced, np.array(points)))
    return found


def check_names(grid: Grid, factory: Callable[..., Any], given: Sequence[str]) -> None:
    """Check that the factory can be called with the grid's names."""
    parameters = parameters_of(factory)
    unnamed = (*VARIADIC, inspect.Parameter.POSITIONAL_ONLY)
    has = [q.name for q in parameters if q.kind not in unnamed and q.name not in given]
    if not any(q.kind is q.VAR_KEYWORD for q in parameters):
        for name in grid.columns:
            if name not in has:
                raise InputError(f"{name_of(factory)} has no hyperparameter {name!r}; it has {', '.join(has) or 'none'}")
    for q in parameters:
        if q.default is q.empty and q.kind not in VARIADIC and q.name not in (*grid.columns, *given):
            raise InputError(f"{name_of(factory)} needs {q.name!r}, and the grid has only {', '.join(grid.columns)}")


def is_static(grid: Grid, factory: Callable[..., Any], name: str) -> bool:
    """Whether a hyperparameter is part of the program: all but numbers, and whole numbers where no others are expected."""
    values = grid.columns[name]
    if name in grid.static or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return True
    defaults = {q.name: q.default for q in parameters_of(factory)}
    return all(isinstance(v, int) for v in values) and not isinstance(defaults.get(name), float)


def check_values(grid: Grid, factory: Callable[..., Any], combination: Combination, dtype: np.dtype) -> None:
    """Call the factory with numbers, where it checks their ranges, and with tracers, as the program will.

    Ranges are intervals, so of every hyperparameter the lowest and the highest value are tried.

    Args:
        grid: the points.
        factory: takes the hyperparameters by name.
        combination: which of the points.
        dtype: that of the traced numbers.

    Raises:
        InputError: the factory refuses a point.
    """
    ends = {int(combination.points[0])}
    for name in combination.traced:
        values = [grid.columns[name][i] for i in combination.points]
        ends |= {int(combination.points[at(values)]) for at in (np.argmin, np.argmax)}
    for i in sorted(ends):
        point = grid.point(i)
        try:
            factory(**point)
        except Exception as error:
            shown = ", ".join(f"{name}={described(name, [value])[0]!r}" for name, value in point.items())
            raise InputError(f"{name_of(factory)}({shown}) failed: {one_line(error)}") from error

    def traced(numbers: Point) -> None:
        combination.make(factory, numbers)

    try:
        jax.eval_shape(traced, {name: jax.ShapeDtypeStruct((), dtype) for name in combination.traced})
    except Exception as error:
        raise InputError(
            f"{combination.label}: {', '.join(combination.traced)} traced by JAX failed: {one_line(error)}; "
            "numbers that must be known are written static([...])"
        ) from error


def described(name: str, values: Sequence[Any]) -> list[Any]:
    """Return values as tables and files can hold them: functions by their names.

    Raises:
        InputError: two functions of one name, or one without any.
    """
    functions: dict[str, Any] = {}
    shown = []
    for value in values:
        if not callable(value):
            shown.append(repr(value) if isinstance(value, tuple) else value)
            continue
        label = getattr(value, "__name__", None)
        if label is None:
            raise InputError(f"{name}: a {type(value).__name__} has no __name__ to be told from others by; give it one")
        if functions.setdefault(label, value) is not value:
            raise InputError(f"{name}: two functions are called {label}; give them a __name__ each")
        shown.append(label)
    return shown


def name_of(factory: Callable[..., Any]) -> str:
    """Return how messages call a function."""
    return getattr(factory, "__name__", type(factory).__name__)


def parameters_of(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a function; what has no signature may take anything."""
    try:
        return list(inspect.signature(factory).parameters.values())
    except ValueError:  # some built-in functions have none
        return [inspect.Parameter("anything", inspect.Parameter.VAR_KEYWORD)]
