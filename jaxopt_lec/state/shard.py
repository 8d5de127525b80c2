"""`shard`: where the state of any transformation stands on many devices."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxopt_lec import named_leaves
from jaxopt_lec.meshes import left_to_compiler_if_refused
from jaxopt_lec.state.patterns import by_pattern
from jaxopt_lec.state.places import Place, kept_axes, numbers, places
from jaxopt_lec.transformation import checked

__all__ = ["abstract", "shard", "shardings"]

PyTree: TypeAlias = Any
Axes: TypeAlias = str | tuple[str, ...]

# What no rule places may be replicated if it is small.
SMALL = 4096


def shardings(
    tx: optax.GradientTransformation,
    params: PyTree,
    of_params: PyTree = None,
    *,
    zero: Axes | None = None,
    memory_kind: str | None = None,
    rules: Mapping[str, PartitionSpec] | None = None,
) -> PyTree:
    """Return the shardings of `tx.init(params)`, for any transformation; nothing is allocated.

    A leaf of the state belongs to the parameter whose name its own ends in. Of the same shape, it is sharded like it; of a
    shape with axes left out or of length 1 (Adafactor's), like it in the axes that it has; scales of `compress` like their
    codes, where their blocks divide. Scalars, and what belongs to no parameter and is small, are replicated.

    Args:
        tx: any transformation.
        params: arrays, or their shapes and dtypes.
        of_params: their NamedShardings, as a tree like `params`, or one for all of them. Default: those of the arrays.
        zero: mesh axes over which the state is split besides, as in ZeRO-1, each leaf in its first axis that they divide.
        memory_kind: such as "pinned_host": where the state is kept. From JAX 0.10.2 on.
        rules: pattern → PartitionSpec: of leaves whose name the pattern is found in, before all else.

    Returns:
        A tree like the state, of NamedShardings. `jax.jit(tx.init, out_shardings=...)` makes a state so.

    Raises:
        ValueError: parameters without NamedShardings; more than one mesh; an axis that the mesh has not; a leaf of at least
            4,096 numbers that no rule places; a pattern that no leaf matches; a memory kind that the devices have not; a
            call inside `jax.shard_map` over the mesh.
        TypeError: what is no transformation.
    """
    treedef: Any
    state = jax.eval_shape(checked("shardings", tx).init, params)
    leaves, treedef = jax.tree.flatten(state)
    given = _given(params, of_params)
    mesh = _mesh(given)
    _check(mesh, zero, memory_kind)
    shapes = [jnp.shape(p) for p in jax.tree.leaves(params)]
    own = [_padded(s.spec, len(shape)) for s, shape in zip(given, shapes, strict=True)]
    found: list[PartitionSpec] = []
    at = places(state, params)
    for place, ruled in zip(at, by_pattern("shardings", rules or {}, [place.name for place in at]), strict=True):
        if ruled is not None:
            found.append(ruled)
        elif place.codes is not None:
            found.append(_of_scales(mesh, place.leaf.shape, leaves[place.codes].shape, found[place.codes]))
        else:
            found.append(_with_zero(mesh, _base(place, shapes, own), place.leaf.shape, zero))
    return treedef.unflatten(NamedSharding(mesh, spec, memory_kind=memory_kind) for spec in found)


def abstract(tx: optax.GradientTransformation, params: PyTree, of_params: PyTree = None, **options: Any) -> PyTree:
    """Return shapes, dtypes and shardings of `tx.init(params)`, for `restore`; arguments as for `shardings`."""
    state = jax.eval_shape(checked("abstract", tx).init, params)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        state,
        shardings(tx, params, of_params, **options),
    )


def shard(
    tx: optax.GradientTransformation,
    of_params: PyTree,
    *,
    zero: Axes | None = None,
    memory_kind: str | None = None,
    rules: Mapping[str, PartitionSpec] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Keep the state of `tx` where `shardings` says, in `init` and in every `update`; its numbers are untouched.

    With `zero`, each device computes its part of the updates and gathers the parts of the others: XLA then sums only that
    part of the gradients on each device. With a `memory_kind`, the state is fetched for the update and put back. On Explicit
    axes of the mesh, the default of `jax.make_mesh`, the arrays' types say how they are split: the updates have the types of
    the parameters.

    Args:
        tx: any transformation, `compress` and `master` included.
        of_params: the parameters' NamedShardings, as a tree like them, or one for all.
        zero, memory_kind, rules: as for `shardings`.

    Returns:
        A transformation with the state of `tx`. Errors: those of `shardings`.
    """
    tx = checked("shard", tx)

    def of_state(params: PyTree) -> PyTree:
        return shardings(tx, params, of_params, zero=zero, memory_kind=memory_kind, rules=rules)

    def init(params: PyTree) -> PyTree:
        where = of_state(params)
        if any(isinstance(p, jax.core.Tracer) for p in jax.tree.leaves(params)):
            # An inner `jit` with out_shardings, because a state made from shapes alone does not say which devices it is for.
            state = jax.jit(tx.init, out_shardings=_on_device(where))(params)
            return _put(state, where, memory_kind is not None)
        return jax.jit(tx.init, out_shardings=where)(params)

    def update(updates: PyTree, state: PyTree, params: PyTree | None = None, **extra: Any) -> tuple[PyTree, PyTree]:
        like = updates if params is None else params
        given = _given(like, of_params)
        mesh = _mesh(given)
        parts = [
            NamedSharding(mesh, _with_zero(mesh, _padded(s.spec, jnp.ndim(p)), jnp.shape(p), zero))
            for s, p in zip(given, jax.tree.leaves(like), strict=True)
        ]
        where = of_state(like)
        if memory_kind is not None:
            state = jax.tree.map(jax.device_put, state, _on_device(where))
        functions = {key: x for key, x in extra.items() if callable(x)}

        def of_arrays(updates: PyTree, state: PyTree, params: PyTree | None, extra: dict[str, Any]) -> tuple[PyTree, PyTree]:
            return tx.update(updates, state, params, **extra, **functions)

        before = (_put_leaves(like, updates, parts), state, params, {k: x for k, x in extra.items() if k not in functions})
        updates, state = left_to_compiler_if_refused(of_arrays, *before, like=before[:2])
        return _put_leaves(like, updates, given), _put(state, where, memory_kind is not None)

    return optax.GradientTransformationExtraArgs(init, update)


def _on_device(where: PyTree) -> PyTree:
    return jax.tree.map(lambda sharding: NamedSharding(sharding.mesh, sharding.spec), where)


def _put(tree: PyTree, where: PyTree, between_memories: bool) -> PyTree:
    # Inside a program, a constraint decides the sharding but not the memory.
    tree = jax.tree.map(_split, tree, _on_device(where))
    return jax.tree.map(jax.device_put, tree, where) if between_memories else tree


def _put_leaves(like: PyTree, tree: PyTree, where: list[NamedSharding]) -> PyTree:
    """The same for a tree in which a leaf may be missing."""
    treedef: Any = jax.tree.structure(like)
    leaves = treedef.flatten_up_to(tree)
    return treedef.unflatten(_split(x, s) if hasattr(x, "dtype") else x for x, s in zip(leaves, where, strict=True))


def _split(x: Any, where: NamedSharding) -> jax.Array:
    """Return the array with the sharding: under `jit`, Explicit axes become part of its type, and Auto axes a constraint."""
    mesh = where.mesh.abstract_mesh
    if not mesh.explicit_axes:
        return jax.lax.with_sharding_constraint(x, where)
    if not isinstance(x, jax.core.Tracer):
        return jax.device_put(x, where)
    x = jax.reshard(x, NamedSharding(where.mesh, _over(mesh.explicit_axes, where.spec)))
    if mesh.auto_axes:
        x = jax.lax.with_sharding_constraint(x, NamedSharding(where.mesh, _over(mesh.auto_axes, where.spec)))
    return x


def _over(axes: tuple[str, ...], spec: PartitionSpec) -> PartitionSpec:
    """Return the spec restricted to these axes of the mesh."""
    return PartitionSpec(*(tuple(axis for axis in _axes(entry) if axis in axes) or None for entry in spec))


def _given(params: PyTree, of_params: PyTree) -> list[NamedSharding]:
    treedef: Any
    leaves, treedef = jax.tree.flatten(params)
    found: list[Any]
    if isinstance(of_params, NamedSharding):
        found = [of_params] * len(leaves)
    elif of_params is None:
        found = [getattr(p, "sharding", None) for p in leaves]
    else:
        found = treedef.flatten_up_to(of_params)
    for (name, _), sharding in zip(named_leaves(params), found, strict=True):
        if not isinstance(sharding, NamedSharding):
            raise ValueError(f"shardings: {name or 'the parameter'} needs a NamedSharding, it has {sharding}")
    return found


def _mesh(given: list[NamedSharding]) -> Mesh:
    meshes = {sharding.mesh for sharding in given}
    if len(meshes) != 1:
        raise ValueError(f"shardings: the parameters must be on one mesh, they are on {len(meshes)}")
    (mesh,) = meshes
    manual = [axis for axis in jax.sharding.get_abstract_mesh().manual_axes if axis in mesh.axis_names]
    if manual:
        raise ValueError(
            f"shardings: inside jax.shard_map over {', '.join(manual)} each device has parts of its own; use the "
            "transformation itself there, or call shard's init and update outside"
        )
    return mesh  # type: ignore[return-value]


def _check(mesh: Mesh, zero: Axes | None, memory_kind: str | None) -> None:
    for axis in _axes(zero):
        if axis not in mesh.axis_names:
            raise ValueError(f"shardings: zero={axis!r} is no axis of the mesh; it has {', '.join(mesh.axis_names)}")
    if memory_kind is not None:
        device = mesh.devices.flat[0]
        kinds = [memory.kind for memory in device.addressable_memories()]
        if memory_kind not in kinds:
            raise ValueError(
                f"shardings: {device.device_kind} has no memory of kind {memory_kind!r}; it has {', '.join(kinds)}"
            )
        # Before, a compiled program of several devices kept its results where they were.
        if memory_kind != device.default_memory().kind and jax.__version_info__ < (0, 10, 2):
            raise ValueError(f"shardings: memory_kind needs JAX 0.10.2 or newer; this is {jax.__version__}")


def _axes(entry: Any) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def _padded(spec: PartitionSpec, ndim: int) -> PartitionSpec:
    return PartitionSpec(*spec, *[None] * (ndim - len(spec)))


def _shards(mesh: Mesh, entry: Any) -> int:
    return math.prod(mesh.shape[axis] for axis in _axes(entry))


def _base(place: Place, shapes: list[tuple[int, ...]], own: list[PartitionSpec]) -> PartitionSpec:
    leaf = place.leaf
    if place.parameter is not None:
        spec = own[place.parameter]
        ways = {
            PartitionSpec(*(None if axis is None else spec[axis] for axis in way))
            for way in kept_axes(leaf.shape, shapes[place.parameter])
        }
        if len(ways) == 1:
            return ways.pop()
        if ways:  # a row or a column of a square matrix: it cannot be told, and is small beside the matrix
            return PartitionSpec()
    if numbers(leaf) >= SMALL:
        raise ValueError(
            f"shardings: no rule places {place.name}, {leaf.dtype}{list(leaf.shape)}; give rules={{pattern: PartitionSpec}}"
        )
    return PartitionSpec()


def _of_scales(mesh: Mesh, scales: tuple[int, ...], codes: tuple[int, ...], spec: PartitionSpec) -> PartitionSpec:
    spec = _padded(spec, len(codes))
    shards = _shards(mesh, spec[-1])
    # Where no device has a part of a block.
    divides = scales[-1] % shards == 0 and codes[-1] % scales[-1] == 0
    return PartitionSpec(*spec[:-1], spec[-1] if divides else None)


def _with_zero(mesh: Mesh, spec: PartitionSpec, shape: tuple[int, ...], zero: Axes | None) -> PartitionSpec:
    """Return the spec with the axes of `zero` besides, on the first axis of the array that they divide, unsharded first."""
    used = {axis for entry in spec for axis in _axes(entry)}
    more = tuple(axis for axis in _axes(zero) if axis not in used)
    entries = list(_padded(spec, len(shape)))
    for k in sorted(range(len(shape)), key=lambda k: entries[k] is not None):
        if more and shape[k] and shape[k] % (_shards(mesh, entries[k]) * _shards(mesh, more)) == 0:
            together = (*_axes(entries[k]), *more)
            entries[k] = together if len(together) > 1 else together[0]
            break
    return PartitionSpec(*entries)
