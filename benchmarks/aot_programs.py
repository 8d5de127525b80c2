"""Compile the steps of all element-wise optimizers for one target, and print what each costs as a line of JSON.

`aot.py` runs this in an environment that has the target's compiler.
"""

import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies

import jaxopt_lec as jl
from jaxopt_lec import state

LEAF = {"leaf": (16384, 1024)}


def transformer(layers: int = 24, width: int = 1024, vocabulary: int = 30522, positions: int = 512) -> dict[str, Any]:
    """The shapes of BERT-large with its head for masked words: 300 leaves, 0.34 billion parameters."""

    def dense(n: int, m: int) -> dict[str, tuple[int, ...]]:
        return {"kernel": (n, m), "bias": (m,)}

    norm = {"scale": (width,), "bias": (width,)}
    layer = {
        "attention": {"qkv": dense(width, 3 * width), "out": dense(width, width), "norm": norm},
        "mlp": {"up": dense(width, 4 * width), "down": dense(4 * width, width), "norm": norm},
    }
    return {
        "embeddings": {"word": (vocabulary, width), "position": (positions, width), "type": (2, width), "norm": norm},
        "layers": {str(i): layer for i in range(layers)},
        "pooler": dense(width, width),
        "head": {"dense": dense(width, width), "norm": norm, "bias": (vocabulary,)},
    }


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a compiled step costs.

    Attributes:
        parameters: how many numbers it trains.
        least: bytes it must move: each input read once, each output written once.
        bytes: bytes that its kernels read from main memory and write to it.
        counted: what XLA's own cost analysis says of these; None where it says nothing.
        temporary: bytes of temporaries.
        kernels: kernels launched.
    """

    parameters: int
    least: int
    bytes: int
    counted: float | None
    temporary: int
    kernels: int


class Method(NamedTuple):
    """An element-wise optimizer: ours, and Optax's with what makes it the same."""

    ours: Callable[[float], Any]
    optax: Callable[..., Any] | None = None
    options: dict[str, Any] = {}  # noqa: RUF012


def methods() -> dict[str, Method]:
    return {
        "sgd": Method(jl.sgd, optax.sgd),
        "momentum": Method(jl.momentum, optax.sgd, {"momentum": 0.9}),
        "nesterov": Method(jl.nesterov, optax.sgd, {"momentum": 0.9, "nesterov": True}),
        "adagrad": Method(jl.adagrad, optax.adagrad),
        "rmsprop": Method(jl.rmsprop, optax.rmsprop),
        "adadelta": Method(jl.adadelta, optax.adadelta),
        "adam": Method(jl.adam, optax.adam),
        "adamw": Method(jl.adamw, optax.adamw),
        "adamax": Method(jl.adamax, optax.adamax),
        "nadam": Method(jl.nadam, optax.nadam),
        "radam": Method(jl.radam, optax.radam),
        "amsgrad": Method(jl.amsgrad, optax.amsgrad),
        "lion": Method(jl.lion, optax.lion),
        "rprop": Method(jl.rprop, optax.rprop),
        "asgd": Method(jl.asgd),
        "ftrl": Method(jl.ftrl),
    }


# Of the tree, these are enough: compiling 300 leaves takes a while.
OF_TREE = ["sgd", "momentum", "adam", "adamw", "lion"]
RATE = 1e-3


def contenders(method: Method) -> dict[str, Any]:
    found = {"ours": method.ours(RATE)}
    if method.optax is not None:
        found["optax"] = method.optax(RATE, **method.options)
        found["data"] = optax.inject_hyperparams(method.optax)(learning_rate=RATE, **method.options)
    return found


def device(target: str) -> Any:
    if target == "tpu":
        return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[0]
    description = (Path(__file__).parent / "h100.txtpb").read_text()
    return topologies.get_topology_desc(
        platform="cuda", topology_name="h100", topology="1x1x1", target_config=description
    ).devices[0]


def compiled(tx: Any, shapes: Any, on: Any, fused: bool, dtype: Any) -> tuple[Any, int, int]:
    """The compiled step, the number of parameters, and the bytes of all that it is given and of all that it returns."""

    def update_and_apply(params: Any, state: Any, gradients: Any) -> Any:
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def placed(x: Any) -> Any:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=jax.sharding.SingleDeviceSharding(on))

    params = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, dtype), shapes, is_leaf=lambda s: isinstance(s, tuple))
    arguments = jax.tree.map(placed, (params, jax.eval_shape(tx.init, params), params))
    count = sum(x.size for x in jax.tree.leaves(params))
    least = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((arguments, arguments[:2])))
    # A kernel is told by the mesh which device it is for.
    with jax.sharding.use_abstract_mesh(jax.sharding.Mesh(np.array([on]), ("device",)).abstract_mesh):
        return (
            jax.jit(jl.fuse(tx).step if fused else update_and_apply, donate_argnums=(0, 1)).lower(*arguments).compile(),
            count,
            least,
        )


