"""What does an optimizer's step cost on a CPU? `fuse` beside XLA's program for Optax, PyTorch, and a copy of the same bytes.

    python benchmarks/fused_step.py [--quick] [--write docs/fused_steps.md]

A step is update and application, parameters and state donated, on three trees of float32: one leaf of 25 million numbers,
the 148 leaves of GPT-2 small, and 1,000 leaves of 1,000. All ways take turns in one process with as many threads as there
are cores; in each turn a way makes one step that is not timed, so that no thread of another way is at work any more
(OpenMP's wait for more with the processor in their hands), and one that is. The tables show medians in milliseconds, and
medians of ratios within one turn.

"plain" is our step without numba: `update` and `optax.apply_updates`, as for Optax. PyTorch's is the fastest that it has:
`fused=True` for Adam, AdamW and SGD, `foreach=True` for the others; it has no Lion. The copy is PyTorch's, of as many bytes
as the step must read and write. Of many small leaves there are two others in its place: "flat" is the fused step of
`optax.flatten`, which keeps the state in one array for each slot; "empty" is a program that does nothing but take the arrays
of a step and give them back, as it would be timed without any optimizer.
"""

import argparse
import importlib.util
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from tables import add_write, markdown, show, write

import jaxopt_lec as jl

GPT2 = [(50257, 768), (1024, 768)]
for _ in range(12):
    GPT2 += [
        (768,),
        (768,),
        (768, 2304),
        (2304,),
        (768, 768),
        (768,),
        (768,),
        (768,),
        (768, 3072),
        (3072,),
        (3072, 768),
        (768,),
    ]
GPT2 += [(768,), (768,)]

# Ours, Optax's, PyTorch's, and the least bytes for a number.
OPTIMIZERS: dict[str, tuple[Any, Any, Any, int]] = {
    "Adam": (jl.adam(1e-3), optax.adam(1e-3), ("Adam", {"fused": True}), 28),
    "AdamW": (jl.adamw(1e-3), optax.adamw(1e-3), ("AdamW", {"fused": True}), 28),
    "momentum": (jl.momentum(1e-3), optax.sgd(1e-3, momentum=0.9), ("SGD", {"momentum": 0.9, "fused": True}), 20),
    "RMSProp": (jl.rmsprop(1e-3), optax.rmsprop(1e-3), ("RMSprop", {"foreach": True}), 20),
    "AdaDelta": (jl.adadelta(), optax.adadelta(1.0), ("Adadelta", {"foreach": True}), 28),
    "Lion": (jl.lion(1e-3), optax.lion(1e-3), None, 20),
}
TREES = {"One leaf of 25M": [(25_000_000,)], "GPT-2 small, 148 leaves": GPT2, "1,000 leaves of 1,000": [(1000,)] * 1000}
WAYS = ("fuse", "plain", "Optax", "PyTorch")
RATIOS = (("fuse", "Optax"), ("fuse", "PyTorch"), ("plain", "Optax"))
# Of large leaves, and of many small ones, these besides.
LARGE = ("copy",), (("fuse", "copy"),)
SMALL = ("flat", "empty"), (("fuse", "empty"), ("flat", "PyTorch"))
QUICK = {"One leaf of 1M": [(1_000_000,)], "100 leaves of 1,000": [(1000,)] * 100}


def draw(shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape, dtype=np.float32) for shape in shapes]


def in_jax(step: Any, tx: Any, shapes: list[tuple[int, ...]]) -> Callable[[], None]:
    params, gradients = [jnp.array(x) for x in draw(shapes)], [jnp.array(x) for x in draw(shapes)]
    held = [(params, tx.init(params))]
    jitted = jax.jit(step, donate_argnums=(0, 1), keep_unused=True)

    def once() -> None:
        held[0] = jax.block_until_ready(jitted(*held[0], gradients))

    return once


def compile_loop(tx: Any) -> float:
    """Compile the loop, as the first program with the equation in a process does; return the seconds."""
    params = [jnp.ones(2)]
    start = time.perf_counter()
    jax.jit(jl.fuse(tx).step)(params, tx.init(params), params)
    return time.perf_counter() - start


def plain(tx: Any, params: Any, state: Any, gradients: Any) -> Any:
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def empty(params: Any, state: Any, gradients: Any) -> Any:
    return params, state


def in_torch(name: str, options: dict[str, Any], shapes: list[tuple[int, ...]]) -> Callable[[], None]:
    import torch

    params = [torch.nn.Parameter(torch.tensor(x)) for x in draw(shapes)]  # copied: NumPy's memory may have larger pages
    for p, g in zip(params, draw(shapes), strict=True):
        p.grad = torch.tensor(g)
    optimizer = getattr(torch.optim, name)(params, lr=1e-3, **options)
    return optimizer.step


def copy(numbers: int, least: int) -> Callable[[], None]:
    import torch

    source, target = (torch.ones(numbers * least // 8) for _ in range(2))

    def once() -> None:
        target.copy_(source)

    return once


def measure(ways: dict[str, Callable[[], None]], turns: int) -> dict[str, np.ndarray]:
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(turns + 2):
        for way, once in ways.items():
            once()
            start = time.perf_counter()
            once()
            if turn >= 2:
                times[way].append(1e3 * (time.perf_counter() - start))
    return {way: np.array(found) for way, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small trees and few turns, to see that it runs")
    parser.add_argument("--turns", type=int, default=15)
    add_write(parser)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "fuse: not element-wise")  # of "flat", which joins and splits
    has_torch = importlib.util.find_spec("torch") is not None
    if has_torch:
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
    console = Console(width=150)
    with console.status("compiling loops"):
        loops = {name: compile_loop(ours) for name, (ours, *_) in OPTIMIZERS.items()}
    texts = []
    for title, shapes in (QUICK if arguments.quick else TREES).items():
        numbers = sum(int(np.prod(shape)) for shape in shapes)
        small = set(shapes) == {(1000,)}
        more_ways, more_ratios = SMALL if small else LARGE
        shown, ratios = (*WAYS, *more_ways), (*RATIOS, *more_ratios)
        rows = [["", *shown, *(f"{one} ÷ {other}" for one, other in ratios)]]
        with console.status(title) as status:
            for name, (ours, theirs, torchs, least) in OPTIMIZERS.items():
                status.update(f"{title}: {name}")
                ways = {
                    "fuse": in_jax(jl.fuse(ours).step, ours, shapes),
                    "plain": in_jax(partial(plain, ours), ours, shapes),
                    "Optax": in_jax(partial(plain, theirs), theirs, shapes),
                }
                if small:
                    flat = optax.flatten(ours)
                    ways |= {"flat": in_jax(jl.fuse(flat).step, flat, shapes), "empty": in_jax(empty, ours, shapes)}
                elif has_torch:
                    ways["copy"] = copy(numbers, least)
                if has_torch and torchs:
                    ways["PyTorch"] = in_torch(*torchs, shapes)
                times = measure(ways, 3 if arguments.quick else arguments.turns)
                row = [name, *(f"{np.median(times[way]):.2f}" if way in times else "–" for way in shown)]
                row += [
                    f"{np.median(times[one] / times[other]):.2f}" if {one, other} <= set(times) else "–"
                    for one, other in ratios
                ]
                rows.append(row)
        show(console, f"{title}: ms for a step", rows)
        texts.append(markdown(title, rows))
    if arguments.write:
        write(arguments.write, "fused_step.py", "\n\n".join(texts))
    console.print("a loop's compilation, s: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in loops.items()))


if __name__ == "__main__":
    main()
