"""Grids of hyperparameters: every combination of given values, or points drawn at random."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jaxopt_lec.lab.errors import InputError

__all__ = ["Distribution", "Grid", "choice", "grid", "log_uniform", "random_grid", "static", "uniform"]

Point: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """Points of hyperparameters, to be made by `grid` or `random_grid`; `a * b` is every point of a with every one of b.

    Attributes:
        columns: name → its value at every point.
        static: the names whose numbers must not be traced, because `static` said so.
    """

    columns: Mapping[str, tuple[Any, ...]]
    static: frozenset[str] = frozenset()

    def __len__(self) -> int:
        """Count the points."""
        return len(next(iter(self.columns.values())))

    def point(self, i: int) -> Point:
        """Return the hyperparameters of one point."""
        return {name: values[i] for name, values in self.columns.items()}

    def __mul__(self, other: "Grid") -> "Grid":
        """Combine every point of this grid with every point of another, whose points change faster."""
        for name in self.columns:
            if name in other.columns:
                raise InputError(f"hyperparameter {name!r} is in both grids")
        own = {name: tuple(v for v in values for _ in range(len(other))) for name, values in self.columns.items()}
        others = {name: values * len(self) for name, values in other.columns.items()}
        return Grid(own | others, self.static | other.static)


@dataclass(frozen=True)
class Static:
    """Values that each get a program of their own."""

    values: Any


@dataclass(frozen=True)
class Distribution:
    """How a hyperparameter is drawn; `1 - distribution` is drawn as 1 minus it.

    Attributes:
        quantiles: takes uniform draws from [0, 1) to values.
    """

    quantiles: Callable[[np.ndarray], Sequence[Any]]

    def __rsub__(self, number: float) -> "Distribution":
        """Return the distribution of number − x."""
        return Distribution(lambda u: list(number - np.asarray(self.quantiles(u))))


def grid(**values: Any) -> Grid:
    """Return every combination of the values, the last name changing fastest.

    Numbers with a point become data: all of them share one compiled program. Booleans, strings, functions, tuples and
    None are static, and get one program for each combination. So are whole numbers, unless the default in the factory's
    signature has a point.

    Args:
        **values: name → a list or an array of values; what is no list, array or other iterable is one value for all points.

    Errors: InputError for no values, the same value twice, and a number that is not finite.
    """
    if not values:
        raise InputError("grid: no hyperparameter given")
    axes = []
    for name, given in values.items():
        is_static = isinstance(given, Static)
        column = as_values(name, given.values if is_static else given)
        for i, value in enumerate(column):
            if value in column[:i]:
                raise InputError(f"grid: {name}: {value!r} is given twice")
        axes.append(Grid({name: column}, frozenset([name] if is_static else [])))
    product, *rest = axes
    for axis in rest:
        product = product * axis
    return product


def random_grid(n: int, seed: int, /, **distributions: Any) -> Grid:
    """Draw n points at random; a larger n adds points, another name leaves the other names' values as they are.

    Args:
        n: how many, at least 1.
        seed: the same seed draws the same points; at least 0.
        **distributions: name → `log_uniform`, `uniform`, `choice`, 1 minus one of these, or one value for all points.

    Errors: InputError for what cannot be drawn.
    """
    if n < 1:
        raise InputError(f"random_grid: n {n}: at least 1 point is needed")
    if seed < 0:
        raise InputError(f"random_grid: seed {seed}: at least 0 is needed")
    if not distributions:
        raise InputError("random_grid: no hyperparameter given")
    columns, static_names = {}, []
    for name, given in distributions.items():
        if isinstance(given, Static):
            static_names.append(name)
            given = given.values
        if isinstance(given, Distribution):
            u = np.random.default_rng([seed, *name.encode()]).random(n)
            columns[name] = as_values(name, list(given.quantiles(u)))
        else:
            fixed = as_values(name, given)
            if len(fixed) != 1:
                raise InputError(f"random_grid: {name}={given!r}: a distribution is needed, such as choice([...])")
            columns[name] = fixed * n
    return Grid(columns, frozenset(static_names))


def static(values: Any) -> Static:
    """Mark the numbers of a grid as static: for a factory that must know them, as in `if momentum > 0`."""
    return Static(values)


def log_uniform(low: float, high: float) -> Distribution:
    """Draw from [low, high], the logarithm uniformly; 0 < low < high."""
    if not 0 < low < high < math.inf:
        raise InputError(f"log_uniform({low}, {high}): 0 < low < high, both finite, are needed")
    return Distribution(lambda u: list(np.clip(np.exp(np.log(low) + u * (np.log(high) - np.log(low))), low, high)))


def uniform(low: float, high: float) -> Distribution:
    """Draw from [low, high] uniformly; low < high."""
    if not -math.inf < low < high < math.inf:
        raise InputError(f"uniform({low}, {high}): low < high, both finite, are needed")
    return Distribution(lambda u: list(np.clip(low + u * (high - low), low, high)))


def choice(values: Iterable[Any]) -> Distribution:
    """Draw one of the values, each with the same probability."""
    options = as_values("choice", values)
    return Distribution(lambda u: [options[int(x * len(options))] for x in u])


def as_values(name: str, given: Any) -> tuple[Any, ...]:
    """Return values as Python objects; text and what cannot be iterated over is one value.

    Raises:
        InputError: there are none, or one cannot be a hyperparameter.
    """
    if isinstance(given, Distribution):
        raise InputError(f"{name}: distributions belong into random_grid")
    if isinstance(given, str) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        given = [given]
    values = tuple(v.item() if getattr(v, "ndim", None) == 0 else v for v in given)
    if not values:
        raise InputError(f"{name}: no values given")
    for value in values:
        if isinstance(value, complex):
            raise InputError(f"{name}: {value!r} is complex; hyperparameters are real")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name}: {value!r} is not a finite number")
        if not isinstance(value, bool | int | float | str | tuple | None) and not callable(value):
            kind = type(value).__name__
            raise InputError(f"{name}: a value is of type {kind}; numbers, strings, tuples, functions or None are needed")
    return values