class Array(NamedTuple):
    """An array in the text of a compiled program: bytes it takes, and whether it lies in the device's main memory."""

    bytes: int
    scalar: bool
    in_main_memory: bool


class Instruction(NamedTuple):
    opcode: str
    target: str
    results: list[Array]
    operands: list[list[Array]]


# Names for arrays, not work; and the halves of copies that wait for the other half.
NO_WORK = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "copy-done", "slice-done", "async-done"}
NO_WORK_TARGETS = {"ConcatBitcast", "AllocateBuffer"}
# A TPU fetches ahead what a later fusion reads, or copies it; it is no kernel, but it moves bytes.
PREFETCH = {"copy-start", "slice-start"}


def arrays(type_text: str) -> list[Array]:
    """The arrays of a type such as `(f32[64,8]{1,0:T(8,128)S(1)}, s32[])`, padded to the device's tiles."""
    found = []
    for kind, dims, layout in re.findall(r"\b(pred|bf16|[a-z]\d+)\[([\d,]*)\](\{[^}]*\})?", type_text):
        shape = [int(n) for n in dims.split(",") if n]
        bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
        order = [int(n) for n in re.findall(r"\d+", layout.split(":")[0])]
        tile = re.search(r":T\(([\d,]+)\)", layout)
        padded = list(shape)
        if tile and shape:
            for axis, size in zip(order, reversed([int(n) for n in tile[1].split(",")]), strict=False):
                padded[axis] = -(-shape[axis] // size) * size
        found.append(Array(math.prod(padded) * bits // 8, not shape, not re.search(r"S\([1-9]\d*\)", layout)))
    return found


def instructions(program: str) -> Iterator[Instruction]:
    """The instructions of the entry computation."""
    types: dict[str, str] = {}
    for line in program[program.index("\nENTRY") :].splitlines()[2:]:
        match = re.match(r"\s*(?:ROOT )?%([\w.-]+) = (\(.*?\)|\S+) ([a-z][\w-]*)\((.*)", line)
        if match is None:
            continue
        name, kind, opcode, rest = match.groups()
        types[name] = kind
        named = re.findall(r"%([\w.-]+)", rest.split("), ")[0].split(", metadata")[0])
        target = re.search(r'custom_call_target="([^"]+)"', rest)
        operands = [arrays(types[n]) for n in dict.fromkeys(named) if n in types]
        yield Instruction(opcode, target[1] if target else "", arrays(kind), operands)


def cost(program: Any, parameters: int, least: int, target: str) -> Cost:
    """Read a compiled program: every kernel reads its operands from main memory and writes its results there."""
    moved = kernels = 0
    for opcode, call, results, operands in instructions(program.as_text()):
        if opcode in NO_WORK or call in NO_WORK_TARGETS:
            continue
        if opcode in PREFETCH:
            source, copied = results[:2] if opcode == "slice-start" else results[1::-1]
            moved += copied.bytes * (source.in_main_memory + copied.in_main_memory)
            continue
        touched = [*results, *(x for operand in operands for x in operand)]
        if target == "tpu":
            touched = [x for x in touched if not x.scalar]
            if not touched:
                continue  # the scalar core does it, beside the kernels
        moved += sum(x.bytes for x in touched if x.in_main_memory)
        kernels += 1
    counted = (program.cost_analysis() or {}).get("bytes accessed")
    return Cost(parameters, least, moved, counted, program.memory_analysis().temp_size_in_bytes, kernels)


def main(target: str) -> None:
    on = device(target)

    def say(table: str, method: str, who: str, tx: Any, shapes: Any, fused: bool = False, dtype: Any = jnp.float32) -> None:
        found = cost(*compiled(tx, shapes, on, fused, dtype), target)
        print(json.dumps({"table": table, "method": method, "who": who, "cost": dataclasses.asdict(found)}), flush=True)

    for name, method in methods().items():
        for who, tx in contenders(method).items():
            say("leaf", name, who, tx, LEAF)
    small = {
        "adam, 8 bits": (state.compress(jl.adam(RATE)), jnp.float32),
        "adamw, 5 bytes": (state.master(state.compress(jl.adamw(RATE))), jnp.bfloat16),
    }
    for name, (tx, dtype) in small.items():
        say("leaf", name, "ours", tx, LEAF, dtype=dtype)
        say("leaf", f"{name}, fused", "ours", tx, LEAF, fused=True, dtype=dtype)
    for name in OF_TREE:
        for who, tx in contenders(methods()[name]).items():
            say("tree", name, who, tx, transformer())
        say("tree", name, "fused", methods()[name].ours(RATE), transformer(), fused=True)


if __name__ == "__main__":
    main(sys.argv[1])
