"""A loop compiled by numba as a function that XLA calls: the call frame of XLA's FFI, and work for XLA's own threads.

The frame's layout is that of `xla/ffi/api/c_api.h` in `jax.ffi.include_dir()`, for 64-bit machines. XLA asks for the version
that a function was made for, and promises to support each for twelve months.
"""

from collections.abc import Callable
from typing import Any

import jax
import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["FOR_LOOPS", "register"]

# What the source of a loop may call.
FOR_LOOPS = ("bfloat16_of", "bits_of", "number_of", "pointer", "scalar", "word")

API_VERSION = (0, 3)
METADATA = 1  # the type of the extension with which XLA asks for the version

# Where things stand, in bytes. XLA_FFI_CallFrame:
FRAME_EXTENSION, FRAME_API, FRAME_CONTEXT = 8, 16, 24
FRAME_NUMBER, FRAME_ARGUMENTS, FRAME_RESULTS = 56, 72, 112  # how many, and arrays of pointers to XLA_FFI_Buffer
BUFFER_DATA, BUFFER_RANK, BUFFER_DIMENSIONS = 3, 4, 5  # in words
API_ERROR_DESTROY, API_SCHEDULE, API_NUM_THREADS = 64, 136, 144

# The control block of one call, in words of 8 bytes: chunks taken and done, chunks and leaves in all, how many threads hold
# the block; then for each leaf the number of its first chunk, its size, and the addresses of its scalars and arrays.
TAKEN, DONE, CHUNKS, LEAVES, HOLDERS, HEAD = range(6)
CHUNK = 1 << 16  # numbers

# A loop of many arrays is vectorised after a check that they do not overlap; by default LLVM makes at most eight.
llvmlite.binding.set_option("", "-runtime-memory-check-threshold=256")

WORD = ir.IntType(64)


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


@intrinsic
def pointer(typing, address, dtype):
    """Return the address as a pointer to numbers of `dtype`, for `numba.carray`."""
    kind = types.CPointer(dtype.dtype)

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64, dtype), code


@intrinsic
def _load(typing, address, dtype):
    kind = dtype.dtype

    def code(context, builder, signature, arguments):
        return builder.load(_pointer(builder, arguments[0], context.get_value_type(kind)))

    return kind(types.int64, dtype), code


@intrinsic
def _store(typing, address, value):
    def code(context, builder, signature, arguments):
        builder.store(arguments[1], _pointer(builder, arguments[0], arguments[1].type))
        return context.get_dummy_value()

    return types.void(types.int64, value), code


@numba.njit
def word(block, place):
    """Return a word of a block."""
    return _load(block + 8 * place, numba.int64)


@numba.njit
def _set_word(block, place, value):
    _store(block + 8 * place, numba.int64(value))


@numba.njit
def scalar(block, place, dtype):
    """Return the number whose address is a word of a block."""
    return _load(word(block, place), dtype)


def _bitcast(source: Any, target: Any) -> Any:
    @intrinsic
    def cast(typing, x):
        def code(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(source), code

    return cast


bits_of = _bitcast(types.float32, types.uint32)
number_of = _bitcast(types.uint32, types.float32)


@intrinsic
def _atomic_add(typing, address, value):
    def code(context, builder, signature, arguments):
        return builder.atomic_rmw("add", _pointer(builder, arguments[0], WORD), arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


def _libc(name: str, parameters: int) -> Any:
    """A function of the C library, whose arguments and result are words."""

    def code(context, builder, signature, arguments):
        kind = ir.FunctionType(WORD, [WORD] * parameters)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    if parameters == 1:

        @intrinsic
        def call(typing, argument):
            return types.int64(types.int64), code
    else:

        @intrinsic
        def call(typing, to, source, size):
            return types.int64(types.int64, types.int64, types.int64), code

    return call


_allocate, _release, _copy = _libc("malloc", 1), _libc("free", 1), _libc("memcpy", 3)


@intrinsic
def _call(typing, function, argument):
    """Call the C function at an address with a pointer, as all of XLA's API is called; return the pointer that it gives."""

    def code(context, builder, signature, arguments):
        kind = ir.FunctionType(WORD, [WORD])
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])

    return types.int64(types.int64, types.int64), code


