"""Record the installed frameworks' steps: `python tests/compat/record.py torch|keras|lbfgs [--out DIR] [--check] [-k PART]`.

Every case of a table is run with the framework's own class, and the parameters after some of the steps are written to
DIR/torch.npz, DIR/keras.npz or, for PyTorch's LBFGS on losses that are hard to search, DIR/lbfgs.npz. With --check nothing
is written: the steps of the installed framework are compared with the stored ones, and the exit status is 1 if a trajectory
differs by more than 1e-10.
"""

import argparse
import contextlib
import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lbfgs_cases import Case as SearchCase
from problems import RATES, Case, Problem, flat, group_of, loss

TRAJECTORIES = Path(__file__).parent / "trajectories"


def follow(case: Case, step: Callable[[int], Mapping[str, Mapping[str, np.ndarray]]]) -> np.ndarray:
    """Take the steps; return what is tracked after the recorded ones: an array (tracks, recorded steps, coordinates)."""
    kept = {track: [] for track in case.tracks}
    for i in range(case.steps):
        found = step(i)
        if i + 1 in case.recorded:
            for track in case.tracks:
                kept[track].append(flat(found[track]))
    trajectory = np.array(list(kept.values()))
    if not np.all(np.isfinite(trajectory)):
        raise FloatingPointError(f"{case} does not stay finite: it says nothing, give it another learning rate")
    return trajectory


@contextlib.contextmanager
def torch_in_float64() -> Iterator[Any]:
    """PyTorch with one thread, and with its step counts and rates in float64, which it keeps in the default dtype."""
    import torch

    threads, dtype, narrow = torch.get_num_threads(), torch.get_default_dtype(), torch.Tensor.bfloat16
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    # Muon orthogonalizes in bfloat16, whatever the parameters are: three digits. Here in float64, so that the method is
    # compared and not its rounding; the condition of its cases says so. A copy, because PyTorch divides it in place.
    torch.Tensor.bfloat16 = lambda x: x.to(torch.float64, copy=True)
    try:
        yield torch
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.Tensor.bfloat16 = narrow


def torch_trajectory(case: Case) -> np.ndarray:
    with torch_in_float64() as torch:
        # Parameters and gradients share memory with NumPy's arrays.
        params = {path: torch.nn.Parameter(torch.tensor(p)) for path, p in case.problem.start().items()}
        views = {path: p.detach().numpy() for path, p in params.items()}
        optimizer = getattr(torch.optim, case.optimizer)(_torch_groups(case, params), **case.options)
        # The factor multiplies the learning rate of each group.
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: RATES[i]) if case.scheduled else None

        def gradients(i: int) -> None:
            for path, g in case.problem.gradients(views, i, lambda table: table[i]).items():
                params[path].grad = None if path in case.absent(i) else _torch_gradient(torch, case.problem, g)

        def closure() -> float:
            gradients(0)
            return float(loss({path.split("/")[1]: view for path, view in views.items()}, np.log))

        def step(i: int) -> dict[str, dict[str, np.ndarray]]:
            if case.optimizer == "LBFGS":
                optimizer.step(closure)
            else:
                gradients(i)
                optimizer.step()
            if scheduler is not None:
                scheduler.step()
            if "average" not in case.tracks:
                return {"params": views}
            # A parameter that never had a gradient has no average yet; zero is where it starts.
            averages = {path: optimizer.state[p].get("ax", torch.zeros_like(p)) for path, p in params.items()}
            return {"params": views, "average": {path: ax.detach().numpy() for path, ax in averages.items()}}

        return follow(case, step)


def _torch_groups(case: Case, params: Mapping[str, Any]) -> list[Any]:
    if not case.groups:
        return list(params.values())
    members = [[p for path, p in params.items() if group_of(path, case.groups) == i] for i in range(len(case.groups))]
    return [{**group, "params": found} for group, found in zip(case.groups, members, strict=True)]


def _torch_gradient(torch: Any, problem: Problem, g: np.ndarray) -> Any:
    gradient = torch.tensor(g)
    return gradient.to_sparse(1) if problem.sparse else gradient  # of the rows that are not entirely zero


def lbfgs_trajectory(case: SearchCase) -> np.ndarray:
    """PyTorch's steps as far as rounding does not decide: disturbed runs stay ten times closer than ours must; then NaN."""
    with torch_in_float64() as torch:
        found = []
        for options, start in case.searches():
            exact = _search(torch, case, options, start)
            disturbed = [_search(torch, case, options, start, k * np.finfo(np.float64).eps) for k in (-2, -1, 1, 2)]
            steps = range(1, case.steps + 1)
            together = [all(case.excess(exact[None, :i], run[None, :i]) < 0.1 for run in disturbed) for i in steps]
            found.append(np.where(np.array(together)[:, None], exact, np.nan))
    return np.stack(found)


def _search(
    torch: Any, case: SearchCase, options: Mapping[str, Any], start: Mapping[str, np.ndarray], noise: float = 0.0
) -> np.ndarray:
    """Take PyTorch's steps; with noise, every loss and gradient is off by as much, relatively."""
    random = np.random.default_rng(5)
    params = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in start.items()}
    optimizer = torch.optim.LBFGS(params.values(), **options)

    def off(*shape: int) -> Any:
        return torch.tensor(1 + noise * random.choice([-1.0, 1.0], shape))

    def closure() -> Any:
        optimizer.zero_grad()
        loss = case.loss(torch, params)
        loss.backward()
        for p in params.values():
            if p.grad is not None:
                p.grad.mul_(off(*p.shape))
        return loss * off()

    steps = []
    for _ in range(case.steps):
        optimizer.step(closure)
        state = next(iter(optimizer.state.values()))
        counts = [np.array([state["n_iter"], state["func_evals"]], np.float64)]
        steps.append(np.concatenate([p.detach().numpy().ravel() for p in params.values()] + counts))
    return np.stack(steps)


