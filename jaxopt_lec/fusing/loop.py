"""From the element-wise part of an equation to a compiled loop that XLA can call: LLVM's language, written from a `Body`."""

import ctypes
import functools
import hashlib
import importlib.resources
import math
import re
import string
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Body", "Operation", "call_loop", "can_compile", "has_compiler"]

TASK = 1 << 15  # elements that a thread takes at a time: tens of microseconds
_ALIGNED = 64  # elements: leaves start at multiples of it, so that no two threads write to one cache line


class Operation(NamedTuple):
    """One element-wise operation. Its operands are numbers of values: those of the inputs, then of the operations."""

    name: str  # of JAX's primitive
    parameter: Any  # what the primitive was given beside operands: a power, a way of rounding
    operands: tuple[int, ...]
    dtype: str


class Body(NamedTuple):
    """The element-wise part of an equation, without names and shapes: leaves with equal bodies share a loop.

    Attributes:
        inputs: of each its kind and dtype: "array", "scalar" (an array of one element), or the number itself.
        operations: in an order in which they can be computed.
        outputs: numbers of values.
    """

    inputs: tuple[tuple[Any, str], ...]
    operations: tuple[Operation, ...]
    outputs: tuple[int, ...]

    @property
    def operands(self) -> int:
        """How many inputs come as buffers: all but the numbers."""
        return sum(kind in ("array", "scalar") for kind, _ in self.inputs)


