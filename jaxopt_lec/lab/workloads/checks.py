"""The checks of a workload before anything is trained: of its parts, by tracing them, and of its data."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.importing import one_line
from jaxopt_lec.lab.workloads.workload import Data, Score, Workload

__all__ = ["SETS", "TRIED", "canonical", "check_data", "described", "traced", "try_out_workload"]

METHODS = ("initialize", "loss", "metric")
SETS = ("train", "validation", "test")
TRIED = 8  # number of examples in the mini-batch that a workload is checked with


def try_out_workload(found: Any, what: str | None = None) -> Workload:
    """Check that something has the protocol's parts, by tracing them with a mini-batch.

    The loss is differentiated and mapped over lanes, as in training. Nothing is compiled, unless data are not finite.

    Args:
        found: the object that should be a workload.
        what: its name in messages; by default its class.

    Raises:
        InputError: it names the part that is missing or wrong.
    """
    what = what or f"workload {type(found).__name__}"
    missing = []
    for part in ("name", "data", "score", *METHODS):
        try:
            getattr(found, part)
        except AttributeError:
            missing.append(part)
        except Exception as error:
            raise InputError(f"{what}: its {part} cannot be read: {one_line(error)}") from error
    if missing:
        raise InputError(f"{what}: a {type(found).__name__} is no workload: it has no {', '.join(missing)}")
    if not isinstance(found.name, str):
        raise InputError(f"{what}: its name is a {type(found.name).__name__}, not a text")
    if not isinstance(found.score, Score):
        raise InputError(f"{what}: its score is a {type(found.score).__name__}, not a Score")
    check_data(found.data, what)

    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((TRIED, *np.shape(x)[1:]), canonical(x)), found.data.train)
    key = jax.eval_shape(lambda: jax.random.key(0))
    model = traced(what, "initialize(key)", found.initialize, key)
    if not isinstance(model, tuple) or len(model) != 2:
        raise InputError(f"{what}: initialize(key) must return (params, state)")
    params, state = model
    floats = [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if not floats or len(floats) < len(jax.tree.leaves(params)):
        raise InputError(f"{what}: initialize(key) must return parameters that are all floating point arrays")
    result = traced(what, "loss(params, state, batch, key)", _of_jax(found.loss), params, state, batch, key)
    if not isinstance(result, tuple) or len(result) != 2 or getattr(result[0], "shape", None) != ():
        raise InputError(
            f"{what}: loss(params, state, batch, key) must return (a number, state), and returns {described(result)}"
        )
    if not jnp.issubdtype(result[0].dtype, jnp.floating):
        raise InputError(f"{what}: loss(params, state, batch, key) returns {result[0].dtype}, which has no gradient")
    if like(result[1], axes=0) != like(state, axes=0):
        raise InputError(f"{what}: loss(params, state, batch, key) changes the structure, shapes or dtypes of its state")
    gradient = jax.vmap(jax.grad(found.loss, has_aux=True), (0, 0, None, 0))
    lane = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), (params, state, key))
    traced(what, "the gradient of loss(params, state, batch, key) in lanes", gradient, *lane[:2], batch, lane[2])
    result = traced(what, "metric(params, state, batch)", found.metric, params, state, batch)
    if not isinstance(result, tuple) or [getattr(x, "shape", None) for x in result] != [(TRIED,)] * 2:
        raise InputError(f"{what}: metric(params, state, batch) must return a loss and a score of every example")
    if any(jnp.issubdtype(x.dtype, jnp.complexfloating) for x in result):
        raise InputError(f"{what}: metric(params, state, batch) must return real numbers")
    _check_finite(found, what)
    return found


def check_data(data: Any, what: str) -> None:
    """Check that the three sets are arrays of numbers, each set with a common first axis, and that their examples are alike.

    Raises:
        InputError: it names the set that is wrong.
    """
    if not isinstance(data, Data):
        raise InputError(f"{what}: its data are a {type(data).__name__}, not Data")
    for part in SETS:
        leaves = jax.tree.leaves(getattr(data, part))
        for leaf in leaves:
            if not isinstance(leaf, np.ndarray | jax.Array):
                raise InputError(f"{what}: data.{part} has a {type(leaf).__name__}, not an array of NumPy or JAX")
            if leaf.dtype != bool and not jnp.issubdtype(leaf.dtype, jnp.number):
                raise InputError(f"{what}: data.{part} has an array of {leaf.dtype}, not of numbers")
        lengths = list(dict.fromkeys(len(leaf) if leaf.ndim else None for leaf in leaves))
        if len(lengths) != 1 or lengths[0] in (None, 0):
            have = " and ".join("no axis" if n is None else str(n) for n in lengths) or "no array at all"
            raise InputError(f"{what}: the arrays of data.{part} need one first axis, of its examples; they have {have}")
    kinds = {part: like(getattr(data, part)) for part in SETS}
    if kinds["validation"] != kinds["train"] or kinds["test"] != kinds["train"]:
        raise InputError(f"{what}: the examples of its three sets differ in structure, shapes or dtypes")


def _check_finite(found: Workload, what: str) -> None:
    """Raise an InputError if NaN or inf in the data makes the metric NaN or inf; a workload may mask such numbers."""
    for part in SETS:
        data = jax.tree.map(np.asarray, getattr(found.data, part))
        bad = np.flatnonzero(np.any([_not_finite(leaf) for leaf in jax.tree.leaves(data)], axis=0))
        if not len(bad):
            continue
        params, state = jax.jit(found.initialize)(jax.random.key(0))
        some = jax.tree.map(partial(np.take, indices=np.resize(bad, TRIED), axis=0), data)
        values = jax.jit(found.metric)(params, state, some)
        if not all(np.isfinite(np.asarray(value)).all() for value in values):
            raise InputError(
                f"{what}: {len(bad)} of the examples of data.{part} hold NaN or inf, the first is number {bad[0]}, and "
                "their loss or score is not finite; correct or remove them"
            )


def _not_finite(x: np.ndarray) -> np.ndarray:
    """Return which examples hold a number that is not finite."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return np.zeros(len(x), bool)
    return ~np.isfinite(x).all(axis=tuple(range(1, x.ndim)))


def _of_jax(loss: Any) -> Any:
    """Return the loss with a check: a result that is a number of Python or NumPy was not computed by JAX, and is refused."""

    def checked(*arguments: Any) -> Any:
        result = loss(*arguments)
        if isinstance(result, tuple) and result and isinstance(result[0], int | float | complex | np.ndarray | np.generic):
            raise TypeError(f"it returns a {type(result[0]).__name__}, which JAX did not compute from the parameters")
        return result

    return checked


def described(result: Any) -> str:
    """Describe the result of a function, for messages."""
    if isinstance(result, tuple):
        return f"({', '.join(map(described, result))})"
    shape = getattr(result, "shape", None)
    return type(result).__name__ if shape is None else f"an array of shape {shape}"


def traced(what: str, call: str, function: Any, *args: Any) -> Any:
    """Trace a function, and say in one line what failed."""
    try:
        return jax.eval_shape(function, *args)
    except Exception as error:
        raise InputError(f"{what}: {call}, traced by JAX, failed: {one_line(error)}") from error


def like(tree: Any, axes: int = 1) -> Any:
    """Return structure, shapes without the first axes, and dtypes."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(np.shape(leaf)[axes:], canonical(leaf)) for leaf in leaves]


def canonical(x: Any) -> Any:
    """Return the dtype that JAX gives an array."""
    return jax.dtypes.canonicalize_dtype(x.dtype) if isinstance(x, np.ndarray) else x.dtype
