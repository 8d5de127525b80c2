"""Tune by one compiled program: train with every learning rate and every seed at once, by two `jax.vmap`.

You learn: hyperparameters are data, so an optimizer may be made inside `vmap` from a traced number; a whole training is a
`jax.lax.scan`; and a grid of 9 learning rates × 5 seeds is then one program, of which you keep the table. For larger
studies, which survive a kill and span machines, see sweep.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxopt_lec as jl

STEPS, BATCH_SIZE = 200, 128
IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES, LABELS = jnp.asarray(IMAGES / 16, jnp.float32), jnp.asarray(LABELS)
TRAIN, TEST = slice(360, None), slice(360)


def logits(params, images):
    return jax.nn.relu(images @ params["hidden"]) @ params["out"]


def loss_fn(params, rows):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, IMAGES[rows]), LABELS[rows]).mean()


def train(learning_rate, seed):
    """Return the accuracy on the test images."""
    hidden, out, batches = jax.random.split(jax.random.key(seed), 3)
    params = {"hidden": jax.random.normal(hidden, (64, 32)) / 8, "out": jax.random.normal(out, (32, 10)) / 6}
    optimizer = jl.adam(learning_rate)

    def step(carry, key):
        params, state = carry
        rows = jax.random.randint(key, (BATCH_SIZE,), TRAIN.start, len(IMAGES))
        updates, state = optimizer.update(jax.grad(loss_fn)(params, rows), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(batches, STEPS))
    return jnp.mean(logits(params, IMAGES[TEST]).argmax(-1) == LABELS[TEST])


def main():
    rates, seeds = jnp.logspace(-4, 0, 9), jnp.arange(5)
    over_seeds = jax.vmap(train, in_axes=(None, 0))
    accuracy = np.asarray(jax.jit(jax.vmap(over_seeds, in_axes=(0, None)))(rates, seeds))
    print("learning rate   accuracy, mean over seeds ± standard error")
    for rate, row in zip(rates, accuracy, strict=True):
        print(f"{rate:13.4f}   {row.mean():.3f} ± {row.std(ddof=1) / len(row) ** 0.5:.3f}")
    best = rates[accuracy.mean(1).argmax()]
    print(f"best: {best:.4f}")
    assert 1e-3 <= best <= 0.2, best
    assert accuracy.mean(1).max() > 0.9, accuracy


if __name__ == "__main__":
    main()
