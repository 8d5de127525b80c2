"""Minimise Rosenbrock's banana with curvature: Newton's method, Newton-CG, and line searches of Optax in one chain.

You learn: methods that need the loss get it as `value_fn`; a line search stands behind any direction in `optax.chain` and
wants `value` and `grad` besides; and how few steps curvature takes where a tuned Adam takes thousands.
"""

import jax
import jax.numpy as jnp
import optax

import jaxopt_lec as jl

jax.config.update("jax_enable_x64", True)  # to see quadratic convergence beyond float32
TOLERANCE, MAX_STEPS = 1e-12, 20_000


def rosenbrock(params):
    x, y = params["x"], params["y"]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def minimize(optimizer):
    """Return the parameters, the loss and the number of steps until the loss is below TOLERANCE."""
    optimizer = optax.with_extra_args_support(optimizer)
    params = {"x": jnp.array(-1.2), "y": jnp.array(1.0)}

    def unfinished(carry):
        params, _, steps = carry
        return (rosenbrock(params) > TOLERANCE) & (steps < MAX_STEPS)

    def step(carry):
        params, state, steps = carry
        value, grad = jax.value_and_grad(rosenbrock)(params)
        updates, state = optimizer.update(grad, state, params, value=value, grad=grad, value_fn=rosenbrock)
        return optax.apply_updates(params, updates), state, steps + 1

    start = params, optimizer.init(params), 0
    params, _, steps = jax.jit(lambda start: jax.lax.while_loop(unfinished, step, start))(start)
    return params, float(rosenbrock(params)), int(steps)


def main():
    def backtracking():
        return optax.scale_by_backtracking_linesearch(max_backtracking_steps=30)

    optimizers = {
        "adam(0.02)": jl.adam(0.02),
        "sgd, zoom line search": optax.chain(jl.sgd(1.0), optax.scale_by_zoom_linesearch(max_linesearch_steps=30)),
        "newton": jl.newton(),
        "newton, backtracking": optax.chain(jl.newton(), backtracking()),
        "newton_cg, backtracking": optax.chain(jl.newton_cg(), backtracking()),
    }
    steps = {}
    for name, optimizer in optimizers.items():
        params, loss, steps[name] = minimize(optimizer)
        print(f"{name:24} {steps[name]:6} steps   loss {loss:.1e}   x {params['x']:.6f}  y {params['y']:.6f}")
        if "newton" in name:
            assert loss < TOLERANCE, (name, loss)
            assert abs(params["x"] - 1) < 1e-5, (name, params)
            assert abs(params["y"] - 1) < 1e-5, (name, params)
    assert max(n for name, n in steps.items() if "newton" in name) < 100 < steps["adam(0.02)"], steps


if __name__ == "__main__":
    main()
