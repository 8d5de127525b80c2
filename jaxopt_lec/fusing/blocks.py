"""A leaf whose state is encoded in blocks: its whole step as one kernel on GPUs and TPUs.

XLA alone makes several passes over memory of a step that takes the largest number of each block. Here what the trace
computes for one leaf is computed anew for a few blocks at a time, as arrays of shape (blocks, 128) and (blocks, 1), in a
kernel.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lec.fusing.dataflow import POSITIONS, Operand, Operation, Program, Region, regions
from jaxopt_lec.fusing.kernel import BLOCK, blockwise
from jaxopt_lec.fusing.primitive import Part

__all__ = ["Blocks", "blocks_of"]

# Element-wise operations that kernels of both platforms have.
ELEMENTWISE = {"add", "sub", "mul", "div", "neg", "abs", "sign", "sqrt", "rsqrt", "square", "integer_pow", "max", "min"}
ELEMENTWISE |= {"floor", "ceil", "select_n", "clamp", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not", "copy"}
ELEMENTWISE |= {"shift_left", "shift_right_logical", "shift_right_arithmetic", "is_finite", "convert_element_type"}
ELEMENTWISE |= {"bitcast_convert_type"}
RESHAPES = {"reshape", "squeeze", "slice"}
REDUCTIONS = {"reduce_max", "reduce_min"}


def _is_scales(leaf: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    of_blocks = (*leaf[:-1], leaf[-1] // BLOCK)
    return shape in (of_blocks, (*of_blocks, 1))


def _is_numbers(leaf: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return shape in (leaf, (*leaf[:-1], leaf[-1] // BLOCK, BLOCK))


def _is_blockwise(leaf: tuple[int, ...], program: Program, operation: Operation) -> bool:
    """Whether the operation treats each block of a leaf alone."""
    if operation.body is not None:
        return all(_is_blockwise(leaf, operation.body.program, inner) for inner in operation.body.operations)
    if len(operation.outputs) != 1:
        return False
    shape = program.avals[operation.outputs[0]].shape
    if not (_is_numbers(leaf, shape) or _is_scales(leaf, shape)):
        return False
    shapes = [program.shape(v) for v in operation.inputs]
    if operation.name in REDUCTIONS:
        return _is_numbers(leaf, shapes[0]) and shapes[0] != leaf and operation.parameters["axes"] == (len(leaf),)
    if operation.name == "broadcast_in_dim":
        along = operation.parameters["broadcast_dimensions"] == tuple(range(len(shapes[0])))
        return not shapes[0] or (along and (_is_scales(leaf, shapes[0]) or shapes[0] == shape))
    if operation.name in RESHAPES:
        return _is_numbers(leaf, shapes[0]) == _is_numbers(leaf, shape) and (
            _is_numbers(leaf, shapes[0]) or _is_scales(leaf, shapes[0])
        )
    if operation.name == "jit":
        return operation.parameters["name"] == POSITIONS and shape == leaf
    # JAX lets an axis of length 1 meet a longer one: scales meet numbers.
    met = {(), shape} if shape == leaf else {(), shape, (*shape[:-1], 1)}
    return operation.name in ELEMENTWISE and met >= set(shapes)


class Blocks(Part):
    """One leaf's step, block by block.

    The operands are scalars, arrays of the leaf's shape, and scales; of the results, too, the scales stand behind.

    Attributes:
        region: what is computed.
        leaf: the leaf's shape.
    """

    def __init__(self, program: Program, region: Region, leaf: tuple[int, ...]) -> None:
        """Lay out the call."""
        self.program, self.region, self.leaf = program, region, leaf
        of_scales = [position for position, v in region.results.items() if _is_scales(leaf, program.avals[v].shape)]
        self.numbers = [position for position in region.results if position not in of_scales]
        scales = [region.arrays[region.replaced[position]] for position in of_scales]
        arrays = [v for v in region.arrays if v not in scales]
        self.positions = [*self.numbers, *of_scales]
        self.operands = [*region.scalars, *arrays, *scales]
        self._counts = len(region.scalars), len(arrays), len(scales)
        self._replaces = [
            arrays.index(region.arrays[region.replaced[position]]) if position in region.replaced else None
            for position in self.numbers
        ]

    def operations(self) -> Sequence[Operation]:
        """Return what is computed."""
        return self.region.operations

    def lowered(self, platform: str, several: bool) -> Callable[..., Sequence[jax.Array]]:
        """Return the kernel on one GPU or TPU; of what several devices share, XLA splits its own program."""
        return self.plain if platform == "cpu" or several else self.kernel

    def kernel(self, *operands: jax.Array, interpret: Any = None) -> list[jax.Array]:
        """Compute it in one kernel."""
        scalars, arrays, _ = self._counts
        new, scales = blockwise(
            self._step,
            operands[scalars : scalars + arrays],
            operands[scalars + arrays :],
            operands[:scalars],
            replaces=self._replaces,
            interpret=interpret,
        )
        return [*new, *scales]

    def _step(self, position: jax.Array, scalars: Sequence[Any], numbers: Sequence[Any], scales: Sequence[Any]) -> Any:
        """Compute it for the blocks that are given."""

        def on_blocks(program: Program, operation: Operation, inputs: list[Any]) -> Any:
            if (body := operation.body) is not None:
                return body.evaluate(inputs, functools.partial(on_blocks, body.program))
            of_numbers = _is_numbers(self.leaf, program.avals[operation.outputs[0]].shape)
            return _on_blocks(operation, inputs, position, (position.shape[0], BLOCK if of_numbers else 1))

        known = dict(zip(self.operands, [*scalars, *numbers, *scales], strict=True))
        apply = functools.partial(on_blocks, self.program)
        results = self.program.evaluate(self.operations(), known, self.results(), apply)
        return results[: len(self.numbers)], results[len(self.numbers) :]


def _on_blocks(operation: Operation, inputs: list[Any], position: jax.Array, shape: tuple[int, int]) -> Any:
    if operation.name == "jit":
        return [position]
    if operation.name in RESHAPES:
        return inputs[0]
    if operation.name in REDUCTIONS:
        largest = jax.lax.reduce_max_p if operation.name == "reduce_max" else jax.lax.reduce_min_p
        return largest.bind(inputs[0], **{**operation.parameters, "axes": (1,)}).reshape(shape)
    if operation.name == "broadcast_in_dim":
        x = inputs[0]
        return jax.lax.broadcast_in_dim(x, shape, () if not jnp.ndim(x) else (0, 1))
    wide = [jax.lax.broadcast_in_dim(x, shape, (0, 1)) if jnp.shape(x) not in ((), shape) else x for x in inputs]
    return operation.primitive.bind(*wide, **operation.parameters)


def blocks_of(program: Program, positions: Sequence[int]) -> list[Blocks]:
    """Return the leaves among the outputs whose step is block by block, and is not element-wise."""
    shapes = dict.fromkeys(
        program.avals[v].shape for k in positions if isinstance(v := program.outputs[k], int) and program.avals[v].shape
    )
    found = []
    for shape in shapes:
        if shape[-1] % BLOCK == 0 and 0 not in shape:
            mine = [k for k in positions if _fits(program, program.outputs[k], shape)]
            for region in regions(program, mine, functools.partial(_is_blockwise, shape)):
                if _is_whole(program, region, shape):
                    found.append(Blocks(program, region, shape))
    return found


def _fits(program: Program, v: Operand, leaf: tuple[int, ...]) -> bool:
    shape = program.shape(v)
    return shape == leaf or shape == (*leaf[:-1], leaf[-1] // BLOCK)


def _is_whole(program: Program, region: Region, leaf: tuple[int, ...]) -> bool:
    """Whether the region has block sums to save passes for, and nothing of another shape comes in."""
    scales = [p for p, v in region.results.items() if _is_scales(leaf, program.avals[v].shape)]
    return (
        any(operation.name in REDUCTIONS for operation in region.operations)
        and all(_fits(program, v, leaf) for v in region.arrays)
        and all(position in region.replaced for position in scales)
        and {region.arrays[region.replaced[p]] for p in scales}
        == {v for v in region.arrays if program.avals[v].shape != leaf}
    )
