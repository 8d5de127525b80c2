"""Runs that change between live PyTorch and JAX: they go on as if they had stayed, to 1e-10; and what is refused.

Numbers are compared in float64. The gradients come from one NumPy function of the parameters and the step, or from a model
that is written in both frameworks.
"""

import builtins
import copy
import dataclasses
import functools
import inspect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from record import torch_in_float64

import jaxopt_lec as jl
from jaxopt_lec.compat import checkpoint
from jaxopt_lec.compat import torch as like_torch
from jaxopt_lec.compat.checkpoint import CONV1D, CONV2D, CONV3D, LINEAR, from_torch, load, save, to_torch
from jaxopt_lec.compat.state_dicts import as_numpy, option_names

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.thorough

BEFORE, AFTER = 5, 6
TOLERANCE = 1e-10


@pytest.fixture(autouse=True)
def _in_float64():
    with torch_in_float64(), jax.enable_x64(True):
        yield


# --- a tree of parameters, in PyTorch's order, and gradients for either framework

# Path, PyTorch's shape, layout. No order of its own: neither alphabetical nor by size.
DENSE = (
    ("layer/kernel", (4, 3), LINEAR),
    ("layer/bias.gain", (), ()),
    ("layer/bias", (4,), (0,)),
    ("embedding", (5, 3), (0, 1)),
)
MATRICES = (("out/kernel", (3, 5), LINEAR), ("hidden/kernel", (6, 3), LINEAR))
SQUARE = (("out", (3, 5), (0, 1)), ("hidden", (6, 3), (0, 1)))
ROWS = (("embedding", (5, 3), (0, 1)), ("bias", (4,), (0,)))


@dataclasses.dataclass(frozen=True)
class Case:
    """One optimizer; `groups` are overrides, with the number of parameters that they are for, in order."""

    optimizer: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tree: tuple[Any, ...] = DENSE
    groups: tuple[tuple[int, Mapping[str, Any]], ...] = ()
    is_complex: bool = False

    def __str__(self) -> str:
        words = [self.optimizer, *(f"{key}={value}" for key, value in self.options.items())]
        return " ".join(words + ["groups"] * bool(self.groups) + ["complex"] * self.is_complex)

    @property
    def order(self) -> list[Any]:
        """The paths and layouts, one list for each group if there are several."""
        items = iter([(path, layout) for path, _, layout in self.tree])
        return [list(itertools.islice(items, size)) for size, _ in self.groups] or list(items)

    def start(self) -> list[np.ndarray]:
        """The parameters before the first step, as PyTorch has them."""
        random = np.random.default_rng(0)
        return [self.numbers(random, shape) for _, shape, _ in self.tree]

    def numbers(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        x = np.asarray(random.normal(size=shape))
        return x + 1j * np.asarray(random.normal(size=shape)) if self.is_complex else x

    def gradients(self, values: Sequence[np.ndarray], step: int) -> list[np.ndarray]:
        """Gradients that depend on the parameters; rows are missing where the optimizer is for that."""
        random = np.random.default_rng([1, step])
        noise = [self.numbers(random, shape) for _, shape, _ in self.tree]
        found = [np.asarray(0.5 * x * np.abs(x) + 0.3 * n) for x, n in zip(values, noise, strict=True)]
        if self.optimizer == "SparseAdam":
            for i, g in enumerate(found):
                g[(step + i) % len(g)] = 0
        return found

    def torch_optimizer(self, tensors: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
        groups, start = [], 0
        for size, overrides in self.groups or ((len(tensors), {}),):
            groups.append({"params": tensors[start : start + size], **overrides})
            start += size
        return getattr(torch.optim, self.optimizer)(groups, **self.options)


def tree_of(case: Case, values: Sequence[np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for (path, _, layout), x in zip(case.tree, values, strict=True):
        *parents, name = path.split("/")
        node = functools.reduce(lambda at, key: at.setdefault(key, {}), parents, tree)
        node[name] = jnp.array(np.transpose(x, layout))
    return tree


def values_of(case: Case, tree: Mapping[str, Any]) -> list[np.ndarray]:
    found = []
    for path, _, layout in case.tree:
        x = functools.reduce(lambda at, key: at[key], path.split("/"), tree)
        found.append(np.transpose(np.asarray(x), np.argsort(layout)))
    return found


class TorchRun:
    """Parameters and their optimizer in PyTorch."""

    def __init__(self, case: Case, values: Sequence[np.ndarray], state_dict: Any = None) -> None:
        self.case = case
        self.tensors = [torch.nn.Parameter(torch.tensor(x)) for x in values]
        self.optimizer = case.torch_optimizer(self.tensors)
        if state_dict is not None:
            self.optimizer.load_state_dict(state_dict)

    @property
    def values(self) -> list[np.ndarray]:
        return [p.detach().numpy().copy() for p in self.tensors]

    def go(self, steps: Sequence[int], missing: Sequence[int] = ()) -> "TorchRun":
        for step in steps:
            for i, (p, g) in enumerate(zip(self.tensors, self.case.gradients(self.values, step), strict=True)):
                g = torch.tensor(g)
                p.grad = None if i in missing else g.to_sparse(1) if self.case.optimizer == "SparseAdam" else g
            self.optimizer.step()
        return self


class JaxRun:
    """Parameters, optimizer and state in JAX."""

    def __init__(self, case: Case, values: Sequence[np.ndarray], tx: Any, state: Any = None) -> None:
        self.case, self.tx = case, tx
        self.params = tree_of(case, values)
        self.state = tx.init(self.params) if state is None else state

    @property
    def values(self) -> list[np.ndarray]:
        return values_of(self.case, self.params)

    def go(self, steps: Sequence[int]) -> "JaxRun":
        for step in steps:
            gradients = tree_of(self.case, self.case.gradients(self.values, step))
            updates, self.state = self.tx.update(gradients, self.state, self.params)
            self.params = optax.apply_updates(self.params, updates)
        return self

    def to_torch(self, tensor: Any = torch.as_tensor) -> dict[str, Any]:
        return to_torch(self.tx, self.state, self.params, self.case.order, tensor)


def distance(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """The largest difference, relative to the largest coordinate of its parameter."""
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in zip(ours, theirs, strict=True))


def plain(x: Any) -> Any:
    """A state dict that can be compared: tensors as kind, dtype, shape and bytes."""
    if isinstance(x, Mapping):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(plain(value) for value in x)
    if isinstance(x, torch.Tensor):
        return "tensor", str(x.dtype), tuple(x.shape), x.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    if isinstance(x, np.ndarray):
        return "array", x.dtype.name, x.shape, x.tobytes()
    return type(x).__name__, x


SINGLE: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True},
    ],
    "Adagrad": [{}, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}],
    "RMSprop": [
        {"weight_decay": 0.1},
        {"lr": 0.02, "alpha": 0.9, "momentum": 0.8},
        {"lr": 0.02, "alpha": 0.9, "centered": True},
        {"lr": 0.02, "alpha": 0.9, "centered": True, "momentum": 0.5, "eps": 1e-3},
    ],
    "Adadelta": [{}, {"lr": 0.5, "rho": 0.7, "eps": 1e-3, "weight_decay": 0.1}],
    "Adam": [
        {},
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 0.1, "amsgrad": True, "weight_decay": 0.1},
        {"lr": 0.1, "weight_decay": 0.3, "decoupled_weight_decay": True, "maximize": True},
    ],
    "AdamW": [{"lr": 0.1}, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.2}],
    "NAdam": [{"lr": 0.1}, {"lr": 0.1, "weight_decay": 0.1, "momentum_decay": 0.1, "decoupled_weight_decay": True}],
    "RAdam": [{"lr": 0.1}, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.1}],
    "Adamax": [{"lr": 0.1}, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.1}],
    "ASGD": [{}, {"lr": 0.1, "lambd": 1.0, "alpha": 0.25, "t0": 2, "weight_decay": 0.1}],
    "Rprop": [{}, {"lr": 0.1, "etas": (0.25, 1.1), "step_sizes": (1e-3, 0.15)}],
}
CASES = [Case(name, options) for name, some in SINGLE.items() for options in some]
CASES += [Case(name, some[-1], is_complex=True) for name, some in SINGLE.items()]
CASES += [Case("Adafactor", {}), Case("Adafactor", {"lr": 0.3, "eps": (1e-3, 0.1), "d": 2.0, "weight_decay": 0.1})]
CASES += [
    Case("Muon", {}, MATRICES),
    Case("Muon", {"lr": 0.1, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}, SQUARE),
]
CASES += [Case("SparseAdam", {"lr": 0.1}, ROWS), Case("SparseAdam", {"betas": (0.5, 0.9), "eps": 0.1}, ROWS)]
CASES += [
    Case("SGD", {"lr": 0.1}, groups=((1, {"momentum": 0.9}), (3, {"momentum": 0.5, "weight_decay": 0.1}))),
    Case("AdamW", {"lr": 0.1}, groups=((2, {}), (1, {"lr": 0.01, "betas": (0.5, 0.9)}), (1, {"weight_decay": 0.0}))),
    Case("Adam", {"lr": 0.1}, groups=((1, {"amsgrad": True}), (3, {"decoupled_weight_decay": True, "weight_decay": 0.1}))),
    Case("RMSprop", {"lr": 0.1}, groups=((1, {"centered": True}), (3, {"momentum": 0.5})), is_complex=True),
    Case("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.1}, groups=((1, {"lr_decay": 0.1}), (3, {}))),
    Case(
        "Muon",
        {},
        (*MATRICES, ("square", (3, 3), (0, 1)), ("embedding", (5, 3), (0, 1))),
        groups=((2, {"lr": 0.1}), (2, {"momentum": 0.5})),
    ),
]
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)


