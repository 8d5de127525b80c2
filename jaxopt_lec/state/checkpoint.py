"""`save` and `restore`: a checkpoint of Orbax that is refused where it is another's or damaged."""

import glob
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from jaxopt_lec.state.stochastic_rounding import mixed, random_bits

__all__ = ["restore", "save"]

PyTree: TypeAlias = Any


# Files that Orbax writes into every checkpoint; either marks a folder as one.
_MARKS = ("_METADATA", "_CHECKPOINT_METADATA")


def save(path: str | Path, tree: PyTree, *, overwrite: bool = False) -> None:
    """Save with Orbax's `StandardCheckpointer`, and a digest of each leaf besides, by which `restore` finds changed bytes.

    Args:
        path: of the checkpoint. It appears only when it is complete.
        tree: of arrays, on any mesh and any number of processes.
        overwrite: whether to replace an existing checkpoint. The old one is removed when the new one is complete. A
            failure leaves the old one as it was; if the process is killed, at any moment, `restore` reads either of them.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false, or `path` is something other than a checkpoint.
        ImportError: Orbax is not installed.
        OSError: the checkpoint cannot be written; an existing one is unchanged.
        TypeError: a leaf that is no array, with its name.
        ValueError: two leaves of one name, such as "a/b" and "b" in "a".
    """
    ocp = _orbax()
    named = _named(tree)
    for name, x in named:
        if not isinstance(x, jax.Array | np.ndarray):
            raise TypeError(f"save: {name or 'the tree'} is {x!r}, not an array")
    repeated = [name for name, times in Counter(name for name, _ in named).items() if times > 1]
    if repeated:
        raise ValueError(f"save: {repeated[0]} is the name of several leaves, which a checkpoint does not tell apart")
    path = _real(path)
    _check_place(path, overwrite)
    content = {"tree": tree, "digests": _digests(x for _, x in named)}
    if not overwrite:
        _write(ocp, path, content)
        return
    # Orbax's own force=True removes the old checkpoint before it writes the new one.
    if jax.process_index() == 0:
        _settle(path)
    ocp.multihost.sync_global_processes("jaxopt_lec: no checkpoint is half replaced")
    _write(ocp, _new(path), content)
    try:
        if jax.process_index() == 0:
            _replace(path)
    finally:
        ocp.multihost.sync_global_processes("jaxopt_lec: the new checkpoint is in place")


def _real(path: str | Path) -> Path:
    """Return the absolute path, with a link resolved: a new checkpoint is prepared beside the link's target."""
    path = Path(path).absolute()
    return path.resolve() if path.is_symlink() else path


def _check_place(path: Path, overwrite: bool) -> None:
    """Raise a FileExistsError if a checkpoint must not be written there."""
    if not path.exists():
        return
    if not path.is_dir():
        raise FileExistsError(f"save: {path} is a file; give another path")
    if not overwrite:
        raise FileExistsError(f"save: {path} exists; save(..., overwrite=True) replaces a checkpoint, or give another path")
    if any(path.iterdir()) and not any((path / mark).exists() for mark in _MARKS):
        raise FileExistsError(f"save: {path} holds other files; overwrite=True replaces only a checkpoint")


def _write(ocp: Any, path: Path, content: PyTree) -> None:
    """Write a checkpoint to a new path; a failure leaves no files."""
    # If these fail inside Orbax, they fail in one of its threads, and its other threads wait for that one.
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, content)
    except Exception as error:
        if jax.process_index() == 0:
            for part in path.parent.glob(f"{glob.escape(path.name)}.orbax-checkpoint-tmp*"):
                shutil.rmtree(part, ignore_errors=True)
        reason = str(error).partition("\n")[0]
        raise OSError(f"save: {path} cannot be written, and nothing is changed: {reason}") from error


def _new(path: Path) -> Path:
    """Return the path at which the new checkpoint is written before it replaces the old one."""
    return path.with_name(f".{path.name}.new")


def _old(path: Path) -> Path:
    """Return the path to which the old checkpoint is moved before it is removed."""
    return path.with_name(f".{path.name}.old")


