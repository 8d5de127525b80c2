"""Run an optimizer inside one scan."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def follow(optimizer, gradient, theta, steps, *, project=lambda theta: theta, **extra):
    """Return the iterates, theta first; ``gradient(theta, t)`` for t = 1, 2, ..., ``project`` after every step."""

    def step(carry, t):
        theta, state = carry
        updates, state = optimizer.update(gradient(theta, t), state, theta, **extra)
        theta = project(optax.apply_updates(theta, updates))
        return (theta, state), theta

    @jax.jit
    def path(theta):
        _, later = jax.lax.scan(step, (theta, optimizer.init(theta)), jnp.arange(1, steps + 1))
        return jnp.concatenate([theta[None], later])

    return np.asarray(path(jnp.asarray(theta, jnp.float64)))


def minimize(optimizer, f, theta, steps):
    """Return the iterates on the function f; an optimizer that wants f itself gets it as ``value_fn``."""
    return follow(optimizer, lambda theta, t: jax.grad(f)(theta), theta, steps, value_fn=f)


def updates_for(optimizer, gradients):
    """Return what the optimizer makes of given gradients, whatever the parameters: the updates themselves."""

    @jax.jit
    def updates(gradients):
        theta = jnp.zeros_like(gradients[0])

        def step(state, g):
            update, state = optimizer.update(g, state, theta)
            return state, update

        return jax.lax.scan(step, optimizer.init(theta), gradients)[1]

    return np.asarray(updates(jnp.asarray(gradients, jnp.float64)))
