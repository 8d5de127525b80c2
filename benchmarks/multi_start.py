"""How long do 1,000 starting points × 1,000 steps on a two-dimensional surface take? Three ways, side by side.

    python benchmarks/multi_start.py

Adam on Rastrigin's function, compiled beforehand; no lane may stop early, so all ways take all steps. The ways take turns;
the table shows each one's median and its ratio to ours. The loop of steps runs every fiftieth lane only, and its time is
multiplied: all lanes cost the same. Seconds depend on the machine and on what else it is doing; the ratios are what to
look at.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxopt_lec as jl
from jaxopt_lec.lab import Tolerances, multi_start, random_starts
from jaxopt_lec.lab.surfaces import Rastrigin

cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
jax.config.update("jax_num_cpu_devices", cores)  # before anything runs; the two loops use one of them

LANES, STEPS = 1000, 1000
SHARE = 50  # the loop of steps runs every fiftieth lane
SURFACE = Rastrigin()
TX = jl.adam(0.02)
NEVER = Tolerances(update=0.0, patience=STEPS + 1)


def starts() -> np.ndarray:
    return np.asarray(random_starts(jax.random.key(0), *SURFACE.domain, LANES))


def step(params, state):
    updates, state = TX.update(jax.grad(SURFACE)(params), state, params)
    return jax.tree.map(lambda p, u: p + u, params, updates), state


def ours() -> np.ndarray:
    return multi_start(SURFACE, starts(), TX, STEPS, tolerances=NEVER).values


@jax.jit
def whole_run(params):
    params, _ = jax.lax.fori_loop(0, STEPS, lambda _, carry: step(*carry), (params, TX.init(params)))
    return SURFACE(params)


def loop_over_runs() -> np.ndarray:
    return np.array(jax.block_until_ready([whole_run(start) for start in jax.device_put(starts())]))


one_step, init, value = jax.jit(step), jax.jit(TX.init), jax.jit(SURFACE)


def loop_of_steps() -> np.ndarray:
    values = []
    for start in starts()[::SHARE]:
        params, state = start, init(start)
        for _ in range(STEPS):
            params, state = one_step(params, state)
        values.append(value(params))
    return np.array(values)


WAYS: dict[str, tuple[Callable[[], np.ndarray], int]] = {
    "multi_start": (ours, 1),
    "loop over whole runs": (loop_over_runs, 1),
    "loop of jitted steps": (loop_of_steps, SHARE),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    begun = time.perf_counter()
    expected = ours()
    first_call = time.perf_counter() - begun
    for run, share in WAYS.values():  # compiles, and checks that all do the same
        # Rounding lets a start on a ridge fall to either side; all others end alike.
        assert np.mean(np.isclose(run(), expected[::share], atol=1e-2)) > 0.95, run
    for _ in range(repeats):
        for way, (run, share) in WAYS.items():
            begun = time.perf_counter()
            run()
            seconds[way].append((time.perf_counter() - begun) * share)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    best = medians[next(iter(WAYS))]
    devices = jax.local_devices()
    table = Table(
        "way", "median s", "fastest – slowest", "steps per s", "times ours",
        title=f"{LANES} starts × {STEPS} steps of Adam on {SURFACE.name}, {len(devices)} {devices[0].device_kind} devices",
        caption=f"the first call of ours, with compiling: {first_call:.1f} s",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for way, median in medians.items():
        spread = f"{min(seconds[way]):.3f} – {max(seconds[way]):.3f}"
        table.add_row(way, f"{median:.3f}", spread, f"{LANES * STEPS / median:.3g}", f"{median / best:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