@intrinsic
def _local_words(typing):
    """Return the address of five words on the stack, the most that a call of XLA's API takes."""

    def code(context, builder, signature, arguments):
        return builder.ptrtoint(cgutils.alloca_once(builder, WORD, size=5), WORD)

    return types.int64(), code


@numba.njit
def bfloat16_of(x):
    """Return the float32 `x` rounded to the nearest bfloat16, ties to even, as its 16 bits."""
    if x != x:
        return numba.uint16(0x7FC0)
    bits = bits_of(x)
    return numba.uint16((bits + numba.uint32(0x7FFF) + ((bits >> numba.uint32(16)) & numba.uint32(1))) >> numba.uint32(16))


@numba.njit
def _let_go(block):
    """The last one to let go of a block gives it back: a thread may come to its task when the call is long over."""
    if _atomic_add(block + 8 * HOLDERS, -1) == 1:
        _release(block)


# A plan, in words: how many words a leaf has in a control block, scalars, inputs, outputs; sizes; replaced inputs.
PLAN_WORDS, PLAN_SCALARS, PLAN_INPUTS, PLAN_OUTPUTS, PLAN_SIZES = range(5)


@numba.njit(types.int64(types.int64))
def _size(buffer):
    numbers, dimensions = 1, word(buffer, BUFFER_DIMENSIONS)
    for axis in range(word(buffer, BUFFER_RANK)):
        numbers *= word(dimensions, axis)
    return numbers


@numba.njit(types.void(types.int64, types.int64))
def _destroy(api, error):
    asked = _local_words()
    _set_word(asked, 0, 24)
    _set_word(asked, 1, 0)
    _set_word(asked, 2, error)
    _call(_load(api + API_ERROR_DESTROY, types.int64), asked)


@numba.njit(types.int64(types.int64, types.int64))
def _threads(frame, api):
    """Return how many threads XLA's pool has: as many as the CPUs that the process may use."""
    answer, asked = _local_words(), _local_words()
    _set_word(asked, 0, 32)
    _set_word(asked, 1, 0)
    _set_word(asked, 2, _load(frame + FRAME_CONTEXT, types.int64))
    _set_word(asked, 3, answer)
    error = _call(_load(api + API_NUM_THREADS, types.int64), asked)
    if error != 0:  # there is no pool
        _destroy(api, error)
        return 1
    return word(answer, 0)


@numba.njit(types.int64(types.int64, types.int64))
def _block(frame, plan):
    """Return a new control block for the call."""
    words, scalars = word(plan, PLAN_WORDS), word(plan, PLAN_SCALARS)
    inputs, outputs = word(plan, PLAN_INPUTS), word(plan, PLAN_OUTPUTS)
    arguments, results = _load(frame + FRAME_ARGUMENTS, types.int64), _load(frame + FRAME_RESULTS, types.int64)
    leaves = (_load(frame + FRAME_NUMBER, types.int64) - scalars) // inputs
    block = _allocate(8 * (HEAD + words * leaves))
    chunks = 0
    for leaf in range(leaves):
        at, argument, result = HEAD + words * leaf, scalars + inputs * leaf, outputs * leaf
        numbers = _size(word(arguments, argument))
        _set_word(block, at, chunks)
        _set_word(block, at + 1, numbers)
        chunks += (numbers + CHUNK - 1) // CHUNK
        for k in range(scalars):
            _set_word(block, at + 2 + k, word(word(arguments, k), BUFFER_DATA))
        for k in range(inputs):
            _set_word(block, at + 2 + scalars + k, word(word(arguments, argument + k), BUFFER_DATA))
        new = at + 2 + scalars + inputs
        for k in range(outputs):
            place, replaced = word(word(results, result + k), BUFFER_DATA), word(plan, PLAN_SIZES + inputs + k)
            if replaced < 0:
                _set_word(block, new, place)
                new += 1
                continue
            # One address for both, so that LLVM sees that no number depends on another. XLA gives one buffer for both; if it
            # ever does not, the loop works on a copy.
            source = word(word(arguments, argument + replaced), BUFFER_DATA)
            if source != place:
                _copy(place, source, numbers * word(plan, PLAN_SIZES + replaced))
            _set_word(block, at + 2 + scalars + replaced, place)
    _set_word(block, TAKEN, 0)
    _set_word(block, DONE, 0)
    _set_word(block, CHUNKS, chunks)
    _set_word(block, LEAVES, leaves)
    return block


