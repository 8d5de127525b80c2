"""Hyperparameters: what a user may give for one, the range it must lie in, and the array it becomes in the state."""

import dataclasses
import inspect
import math
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from optax import ScalarOrSchedule

__all__ = ["Decay", "Hyper", "NonNegative", "Positive", "Range", "ScalarOrSchedule"]


@dataclasses.dataclass(frozen=True)
class Range:
    """The interval from `low` to `high` a hyperparameter must lie in; `closed` says which ends belong to it."""

    low: float
    high: float
    closed: Literal["low", "both", "neither"] = "low"

    def __post_init__(self) -> None:
        """Refuse what `closed` cannot say."""
        if self.closed not in ("low", "both", "neither"):
            raise ValueError(f"Range: closed must be 'low', 'both' or 'neither', got {self.closed!r}")

    def __contains__(self, value: float) -> bool:
        """Whether `value` lies in the interval."""
        above = value > self.low if self.closed == "neither" else value >= self.low
        return above and (value <= self.high if self.closed == "both" else value < self.high)

    def __str__(self) -> str:
        """Return the interval as a formula: `[0, 1)`."""
        left, right = "(" if self.closed == "neither" else "[", "]" if self.closed == "both" else ")"
        return f"{left}{self.low:g}, {self.high:g}{right}"


# Outside an equation a hyperparameter is a number, an array or a schedule; inside it is a scalar array. No type says both.
Hyper: TypeAlias = Any
NonNegative: TypeAlias = Annotated[Hyper, Range(0, math.inf)]
Positive: TypeAlias = Annotated[Hyper, Range(0, math.inf, closed="neither")]
Decay: TypeAlias = Annotated[Hyper, Range(0, 1)]
_FINITE = Range(-math.inf, math.inf, closed="neither")
_NUMBERS = int | float | np.number | np.ndarray | jax.Array
# The errors that JAX raises if Python needs the value of a traced array.
_NEEDS_A_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def as_scalar(value: Any) -> jax.Array:
    """Return `value` as a strongly typed scalar of at least float32; float64 stays float64 where x64 is enabled."""
    return jnp.asarray(value, dtype=_kept_dtype(value))


