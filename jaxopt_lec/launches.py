"""Kernels of equal leaves, joined on NVIDIA GPUs: a small leaf's step is little more than the launch of its kernel."""

import math
from collections import Counter
from collections.abc import Iterable

import jax
import jax.numpy as jnp

__all__ = ["IN_ONE_ARRAY", "jaxopt_lec_in_one_array", "worth_joining"]

# What `jaxopt_lec_in_one_array` is called in traces.
IN_ONE_ARRAY = "jaxopt_lec_in_one_array"

# Up to here a GPU spends a good part of a leaf's step on the launch; above it a kernel of many leaves, with its many
# registers, may be no faster.
LAUNCH_BOUND = 2**20


def worth_joining(shapes: Iterable[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """Return the shapes of those leaves that should share their scalars in one array: small ones that are not alone."""
    return {shape for shape, times in Counter(shapes).items() if times > 1 and math.prod(shape) <= LAUNCH_BOUND}


@jax.jit
def jaxopt_lec_in_one_array(*scalars: jax.Array) -> list[jax.Array]:
    """Return the scalars as they are; on NVIDIA GPUs, as parts of one array.

    XLA computes what reads the same array side by side in one kernel, if the shapes are equal; a scalar is not enough.
    """

    def packed(*scalars: jax.Array) -> list[jax.Array]:
        dtype = scalars[0].dtype
        same = [x for x in scalars if x.dtype == dtype]
        # Twice the last, for an array of one number is a scalar to XLA; the barrier keeps it from taking the array apart.
        array = jax.lax.optimization_barrier(jnp.stack([*same, same[-1]]))
        parts = iter(array)
        return [next(parts) if x.dtype == dtype else x for x in scalars]

    return jax.lax.platform_dependent(*scalars, cuda=packed, default=lambda *scalars: list(scalars))
