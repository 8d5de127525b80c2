"""Invent an optimizer: write its equation on one array, train with it, and compare it with thirteen tuned others.

You learn: Adam divides by the root of the mean of g², AdaMax by the maximum of |g|; here is the one between that nobody
gave a name, dividing by the mean of |g|. The equation takes four lines, and with them come pytrees, dtypes, schedules,
sweeps and everything that Optax can do with a transformation. To compare it, from the root of the repository:

    jaxopt-lec compare --optimizer examples.your_own_optimizer:mean_adam
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from jaxopt_lec import adam, equation, scale_by_learning_rate
from jaxopt_lec.arithmetic import debias, ema
from jaxopt_lec.slots import zeros, zeros_real


@equation(m=zeros, v=zeros_real)
def scale_by_mean_adam(g, s, p, t, *, b1=0.9, b2=0.999, eps=1e-8):
    """Divide the mean gradient by the mean magnitude: u = m̂ / (v̂ + ε), v ← β₂ v + (1−β₂)|g|."""
    m, v = ema(s.m, g, b1), ema(s.v, jnp.abs(g), b2)
    return debias(m, b1, t) / (debias(v, b2, t) + eps), {"m": m, "v": v}


def mean_adam(learning_rate, **hyperparameters):
    """Adam with the mean of |g| for the root of the mean of g²."""
    return optax.chain(scale_by_mean_adam(**hyperparameters), scale_by_learning_rate(learning_rate=learning_rate))


def loss_fn(params, images, labels):
    logits = jnp.tanh(images @ params["w1"]) @ params["w2"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train(optimizer, images, labels, steps=300):
    key1, key2 = jax.random.split(jax.random.key(0))
    params = {"w1": jax.random.normal(key1, (64, 32)) / 8, "w2": jax.random.normal(key2, (32, 10)) / 32**0.5}

    @jax.jit
    def step(params, state, batch):
        grads = jax.grad(loss_fn)(params, images[batch], labels[batch])
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for i in range(steps):
        params, state = step(params, state, np.random.default_rng(i).choice(len(labels), 128, replace=False))
    return params


def main():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = jnp.asarray(images[order] / 16, jnp.float32), jnp.asarray(labels[order])
    optimizers = {
        "adam": adam(3e-3),
        "mean_adam": mean_adam(3e-3),
        "mean_adam, scheduled": mean_adam(optax.cosine_decay_schedule(1e-2, 300), b1=optax.linear_schedule(0.95, 0.85, 300)),
    }
    for name, optimizer in optimizers.items():
        params = train(optimizer, images[360:], labels[360:])
        logits = jnp.tanh(images[:360] @ params["w1"]) @ params["w2"]
        accuracy = float(jnp.mean(jnp.argmax(logits, axis=-1) == labels[:360]))
        print(f"{name:22} test accuracy {accuracy:.3f}")
        assert accuracy > 0.93, (name, accuracy)


if __name__ == "__main__":
    main()
