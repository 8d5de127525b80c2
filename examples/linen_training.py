"""Train a Flax Linen model, with a first-order method and with methods that evaluate the loss themselves.

You learn: `flax.training.train_state.TrainState` takes an optimizer of jaxopt_lec as one of Optax's. Newton's method and
the textbook's Nesterov need the loss function inside `update`; Flax's `TrainState` cannot pass it on, and
`jaxopt_lec.train_state.TrainState` is the same class with `extra_args`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training import train_state
from sklearn.datasets import load_digits

import jaxopt_lec as jl
from jaxopt_lec.train_state import TrainState


class MLP(nn.Module):
    """A perceptron with one hidden layer."""

    @nn.compact
    def __call__(self, x):
        """Return the logits."""
        x = nn.tanh(nn.Dense(32)(x))
        return nn.Dense(10)(x)


def load():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)
    return (images[360:], labels[360:]), (images[:360], labels[:360])


MODEL = MLP()


def loss_fn(params, batch):
    images, labels = batch
    logits = MODEL.apply({"params": params}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def first_order_step(state, batch):
    loss, grads = jax.value_and_grad(loss_fn)(state.params, batch)
    return state.apply_gradients(grads=grads), loss


@jax.jit
def step_with_loss(state, batch):
    # `batch` reaches loss_fn because loss_fn has an argument of that name.
    loss, grads = jax.value_and_grad(loss_fn)(state.params, batch)
    extra_args = {"value_fn": loss_fn, "batch": batch, "value": loss, "grad": grads}  # the last two for the line search
    return state.apply_gradients(grads=grads, extra_args=extra_args), loss


def train(state, step, data, steps, batch_size):
    images, labels = data
    for i in range(steps):
        batch = np.random.default_rng(i).choice(len(labels), batch_size, replace=False)
        state, _ = step(state, (images[batch], labels[batch]))
    return state


def main():
    train_set, (images, labels) = load()
    params = MODEL.init(jax.random.key(0), images[:1])["params"]
    start = functools.partial(TrainState.create, apply_fn=MODEL.apply, params=params)

    # Far from the minimum a full Newton step is too long; a line search of Optax shortens it.
    newton = optax.chain(
        jl.newton_cg(damping=0.01, max_iterations=20),
        optax.scale_by_backtracking_linesearch(max_backtracking_steps=10),
    )
    runs = {
        "adam, Flax's TrainState": (
            train_state.TrainState.create(apply_fn=MODEL.apply, params=params, tx=jl.adam(3e-3)),
            first_order_step,
            200,
        ),
        "nesterov_exact, ours": (start(tx=jl.nesterov_exact(0.1)), step_with_loss, 200),
        "newton_cg with a line search, ours": (start(tx=newton), step_with_loss, 30),
    }
    for name, (state, step, steps) in runs.items():
        state = train(state, step, train_set, steps, batch_size=512)
        logits = state.apply_fn({"params": state.params}, images)
        accuracy = float(jnp.mean(jnp.argmax(logits, axis=-1) == labels))
        loss = loss_fn(state.params, train_set)
        print(f"{name:34} {steps:4} steps   training loss {loss:.4f}   test accuracy {accuracy:.3f}")
        assert accuracy > 0.94, (name, accuracy)


if __name__ == "__main__":
    main()
