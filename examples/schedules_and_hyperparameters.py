"""Hyperparameters are data: schedule them, read them, set them, sweep them with vmap, differentiate through them.

You learn: every numeric hyperparameter is an array in the optimizer's state. It takes a schedule like the learning rate
does; it can be read and set between two steps without another compilation; `jax.vmap` over learning rates trains all of
them at once; and `jax.grad` gives the gradient of the final loss with respect to the learning rate.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_diabetes

import jaxopt_lec as jl

X, y = load_diabetes(return_X_y=True)
X, y = jnp.asarray(X / X.std(0), jnp.float32), jnp.asarray((y - y.mean()) / y.std(), jnp.float32)
START = jnp.zeros(X.shape[1])


def loss_fn(w):
    return jnp.mean((X @ w - y) ** 2)


def schedules():
    """Any hyperparameter takes a schedule; the state shows the value in force."""
    optimizer = jl.adam(
        optax.warmup_cosine_decay_schedule(0.0, 0.1, warmup_steps=20, decay_steps=200),
        b1=optax.linear_schedule(0.5, 0.95, 100),
    )
    w, state = START, optimizer.init(START)
    step = jax.jit(optimizer.update)
    for t in range(200):
        updates, state = step(jax.grad(loss_fn)(w), state)
        w = optax.apply_updates(w, updates)
        if t in (0, 20, 100, 199):
            learning_rate, b1 = optax.tree.get(state, "learning_rate"), optax.tree.get(state, "b1")
            print(f"  step {t + 1:3}: learning rate {learning_rate:.4f}, b1 {b1:.3f}, loss {loss_fn(w):.4f}")
    best = float(jnp.mean((X @ jnp.linalg.lstsq(X, y)[0] - y) ** 2))
    assert float(loss_fn(w)) < 1.01 * best, (loss_fn(w), best)


def set_between_steps():
    """A new value is another number in the same array: nothing compiles again."""
    optimizer = jl.momentum(0.05)
    traces = []

    @jax.jit
    def step(w, state):
        traces.append("traced")
        updates, state = optimizer.update(jax.grad(loss_fn)(w), state)
        return optax.apply_updates(w, updates), state

    w, state = START, optimizer.init(START)
    for t in range(100):
        if t % 25 == 24:
            halved = optax.tree.get(state, "learning_rate") / 2
            state = optax.tree.set(state, learning_rate=halved)
        w, state = step(w, state)
    learning_rate = float(optax.tree.get(state, "learning_rate"))
    print(f"  learning rate 0.05, halved four times: {learning_rate:.6f}; the step was traced {len(traces)} time")
    assert len(traces) == 1, traces
    assert np.isclose(learning_rate, 0.05 / 16), learning_rate


def final_loss(learning_rate, steps=50):
    optimizer = jl.adam(learning_rate, eps_root=1e-8)  # inside the root it keeps derivatives bounded

    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(jax.grad(loss_fn)(w), state)
        return (optax.apply_updates(w, updates), state), None

    (w, _), _ = jax.lax.scan(step, (START, optimizer.init(START)), length=steps)
    return loss_fn(w)


def sweep():
    """One compiled program trains with every learning rate."""
    rates = jnp.logspace(-4, 0, 9)
    losses = jax.jit(jax.vmap(final_loss))(rates)
    for rate, loss in zip(rates, losses, strict=True):
        print(f"  learning rate {rate:.4f}: loss {loss:.4f}")
    alone = jax.jit(final_loss)(rates[4])
    assert np.isclose(losses[4], alone, rtol=1e-5), (losses[4], alone)
    return float(rates[jnp.argmin(losses)])


def hypergradient():
    """Gradient descent on the learning rate itself, in logarithms."""
    value_and_slope = jax.jit(jax.value_and_grad(lambda log_rate: final_loss(jnp.exp(log_rate))))
    log_rate = jnp.log(jnp.float32(1e-3))
    first, _ = value_and_slope(log_rate)
    for _ in range(30):
        _, slope = value_and_slope(log_rate)
        log_rate -= 2.0 * slope
    last, _ = value_and_slope(log_rate)
    print(f"  learning rate 0.0010 → {jnp.exp(log_rate):.4f}, loss after 50 steps {first:.4f} → {last:.4f}")
    assert last < first, (first, last)


def main():
    for part in (schedules, set_between_steps, sweep, hypergradient):
        print(f"{part.__name__}: {part.__doc__}")
        part()


if __name__ == "__main__":
    main()