# --- the numbers


@EVERY_CASE
def test_a_run_of_pytorch_goes_on_in_jax(case):
    theirs = TorchRun(case, case.start()).go(range(BEFORE))
    state_dict, there = copy.deepcopy(theirs.optimizer.state_dict()), theirs.values
    tx, state = from_torch(state_dict, tree_of(case, there), case.order)
    assert tx.name == ("AdamW" if case.optimizer == "Adam" and case.options.get("maximize") else case.optimizer)
    theirs.go(range(BEFORE, BEFORE + AFTER))
    ours = JaxRun(case, there, tx, state).go(range(BEFORE, BEFORE + AFTER))
    assert distance(ours.values, theirs.values) < TOLERANCE
    if state_dict["state"]:  # the state mattered
        assert distance(JaxRun(case, there, tx).go(range(BEFORE, BEFORE + AFTER)).values, theirs.values) > 1e-7


@EVERY_CASE
def test_a_run_of_jax_goes_on_in_pytorch(case, tmp_path):
    groups, start = [], 0
    for size, overrides in case.groups:
        paths = [path for path, _, _ in case.tree[start : start + size]]
        groups.append({"params": [f"^{path}$" for path in paths], **overrides})
        start += size
    axis = {"output_axis": -1} if case.tree == MATRICES else {}
    if case.optimizer == "Muon" and groups:
        groups[0]["output_axis"] = -1
    tx = getattr(like_torch, case.optimizer)(groups or None, **case.options, **axis)
    ours = JaxRun(case, case.start(), tx).go(range(BEFORE))
    save(ours.to_torch(np.asarray), tmp_path / "optimizer.safetensors")
    state_dict = load(tmp_path / "optimizer.safetensors", torch.as_tensor)
    theirs = TorchRun(case, ours.values, state_dict).go(range(BEFORE, BEFORE + AFTER))
    ours.go(range(BEFORE, BEFORE + AFTER))
    assert distance(ours.values, theirs.values) < TOLERANCE


@EVERY_CASE
@pytest.mark.parametrize("steps", [0, 1, BEFORE])
def test_there_and_back_is_the_same_bit_for_bit(case, steps, tmp_path):
    theirs = TorchRun(case, case.start()).go(range(steps))
    state_dict = theirs.optimizer.state_dict()
    params = tree_of(case, theirs.values)
    tx, state = from_torch(state_dict, params, case.order)
    assert plain(to_torch(tx, state, params, case.order, torch.as_tensor)) == plain(state_dict)
    path = tmp_path / "optimizer.safetensors"
    save(state_dict, path)
    assert plain(load(path, torch.as_tensor)) == plain(state_dict)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    again = to_torch(*from_torch(path, params, case.order), params, case.order, torch.as_tensor)
    assert plain(again) == plain(state_dict)


def test_every_optimizer_is_here():
    assert {case.optimizer for case in CASES} | {"LBFGS"} == set(like_torch.__all__) - {"TorchOptimizer"}


# --- a model with a convolution, in both frameworks


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, (3, 2))
        self.out = torch.nn.Linear(3 * 3 * 3, 4)

    def forward(self, x):
        return self.out(torch.tanh(self.conv(x)).permute(0, 2, 3, 1).flatten(1))


ORDER = [("conv/kernel", CONV2D), "conv/bias", ("out/kernel", LINEAR), "out/bias"]
IMAGES, TARGETS = np.random.default_rng(2).normal(size=(6, 2, 5, 4)), np.random.default_rng(3).normal(size=(6, 4))


