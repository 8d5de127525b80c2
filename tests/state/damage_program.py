"""Restores a checkpoint with each of its files damaged in turn: CHECKPOINT SCRATCH. Prints what each came to.

It is a program of its own, because what Orbax had begun to read when it failed complains at any later time.
"""

import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lec as jl
from jaxopt_lec import state

TX = state.compress(jl.adam(0.1), where=lambda name, leaf: leaf.shape == (64, 64))


def parameters():
    return {"kernel": jax.random.normal(jax.random.key(0), (64, 64)), "bias": jnp.ones(64)}


def trained():
    params = parameters()
    return jax.jit(TX.update)(params, TX.init(params), params)[1]


def outcome(checkpoint: Path, saved) -> str:
    try:
        found = state.restore(checkpoint, jax.eval_shape(TX.init, parameters()))
    except ValueError as error:
        return "refused" if str(error).startswith("restore: ") else f"another error: {error}"
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), found, saved)
    return "same" if all(jax.tree.leaves(same)) else "other numbers"


def damaged(data: bytes) -> dict[str, bytes]:
    half = len(data) // 2
    changed = data[:half] + bytes([data[half] ^ 0xFF]) + data[half + 1 :] if data else b"x"
    return {"cut": data[:half], "empty": b"", "changed": changed}


if __name__ == "__main__":
    checkpoint, scratch = map(Path, sys.argv[1:])
    saved = trained()
    for number, file in enumerate(sorted(x.relative_to(checkpoint) for x in checkpoint.rglob("*") if x.is_file())):
        for kind, data in damaged((checkpoint / file).read_bytes()).items():
            copy = scratch / f"{number}-{kind}"
            shutil.copytree(checkpoint, copy)
            (copy / file).write_bytes(data)
            print(f"{outcome(copy, saved)}, {kind}: {file}")
