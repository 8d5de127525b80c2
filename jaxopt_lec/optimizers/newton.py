"""Newton's method: minimise the local quadratic model, θ ← θ − H⁻¹ g. It needs the whole tree: H couples all leaves."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lec.equation import chain, tree_equation
from jaxopt_lec.hyperparameters import NonNegative, ScalarOrSchedule
from jaxopt_lec.meshes import ravel, split_like
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate

__all__ = ["newton", "newton_cg", "scale_by_newton", "scale_by_newton_cg"]


@tree_equation()
def scale_by_newton(g: Any, s: Any, p: Any, t: Any, f: Any, *, damping: NonNegative = 0.0) -> tuple[Any, dict[str, Any]]:
    """Solve (H + λ I) u = g with the dense Hessian H of f; arguments, slots and errors as in `newton`."""
    g_flat, unravel = ravel(g)
    p_flat, unravel_p = ravel(p)
    if jnp.iscomplexobj(p_flat):
        raise TypeError("scale_by_newton: complex parameters have no Hessian; optimize the real and imaginary parts")
    H = jax.hessian(lambda p_flat: f(unravel_p(p_flat)))(p_flat)
    A = (H + H.T) / 2 + damping * jnp.eye(p_flat.size, dtype=H.dtype)
    factor = jnp.linalg.cholesky(A, symmetrize_input=False)  # NaN where A is not positive definite

    def by_cholesky() -> jax.Array:
        return jax.scipy.linalg.cho_solve((factor, True), g_flat)

    def by_magnitude_of_curvature() -> jax.Array:
        eigenvalues, V = jnp.linalg.eigh(A)
        magnitude = jnp.abs(eigenvalues)
        floor = jnp.finfo(A.dtype).eps * A.shape[0] * jnp.max(magnitude)
        flattest = jnp.maximum(magnitude, jnp.where(floor > 0, floor, 1))
        return V @ ((V.T @ g_flat) / flattest)

    return unravel(jax.lax.cond(jnp.all(jnp.isfinite(factor)), by_cholesky, by_magnitude_of_curvature)), {}


@tree_equation()
def scale_by_newton_cg(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    f: Any,
    *,
    damping: NonNegative = 0.0,
    max_iterations: int = 100,
) -> tuple[Any, dict[str, Any]]:
    """Solve (H + λ I) u = g by conjugate gradients; arguments, slots and errors as in `newton_cg`."""
    if any(jnp.iscomplexobj(x) for x in jax.tree.leaves(p)):
        raise TypeError("scale_by_newton_cg: complex parameters have no Hessian; optimize the real and imaginary parts")
    _, hessian_times = jax.linearize(jax.grad(f), split_like(p, g))

    def product(d: Any) -> Any:
        return optax.tree.add_scale(hessian_times(d), damping, d)

    # Solved for g of size 1, so that no norm overflows or vanishes; a gradient that is not finite gives NaN, as it should.
    size = optax.tree.norm(g, ord=jnp.inf)
    unit = optax.tree.scale(1 / jnp.where(size == 0, 1, size), g)
    norm = optax.tree.norm(unit)
    tolerance = jnp.minimum(0.5, jnp.sqrt(size * norm)) * norm
    return optax.tree.scale(size, _truncated_cg(product, unit, tolerance, max_iterations)), {}


class _CG(NamedTuple):
    z: Any  # the solution so far
    r: Any  # its residual, A z − g
    d: Any  # the direction of search
    k: jax.Array
    curved: jax.Array  # whether the curvature was positive along all directions so far


def _truncated_cg(product: Callable[[Any], Any], g: Any, tolerance: jax.Array, max_iterations: int) -> Any:
    """Solve A u = g by conjugate gradients, stopping where dᵀA d ≤ 0: there u is the solution so far, at first g itself.

    Nocedal and Wright, Numerical optimization, 2006, algorithm 7.1.
    """
    add_scale = optax.tree.add_scale

    def dot(x: Any, y: Any) -> jax.Array:
        return optax.tree.sum(optax.tree.mul(x, y))

    def unfinished(cg: _CG) -> jax.Array:
        return cg.curved & (cg.k < max_iterations) & (optax.tree.norm(cg.r) > tolerance)

    def iterate(cg: _CG) -> _CG:
        Ad = product(cg.d)
        curvature = dot(cg.d, Ad)
        curved = curvature > 0
        rr = dot(cg.r, cg.r)
        alpha = rr / jnp.where(curved, curvature, 1)
        r = add_scale(cg.r, alpha, Ad)
        d = add_scale(optax.tree.scale(-1, r), dot(r, r) / rr, cg.d)
        z = jax.tree.map(
            lambda z, z_next, g: jnp.where(curved, z_next, jnp.where(cg.k == 0, g, z)),
            cg.z,
            add_scale(cg.z, alpha, cg.d),
            g,
        )
        return _CG(z, r, d, cg.k + 1, curved)

    zero = optax.tree.zeros_like(g)
    start = _CG(zero, optax.tree.scale(-1, g), g, jnp.zeros((), jnp.int32), jnp.array(True))
    return jax.lax.while_loop(unfinished, iterate, start).z


def newton(
    learning_rate: ScalarOrSchedule = 1.0, *, damping: ScalarOrSchedule = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Damped Newton for small problems: θ ← θ − η (H + λ I)⁻¹ g, H the Hessian of the loss, solved directly.

    Where H + λ I is not positive definite its eigenvalues are replaced by their magnitudes, at least n·eps of the largest,
    so that the step is always downhill and leaves saddles. Time O(n³), memory O(n²) for n parameters.

    `update(updates, state, params, value_fn=J, ...)`: J(params, ...) is differentiated twice; extra arguments it has by
    name, such as the batch, are passed on to it. A line search follows in the chain; let it try the full step first:
    `optax.chain(newton(), optax.scale_by_backtracking_linesearch(20, increase_factor=math.inf))`.

    Args:
        learning_rate: η in [0, ∞); 1 is Newton's step.
        damping: λ in [0, ∞), added to every eigenvalue.

    Slots: none. Errors: ValueError if `value_fn` or `params` is missing; TypeError for complex parameters.

    References: J. Nocedal and S. Wright, Numerical optimization, 2006, section 3.4; Y. Dauphin et al., Identifying and
    attacking the saddle point problem, NeurIPS 2014.
    """
    return chain("newton", scale_by_newton(damping=damping), scale_by_learning_rate(learning_rate=learning_rate))