# dtype -> (in memory, in a register). Half precisions are computed in float32 and rounded after each operation.
_TYPES = {
    "float64": ("double", "double"),
    "float32": ("float", "float"),
    "float16": ("half", "float"),
    "bfloat16": ("i16", "float"),
    "bool": ("i8", "i1"),
    **{f"{sign}int{bits}": (f"i{bits}", f"i{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_FLOATING = ("float64", "float32", "float16", "bfloat16")

_ROUNDING = """
define internal float @rounded.bfloat16(float %x) alwaysinline {
  %bits = bitcast float %x to i32
  %shifted = lshr i32 %bits, 16
  %odd = and i32 %shifted, 1
  %half = add i32 %odd, 32767
  %up = add i32 %bits, %half
  %quiet = or i32 %bits, 4194304
  %is.nan = fcmp uno float %x, %x
  %either = select i1 %is.nan, i32 %quiet, i32 %up
  %kept = and i32 %either, -65536
  %y = bitcast i32 %kept to float
  ret float %y
}
define internal float @rounded.float16(float %x) alwaysinline {
  %h = fptrunc float %x to half
  %y = fpext half %h to float
  ret float %y
}
"""


class _Writer:
    """Writes instructions, each into a new name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declared: set[str] = set()

    def name(self, instruction: str) -> str:
        name = f"%v{len(self.lines)}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def call(self, function: str, kind: str, *operands: str, kinds: Sequence[str] = ()) -> str:
        kinds = kinds or [kind] * len(operands)
        if not function.startswith("rounded."):
            self.declared.add(f"declare {kind} @{function}({', '.join(kinds)})")
        listed = ", ".join(f"{k} {x}" for k, x in zip(kinds, operands, strict=True))
        return self.name(f"call {kind} @{function}({listed})")


_Emit = Callable[["_Writer", "_Typed"], str | None]


class _Typed(NamedTuple):
    """An operation with its operands' names and dtypes."""

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    dtype: str
    parameter: Any

    @property
    def kind(self) -> str:
        """The LLVM type of the operands."""
        return _TYPES[self.dtypes[-1]][1]

    @property
    def floating(self) -> bool:
        return self.dtypes[-1] in _FLOATING

    @property
    def signed(self) -> bool:
        return self.dtypes[-1].startswith("int")

    @property
    def suffix(self) -> str:
        return {"float": "f32", "double": "f64"}.get(self.kind, self.kind)


def _arithmetic(on_floats: str, on_integers: str | None) -> _Emit:
    def emit(w: _Writer, o: _Typed) -> str | None:
        a, b = o.names
        if o.floating:
            return w.name(f"{on_floats} contract {o.kind} {a}, {b}")
        return w.name(f"{on_integers} {o.kind} {a}, {b}") if on_integers and o.kind != "i1" else None

    return emit


def _comparison(on_floats: str, on_integers: str) -> _Emit:
    def emit(w: _Writer, o: _Typed) -> str:
        if o.floating:
            return w.name(f"fcmp {on_floats} {o.kind} {o.names[0]}, {o.names[1]}")
        sign = "" if on_integers in ("eq", "ne") else "s" if o.signed else "u"
        return w.name(f"icmp {sign}{on_integers} {o.kind} {o.names[0]}, {o.names[1]}")

    return emit


def _logical(instruction: str) -> _Emit:
    return lambda w, o: None if o.floating else w.name(f"{instruction} {o.kind} {o.names[0]}, {o.names[1]}")


def _intrinsic(name: str) -> _Emit:
    return lambda w, o: w.call(f"llvm.{name}.{o.suffix}", o.kind, *o.names) if o.floating else None


def _library(name: str) -> _Emit:
    def emit(w: _Writer, o: _Typed) -> str | None:
        function = name if o.kind == "double" else f"{name}f"
        if not o.floating or any(d != o.dtype for d in o.dtypes) or not _in_library(function):
            return None
        return w.call(function, o.kind, *o.names)

    return emit


def _extremum(which: str) -> _Emit:
    def emit(w: _Writer, o: _Typed) -> str:
        if o.floating:  # a NaN on either side comes through, as in XLA
            return w.call(f"llvm.{which}imum.{o.suffix}", o.kind, *o.names)
        if o.kind == "i1":
            return w.name(f"{'or' if which == 'max' else 'and'} i1 {o.names[0]}, {o.names[1]}")
        return w.call(f"llvm.{'s' if o.signed else 'u'}{which}.{o.suffix}", o.kind, *o.names)

    return emit


def _clamp(w: _Writer, o: _Typed) -> str:
    low, x, high = o.names
    above = _extremum("max")(w, o._replace(names=(x, low)))
    return str(_extremum("min")(w, o._replace(names=(str(above), high))))


def _negative(w: _Writer, o: _Typed) -> str | None:
    if o.floating:
        return w.name(f"fneg {o.kind} {o.names[0]}")
    return w.name(f"sub {o.kind} 0, {o.names[0]}") if o.kind != "i1" else None


def _absolute(w: _Writer, o: _Typed) -> str | None:
    if o.signed:
        return w.call(f"llvm.abs.{o.suffix}", o.kind, o.names[0], "false", kinds=(o.kind, "i1"))
    return _intrinsic("fabs")(w, o)


def _sign(w: _Writer, o: _Typed) -> str | None:
    if not o.floating:
        return None
    (x,) = o.names
    one = w.call(f"llvm.copysign.{o.suffix}", o.kind, "1.0", x)
    keeps = w.name(f"fcmp ueq {o.kind} {x}, 0.0")  # zeros and NaN are their own signs
    return w.name(f"select i1 {keeps}, {o.kind} {x}, {o.kind} {one}")


def _reciprocal_root(w: _Writer, o: _Typed) -> str | None:
    root = _intrinsic("sqrt")(w, o)
    return root and w.name(f"fdiv {o.kind} 1.0, {root}")


def _logistic(w: _Writer, o: _Typed) -> str | None:
    if not o.floating:
        return None
    power = _library("exp")(w, o._replace(names=(w.name(f"fneg {o.kind} {o.names[0]}"),)))
    return power and w.name(f"fdiv {o.kind} 1.0, {w.name(f'fadd {o.kind} {power}, 1.0')}")


def _integer_power(w: _Writer, o: _Typed) -> str | None:
    if not o.floating or o.dtype not in ("float32", "float64"):  # half precisions round after each product
        return None
    power, result, square = abs(o.parameter), None, o.names[0]
    while power:
        if power & 1:
            result = square if result is None else w.name(f"fmul {o.kind} {result}, {square}")
        power >>= 1
        if power:
            square = w.name(f"fmul {o.kind} {square}, {square}")
    if result is None:
        return "1.0"
    return result if o.parameter > 0 else w.name(f"fdiv {o.kind} 1.0, {result}")


def _round(w: _Writer, o: _Typed) -> str | None:
    return _intrinsic("round" if int(o.parameter) == 0 else "roundeven")(w, o)


def _finite(w: _Writer, o: _Typed) -> str | None:
    size = _absolute(w, o)
    return w.name(f"fcmp olt {o.kind} {size}, {_constant(math.inf, o.dtypes[0])}") if o.floating else None


def _select(w: _Writer, o: _Typed) -> str | None:
    if o.dtypes[0] != "bool" or len(o.names) != 3:
        return None
    which, no, yes = o.names
    return w.name(f"select i1 {which}, {o.kind} {yes}, {o.kind} {no}")


def _not(w: _Writer, o: _Typed) -> str | None:
    return None if o.floating else w.name(f"xor {o.kind} {o.names[0]}, {'true' if o.kind == 'i1' else -1}")


def _convert(w: _Writer, o: _Typed) -> str:
    (x,), new = o.names, _TYPES[o.dtype][1]
    to_floating, to_signed = o.dtype in _FLOATING, o.dtype.startswith("int")
    if o.dtype == "bool":
        return w.name(f"fcmp une {o.kind} {x}, 0.0" if o.floating else f"icmp ne {o.kind} {x}, 0")
    if o.kind == new and o.floating == to_floating:
        return x
    if o.floating and not to_floating:
        instruction = f"llvm.fpto{'s' if to_signed else 'u'}i.sat.{new}.{o.suffix}"
        return w.call(instruction, new, x, kinds=(o.kind,))
    if o.floating:
        return w.name(f"{'fpext' if new == 'double' else 'fptrunc'} {o.kind} {x} to {new}")
    if to_floating:
        return w.name(f"{'sitofp' if o.signed else 'uitofp'} {o.kind} {x} to {new}")
    narrower = int(new[1:]) < int(o.kind[1:])
    return w.name(f"{'trunc' if narrower else 'sext' if o.signed else 'zext'} {o.kind} {x} to {new}")


_EMIT: dict[str, _Emit] = {
    "add": _arithmetic("fadd", "add"),
    "add_any": _arithmetic("fadd", "add"),
    "sub": _arithmetic("fsub", "sub"),
    "mul": _arithmetic("fmul", "mul"),
    "div": _arithmetic("fdiv", None),
    "neg": _negative,
    "abs": _absolute,
    "sign": _sign,
    "sqrt": _intrinsic("sqrt"),
    "rsqrt": _reciprocal_root,
    "square": lambda w, o: _arithmetic("fmul", "mul")(w, o._replace(names=o.names * 2)),
    "integer_pow": _integer_power,
    "logistic": _logistic,
    "max": _extremum("max"),
    "min": _extremum("min"),
    "clamp": _clamp,
    "select_n": _select,
    "eq": _comparison("oeq", "eq"),
    "ne": _comparison("une", "ne"),
    "lt": _comparison("olt", "lt"),
    "le": _comparison("ole", "le"),
    "gt": _comparison("ogt", "gt"),
    "ge": _comparison("oge", "ge"),
    "and": _logical("and"),
    "or": _logical("or"),
    "xor": _logical("xor"),
    "not": _not,
    "is_finite": _finite,
    "floor": _intrinsic("floor"),
    "ceil": _intrinsic("ceil"),
    "round": _round,
    "convert_element_type": _convert,
    "copy": lambda w, o: o.names[0],
    **{f: _library(f) for f in ("exp", "exp2", "expm1", "log", "log1p", "tanh", "pow", "cbrt", "erf", "sin", "cos", "atan2")},
}


def _emit(w: _Writer, name: str, o: _Typed) -> str | None:
    """Write the operation, and return the name of its result, `None` where there is no way to compute it."""
    if name not in _EMIT or any(d not in _TYPES for d in (*o.dtypes, o.dtype)):
        return None
    if "float16" in (*o.dtypes, o.dtype) and not _converts_float16():
        return None
    result = _EMIT[name](w, o)
    if result is None or o.dtype not in ("float16", "bfloat16") or name in ("copy", "select_n"):
        return result
    return w.call(f"rounded.{o.dtype}", "float", result)


@functools.cache
def can_compile(name: str, parameter: Any, dtypes: tuple[str, ...], dtype: str) -> bool:
    """Whether an operation on operands of these dtypes can be part of a loop."""
    names = tuple(f"%x{i}" for i in range(len(dtypes)))
    return _emit(_Writer(), name, _Typed(names, dtypes, dtype, parameter)) is not None


def _constant(value: Any, dtype: str) -> str:
    if dtype in _FLOATING:
        return f"0x{np.float64(value).view(np.uint64):016X}"
    return str(bool(value)).lower() if dtype == "bool" else str(int(value))


def _load(w: _Writer, address: str, dtype: str, metadata: str) -> str:
    memory, register = _TYPES[dtype]
    x = w.name(f"load {memory}, ptr {address}{metadata}")
    if dtype == "bool":
        return w.name(f"trunc i8 {x} to i1")
    if dtype == "float16":
        return w.name(f"fpext half {x} to float")
    if dtype == "bfloat16":
        wide = w.name(f"shl i32 {w.name(f'zext i16 {x} to i32')}, 16")
        return w.name(f"bitcast i32 {wide} to {register}")
    return x


def _store(w: _Writer, x: str, address: str, dtype: str) -> None:
    memory, _ = _TYPES[dtype]
    if dtype == "bool":
        x = w.name(f"zext i1 {x} to i8")
    if dtype == "float16":
        x = w.name(f"fptrunc float {x} to half")
    if dtype == "bfloat16":
        high = w.name(f"lshr i32 {w.name(f'bitcast float {x} to i32')}, 16")
        x = w.name(f"trunc i32 {high} to i16")
    w.lines.append(f"  store {memory} {x}, ptr {address}, !llvm.access.group !0")


@functools.cache
def _source(body: Body) -> str:
    """Return the handler and the body as LLVM assembly."""
    w = _Writer()
    values: list[str] = []
    arrays: dict[int, str] = {}
    buffers = 0
    for number, (kind, dtype) in enumerate(body.inputs):
        if kind not in ("array", "scalar"):
            values.append(_constant(kind, dtype))
            continue
        index = w.name(f"load i64, ptr {w.name(f'getelementptr i64, ptr %row, i64 {buffers}')}")
        address = w.name(f"call ptr @data_of(ptr %args, i64 {index})")
        buffers += 1
        if kind == "array":
            arrays[number] = address
        values.append(_load(w, address, dtype, "") if kind == "scalar" else "")
    dtypes = [dtype for _, dtype in body.inputs] + [operation.dtype for operation in body.operations]
    results = [w.name(f"call ptr @data_of(ptr %rets, i64 {k})") for k in range(len(body.outputs))]
    w.lines += ["  br label %loop", "loop:", "  %i = phi i64 [ %from, %entry ], [ %i.next, %loop ]"]
    for number, address in arrays.items():
        memory = _TYPES[dtypes[number]][0]
        element = w.name(f"getelementptr inbounds {memory}, ptr {address}, i64 %i")
        values[number] = _load(w, element, dtypes[number], ", !llvm.access.group !0")
    for name, parameter, operands, dtype in body.operations:
        typed = _Typed(tuple(values[k] for k in operands), tuple(dtypes[k] for k in operands), dtype, parameter)
        result = _emit(w, name, typed)
        assert result is not None, f"{name} cannot be compiled"
        values.append(result)
    for number, address in zip(body.outputs, results, strict=True):
        memory = _TYPES[dtypes[number]][0]
        _store(w, values[number], w.name(f"getelementptr inbounds {memory}, ptr {address}, i64 %i"), dtypes[number])
    handler = string.Template((importlib.resources.files(__package__) / "handler.ll").read_text())
    filled = handler.substitute(OPERANDS=body.operands, RESULTS=len(body.outputs), TASK=TASK, MINOR=_api_version()[1])
    return "\n".join(
        [
            filled,
            *sorted(w.declared),
            _ROUNDING,
            "define internal void @body(ptr %args, ptr %rets, ptr %row, i64 %from, i64 %to) noinline {",
            "entry:",
            *w.lines,
            "  %i.next = add nuw nsw i64 %i, 1",
            "  %done = icmp eq i64 %i.next, %to",
            "  br i1 %done, label %exit, label %loop, !llvm.loop !1",
            "exit:",
            "  ret void",
            "}",
            # An output is one of the inputs or apart from all: elements do not meet, and the loop can be vectorised.
            '!0 = distinct !{}\n!1 = distinct !{!1, !{!"llvm.loop.parallel_accesses", !0}}',
        ]
    )


@functools.cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def _in_library(function: str) -> bool:
    return _llvm().address_of_symbol(function) is not None


@functools.cache
def _converts_float16() -> bool:
    """Whether the processor does; otherwise LLVM would call a function that is not everywhere."""
    features = _llvm().get_host_cpu_features()
    return features.get("f16c", False) or "aarch64" in _llvm().get_process_triple() or "arm64" in _llvm().get_process_triple()


@functools.cache
def _api_version() -> tuple[int, int]:
    header = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    found = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", header))
    return int(found["MAJOR"]), int(found["MINOR"])


@functools.cache
def has_compiler() -> bool:
    """Whether loops can be compiled here: llvmlite is installed, and XLA speaks the version of the interface that we do."""
    try:
        _llvm()
    except ImportError:
        return False
    return sys.platform != "win32" and sys.maxsize > 2**32 and _api_version()[0] == 0


_engines: list[Any] = []  # they own the machine code


@functools.cache
def _target(body: Body) -> str:
    """Compile the loop of a body, and return the name under which XLA finds it."""
    llvm = _llvm()
    source = _source(body)
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, jit=True
    )
    module = llvm.parse_assembly(source)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _engines.append(engine)
    name = f"jaxopt_lec.loop.{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(engine.get_function_address("handler"))
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(function), platform="cpu")
    return name


def call_loop(
    body: Body, rows: Sequence[Sequence[int]], operands: Sequence[jax.Array], results: Sequence[Any], aliases: dict[int, int]
) -> list[jax.Array]:
    """Compute the body on many leaves in one call.

    Args:
        body: what to compute.
        rows: for each leaf, which of the operands are its inputs.
        operands: arrays of all leaves.
        results: shapes and dtypes of all outputs, leaf after leaf.
        aliases: operand → result that may be written where the operand lies.
    """
    sizes = np.array([math.prod(x.shape) for x in results[:: len(body.outputs)]])
    ends = np.cumsum(-(-sizes // _ALIGNED) * _ALIGNED)
    starts = np.concatenate([[0], ends[:-1]])
    table = np.concatenate([[-(-ends[-1] // TASK), len(sizes)], starts, sizes, np.ravel(rows)]).astype(np.int64)
    call = jax.ffi.ffi_call(_target(body), tuple(results), input_output_aliases=aliases)
    return list(call(*(jnp.asarray(x) for x in operands), table=table))
