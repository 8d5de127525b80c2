"""Draw the figures of the lecture and of the README.

    python docs/make_figures.py [--out docs/images]

The scenes of the lecture are those of `jaxopt-lec gallery`; beside them stands what a scene on a surface cannot show:
batches, units, forgetting, and what helps on the model's side. The figures of benchmarks and examples are written by these.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jaxopt_lec as jl
from jaxopt_lec import lab
from jaxopt_lec.lab.figures import COLOURS, png, tidy
from jaxopt_lec.lab.files import write_whole
from jaxopt_lec.lab.surface_report import FIGURES as SCENES
from jaxopt_lec.lab.surface_report import gallery_files
from jaxopt_lec.lab.workloads import Classification, Remedies, load_workload
from jaxopt_lec.lab.workloads.models import MLP


def panels(number: int, title: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with some panels side by side."""
    figure = Figure(figsize=(5 * number, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=12)
    axes = list(np.atleast_1d(figure.subplots(1, number)))
    for one in axes:
        tidy(one)
    return figure, axes


def micro_batches() -> Figure:
    """Draw the memory that a gradient over a data set needs, against the size of the micro-batch."""
    examples, pixels, width, chunk = 16_384, 784, 1024, 1024
    params = [jnp.zeros((pixels, width)), *[jnp.zeros((width, width))] * 4, jnp.zeros((width, 10))]

    def loss(params, batch):
        x = batch["x"]
        for kernel in params[:-1]:
            x = jax.nn.relu(x @ kernel)
        return optax.softmax_cross_entropy_with_integer_labels(x @ params[-1], batch["y"]).mean()

    def megabytes(gradient: Callable, number: int) -> float:
        """What a program needs beside the parameters and their gradient: its examples, and what it computes on the way."""
        batch = {"x": jax.ShapeDtypeStruct((number, pixels), "float32"), "y": jax.ShapeDtypeStruct((number,), "int32")}
        memory = jax.jit(gradient).lower(params, batch).compile().memory_analysis()
        weights = sum(kernel.nbytes for kernel in params)
        return (memory.temp_size_in_bytes + memory.argument_size_in_bytes - weights) / 2**20

    sizes = [16, 32, 64, 128, 256, 512, 1024]
    found = [
        megabytes(lambda params, batch, size=size: jl.full_batch_value_and_grad(loss, size)(params, [batch]), chunk)
        for size in sizes
    ]
    figure, (axes,) = panels(1, f"The gradient over {examples:,} images")
    axes.loglog(sizes, found, "o-", color=COLOURS[0], label=f"micro-batches of chunks of {chunk:,}")
    axes.axhline(megabytes(jax.value_and_grad(loss), examples), color=COLOURS[1], label="one batch")
    axes.set(xlabel="examples in a micro-batch", ylabel="memory, MiB, without weights and gradient")
    axes.set_ylim(10, 2000)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
    axes.set_yticks([10, 100, 1000], ["10", "100", "1,000"])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="center left")
    return figure


