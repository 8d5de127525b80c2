"""PyTorch's steps for the rows of cases.py that must equal them; `python tests/torch_steps.py` records them again.

They are stored, so that the laws do not need PyTorch; if it is installed, a test compares its steps with the stored ones.
"""

import functools
from pathlib import Path

import numpy as np
from cases import CASES, Case

STORED = Path(__file__).parent / "torch_steps.npz"
START = 0.7
RATE = 0.05
ROWS = [case for case in CASES if case.like_torch]


def wild_gradients(steps, dtype=np.float64, seed=0):
    """Gradients whose coordinates have scales from 1e-6 to 1e6, one of which never sees a gradient."""
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((steps, 6, 3)) * 10.0 ** rng.uniform(-6, 6, (6, 3))
    if np.issubdtype(dtype, np.complexfloating):
        gradients = gradients * np.exp(2j * np.pi * rng.random((steps, 6, 3)))
    gradients[:, 2, 1] = 0
    return gradients.astype(dtype)


def followed(case: Case) -> np.ndarray:
    """Return the parameters after each of 50 steps of the live optimizer."""
    import torch

    name, arguments = case.like_torch
    weight = torch.nn.Parameter(torch.full((6, 3), START, dtype=torch.float64))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # otherwise torch keeps some scalars in float32
    try:
        optimizer = getattr(torch.optim, name)([weight], lr=RATE, **arguments)
        path = []
        for gradient in wild_gradients(50):
            weight.grad = torch.tensor(gradient)
            optimizer.step()
            path.append(weight.detach().numpy().copy())
    finally:
        torch.set_default_dtype(before)
    return np.stack(path)


@functools.cache
def stored() -> dict[str, np.ndarray]:
    """Return row → the parameters after each step, as recorded."""
    with np.load(STORED, allow_pickle=False) as file:
        return dict(file)


if __name__ == "__main__":
    np.savez_compressed(STORED, **{case.name: followed(case) for case in ROWS})
    print(f"{STORED}: {len(ROWS)} rows, {STORED.stat().st_size / 2**10:.0f} KiB")