def network_loss(params):
    x = jax.lax.conv_general_dilated(
        jnp.array(IMAGES.transpose(0, 2, 3, 1)),
        params["conv"]["kernel"],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = jnp.tanh(x + params["conv"]["bias"]).reshape(len(x), -1)
    return jnp.mean((x @ params["out"]["kernel"] + params["out"]["bias"] - jnp.array(TARGETS)) ** 2)


def network_params(network):
    arrays = [p.detach().numpy().copy() for p in network.parameters()]
    conv, bias, kernel, out = [jnp.array(x) for x in arrays]
    return {
        "conv": {"kernel": conv.transpose(2, 3, 1, 0), "bias": bias},
        "out": {"kernel": kernel.T, "bias": out},
    }


def network_steps(network, optimizer, steps):
    def closure():
        optimizer.zero_grad()
        loss = ((network(torch.tensor(IMAGES)) - torch.tensor(TARGETS)) ** 2).mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def network_goes_on(tx, state, params, steps):
    for _ in range(steps):
        gradients = jax.grad(network_loss)(params)
        updates, state = tx.update(gradients, state, params, value_fn=network_loss)
        params = optax.apply_updates(params, updates)
    return params, state


NETWORK_CASES = [
    ("AdamW", {"lr": 1e-2}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("NAdam", {"lr": 1e-2}),
    ("ASGD", {"lr": 0.1, "t0": 2}),
    ("Rprop", {}),
    ("LBFGS", {"lr": 0.5, "max_iter": 3, "history_size": 4}),
    ("LBFGS", {"max_iter": 4, "line_search_fn": "strong_wolfe"}),
    ("LBFGS", {"lr": 0.5, "max_iter": 1}),
]


@pytest.mark.parametrize(("name", "options"), NETWORK_CASES)
@pytest.mark.parametrize("before", [1, 3])
def test_a_network_goes_on_in_jax_and_back_in_pytorch(name, options, before, tmp_path):
    torch.manual_seed(0)
    network = Network()
    optimizer = getattr(torch.optim, name)(network.parameters(), **options)
    network_steps(network, optimizer, before)
    save(optimizer.state_dict(), tmp_path / "optimizer.safetensors")
    params = network_params(network)
    tx, state = from_torch(tmp_path / "optimizer.safetensors", params, ORDER)
    network_steps(network, optimizer, 2)
    params, state = network_goes_on(tx, state, params, 2)
    assert largest(params, network_params(network)) < TOLERANCE

    # What JAX hands back to PyTorch is what PyTorch has itself, and it goes on from there.
    back = copy.deepcopy(network)
    back_optimizer = getattr(torch.optim, name)(back.parameters(), **options)
    state_dict = to_torch(tx, state, params, ORDER, torch.as_tensor)
    expected = optimizer.state_dict()
    expected["state"][0].pop("al", None)  # the scratch memory of L-BFGS
    assert without_numbers(state_dict) == without_numbers(expected)
    back_optimizer.load_state_dict(state_dict)
    network_steps(back, back_optimizer, 2)
    params, _ = network_goes_on(tx, state, params, 2)
    assert largest(params, network_params(back)) < TOLERANCE


def largest(ours, theirs):
    return max(map(distance_of, jax.tree.leaves(ours), jax.tree.leaves(theirs)))


def distance_of(a, b):
    return float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))


def without_numbers(x):
    """The names, shapes and dtypes of a state dict; L-BFGS has numbers where PyTorch has now a number, now a tensor."""
    if isinstance(x, Mapping):
        return {key: without_numbers(value) for key, value in x.items()}
    if isinstance(x, list):
        return [without_numbers(value) for value in x]
    if isinstance(x, torch.Tensor) and x.shape != ():
        return str(x.dtype), tuple(x.shape)
    return "number" if isinstance(x, int | float | torch.Tensor) and not isinstance(x, bool) else x


def test_lbfgs_there_and_back_is_the_same():
    network = Network()
    # More iterations than pairs are kept: ours are in a ring, whose first row is not the oldest.
    optimizer = torch.optim.LBFGS(network.parameters(), lr=0.5, max_iter=3, history_size=3)
    params = network_params(network)
    for steps in (1, 2, 1):
        network_steps(network, optimizer, steps)
        params = network_params(network)
        tx, state = from_torch(optimizer.state_dict(), params, ORDER)
        expected = copy.deepcopy(optimizer.state_dict())
        expected["state"][0].pop("al", None)
        expected["state"][0]["t"] = float(expected["state"][0]["t"])
        assert plain(to_torch(tx, state, params, ORDER, torch.as_tensor)) == plain(expected)
    params, state = network_goes_on(tx, state, params, 1)
    assert state.n_pairs > 3
    network_steps(network, optimizer, 1)
    rows = to_torch(tx, state, params, ORDER)["state"][0]["old_dirs"]
    for ours, theirs in zip(rows, optimizer.state_dict()["state"][0]["old_dirs"], strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-7, atol=1e-10)


def test_lbfgs_of_complex_parameters_has_their_parts_side_by_side():
    values = [np.random.default_rng(i).normal(size=(3, 2, 2)) @ [1, 1j] for i in range(2)]
    z = [torch.nn.Parameter(torch.tensor(x)) for x in values]
    optimizer = torch.optim.LBFGS(z, lr=0.3, max_iter=4)

    def closure():
        optimizer.zero_grad()
        loss = sum((abs(x - (0.3 + 1j)) ** 2 + 0.1 * abs(x) ** 4).sum() for x in z)
        loss.backward()
        return loss

    def value(params):
        return sum(jnp.sum(jnp.abs(x - (0.3 + 1j)) ** 2 + 0.1 * jnp.abs(x) ** 4) for x in params.values())

    optimizer.step(closure)
    params = {name: jnp.array(x.detach().numpy()).T for name, x in zip("ba", z, strict=True)}
    order = [("b", LINEAR), ("a", LINEAR)]
    tx, state = from_torch(optimizer.state_dict(), params, order)
    expected = copy.deepcopy(optimizer.state_dict())
    expected["state"][0].pop("al")
    assert without_numbers(to_torch(tx, state, params, order, torch.as_tensor)) == without_numbers(expected)
    optimizer.step(closure)
    gradients = jax.tree.map(jnp.conj, jax.grad(value)(params))
    updates, _ = tx.update(gradients, state, params, value_fn=value)
    params = optax.apply_updates(params, updates)
    for name, x in zip("ba", z, strict=True):
        assert distance_of(params[name], jnp.array(x.detach().numpy()).T) < TOLERANCE


