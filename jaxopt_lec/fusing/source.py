"""An element-wise region as the source of a loop over one leaf, for numba to compile."""

import itertools
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxopt_lec.fusing.dataflow import Operand, Operation, Program, Region

__all__ = ["is_elementwise", "likeness", "source_of"]

# How numbers of a dtype are held in memory: bfloat16 is the upper 16 bits of float32, and computed as that.
HELD = {
    name: name for name in ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
}
HELD |= {"bfloat16": "uint16", "bool": "uint8"}
FLOATS = {"bfloat16", "float32", "float64"}

# Primitive → expression of its operands. NaN and infinity come out as XLA's do.
OF_FLOATS = {
    "div": "{0} / {1}",
    "sign": "({0} if {0} == 0 or {0} != {0} else ({one} if {0} > 0 else -{one}))",
    "sqrt": "np.sqrt({0})",
    "rsqrt": "{one} / np.sqrt({0})",
    "exp": "np.exp({0})",
    "exp2": "np.exp2({0})",
    "expm1": "np.expm1({0})",
    "log": "np.log({0})",
    "log1p": "np.log1p({0})",
    "sin": "np.sin({0})",
    "cos": "np.cos({0})",
    "tanh": "np.tanh({0})",
    "logistic": "{one} / ({one} + np.exp(-{0}))",
    "pow": "{0} ** {1}",
    "floor": "np.floor({0})",
    "ceil": "np.ceil({0})",
    "clamp": "({1} if {1} != {1} else ({0} if {1} < {0} else ({2} if {1} > {2} else {1})))",
    "is_finite": "np.isfinite({0})",
}
OF_NUMBERS = {
    "add": "{0} + {1}",
    "add_any": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "neg": "-{0}",
    "abs": "abs({0})",
    "square": "{0} * {0}",
    "max": "({0} if {0} != {0} or {0} >= {1} else {1})",
    "min": "({0} if {0} != {0} or {0} <= {1} else {1})",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
}
OF_BITS = {"and": "{0} & {1}", "or": "{0} | {1}", "xor": "{0} ^ {1}"}
SHIFTS = {
    "shift_left": (("int", "uint"), "{0} << {1}"),
    "shift_right_logical": (("uint",), "{0} >> {1}"),
    "shift_right_arithmetic": (("int",), "{0} >> {1}"),
}
OF_ANYTHING = {"copy": "{0}", "copy_p": "{0}", "broadcast_in_dim": "{0}"}
BITCASTS = {
    ("float32", "uint32"): "bits_of({0})",
    ("uint32", "float32"): "number_of({0})",
    ("float32", "int32"): "bits_of({0})",
    ("int32", "float32"): "number_of(np.uint32({0}))",
    ("bfloat16", "uint16"): "bfloat16_of({0})",
    ("uint16", "bfloat16"): "number_of(np.uint32({0}) << np.uint32(16))",
    ("uint32", "int32"): "{0}",
    ("int32", "uint32"): "{0}",
}
LARGEST_POWER = 8


def _aval(program: Program, v: Operand) -> Any:
    return v.aval if isinstance(v, Literal) else program.avals[v]


def _dtype(program: Program, v: Operand) -> str:
    return str(_aval(program, v).dtype) if isinstance(v, Literal) else program.dtypes[v]


def _expression(operation: Operation, dtypes: list[str], result: str) -> str | None:
    """Return what the operation computes of one number, as a template of its operands, or `None`."""
    name, parameters = operation.name, operation.parameters
    if name in OF_ANYTHING:
        return OF_ANYTHING[name]
    if name == "select_n":
        return "({2} if {0} else {1})" if dtypes[0] == "bool" and len(dtypes) == 3 else None
    if name == "convert_element_type":
        if result == "bool":
            return "{0} != 0"
        return "{0}" if result in FLOATS or dtypes[0] not in FLOATS else None
    if name == "bitcast_convert_type":
        return BITCASTS.get((dtypes[0], result))
    if name == "not":
        return "not {0}" if dtypes[0] == "bool" else "~{0}"
    if name in OF_BITS and not FLOATS & set(dtypes):
        return OF_BITS[name]
    if name in SHIFTS and dtypes[0].startswith(SHIFTS[name][0]):
        return SHIFTS[name][1]
    if name in OF_NUMBERS and "bool" not in dtypes:
        return OF_NUMBERS[name]
    if not set(dtypes) <= FLOATS:
        return None
    if name == "integer_pow":
        power = parameters["y"]
        product = " * ".join(["{0}"] * abs(power))
        return None if not 0 < abs(power) <= LARGEST_POWER else product if power > 0 else f"{{one}} / ({product})"
    if name == "round":
        return "np.rint({0})" if parameters["rounding_method"].name == "TO_NEAREST_EVEN" else None
    return OF_FLOATS.get(name)


def is_elementwise(program: Program, operation: Operation) -> bool:
    """Whether each number of the result depends on the numbers at its place, and on scalars; and the loop can compute it."""
    if operation.body is not None:
        return True
    if len(operation.outputs) != 1:
        return False
    (output,) = operation.outputs
    shape = program.avals[output].shape
    if not shape or 0 in shape:
        return False
    for v in operation.inputs:
        has = _aval(program, v).shape
        if has and has != shape:
            return False
    dtypes, result = [_dtype(program, v) for v in operation.inputs], _dtype(program, output)
    return {*dtypes, result} <= set(HELD) and _expression(operation, dtypes, result) is not None


