"""`restore`: a checkpoint of Orbax onto a state, refused where it is another's."""

from pathlib import Path
from typing import Any, TypeAlias

import jax

from jaxopt_lec import named_leaves

__all__ = ["restore"]

PyTree: TypeAlias = Any


def restore(path: str | Path, like: PyTree) -> PyTree:
    """Restore what Orbax's `StandardCheckpointer` saved, onto any mesh, if it is what is expected.

    Orbax casts what was saved to the expected dtype; here names, shapes and dtypes are compared before anything is read.

    Args:
        path: the checkpoint.
        like: shapes, dtypes and shardings: `state.abstract(tx, params, ...)`, or a tree with it in it.

    Returns:
        A tree like `like`, of arrays.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: another optimizer's or another model's (naming the first leaf that differs), damaged, or incomplete.
    """
    import orbax.checkpoint as ocp

    path = Path(path).absolute()
    if not path.is_dir():
        raise FileNotFoundError(f"restore: there is no checkpoint {path}")
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            saved = checkpointer.metadata(path).item_metadata
        except Exception as error:
            raise ValueError(f"restore: {path} is damaged or incomplete: {error}") from error
        if saved is None:
            raise ValueError(f"restore: {path} is damaged or incomplete: Orbax finds no description of its arrays")
        _compare(path, *({_key(name): x for name, x in named_leaves(tree)} for tree in (saved.tree, like)))
        try:
            return checkpointer.restore(path, like)
        except Exception as error:
            raise ValueError(f"restore: {path} is damaged or incomplete: {error}") from error


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
        if jax.numpy.dtype(saved.dtype) != jax.numpy.dtype(expected.dtype):
            raise ValueError(f"restore: {name} is {saved.dtype} in {path}, expected {expected.dtype}")
