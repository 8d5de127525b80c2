"""Train a model with an optimizer of this library: the loop to begin with.

You learn: an optimizer is an `init` and an `update`, as in Optax; a schedule stands where a number does; and what the
optimizer keeps, its hyperparameters included, is a tree of arrays that can be looked at.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxopt_lec as jl
from jaxopt_lec import state as state_tools

STEPS, BATCH_SIZE = 500, 128


def load():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)
    return (images[360:], labels[360:]), (images[:360], labels[:360])


def logits(params, images):
    return jax.nn.relu(images @ params["hidden"] + params["bias"]) @ params["out"]


def loss_fn(params, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, images), labels).mean()


def main():
    train, test = load()
    draw = np.random.default_rng(0)
    params = {
        "hidden": jnp.asarray(draw.normal(size=(64, 64)) / 8, jnp.float32),
        "bias": jnp.zeros(64),
        "out": jnp.asarray(draw.normal(size=(64, 10)) / 8, jnp.float32),
    }

    optimizer = jl.adamw(optax.cosine_decay_schedule(3e-3, STEPS), weight_decay=1e-2)
    print(state_tools.inspect(optimizer, params))  # what it will cost, before anything is allocated
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, images, labels):
        loss, grads = jax.value_and_grad(loss_fn)(params, images, labels)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    for i in range(STEPS):
        rows = draw.choice(len(train[0]), BATCH_SIZE, replace=False)
        params, state, loss = step(params, state, train[0][rows], train[1][rows])
        if i % 100 == 0 or i == STEPS - 1:
            print(f"step {i + 1:3}: learning rate {optax.tree.get(state, 'learning_rate'):.5f}, loss {loss:.4f}")

    accuracy = float(jnp.mean(logits(params, test[0]).argmax(-1) == test[1]))
    print(f"test accuracy {accuracy:.3f}")
    assert accuracy > 0.95, accuracy


if __name__ == "__main__":
    main()