class _Line(NamedTuple):
    """One operation in a loop: the name that its result gets, and what its operands are called."""

    name: str
    program: Program
    operation: Operation
    operands: list[str]


def _lines(program: Program, operations: Iterable[Operation], names: dict[int, str], new: Iterator[int]) -> Iterator[_Line]:
    """Name the operations' results; what is called stands in the place of the call."""
    for operation in operations:
        operands = [_called(program, v, names) for v in operation.inputs]
        if (body := operation.body) is not None:
            inside = dict(zip(body.inputs, operands, strict=True))
            yield from _lines(body.program, body.operations, inside, new)
            names.update(zip(operation.outputs, (_called(body.program, v, inside) for v in body.outputs), strict=True))
        else:
            names[operation.outputs[0]] = f"v{next(new)}"
            yield _Line(names[operation.outputs[0]], program, operation, operands)


def likeness(program: Program, region: Region) -> Hashable:
    """Return what decides over a region's source: far sooner found than the source."""
    names = {v: str(k) for k, v in enumerate([*region.scalars, *region.arrays])}
    does: list[Hashable] = [len(region.scalars), *(program.dtypes[v] for v in names)]
    for operation in region.operations:
        what: Hashable = operation.body
        if operation.body is None:
            dtypes = [_dtype(program, v) for v in operation.inputs]
            what = (operation.name, _expression(operation, dtypes, program.dtypes[operation.outputs[0]]))
        inputs = (_called(program, v, names) for v in operation.inputs)
        does.append((what, *inputs, program.dtypes[operation.outputs[0]]))
        for v in operation.outputs:
            names[v] = str(len(names))
    does += [(names[v], region.replaced.get(position)) for position, v in region.results.items()]
    return tuple(does)


def source_of(program: Program, region: Region) -> str:
    """Return the loop as the source of a function `body(block, place, first, last)`, equal for all leaves treated alike."""
    scalars, arrays = len(region.scalars), len(region.arrays)
    names: dict[int, str] = {}
    lines = ["def body(block, place, first, last):"]
    for k, v in enumerate(region.scalars):
        held = HELD[_dtype(program, v)]
        lines.append(f"    s{k} = {_read(_dtype(program, v), f'scalar(block, place + {k}, numba.{held})')}")
        names[v] = f"s{k}"
    outputs = arrays
    for k, v in enumerate(region.arrays):
        lines.append(_array(f"a{k}", scalars + k, HELD[_dtype(program, v)]))
        names[v] = f"x{k}"
    targets = {}
    for position, v in region.results.items():
        if position in region.replaced:
            targets[position] = f"a{region.replaced[position]}"
        else:
            targets[position] = f"a{outputs}"
            lines.append(_array(targets[position], scalars + outputs, HELD[_dtype(program, v)]))
            outputs += 1
    inner = list(_lines(program, region.operations, names, itertools.count()))
    # A division by a scalar is a product with its reciprocal: to one rounding the same, and several times as fast.
    reciprocals: dict[str, str] = {}
    for line in inner:
        dtype = _dtype(line.program, line.operation.outputs[0])
        of_scalar = line.operation.name == "div" and not _aval(line.program, line.operation.inputs[1]).shape
        if of_scalar and dtype in ("float32", "float64") and line.operands[1] not in reciprocals:
            reciprocals[line.operands[1]] = f"r{len(reciprocals)}"
            lines.append(f"    {reciprocals[line.operands[1]]} = {_number(1, dtype)} / {line.operands[1]}")
    lines.append("    for i in range(np.uint64(first), np.uint64(last)):")
    lines += [f"        x{k} = {_read(_dtype(program, v), f'a{k}[i]')}" for k, v in enumerate(region.arrays)]
    for name, within, operation, operands in inner:
        dtypes, result = [_dtype(within, v) for v in operation.inputs], _dtype(within, operation.outputs[0])
        expression = _expression(operation, dtypes, result)
        assert expression is not None
        if operation.name == "div" and operands[1] in reciprocals:
            expression, operands[1] = "{0} * {1}", reciprocals[operands[1]]
        lines.append(f"        {name} = {_rounded(result, expression.format(*operands, one=_number(1, result)))}")
    for position, v in region.results.items():
        written = f"bfloat16_of({names[v]})" if _dtype(program, v) == "bfloat16" else names[v]
        lines.append(f"        {targets[position]}[i] = {written}")
    return "\n".join(lines) + "\n"


def _array(name: str, place: int, held: str) -> str:
    return f"    {name} = numba.carray(pointer(word(block, place + {place}), numba.{held}), last)"


def _read(dtype: str, held: str) -> str:
    if dtype == "bfloat16":
        return f"number_of(np.uint32({held}) << np.uint32(16))"
    return f"{held} != 0" if dtype == "bool" else held


def _rounded(dtype: str, expression: str) -> str:
    """The expression as a number of the dtype: numba widens what Python would."""
    if dtype == "bfloat16":
        return _read(dtype, f"bfloat16_of(np.float32({expression}))")
    return expression if dtype == "bool" else f"np.{dtype}({expression})"


def _called(program: Program, v: Operand, names: dict[int, str]) -> str:
    return _literal(v, _dtype(program, v)) if isinstance(v, Literal) else names[v]


def _literal(literal: Any, dtype: str) -> str:
    value = np.asarray(literal.val).item()
    return str(value) if dtype == "bool" else _number(value, dtype)


def _number(value: float, dtype: str) -> str:
    computed = "float32" if dtype == "bfloat16" else dtype
    return f"np.{computed}({value!r})" if np.isfinite(value) else f"np.{computed}(float('{value}'))"
