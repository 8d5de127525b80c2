"""Do five bytes for each parameter train as well as twelve? Paired runs, on equal seeds and mini-batches.

    python benchmarks/small_state.py [--out docs/images/small_state.png]

AdamW on the convolutional network for the digits and on the transformer over characters, each with 5 seeds:

- float32: parameters, m and v in float32, 12 bytes;
- small: bfloat16 parameters with 8 bits of correction, m and v in 8 bits (`state.master` around `state.compress`);
- bfloat16: parameters in bfloat16 and nothing else, 10 bytes; it shows what the comparison can tell apart.

The table has the loss on validation data, and its paired difference from float32 with a 95 % confidence interval.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy import stats

import jaxopt_lec as jl
from jaxopt_lec import lab, state
from jaxopt_lec.lab.workloads import load_workload

SEEDS = 5
# Workload → (steps, batch, learning rate, fewest numbers of a leaf that is encoded).
STUDIES = {"digits-cnn": (600, 128, 3e-3, 256), "characters": (400, 32, 1e-3, 4096)}


@dataclasses.dataclass(frozen=True)
class InBFloat16:
    """A workload whose parameters are bfloat16; it computes in float32."""

    inside: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inside, name)

    def initialize(self, key: jax.Array) -> Any:
        params, rest = self.inside.initialize(key)
        return jax.tree.map(lambda p: p.astype(jnp.bfloat16), params), rest

    def loss(self, params: Any, *rest: Any) -> Any:
        return self.inside.loss(jax.tree.map(lambda p: p.astype(jnp.float32), params), *rest)

    def metric(self, params: Any, *rest: Any) -> Any:
        return self.inside.metric(jax.tree.map(lambda p: p.astype(jnp.float32), params), *rest)


def ways(fewest: int) -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]:
    def large(name: str, leaf: jax.ShapeDtypeStruct) -> bool:
        return jnp.issubdtype(leaf.dtype, jnp.floating) and np.prod(leaf.shape) >= fewest

    def small(learning_rate: Any) -> Any:
        return state.master(state.compress(jl.adamw(learning_rate), where=large))

    return {"float32": (jl.adamw, lambda w: w), "small": (small, InBFloat16), "bfloat16": (jl.adamw, InBFloat16)}


def bytes_per_parameter(factory: Callable[[Any], Any], workload: Any) -> float:
    params, _ = jax.eval_shape(workload.initialize, jax.random.key(0))
    held = jax.tree.leaves((params, jax.eval_shape(factory(1e-3).init, params)))
    return sum(x.size * x.dtype.itemsize for x in held) / sum(p.size for p in jax.tree.leaves(params))


def smooth(curves: np.ndarray, width: int = 25) -> np.ndarray:
    """Means over `width` steps: the loss of a mini-batch is mostly the mini-batch."""
    return curves[:, : curves.shape[1] // width * width].reshape(len(curves), -1, width).mean(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("small_state.png"))
    parser.add_argument("--workload", choices=STUDIES, action="append")
    arguments = parser.parse_args()
    console = Console(width=100)
    chosen = arguments.workload or list(STUDIES)
    figure = Figure(figsize=(4.5 * len(chosen), 6), layout="constrained")
    panels = figure.subplots(2, len(chosen), squeeze=False, height_ratios=(2, 1))
    for column, name in enumerate(chosen):
        steps, batch, learning_rate, fewest = STUDIES[name]
        workload = load_workload(name)
        table = Table(title=f"{name}: AdamW, {steps} steps of {batch}, {SEEDS} seeds")
        table.add_column("")
        for title in ("bytes/parameter", "validation loss", "difference", "95 % interval", "p"):
            table.add_column(title, justify="right")
        curves, losses = {}, {}
        for colour, (way, (factory, dressed)) in zip(("#000000", "#D55E00", "#56B4E9"), ways(fewest).items(), strict=True):
            task = lab.Training(factory, dressed(workload), steps, batch)
            with console.status(f"{name}, {way}"):
                found = lab.sweep(task, lab.grid(learning_rate=[learning_rate]), seeds=SEEDS)
            curves[way], losses[way] = smooth(found.curves), found.table["validation_loss"].to_numpy(np.float64)
            size = f"{bytes_per_parameter(factory, dressed(workload)):.2f}"
            row = [way, size, f"{losses[way].mean():.4f}"]
            at = (np.arange(curves[way].shape[1]) + 0.5) * steps / curves[way].shape[1]
            upper, lower = panels[:, column]
            upper.plot(at, curves[way].mean(0), color=colour, label=f"{way} ({size} bytes/parameter)", linewidth=1.5)
            if way != "float32":
                difference = losses[way] - losses["float32"]
                test = stats.ttest_1samp(difference, 0)
                low, high = test.confidence_interval(0.95)
                row += [f"{difference.mean():+.4f}", f"{low:+.4f} to {high:+.4f}", f"{test.pvalue:.2g}"]
                paired = curves[way] - curves["float32"]
                half = stats.t.ppf(0.975, SEEDS - 1) * stats.sem(paired, axis=0)
                lower.fill_between(at, paired.mean(0) - half, paired.mean(0) + half, color=colour, alpha=0.25, linewidth=0)
                lower.plot(at, paired.mean(0), color=colour, linewidth=1.5)
            table.add_row(*row)
        console.print(table)
        upper.set_title(name)
        upper.set_yscale("log")
        upper.set_ylabel("training loss")
        upper.legend(frameon=False)
        lower.axhline(0, color="black", linewidth=0.8)
        lower.set_ylabel("difference from float32")
        lower.set_xlabel("step")
        for axes in (upper, lower):
            axes.grid(alpha=0.3)
    figure.savefig(arguments.out, dpi=150)
    console.print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
