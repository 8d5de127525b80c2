"""Meshes with Explicit axes, as `jax.make_mesh` gives: an array's type says there how the array is split.

JAX carries such types through element-wise operations and sums. It refuses what it would have to guess, such as a matrix
product over a split axis. What it refuses is left to the compiler here, as on a mesh with Auto axes.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

__all__ = ["explicit_mesh", "in_mesh_of", "left_to_compiler_if_refused", "ravel", "spec_of", "split_like"]

PyTree: TypeAlias = Any


def explicit_mesh(tree: PyTree) -> AbstractMesh | None:
    """Return the mesh of the arrays, if they have one and axes of it are Explicit."""
    meshes = (jax.typeof(x).sharding.mesh for x in jax.tree.leaves(tree))
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def in_mesh_of(tree: PyTree) -> AbstractContextManager[Any]:
    """Return the context of the arrays' mesh, if axes of it are Explicit, where no program is traced.

    Without it, what differentiation makes on the way, such as a basis, is on one device, and JAX cannot join it to them.
    """
    leaves = jax.tree.leaves(tree)
    if any(isinstance(x, jax.core.Tracer) for x in leaves) or not jax.sharding.get_abstract_mesh().empty:
        return contextlib.nullcontext()
    split = next((x for x in leaves if explicit_mesh(x) is not None), None)
    return contextlib.nullcontext() if split is None else jax.set_mesh(split.sharding.mesh)


def spec_of(x: Any) -> PartitionSpec:
    """Return how the array's type says that it is split."""
    return jax.typeof(x).sharding.spec


def left_to_compiler_if_refused(function: Callable[..., Any], *args: PyTree, like: PyTree, first: Any = None) -> Any:
    """Return `function(*args)`; where JAX refuses that on Explicit axes, the same computed with these axes Auto.

    Args:
        function: a function of arrays alone; one that `jax.jit` returned is traced once.
        *args: trees of arrays.
        like: a tree like the result, of arrays or PartitionSpecs: how what the compiler computes is split.
        first: a function without arguments that computes the same and is tried in place of `function`.
    """
    try:
        return function(*args) if first is None else first()
    except Exception:  # JAX has no public class for what it refuses; where something else is wrong, the error comes again
        mesh = explicit_mesh(args)
        if mesh is None:
            raise
    where = jax.tree.map(lambda x: NamedSharding(mesh, x if isinstance(x, PartitionSpec) else spec_of(x)), like)
    return jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=where)(*args)


def split_like(tree: PyTree, like: PyTree) -> PyTree:
    """Return the tree with the types of `like`, of the same shapes: on Explicit axes its arrays are split like those."""

    def split(x: Any, like: Any) -> Any:
        sharding = jax.typeof(like).sharding
        return x if not sharding.mesh.explicit_axes or spec_of(x) == sharding.spec else jax.reshard(x, sharding)

    return jax.tree.map(split, tree, like)


def ravel(tree: PyTree) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
    """Return the leaves in one vector, and the function from such a vector to a tree with the leaves' types.

    As `ravel_pytree`; of leaves that are split over Explicit axes, each device gets the whole vector.
    """
    mesh = explicit_mesh(tree)
    if mesh is None:
        return ravel_pytree(tree)
    flat, unravel = ravel_pytree(jax.reshard(tree, NamedSharding(mesh, PartitionSpec())))
    return flat, lambda flat: split_like(unravel(flat), tree)
