"""`inspect`: what the state of an optimizer costs, before it is allocated; `summary`: what is in one."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lec import named_leaves
from jaxopt_lec.state.places import places
from jaxopt_lec.transformation import checked

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cost", "inspect", "summary"]

PyTree: TypeAlias = Any

COLUMNS = ("slot", "leaves", "dtype", "bytes", "bytes/parameter", "bytes/device")


@dataclasses.dataclass(frozen=True)
class Cost:
    """What parameters and state cost.

    Attributes:
        rows: for each slot: its name, how many leaves, their dtype, bytes, bytes for each number of the parameters, bytes on
            each device. The first row is the parameters', the last one the sum.
    """

    rows: tuple[tuple[str, int, str, int, float, int], ...]

    @property
    def bytes_per_parameter(self) -> float:
        """Of parameters and state together."""
        return self.rows[-1][4]

    @property
    def table(self) -> "pd.DataFrame":
        """The rows as a pandas table; needs the extra `[lab]`."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(COLUMNS)).set_index("slot")

    def __str__(self) -> str:
        """Return the rows as an aligned table."""
        lines: list[tuple[str, ...]] = [
            COLUMNS,
            *((s, f"{n:,}", d, f"{b:,}", f"{per:.3f}", f"{on:,}") for s, n, d, b, per, on in self.rows),
        ]
        return _aligned(lines, left=(0, 2))


def inspect(
    tx: optax.GradientTransformation,
    params: PyTree,
    *,
    of_params: PyTree = None,
    of_state: PyTree = None,
) -> Cost:
    """Say what the parameters and `tx.init(params)` cost, in bytes; nothing is allocated.

    Args:
        tx: any transformation.
        params: arrays, or their shapes and dtypes.
        of_params: their shardings, a tree like them, or one for all. Default: each device has all.
        of_state: the state's, from `state.shardings`. Default: each device has all.

    Returns:
        A `Cost`: print it, or take its `table`. Slots are named as in the state: `0/slots/m` is the slot m of the first
        transformation of a chain.

    Raises:
        TypeError: what is no transformation.
    """
    init = checked("inspect", tx).init
    params, state = jax.eval_shape(lambda params: (params, init(params)), params)
    number = sum(math.prod(p.shape) for p in jax.tree.leaves(params))
    groups: dict[tuple[str, str], list[tuple[Any, Any]]] = {}
    for p, sharding in zip(jax.tree.leaves(params), _shardings(params, of_params), strict=True):
        groups.setdefault(("parameters", str(p.dtype)), []).append((p, sharding))
    for place, sharding in zip(places(state, params), _shardings(state, of_state), strict=True):
        slot = place.slot if place.parameter is not None else "others" if place.leaf.shape else "scalars"
        groups.setdefault((slot, str(place.leaf.dtype)), []).append((place.leaf, sharding))
    rows = [
        (
            slot,
            len(leaves),
            dtype,
            size := sum(_bytes(x, x.shape) for x, _ in leaves),
            size / max(number, 1),
            sum(_bytes(x, x.shape if s is None else s.shard_shape(x.shape)) for x, s in leaves),
        )
        for (slot, dtype), leaves in groups.items()
    ]
    rows.append(
        ("all", sum(r[1] for r in rows), "", sum(r[3] for r in rows), sum(r[4] for r in rows), sum(r[5] for r in rows))
    )
    return Cost(tuple(rows))


def summary(state: PyTree, *, values: bool = False) -> str:
    """Return one line for each leaf of a state: name, dtype, shape, sharding; scalars with their value.

    Args:
        state: arrays, or their shapes and dtypes.
        values: whether to compute the smallest and largest number and the root of the mean square of each array.
    """
    lines: list[tuple[str, ...]] = [("leaf", "dtype", "shape", "sharding", "value")]
    for name, x in named_leaves(state):
        spec = getattr(getattr(x, "sharding", None), "spec", None)
        kept = str(x.dtype), str(tuple(x.shape)), "" if spec is None else str(tuple(spec))
        lines.append((name, *kept, _value(x, values)))
    return _aligned(lines, left=(0, 1, 2, 3, 4))


def _value(x: Any, values: bool) -> str:
    if isinstance(x, jax.ShapeDtypeStruct) or jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return ""
    if not x.shape:
        return f"{np.asarray(x).item():.6g}"
    if not values or not x.size:
        return ""
    wide = np.asarray(x).astype(np.complex128 if np.iscomplexobj(x) else np.float64)
    rms = math.sqrt(float(np.mean(np.abs(wide) ** 2)))
    if np.iscomplexobj(x):
        return f"rms {rms:.3g}"
    return f"{wide.min():.3g} to {wide.max():.3g}, rms {rms:.3g}"


def _bytes(x: Any, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * int(x.dtype.itemsize)


def _shardings(tree: PyTree, given: PyTree) -> list[Any]:
    treedef: Any = jax.tree.structure(tree)
    if given is None or isinstance(given, jax.sharding.Sharding):
        return [given] * treedef.num_leaves
    return treedef.flatten_up_to(given)


def _aligned(lines: list[tuple[str, ...]], left: tuple[int, ...]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            x.ljust(w) if k in left else x.rjust(w) for k, (x, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
