"""A program that runs a study, to be killed and continued: FOLDER [PROCESS PROCESSES PORT]."""

import sys
from pathlib import Path

import jax
import numpy as np

import jaxopt_lec as jl
from jaxopt_lec import lab

jax.config.update("jax_num_cpu_devices", 2)
# Many small files instead of one for every ten seconds.
sys.modules["jaxopt_lec.lab.sweep"].CHUNK_SECONDS = 0.0


def optimizer(method, learning_rate):
    return method(learning_rate)


def ravine(params, key):
    """A slow enough function with noise."""
    noise = jax.random.normal(key, (50,))
    x = params["x"]
    for _ in range(20):
        x = x + 1e-3 * jax.numpy.tanh(x * noise)
    return (x * np.linspace(1, 50, 50, dtype=np.float32) * x).sum()


def study(folder: Path, **options) -> lab.Sweep:
    starts = {"x": np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32)}
    task = lab.Minimizing(optimizer, ravine, starts, steps=400)
    points = lab.grid(method=[jl.adam, jl.momentum], learning_rate=[1e-4, 1e-3, 1e-2])
    return lab.sweep(task, points, seeds=2, study=folder, side_by_side=2, **options)


if __name__ == "__main__":
    folder, *place = sys.argv[1:]
    if place:
        process, processes, port = map(int, place)
        jax.distributed.initialize(f"localhost:{port}", processes, process, shutdown_timeout_seconds=10)
    found = study(Path(folder), halving=lab.Halving(keep=0.5, cuts=1))
    print(f"{found.columns['final'].tobytes().hex()[:40]} {found.best}", flush=True)