def test_the_layouts_are_flax_layouts():
    for layout, module, ours in [
        (LINEAR, torch.nn.Linear(2, 3), nnx.Linear(2, 3, rngs=nnx.Rngs(0))),
        (CONV1D, torch.nn.Conv1d(2, 3, 4), nnx.Conv(2, 3, (4,), rngs=nnx.Rngs(0))),
        (CONV2D, torch.nn.Conv2d(2, 3, (4, 5)), nnx.Conv(2, 3, (4, 5), rngs=nnx.Rngs(0))),
        (CONV3D, torch.nn.Conv3d(2, 3, (4, 5, 6)), nnx.Conv(2, 3, (4, 5, 6), rngs=nnx.Rngs(0))),
    ]:
        assert np.transpose(module.weight.detach().numpy(), layout).shape == ours.kernel.shape


# --- names and groups, as PyTorch itself writes them

# Three groups, whose parameters all have one shape. The model's order is another one, and the tree's a third.
SQUARES = ("b.in", "b.out", "a.in", "a.out", "c.in", "c.out")
GROUPS = ((("a.out", "c.in"), 0.0), (("c.out", "b.out", "a.in"), 0.3), (("b.in",), 0.9))


class Squares(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for module in "bac":
            own = torch.nn.ParameterDict({name: torch.randn(2, 2) for name in ("in", "out")})
            self.register_module(module, own)

    def steps(self, optimizer, steps):
        for step in steps:
            for i, p in enumerate(self.parameters()):
                p.grad = p.detach() * 0.3 + torch.tensor(squares_noise(step, i))
            optimizer.step()
        return self


def squares_noise(step, i):
    return np.random.default_rng([step, i]).normal(size=(2, 2))


def squares_optimizer(model, with_names):
    of = dict(model.named_parameters())
    groups = [
        {"params": [(name, of[name]) if with_names else of[name] for name in names], "weight_decay": decay}
        for names, decay in GROUPS
    ]
    return torch.optim.AdamW(groups, lr=0.1)


def squares_tree(model):
    return {
        module: {name: jnp.array(getattr(model, module)[name].detach().numpy()) for name in ("in", "out")}
        for module in "abc"
    }


def plainly(model, optimizer):
    return optimizer.state_dict()


def by_distributed(model, optimizer, **options):
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    return get_optimizer_state_dict(model, optimizer, options=StateDictOptions(**options))


BY_GROUP = [[name.replace(".", "/") for name in names] for names, _ in GROUPS]


@pytest.mark.parametrize(
    ("with_names", "state_dict", "order"),
    [
        (True, plainly, None),
        (False, plainly, BY_GROUP),
        (True, plainly, BY_GROUP),
        (False, by_distributed, None),
        (True, functools.partial(by_distributed, flatten_optimizer_state_dict=True), None),
    ],
    ids=["names", "lists", "both", "distributed", "flattened"],
)
def test_groups_of_equal_shapes_go_on_and_back(with_names, state_dict, order):
    torch.manual_seed(0)
    model = Squares()
    optimizer = squares_optimizer(model, with_names)
    params = squares_tree(model.steps(optimizer, range(3)))
    tx, state = from_torch(state_dict(model, optimizer), params, order)
    for step in range(3, 6):
        gradients = {at: params[at[0]][at[2:]] * 0.3 + jnp.array(squares_noise(step, i)) for i, at in enumerate(SQUARES)}
        gradients = {module: {name: gradients[f"{module}.{name}"] for name in ("in", "out")} for module in "abc"}
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    assert largest(params, squares_tree(model.steps(optimizer, range(3, 6)))) < TOLERANCE
    expected = optimizer.state_dict()
    written = to_torch(tx, state, params, tensor=torch.as_tensor)
    assert [group["params"] for group in written["param_groups"]] == [[0, 1], [2, 3, 4], [5]]
    assert [group["weight_decay"] for group in written["param_groups"]] == [decay for _, decay in GROUPS]
    for i, entries in expected["state"].items():
        for key, x in entries.items():
            np.testing.assert_allclose(written["state"][i][key], x, rtol=1e-12)
    names = [list(names) if with_names or order is None else None for names, _ in GROUPS]
    assert [group.get("param_names") for group in written["param_groups"]] == names


def test_the_orders_of_the_model_are_refused_for_groups_of_equal_shapes():
    model = Squares()
    paths = [name.replace(".", "/") for name in SQUARES]
    for with_names, message in ((False, "order does not say which parameters"), (True, "order has 'b/in' where .* 'a.out'")):
        optimizer = squares_optimizer(model, with_names)
        params = squares_tree(model.steps(optimizer, range(1)))
        with pytest.raises(ValueError, match=message):
            from_torch(optimizer.state_dict(), params, paths)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.tree is DENSE and not case.is_complex and not case.groups], ids=str
)
def test_what_older_versions_lack_is_what_pytorch_fills_in(case):
    theirs = TorchRun(case, case.start()).go(range(2))
    saved = copy.deepcopy(theirs.optimizer.state_dict())
    later = {"foreach", "maximize", "capturable", "differentiable", "fused"}
    later |= {"SGD": {"nesterov"}, "RMSprop": {"momentum", "centered"}}.get(case.optimizer, {"decoupled_weight_decay"})
    later -= {"maximize"} if case.optimizer == "Adafactor" else set()  # it has always had that
    (group,) = saved["param_groups"]
    for key in later & set(group):
        if not group[key]:  # what an older version could not have had set
            del group[key]
    for entries in saved["state"].values():
        for key in {"step", "mu_product", "eta", "mu"} & set(entries):
            entries[key] = int(entries[key]) if key == "step" else float(entries[key])
    params = tree_of(case, theirs.values)
    tx, state = from_torch(copy.deepcopy(saved), params, case.order, optimizer=case.optimizer)
    theirs.optimizer.load_state_dict(saved)
    assert plain(to_torch(tx, state, params, case.order, torch.as_tensor)) == plain(theirs.optimizer.state_dict())


# --- schedules, overrides, values in force


