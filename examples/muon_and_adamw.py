"""Muon for the matrices between hidden layers, AdamW for all the rest, as one optimizer, chosen by patterns of names.

You learn: `optax.partition` makes one transformation of several, by a label for each parameter; `jaxopt_lec.named_leaves`
gives the names that labels are chosen by; and ours live inside it like Optax's own.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxopt_lec as jl

STEPS, BATCH_SIZE, WIDTH = 300, 128, 64
# The first pattern that is found in a parameter's name says who trains it.
RULES = {r"hidden\d/kernel": "muon", r"": "adamw"}


def labels_of(params):
    """Return the tree of labels for a tree of parameters."""
    labels = [
        next(label for pattern, label in RULES.items() if re.search(pattern, name)) for name, _ in jl.named_leaves(params)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), labels)


def create(draw):
    def dense(n_in, n_out):
        kernel = draw.normal(size=(n_in, n_out)) * (2 / n_in) ** 0.5
        return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(n_out)}

    return {
        "input": dense(64, WIDTH),
        "hidden1": dense(WIDTH, WIDTH),
        "hidden2": dense(WIDTH, WIDTH),
        "out": dense(WIDTH, 10),
    }


def logits(params, x):
    for layer in ("input", "hidden1", "hidden2"):
        x = jax.nn.relu(x @ params[layer]["kernel"] + params[layer]["bias"])
    return x @ params["out"]["kernel"] + params["out"]["bias"]


def main():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)
    draw = np.random.default_rng(0)
    params = create(draw)
    optimizer = optax.partition({"muon": jl.muon(0.02), "adamw": jl.adamw(3e-3)}, labels_of)
    state = optimizer.init(params)
    for (name, _), label in zip(jl.named_leaves(params), jax.tree.leaves(labels_of(params)), strict=True):
        print(f"{name:16} {label}")

    def loss_fn(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()

    @jax.jit
    def step(params, state, x, y):
        updates, state = optimizer.update(jax.grad(loss_fn)(params, x, y), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(STEPS):
        rows = draw.choice(np.arange(360, len(labels)), BATCH_SIZE, replace=False)
        params, state = step(params, state, images[rows], labels[rows])
    accuracy = float(jnp.mean(logits(params, images[:360]).argmax(-1) == labels[:360]))
    print(f"test accuracy {accuracy:.3f}")
    assert accuracy > 0.95, accuracy
    # Muon keeps one slot for a matrix, AdamW two for each of the others.
    velocity = optax.tree.get(state.inner_states["muon"], "v")
    assert {x.shape for x in jax.tree.leaves(velocity)} == {(WIDTH, WIDTH)}


if __name__ == "__main__":
    main()
