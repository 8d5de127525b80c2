"""What the constructors may be given, read off their annotations, and what `update` may: each kind of check once.

A constructor's numbers are annotated with their range, `lr: NonNegative = 1e-3`. They may be schedules, unless the
annotation is of a float or an int: `beta2_decay: Annotated[float, Range(-inf, 0)]`.
"""

import inspect
import math
import re
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

import jax
import numpy as np
import optax
from jax.tree_util import tree_leaves, tree_structure

from jaxopt_lec.equation import _ORDER, _RESTORE, EquationState, _flatten_up_to, _is_hole, count_by_leaf
from jaxopt_lec.hyperparameters import Range, ScalarOrSchedule, Schedule, Signature
from jaxopt_lec.paths import named_leaves

__all__ = [
    "AtLeastOne",
    "Decay",
    "NonNegative",
    "NonNegativeNumber",
    "NonPositiveNumber",
    "Positive",
    "PositiveNumber",
    "Share",
    "bound",
    "checked",
    "foreign",
    "guarded",
    "is_number",
    "patterns",
    "template_of",
]

PyTree: TypeAlias = Any

NonNegative: TypeAlias = Annotated[ScalarOrSchedule, Range(0, math.inf)]
Positive: TypeAlias = Annotated[ScalarOrSchedule, Range(0, math.inf, closed="neither")]
Decay: TypeAlias = Annotated[ScalarOrSchedule, Range(0, 1)]
Share: TypeAlias = Annotated[ScalarOrSchedule, Range(0, 1, closed="both")]
PositiveNumber: TypeAlias = Annotated[float, Range(0, math.inf, closed="neither")]
NonNegativeNumber: TypeAlias = Annotated[float, Range(0, math.inf)]
NonPositiveNumber: TypeAlias = Annotated[float, Range(-math.inf, 0, closed="both")]
AtLeastOne: TypeAlias = Annotated[int, Range(1, math.inf)]


def bound(name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults filled in; a TypeError says whose they are not."""
    try:
        found = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error
    found.apply_defaults()
    return dict(found.arguments)


def checked(name: str, signature: inspect.Signature, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as the constructor `name` takes them: lists as tuples, one pattern as a tuple of one.

    Raises:
        TypeError: an argument of another type than its annotation, such as a schedule where a number is needed.
        ValueError: a number out of range, what is no regular expression.
    """
    hints = {key: q.annotation for key, q in signature.parameters.items()}
    return {key: _checked(name, key, hints[key], value) for key, value in given.items()}


def is_number(x: Any) -> bool:
    """Whether the value of `x` is known: a number, neither a schedule nor an array, which may be traced."""
    return isinstance(x, int | float | np.number)


def _checked(name: str, key: str, hint: Any, value: Any) -> Any:
    what, kind, options = f"{name}: {key}", get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = (option for option in options if option is not types.NoneType)
        return _checked(name, key, hint, value)
    if kind is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(options):
            raise TypeError(f"{what} must be {len(options)} values, got {value!r}")
        return tuple(_checked(name, f"{key}[{i}]", *pair) for i, pair in enumerate(zip(options, value, strict=True)))
    if hint == Sequence[str]:
        return patterns(what, value)
    if kind is Annotated:
        base, within = options
        if base is int:
            _check_type(what, "an integer", value, int)
        elif base is float:
            _check_type(what, "a number", value, int, float, np.number, np.ndarray, jax.Array)
        Signature(name, numeric={key: 0.0}, ranges={key: within}, static={}, extra=()).check({key: value})
        # A Schedule, so that errors in `update` use the framework's name of the argument.
        return Schedule(what, value) if callable(value) else value
    if hint is bool:
        _check_type(what, "True or False", value, bool)
    elif hint is float:
        _check_type(what, "a number", value, int, float, np.number)
    elif hint is str:
        _check_type(what, "a string", value, str)
    return value


def _check_type(what: str, needed: str, value: Any, *kinds: type) -> None:
    if callable(value):
        raise TypeError(f"{what}: {needed} is needed, not a schedule")
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        array = isinstance(value, jax.Array | np.ndarray)
        hint = "; optax.inject_hyperparams leaves alone what is in its static_args" if array else ""
        raise TypeError(f"{what} must be {needed}, got {value!r}{hint}")


def patterns(what: str, given: Any) -> tuple[str, ...]:
    """Return regular expressions as a tuple; a string is one of them."""
    found = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple | set) else None
    if found is None or not all(isinstance(pattern, str) for pattern in found):
        raise TypeError(f"{what} must be a regular expression or a list of them, got {given!r}")
    for pattern in found:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{what}: {pattern!r} is not a regular expression: {error}") from error
    return found


def template_of(tx: optax.GradientTransformation, state: PyTree, params: PyTree) -> PyTree | None:
    """Return what `init` makes, or that of `jaxopt_lec.count_by_leaf`, as shapes, whichever has the names of the state.

    `None`: another optimizer's, with other hyperparameters or slots. NNX's variables, in which it keeps them, do not matter.
    """
    names = [name for name, _ in named_leaves(state)]
    templates = [jax.eval_shape(init, params) for init in (tx.init, count_by_leaf(tx).init)]
    return next((template for template in templates if names == [name for name, _ in named_leaves(template)]), None)


def foreign(name: str) -> TypeError:
    """Return the error about a state that another optimizer made."""
    return TypeError(f"{name}: this is not a state that the optimizer's init makes for these parameters; {_RESTORE}")


def guarded(name: str, tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Let an `update` that fails say so if its arguments came in another order or do not belong to each other."""
    tx = optax.with_extra_args_support(tx)

    def update(updates: PyTree, state: PyTree, params: PyTree | None = None, **extra: Any) -> tuple[PyTree, PyTree]:
        try:
            return tx.update(updates, state, params, **extra)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            for place, tree in (("first", updates), ("last", params)):
                if any(map(_is_state, tree_leaves(tree, is_leaf=_is_state))):
                    raise TypeError(f"{name}: an optimizer state came {place}; {_ORDER}") from error
            try:
                is_own = template_of(tx, state, updates if params is None else params) is not None
            except (TypeError, ValueError):  # there is something wrong with the parameters
                is_own = True
            if not is_own:
                raise foreign(name) from error
            if params is not None:
                _flatten_up_to(name, tree_structure(updates, is_leaf=_is_hole), updates, params, "params")
            raise

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _is_state(x: Any) -> bool:
    return isinstance(x, EquationState)
