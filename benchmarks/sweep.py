"""How long does a tuning study take? Four ways, side by side, on one study.

    python benchmarks/sweep.py

640 trainings: 8 optimizers × 16 learning rates × 5 seeds of a 64-64-64-10 perceptron on scikit-learn's digits, 500 steps on
mini-batches of 128. All but the two loops of steps also score the validation set at the end. The ways take turns, each in
a process of its own; the table shows medians, compiled and "cold" (with compiling), and ratios to ours within one turn.
"Loop over runs": each training is one scan; "loop of steps": each step is one call. Seconds depend on the machine and on
what else it is doing; the ratios are what to look at. All ways but ours see the CPU as one device that may use all cores,
as JAX and PyTorch do by default.
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

import jaxopt_lec as jl
from jaxopt_lec import lab
from jaxopt_lec.lab.training import Lane, Shared, block_length, hold, seeded, train_lane
from jaxopt_lec.lab.workloads import load_workload

STEPS, BATCH, SEEDS = 500, 128, 5
RATES = np.geomspace(1e-4, 1e-1, 16)
# Loops of steps run every so manieth lane, and their time is multiplied: all lanes cost the same, and they take minutes.
SHARE = 10
WORKLOAD = load_workload("digits-mlp")

# Each in ours, in Optax, and in PyTorch.
OPTIMIZERS = {
    "sgd": (jl.sgd, optax.sgd, ("SGD", {})),
    "momentum": (jl.momentum, partial(optax.sgd, momentum=0.9), ("SGD", {"momentum": 0.9})),
    "nesterov": (jl.nesterov, partial(optax.sgd, momentum=0.9, nesterov=True), ("SGD", {"momentum": 0.9, "nesterov": True})),
    "adagrad": (jl.adagrad, optax.adagrad, ("Adagrad", {})),
    "rmsprop": (jl.rmsprop, optax.rmsprop, ("RMSprop", {})),
    "adadelta": (jl.adadelta, optax.adadelta, ("Adadelta", {})),
    "adam": (jl.adam, optax.adam, ("Adam", {})),
    "adamw": (jl.adamw, optax.adamw, ("AdamW", {})),
}
LANES = len(OPTIMIZERS) * len(RATES) * SEEDS


def case() -> tuple[Lane, Shared]:
    rates, seeds = zip(*product(RATES, range(SEEDS)), strict=True)
    lanes = Lane(np.array(rates, np.float32), np.array(seeds, np.int32))
    held = hold(WORKLOAD.data.validation, len(WORKLOAD.data.validation[1]))
    blocks = np.int32(STEPS // block_length(STEPS))
    return lanes, Shared(WORKLOAD.data.train, held, seeded(WORKLOAD, range(SEEDS), BATCH, STEPS), blocks)


def ours() -> Iterator[tuple[float, float]]:
    def make(optimizer, learning_rate):
        return OPTIMIZERS[optimizer][0](learning_rate)

    task = lab.Training(make, WORKLOAD, STEPS, BATCH)
    points = lab.grid(optimizer=list(OPTIMIZERS), learning_rate=RATES)
    # The first call compiles, beside running; the following ones, in groups of the size that it chose, only run.
    start = time.perf_counter()
    group = lab.sweep(task, points, seeds=SEEDS).group
    cold = time.perf_counter() - start
    while True:
        yield cold, lab.sweep(task, points, seeds=SEEDS, side_by_side=group).seconds["running"]


def loop_over_runs() -> Iterator[tuple[float, float]]:
    start = time.perf_counter()
    lanes, shared = jax.device_put(case())
    each = [jax.tree.map(lambda x, i=i: x[i], lanes) for i in range(len(lanes.seed))]
    programs = [
        jax.jit(partial(train_lane, WORKLOAD, theirs, STEPS)).lower(each[0], shared).compile()
        for _, theirs, _ in OPTIMIZERS.values()
    ]
    compiling = time.perf_counter() - start
    while True:
        start = time.perf_counter()
        for program in programs:
            jax.block_until_ready([program(lane, shared) for lane in each])
        running = time.perf_counter() - start
        yield compiling + running, running


def loop_of_steps() -> Iterator[tuple[float, float]]:
    lanes, shared = jax.device_put(case())
    order = np.asarray(shared.seeded.order)

    @jax.jit
    def draw(train, indices):
        return jax.tree.map(lambda x: x[indices], train)

    def stepper(theirs):
        @jax.jit
        def step(rate, params, state, memory, key, batch):
            (_, state), grads = jax.value_and_grad(WORKLOAD.loss, has_aux=True)(params, state, batch, key)
            updates, memory = theirs(rate).update(grads, memory, params)
            return optax.apply_updates(params, updates), state, memory

        return step

    steppers = [(theirs, stepper(theirs)) for _, theirs, _ in OPTIMIZERS.values()]

    def run(steps: int, share: int) -> float:
        start = time.perf_counter()
        for theirs, step in steppers:
            for rate, seed in zip(lanes.learning_rate[::share], lanes.seed[::share], strict=True):
                place = int(seed)
                params, state = jax.tree.map(lambda x, place=place: x[place], shared.seeded[:2])
                memory, key = theirs(rate).init(params), shared.seeded.dropout[place]
                for t in range(steps):
                    params, state, memory = step(rate, params, state, memory, key, draw(shared.train, order[place, t]))
            jax.block_until_ready(params)
        return time.perf_counter() - start

    compiling = run(1, len(lanes.seed))
    while True:
        running = SHARE * run(STEPS, SHARE)
        yield compiling + running, running


def pytorch() -> Iterator[tuple[float, float]]:
    import torch
    from torch import nn

    lanes, shared = case()
    images, labels = (torch.from_numpy(x) for x in shared.train)
    images, labels = images.flatten(1), labels.long()
    order = torch.from_numpy(np.asarray(shared.seeded.order)).long()
    params = jax.tree.map(np.asarray, shared.seeded.params.to_pure_dict())
    layers = [*(layer["linear"] for layer in params["hidden"].values()), params["readout"]]

    def train(steps: int, share: int) -> float:
        start = time.perf_counter()
        for _, _, (name, options) in OPTIMIZERS.values():
            for rate, seed in zip(lanes.learning_rate[::share], lanes.seed[::share], strict=True):
                linear = [nn.Linear(*layer["kernel"].shape[1:]) for layer in layers]
                with torch.no_grad():
                    for theirs, layer in zip(linear, layers, strict=True):
                        theirs.weight.copy_(torch.from_numpy(layer["kernel"][seed].T.copy()))
                        theirs.bias.copy_(torch.from_numpy(layer["bias"][seed].copy()))
                model = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])
                optimizer = getattr(torch.optim, name)(model.parameters(), lr=float(rate), **options)
                for indices in order[seed, :steps]:
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(images[indices]), labels[indices]).backward()
                    optimizer.step()
        return time.perf_counter() - start

    torch.set_num_threads(1)  # so small a model is slower with more
    starting = train(1, len(lanes.seed))
    while True:
        running = SHARE * train(STEPS, SHARE)
        yield starting + running, running


WAYS: dict[str, tuple[str, Callable[[], Iterator[tuple[float, float]]]]] = {
    "ours": ("lab.sweep", ours),
    "runs": ("loop over runs, Optax", loop_over_runs),
    "steps": ("loop of steps, Optax", loop_of_steps),
    "torch": ("loop of steps, PyTorch", pytorch),
}


def serve(way: str) -> None:
    """Run one way, once per line of standard input, and print the seconds with compiling, and compiled."""
    if way == "ours":
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    turns = WAYS[way][1]()
    for _ in sys.stdin:
        print(json.dumps(next(turns)), flush=True)


def take_turns(ways: list[str], repeats: int) -> Iterator[tuple[str, tuple[float, float]]]:
    processes = {}
    try:
        for _, way in product(range(repeats), ways):
            if way not in processes:
                command = [sys.executable, __file__, "--serve", way]
                processes[way] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
    measured: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    console = Console()
    with console.status("starting") as status:
        for way, seconds in take_turns(ways, arguments.repeats):
            measured[way].append(seconds)
            status.update(f"{sum(map(len, measured.values()))} of {len(ways) * arguments.repeats} turns")
    table = Table(title=f"{LANES} trainings, {STEPS} steps of {BATCH}, {len(OPTIMIZERS)} optimizers")
    table.add_column("way")
    for column in ("cold, s", "compiled, s", "compiled, 1/s", "times ours", "times ours, cold"):
        table.add_column(column, justify="right")
    for way, turns in measured.items():
        whole, running = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
        pairs = list(zip(turns, measured["ours"], strict=True))
        times_whole, times = (statistics.median(theirs[k] / ours[k] for theirs, ours in pairs) for k in (0, 1))
        numbers = (f"{whole:.1f}", f"{running:.1f}", f"{LANES / running:.1f}", f"{times:.2f}", f"{times_whole:.2f}")
        table.add_row(WAYS[way][0], *numbers)
    console.print(table)
    console.print(
        "spread, compiled, s: "
        + ", ".join(f"{w} {min(t[1] for t in m):.1f}–{max(t[1] for t in m):.1f}" for w, m in measured.items())
    )


if __name__ == "__main__":
    main()
