"""Time to trace, lower and compile one Adam step over many leaves, and to run it: this library beside Optax, in one run.

    python benchmarks/tracing.py [leaves]

The two take turns; what is printed are medians and the median of the ratios pair by pair, below 1 where we are faster.
"""

import statistics
import sys
import time

import jax
import jax.numpy as jnp
import optax

import jaxopt_lec as jl

ROUNDS = 7
SHAPES = [(64, 64), (64,), (64, 256), (256,)]  # a transformer has many leaves of few shapes
METHODS = {"ours": lambda: jl.adam(1e-3), "optax": lambda: optax.adam(1e-3)}


def measure(make, params):
    """Seconds for each stage; a fresh transformation each time, so that nothing is cached."""
    tx = make()
    state = tx.init(params)

    def step(params, state, gradients):
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    seconds, start = {}, time.perf_counter()
    traced = jax.jit(step).trace(params, state, params)
    seconds["trace"] = time.perf_counter() - start
    start = time.perf_counter()
    lowered = traced.lower()
    seconds["lower"] = time.perf_counter() - start
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds["compile"] = time.perf_counter() - start
    jax.block_until_ready(compiled(params, state, params))
    start = time.perf_counter()
    for _ in range(20):
        result = compiled(params, state, params)
    jax.block_until_ready(result)
    seconds["step"] = (time.perf_counter() - start) / 20
    return seconds


def main():
    leaves = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    params = {f"leaf{i}": jnp.ones(SHAPES[i % len(SHAPES)]) for i in range(leaves)}
    rounds = []
    for _ in range(ROUNDS + 1):
        pair = {}
        for name, make in METHODS.items():
            jax.clear_caches()
            pair[name] = measure(make, params)
        rounds.append(pair)
    rounds = rounds[1:]  # the first pays for imports
    print(f"{leaves} leaves, {jax.default_backend()}, medians of {ROUNDS} rounds")
    print(f"{'stage':8} {'ours':>10} {'optax':>10} {'ratio':>6}")
    for stage in ("trace", "lower", "compile", "step"):
        ours, theirs = ([r[name][stage] for r in rounds] for name in METHODS)
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(f"{stage:8} {statistics.median(ours) * 1e3:7.1f} ms {statistics.median(theirs) * 1e3:7.1f} ms {ratio:6.2f}")


if __name__ == "__main__":
    main()
