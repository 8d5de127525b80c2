"""Meshes with Explicit axes, the default of `jax.make_mesh`: there an array's type says how the array is split.

JAX carries such types through element-wise operations and sums. It refuses an operation whose output sharding is ambiguous,
such as a matrix product over a split axis. Here such an operation is left to the compiler, as on a mesh with Auto axes.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

__all__ = [
    "explicit_mesh",
    "in_mesh_of",
    "left_to_compiler_if_refused",
    "ravel",
    "spec_of",
    "split_like",
    "types_of_mesh",
]

PyTree: TypeAlias = Any


def explicit_mesh(tree: PyTree) -> AbstractMesh | None:
    """Return the mesh of the arrays, if they have one with Explicit axes."""
    meshes = (jax.typeof(x).sharding.mesh for x in jax.tree.leaves(tree))
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def in_mesh_of(tree: PyTree) -> AbstractContextManager[Any]:
    """Return a context that sets the arrays' mesh, if it has Explicit axes, no program is being traced and no mesh is set.

    Without it, intermediate arrays of differentiation, such as a basis, are on one device, and JAX cannot combine them with
    the given arrays.
    """
    leaves = jax.tree.leaves(tree)
    if any(isinstance(x, jax.core.Tracer) for x in leaves) or not jax.sharding.get_abstract_mesh().empty:
        return contextlib.nullcontext()
    split = next((x for x in leaves if explicit_mesh(x) is not None), None)
    return contextlib.nullcontext() if split is None else jax.set_mesh(split.sharding.mesh)


def types_of_mesh(x: Any) -> AbstractContextManager[Any]:
    """Return the context in which an array made like `x` gets its split, if axes of its mesh are Explicit.

    Where no mesh is set, JAX 0.12 makes zeros like a traced array without it.
    """
    mesh = explicit_mesh(x) if isinstance(x, jax.core.Tracer) and jax.sharding.get_abstract_mesh().empty else None
    return contextlib.nullcontext() if mesh is None else jax.sharding.use_abstract_mesh(mesh)


def spec_of(x: Any) -> PartitionSpec:
    """Return the PartitionSpec in the array's type."""
    return jax.typeof(x).sharding.spec


def left_to_compiler_if_refused(function: Callable[..., Any], *args: PyTree, like: PyTree, first: Any = None) -> Any:
    """Return `function(*args)`; if JAX refuses it on Explicit axes, compute it with these axes as Auto axes.

    Args:
        function: a function of arrays alone; one that `jax.jit` returned is traced once.
        *args: trees of arrays.
        like: a tree like the result, of arrays or PartitionSpecs: how to split the result that the compiler computes.
        first: a function without arguments that computes the same, and is tried first in place of `function(*args)`.
    """
    try:
        return function(*args) if first is None else first()
    except Exception:  # JAX has no public class for such a refusal; any other error is raised again below
        mesh = explicit_mesh(args)
        if mesh is None:
            raise
    where = jax.tree.map(lambda x: NamedSharding(mesh, x if isinstance(x, PartitionSpec) else spec_of(x)), like)
    return jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=where)(*args)


def split_like(tree: PyTree, like: PyTree) -> PyTree:
    """Return the tree with its arrays split over Explicit axes like those of `like`, which have the same shapes."""

    def split(x: Any, like: Any) -> Any:
        sharding = jax.typeof(like).sharding
        return x if not sharding.mesh.explicit_axes or spec_of(x) == sharding.spec else jax.reshard(x, sharding)

    return jax.tree.map(split, tree, like)


def ravel(tree: PyTree) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
    """Return the leaves in one vector, and the function from such a vector to a tree with the leaves' types.

    Like `ravel_pytree`; if leaves are split over Explicit axes, every device gets the whole vector.
    """
    mesh = explicit_mesh(tree)
    if mesh is None:
        return ravel_pytree(tree)
    flat, unravel = ravel_pytree(jax.reshard(tree, NamedSharding(mesh, PartitionSpec())))
    return flat, lambda flat: split_like(unravel(flat), tree)
