"""AdamW at five bytes for each parameter in place of twelve, for a model that trains as in float32.

You learn: `state.compress` keeps an optimizer's state in 8 bits, `state.master` adds to bfloat16 parameters the bits that
they lack, and the two wrap any transformation; `state.inspect` says what that costs before anything is allocated; and
`state.save` and `state.restore` carry it through a file.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxopt_lec as jl
from jaxopt_lec import state as state_tools

STEPS, BATCH_SIZE, WIDTH = 200, 128, 512


def logits(params, images):
    x = jax.nn.relu(images.astype(params["hidden1"].dtype) @ params["hidden1"])
    x = jax.nn.relu(x @ params["hidden2"])
    return (x @ params["out"]).astype(jnp.float32)


def train(optimizer, dtype, images, labels):
    """Return the parameters, the state and the test accuracy."""
    draw = np.random.default_rng(0)
    params = {
        "hidden1": jnp.asarray(draw.normal(size=(64, WIDTH)) / 6, dtype),
        "hidden2": jnp.asarray(draw.normal(size=(WIDTH, WIDTH)) / 16, dtype),
        "out": jnp.asarray(draw.normal(size=(WIDTH, 10)) / 20, dtype),
    }
    state = optimizer.init(params)

    def loss_fn(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()

    @jax.jit
    def step(params, state, x, y):
        updates, state = optimizer.update(jax.grad(loss_fn)(params, x, y), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(STEPS):
        rows = draw.choice(np.arange(360, len(labels)), BATCH_SIZE, replace=False)
        params, state = step(params, state, images[rows], labels[rows])
    return params, state, float(jnp.mean(logits(params, images[:360]).argmax(-1) == labels[:360]))


def main():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)

    wide = jl.adamw(3e-3)
    small = state_tools.master(state_tools.compress(jl.adamw(3e-3)))
    _, _, expected = train(wide, jnp.float32, images, labels)
    params, state, accuracy = train(small, jnp.bfloat16, images, labels)
    print(state_tools.inspect(small, params))
    print(f"test accuracy: float32 {expected:.3f}, five bytes {accuracy:.3f}")
    assert accuracy > 0.95, accuracy
    assert abs(accuracy - expected) < 0.02, (accuracy, expected)

    with tempfile.TemporaryDirectory() as folder:
        state_tools.save(Path(folder) / "checkpoint", (params, state))
        again = state_tools.restore(Path(folder) / "checkpoint", jax.eval_shape(lambda: (params, state)))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), (params, state), again)))
    print("saved and restored, bit for bit")


if __name__ == "__main__":
    main()
