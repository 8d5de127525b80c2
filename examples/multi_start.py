"""No method knows the global minimum: search from many starting points, all in one program.

You learn: `multi_start` minimises from thousands of points at once, over all devices, and tells the distinct minima with
the share of starts that led to each; it does so for any tree of parameters; lanes that did not converge are counted apart.
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lec as jl
from jaxopt_lec.lab import Tolerances, grid_starts, minimize, multi_start, random_starts
from jaxopt_lec.lab.surfaces import Rastrigin


def a_test_function():
    """Rastrigin's egg carton: 121 minima in its box, and only one of them is the lowest."""
    surface = Rastrigin()
    for name, optimizer in {"sgd": jl.sgd(1e-3), "momentum": jl.momentum(1e-3), "adam": jl.adam(0.05)}.items():
        end = minimize(surface, jnp.array(surface.start), optimizer, 500)
        x, y = end.params
        print(f"{name:9} from one point      f = {end.value:7.4f} at ({x:5.2f}, {y:5.2f})")
        assert end.value > 1  # a local minimum

    found = multi_start(surface, grid_starts(*surface.domain, 32), jl.sgd(1e-3), 500)
    x, y = found.best.params
    print(f"sgd       from {len(found.values):,} points   f = {found.best.value:7.4f} at ({x:5.2f}, {y:5.2f})")
    print(f"          {len(found.minima)} minima; {found.best.share:.1%} of the starts led to the lowest\n")
    assert abs(found.best.value) < 1e-4
    assert len(found.minima) == 121


def a_fit():
    """A frequency is hard to fit: from a wrong one, the loss does not say in which direction the right one lies."""
    random = np.random.default_rng(0)
    t = jnp.linspace(0, 10, 200)
    y = 1.5 * jnp.sin(3.7 * t + 0.4) + 0.1 * jnp.asarray(random.normal(size=200), t.dtype)

    def loss(params, t, y):
        angle = params["frequency"] * t
        return jnp.mean((params["sine"] * jnp.sin(angle) + params["cosine"] * jnp.cos(angle) - y) ** 2)

    low = {"frequency": 0.5, "sine": -2.0, "cosine": -2.0}
    high = {"frequency": 8.0, "sine": 2.0, "cosine": 2.0}
    found = multi_start(
        loss,
        random_starts(jax.random.key(0), low, high, 500),
        jl.momentum(0.01),
        5000,
        tolerances=Tolerances(gradient=1e-3, patience=3),
        same_within=0.05,
        extras={"t": t, "y": y},
    )
    print("frequency    sine  cosine    loss   share of the starts")
    for minimum in found.minima[:5]:
        p = minimum.params
        print(f"{p['frequency']:9.3f} {p['sine']:7.3f} {p['cosine']:7.3f} {minimum.value:7.4f} {minimum.share:7.1%}")
    print(f"{len(found.minima)} minima, {found.unconverged} starts not converged, {found.diverged} diverged")
    assert abs(found.best.params["frequency"] - 3.7) < 0.02
    assert found.best.share < 0.5  # most starts end elsewhere
    assert found.minima[1].value > 10 * found.best.value


if __name__ == "__main__":
    a_test_function()
    a_fit()
