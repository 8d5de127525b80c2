"""A workload that a user wrote, found and tried out before anything is trained."""

import inspect
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.importing import imported, one_line
from jaxopt_lec.lab.workloads.workload import Data, Score, Workload

__all__ = ["find_own_workload", "try_out_workload"]

METHODS = ("initialize", "loss", "metric")
SETS = ("train", "validation", "test")
TRIED = 8  # examples of the mini-batch that it is tried out with


def find_own_workload(spec: str, data: Path | None) -> Workload:
    """Make the workload that `package.module:make` or `file.py:make` names.

    Args:
        spec: names a function without arguments, or with one argument `data`.
        data: what `make` gets as its argument.

    Raises:
        InputError: there is no such function, or what it makes is no workload.
    """
    make = imported("workload", spec)
    try:
        parameters = inspect.signature(make).parameters
    except ValueError as error:
        raise InputError(f"workload {spec!r}: {one_line(error)}") from error
    if "data" not in parameters and data is not None:
        raise InputError(f"workload {spec!r}: it takes no argument data (drop --data)")
    if "data" in parameters and data is None and parameters["data"].default is inspect.Parameter.empty:
        raise InputError(f"workload {spec!r}: it needs its data (--data PATH)")
    try:
        found = make(data=data) if data is not None else make()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"workload {spec!r}: making it failed: {one_line(error)}") from error
    return try_out_workload(found, f"workload {spec!r}")


def try_out_workload(found: Any, what: str) -> Workload:
    """Check that something has the protocol's parts, by tracing them with a mini-batch.

    The loss is differentiated and mapped over lanes, as in training.

    Raises:
        InputError: with the part that is missing or wrong.
    """
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
    if not isinstance(found.data, Data):
        raise InputError(f"{what}: its data are a {type(found.data).__name__}, not Data")
    for part in SETS:
        for leaf in jax.tree.leaves(getattr(found.data, part)):
            if not isinstance(leaf, np.ndarray | jax.Array):
                raise InputError(f"{what}: data.{part} has a {type(leaf).__name__}, not an array of NumPy or JAX")
            if leaf.dtype != bool and not jnp.issubdtype(leaf.dtype, jnp.number):
                raise InputError(f"{what}: data.{part} has an array of {leaf.dtype}, not of numbers")
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(getattr(found.data, part))}
        if len(lengths) != 1 or lengths & {(), (0,)}:
            raise InputError(
                f"{what}: the arrays of data.{part} need one first axis, of its examples; they have {lengths or 0}"
            )
    kinds = {part: like(getattr(found.data, part)) for part in SETS}
    if kinds["validation"] != kinds["train"] or kinds["test"] != kinds["train"]:
        raise InputError(f"{what}: the examples of its three sets differ in structure, shapes or dtypes")

    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((TRIED, *np.shape(x)[1:]), canonical(x)), found.data.train)
    key = jax.eval_shape(lambda: jax.random.key(0))
    model = traced(what, "initialize(key)", found.initialize, key)
    if not isinstance(model, tuple) or len(model) != 2:
        raise InputError(f"{what}: initialize(key) must return (params, state)")
    params, state = model
    floats = [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if not floats or len(floats) < len(jax.tree.leaves(params)):
        raise InputError(f"{what}: initialize(key) must return parameters that are all floating point arrays")
    result = traced(what, "loss(params, state, batch, key)", found.loss, params, state, batch, key)
    if not isinstance(result, tuple) or len(result) != 2 or getattr(result[0], "shape", None) != ():
        raise InputError(f"{what}: loss(params, state, batch, key) must return (a number, state)")
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
    return found


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