def mini_batches() -> Figure:
    """Draw SGD's paths for three seeds beside batch gradient descent, and the loss against the examples read."""
    random = np.random.default_rng(0)
    x = jnp.array(random.normal(size=(512, 2)) * [1.0, 0.5], jnp.float32)
    y = x @ jnp.array([1.0, -1.0]) + jnp.array(0.7 * random.normal(size=512), jnp.float32)
    rate, size, epochs = 0.15, 32, 30

    def loss(theta, rows):
        return jnp.mean((x[rows] @ theta - y[rows]) ** 2)

    @jax.jit
    def walk(batches):
        optimizer = jl.sgd(rate)

        def step(carry, rows):
            theta, state = carry
            updates, state = optimizer.update(jax.grad(loss)(theta, rows), state, theta)
            theta = optax.apply_updates(theta, updates)
            return (theta, state), theta

        start = jnp.array([-1.0, 1.5])
        return jnp.concatenate([start[None], jax.lax.scan(step, (start, optimizer.init(start)), batches)[1]])

    everything = jnp.arange(512)
    exact = np.linalg.lstsq(np.asarray(x), np.asarray(y), rcond=None)[0]
    lowest = loss(exact, everything)
    figure, (map_, curve) = panels(2, "Batch gradient descent takes one exact step where SGD takes 16 rough ones")
    grid = np.stack(np.meshgrid(np.linspace(-1.2, 1.6, 100), np.linspace(-1.6, 1.7, 100)), -1)
    values = jax.vmap(jax.vmap(lambda theta: loss(theta, everything)))(jnp.asarray(grid))
    map_.contour(*np.moveaxis(grid, -1, 0), values, 12, colors="0.75", linewidths=0.6)
    for seed in range(3):
        draws = np.random.default_rng(seed)
        rows = np.concatenate([draws.permutation(512).reshape(-1, size) for _ in range(epochs)])
        path = walk(jnp.asarray(rows))
        map_.plot(*path.T, color=COLOURS[seed + 1], linewidth=1, label=f"SGD, seed {seed}")
        above = jax.vmap(lambda theta: loss(theta, everything))(path) - lowest
        curve.semilogy(np.arange(len(path)) * size / 512, above, color=COLOURS[seed + 1], linewidth=1)
    path = walk(jnp.tile(everything, (epochs, 1)))
    map_.plot(*path.T, "o-", color=COLOURS[0], markersize=3, label="all 512 examples")
    above = jax.vmap(lambda theta: loss(theta, everything))(path) - lowest
    curve.semilogy(np.arange(len(path)), np.maximum(above, 1e-8), "o-", color=COLOURS[0], markersize=3)
    map_.plot(*exact, "*", markersize=14, color="black", markeredgecolor="white", zorder=5, label="minimum")
    map_.set(xlabel="θ₁", ylabel="θ₂")
    map_.legend(frameon=False, fontsize=9)
    curve.set(xlabel="times all examples were read", ylabel="loss above the lowest")
    return figure


def rmsprop_forgets() -> Figure:
    """Draw the steps of Adagrad and RMSProp on a slope with a steep stretch."""
    slopes = jnp.where((jnp.arange(120) >= 40) & (jnp.arange(120) < 60), 10.0, 1.0)

    def steps(optimizer):
        def step(state, g):
            updates, state = optimizer.update(g, state)
            return state, -updates

        return jax.lax.scan(step, optimizer.init(jnp.zeros(())), slopes)[1]

    figure, (axes,) = panels(1, "RMSProp forgets a steep stretch, Adagrad does not")
    axes.axvspan(40.5, 60.5, color="0.92", zorder=0, label="slope 10 in place of 1")
    for (name, optimizer), colour in zip(
        {"Adagrad": jl.adagrad(0.1), "RMSProp": jl.rmsprop(0.1)}.items(), COLOURS, strict=False
    ):
        axes.semilogy(np.arange(1, 121), steps(optimizer), color=colour, label=f"{name}, η = 0.1")
    axes.axhline(0.1, color="0.5", linewidth=0.8, zorder=1)
    axes.set(xlabel="step", ylabel="length of the step")
    axes.legend(frameon=False)
    return figure


def adadelta_units() -> Figure:
    """Draw paths in two units of the parameters."""

    def path(optimizer, unit: float):
        return unit * lab.minimize(lambda p: 1e4 * (p * unit) ** 2 / 2, jnp.float32(1 / unit), optimizer, 60).trajectory

    figure, (adadelta, sgd) = panels(2, "AdaDelta's path does not depend on the units of θ, SGD's does")
    for unit, eps, style in ((1, 1e-4, "-"), (8, 1e-4 / 8**2, (0, (4, 4)))):
        label = f"θ in units of {unit} m"
        colour = COLOURS[0 if unit == 1 else 1]
        width = 3.5 if unit == 1 else 1.6
        adadelta.plot(path(jl.adadelta(eps=eps), unit), color=colour, linestyle=style, linewidth=width, label=label)
        sgd.plot(path(jl.sgd(3e-6), unit), color=colour, linestyle=style, linewidth=width, label=label)
    for axes, name in ((adadelta, "AdaDelta"), (sgd, "SGD, η = 3·10⁻⁶")):
        axes.set(title=name, xlabel="step", ylabel="place, m")
        axes.legend(frameon=False)
    return figure


