"""What all oracles share: the dtype of the arithmetic and the value of a schedule."""

import numpy as np


def exact(theta):
    """Theta as a float64 array, or complex128 where it is complex."""
    theta = np.asarray(theta)
    return theta.astype(np.complex128 if np.iscomplexobj(theta) else np.float64)


def at(value, t):
    """Value of a number or a schedule in step t = 1, 2, ...; a schedule counts from 0, as in Optax."""
    return value(t - 1) if callable(value) else value