def newton_cg(
    learning_rate: ScalarOrSchedule = 1.0, *, damping: ScalarOrSchedule = 0.0, max_iterations: int = 100
) -> optax.GradientTransformationExtraArgs:
    """Newton-CG for larger problems: θ ← θ − η u, (H + λ I) u ≈ g by conjugate gradients; no matrix is ever formed.

    The inner iteration stops at a residual of min(½, √‖g‖)·‖g‖, which keeps convergence superlinear, or where the
    curvature along its direction is not positive: then u is the solution so far, at the first iteration g itself.

    `value_fn`, extra arguments and line searches as in `newton`. Memory: a few copies of the parameters.

    Args:
        learning_rate: η in [0, ∞); 1 is Newton's step.
        damping: λ in [0, ∞), added to the Hessian.
        max_iterations: of the inner conjugate gradients, each one Hessian-vector product; at least 1.

    Slots: none. Errors as `newton`. Derivatives through a step need forward mode: the inner iteration is a while loop.

    Reference: J. Nocedal and S. Wright, Numerical optimization, 2006, algorithm 7.1.
    """
    direction = scale_by_newton_cg(damping=damping, max_iterations=max_iterations)
    if max_iterations < 1:
        raise ValueError(f"newton_cg: max_iterations must be at least 1, got {max_iterations}")
    return chain("newton_cg", direction, scale_by_learning_rate(learning_rate=learning_rate))
