"""Batch gradient descent on a data set that is read from disk in chunks, as if it did not fit into memory.

You learn: `full_batch_value_and_grad` gives the exact gradient over all examples while only one chunk is in memory and
the activations of one micro-batch exist at a time; that gradient equals the one computed in memory.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxopt_lec as jl

CHUNK, MICRO_BATCH = 500, 64  # neither divides 1,797 examples, and neither needs to


def loss_fn(params, batch):
    logits = jnp.tanh(batch["images"] @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()


def init(key):
    key1, key2 = jax.random.split(key)
    return {
        "w1": jax.random.normal(key1, (64, 32)) / 8,
        "b1": jnp.zeros(32),
        "w2": jax.random.normal(key2, (32, 10)) / 32**0.5,
        "b2": jnp.zeros(10),
    }


def write(folder):
    """Write the data set to disk and return its number of examples."""
    images, labels = load_digits(return_X_y=True)
    (images / 16).astype(np.float32).tofile(folder / "images")
    labels.astype(np.int32).tofile(folder / "labels")
    return len(labels)


def chunks(folder, examples):
    """Yield the examples, CHUNK at a time; a memory map reads only what is asked for."""
    images = np.memmap(folder / "images", np.float32, "r", shape=(examples, 64))
    labels = np.memmap(folder / "labels", np.int32, "r", shape=(examples,))
    for start in range(0, examples, CHUNK):
        part = slice(start, start + CHUNK)
        yield {"images": np.array(images[part]), "labels": np.array(labels[part])}


def main():
    params = init(jax.random.key(0))
    value_and_grad = jl.full_batch_value_and_grad(loss_fn, MICRO_BATCH)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        examples = write(folder)

        value, grad = value_and_grad(params, chunks(folder, examples))
        everything = jax.tree.map(lambda *parts: np.concatenate(parts), *chunks(folder, examples))
        value_in_memory, grad_in_memory = jax.jit(jax.value_and_grad(loss_fn))(params, everything)
        difference = float(optax.tree.norm(optax.tree.sub(grad, grad_in_memory)) / optax.tree.norm(grad_in_memory))
        print(f"loss over {examples} examples: {value:.6f} in chunks, {value_in_memory:.6f} in memory")
        print(f"relative difference of the gradients: {difference:.1e}")
        assert difference < 1e-5, difference

        optimizer = jl.sgd(1.0)
        state = optimizer.init(params)
        step = jax.jit(optimizer.update)
        for t in range(150):
            value, grad = value_and_grad(params, chunks(folder, examples))  # a fresh generator for every step
            updates, state = step(grad, state)
            params = optax.apply_updates(params, updates)
            if t % 50 == 49:
                print(f"step {t + 1:4}: loss {value:.4f}")
    assert value < 0.1, value


if __name__ == "__main__":
    main()
