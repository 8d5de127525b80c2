"""What the tools over a transformation's state take for one."""

from typing import Any

import optax

__all__ = ["checked"]


def checked(what: str, tx: Any) -> optax.GradientTransformationExtraArgs:
    """Return a transformation that takes extra arguments, or raise a TypeError that says what came in its place."""
    if not isinstance(tx, optax.GradientTransformation):
        called = "; call it: it makes one" if callable(tx) else ""
        raise TypeError(f"{what} takes an Optax transformation, got a {type(tx).__name__}{called}")
    return optax.with_extra_args_support(tx)
