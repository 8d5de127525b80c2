"""What does one training among many cost, and where does the time go?

    python benchmarks/lane_cost.py [--out docs/images/lane_cost.png]

Adam on the digits' 64-64-64-10 perceptron, mini-batches of 128. The left panel has the cost of a lane against the width of
the groups that run side by side, on one device and on all; the right one against the number of lanes, in groups of the
best width. Both have what the matrix products of a lane alone would take at the speed of one large product: the peak
of the matrix units, measured in the same run. The table says what share of a lane is the optimizer.
"""

import argparse
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import jaxopt_lec as jl
from jaxopt_lec.lab.lanes import Plan, compile_lanes, first
from jaxopt_lec.lab.training import Lane, Shared, block_length, hold, seeded, train_lane
from jaxopt_lec.lab.workloads import load_workload

BATCH = 128
STEPS = 500
WORKLOAD = load_workload("digits-mlp")
WIDEST = 128


def case(lanes: int) -> tuple[Lane, Shared]:
    held = hold(WORKLOAD.data.validation, len(WORKLOAD.data.validation[1]))
    blocks = np.int32(STEPS // block_length(STEPS))
    shared = Shared(WORKLOAD.data.train, held, seeded(WORKLOAD, range(5), BATCH, STEPS), blocks)
    return Lane(np.full(lanes, 1e-3, np.float32), np.arange(lanes, dtype=np.int32) % 5), shared


def seconds_per_lane(optimizer, plan: Plan, lanes: int, counts: list[int], repeats: int = 2) -> list[float]:
    """Time the first so many of the lanes, and return the seconds of each."""
    some, shared = case(lanes)
    program = compile_lanes(lambda lane, shared: train_lane(WORKLOAD, optimizer, STEPS, lane, shared), some, shared, plan)
    found = []
    for count in counts:
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            program(first(some, count), shared)
            times.append(time.perf_counter() - start)
        found.append(min(times[1:]) / count)
    return found


def peak(devices: tuple[jax.Device, ...], size: int = 1024, products: int = 8, repeats: int = 5) -> float:
    """Return the floating point operations per second of large matrix products, one on each device at a time."""
    chain = jax.jit(lambda x: jax.lax.fori_loop(0, products, lambda _, y: y @ x / size, x))
    inputs = [jax.device_put(jnp.ones((size, size)), device) for device in devices]
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready([chain(x) for x in inputs])
        times.append(time.perf_counter() - start)
    return len(devices) * products * 2 * size**3 / min(times[1:])


def matrix_operations() -> int:
    """Count those of one step: forward, gradients of the weights, and gradients of the activations but for the first."""
    params, _ = jax.eval_shape(WORKLOAD.initialize, jax.random.key(0))
    kernels = [leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    return 2 * BATCH * (3 * sum(kernels) - kernels[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("lane_cost.png"))
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    every = tuple(jax.local_devices())
    console = Console()

    widths = [2**k for k in range(WIDEST.bit_length())]
    costs: dict[tuple[int, int], float] = {}
    with console.status("measuring") as status:
        for devices in dict.fromkeys((every[:1], every)):
            for width in widths:
                status.update(f"{len(devices)} devices, groups of {width}")
                lanes = width * len(devices)
                (costs[len(devices), width],) = seconds_per_lane(jl.adam, Plan(devices, width), lanes, [lanes])
        best = min(widths, key=lambda width: costs[len(every), width])
        status.update("numbers of lanes")
        numbers = [2**k for k in range(9)]
        by_number = seconds_per_lane(jl.adam, Plan(every, best), numbers[-1], numbers)
        # Without any use of the gradients, XLA would not compute them: the least is SGD.
        status.update("with SGD")
        lanes = best * len(every)
        (plain,) = seconds_per_lane(jl.sgd, Plan(every, best), lanes, [lanes])
        speed = peak(every)
    least = STEPS * matrix_operations() / speed
    here = costs[len(every), best]

    table = Table(title=f"a lane of {STEPS} steps, {len(every)} devices, groups of {best}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("time of a lane", f"{1e3 * here:.1f} ms")
    table.add_row("peak of the matrix units, measured", f"{speed / 1e9:.0f} GFLOP/s")
    table.add_row("matrix products at that peak", f"{1e3 * least:.1f} ms, {least / here:.0%}")
    table.add_row("Adam, beyond what SGD takes", f"{1e3 * (here - plain):.1f} ms, {1 - plain / here:.0%}")
    table.add_row(
        "the rest: products below peak, activations, drawing batches",
        f"{1e3 * (plain - least):.1f} ms, {(plain - least) / here:.0%}",
    )
    console.print(table)

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for devices, colour in dict.fromkeys(((1, "#0072B2"), (len(every), "#D55E00"))):
        label = "1 device" if devices == 1 else f"{devices} devices"
        left.plot(widths, [1e3 * costs[devices, w] for w in widths], "o-", color=colour, label=label)
    right.plot(numbers, [1e3 * x for x in by_number], "o-", color="#D55E00", label=f"groups of {best}")
    left.set_xlabel("lanes side by side in a group")
    left.set_ylabel(f"ms for a lane of {STEPS} steps")
    right.set_xlabel(f"lanes in all, on {len(every)} devices")
    right.set_ylabel(f"ms for a lane of {STEPS} steps")
    for axes in (left, right):
        axes.axhline(1e3 * least, color="black", linestyle=(0, (4, 2)), linewidth=1, label="matrix products at peak")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_ylim(0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(arguments.out, dpi=150)
    console.print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