def _settle(path: Path) -> None:
    """Finish an earlier replacement that was killed."""
    if not path.exists() and _new(path).exists():
        _new(path).rename(path)
    for rest in (_new(path), _old(path)):
        if rest.exists():
            shutil.rmtree(rest)


def _replace(path: Path) -> None:
    """Replace the old checkpoint by the new one, which is complete.

    It takes two renames, because a folder cannot be renamed onto one that is not empty. Between them `restore` reads the new
    checkpoint at its temporary path.
    """
    if path.exists():
        path.rename(_old(path))
    _new(path).rename(path)
    shutil.rmtree(_old(path), ignore_errors=True)


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
    path = _real(path)
    if not path.exists() and _new(path).is_dir():  # the process was killed between the two renames
        path = _new(path)
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
        has, wants = dict(_named(saved.tree)), dict(_named(like))
        ours = {name.partition("/")[0] for name in has} <= {"tree", "digests"} and "digests" in has
        digested = ours and tuple(has["digests"].shape) == (len(has),)
        if digested:
            has = {name.removeprefix("tree").removeprefix("/"): x for name, x in has.items() if name != "digests"}
        _compare(path, has, wants)
        digests = np.zeros(len(wants) + 1, np.uint32)
        try:
            found = checkpointer.restore(path, {"tree": like, "digests": digests} if digested else like)
        except Exception as error:
            raise ValueError(f"{damaged}: {error}") from error
    if not digested:
        return found
    for name, has_digest, had_digest in zip(
        ["the digests", *wants], _digests(jax.tree.leaves(found["tree"])), found["digests"], strict=True
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


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    """Return the leaves with names as Orbax keeps them, which tells attributes, keys and numbers of a sequence not apart."""
    leaves = tree_flatten_with_path(tree)[0]
    return [(keystr(keys, simple=True, separator="/").replace(".", "/"), x) for keys, x in leaves]


def _digests(leaves: Iterable[Any]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return the number of leaves, and the digest of each."""
    found = jax.device_get([_digest(_plain(x)) for x in leaves])
    return np.array([len(found), *found], np.uint32)


def _plain(x: Any) -> jax.Array:
    """Return an array of numbers in a device's own memory."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    x = jnp.asarray(x)
    own = next(iter(x.sharding.device_set)).default_memory().kind
    return x if x.sharding.memory_kind in (None, own) else jax.device_put(x, x.sharding.with_memory_kind(own))


@jax.jit
def _digest(x: jax.Array) -> jax.Array:
    """Return 32 bits of all bits and where they stand: a sum, so that each device adds up its part."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag])
    if x.dtype in (bool, jnp.int4, jnp.uint4):
        x = x.astype(jnp.int8)
    bits = jax.lax.bitcast_convert_type(x, f"uint{8 * min(x.dtype.itemsize, 4)}")
    return jnp.sum(mixed(random_bits(jnp.uint32(0), bits.shape) ^ bits.astype(jnp.uint32)), dtype=jnp.uint32)


def _compare(path: Path, has: dict[str, Any], wants: dict[str, Any]) -> None:
    missing, unknown = [name for name in wants if name not in has], [name for name in has if name not in wants]
    if missing or unknown:
        lacks = f"it lacks {missing[0]} ({len(missing)} in all)" if missing else ""
        more = f"it has {unknown[0]} ({len(unknown)} in all), which is not expected" if unknown else ""
        raise ValueError(f"restore: {path} is another optimizer's or model's: {' and '.join(filter(None, (lacks, more)))}")
    for name, expected in wants.items():
        saved = has[name]
        if jnp.issubdtype(expected.dtype, jax.dtypes.prng_key):
            continue  # of which Orbax shows the data
        if tuple(saved.shape) != tuple(expected.shape):
            raise ValueError(f"restore: {name} has shape {tuple(saved.shape)} in {path}, expected {tuple(expected.shape)}")
        if jnp.dtype(saved.dtype) != jnp.dtype(expected.dtype):
            raise ValueError(f"restore: {name} is {saved.dtype} in {path}, expected {expected.dtype}")
