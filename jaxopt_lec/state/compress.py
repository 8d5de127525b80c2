"""`compress`: the state of any transformation, kept encoded between steps."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import ClosedJaxpr, Literal
from jax.sharding import PartitionSpec

from jaxopt_lec import named_leaves
from jaxopt_lec.meshes import left_to_compiler_if_refused, spec_of
from jaxopt_lec.state.codecs import Codec, blockwise_8bit
from jaxopt_lec.state.patterns import by_pattern
from jaxopt_lec.state.stochastic_rounding import seed_of
from jaxopt_lec.transformation import checked

__all__ = ["CompressState", "Format", "compress", "decompress"]

PyTree: TypeAlias = Any
Where: TypeAlias = Callable[[str, jax.ShapeDtypeStruct], bool]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Format:
    """How the leaves of a state are encoded, in the order of `jax.tree.leaves`: part of its structure, not of its data.

    Attributes:
        leaves: the codec and the leaf's own dtype; `None` for a leaf that stands as it is.
    """

    leaves: "tuple[tuple[Codec, jnp.dtype] | None, ...]"


class CompressState(NamedTuple):
    """The state of `compress`.

    Attributes:
        count: number of updates so far, int32 scalar; the noise of stochastic rounding is made from it.
        codes: the state of the transformation, with codes in the place of the chosen leaves, of the same shapes: they are
            named and sharded as these were.
        scales: for each chosen leaf, in order: float32 array, one number for each block of the last axis, or `None`.
        format: what is needed to read them.
    """

    count: jax.Array  # type: ignore[assignment]  # the field hides tuple.count
    codes: PyTree
    scales: tuple[jax.Array | None, ...]
    format: Format


def compress(
    tx: optax.GradientTransformation,
    codec: Codec | Mapping[str, Codec | None] = blockwise_8bit,
    where: Where | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Keep the state of `tx` encoded between steps: state = encode(update(decode(state))).

    With the 8-bit codec the two moments of Adam take 2.06 bytes for each parameter, in place of 8.

    Args:
        tx: any transformation; its `update` sees float32 state, and computes what it always did.
        codec: `state.blockwise_8bit`, `state.bfloat16` or your own; or pattern → codec or `None`, where the first pattern
            found in a leaf's name decides, and a leaf without one stays as it is. `state.inspect` shows the names.
        where: `(name, shape and dtype) -> bool`, which leaves are encoded at all. Default: real floating ones of at least
            4,096 numbers, 16 along the last axis, that do not start as a copy of a parameter, as the iterates of
            `optax.contrib.schedule_free` do. Averages that start at zero, such as `asgd`'s, must be left out by you.

    Returns:
        A transformation with a `CompressState`. Each step rounds stochastically, and repeats exactly from the same state.
        `state.decompress` gives the state of `tx`.

    Raises:
        ValueError: a pattern that no leaf of the state matches; a leaf without axes chosen.
        TypeError: no transformation or codec; a leaf chosen that is not real and floating; a state that `compress`
            did not make.
    """
    for one in codec.values() if isinstance(codec, Mapping) else [codec]:
        if not isinstance(one, Codec) and not (one is None and isinstance(codec, Mapping)):
            raise TypeError(f"compress: {one!r} is no codec, such as state.blockwise_8bit")
    tx = checked("compress", tx)

    def init(params: PyTree) -> CompressState:
        inner = tx.init(params)
        copies = [False] * len(jax.tree.leaves(inner)) if where else _copies(tx.init, params)
        chosen = _chosen(codec, where or _is_large, named_leaves(inner), copies)
        return _encoded(inner, chosen, jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: CompressState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, CompressState]:
        if not isinstance(state, CompressState):
            raise TypeError(f"compress: the state is a {type(state).__name__}, expected the CompressState made by its init")
        updates, inner = tx.update(updates, _decoded(state), params, **extra)
        return updates, _encoded(inner, state.format, optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def decompress(state: PyTree) -> PyTree:
    """Return the state as it is without `compress`: each `CompressState` replaced by what it holds, decoded."""

    def is_compressed(x: Any) -> bool:
        return isinstance(x, CompressState)

    return jax.tree.map(lambda x: decompress(_decoded(x)) if is_compressed(x) else x, state, is_leaf=is_compressed)


def _encoded(inner: PyTree, format: Format, count: jax.Array) -> CompressState:
    treedef: Any
    leaves, treedef = jax.tree.flatten(inner)
    if len(leaves) != len(format.leaves):
        raise ValueError(f"compress: update gave a state of {len(leaves)} leaves, it was given one of {len(format.leaves)}")
    scales = []
    for place, chosen in enumerate(format.leaves):
        if chosen is not None:
            x, encode = leaves[place], functools.partial(_encode, chosen[0])
            rows = PartitionSpec(*spec_of(x)[:-1], None)  # a block may span the parts of a row on several devices
            leaves[place], scale = left_to_compiler_if_refused(encode, x, seed_of(count, place), like=(x, rows))
            scales.append(scale)
    return CompressState(count, treedef.unflatten(leaves), tuple(scales), format)


def _decoded(state: CompressState) -> PyTree:
    treedef: Any
    leaves, treedef = jax.tree.flatten(state.codes)
    scales = iter(state.scales)
    for place, chosen in enumerate(state.format.leaves):
        if chosen is not None:
            codes, decode = leaves[place], functools.partial(_decode, *chosen)
            leaves[place] = left_to_compiler_if_refused(decode, codes, next(scales), like=codes)
    return treedef.unflatten(leaves)


# Jits, for their cache: leaves of equal shape are traced once.
@functools.partial(jax.jit, static_argnums=0)
def _encode(codec: Codec, x: jax.Array, seed: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    return codec.encode(x.astype(jnp.float32), seed)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decode(codec: Codec, dtype: jnp.dtype, codes: jax.Array, scales: jax.Array | None) -> jax.Array:
    return codec.decode(codes, scales).astype(dtype)


def _is_large(name: str, leaf: jax.ShapeDtypeStruct) -> bool:
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return floating and math.prod(leaf.shape) >= 4096 and leaf.shape[-1] >= 16


def _chosen(
    codec: Codec | Mapping[str, Codec | None], where: Where, named: list[tuple[str, Any]], copies: list[bool]
) -> Format:
    names = [name for name, _ in named]
    said = by_pattern("compress", codec, names) if isinstance(codec, Mapping) else [codec] * len(names)
    leaves: list[tuple[Codec, jnp.dtype] | None] = []
    for (name, x), copy, its in zip(named, copies, said, strict=True):
        leaf = jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x))
        wanted = its if where(name, leaf) and not copy and math.prod(leaf.shape) else None
        if wanted is not None and not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"compress: {name} is {leaf.dtype}; real floating leaves can be encoded")
        if wanted is not None and not leaf.shape:
            raise ValueError(f"compress: {name} is a scalar; leaves with an axis can be encoded")
        leaves.append(None if wanted is None else (wanted, leaf.dtype))
    return Format(tuple(leaves))


def _copies(init: Callable[[PyTree], PyTree], params: PyTree) -> list[bool]:
    """Return for each leaf of `init(params)` whether it is made from the parameters' values, and not from their shapes."""

    def depends(program: ClosedJaxpr, known: list[bool]) -> list[bool]:
        made_from = dict(zip(program.jaxpr.invars, known, strict=True))

        def is_made_from(v: Any) -> bool:
            return not isinstance(v, Literal) and made_from.get(v, False)

        for operation in program.jaxpr.eqns:
            inputs = [is_made_from(v) for v in operation.invars]
            inside = operation.params.get("jaxpr")
            if isinstance(inside, ClosedJaxpr) and len(inside.jaxpr.invars) == len(inputs):
                outputs = depends(inside, inputs)
            else:
                outputs = [any(inputs)] * len(operation.outvars)
            made_from.update(zip(operation.outvars, outputs, strict=True))
        return [is_made_from(v) for v in program.jaxpr.outvars]

    program = jax.make_jaxpr(init)(params)
    return depends(program, [True] * len(program.jaxpr.invars))