def test_a_scheduler_goes_on_as_a_schedule():
    case = Case("SGD", {"lr": 0.1, "momentum": 0.9})
    theirs = TorchRun(case, case.start())
    scheduler = torch.optim.lr_scheduler.LambdaLR(theirs.optimizer, lambda n: 1 / (1 + n))
    for step in range(BEFORE):
        theirs.go([step])
        scheduler.step()
    state_dict, there = copy.deepcopy(theirs.optimizer.state_dict()), theirs.values
    assert "initial_lr" in state_dict["param_groups"][0]
    for step in range(BEFORE, BEFORE + AFTER):
        theirs.go([step])
        scheduler.step()

    def schedule(count):
        return 0.1 / (1 + count)

    params = tree_of(case, there)
    with pytest.raises(ValueError, match=r"SGD: PyTorch stores no number of steps, and a schedule needs it: give count="):
        from_torch(state_dict, params, case.order, lr=schedule)
    tx, state = from_torch(state_dict, params, case.order, count=BEFORE, lr=schedule)
    ours = JaxRun(case, there, tx, state)
    assert ours.to_torch()["param_groups"][0]["lr"] == pytest.approx(0.1 / (1 + BEFORE))
    ours.go(range(BEFORE, BEFORE + AFTER))
    assert distance(ours.values, theirs.values) < TOLERANCE
    assert ours.to_torch()["param_groups"][0]["lr"] == pytest.approx(theirs.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("name", "hyper", "option", "value"),
    [
        ("Adam", {"learning_rate": 0.25, "b2": 0.75}, "betas", (0.9, 0.75)),
        ("RMSprop", {"learning_rate": 0.25}, "lr", 0.25),
        ("RAdam", {"eps_hat": 0.25}, "eps", 0.25),
        ("Adamax", {"eps_max": 0.25}, "eps", 0.25),
        ("ASGD", {"start": 3.0}, "t0", 3.0),
        ("Rprop", {"eta_plus": 1.5}, "etas", (0.5, 1.5)),
        ("Adafactor", {"decay_power": 0.5}, "beta2_decay", -0.5),
        ("Adafactor", {"eps_scale": 0.5}, "eps", (None, 0.5)),
        ("NAdam", {"momentum_decay": 0.5}, "momentum_decay", 0.5),
        ("Adagrad", {"learning_rate_decay": 0.5}, "lr_decay", 0.5),
        ("LBFGS", {"learning_rate": 0.25}, "lr", 0.25),
    ],
)
def test_options_have_the_value_that_the_state_holds(name, hyper, option, value):
    params = {"w": jnp.ones((2, 2))}
    tx = getattr(like_torch, name)()
    untouched = to_torch(tx, tx.init(params), params)["param_groups"][0]
    w = torch.nn.Parameter(torch.ones(2, 2))
    expected = getattr(torch.optim, name)([w]).state_dict()["param_groups"][0]
    assert plain(untouched) == plain(expected)
    state = optax.tree.set(tx.init(params), **{key: jnp.asarray(x) for key, x in hyper.items()})
    found = to_torch(tx, state, params)["param_groups"][0]
    assert found[option] == value
    changed = {"lr"} if "learning_rate" in hyper else set()
    assert {key for key in found if found[key] != untouched[key]} == changed | {option}


def test_the_two_decays_of_rmsprop_are_told_apart():
    params = {"w": jnp.ones((2, 2))}
    tx = like_torch.RMSprop(momentum=0.5)
    state = tx.init(params)
    chain = state.inner_state
    smoothing, momentum, rate = (part._replace(hyper={**part.hyper}) for part in chain)
    smoothing.hyper["decay"], momentum.hyper["decay"] = jnp.array(0.75), jnp.array(0.25)
    group = to_torch(tx, state._replace(inner_state=(smoothing, momentum, rate)), params)["param_groups"][0]
    assert (group["alpha"], group["momentum"]) == (0.75, 0.25)


def test_overrides_replace_options_in_all_groups():
    case = Case("AdamW", {"lr": 0.1}, groups=((2, {}), (2, {"lr": 0.01})))
    theirs = TorchRun(case, case.start()).go(range(2))
    params = tree_of(case, theirs.values)
    tx, _ = from_torch(theirs.optimizer.state_dict(), params, case.order, lr=0.5, eps=1e-6)
    assert [(group["lr"], group["eps"]) for group in tx.groups] == [(0.5, 1e-6)] * 2


def test_a_tensor_as_learning_rate_is_a_number_here(tmp_path):
    w = torch.nn.Parameter(torch.ones(2))
    state_dict = torch.optim.Adam([w], lr=torch.tensor(0.25)).state_dict()
    save(state_dict, tmp_path / "a.safetensors")
    for given in (state_dict, tmp_path / "a.safetensors"):
        tx, _ = from_torch(given, {"w": jnp.ones(2)})
        assert type(tx.groups[0]["lr"]) is float
        assert tx.groups[0]["lr"] == 0.25


# --- step counts


def test_unequal_step_counts_go_over_by_leaf_and_back():
    case = Case("Adam", {"lr": 0.1, "weight_decay": 0.1})
    theirs = TorchRun(case, case.start()).go(range(3)).go([3, 4], missing=[2])
    state_dict, there = copy.deepcopy(theirs.optimizer.state_dict()), theirs.values
    params = tree_of(case, there)
    with pytest.raises(ValueError, match=r"'layer/bias' has taken 3 steps, 'layer/kernel' 5: .*count_by_leaf=True"):
        from_torch(state_dict, params, case.order)
    tx, state = from_torch(state_dict, params, case.order, count_by_leaf=True)
    ours = JaxRun(case, there, tx, state)
    assert plain(ours.to_torch()) == plain(state_dict)
    ours.go(range(5, 9))
    assert distance(ours.values, theirs.go(range(5, 9)).values) < TOLERANCE
    assert [float(entries["step"]) for entries in ours.to_torch()["state"].values()] == [9, 9, 7, 9]


def test_the_state_of_count_by_leaf_has_a_step_for_each_parameter():
    params = {"used": jnp.ones(2), "sometimes": jnp.ones(2), "never": jnp.ones(2)}
    tx = like_torch.AdamW([{"params": "used"}, {}], lr=0.1)
    by_leaf = jl.count_by_leaf(tx)
    state = by_leaf.init(params)
    for step in range(3):
        gradients = {"used": params["used"], "sometimes": params["used"] if step else None, "never": None}
        _, state = by_leaf.update(gradients, state, params)
    state_dict = to_torch(tx, state, params, ["used", "sometimes", "never"])
    assert {i: float(entries["step"]) for i, entries in state_dict["state"].items()} == {0: 3, 1: 2}


def test_a_parameter_that_never_had_a_gradient_has_no_state():
    case = Case("AdamW", {"lr": 0.1}, is_complex=True)
    theirs = TorchRun(case, case.start()).go(range(3), missing=[0, 3])
    params = tree_of(case, theirs.values)
    state_dict = theirs.optimizer.state_dict()
    assert set(state_dict["state"]) == {1, 2}
    tx, state = from_torch(state_dict, params, case.order, count_by_leaf=True, count=7)
    assert plain(to_torch(tx, state, params, case.order, torch.as_tensor)) == plain(state_dict)
    assert {int(updates) for _, updates in optax.tree.get_all_with_path(state, "updates")} == {7}


