"""Nesterov's accelerated gradient: v ← γ v + η ∇J(θ − γ v); θ ← θ − v.

`nesterov_exact` needs the gradient at a point it chooses, and with it the whole tree: one of the few exceptions to the
rule that an equation speaks of one array.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lec.arithmetic import complement
from jaxopt_lec.equation import EquationState, chain, equation, tree_equation
from jaxopt_lec.hyperparameters import Decay, NonNegative, ScalarOrSchedule
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.slots import zeros

__all__ = ["nesterov", "nesterov_exact", "nesterov_parameters", "scale_by_nesterov", "scale_by_nesterov_exact"]


@equation(v=zeros)
def scale_by_nesterov(
    g: Any, s: Any, p: Any, t: Any, *, decay: Decay = 0.9, average: bool = False
) -> tuple[Any, dict[str, Any]]:
    """Nesterov's step in look-ahead coordinates φ = θ − γ v: v ← γ v + g, u = γ v + g.

    Args:
        decay: γ in [0, 1).
        average: (1−γ) g for g.

    Slots: v, zeros like the parameter. Equals `optax.trace(decay, nesterov=True)`.
    """
    g = complement(decay) * g if average else g
    v = decay * s.v + g
    return decay * v + g, {"v": v}


@tree_equation(v=zeros)
def scale_by_nesterov_exact(
    g: Any, s: Any, p: Any, t: Any, f: Any, *, learning_rate: NonNegative = 1.0, decay: Decay = 0.9
) -> tuple[Any, dict[str, Any]]:
    """Nesterov's step with the gradient taken inside: v ← γ v + η ∇J(θ − γ v), u = −v.

    Arguments, slots and reference as in `nesterov_exact`.
    """
    look_ahead = jax.tree.map(lambda p, v: p - decay * v, p, s.v)
    g = optax.tree.conj(jax.grad(f)(look_ahead))  # of complex parameters JAX gives the conjugate of the way uphill
    v = jax.tree.map(lambda v, g: decay * v + learning_rate * g, s.v, g)
    return jax.tree.map(lambda v: -v, v), {"v": v}


def nesterov(
    learning_rate: ScalarOrSchedule, decay: ScalarOrSchedule = 0.9, *, learning_rate_inside: bool = True
) -> optax.GradientTransformationExtraArgs:
    """Nesterov's accelerated gradient in look-ahead coordinates: v ← γ v + η g(φ); φ ← φ − (γ v + η g(φ)).

    The parameters that are trained are φ = θ − γ v, the points where the lecture's recursion takes its gradients; so no
    second gradient is needed. `nesterov_parameters` gives θ. A `decay` that is scheduled is applied as in PyTorch and
    Optax, γₜ on both sides; for the textbook's recursion with a changing γ use `nesterov_exact`.

    Args:
        learning_rate: η in [0, ∞).
        decay: γ in [0, 1).
        learning_rate_inside: whether η stands inside the velocity (lecture, Keras) or outside (PyTorch, Optax).

    Slots: v, zeros like the parameter. Equals Keras `SGD(nesterov=True)`; with `learning_rate_inside=False`,
    `torch.optim.SGD(nesterov=True)` and `optax.sgd(nesterov=True)`.

    References: Y. Nesterov, A method of solving a convex programming problem with convergence rate O(1/k²), 1983;
    I. Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.
    """
    velocity = scale_by_nesterov(decay=decay)
    if learning_rate_inside:
        eta = scale_by_learning_rate(learning_rate=learning_rate, flip_sign=False)
        return chain("nesterov", eta, velocity, optax.scale(-1.0))
    return chain("nesterov", velocity, scale_by_learning_rate(learning_rate=learning_rate))


def nesterov_parameters(params: Any, state: optax.OptState, *, learning_rate_inside: bool = True) -> Any:
    """Recover the textbook's θ = φ + γ v from the look-ahead parameters φ that `nesterov` trains.

    Args:
        params: the parameters φ.
        state: the state of `nesterov`, alone or inside other transformations.
        learning_rate_inside: as given to `nesterov`; where it is outside, θ = φ + η γ v, exact for a constant η.

    Returns:
        θ, a tree like `params`, in its dtypes.

    Raises:
        KeyError: `state` holds no state of `nesterov`, or several.
        ValueError: it is the state of other parameters.
    """
    states = [s for s in jax.tree.leaves(state, is_leaf=_is_equation_state) if _is_equation_state(s)]
    velocities = [s for s in states if set(s.slots) == {"v"} and set(s.hyper) == {"decay"}]
    if len(velocities) != 1:
        raise KeyError(f"nesterov_parameters: the state holds {len(velocities)} states of scale_by_nesterov, expected one")
    # By leaves, because NNX keeps the state's arrays in variables of other types than the parameters'.
    (scale,) = jax.tree.leaves(velocities[0].hyper)
    if not learning_rate_inside:
        (eta,) = (s for s in states if set(s.hyper) >= {"learning_rate"})
        scale = scale * jax.tree.leaves(eta.hyper["learning_rate"])[0]
    treedef: Any
    phi, treedef = jax.tree.flatten(params)
    phi, vs = [jnp.asarray(p) for p in phi], jax.tree.leaves(velocities[0].slots["v"])
    if [p.shape for p in phi] != [v.shape for v in vs]:
        raise ValueError("nesterov_parameters: the state belongs to other parameters: their shapes differ")
    theta = [(p.astype(v.dtype) + scale.astype(v.dtype) * v).astype(p.dtype) for p, v in zip(phi, vs, strict=True)]
    return treedef.unflatten(theta)


def _is_equation_state(x: Any) -> bool:
    return isinstance(x, EquationState)


def nesterov_exact(learning_rate: ScalarOrSchedule, decay: ScalarOrSchedule = 0.9) -> optax.GradientTransformationExtraArgs:
    """Nesterov's accelerated gradient to the letter: v ← γ v + η ∇J(θ − γ v); θ ← θ − v.

    The gradient is evaluated inside `update(updates, state, params, value_fn=J, ...)`; the `updates` given are only a
    shape, so clipping or weight decay before it in a chain has no effect. Extra arguments that `value_fn` has by name, such
    as the batch, are passed on to it. Works with `flax.nnx.Optimizer` and `jaxopt_lec.train_state.TrainState`.

    Args:
        learning_rate: η in [0, ∞).
        decay: γ in [0, 1); a schedule applies γₜ to the look-ahead and the velocity of step t.

    Slots: v, zeros like the parameter. Errors: ValueError if `value_fn` or `params` is missing. No other framework has it;
    with constant γ its θ is `nesterov_parameters` of `nesterov`.

    Reference: as `nesterov`; the lecture, section 4.
    """
    return scale_by_nesterov_exact(learning_rate=learning_rate, decay=decay)
