"""What a step computes, as data flow: which of it is element-wise over a leaf, and what is to be computed before.

Nothing is assumed about how a transformation treats its leaves: the whole step is traced, and what the trace says counts.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxopt_lec.launches import IN_ONE_ARRAY

__all__ = ["POSITIONS", "Operand", "Operation", "Program", "Region", "regions"]

# A number of a value, or a constant in the place of one.
Operand: TypeAlias = "int | Literal"
IsElementwise: TypeAlias = Callable[["Program", "Operation"], bool]
Apply: TypeAlias = Callable[["Operation", list[Any]], Any]

# Operations that only wrap others: what they hold stands in their place.
WRAPPERS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}

# The function that gives each number's place in its leaf: it stays one operation.
POSITIONS = "jaxopt_lec_positions"


@functools.cache
def _name(dtype: Any) -> str:
    return str(dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One operation of a program, between numbered values.

    Attributes:
        context: JAX's context when the operation was traced, such as the mesh.
        body: the called program, if the operation is a call for one leaf's element-wise region.
    """

    primitive: Any
    parameters: dict[str, Any]
    inputs: tuple[Operand, ...]
    outputs: tuple[int, ...]
    context: Any
    body: "Body | None" = None

    @property
    def name(self) -> str:
        """The primitive's name."""
        return str(self.primitive.name)


def _is_hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


def _bind(operation: Operation, inputs: list[Any]) -> Any:
    if operation.body is not None:
        return operation.body.call(*inputs)
    with operation.context.manager:
        return operation.primitive.bind(*inputs, **operation.parameters)


class Program:
    """A traced function, flat: its values are numbered, the inputs first, then the constants.

    Only calls that are a leaf's element-wise region all through stay calls: a thousand leaves call the same equation.
    """

    def __init__(self, traced: ClosedJaxpr, is_elementwise: IsElementwise | None = None) -> None:
        """Flatten the function; without `is_elementwise` no call stays one."""
        self._is_elementwise = is_elementwise
        self._bodies: dict[ClosedJaxpr, Body | None] = {}
        self.avals: list[Any] = []
        self.dtypes: list[str] = []  # of the values, by name
        self.operations: list[Operation] = []
        self.made_by: dict[int, Operation] = {}
        self._scalars: dict[Any, list[Operand]] = {}
        self.inputs = [self._new(v.aval) for v in traced.jaxpr.invars]
        self.consts = {self._new(v.aval): c for v, c in zip(traced.jaxpr.constvars, traced.consts, strict=True)}
        known = dict(zip([*traced.jaxpr.invars, *traced.jaxpr.constvars], [*self.inputs, *self.consts], strict=True))
        self.outputs = self._flatten(traced.jaxpr, known)

    def _new(self, aval: Any) -> int:
        self.avals.append(aval)
        self.dtypes.append(_name(aval.dtype))
        return len(self.avals) - 1

    def _flatten(self, jaxpr: Any, known: dict[Any, Operand]) -> list[Operand]:
        def operand(v: Any) -> Operand:
            return v if isinstance(v, Literal) else known[v]

        for eqn in jaxpr.eqns:
            inputs = [operand(v) for v in eqn.invars]
            inside = eqn.params.get(WRAPPERS.get(eqn.primitive.name, ""))
            if eqn.params.get("name") == POSITIONS:
                inside = None
            if eqn.params.get("name") == IN_ONE_ARRAY:
                results = inputs  # where they are is decided anew for the leaves of a loop
            elif body := self._body(eqn, inside):
                results = list(self._add(eqn, [inputs[k] for k in body.places], body).outputs)
            elif inside is not None:
                held_in, consts = (inside.jaxpr, inside.consts) if isinstance(inside, ClosedJaxpr) else (inside, [])
                held = [self._new(v.aval) for v in held_in.constvars]
                self.consts.update(zip(held, consts, strict=True))
                given = zip([*held_in.constvars, *held_in.invars], [*held, *inputs], strict=True)
                results = self._flatten(held_in, dict(given))
            else:
                results = self._operation(eqn, inputs)
            known.update(zip(eqn.outvars, results, strict=True))
        return [operand(v) for v in jaxpr.outvars]

    def _body(self, eqn: Any, called: Any) -> "Body | None":
        """Return what is called, if it is one leaf's element-wise region."""
        is_call = eqn.primitive.name in ("jit", "pjit") and called is not None
        if self._is_elementwise is None or not is_call or len({v.aval.shape for v in eqn.outvars}) != 1:
            return None
        if called not in self._bodies:
            program = Program(called)
            found = list(regions(program, range(len(program.outputs)), self._is_elementwise))
            is_one = len(found) == 1 and len(found[0].results) == len(program.outputs)
            alone = is_one and len(found[0].operations) == len(program.operations) and not program.consts
            self._bodies[called] = Body(eqn.params["name"], program, found[0]) if alone else None
        return self._bodies[called]

    def _add(self, eqn: Any, inputs: list[Operand], body: "Body | None" = None) -> Operation:
        results = tuple(self._new(v.aval) for v in eqn.outvars)
        operation = Operation(eqn.primitive, eqn.params, tuple(inputs), results, eqn.ctx, body)
        self.operations.append(operation)
        self.made_by.update(dict.fromkeys(results, operation))
        return operation

    def _operation(self, eqn: Any, inputs: list[Operand]) -> list[Operand]:
        of_scalars = not eqn.effects and not any(v.aval.shape for v in [*eqn.invars, *eqn.outvars])
        key: Any = None
        if of_scalars:
            # The same scalar from the same ones: leaves of different shapes have it once, and so one loop.
            same = [(np.asarray(v.val).tobytes(), v.aval) if isinstance(v, Literal) else v for v in inputs]
            key = (eqn.primitive, *sorted(eqn.params.items(), key=operator.itemgetter(0)), *same)
            of_scalars = _is_hashable(key)
            if of_scalars and key in self._scalars:
                return self._scalars[key]
        results: list[Operand] = list(self._add(eqn, inputs).outputs)
        if of_scalars:
            self._scalars[key] = results
        return results

    def shape(self, v: Operand) -> tuple[int, ...]:
        """Return the shape of a value or a constant."""
        aval: Any = v.aval if isinstance(v, Literal) else self.avals[v]
        return tuple(aval.shape)

    def needed(self, values: Iterable[Operand], known: Iterable[int]) -> list[Operation]:
        """Return the operations, in order, that the values need beyond the known ones."""
        wanted, known = {v for v in values if isinstance(v, int)}, set(known)
        found = []
        for operation in reversed(self.operations):
            if any(v in wanted and v not in known for v in operation.outputs):
                found.append(operation)
                wanted.update(v for v in operation.inputs if isinstance(v, int))
        return found[::-1]

    def evaluate(
        self,
        operations: Iterable[Operation],
        known: dict[int, Any],
        values: Sequence[Operand],
        apply: Apply = _bind,
    ) -> list[Any]:
        """Apply the operations to what is known, and return the values."""
        known = known.copy()

        def read(v: Operand) -> Any:
            return v.val if isinstance(v, Literal) else known[v]

        for operation in operations:
            found = apply(operation, [read(v) for v in operation.inputs])
            known.update(zip(operation.outputs, found if operation.primitive.multiple_results else [found], strict=True))
        return [read(v) for v in values]