def test_sgd_counts_one_step_where_there_is_momentum():
    case = Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5})
    theirs = TorchRun(case, case.start()).go(range(3))
    params = tree_of(case, theirs.values)

    def counts(**given):
        _, state = from_torch(theirs.optimizer.state_dict(), params, case.order, **given)
        return {int(count) for _, count in optax.tree.get_all_with_path(state, "count")}

    assert counts() == {1}
    assert counts(count=3) == {3}
    theirs = TorchRun(case, case.start())
    assert counts() == {0}
    theirs.go(range(2), missing=[1])
    with pytest.raises(
        ValueError, match=r"SGD: 'layer/bias.gain' has taken 0 steps, 'layer/kernel' 1"
    ):  # its first is not dampened
        counts()
    theirs.optimizer.param_groups[0]["dampening"] = 0  # then there is nothing that a first step has of its own
    assert counts(count=2) == {2}


def test_momentum_buffers_of_older_versions_may_be_none():
    state_dict = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9).state_dict()
    state_dict["state"][0] = {"momentum_buffer": None}
    _, state = from_torch(state_dict, {"w": jnp.ones(2)})
    assert int(optax.tree.get_all_with_path(state, "count")[0][1]) == 0


# --- dtypes, and who owns the memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.complex64])
@pytest.mark.parametrize("name", ["AdamW", "NAdam", "ASGD", "SGD"])
def test_narrow_parameters_keep_their_dtypes(dtype, name, tmp_path):
    torch.set_default_dtype(torch.float32)  # which the fixture resets
    p = torch.nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3).to(dtype))
    optimizer = getattr(torch.optim, name)([p], lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
    for _ in range(3):
        p.grad = p.detach() * 0.3
        optimizer.step()
    state_dict = optimizer.state_dict()
    params = {"w": jnp.array(as_numpy(p)).T}
    with jax.enable_x64(False):
        tx, state = from_torch(state_dict, params, [("w", LINEAR)])
        assert {x.dtype for x in jax.tree.leaves(state)} <= {jnp.dtype("float32"), jnp.dtype("int32")}
        assert plain(to_torch(tx, state, params, [("w", LINEAR)], torch.as_tensor)) == plain(state_dict)
        save(state_dict, tmp_path / "theirs")
        save(to_torch(tx, state, params, [("w", LINEAR)]), tmp_path / "ours")
        assert plain(load(tmp_path / "ours")) == plain(load(tmp_path / "theirs"))
        assert plain(load(tmp_path / "ours", torch.as_tensor)) == plain(state_dict)
        updates, state = tx.update(jax.tree.map(lambda w: (w * 0.3).astype(w.dtype), params), state, params)
        assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((updates, state)))


def test_the_two_sides_share_no_memory():
    case = Case("AdamW", {"lr": 0.1})
    theirs = TorchRun(case, case.start()).go(range(3))
    params = tree_of(case, theirs.values)
    tx, state = from_torch(theirs.optimizer.state_dict(), params, case.order)
    before = jax.tree.map(np.array, state)
    handed = to_torch(tx, state, params, case.order, torch.as_tensor)
    for entries in [*theirs.optimizer.state.values(), *handed["state"].values()]:
        for x in entries.values():
            x.fill_(7)  # as PyTorch writes into its state
    jax.tree.map(np.testing.assert_array_equal, state, before)


def test_the_state_can_be_donated():
    case = Case("NAdam", {"lr": 0.1}, is_complex=True)
    theirs = TorchRun(case, case.start()).go(range(2))
    params = tree_of(case, theirs.values)
    tx, state = from_torch(theirs.optimizer.state_dict(), params, case.order)
    step = jax.jit(tx.update, donate_argnums=1)
    _, state = step(params, state, params)
    step(params, state, params)


def test_numpy_and_jax_arrays_are_taken_as_well():
    case = Case("Adam", {"lr": 0.1})
    theirs = TorchRun(case, case.start()).go(range(2))
    params = tree_of(case, theirs.values)
    expected = theirs.optimizer.state_dict()
    for kind in (np.asarray, lambda x: jnp.asarray(np.asarray(x))):
        state = {i: {key: kind(x) for key, x in entries.items()} for i, entries in expected["state"].items()}
        made = from_torch({**expected, "state": state}, params, case.order)
        assert plain(to_torch(*made, params, case.order, torch.as_tensor)) == plain(expected)


# --- Flax


def test_a_model_of_nnx_goes_on():
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    network = torch.nn.Linear(3, 4)
    x = np.random.default_rng(0).normal(size=(5, 3))
    optimizer = torch.optim.AdamW([{"params": network.weight}, {"params": network.bias, "weight_decay": 0.0}], lr=0.1)

    def step():
        optimizer.zero_grad()
        (network(torch.tensor(x)) ** 2).sum().backward()
        optimizer.step()

    step()
    model.kernel[...], model.bias[...] = (
        jnp.array(network.weight.detach().numpy()).T,
        jnp.array(network.bias.detach().numpy()),
    )
    params = nnx.state(model, nnx.Param)
    order = [("kernel", LINEAR), "bias"]
    tx, state = from_torch(optimizer.state_dict(), params, order)
    jax.tree.map(
        np.testing.assert_array_equal,
        state,
        from_torch(optimizer.state_dict(), params, [("kernel/value", LINEAR), "bias/value"])[1],
    )
    ours = nnx.Optimizer(model, tx, wrt=nnx.Param)
    nnx.update(ours.opt_state, nnx.state(state))
    step()
    ours.update(model, nnx.grad(lambda model: jnp.sum(model(jnp.array(x)) ** 2))(model))
    assert distance_of(model.kernel[...], jnp.array(network.weight.detach().numpy()).T) < TOLERANCE
    back = to_torch(tx, ours.opt_state, nnx.state(model, nnx.Param), order, torch.as_tensor)
    assert without_numbers(back) == without_numbers(optimizer.state_dict())
    np.testing.assert_allclose(back["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"], rtol=1e-12)


# --- what is refused


def adam_dict():
    case = Case("Adam", {"lr": 0.1}, groups=((2, {}), (2, {})))
    theirs = TorchRun(case, case.start()).go(range(2))
    return case, theirs.optimizer.state_dict(), tree_of(case, theirs.values)


