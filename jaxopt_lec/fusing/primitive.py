"""A part of a step as a primitive of JAX: lowered by a platform's own means, and plain XLA elsewhere and under `vmap`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax._src import dispatch
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from jaxopt_lec.fusing.dataflow import Operation, Program

__all__ = ["Part"]

PLATFORMS = ("cpu", "tpu", "cuda")


class Part(ABC):
    """Some of a step's results, computed in one call.

    Attributes:
        program: the step.
        operands: its values that are read.
        positions: of the results among its outputs.
    """

    program: Program
    operands: list[int]
    positions: list[int]

    @abstractmethod
    def operations(self) -> Sequence[Operation]:
        """Return what is computed, in order."""

    @abstractmethod
    def lowered(self, platform: str, several: bool) -> Callable[..., Sequence[jax.Array]]:
        """Return the function of the operands for one or several devices of a platform."""

    def __call__(self, known: dict[int, Any]) -> list[Any]:
        """Return the results, given the operands among what is known."""
        return fused.bind(*(known[v] for v in self.operands), part=self)

    def results(self) -> list[Any]:
        """Return the values that are computed, in the order of `positions`."""
        return [self.program.outputs[position] for position in self.positions]

    def plain(self, *operands: jax.Array) -> list[jax.Array]:
        """Compute them with XLA."""
        return self.program.evaluate(self.operations(), dict(zip(self.operands, operands, strict=True)), self.results())


fused = Primitive("fused")
fused.multiple_results = True
fused.def_impl(lambda *operands, part: part.plain(*operands))


@fused.def_abstract_eval  # type: ignore[untyped-decorator]
def _abstract(*operands: Any, part: Part) -> list[Any]:
    return [part.program.avals[v] for v in part.results()]


def _on(platform: str) -> Callable[..., Any]:
    def lower(context: Any, *operands: Any, part: Part) -> Any:
        several = getattr(context.module_context.axis_context, "num_devices", 2) != 1
        return mlir.lower_fun(part.lowered(platform, several), multiple_results=True)(context, *operands)

    return lower


def _batched(operands: Sequence[Any], axes: Sequence[Any], *, part: Part) -> tuple[list[Any], list[int]]:
    results = jax.vmap(part.plain, in_axes=[axis if isinstance(axis, int) else None for axis in axes])(*operands)
    return results, [0] * len(results)


mlir.register_lowering(fused, mlir.lower_fun(lambda *operands, part: part.plain(*operands), multiple_results=True))
for _platform in PLATFORMS:
    mlir.register_lowering(fused, _on(_platform), platform=_platform)
batching.primitive_batchers[fused] = _batched
# To make a call that several devices share, its lowering must know them; JAX has no public way to say so.
dispatch.prim_requires_devices_during_lowering.add(fused)
