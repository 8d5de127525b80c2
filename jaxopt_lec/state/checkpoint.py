"""`save` and `restore`: a checkpoint of Orbax that is refused where it is another's or damaged."""

from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxopt_lec import named_leaves
from jaxopt_lec.state.stochastic_rounding import mixed, random_bits

__all__ = ["restore", "save"]

PyTree: TypeAlias = Any


def save(path: str | Path, tree: PyTree) -> None:
    """Save with Orbax's `StandardCheckpointer`, and a digest of each leaf besides, by which `restore` finds changed bytes.

    Args:
        path: of the checkpoint, which must not exist. It appears when it is whole.
        tree: of arrays, on any mesh and any number of processes.

    Raises:
        ImportError: Orbax is not installed.
    """
    ocp = _orbax()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(path).absolute(), {"tree": tree, "digests": _digests(tree)})


def restore(path: str | Path, like: PyTree) -> PyTree:
    """Restore what `save` saved, or Orbax's `StandardCheckpointer` did, onto any mesh, if it is what is expected.

    Orbax casts what was saved to the expected dtype; here names, shapes and dtypes are compared before anything is read.
    Bytes that were changed are found where `save` saved them.

    Args:
        path: the checkpoint.
        like: shapes, dtypes and shardings: `state.abstract(tx, params, ...)`, or a tree with it in it.

    Returns:
        A tree like `like`, of arrays.

    Raises:
        ImportError: Orbax is not installed.
        FileNotFoundError: there is no checkpoint.
        ValueError: another optimizer's or another model's (naming the first leaf that differs), damaged, or incomplete.
    """
    ocp = _orbax()
    path = Path(path).absolute()
    if not path.is_dir():
        raise FileNotFoundError(f"restore: there is no checkpoint {path}")
    damaged = f"restore: {path} is damaged or incomplete"
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            saved = checkpointer.metadata(path).item_metadata
        except Exception as error:
            raise ValueError(f"{damaged}: {error}") from error
        if saved is None:
            raise ValueError(f"{damaged}: Orbax finds no description of its arrays")
        has, wants = ({_key(name): x for name, x in named_leaves(tree)} for tree in (saved.tree, like))
        digested = has.pop("digests", None) is not None
        if digested:
            has = {name.removeprefix("tree/"): x for name, x in has.items()}
        _compare(path, has, wants)
        where = next((getattr(x, "sharding", None) for x in wants.values()), None)
        whole = NamedSharding(where.mesh, PartitionSpec()) if isinstance(where, NamedSharding) else where
        digests = jax.ShapeDtypeStruct((len(wants),), jnp.uint32, sharding=whole)
        expected = {"tree": like, "digests": digests} if digested else like
        try:
            found = checkpointer.restore(path, expected)
        except Exception as error:
            raise ValueError(f"{damaged}: {error}") from error
    if not digested:
        return found
    for name, has_digest, had_digest in zip(
        wants, *map(jax.device_get, (_digests(found["tree"]), found["digests"])), strict=True
    ):
        if has_digest != had_digest:
            raise ValueError(f"{damaged}: the bytes of {name} are not those that were saved")
    return found["tree"]


def _orbax() -> Any:
    try:
        import orbax.checkpoint
    except ImportError as error:
        raise ImportError("state.save and state.restore need Orbax: pip install 'jaxopt_lec[checkpoint]'") from error
    return orbax.checkpoint


@jax.jit
def _digests(tree: PyTree) -> jax.Array:
    return jnp.stack([_digest(x) for x in jax.tree.leaves(tree)])


def _digest(x: jax.Array) -> jax.Array:
    """Return 32 bits of all bits and where they stand: a sum, so that each device adds up its part."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag])
    width = x.dtype.itemsize
    bits = x.astype(jnp.uint8) if x.dtype == bool else jax.lax.bitcast_convert_type(x, f"uint{8 * min(width, 4)}")
    return jnp.sum(mixed(random_bits(jnp.uint32(0), bits.shape) ^ bits.astype(jnp.uint32)), dtype=jnp.uint32)


def _key(name: str) -> str:
    """A name without what a checkpoint does not tell apart: attributes, keys and numbers of a sequence."""
    return name.replace(".", "/")


def _compare(path: Path, has: dict[str, Any], wants: dict[str, Any]) -> None:
    missing, unknown = [name for name in wants if name not in has], [name for name in has if name not in wants]
    if missing or unknown:
        lacks = f"it lacks {missing[0]} ({len(missing)} in all)" if missing else ""
        more = f"it has {unknown[0]} ({len(unknown)} in all), which is not expected" if unknown else ""
        raise ValueError(f"restore: {path} is another optimizer's or model's: {' and '.join(filter(None, (lacks, more)))}")
    for name, expected in wants.items():
        saved = has[name]
        if tuple(saved.shape) != tuple(expected.shape):
            raise ValueError(f"restore: {name} has shape {tuple(saved.shape)} in {path}, expected {tuple(expected.shape)}")
        if jnp.dtype(saved.dtype) != jnp.dtype(expected.dtype):
            raise ValueError(f"restore: {name} is {saved.dtype} in {path}, expected {expected.dtype}")