def changed(path, value=None):
    """A change of a state dict: the entry at the path replaced, or removed for `None`."""

    def change(state_dict):
        *parents, last = path
        at = functools.reduce(lambda node, key: node[key], parents, state_dict)
        if value is None:
            del at[last]
        else:
            at[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (changed(["state", 0, "exp_avg"]), ValueError, "Adam: 'layer/kernel' has no entry 'exp_avg'"),
        (changed(["state", 0, "step"]), ValueError, "Adam: 'layer/kernel' has no entry 'step'"),
        (changed(["state", 2, "max_exp_avg_sq"], np.ones(4)), ValueError, "'layer/bias' has the entry 'max_exp_avg_sq'"),
        (
            changed(["state", 0, "exp_avg"], np.ones((3, 4))),
            ValueError,
            r"'layer/kernel': 'exp_avg' has shape \(3, 4\), expected \(4, 3\) for the parameter of shape \(3, 4\)",
        ),
        (changed(["state", 1, "step"], np.ones(1)), ValueError, r"'layer/bias.gain': 'step' has shape \(1,\)"),
        (changed(["state", 1, "step"], np.array(1.5)), ValueError, "'layer/bias.gain': 'step' is 1.5"),
        (changed(["state", 1, "step"], np.array(np.nan)), ValueError, "'layer/bias.gain': 'step' is nan"),
        (changed(["state", 2, "exp_avg"], np.ones(4) * 1j), TypeError, "'layer/bias': 'exp_avg' is complex128"),
        (changed(["state", 3]), ValueError, "'embedding' has taken 0 steps, 'layer/kernel' 2"),
        (changed(["state", 4], {}), ValueError, "a state of parameter 4, but only 4 parameters"),
        (changed(["state", "w"], {}), TypeError, r"state\['w'\] is not the state of a parameter"),
        (changed(["param_groups", 0, "params"], [0, 1, 2]), ValueError, "has 5 parameters, params has 4"),
        (changed(["param_groups", 0, "params"], [0, 2]), ValueError, "parameter 2, 'layer/bias', is in the groups 0 and 1"),
        (changed(["param_groups", 0, "params"], [0, 9]), ValueError, r"param_groups\[0\] has the parameter 9"),
        (changed(["param_groups", 0, "params"], [0, "b"]), ValueError, r"param_groups\[0\] has the parameter 'b'"),
        (changed(["param_groups", 1, "params"]), TypeError, r"param_groups\[1\] is not a group"),
        (
            changed(["param_groups", 1, "betas"]),
            ValueError,
            r"param_groups\[1\] has the options of no PyTorch optimizer.*betas",
        ),
        (changed(["param_groups", 1, "amsgrad"], True), ValueError, "'layer/bias' has no entry 'max_exp_avg_sq'"),
        (changed(["param_groups", 1, "momentum"], 0.9), ValueError, r"no PyTorch optimizer.*and not \['momentum'\]"),
        (changed(["param_groups", 1, "lr"], -1.0), ValueError, r"Adam: group 1: lr must lie in \[0, inf\), got -1.0"),
        (changed(["param_groups"]), TypeError, "not the state_dict of a PyTorch optimizer"),
        (changed(["state"]), TypeError, "not the state_dict of a PyTorch optimizer"),
    ],
)
def test_wrong_state_dicts_are_refused(change, kind, message):
    case, state_dict, params = adam_dict()
    change(state_dict)
    before = plain(state_dict)
    with pytest.raises(kind, match=message):
        from_torch(state_dict, params, case.order)
    assert plain(state_dict) == before


@pytest.mark.parametrize(
    ("order", "kind", "message"),
    [
        (
            ["layer/kernel", "layer/bias.gain", "layer/bias", "nothing"],
            ValueError,
            "order names 'nothing', but there is no such",
        ),
        (["layer/kernel", "layer/bias.gain", "layer/bias"], ValueError, "order does not name the parameter 'embedding'"),
        (
            ["layer/bias.gain", "layer/bias.gain", "layer/bias", "embedding"],
            ValueError,
            "order names 'layer/bias.gain' twice",
        ),
        (
            [("layer/kernel", (0, 2)), "layer/bias.gain"],
            ValueError,
            r"'layer/kernel': the layout \(0, 2\) is no permutation",
        ),
        ([("layer/kernel", CONV2D), "layer/bias.gain"], ValueError, r"no permutation of the axes of the shape \(3, 4\)"),
        (
            ["layer/kernel", "layer/bias.gain", "layer/bias", "embedding"],
            ValueError,
            r"'layer/kernel': 'exp_avg.*expected \(3, 4\)",
        ),
        ("layer/kernel", TypeError, "order must be a list of paths or of pairs"),
        ({"layer/kernel": LINEAR}, TypeError, r"order must be a list of paths .*, got {'layer/kernel': \(1, 0\)}"),
        (list, TypeError, "order must be a list of paths"),
        ([0, 1], TypeError, "order has 0, which is neither a path nor a pair"),
        ([(0, LINEAR)], TypeError, "which is neither a path nor a pair"),
        ([("embedding", 1)], TypeError, r"order has \('embedding', 1\), which is neither"),
        (None, ValueError, "the state dict has 2 groups and no names of parameters. PyTorch numbers .* of 2 and 2 paths"),
        (
            [["layer/kernel"], ["layer/bias.gain", "layer/bias", "embedding"]],
            ValueError,
            "2 groups of 1 and 3 .* 2 of 2 and 2",
        ),
    ],
)
def test_wrong_orders_are_refused(order, kind, message):
    _, state_dict, params = adam_dict()
    with pytest.raises(kind, match=message):
        from_torch(state_dict, params, order)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"learning_rate": 0.1}, TypeError, "Adam has no option 'learning_rate'; its options are amsgrad, betas"),
        ({"count": 3}, ValueError, "Adam: count is 3, but the state dict has taken 2 steps"),
        ({"count": 1, "count_by_leaf": True}, ValueError, "count is 1, but the state dict has taken 2 steps"),
        ({"count": -1}, ValueError, "count must be an int from 0, the number of steps, got -1"),
        ({"amsgrad": True}, ValueError, "'layer/kernel' has no entry 'max_exp_avg_sq'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, kind, message):
    case, state_dict, params = adam_dict()
    with pytest.raises(kind, match=message):
        from_torch(state_dict, params, case.order, **arguments)


def test_parameters_that_are_no_arrays_are_refused():
    case, state_dict, _ = adam_dict()
    model = torch.nn.Linear(2, 3)
    with pytest.raises(TypeError, match="params must be a tree of arrays of JAX or NumPy, 'bias' is a Parameter"):
        from_torch(state_dict, dict(sorted(model.named_parameters())), case.order)


def test_groups_of_two_classes_are_refused():
    w = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    adam, sgd = torch.optim.Adam(w[:1]).state_dict(), torch.optim.SGD(w[1:]).state_dict()
    both = {"state": {}, "param_groups": [adam["param_groups"][0], {**sgd["param_groups"][0], "params": [1]}]}
    with pytest.raises(ValueError, match=r"param_groups\[1\] has the options of SGD, param_groups\[0\] those of Adam"):
        from_torch(both, {"a": jnp.ones(2), "b": jnp.ones(2)})


@pytest.mark.parametrize(
    ("name", "shape", "layout", "message"),
    [
        (
            "Adafactor",
            (3, 2, 5, 5),
            CONV2D,
            r"Adafactor: 'w': PyTorch factors the last two axes of its shape \(3, 2, 5, 5\)",
        ),
        ("SparseAdam", (3, 2), LINEAR, "SparseAdam: 'w': rows without a gradient lie along the first axis"),
    ],
)
def test_layouts_in_which_the_method_would_be_another_are_refused(name, shape, layout, message):
    state_dict = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(shape))]).state_dict()
    params = {"w": jnp.ones(np.transpose(np.ones(shape), layout).shape)}
    with pytest.raises(ValueError, match=message):
        from_torch(state_dict, params, [("w", layout)])
    tx = getattr(like_torch, name)()
    _, state = tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match=message):
        to_torch(tx, state, params, [("w", layout)])


