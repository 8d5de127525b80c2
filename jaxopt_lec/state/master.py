"""`master`: low-precision parameters trained with the accuracy of wide ones."""

import functools
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxopt_lec import named_leaves
from jaxopt_lec.foreign import refuse_foreign
from jaxopt_lec.state.stochastic_rounding import random_bits, seed_of, to_bfloat16
from jaxopt_lec.transformation import checked

__all__ = ["MasterState", "apply_updates", "master", "master_parameters"]

PyTree: TypeAlias = Any


class MasterState(NamedTuple):
    """The state of `master`.

    Attributes:
        count: number of updates so far, int32 scalar; the noise of stochastic rounding is made from it.
        corrections: tree shaped like the parameters: int8 or int16 for each bfloat16 one, `None` for others.
        inner: the state of the transformation.
    """

    count: jax.Array  # type: ignore[assignment]  # the field hides tuple.count
    corrections: PyTree
    inner: PyTree


def master(tx: optax.GradientTransformation, bits: Literal[24, 32] = 24) -> optax.GradientTransformationExtraArgs:
    """Train bfloat16 parameters as if they had `bits` bits: θ = p + correction, of which the state keeps the correction.

    Beside the parameter p stand the bits that it lacks, as an integer c: as integers too, the bits of θ are
    2¹⁶ p + 2⁸ c (24) or 2¹⁶ p + c (32), and p is θ rounded to the nearest. `tx` sees θ and the gradients in float32. At 32
    bits the numbers are those of float32 parameters; at 24 bits (a significand of 16) θ is rounded stochastically.

    Args:
        tx: any transformation. It must be the whole optimizer: what comes after it would undo the rounding.
        bits: 24, for one byte of correction, or 32, for two.

    Returns:
        A transformation with a `MasterState`, whose `update` needs `params` and returns float32 updates with which
        `optax.apply_updates` lands on the new p. Parameters other than bfloat16 are trained as they are.
        `master_parameters` gives θ.

    Raises:
        ValueError: other `bits`; no `params`; no bfloat16 parameter at `init`; parameters of another tree or shape later.
        TypeError: what is no transformation; a float16 or float8 parameter; one whose dtype changed; a state that `master`
            did not make.
    """
    if bits not in (24, 32):
        raise ValueError(f"master: bits must be 24 or 32, got {bits!r}")
    tx = checked("master", tx)

    def init(params: PyTree) -> MasterState:
        treedef: Any
        ps, treedef = jax.tree.flatten(params)
        for name, p in named_leaves(params):
            refuse_foreign(f"master: parameter at {name!r}", p)
            dtype = jnp.result_type(p)
            if jnp.issubdtype(dtype, jnp.floating) and dtype != jnp.bfloat16 and jnp.finfo(dtype).bits < 32:
                raise TypeError(f"master: {name} is {dtype}; low-precision parameters must be bfloat16")
        # Without any leaf the tree is a placeholder, as `optax.tree_map_params` gives.
        if ps and not any(_is_low(p) for p in ps):
            raise ValueError("master: no parameter is bfloat16, so there is nothing to correct")
        corrections = [jnp.zeros_like(p, _integer(bits)) if _is_low(p) else None for p in ps]
        wide = [p.astype(jnp.float32) if _is_low(p) else p for p in ps]
        return MasterState(jnp.zeros((), jnp.int32), treedef.unflatten(corrections), tx.init(treedef.unflatten(wide)))

    def update(
        updates: PyTree, state: MasterState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, MasterState]:
        if not isinstance(state, MasterState):
            raise TypeError(f"master: the state is a {type(state).__name__}, expected the MasterState made by its init")
        if params is None:
            raise ValueError("master needs the parameters: update(updates, state, params)")
        treedef: Any
        ps, treedef = jax.tree.flatten(params)
        cs = _corrections("master", treedef, params, state)
        thetas = [p if c is None else _joined(p, c) for p, c in zip(ps, cs, strict=True)]
        gs = treedef.flatten_up_to(updates)
        gs = [g if c is None or not _is_low(g) else g.astype(jnp.float32) for g, c in zip(gs, cs, strict=True)]
        updates, inner = tx.update(treedef.unflatten(gs), state.inner, treedef.unflatten(thetas), **extra)
        count = optax.safe_increment(state.count)
        us = treedef.flatten_up_to(updates)
        for place, (p, c, theta, u) in enumerate(zip(ps, cs, thetas, us, strict=True)):
            if c is not None and hasattr(u, "dtype"):
                # ~place: other noise than that of `compress`, which counts its leaves from 0.
                new, cs[place] = _split(theta + u.astype(jnp.float32), c.dtype, seed_of(count, ~place))
                us[place] = new.astype(jnp.float32) - p.astype(jnp.float32)
        return treedef.unflatten(us), MasterState(count, treedef.unflatten(cs), inner)

    return optax.GradientTransformationExtraArgs(init, update)


