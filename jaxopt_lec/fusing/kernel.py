"""A step over blocks of 128 numbers in one pass over memory, where XLA alone would make several.

XLA ends a kernel where a block's maximum is known and begins another that divides by it: all that is encoded is written and
read again. Here each block is read once, stays on the chip, and is written once.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton

__all__ = ["blockwise"]

BLOCK = 128

Arrays: TypeAlias = tuple[jax.Array, ...]
# (position, scalars, numbers, scales) -> (new numbers, new scales)
Step: TypeAlias = Callable[[jax.Array, Arrays, Arrays, Arrays], tuple[Sequence[jax.Array], Sequence[jax.Array]]]


def blockwise(
    step: Step,
    numbers: Sequence[jax.Array],
    scales: Sequence[jax.Array],
    scalars: Sequence[jax.Array] = (),
    *,
    replaces: Sequence[int | None],
    interpret: Literal["tpu", "cuda"] | None = None,
) -> tuple[Arrays, Arrays]:
    """Apply a step to a leaf, block by block along its last axis: each input is read once, each output written once.

    The leaf is seen as n blocks. `step(position, scalars, numbers, scales)` gets arrays of shape (n, 128) for `numbers`,
    (n, 1) for `scales`, and each number's place in the flattened leaf, uint32 (n, 128); it returns new numbers and new
    scales of these shapes. It must treat each block alone, since a kernel gives it a few at a time, and close over no array.
    On TPUs and NVIDIA GPUs it becomes a Pallas kernel, elsewhere the same operations on all blocks at once. A leaf that is
    spread over devices needs `jax.shard_map` around this, and positions of its own.

    Args:
        step: the function.
        numbers: arrays of one shape (..., c), c a multiple of 128, of any dtypes.
        scales: arrays of shape (..., c/128); the i-th new scales take the place of the i-th.
        scalars: arrays of shape ().
        replaces: for each of the new numbers, which of `numbers` it takes the place of, with its dtype and, where that is
            donated or not needed any more, its memory; `None` for float32 in new memory.
        interpret: run the kernel of that platform step by step in JAX, on any device, to test it.

    Returns:
        The new numbers, of the shape of `numbers`, and the new scales.

    Raises:
        ValueError: shapes that do not fit.
    """
    numbers, scales, scalars = tuple(numbers), tuple(scales), tuple(scalars)
    shape = numbers[0].shape
    if not shape or shape[-1] % BLOCK:
        raise ValueError(f"blockwise: the last axis must be a multiple of {BLOCK}, got shape {shape}")
    of_blocks = (*shape[:-1], shape[-1] // BLOCK)
    for what, arrays, expected in (("numbers", numbers, shape), ("scales", scales, of_blocks), ("scalars", scalars, ())):
        for x in arrays:
            if x.shape != expected:
                raise ValueError(f"blockwise: {what} of shape {x.shape}, expected {expected}")
    dtypes = [jnp.dtype(jnp.float32) if place is None else numbers[place].dtype for place in replaces]
    arguments = (scalars, tuple(_rows(x) for x in numbers), tuple(_rows(x) for x in scales))
    kernels = {name: functools.partial(_call, name, step, tuple(replaces), dtypes) for name in ("tpu", "cuda")}
    if interpret:
        new, new_scales = kernels[interpret](*arguments, interpret=True)
    else:
        new, new_scales = jax.lax.platform_dependent(*arguments, **kernels, default=functools.partial(_plain, step, dtypes))
    return tuple(x.reshape(shape) for x in new), tuple(x.reshape(of_blocks) for x in new_scales)


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


def _plain(step: Step, dtypes: list[jnp.dtype], scalars: Arrays, numbers: Arrays, scales: Arrays) -> tuple[Arrays, Arrays]:
    rows, length = numbers[0].shape
    position = jnp.arange(rows * length, dtype=jnp.uint32).reshape(-1, BLOCK)
    blocks = (tuple(x.reshape(-1, BLOCK) for x in numbers), tuple(x.reshape(-1, 1) for x in scales))
    new, new_scales = step(position, scalars, *blocks)
    return (
        tuple(x.reshape(rows, length).astype(dtype) for x, dtype in zip(new, dtypes, strict=True)),
        tuple(x.reshape(old.shape).astype(old.dtype) for x, old in zip(new_scales, scales, strict=True)),
    )


def _call(
    platform: str,
    step: Step,
    replaces: tuple[int | None, ...],
    dtypes: list[jnp.dtype],
    scalars: Arrays,
    numbers: Arrays,
    scales: Arrays,
    interpret: bool = False,
) -> tuple[Arrays, Arrays]:
    rows, length = numbers[0].shape
    blocks = length // BLOCK
    on_tpu = platform == "tpu"
    if on_tpu:
        # About a hundred thousand numbers for each call of the kernel, and 128 rows at a time inside.
        wide, part = min(blocks, 8), min(rows, 128)
        high = part * min(-(-rows // part), 8 // wide)
    else:
        wide, part = 1, max(n for n in (1, 2, 4, 8) if rows % n == 0)
        high = part

    def kernel(*refs: Any) -> None:
        scalar_refs, number_refs, scale_refs, new_refs, new_scale_refs = _split(
            refs, len(scalars), len(numbers), len(scales), len(dtypes), len(scales)
        )
        top, left = pl.program_id(0) * high, pl.program_id(1) * wide
        given = tuple(ref[0] for ref in scalar_refs)
        places = [jax.lax.broadcasted_iota(jnp.int32, (part, BLOCK), axis) for axis in (0, 1)]

        def on_part(n: Any) -> None:
            row = 0 if high == part else pl.multiple_of(n * part, part)
            here = pl.ds(row, part)
            there = (slice(None), here) if on_tpu else (here, slice(None))
            old_scales = [ref[there].T if on_tpu else ref[there] for ref in scale_refs]
            columns = []
            for k in range(wide):
                block = (here, pl.ds(k * BLOCK, BLOCK))
                position = (top + row + places[0]) * length + ((left + k) * BLOCK + places[1])
                new, new_scales = step(
                    position.astype(jnp.uint32),
                    given,
                    tuple(ref[block] for ref in number_refs),
                    tuple(x[:, k : k + 1] for x in old_scales) if wide > 1 else tuple(old_scales),
                )
                for ref, x in zip(new_refs, new, strict=True):
                    ref[block] = x.astype(ref.dtype)
                columns.append(new_scales)
            for ref, parts in zip(new_scale_refs, zip(*columns, strict=True), strict=True):
                x = jnp.concatenate(parts, axis=1) if wide > 1 else parts[0]
                ref[there] = (x.T if on_tpu else x).astype(ref.dtype)

        if high == part:
            on_part(0)
        else:
            jax.lax.fori_loop(0, high // part, lambda n, _: on_part(n), None)

    of_scalars = pl.BlockSpec((1,), lambda i, j: (0,), memory_space=pltpu.SMEM if on_tpu else None)
    of_numbers = pl.BlockSpec((high, wide * BLOCK), lambda i, j: (i, j))
    # A TPU pads the last axis to 128 numbers, and scales have few there: it keeps and takes them with the axes exchanged.
    of_scales = (
        pl.BlockSpec((wide, high), lambda i, j: (j, i)) if on_tpu else pl.BlockSpec((high, wide), lambda i, j: (i, j))
    )
    turned = [x.T if on_tpu else x for x in scales]
    first = len(scalars)
    call = pl.pallas_call(
        kernel,
        grid=(-(-rows // high), -(-blocks // wide)),
        in_specs=[of_scalars] * len(scalars) + [of_numbers] * len(numbers) + [of_scales] * len(scales),
        out_specs=[of_numbers] * len(dtypes) + [of_scales] * len(scales),
        out_shape=[
            *(jax.ShapeDtypeStruct((rows, length), dtype) for dtype in dtypes),
            *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in turned),
        ],
        input_output_aliases={first + place: k for k, place in enumerate(replaces) if place is not None}
        | {first + len(numbers) + k: len(dtypes) + k for k in range(len(scales))},
        compiler_params=pltpu.CompilerParams() if on_tpu else triton.CompilerParams(),
        interpret=interpret,
    )
    results = call(*(x.reshape(1) for x in scalars), *numbers, *turned)
    new, new_scales = results[: len(dtypes)], results[len(dtypes) :]
    return tuple(new), tuple(x.T if on_tpu else x for x in new_scales)


def _split(things: Sequence[Any], *sizes: int) -> list[Sequence[Any]]:
    ends = list(itertools.accumulate(sizes))
    return [things[end - size : end] for size, end in zip(sizes, ends, strict=True)]
