"""Comparison of numbers, and the line that a failing test prints: row, law, measured, permitted, and where to look."""

import numpy as np


def agree(row, law, ours, expected, permitted, *, scale=None, look="its equation"):
    """Demand |ours − expected| ≤ permitted · scale, element by element; the scale is |expected| where none is given.

    The first axis counts steps. The one line of the error has what a contributor needs to know first.
    """
    ours, expected = np.asarray(ours), np.asarray(expected)
    bound = permitted * np.broadcast_to(np.abs(expected) if scale is None else scale, expected.shape)
    error = np.abs(ours - expected)
    if np.all(error <= bound):  # false where anything is NaN
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0, 0, permitted * error / bound)
    worst = np.unravel_index(np.argmax(np.where(np.isnan(ratio), np.inf, ratio)), ratio.shape)
    place = f"step {worst[0] + 1}, element {worst[1:]}" if worst else "the number"
    raise AssertionError(
        f"{row}: {law}: measured {ratio[worst]:.2e} at {place}, permitted {permitted:.0e} "
        f"({ours[worst]!r}, expected {expected[worst]!r}); look at {look}"
    )
