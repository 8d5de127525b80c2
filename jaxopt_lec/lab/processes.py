"""Several processes that work on one study: `jax.distributed`'s, each with devices of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxopt_lec.lab.errors import LostProcessError

__all__ = ["is_first", "together"]


def is_first() -> bool:
    """Return whether this process decides what is decided once."""
    return jax.process_index() == 0


@contextmanager
def together(work: str, left: str) -> Iterator[None]:
    """Do some work in all processes, and go on when all have done it, or in none if one could not.

    Args:
        work: what is done, for messages.
        left: what an error says of the work before.

    Raises:
        LostProcessError: another process failed or is gone. If it was this one, its own error is raised.
    """
    if jax.process_count() == 1:
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # the others must hear of it, or they would wait for ever
        failure = error
    lost = f"while {work}. This process, {jax.process_index()}, goes no further. {left}"
    try:
        failed = multihost_utils.process_allgather(np.array(failure is not None))
    except jax.errors.JaxRuntimeError as error:
        if failure is None:
            raise LostProcessError(f"one of {jax.process_count()} processes was lost {lost}") from error
        raise failure from None
    if failure is not None:
        raise failure
    if failed.any():
        raise LostProcessError(f"process {int(np.argmax(failed))} of {jax.process_count()} failed {lost}")
