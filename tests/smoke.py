"""What a user has who installed the package alone, without any extra: run by the interpreter of an empty environment.

python tests/smoke.py
"""

import importlib.metadata
import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import jaxopt_lec as jl
from jaxopt_lec import lab, state
from jaxopt_lec.compat import keras, torch

EXTRAS = ("flax", "matplotlib", "numba", "orbax", "pandas", "sklearn", "typer")
PARAMS = {"kernel": jnp.ones((64, 128)), "bias": jnp.ones(128)}


def loss(params):
    return jnp.mean((params["kernel"].sum(0) + params["bias"]) ** 2)


def falls(optimizer, steps=20):
    params, opt_state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, opt_state = jax.jit(optimizer.update)(jax.grad(loss)(params), opt_state, params)
        params = optax.apply_updates(params, updates)
    assert loss(params) < loss(PARAMS), optimizer
    return params


def refusal(call, kind):
    try:
        call()
    except kind as error:
        return str(error)
    return "not refused"


def main():
    installed = Path(jl.__file__).parent
    assert installed.is_relative_to(sysconfig.get_path("purelib")), f"{installed} is not what was installed"
    assert (installed / "py.typed").exists()
    assert not [name for name in EXTRAS if importlib.util.find_spec(name)], "this environment is not empty"

    adam = falls(jl.adam(0.1))
    assert jax.tree.all(jax.tree.map(jnp.allclose, adam, falls(optax.adam(0.1))))
    falls(torch.AdamW(lr=0.1))
    falls(keras.SGD(learning_rate=1e-4))
    falls(state.compress(jl.adamw(0.1)))
    assert "bytes/parameter" in str(state.inspect(jl.adam(0.1), PARAMS))

    fused = jl.fuse(jl.adam(0.1))
    params, _ = jax.jit(fused.step)(PARAMS, fused.init(PARAMS), jax.grad(loss)(PARAMS))  # XLA's own, without numba
    assert loss(params) < loss(PARAMS)
    assert lab.minimize(lab.surfaces.Rosenbrock(), jnp.array([-1.2, 1.0]), jl.newton(), 20).value < 1e-6

    assert "pip install 'jaxopt_lec[checkpoint]'" in refusal(lambda: state.save("checkpoint", PARAMS), ImportError)
    command = subprocess.run([Path(sys.executable).with_name("jaxopt-lec"), "compare"], capture_output=True, text=True)
    assert command.returncode == 1, command
    assert "pip install 'jaxopt_lec[lab]'" in command.stderr, command
    print(f"jaxopt_lec {importlib.metadata.version('jaxopt_lec')} works without extras")


if __name__ == "__main__":
    main()
