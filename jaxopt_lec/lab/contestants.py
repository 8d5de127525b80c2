"""Which optimizers take part in a study, found by name and tried out before any training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxopt_lec
from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.importing import imported, one_line
from jaxopt_lec.lab.training import Factory, widened
from jaxopt_lec.transformation import of_multi_steps

DEFAULT = (
    "sgd",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adadelta",
    "adam",
    "adamw",
    "amsgrad",
    "adamax",
    "nadam",
    "radam",
    "lion",
)
KNOWN = (*DEFAULT, "nesterov_exact", "newton_cg")


@dataclass(frozen=True)
class Contestant:
    """An optimizer that takes part: what tables call it, what the user wrote, and the factory that this named."""

    name: str
    spec: str
    factory: Factory


def find_contestants(specs: Sequence[str]) -> list[Contestant]:
    """Find the optimizer of every spec: a name from ``KNOWN``, ``package.module:factory`` or ``file.py:factory``.

    Raises:
        InputError: a spec leads to no factory, or one is given twice.
    """
    if not specs:
        raise InputError("no optimizer given")
    contestants = [find_own(spec) if ":" in spec else find_known(spec) for spec in specs]
    # The attribute alone is the nicer label; where that is ambiguous, the whole spec is.
    shorts = [c.name for c in contestants]
    contestants = [c if shorts.count(c.name) == 1 else Contestant(c.spec, c.spec, c.factory) for c in contestants]
    for contestant in contestants:
        if [c.name for c in contestants].count(contestant.name) > 1:
            raise InputError(f"optimizer {contestant.name!r} is named twice")
    return contestants


def find_known(name: str) -> Contestant:
    """Find a built-in optimizer."""
    if name not in KNOWN:
        others = "any other, your own too, is written package.module:factory, such as jaxopt_lec:lamb, or file.py:factory"
        raise InputError(f"optimizer {name!r} is not known; known: {', '.join(KNOWN)}; {others}")
    return Contestant(name, name, getattr(jaxopt_lec, name))


def find_own(spec: str) -> Contestant:
    """Import the factory that the user named."""
    return Contestant(spec.rpartition(":")[2], spec, imported("optimizer", spec))


def try_out(contestant: Contestant, params: Any) -> None:
    """Trace one step, so that a mistake shows before any training.

    Args:
        contestant: the optimizer.
        params: parameters; only their shapes and dtypes matter.

    Raises:
        InputError: the factory or what it makes fails, or makes something else than an optimizer.
    """

    def one_step(learning_rate: jax.Array, params: Any) -> tuple[Any, Any, Any]:
        made = of_multi_steps(contestant.factory(learning_rate))
        if not isinstance(made, optax.GradientTransformation):
            raise InputError(
                f"optimizer {contestant.spec!r}: the factory returned a {type(made).__name__}, "
                "not an optax.GradientTransformation"
            )
        optimizer = optax.with_extra_args_support(made)

        def value_fn(params: Any) -> jax.Array:
            return jnp.asarray(sum(widened(jnp.sum((leaf - 1) ** 2)) for leaf in jax.tree.leaves(params)))

        value, grads = jax.value_and_grad(value_fn)(params)
        extra = {"value": value, "grad": grads, "value_fn": value_fn}
        before = optimizer.init(params)
        updates, after = optimizer.update(grads, before, params, **extra)
        return optax.apply_updates(params, updates), before, after

    try:
        stepped, before, after = jax.eval_shape(one_step, jax.ShapeDtypeStruct((), jnp.float32), params)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"optimizer {contestant.spec!r}: factory(learning_rate) and one step, traced by JAX, failed: {one_line(error)}"
        ) from error
    if kinds(stepped) != kinds(params):
        raise InputError(f"optimizer {contestant.spec!r}: its updates have other shapes than the parameters")

    if kinds(before) != kinds(after):
        raise InputError(f"optimizer {contestant.spec!r}: update changes the structure, shapes or dtypes of its state")


def kinds(tree: Any) -> tuple[Any, Any]:
    """Return what a compiled loop needs to stay the same from step to step."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
