"""Train a Flax NNX model, stop in the middle, and go on from a checkpoint as if nothing had happened.

You learn: an optimizer of jaxopt_lec goes into `flax.nnx.Optimizer` as one of Optax's does; Orbax saves and restores the
model with the optimizer's state, hyperparameters included; and the continued run is equal to the uninterrupted one, bit
for bit.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from sklearn.datasets import load_digits

import jaxopt_lec as jl

STEPS, BATCH_SIZE = 300, 128


class MLP(nnx.Module):
    """A perceptron with one hidden layer."""

    def __init__(self, *, rngs: nnx.Rngs):
        """Draw the weights."""
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        """Return the logits."""
        return self.out(nnx.relu(self.hidden(x)))


def load():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)
    return (images[360:], labels[360:]), (images[:360], labels[:360])


def create(seed):
    model = MLP(rngs=nnx.Rngs(seed))
    learning_rate = optax.cosine_decay_schedule(3e-3, STEPS)
    return model, nnx.Optimizer(model, jl.adamw(learning_rate, weight_decay=1e-2), wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, images, labels):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


def train(model, optimizer, data, steps):
    images, labels = data
    for step in steps:
        batch = np.random.default_rng(step).choice(len(labels), BATCH_SIZE, replace=False)
        loss = train_step(model, optimizer, images[batch], labels[batch])
    return float(loss)


def arrays(model, optimizer):
    """Everything that has to be saved."""
    return {"model": nnx.to_pure_dict(nnx.state(model)), "optimizer": nnx.to_pure_dict(nnx.state(optimizer))}


def main():
    train_set, (images, labels) = load()
    model, optimizer = create(seed=0)
    train(model, optimizer, train_set, range(STEPS // 2))

    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        path = Path(folder) / "halfway"
        checkpointer.save(path, arrays(model, optimizer))
        checkpointer.wait_until_finished()
        # A new process would start here: other weights, a fresh optimizer; the checkpoint replaces both.
        restored_model, restored_optimizer = create(seed=1)
        saved = checkpointer.restore(path, arrays(restored_model, restored_optimizer))
    for target, values in ((restored_model, saved["model"]), (restored_optimizer, saved["optimizer"])):
        state = nnx.state(target)
        nnx.replace_by_pure_dict(state, values)
        nnx.update(target, state)

    loss = train(model, optimizer, train_set, range(STEPS // 2, STEPS))
    restored_loss = train(restored_model, restored_optimizer, train_set, range(STEPS // 2, STEPS))
    accuracy = float(jnp.mean(jnp.argmax(model(images), axis=-1) == labels))
    print(f"uninterrupted: loss {loss:.6f} after {STEPS} steps, test accuracy {accuracy:.3f}")
    print(f"from the checkpoint at {STEPS // 2}: loss {restored_loss:.6f}")

    same = jax.tree.map(np.array_equal, arrays(model, optimizer), arrays(restored_model, restored_optimizer))
    assert all(jax.tree.leaves(same)), same
    assert accuracy > 0.95, accuracy
    print(f"all {len(jax.tree.leaves(same))} arrays of model and optimizer are equal bit for bit")


if __name__ == "__main__":
    main()