@numba.njit(types.UniTuple(types.int64, 3)(types.int64, types.int64))
def _next_chunk(block, words):
    """Take a chunk: return the place of its leaf, 0 if there is none left, its first number and its end."""
    chunk = _atomic_add(block + 8 * TAKEN, 1)
    if chunk >= word(block, CHUNKS):
        return 0, 0, 0
    low, high = 0, word(block, LEAVES)  # the leaf lies in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        if word(block, HEAD + words * middle) <= chunk:
            low = middle
        else:
            high = middle
    leaf = HEAD + words * low
    first = (chunk - word(block, leaf)) * CHUNK
    return leaf, first, min(first + CHUNK, word(block, leaf + 1))


@numba.njit(types.int64(types.int64, types.int64, types.int64))
def _serve(frame, plan, task):
    """Answer one call of XLA: share the chunks of all leaves among this thread and XLA's others."""
    extension = _load(frame + FRAME_EXTENSION, types.int64)
    if extension != 0 and _load(extension + 8, types.int32) == METADATA:
        metadata = word(extension, 3)
        _store(metadata + 24, types.int32(API_VERSION[0]))
        _store(metadata + 28, types.int32(API_VERSION[1]))
        _store(metadata + 32, types.uint32(0))
        return 0
    api = _load(frame + FRAME_API, types.int64)
    block = _block(frame, plan)
    chunks = word(block, CHUNKS)
    helping = max(0, min(chunks, _threads(frame, api)) - 1)
    _set_word(block, HOLDERS, helping + 2)
    asked = _local_words()
    _set_word(asked, 0, 40)
    _set_word(asked, 1, 0)
    _set_word(asked, 2, _load(frame + FRAME_CONTEXT, types.int64))
    _set_word(asked, 3, task)
    _set_word(asked, 4, block)
    for _ in range(helping):
        error = _call(_load(api + API_SCHEDULE, types.int64), asked)
        if error != 0:
            _destroy(api, error)
            _let_go(block)
    _call(task, block)
    # What is not done by now was taken by a thread that is at it: nobody waits for one that has not come.
    while _atomic_add(block + 8 * DONE, 0) < chunks:
        pass
    _let_go(block)
    return 0


_kept: list[Any] = []  # compiled code must outlive all programs that call it


def register(name: str, body: Callable[..., None], scalars: int, sizes: tuple[int, ...], replaced: tuple[int, ...]) -> None:
    """Register a loop as a target of `jax.ffi.ffi_call` on CPUs.

    The operands of a call are the scalars, and then each leaf's input arrays; its results are each leaf's outputs.

    Args:
        name: of the target.
        body: njit function `(block, place, first, last)` over the numbers from first to last of one leaf. From its place
            on, the block has the addresses of the scalars, of the inputs, and of those outputs that replace no input.
        scalars: how many scalars there are.
        sizes: bytes of a number, for each input.
        replaced: for each output which input it takes the place of, or −1.
    """
    words = 2 + scalars + len(sizes) + sum(k < 0 for k in replaced)
    plan = np.array([words, scalars, len(sizes), len(replaced), *sizes, *replaced], np.int64)
    plan_address = plan.ctypes.data

    @numba.cfunc(types.int64(types.int64))
    def task(block):
        while True:
            leaf, first, last = _next_chunk(block, words)
            if leaf == 0:
                break
            body(block, leaf + 2, first, last)
            _atomic_add(block + 8 * DONE, 1)
        _let_go(block)
        return 0

    task_address = task.address

    @numba.cfunc(types.int64(types.int64))
    def handler(frame):
        return _serve(frame, plan_address, task_address)

    _kept.append((plan, task, handler))
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler.ctypes), platform="cpu")
