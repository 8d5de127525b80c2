"""One call of a loop over the leaves that it serves: numba's on CPUs, plain XLA elsewhere."""

import functools
import hashlib
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from jaxopt_lec.fusing.dataflow import Operation, Program, Region
from jaxopt_lec.fusing.primitive import Part
from jaxopt_lec.fusing.source import HELD, likeness, source_of
from jaxopt_lec.launches import jaxopt_lec_in_one_array, worth_joining

__all__ = ["Loop", "grouped"]

# Of one call: XLA's compiler takes a time that grows with the square of the operands that a call updates in place.
MOST_LEAVES = 64


class Loop(Part):
    """The leaves that one call of one loop serves: those of the same source and the same scalars.

    The operands are the scalars, then each leaf's arrays; the results stand leaf by leaf.

    Attributes:
        source: of the loop.
        leaves: their regions.
    """

    def __init__(self, program: Program, source: str, leaves: list[Region]) -> None:
        """Lay out the call."""
        self.program, self.source, self.leaves = program, source, leaves
        self.operands = [*leaves[0].scalars, *(v for leaf in leaves for v in leaf.arrays)]
        self.positions = [position for leaf in leaves for position in leaf.results]

    def operations(self) -> list[Operation]:
        """Return what is computed, leaf by leaf."""
        return [operation for leaf in self.leaves for operation in leaf.operations]

    def lowered(self, platform: str, several: bool) -> Callable[..., Sequence[jax.Array]]:
        """Return the loop on CPUs; GPUs and TPUs make one kernel of a leaf themselves."""
        if platform != "cpu":
            return self.joined if platform == "cuda" else self.plain
        return self.partitioned if several else self.called

    def joined(self, *operands: jax.Array) -> Sequence[jax.Array]:
        """Compute it with XLA, small equal leaves with their scalars in one array, so that it joins their kernels."""
        known = dict(zip(self.operands, operands, strict=True))
        shapes = [self.program.shape(leaf.arrays[0]) for leaf in self.leaves]
        small, together = worth_joining(shapes), known
        if small and (scalars := self.leaves[0].scalars):
            together = known | dict(zip(scalars, jaxopt_lec_in_one_array(*(known[v] for v in scalars)), strict=True))
        results: list[jax.Array] = []
        for leaf, shape in zip(self.leaves, shapes, strict=True):
            given = together if shape in small else known
            results += self.program.evaluate(leaf.operations, given, list(leaf.results.values()))
        return results

    def bytes_per_number(self) -> int:
        """Return how many bytes of memory are read and written for each number of a leaf."""
        leaf = self.leaves[0]
        return sum(self.program.avals[v].dtype.itemsize for v in [*leaf.arrays, *leaf.results.values()])

    def called(self, *operands: jax.Array) -> Sequence[jax.Array]:
        """Call the compiled loop, on arrays or on one device's parts of them."""
        leaf, scalars = self.leaves[0], len(self.leaves[0].scalars)
        avals, inputs, results = self.program.avals, len(leaf.arrays), len(leaf.results)
        sizes = tuple(np.dtype(HELD[str(avals[v].dtype)]).itemsize for v in leaf.arrays)
        replaced = tuple(leaf.replaced.get(position, -1) for position in leaf.results)
        shapes: list[jax.ShapeDtypeStruct] = []
        aliases: dict[int, int] = {}
        for k in range(len(self.leaves)):
            first = scalars + inputs * k
            shapes += [jax.ShapeDtypeStruct(operands[first].shape, avals[v].dtype) for v in leaf.results.values()]
            aliases |= {first + place: results * k + i for i, place in enumerate(replaced) if place >= 0}
        target = _target(self.source, scalars, sizes, replaced)
        return jax.ffi.ffi_call(target, shapes, input_output_aliases=aliases)(*operands)

    def partitioned(self, *operands: jax.Array) -> Sequence[jax.Array]:
        """Call the loop on several devices, each on its part: a leaf's arrays are all split as the most split of them is."""
        scalars, inputs, results = len(self.leaves[0].scalars), len(self.leaves[0].arrays), len(self.leaves[0].results)

        def split(mesh: Any, arguments: Any) -> tuple[list[Any], list[Any]]:
            firsts = range(scalars, len(arguments), inputs)
            of_leaves = [_finest([x.sharding for x in arguments[k : k + inputs]], arguments[k].shape) for k in firsts]
            whole = [NamedSharding(mesh, PartitionSpec())] * scalars
            return [*whole, *(s for s in of_leaves for _ in range(inputs))], [s for s in of_leaves for _ in range(results)]

        def partition(mesh: Any, arguments: Any, _: Any) -> Any:
            given, found = split(mesh, arguments)
            return mesh, lambda *parts: tuple(self.called(*parts)), tuple(found), tuple(given)

        axes = [
            " ".join(f"i{k}a{axis}" for axis in range(operands[scalars + inputs * k].ndim)) for k in range(len(self.leaves))
        ]
        rule = ", ".join([""] * scalars + [x for x in axes for _ in range(inputs)])
        call = custom_partitioning(lambda *arrays: tuple(self.called(*arrays)))
        call.def_partition(
            partition,
            infer_sharding_from_operands=lambda mesh, arguments, _: tuple(split(mesh, arguments)[1]),
            sharding_rule=f"{rule} -> {', '.join(x for x in axes for _ in range(results))}",
        )
        return call(*operands)


def grouped(program: Program, found: Iterable[Region]) -> list[Loop]:
    """Return the loops for the regions, in few calls."""
    sources: dict[Any, str] = {}
    alike: dict[Any, list[Region]] = {}
    for region in found:
        like = likeness(program, region)
        if like not in sources:
            sources[like] = source_of(program, region)
        alike.setdefault((sources[like], region.scalars), []).append(region)
    return [
        Loop(program, source, leaves[k : k + MOST_LEAVES])
        for (source, _), leaves in alike.items()
        for k in range(0, len(leaves), MOST_LEAVES)
    ]


def _finest(shardings: list[Any], shape: tuple[int, ...]) -> Any:
    return min(shardings, key=lambda sharding: math.prod(sharding.shard_shape(shape)))


# Threads may compile programs with the same loop at once; XLA takes a name once.
_one_at_a_time = threading.Lock()


def _target(source: str, scalars: int, sizes: tuple[int, ...], replaced: tuple[int, ...]) -> str:
    """Compile a loop, once for a process, and return the name that XLA calls it by."""
    with _one_at_a_time:
        return _compiled(source, scalars, sizes, replaced)


@functools.cache
def _compiled(source: str, scalars: int, sizes: tuple[int, ...], replaced: tuple[int, ...]) -> str:
    import numba

    from jaxopt_lec.fusing import runtime

    name = f"jaxopt_lec_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    namespace: dict[str, Any] = {"np": np, "numba": numba, **{key: getattr(runtime, key) for key in runtime.FOR_LOOPS}}
    exec(compile(source, f"<{name}>", "exec"), namespace)
    body = numba.njit(fastmath={"contract"}, error_model="numpy")(namespace["body"])
    runtime.register(name, body, scalars, sizes, replaced)
    return name
