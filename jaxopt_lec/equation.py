"""The lifter: an equation, and everything else written once.

`@equation` lifts an equation on one array to a gradient transformation over pytrees; `@tree_equation` lifts the few
methods that need the loss function itself, such as Newton's. Both give one state type, hyperparameters as data, extra
arguments, the compute-dtype policy, `None` and masked leaves, and errors that name the leaf.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Concatenate, NamedTuple, NoReturn, ParamSpec, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr, tree_flatten_with_path, tree_map_with_path

from jaxopt_lec.arithmetic import rests_of
from jaxopt_lec.foreign import kind_of, refuse_foreign
from jaxopt_lec.hoisting import Hoisted
from jaxopt_lec.hyperparameters import Signature, as_scalar
from jaxopt_lec.launches import worth_joining
from jaxopt_lec.meshes import in_mesh_of, left_to_compiler_if_refused, split_like, types_of_mesh
from jaxopt_lec.slots import Initialiser, compute_dtype, real_dtype
from jaxopt_lec.transformation import checked

__all__ = ["EquationState", "LeafCounts", "chain", "count_by_leaf", "equation", "masked", "tree_equation"]

PyTree: TypeAlias = Any
P = ParamSpec("P")

Factory: TypeAlias = Callable[P, optax.GradientTransformationExtraArgs]
# (g, s, p, t, *, hyperparameters) -> (direction, new slots)
Equation: TypeAlias = Callable[Concatenate[Any, Any, Any, Any, P], tuple[Any, dict[str, Any]]]
# (g, s, p, t, f, *, hyperparameters) -> (direction, new slots)
TreeEquation: TypeAlias = Callable[Concatenate[Any, Any, Any, Any, Any, P], tuple[Any, dict[str, Any]]]
# The computation of one `update`: (g, slots, p, t, hyper, rests, extra) -> (direction, slots), on whole trees.
Apply: TypeAlias = Callable[..., tuple[PyTree, dict[str, PyTree]]]

_ORDER = "the order is update(updates, state, params)"
_SWAPPED = f"an optimizer state came first; {_ORDER}"
_RESTORE = "restore a checkpoint onto jax.eval_shape(tx.init, params)"


class EquationState(NamedTuple):
    """The state of every lifted equation.

    Attributes:
        count: number of updates so far, int32 scalar; the equation sees t = count + 1. Under `count_by_leaf`, `LeafCounts`.
        hyper: name → scalar array, the value in force of each numeric hyperparameter, at least float32. Where a number was
            given, what stands here is what the next update uses; a schedule or a `jax.Array` stays in force as given, so
            that a transformation made anew in each step, as by `optax.inject_hyperparams`, obeys its arguments.
        slots: name → tree shaped like the parameters.
    """

    count: jax.Array | LeafCounts  # type: ignore[assignment]  # the field hides tuple.count
    hyper: dict[str, jax.Array]
    slots: dict[str, PyTree]


class LeafCounts(NamedTuple):
    """The count of an `EquationState` under `count_by_leaf`.

    Attributes:
        updates: number of updates so far, int32 scalar; schedules follow it.
        leaves: tree shaped like the parameters: how many of those updates had a gradient for the leaf, int32 scalars.
    """

    updates: jax.Array
    leaves: PyTree


def equation(**slots: Initialiser) -> Callable[[Equation[P]], Factory[P]]:
    """Lift an equation on one array to a factory of gradient transformations.

    The decorated function takes `(g, s, p, t)` by position, all of one leaf: the gradient; the slots, as attributes; the
    parameter, `None` if `update` was not given any; the number of the step from 1, as a real scalar. It returns the new
    direction and a dict of the new slots. Keyword-only arguments are

    - with a float as default, a numeric hyperparameter: a number, a scalar array or a schedule (a function of the
      0-based step count). It is data: it lives in the state, and is set, vmapped and differentiated there. Annotate it
      with `Decay` or `NonNegative` to have its range checked;
    - with a bool, int, string or `None` as default, a static hyperparameter;
    - without a default, an extra argument that `update(..., name=...)` must be given: an array, or a tree shaped like the
      gradients, of which the equation sees its leaf. Other extra arguments are ignored.

    The equation computes in float32, or in float64 or complex where the gradient or parameter is; slots keep their dtype;
    the direction comes back in the gradient's dtype. Leaves of equal shape are traced once. A gradient that is `None` or
    masked passes through and leaves its slots as they are, while `count` goes on.

    Args:
        **slots: name → initialiser, from `jaxopt_lec.slots` or a function `(p, hyper) -> array`.

    Returns:
        A decorator; the decorated name takes the hyperparameters by keyword and returns an
        `optax.GradientTransformationExtraArgs` whose state is an `EquationState`.

    Raises:
        TypeError: unknown hyperparameter, wrong type, integer or complex/real-mixed leaf, another optimizer's state.
        ValueError: hyperparameter out of range, mismatched trees or shapes (with the path), missing `params` or extra.
    """

    def decorate(function: Equation[P]) -> Factory[P]:
        return _factory(function, Signature.of(function, ("g", "s", "p", "t")), slots, _over_leaves)

    return decorate


def tree_equation(**slots: Initialiser) -> Callable[[TreeEquation[P]], Factory[P]]:
    """Lift an equation that needs the loss function, and so the whole tree: `(g, s, p, t, f, *, hyperparameters)`.

    As `equation`, but `g`, the slots and `p` are whole trees, and `f` is the loss as a function of a tree like `p`: what
    `update(updates, state, params, value_fn=...)` was given, with those extra arguments bound that it has by name, as
    Optax's line searches do. `params` and `value_fn` must be given.
    """

    def decorate(function: TreeEquation[P]) -> Factory[P]:
        signature = Signature.of(function, ("g", "s", "p", "t", "f"))
        return _factory(function, dataclasses.replace(signature, extra=(*signature.extra, "value_fn")), slots, _over_tree)

    return decorate


def chain(name: str, *atoms: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Return `optax.chain(*atoms)`, with an `update` that says what is wrong with a state that is not its own.

    Raises:
        TypeError: the state and the updates are swapped, or the state is not one that `init` made.
    """
    inner = optax.with_extra_args_support(optax.chain(*atoms))

    def update(updates: PyTree, state: Any, params: PyTree | None = None, **extra: Any) -> tuple[PyTree, Any]:
        if isinstance(updates, tuple) and any(isinstance(part, EquationState) for part in updates):
            raise TypeError(f"{name}: {_SWAPPED}")
        if not isinstance(state, tuple) or isinstance(state, EquationState) or len(state) != len(atoms):
            has = f"a {type(state).__name__}" + (f" of {len(state)}" if isinstance(state, tuple | list) else "")
            raise TypeError(
                f"{name}: the state is {has}, expected the tuple of {len(atoms)} states made by this optimizer's init; "
                f"{_RESTORE}"
            )
        return inner.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def masked(name: str, tx: optax.GradientTransformation, mask: Any) -> optax.GradientTransformation:
    """Return `optax.masked(tx, mask)`, or `tx` where `mask` is `None`.

    If `mask` is a function, it gets the parameters in `update` too, not the updates, because some updates may be missing.

    Raises:
        TypeError: the mask, or what it returns if it is a function, is not of bools, such as the name of a parameter.
    """

    def of_bools(tree: PyTree) -> PyTree:
        for path, x in tree_flatten_with_path(tree)[0]:
            if not isinstance(x, bool) and getattr(x, "dtype", None) != jnp.dtype("bool"):
                raise TypeError(
                    f"{name}: mask must be a tree of bools like the parameters, or a function from them to one; at "
                    f"{_path(path)} it has {x!r}"
                )
        return tree

    if mask is None:
        return tx
    if not (jax.tree_util.all_leaves([mask]) and callable(mask)):
        return optax.masked(tx, of_bools(mask))

    def by_function(tree: PyTree) -> PyTree:
        return of_bools(mask(tree))

    def update(updates: PyTree, state: Any, params: PyTree | None = None, **extra: Any) -> tuple[PyTree, Any]:
        tree = updates if params is None else params
        return optax.masked(tx, by_function(tree)).update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(optax.masked(tx, by_function).init, update)