def _kept_dtype(value: Any) -> jnp.dtype:
    dtype = jax.dtypes.canonicalize_dtype(getattr(value, "dtype", float))
    if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits < 32:
        return jnp.dtype(jnp.float32)
    return dtype


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A schedule whose errors name its hyperparameter: `what`, such as "adam: b1"."""

    what: str
    function: Callable[[jax.Array], Any]

    def __call__(self, count: jax.Array) -> Any:
        """Return the value after `count` steps, a number or a scalar array."""
        try:
            # A schedule may divide the integer count by a float, even if the rest of the program uses strict promotion.
            with jax.numpy_dtype_promotion("standard"):
                value = self.function(count)
        except _NEEDS_A_VALUE as error:
            raise TypeError(
                f"{self.what}: the schedule needs the value of the step count in Python, as `if`, `max`, `float` and `math` "
                "do, but while jax.jit traces there is no value: use jnp.where, jnp.maximum, jax.lax.cond or "
                "optax.join_schedules"
            ) from error
        except Exception as error:
            error.add_note(f"{self.what} was called as a schedule, with the number of finished steps")
            raise
        if isinstance(value, bool) or not isinstance(value, _NUMBERS):
            raise TypeError(f"{self.what}: the schedule must return a number or a scalar array, it returned {value!r}")
        if jnp.shape(value) != () or jnp.iscomplexobj(value):
            has = f"{jnp.result_type(value)} of shape {jnp.shape(value)}"
            raise ValueError(f"{self.what}: the schedule must return a real scalar, it returned {has}")
        return value


@dataclasses.dataclass(frozen=True)
class Signature:
    """What the signature of an equation says: its name, its hyperparameters and its extra arguments.

    Keyword-only arguments of `(g, s, p, t, *, ...)` with a float as default, or a number and a range, are numeric
    hyperparameters, with another default static ones; without a default they are extra arguments of `update`.
    """

    name: str
    numeric: Mapping[str, float]
    ranges: Mapping[str, Range]
    static: Mapping[str, Any]
    extra: tuple[str, ...]

    @classmethod
    def of(cls, function: Callable[..., Any], arguments: tuple[str, ...]) -> "Signature":
        """Read the signature of `function`; a TypeError says what is not as an equation's must be."""
        name = function.__name__
        parameters = inspect.signature(function).parameters.values()
        positional = [q.name for q in parameters if q.kind in (q.POSITIONAL_ONLY, q.POSITIONAL_OR_KEYWORD)]
        if len(positional) != len(arguments):
            raise TypeError(f"{name} must take ({', '.join(arguments)}) by position, it takes ({', '.join(positional)})")
        if any(q.kind in (q.VAR_POSITIONAL, q.VAR_KEYWORD) for q in parameters):
            raise TypeError(f"{name} must name its arguments: no *args, no **kwargs")
        keywords = [q for q in parameters if q.kind is q.KEYWORD_ONLY]
        ranges = {q.name: _annotated_range(function, q.annotation) for q in keywords}
        numeric = {
            q.name: float(q.default)
            for q in keywords
            if isinstance(q.default, float) or (type(q.default) is int and ranges[q.name] is not None)
        }
        required = tuple(q.name for q in keywords if q.default is q.empty)
        return cls(
            name=name,
            numeric=types.MappingProxyType(numeric),
            ranges={key: ranges[key] or _FINITE for key in numeric},
            static={q.name: q.default for q in keywords if q.name not in numeric and q.name not in required},
            extra=required,
        )

    def check(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the numeric and the static hyperparameters, defaults filled in, or say what is wrong with `given`."""
        known = [*self.numeric, *self.static]
        for name in given:
            if name in self.extra:
                raise TypeError(f"{self.name}: {name!r} is an extra argument: give it to update(..., {name}=...)")
            if name not in known:
                has = ", ".join(known) if known else "none"
                raise TypeError(f"{self.name} has no hyperparameter {name!r}; its hyperparameters are: {has}")
        numeric = {name: given.get(name, default) for name, default in self.numeric.items()}
        static = {name: given.get(name, default) for name, default in self.static.items()}
        for name, value in numeric.items():
            # A schedule is asked for its first value, so that a wrong one is refused before the first step.
            self._check_number(name, self._value_at(name, value, jnp.zeros((), jnp.int32)))
        for name, value in static.items():
            self._check_static(name, value)
        return numeric, static

    def values(self, numeric: Mapping[str, Any], count: jax.Array) -> dict[str, jax.Array]:
        """Return the arrays in force at step `count` (from 0) for numbers, arrays and schedules alike.

        They are copies: a state may be donated, the user's array not.
        """
        return {name: jnp.array(as_scalar(value), copy=True) for name, value in self.at(numeric, count).items()}

    def at(self, numeric: Mapping[str, Any], count: jax.Array) -> dict[str, Any]:
        """Return numbers and arrays as they are, and the value of each schedule at step `count`."""
        return {name: self._value_at(name, value, count) for name, value in numeric.items()}

    def rests(self, numeric: Mapping[str, Any], hyper: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Return the float32 rounding errors of hyperparameters in [0, 1), for `jaxopt_lec.arithmetic.complement`.

        They are known for a Python or NumPy number, as long as it is the value in force, and for a float64 array. For a
        float32 array of JAX there is none.
        """
        rests = {}
        for name, value in numeric.items():
            b, within = hyper[name], self.ranges[name]
            if (within.low, within.high) != (0, 1):
                continue
            if b.dtype == jnp.float64:
                rests[name] = (b - b.astype(jnp.float32).astype(b.dtype)).astype(jnp.float32)
            elif isinstance(value, int | float | np.number | np.ndarray):
                exact, rounded = float(value), np.float32(value)
                rests[name] = jnp.where(b == rounded, np.float32(exact - float(rounded)), np.float32(0))
        return rests

    def _value_at(self, name: str, value: Any, count: jax.Array) -> Any:
        if not callable(value):
            return value
        return (value if isinstance(value, Schedule) else Schedule(f"{self.name}: {name}", value))(count)

    def _check_number(self, name: str, value: Any) -> None:
        what = f"{self.name}: {name}"
        if isinstance(value, bool) or not isinstance(value, _NUMBERS):
            raise TypeError(f"{what} must be a number, a scalar array or a schedule, got {value!r}")
        if jnp.shape(value) != ():
            raise ValueError(f"{what} must be a scalar, got shape {jnp.shape(value)}; for many values use jax.vmap")
        if isinstance(value, jax.core.Tracer) or (isinstance(value, jax.Array) and not value.is_fully_addressable):
            return  # its value is not known here
        if jnp.iscomplexobj(value) or float(value) not in self.ranges[name]:
            raise ValueError(f"{what} must lie in {self.ranges[name]}, got {value}")
        with np.errstate(over="ignore", under="ignore"):
            kept = np.asarray(value).astype(_kept_dtype(value))
        vanishes = value != 0 and abs(float(kept)) < float(jnp.finfo(kept.dtype).tiny)
        if float(kept) not in self.ranges[name] or vanishes:
            raise ValueError(
                f"{what} must lie in {self.ranges[name]}, got {value}, which is {float(kept):g} in {kept.dtype}"
            )

    def _check_static(self, name: str, value: Any) -> None:
        default = self.static[name]
        if default is not None and type(value) is not type(default):
            raise TypeError(f"{self.name}: {name} must be of type {type(default).__name__}, got {value!r}")
        try:
            hash(value)
        except TypeError as error:
            raise TypeError(
                f"{self.name}: {name} has no float as default, so it is static and must be hashable, got {value!r}"
            ) from error


def _annotated_range(function: Callable[..., Any], annotation: Any) -> Range | None:
    if isinstance(annotation, str):  # from __future__ import annotations
        try:
            annotation = eval(annotation, getattr(function, "__globals__", {}))
        except NameError:  # imported for the type checker only, so none of ours
            return None
    ranges = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Range)]
    return ranges[0] if ranges else None