@dataclasses.dataclass(frozen=True, eq=False)
class Region:
    """What a step computes element by element for one leaf.

    Attributes:
        operations: in order.
        scalars, arrays: the values that they read: computed before, or inputs of the program.
        results: position among the program's outputs → value.
        replaced: position among the outputs → the place in `arrays` of the program's input at the same position, where it
            is of the same dtype: the memory that the result may take.
    """

    operations: tuple[Operation, ...]
    scalars: tuple[int, ...]
    arrays: tuple[int, ...]
    results: dict[int, int]
    replaced: dict[int, int]


class Body:
    """What is called for a leaf: an element-wise region all through.

    Attributes:
        program: that the values below are numbered in.
        operations, inputs, outputs: of the region.
        places: of the inputs among what the call is given, which may be more.
        call: computes it as a program of its own, traced once.
    """

    def __init__(self, name: str, program: Program, region: Region) -> None:
        """Take the region; traces show it by name."""

        def run(*inputs: Any) -> list[Any]:
            return self.evaluate(inputs, _bind)

        run.__name__ = name
        self.program, self.operations, self.outputs = program, region.operations, program.outputs
        self.inputs = [*region.scalars, *region.arrays]
        self.places = [program.inputs.index(v) for v in self.inputs]
        self.call = jax.jit(run)

    def evaluate(self, inputs: Iterable[Any], apply: Apply) -> list[Any]:
        """Apply the operations to the inputs."""
        return self.program.evaluate(self.operations, dict(zip(self.inputs, inputs, strict=True)), self.outputs, apply)


def regions(program: Program, candidates: Sequence[int], is_elementwise: IsElementwise) -> Iterator[Region]:
    """Find the element-wise regions that end in outputs of the program.

    Args:
        program: whose first inputs are what its outputs, at the same positions, replace.
        candidates: positions of outputs.
        is_elementwise: whether an operation treats each number of a leaf alone.
    """
    avals = program.avals

    @functools.cache
    def belongs(value: int) -> bool:
        return value in program.made_by and is_elementwise(program, program.made_by[value])

    # Values of one leaf that lead to one another share a region: a union-find over values.
    leader: dict[int, int] = {}

    def find(v: int) -> int:
        while leader.setdefault(v, v) != v:
            leader[v] = v = leader[leader[v]]
        return v

    members: set[int] = set()
    for position in candidates:
        end = program.outputs[position]
        stack = [end] if isinstance(end, int) and belongs(end) else []
        while stack:
            v = stack.pop()
            if v in members:
                continue
            operation = program.made_by[v]
            members.update(operation.outputs)
            for x in (*operation.inputs, *operation.outputs):
                if isinstance(x, int) and avals[x].shape:
                    leader[find(x)] = find(v)
                    if belongs(x):
                        stack.append(x)

    ends: dict[int, list[int]] = {}
    for position in candidates:
        value = program.outputs[position]
        if isinstance(value, int) and value in members:
            ends.setdefault(find(value), []).append(position)
    inside: dict[int, list[Operation]] = {end: [] for end in ends}
    for operation in program.operations:
        if operation.outputs and operation.outputs[0] in members:
            inside[find(operation.outputs[0])].append(operation)
    given = dict(enumerate(program.inputs))
    for end, positions in ends.items():
        made = {v for operation in inside[end] for v in operation.outputs}
        read = dict.fromkeys(v for o in inside[end] for v in o.inputs if isinstance(v, int) and v not in made)
        arrays = tuple(v for v in read if avals[v].shape)
        replaced: dict[int, int] = {}
        for position in positions:
            before = given.get(position)
            if before in arrays and avals[before].dtype == avals[program.outputs[position]].dtype:  # type: ignore[index]
                replaced[position] = arrays.index(before)
        if arrays:
            results: dict[int, int] = {position: program.outputs[position] for position in positions}  # type: ignore[misc]
            yield Region(tuple(inside[end]), tuple(v for v in read if not avals[v].shape), arrays, results, replaced)