def count_by_leaf(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Give each leaf a step number of its own, that of its gradients: one that is `None` is no step for its leaf.

    PyTorch counts so: a parameter without a gradient keeps its step number, and with it its bias correction. Without this,
    all leaves share the number of the tree's updates. Schedules follow the tree's updates in both.

    Args:
        tx: any transformation; those of its states that are an `EquationState` with slots change their `count`.

    Returns:
        The transformation, whose `init` counts by leaves, and whose `update`, given `params`, returns zeros for `None`, so
        that `optax.apply_updates` accepts them. Errors: TypeError if `tx` is not a transformation, and from the update of a
        `tree_equation` with slots.
    """
    tx = checked("count_by_leaf", tx)

    def by_leaf(state: Any) -> Any:
        if not isinstance(state, EquationState) or not state.slots:
            return state
        leaves = jax.tree.map(lambda _: jnp.zeros((), jnp.int32), next(iter(state.slots.values())))
        return state._replace(count=LeafCounts(jnp.zeros((), jnp.int32), leaves))

    def init(params: PyTree) -> Any:
        return jax.tree.map(by_leaf, tx.init(params), is_leaf=lambda state: isinstance(state, EquationState))

    def update(updates: PyTree, state: Any, params: PyTree | None = None, **extra: Any) -> tuple[PyTree, Any]:
        updates, state = tx.update(updates, state, params, **extra)
        if params is not None:
            updates = jax.tree.map(
                lambda u, p: jnp.zeros_like(p) if u is None and not _is_hole(p) else u, updates, params, is_leaf=_is_hole
            )
        return updates, state

    return optax.GradientTransformationExtraArgs(init, update)


def _factory(
    function: Callable[..., Any],
    signature: Signature,
    initialisers: Mapping[str, Initialiser],
    engine: Callable[[Signature, Callable[..., Any]], Apply],
) -> Factory[P]:
    name = signature.name
    for slot, born in initialisers.items():
        if not callable(born):
            raise TypeError(f"{name}: slot {slot!r} needs an initialiser, a function (p, hyper) -> array, got {born!r}")

    # Numeric hyperparameters are data, so all transformations of one equation share what was traced. The cache is a dict,
    # because cloudpickle can pickle a factory that holds one, but not a factory that holds a functools.cache.
    engines: dict[Any, Apply] = {}

    def applying(**static: Any) -> Apply:
        key = tuple((name, type(value), value) for name, value in static.items())  # with the type, because 1 == True
        if key not in engines:
            engines[key] = engine(signature, functools.partial(function, **static))
        return engines[key]

    @functools.wraps(function)
    def factory(*args: P.args, **hyperparameters: P.kwargs) -> optax.GradientTransformationExtraArgs:
        if args:
            raise TypeError(f"{name} takes its hyperparameters by keyword only, got {len(args)} by position")
        numeric, static = signature.check(hyperparameters)
        given = {key: value for key, value in numeric.items() if callable(value) or isinstance(value, jax.Array)}
        apply = applying(**static)

        def init(params: PyTree) -> EquationState:
            _check_params(name, params)
            count = jnp.zeros((), jnp.int32)
            hyper = signature.values(numeric, count)

            def newborn(slot: str, path: Any, p: Any) -> jax.Array:
                try:
                    with types_of_mesh(p):
                        x = initialisers[slot](_array(p), hyper)
                    if not hasattr(x, "dtype"):
                        raise TypeError(f"the initialiser returned {x!r}, not an array")
                except Exception as error:
                    _raise_located(error, f"{name}: slot {slot!r} at {_path(path)}")
                return x

            new = {slot: tree_map_with_path(functools.partial(newborn, slot), params) for slot in initialisers}
            return EquationState(count, hyper, new)

        def update(
            updates: PyTree, state: EquationState, params: PyTree | None = None, **extra: Any
        ) -> tuple[PyTree, EquationState]:
            _check_state(name, updates, state, numeric, initialisers)
            for key in signature.extra:
                if key not in extra:
                    raise ValueError(f"{name} needs the extra argument {key!r}: update(updates, state, params, {key}=...)")
            hyper = {key: as_scalar(value) for key, value in state.hyper.items()}
            # Every dtype is cast on the way in and out, so the user's strict promotion need not reach an equation's real
            # factors on complex arrays.
            with jax.named_scope(name), jax.numpy_dtype_promotion("standard"):
                updates_so_far = state.count.updates if isinstance(state.count, LeafCounts) else state.count
                in_force = signature.at(given, updates_so_far)
                hyper |= signature.values(in_force, updates_so_far)
                count = _incremented(name, state.count, updates)
                rests = signature.rests({**numeric, **in_force}, hyper)
                directions, slots = apply(updates, state.slots, params, count, hyper, rests, extra)
            return directions, EquationState(count, hyper, slots)

        return optax.GradientTransformationExtraArgs(init, update)

    # The hyperparameters are what is called: inspect.signature and help() show them, not (g, s, p, t).
    shown = [q for q in inspect.signature(function).parameters.values() if q.name in (*signature.numeric, *signature.static)]
    factory.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        shown, return_annotation=optax.GradientTransformationExtraArgs
    )
    return factory


def _incremented(name: str, count: jax.Array | LeafCounts, updates: PyTree) -> jax.Array | LeafCounts:
    if not isinstance(count, LeafCounts):
        return optax.safe_increment(count)
    treedef: Any
    gs, treedef = jax.tree.flatten(updates, is_leaf=_is_hole)
    olds = _flatten_up_to(name, treedef, updates, count.leaves, "the step counts")
    news = [n if _is_hole(g) else optax.safe_increment(n) for g, n in zip(gs, olds, strict=True)]
    return LeafCounts(optax.safe_increment(count.updates), treedef.unflatten(news))


def _leaves(
    name: str, updates: PyTree, params: PyTree | None, slots: Mapping[str, PyTree]
) -> tuple[Any, list[Any], list[Any], dict[str, list[Any]]]:
    """Return the tree of the updates, and their leaves, those of the parameters and those of the slots in its order."""
    treedef: Any
    gs, treedef = jax.tree.flatten(updates, is_leaf=_is_hole)
    ps = [None] * len(gs) if params is None else _flatten_up_to(name, treedef, updates, params, "params")
    olds = {slot: _flatten_up_to(name, treedef, updates, tree, f"slot {slot!r}") for slot, tree in slots.items()}
    return treedef, gs, ps, olds


def _over_leaves(signature: Signature, function: Callable[..., Any]) -> Apply:
    name = signature.name

    def on_leaf(scalars: tuple[Any, ...], arrays: tuple[Any, ...]) -> tuple[jax.Array, dict[str, jax.Array]]:
        (t, hyper, rests), (g, slots, p, extra) = scalars, arrays
        dtype = compute_dtype(g.dtype, *([] if p is None else [p.dtype]))
        real = real_dtype(dtype)
        narrow = {key: x.astype(real) for key, x in hyper.items()}
        with rests_of(narrow, rests if real == jnp.float32 else {}):
            result = function(
                g.astype(dtype),
                SimpleNamespace(**{slot: _widened(x, real) for slot, x in slots.items()}),
                None if p is None else p.astype(dtype),
                t.astype(real),
                **narrow,
                **extra,
            )
        direction, new = _direction_and_slots(result, slots)
        return (
            _fitted("the direction", direction, g),
            {slot: _fitted(f"slot {slot!r}", new[slot], x) for slot, x in slots.items()},
        )

    hoisted, compiled = Hoisted(name, on_leaf), jax.jit(on_leaf)

    def apply(
        updates: PyTree,
        slots: dict[str, PyTree],
        params: PyTree | None,
        count: jax.Array | LeafCounts,
        hyper: dict[str, jax.Array],
        rests: dict[str, jax.Array],
        extra: Mapping[str, Any],
    ) -> tuple[PyTree, dict[str, PyTree]]:
        treedef, gs, ps, olds = _leaves(name, updates, params, slots)
        extras = _split_extra(name, treedef, updates, {key: extra[key] for key in signature.extra})
        if isinstance(count, LeafCounts):
            scalars = [(t, hyper, rests) for t in treedef.flatten_up_to(count.leaves)]
            equation_on = [hoisted.with_scalars(of_leaf) for of_leaf in scalars]
        else:
            scalars = [(count, hyper, rests)] * len(gs)
            alone, together = (hoisted.with_scalars((count, hyper, rests), several) for several in (False, True))
            small = worth_joining(jnp.shape(g) for g in gs if not _is_hole(g))
            equation_on = [together if not _is_hole(g) and jnp.shape(g) in small else alone for g in gs]
        directions, news = [], {slot: list(leaves) for slot, leaves in olds.items()}
        for i, (g, p) in enumerate(zip(gs, ps, strict=True)):
            if _is_hole(g):
                directions.append(g)
                continue
            old = {slot: leaves[i] for slot, leaves in olds.items()}
            leaf = (_array(g), old, _array(p), {key: at(i) for key, at in extras.items()})
            try:
                _check_leaf(*leaf[:3], params is not None)
                hoisting = functools.partial(equation_on[i], leaf)
                direction, new = left_to_compiler_if_refused(compiled, scalars[i], leaf, like=leaf[:2], first=hoisting)
            except Exception as error:
                if params is None and _reads_p(on_leaf, (jnp.ones(()), hyper, rests), leaf):
                    raise ValueError(f"{name} needs params: call update(updates, state, params)") from error
                _raise_located(error, f"{name}: at {_path_of(i, updates)}")
            directions.append(direction)
            for slot, x in new.items():
                news[slot][i] = x
        return treedef.unflatten(directions), {slot: treedef.unflatten(leaves) for slot, leaves in news.items()}

    return apply


def _over_tree(signature: Signature, function: Callable[..., Any]) -> Apply:
    name = signature.name

    def apply(
        updates: PyTree,
        slots: dict[str, PyTree],
        params: PyTree | None,
        count: jax.Array | LeafCounts,
        hyper: dict[str, jax.Array],
        rests: dict[str, jax.Array],
        extra: Mapping[str, Any],
    ) -> tuple[PyTree, dict[str, PyTree]]:
        if params is None:
            raise ValueError(f"{name} needs params: call update(updates, state, params)")
        if isinstance(count, LeafCounts):
            raise TypeError(f"{name} needs all gradients in each step: count_by_leaf does not apply")
        value_fn = extra["value_fn"]
        if not callable(value_fn):
            raise TypeError(f"{name}: value_fn must be a function of the parameters, got {value_fn!r}")
        treedef, gs, ps, olds = _leaves(name, updates, params, slots)
        for i, (g, p) in enumerate(zip(gs, ps, strict=True)):
            try:
                if isinstance(g, optax.MaskedNode) or (g is None and p is not None):
                    missing = "None" if g is None else "masked"
                    raise ValueError(f"the gradient is {missing}; the loss function needs every parameter")
                if g is not None:
                    _check_leaf(_array(g), {slot: leaves[i] for slot, leaves in olds.items()}, _array(p), True)
            except Exception as error:
                _raise_located(error, f"{name}: at {_path_of(i, updates)}")
        if not any(jnp.size(g) for g in jax.tree.leaves(updates)):
            return updates, slots  # no element can move, and not every solver accepts an empty system
        real = real_dtype(compute_dtype(*(_array(x).dtype for x in jax.tree.leaves((updates, params)))))
        widen = functools.partial(jax.tree.map, lambda x: _widened(_array(x), real))
        loss = functools.partial(value_fn, **accepted_by(value_fn, extra))

        def scalar_loss(p: PyTree) -> Any:
            value = loss(split_like(p, params))
            shape = jax.tree.map(jnp.shape, value)
            if shape != ():
                raise ValueError(f"{name}: value_fn must return a scalar, got shape {shape}")
            return value

        def fitted(what: str, tree: PyTree, likes: list[Any]) -> PyTree:
            xs = _flatten_up_to(name, treedef, updates, tree, what)
            for i, (x, like) in enumerate(zip(xs, likes, strict=True)):
                try:
                    xs[i] = like if _is_hole(like) else _fitted(what, x, _array(like))
                except Exception as error:
                    _raise_located(error, f"{name}: at {_path_of(i, updates)}")
            return treedef.unflatten(xs)

        with in_mesh_of((updates, params)):
            result = function(
                widen(updates),
                SimpleNamespace(**widen(slots)),
                widen(params),
                count.astype(real),
                scalar_loss,
                **{key: x.astype(real) for key, x in hyper.items()},
                **{key: extra[key] for key in signature.extra if key != "value_fn"},
            )
        try:
            directions, new = _direction_and_slots(result, slots)
        except (TypeError, ValueError) as error:
            _raise_located(error, name)
        return (
            fitted("the direction", directions, gs),
            {slot: fitted(f"the new slot {slot!r}", new[slot], old) for slot, old in olds.items()},
        )

    return apply


def accepted_by(function: Callable[..., Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the extra arguments that `function` has by name; all but the line searches' own for `**kwargs`."""
    parameters = inspect.signature(function).parameters.values()
    if any(q.kind is q.VAR_KEYWORD for q in parameters):
        return {name: x for name, x in extra.items() if name not in ("value", "grad", "value_fn")}
    return {q.name: extra[q.name] for q in parameters if q.name in extra}


def _is_hole(x: Any) -> bool:
    return x is None or isinstance(x, optax.MaskedNode)


def _path(path: Any) -> str:
    return repr(keystr(path, simple=True, separator="/")) if path else "the only leaf"


def _path_of(i: int, updates: PyTree) -> str:
    return _path(tree_flatten_with_path(updates, is_leaf=_is_hole)[0][i][0])


def _widened(x: jax.Array, real: jnp.dtype) -> jax.Array:
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return x  # a slot of counts or keys is the equation's own business
    return x.astype(compute_dtype(x.dtype, real))


def _direction_and_slots(result: Any, slots: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return what an equation returned, or say how it is not what it should be."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TypeError("the equation must return (direction, {slot: array, ...})")
    if set(result[1]) != set(slots):
        raise ValueError(f"the equation returned the slots {sorted(result[1])}, declared are {sorted(slots)}")
    return result


def _fitted(what: str, x: Any, like: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    if x.shape != like.shape:
        raise ValueError(f"{what} came out with shape {x.shape}, expected {like.shape}")
    if jnp.iscomplexobj(x) and not jnp.iscomplexobj(like):
        raise TypeError(f"{what} came out complex, expected {like.dtype}")
    return split_like(x.astype(jax.dtypes.canonicalize_dtype(like.dtype)), like)


def _array(x: Any) -> Any:
    """Return a Python number as an array, and everything else as it is."""
    return jnp.asarray(x) if isinstance(x, int | float | complex) else x


def _raise_located(error: Exception, where: str) -> NoReturn:
    """Raise an error of the same kind that says where; kinds that are not about values keep their own message."""
    if isinstance(error, TypeError | ValueError):
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{where}: {error}") from error
    error.add_note(where)
    raise error


def _reads_p(on_leaf: Callable[..., Any], scalars: Any, leaf: tuple[Any, ...]) -> bool:
    """Whether an equation that failed without a parameter works with one."""
    g, slots, _, extra = leaf
    try:
        jax.eval_shape(on_leaf, scalars, (g, slots, g, extra))
    except Exception:
        return False
    return True


def _check_params(name: str, params: PyTree) -> None:
    for path, p in tree_flatten_with_path(params)[0]:
        refuse_foreign(f"{name}: parameter at {_path(path)}", p)
        dtype = getattr(_array(p), "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            is_a = f"is {p!r}" if isinstance(p, str) else f"is a {kind_of(p)}"  # a model's repr is long
            has = is_a if dtype is None else f"has dtype {dtype}"
            raise TypeError(
                f"{name}: parameter at {_path(path)} {has}; only floating-point and complex arrays can be optimized: leave "
                "it out with optax.masked or optax.partition"
            )


def _check_state(name: str, updates: PyTree, state: Any, numeric: Mapping[str, Any], slots: Mapping[str, Any]) -> None:
    if isinstance(updates, EquationState):
        raise TypeError(f"{name}: {_SWAPPED}")
    if not isinstance(state, EquationState):
        hint = f"; {_RESTORE}" if isinstance(state, dict) else ""
        raise TypeError(
            f"{name}: the state is a {type(state).__name__}, expected the EquationState made by this transformation's "
            f"init{hint}"
        )
    if set(state.slots) != set(slots) or set(state.hyper) != set(numeric):
        raise TypeError(
            f"{name}: this state belongs to another optimizer: it has slots {sorted(state.slots)} and hyperparameters "
            f"{sorted(state.hyper)}, expected {sorted(slots)} and {sorted(numeric)}"
        )


def _check_leaf(g: Any, slots: Mapping[str, Any], p: Any, has_params: bool) -> None:
    refuse_foreign("the gradient", g)
    if not hasattr(g, "dtype"):
        raise TypeError(f"the gradient is {g!r}, not an array")
    if not jnp.issubdtype(g.dtype, jnp.inexact):
        raise TypeError(f"the gradient has dtype {g.dtype}; only floating-point and complex ones can be used")
    for what, x in ((f"slot {slot!r}", x) for slot, x in slots.items()):
        if not hasattr(x, "dtype"):
            raise ValueError(f"there is a gradient, but {what} is {x!r}")
    if has_params:
        refuse_foreign("the parameter", p)
        if not hasattr(p, "dtype"):
            raise ValueError(f"there is a gradient, but the parameter is {p!r}")
        if p.shape != g.shape:
            raise ValueError(f"the gradient has shape {g.shape}, the parameter {p.shape}")
        if jnp.iscomplexobj(p) != jnp.iscomplexobj(g):
            raise TypeError(f"the gradient is {g.dtype}, the parameter {p.dtype}: one is complex, the other is not")


def _flatten_up_to(name: str, treedef: Any, updates: PyTree, tree: PyTree, what: str) -> list[Any]:
    try:
        return treedef.flatten_up_to(tree)
    except ValueError as error:
        raise ValueError(f"{name}: updates and {what} are different trees: {_difference(updates, tree, what)}") from error


def _difference(updates: PyTree, tree: PyTree, what: str) -> str:
    ours, theirs = ([_path(path) for path, _ in tree_flatten_with_path(t, is_leaf=_is_hole)[0]] for t in (updates, tree))
    for path in ours:
        if path not in theirs:
            return f"updates have a leaf {path}, {what} has none there"
    for path in theirs:
        if path not in ours:
            return f"{what} has a leaf {path}, updates have none there"
    return f"same leaves, other containers: {jax.tree.structure(updates)} and {jax.tree.structure(tree)}"


def _split_extra(name: str, treedef: Any, updates: PyTree, extra: Mapping[str, Any]) -> dict[str, Callable[[int], Any]]:
    """Return, for each extra argument, the function from a leaf's number to what that leaf's equation sees."""

    def whole_or_leaf(key: str, x: Any) -> Callable[[int], Any]:
        if any(callable(leaf) for leaf in jax.tree.leaves(x)):
            raise TypeError(f"{name}: extra argument {key!r} is a function; only a tree_equation can take one")
        if jax.tree_util.all_leaves([x]):
            return lambda i: x
        leaves = _flatten_up_to(name, treedef, updates, x, f"extra argument {key!r}")
        return lambda i: leaves[i]

    return {key: whole_or_leaf(key, x) for key, x in extra.items()}
