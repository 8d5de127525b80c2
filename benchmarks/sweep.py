"""How should many small training runs share a machine? Five ways, side by side, on one case.

    python benchmarks/lanes.py

80 lanes (16 learning rates × 5 seeds) of a 64-100-10 perceptron on scikit-learn's digits, 500 steps of Adam on
mini-batches of 128, compiled beforehand. All but the two loops of steps also score the validation set at the end. The ways
take turns; the table shows each one's median and its ratio to ours. Seconds depend on the machine and on what else it is
doing; the ratios are what to look at. All ways but ours see the CPU as one device that may use all cores, as JAX and
PyTorch do by default.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

from jaxopt_lec.lab.lanes import candidates, compile_lanes, measure_plan
from jaxopt_lec.lab.training import Lane, Shared, block_length, hold, seeded, train_lane
from jaxopt_lec.lab.workloads import Classification, Remedies
from jaxopt_lec.lab.workloads.digits import digits
from jaxopt_lec.lab.workloads.models import MLP

STEPS, BATCH, SEEDS = 500, 128, 5
TORCH_SHARE = 10  # PyTorch runs every tenth lane, and its time is multiplied: all lanes cost the same, and it takes minutes
RATES = np.geomspace(1e-4, 1e-1, 16)
WORKLOAD = Classification("digits", digits(), lambda rngs: MLP(64, (100,), 10, Remedies(), rngs=rngs))


def case() -> tuple[Lane, Shared]:
    rates, seeds = zip(*product(RATES, range(SEEDS)), strict=True)
    lanes = Lane(np.array(rates, np.float32), np.array(seeds, np.int32))
    blocks = np.int32(STEPS // block_length(STEPS))
    held = hold(WORKLOAD.data.validation, len(WORKLOAD.data.validation[1]))
    return lanes, Shared(WORKLOAD.data.train, held, seeded(WORKLOAD, range(SEEDS), BATCH, STEPS), blocks)


def wide_vmap() -> Callable[[], None]:
    lanes, shared = jax.device_put(case())
    run = partial(train_lane, WORKLOAD, optax.adam, STEPS)
    program = jax.jit(jax.vmap(run, in_axes=(0, None))).lower(lanes, shared).compile()
    return lambda: jax.block_until_ready(program(lanes, shared))


def loop_over_runs() -> Callable[[], None]:
    lanes, shared = jax.device_put(case())
    each = [jax.tree.map(lambda x, i=i: x[i], lanes) for i in range(len(lanes.seed))]
    program = jax.jit(partial(train_lane, WORKLOAD, optax.adam, STEPS)).lower(each[0], shared).compile()
    return lambda: jax.block_until_ready([program(lane, shared) for lane in each])


def loop_of_steps() -> Callable[[], None]:
    lanes, shared = jax.device_put(case())
    order = np.asarray(shared.seeded.order)

    @jax.jit
    def step(rate, params, state, memory, key, batch):
        (_, state), grads = jax.value_and_grad(WORKLOAD.loss, has_aux=True)(params, state, batch, key)
        updates, memory = optax.adam(rate).update(grads, memory, params)
        return optax.apply_updates(params, updates), state, memory

    @jax.jit
    def draw(train, indices):
        return jax.tree.map(lambda x: x[indices], train)

    def run(steps: int = STEPS) -> None:
        for rate, seed in zip(lanes.learning_rate, lanes.seed, strict=True):
            place = int(seed)
            params, state = jax.tree.map(lambda x, place=place: x[place], shared.seeded[:2])
            memory, key = optax.adam(rate).init(params), shared.seeded.dropout[place]
            for t in range(steps):
                batch = draw(shared.train, order[place, t])
                params, state, memory = step(rate, params, state, memory, key, batch)
        jax.block_until_ready(params)

    run(1)
    return run


def ours() -> Callable[[], None]:
    lanes, shared = case()
    run = partial(train_lane, WORKLOAD, optax.adam, STEPS)
    short = shared._replace(blocks=np.int32(2))
    plans = candidates(len(lanes.seed), tuple(jax.local_devices()))
    program = measure_plan(plans, lambda plan: compile_lanes(run, lanes, shared, plan), lanes, short).program
    return lambda: program(lanes, shared)


def pytorch() -> Callable[[], None]:
    import torch
    from torch import nn

    lanes, shared = case()
    images, labels = (torch.from_numpy(x) for x in shared.train)
    images, labels = images.flatten(1), labels.long()
    order = torch.from_numpy(np.asarray(shared.seeded.order)).long()
    params = jax.tree.map(np.asarray, shared.seeded.params.to_pure_dict())

    def train(steps: int) -> None:
        for rate, seed in zip(lanes.learning_rate[::TORCH_SHARE], lanes.seed[::TORCH_SHARE], strict=True):
            model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
            with torch.no_grad():
                for layer, ours in ((model[0], params["hidden"][0]["linear"]), (model[2], params["readout"])):
                    layer.weight.copy_(torch.from_numpy(ours["kernel"][seed].T.copy()))
                    layer.bias.copy_(torch.from_numpy(ours["bias"][seed].copy()))
            adam = torch.optim.Adam(model.parameters(), lr=float(rate))
            for indices in order[seed, :steps]:
                adam.zero_grad()
                nn.functional.cross_entropy(model(images[indices]), labels[indices]).backward()
                adam.step()

    torch.set_num_threads(1)  # so small a model is slower with more
    train(1)
    return lambda: train(STEPS)


WAYS: dict[str, tuple[str, Callable[[], Callable[[], None]]]] = {
    "wide": ("one wide vmap", wide_vmap),
    "runs": ("Python loop over whole-run scans", loop_over_runs),
    "steps": ("Python loop of jitted steps, Optax", loop_of_steps),
    "ours": ("ours: lanes over devices, measured groups", ours),
    "torch": ("Python loop of steps, PyTorch (8 lanes × 10)", pytorch),
}


def serve(way: str) -> None:
    """Run one way, once per line of standard input: every way has a process, as their devices differ."""
    if way == "ours":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        jax.config.update("jax_num_cpu_devices", cores)
    run = WAYS[way][1]()
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(json.dumps((time.perf_counter() - start) * (TORCH_SHARE if way == "torch" else 1)), flush=True)


def take_turns(ways: list[str], repeats: int) -> Iterator[tuple[str, float]]:
    processes = {}
    try:
        for way in ways:
            command = [sys.executable, __file__, "--serve", way]
            processes[way] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if not processes[way].stdout.readline():
                raise SystemExit(f"{WAYS[way][0]}: did not start")
        for _, way in product(range(repeats), ways):
            processes[way].stdin.write("\n")
            processes[way].stdin.flush()
            yield way, json.loads(processes[way].stdout.readline())
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--serve", help=argparse.SUPPRESS, choices=WAYS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    ways = [way for way in WAYS if way != "torch" or importlib.util.find_spec("torch")]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    console = Console()
    with console.status("starting") as status:
        for way, elapsed in take_turns(ways, arguments.repeats):
            seconds[way].append(elapsed)
            status.update(f"{sum(map(len, seconds.values()))} of {len(ways) * arguments.repeats} runs")
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    table = Table(
        "way", "seconds (median)", "fastest – slowest", "times ours", title="80 lanes, 64-100-10, 500 steps of 128"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for way, median in sorted(medians.items(), key=lambda item: item[1]):
        spread = f"{min(seconds[way]):.2f} – {max(seconds[way]):.2f}"
        table.add_row(WAYS[way][0], f"{median:.2f}", spread, f"{median / medians['ours']:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