def test_adafactor_takes_layouts_that_keep_the_last_two_axes_last():
    case = Case("Adafactor", {"lr": 0.1}, (("a", (2, 3, 4, 5), (1, 0, 2, 3)), ("b", (2, 3, 4, 5), (1, 0, 3, 2))))
    theirs = TorchRun(case, case.start()).go(range(3))
    there = theirs.values
    tx, state = from_torch(copy.deepcopy(theirs.optimizer.state_dict()), tree_of(case, there), case.order)
    ours = JaxRun(case, there, tx, state).go(range(3, 6))
    assert distance(ours.values, theirs.go(range(3, 6)).values) < TOLERANCE


def test_muon_of_two_layouts_in_a_group_is_refused():
    state_dict = torch.optim.Muon([torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2)]).state_dict()
    params, order = {"a": jnp.ones((2, 2)), "b": jnp.ones((2, 2))}, ["a", ("b", LINEAR)]
    with pytest.raises(ValueError, match="Muon: 'b' has the layout LINEAR, 'a' in the same group has not"):
        from_torch(state_dict, params, order)
    tx, _ = from_torch(state_dict, params, order, output_axis=-1)
    assert tx.groups[0]["output_axis"] == -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(["state", 0, "d"]), "LBFGS: 'conv/kernel' has no entry 'd'"),
        (changed(["state", 0, "d"], np.ones(3)), r"'conv/kernel': 'd' has shape \(3,\), expected \(\d+,\), all parameters"),
        (changed(["state", 0, "step"], np.ones(())), "'conv/kernel' has the entry 'step'"),
        (changed(["state", 0, "ro"], []), "'old_dirs' has 3 rows, 'ro' 0"),
        (changed(["param_groups", 0, "history_size"], 2), "'old_dirs' has 3 rows, 'ro' 3; expected as many, at most 2"),
        (changed(["state", 1], {"d": np.ones(3)}), r"'conv/bias' has the entries \['d'\]; only the first parameter"),
    ],
)
def test_wrong_states_of_lbfgs_are_refused(change, message):
    network = Network()
    optimizer = torch.optim.LBFGS(network.parameters(), lr=0.1, max_iter=3)
    network_steps(network, optimizer, 2)
    state_dict = optimizer.state_dict()
    change(state_dict)
    with pytest.raises(ValueError, match=message):
        from_torch(state_dict, network_params(network), ORDER)


def test_what_is_no_optimizer_or_not_its_state_is_refused():
    params = {"w": jnp.ones(2)}
    with pytest.raises(TypeError, match=r"tx must be an optimizer of jaxopt_lec.compat.torch, got a Gradient"):
        to_torch(jl.adam(0.1), jl.adam(0.1).init(params), params)
    with pytest.raises(TypeError, match="Adam: this is not a state that the optimizer's init makes for these parameters"):
        to_torch(like_torch.Adam(), like_torch.SGD().init(params), params)
    with pytest.raises(TypeError, match="Adam: this is not a state"):
        to_torch(like_torch.Adam(), like_torch.Adam().init(params), {"w": jnp.ones(3)})


@pytest.mark.parametrize(("one", "other"), [("Adadelta", "Adamax"), ("Rprop", "ASGD"), ("Adam", "SparseAdam")])
def test_the_state_of_another_optimizer_is_refused_though_all_shapes_agree(one, other):
    params = {"w": jnp.ones(())}
    with pytest.raises(TypeError, match=f"{one}: this is not a state that the optimizer's init makes"):
        to_torch(getattr(like_torch, one)(), getattr(like_torch, other)().init(params), params)


# --- files


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path):
    path = tmp_path / "optimizer.pt"
    torch.save(torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict(), path)
    for read in (load, functools.partial(from_torch, params={"w": jnp.ones(2)})):
        with pytest.raises(
            ValueError, match=r"optimizer.pt' is not a safetensors file.*save\(torch.load\(path, weights_only"
        ):
            read(path)


def test_other_safetensors_files_are_refused(tmp_path):
    import safetensors.numpy

    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"w": np.ones(2)}, path)
    with pytest.raises(ValueError, match=r"is a safetensors file, but not one that jaxopt_lec.compat.checkpoint.save wrote"):
        load(path)


def test_nothing_is_written_when_saving_fails(tmp_path, monkeypatch):
    path = tmp_path / "optimizer.safetensors"
    state_dict = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    save(state_dict, path)
    before = path.read_bytes()
    state_dict["param_groups"][0]["anneal"] = lambda x: x
    with pytest.raises(TypeError, match=r"param_groups.0.anneal is a function, which a file cannot hold"):
        save(state_dict, path)

    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save(torch.optim.SGD([torch.nn.Parameter(torch.ones(2))]).state_dict(), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_missing_safetensors_is_named_with_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("safetensors"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for call in (lambda: load(tmp_path / "a"), lambda: save({"state": {}, "param_groups": []}, tmp_path / "a")):
        with pytest.raises(ImportError, match=r'pip install "jaxopt_lec\[checkpoint\]"'):
            call()


def test_torch_is_not_imported():
    import subprocess
    import sys

    code = "import sys, jaxopt_lec.compat.checkpoint; assert not {'torch', 'safetensors'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_options_are_those_of_the_installed_pytorch():
    for name, options in option_names().items():
        theirs = set(inspect.signature(getattr(torch.optim, name)).parameters) - {"params"}
        assert options == theirs | ({"decoupled_weight_decay"} if name == "AdamW" else set())
