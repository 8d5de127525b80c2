"""Batch gradient descent: the exact gradient over a whole data set, also one that does not fit into memory."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import optax
from optax import microbatching

from jaxopt_lec.slots import compute_dtype

__all__ = ["full_batch_value_and_grad"]


def full_batch_value_and_grad(
    loss_fn: Callable[[Any, Any], jax.Array], micro_batch_size: int
) -> Callable[[Any, Iterable[Any]], tuple[jax.Array, Any]]:
    """Return the function `(params, chunks) -> (value, gradient)` of the mean loss over all examples of all chunks.

    ∇J(θ) = (1/N) Σᵢ ∇ℓᵢ(θ), summed over micro-batches in float32 at least: device memory holds one chunk and the
    activations of one micro-batch. With `sgd` it is batch gradient descent, the lecture's section 1; with any other
    optimizer its full-batch form. Each call goes once through `chunks`: give a list, or a fresh generator for each step.

    Args:
        loss_fn: `(params, batch) -> scalar`, the mean over the examples of the batch.
        micro_batch_size: examples in one micro-batch, at least 1. Chunks need not be multiples of it.

    Chunks are trees of arrays whose leading axes count the same examples, on the host or the device, of any length. One
    compilation for each length that occurs.

    Raises:
        TypeError: an array instead of the chunks.
        ValueError: `micro_batch_size` below 1; no examples; leading axes of a chunk that differ.

    Micro-batches are `optax.microbatching.microbatch`.
    """
    if not isinstance(micro_batch_size, int | np.integer) or micro_batch_size < 1:
        raise ValueError(
            f"full_batch_value_and_grad: micro_batch_size must be a whole number from 1, got {micro_batch_size}"
        )
    micro_batch_size = int(micro_batch_size)

    @jax.jit
    def sum_over_chunk(params: Any, chunk: Any) -> tuple[jax.Array, Any]:
        size = _examples(chunk)
        whole = size - size % micro_batch_size

        def value_and_grad(params: Any, batch: Any) -> tuple[jax.Array, Any]:
            # In bfloat16 a sum of ones stalls at 256.
            return jax.tree.map(lambda x: x.astype(compute_dtype(x.dtype)), jax.value_and_grad(loss_fn)(params, batch))

        sums = []
        if whole:
            summed = microbatching.microbatch(
                value_and_grad,
                argnums=1,
                microbatch_size=micro_batch_size,
                accumulator=microbatching.AccumulationType.SUM,
            )(params, jax.tree.map(lambda x: x[:whole], chunk))
            sums.append(optax.tree.scale(micro_batch_size, summed))
        if size > whole:
            tail = value_and_grad(params, jax.tree.map(lambda x: x[whole:], chunk))
            sums.append(optax.tree.scale(size - whole, tail))
        return sums[0] if len(sums) == 1 else optax.tree.add(*sums)

    def value_and_grad(params: Any, chunks: Iterable[Any]) -> tuple[jax.Array, Any]:
        if hasattr(chunks, "shape"):
            raise TypeError("full_batch_value_and_grad: chunks are to be iterated over, got one array: give [array]")
        total, examples = None, 0
        for chunk in chunks:
            size = _examples(chunk)
            if size:
                part = sum_over_chunk(params, chunk)
                total = part if total is None else optax.tree.add(total, part)
                examples += size
        if total is None:
            raise ValueError("full_batch_value_and_grad: the chunks hold no examples; was a generator used up?")
        value, grad = optax.tree.scale(1 / examples, total)
        as_jax_has_them = jax.eval_shape(lambda params: params, params)  # float64 of NumPy may be float32
        return value, optax.tree.cast_like(grad, as_jax_has_them)

    return value_and_grad


def _examples(chunk: Any) -> int:
    shapes = [getattr(x, "shape", ()) for x in jax.tree.leaves(chunk)]
    if () in shapes:
        raise ValueError(
            f"full_batch_value_and_grad: a chunk is a tree of arrays with a leading axis of examples, got {chunk!r}"
        )
    sizes = {x.shape[0] for x in jax.tree.leaves(chunk)}
    if len(sizes) != 1:
        raise ValueError(f"full_batch_value_and_grad: the leading axes of a chunk must agree, got lengths {sorted(sizes)}")
    return int(sizes.pop())