@contextlib.contextmanager
def keras_in_float64() -> Iterator[Any]:
    """Keras on JAX, in float64."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras
    from keras.src.backend.common.dtypes import BIT64_TO_BIT32_DTYPE as NARROWED

    floatx, narrowed = keras.config.floatx(), NARROWED["float64"]
    # On JAX, Keras takes a mean and a norm in float32, whatever the array is: the conditions of the cases of Adafactor and
    # Muon say that here it does not.
    NARROWED["float64"] = "float64"
    keras.config.set_floatx("float64")
    try:
        with jax.enable_x64(True):
            yield keras
    finally:
        keras.config.set_floatx(floatx)
        NARROWED["float64"] = narrowed


def keras_trajectory(case: Case) -> np.ndarray:
    with keras_in_float64() as keras:
        return _keras_trajectory(keras, case)


def _keras_trajectory(keras: Any, case: Case) -> np.ndarray:
    import jax
    import jax.numpy as jnp

    class Factors(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return options["learning_rate"] * jnp.asarray(RATES)[jnp.asarray(step)]

    options = dict(case.options)
    excluded = options.pop("exclude_from_weight_decay", ())
    factory = getattr(keras.optimizers, case.optimizer)
    optimizer = factory(**options | ({"learning_rate": Factors()} if case.scheduled else {}))
    optimizer.exclude_from_weight_decay(var_names=list(excluded))
    variables = []
    for path, start in case.problem.start().items():
        *scope, name = path.split("/")
        with keras.name_scope("/".join(scope)):
            variables.append(keras.Variable(start, name=name, dtype="float64"))
    optimizer.build(variables)

    # As `model.fit` calls it on this backend.
    @jax.jit
    def apply(state: list[Any], gradients: list[Any], params: list[Any]) -> tuple[list[Any], list[Any]]:
        return optimizer.stateless_apply(state, gradients, params)

    params, state = [v.value for v in variables], [v.value for v in optimizer.variables]
    places = {id(v): i for i, v in enumerate(optimizer.variables)}
    averages = [places[id(v)] for v in getattr(optimizer, "_model_variables_moving_average", [])]

    def step(i: int) -> dict[str, dict[str, np.ndarray]]:
        nonlocal params, state
        now = {path: np.asarray(p) for path, p in zip(case.problem.paths, params, strict=True)}
        found = case.problem.gradients(now, i, lambda table: table[i])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Gradients do not exist for variables")
            params, state = apply(state, [None if path in case.absent(i) else g for path, g in found.items()], params)
        tracked = {"params": params, "average": [state[i] for i in averages]}
        return {track: dict(zip(case.problem.paths, tracked[track], strict=True)) for track in case.tracks}

    return follow(case, step)


TRAJECTORY_OF = {"torch": torch_trajectory, "keras": keras_trajectory, "lbfgs": lbfgs_trajectory}
TORCH = "SGD Adagrad RMSprop Adadelta Adam AdamW NAdam RAdam Adamax ASGD Rprop Adafactor Muon SparseAdam LBFGS"
KERAS = "SGD Adagrad RMSprop Adadelta Adam AdamW Adamax Nadam Ftrl Lion Adafactor Lamb Muon ScheduleFreeAdamW"
OPTIMIZERS = {"torch": tuple(TORCH.split()), "keras": tuple(KERAS.split())}


def table(framework: str) -> dict[str, Any]:
    return importlib.import_module(f"{framework}_cases").CASES


def load(framework: str, folder: Path = TRAJECTORIES) -> dict[str, np.ndarray]:
    with np.load(folder / f"{framework}.npz", allow_pickle=False) as stored:
        return dict(stored)


def save(framework: str, folder: Path, trajectories: Mapping[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{framework}.npz"
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **trajectories)
    temporary.replace(path)
    return path


def check(stored: Mapping[str, np.ndarray], live: Mapping[str, np.ndarray], cases: Mapping[str, Any]) -> int:
    """Print the cases that are not what is stored, the worst first; return how many they are."""
    worst = {
        name: cases[name].excess(stored[name], trajectory) if name in stored else float("inf")
        for name, trajectory in live.items()
    }
    off = sorted((name for name, value in worst.items() if value > 1), key=lambda name: -worst[name])
    for name in off[:20]:
        print(f"{worst[name]:12.3g} times the permitted error: {name}")
    print(f"{len(live) - len(off)} of {len(live)} cases are as stored")
    return len(off)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework", choices=TRAJECTORY_OF)
    parser.add_argument("--out", type=Path, default=TRAJECTORIES, help="folder of the recorded trajectories")
    parser.add_argument("--check", action="store_true", help="compare with what is stored there, write nothing")
    parser.add_argument("-k", default="", help="with --check: only the cases whose name contains this")
    arguments = parser.parse_args()
    cases = {name: case for name, case in table(arguments.framework).items() if arguments.k in name}
    if arguments.k and not arguments.check:
        parser.error("-k needs --check: a file holds all cases")
    started = time.perf_counter()
    live = {name: TRAJECTORY_OF[arguments.framework](case) for name, case in cases.items()}
    print(f"{arguments.framework}: {len(live)} cases followed in {time.perf_counter() - started:.0f} s")
    if arguments.check:
        return int(check(load(arguments.framework, arguments.out), live, cases) > 0)
    path = save(arguments.framework, arguments.out, live)
    print(f"{path}: {path.stat().st_size / 2**20:.2f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
