"""The check that the argument of a tool is a transformation."""

from typing import Any

import optax

__all__ = ["checked", "of_multi_steps"]


def checked(what: str, tx: Any) -> optax.GradientTransformationExtraArgs:
    """Return a transformation that takes extra arguments, or raise a TypeError that says what came in its place."""
    tx = of_multi_steps(tx)
    if not isinstance(tx, optax.GradientTransformation):
        called = "; call it: it makes one" if callable(tx) else ""
        raise TypeError(f"{what} takes an Optax transformation, got a {type(tx).__name__}{called}")
    return optax.with_extra_args_support(tx)


def of_multi_steps(tx: Any) -> Any:
    """Return an `optax.MultiSteps` as a transformation that keeps its extra arguments, and anything else unchanged.

    `optax.MultiSteps` has `init` and `update`, but is no `optax.GradientTransformation`, and its own
    `gradient_transformation` drops extra arguments.
    """
    return optax.GradientTransformationExtraArgs(tx.init, tx.update) if isinstance(tx, optax.MultiSteps) else tx