def master_parameters(params: PyTree, state: PyTree) -> PyTree:
    """Return the parameters with the bits that the `MasterState` in `state` keeps of them, as float32."""
    found = [x for x in jax.tree.leaves(state, is_leaf=_is_master) if _is_master(x)]
    if len(found) != 1:
        raise ValueError(f"master_parameters: the state has {len(found)} MasterStates, expected one")
    treedef: Any
    ps, treedef = jax.tree.flatten(params)
    cs = _corrections("master_parameters", treedef, params, found[0])
    return treedef.unflatten(p if c is None else _joined(p, c) for p, c in zip(ps, cs, strict=True))


def apply_updates(params: PyTree, updates: PyTree, key: jax.Array) -> PyTree:
    """Return params + updates as `optax.apply_updates` does, bfloat16 parameters rounded stochastically.

    Small updates then move the parameters on average, where rounding to the nearest loses them, without any state; the price
    is noise of up to 2⁻⁷ of a parameter in each step.

    Args:
        params: tree of arrays.
        updates: tree like it; `None` and masked ones move nothing. Float32 updates lose nothing on the way.
        key: `jax.random.key(...)`, another one in each step.
    """
    treedef: Any
    ps, treedef = jax.tree.flatten(params)
    us = treedef.flatten_up_to(updates)
    keys = jax.random.split(key, max(len(ps), 1))

    def applied(p: jax.Array, u: Any, key: jax.Array) -> jax.Array:
        if not hasattr(u, "dtype"):
            return p
        if not _is_low(p):
            return optax.apply_updates(p, u)
        return to_bfloat16(p.astype(jnp.float32) + u.astype(jnp.float32), jax.random.bits(key, p.shape, jnp.uint32))

    return treedef.unflatten(applied(*each) for each in zip(ps, us, keys, strict=True))


def _corrections(what: str, treedef: Any, params: PyTree, state: MasterState) -> list[Any]:
    """Return the correction of each parameter, or `None`; refuse parameters that are not those of `init`."""
    try:
        cs: list[Any] = treedef.flatten_up_to(state.corrections)
    except ValueError as error:
        raise ValueError(f"{what}: the parameters are another tree than at init: {error}") from error
    for (name, p), c in zip(named_leaves(params), cs, strict=True):
        if _is_low(p) != (c is not None):
            was = "other than bfloat16" if c is None else "bfloat16"
            raise TypeError(f"{what}: {name or 'the parameter'} is {jnp.result_type(p)}, at init it was {was}")
        if c is not None and c.shape != p.shape:
            raise ValueError(f"{what}: {name or 'the parameter'} has shape {p.shape}, at init it had {c.shape}")
    return cs


def _is_master(x: Any) -> bool:
    return isinstance(x, MasterState)


def _is_low(x: Any) -> bool:
    return getattr(x, "dtype", None) == jnp.bfloat16


def _integer(bits: int) -> jnp.dtype:
    return jnp.dtype(jnp.int8 if bits == 24 else jnp.int16)


# Jits, for their cache: leaves of equal shape are traced once.
@jax.jit
def _joined(p: jax.Array, c: jax.Array) -> jax.Array:
    """Return θ in float32: the bits of p, and below them, added as integers, those of c."""
    high = jax.lax.bitcast_convert_type(p, jnp.uint16).astype(jnp.uint32) << 16
    low = c.astype(jnp.int32) << 8 if c.dtype == jnp.int8 else c.astype(jnp.int32)
    return jax.lax.bitcast_convert_type(high + jax.lax.bitcast_convert_type(low, jnp.uint32), jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def _split(theta: jax.Array, dtype: jnp.dtype, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return θ rounded to the nearest bfloat16, and what must be added to its bits to get those of θ back."""
    bits = jax.lax.bitcast_convert_type(jnp.where(jnp.isnan(theta), jnp.nan, theta), jnp.uint32)
    if dtype == jnp.int8:
        bits = (bits + (random_bits(seed, theta.shape) >> 24)) & jnp.uint32(0xFFFFFF00)
    high = (bits + 0x8000) >> 16
    c = jax.lax.bitcast_convert_type(bits - (high << 16), jnp.int32)
    p = jax.lax.bitcast_convert_type(high.astype(jnp.uint16), jnp.bfloat16)
    return p, (c >> 8 if dtype == jnp.int8 else c).astype(dtype)