def remedies() -> Figure:
    """Draw gradients layer by layer, and the validation loss where labels are wrong, with remedies and without."""
    data = load_workload("digits-mlp").data

    def workload(depth: int, l2: float = 0.0, **chosen) -> Classification:
        return Classification("digits", data, lambda rngs: MLP(64, [64] * depth, 10, Remedies(**chosen), rngs=rngs), l2)

    def gradients(**chosen) -> list[jax.Array]:
        deep = workload(10, **chosen)
        params, state = deep.initialize(jax.random.key(0))
        grads = jax.jit(jax.grad(lambda params: deep.loss(params, state, data.train, jax.random.key(1))[0]))(params)
        return [jnp.linalg.norm(g) for g in jax.tree.leaves(grads) if g.ndim == 2]

    images, labels = (array[:300] for array in data.train)
    wrong = np.random.default_rng(0).random(300) < 0.2
    few = images, np.where(wrong, (labels + 1) % 10, labels)

    def validation_loss(**chosen) -> jax.Array:
        trained, optimizer = workload(2, **chosen), jl.adam(1e-3)

        def step(carry, key):
            params, state, kept = carry
            grads, state = jax.grad(lambda params: trained.loss(params, state, few, key), has_aux=True)(params)
            updates, kept = optimizer.update(grads, kept, params)
            params = optax.apply_updates(params, updates)
            return (params, state, kept), trained.metric(params, state, data.validation)[0].mean()

        params, state = trained.initialize(jax.random.key(0))
        start = params, state, optimizer.init(params)
        return jax.jit(lambda: jax.lax.scan(step, start, jax.random.split(jax.random.key(1), 1000)))()[1]

    figure, (layers, curves) = panels(2, "What helps on the model's side: gradients that arrive, and less overfitting")
    deep = {
        "sigmoid": {"activation": "sigmoid"},
        "sigmoid, batch normalisation": {"activation": "sigmoid", "batch_norm": True},
        "ReLU": {},
        "ReLU, N(0, 1) in place of Xavier": {"initializer": "normal"},
    }
    for (label, chosen), colour in zip(deep.items(), COLOURS, strict=False):
        layers.semilogy(range(1, 12), gradients(**chosen), "o-", color=colour, markersize=3, label=label)
    layers.set(title="eleven layers, before training", xlabel="layer", ylabel="norm of the gradient", ylim=(1e-8, 1e16))
    layers.legend(frameon=False, fontsize=9, loc="upper right")
    for (label, chosen), colour in zip(
        {"neither": {}, "L2, λ = 0.01": {"l2": 0.01}, "dropout, p = 0.5": {"dropout": 0.5}}.items(), COLOURS, strict=False
    ):
        curves.plot(range(1, 1001), validation_loss(**chosen), color=colour, label=label)
    curves.set(title="300 digits, a fifth mislabelled", xlabel="step", ylabel="validation loss", ylim=(0, 1.6))
    curves.legend(frameon=False, fontsize=9, loc="upper center")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    function.__name__: function for function in (micro_batches, mini_batches, rmsprop_forgets, adadelta_units, remedies)
}


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("images"), help="where the figures go")
    arguments = parser.parse_args()
    files = gallery_files(list(SCENES), animation=False, progress=lambda status, done, of: print(status))
    for name, figure in FIGURES.items():
        print(f"drawing {name}")
        files[f"{name}.png"] = png(figure())
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out, files)


if __name__ == "__main__":
    main()
