"""Time to trace and to compile one step over many leaves: plain and fused steps of this library beside Optax, in one run.

    python benchmarks/tracing.py [leaves] [--rounds N] [--write docs/performance.md]

All take turns; what is printed are medians in milliseconds and, below 1 where we are faster, medians of the ratios within
one turn. Compiling is lowering and XLA's compiler. numba compiles a fused step's loop once for an equation in a process,
whatever the leaves: benchmarks/fused_step.py says how long that takes, here it has been done.
"""

import argparse
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fused_step import OPTIMIZERS, plain
from rich.console import Console
from tables import add_write, markdown, show, write

import jaxopt_lec as jl

SHAPES = [(64, 64), (64,), (64, 256), (256,)]  # a transformer has many leaves of few shapes
OURS = ("fuse", "plain")
WAYS = (*OURS, "Optax")


def seconds(step: Any, tx: Any, params: Any) -> tuple[float, float]:
    """Trace and compile a step, with nothing known from before."""
    state = tx.init(params)
    jax.clear_caches()
    start = time.perf_counter()
    traced = jax.jit(step, donate_argnums=(0, 1)).trace(params, state, params)
    between = time.perf_counter()
    traced.lower().compile()
    return between - start, time.perf_counter() - between


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("leaves", type=int, nargs="?", default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    add_write(parser)
    arguments = parser.parse_args()
    params = {f"leaf{i}": jnp.ones(SHAPES[i % len(SHAPES)]) for i in range(arguments.leaves)}
    console = Console(width=100)
    heading = ["", *WAYS, *(f"{way} ÷ Optax" for way in OURS)]
    tables = [[heading], [heading]]
    with console.status("") as status:
        for name, (ours, theirs, *_) in OPTIMIZERS.items():
            steps = {"fuse": (jl.fuse(ours).step, ours), "plain": (partial(plain, ours), ours)}
            steps["Optax"] = (partial(plain, theirs), theirs)
            times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
            for turn in range(arguments.rounds + 1):
                for way in WAYS:
                    status.update(f"{name}, {way}, turn {turn} of {arguments.rounds}")
                    times[way].append(seconds(*steps[way], params))
            found = {way: 1e3 * np.array(pairs[1:]) for way, pairs in times.items()}  # the first turn pays for imports
            for stage, table in enumerate(tables):
                row = [name, *(f"{np.median(found[way][:, stage]):.0f}" for way in WAYS)]
                row += [f"{np.median(found[way][:, stage] / found['Optax'][:, stage]):.2f}" for way in OURS]
                table.append(row)
    titles = [f"{arguments.leaves} leaves, ms to {stage} a step" for stage in ("trace", "compile")]
    for title, table in zip(titles, tables, strict=True):
        show(console, title, table)
    if arguments.write:
        write(arguments.write, "tracing.py", "\n\n".join(map(markdown, titles, tables)))


if __name__ == "__main__":
    main()
