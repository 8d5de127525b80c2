"""Runs that begin in PyTorch and go on in JAX, or the other way: `optimizer.state_dict()` to and from our states.

`from_torch` makes the transformation of `jaxopt_lec.compat.torch` and its state from what `optimizer.state_dict()` returns,
`to_torch` makes from both what `optimizer.load_state_dict` takes; `save` and `load` keep it in a safetensors file. The
parameters themselves are the model's `state_dict`, and go over as arrays, transposed by the same layouts.
"""

import functools
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lec.compat import torch as constructors
from jaxopt_lec.compat.arguments import foreign, template_of
from jaxopt_lec.compat.lbfgs import LBFGSState
from jaxopt_lec.compat.parameters import (
    Layout,
    Order,
    Parameter,
    check_groups,
    found_in,
    in_saved_order,
    in_written_order,
    order_of,
)
from jaxopt_lec.compat.state_dicts import (
    DECOUPLED,
    SCALARS,
    SLOTS,
    WITHOUT_STEP,
    as_numpy,
    class_and_options,
    names_of,
    nested,
    option_names,
    states_of,
)
from jaxopt_lec.compat.torch import TorchOptimizer, _is_off, _labels
from jaxopt_lec.equation import EquationState, LeafCounts
from jaxopt_lec.equation import count_by_leaf as counting_by_leaf
from jaxopt_lec.hyperparameters import Schedule, as_scalar
from jaxopt_lec.paths import map_by_name, named_leaves

__all__ = ["CONV1D", "CONV2D", "CONV3D", "LINEAR", "from_torch", "load", "save", "to_torch"]

PyTree: TypeAlias = Any
StateDict: TypeAlias = Mapping[str, Any]

# Axes of PyTorch's array in the order in which Flax has them: (out, in, ...) becomes (..., in, out).
LINEAR: Layout = (1, 0)
CONV1D: Layout = (2, 1, 0)
CONV2D: Layout = (2, 3, 1, 0)
CONV3D: Layout = (2, 3, 4, 1, 0)

# Our names for PyTorch's options; "G.decay" is the decay of the equation that has the slot G.
_COMMON = {"lr": "learning_rate", "weight_decay": "weight_decay", "betas": ("b1", "b2"), "eps": "eps"}
_HYPER: dict[str, dict[str, str | tuple[str, str]]] = {
    "SGD": {"momentum": "v.decay", "dampening": "v.dampening"},
    "Adagrad": {"lr_decay": "learning_rate_decay", "initial_accumulator_value": "initial_accumulator"},
    "RMSprop": {"alpha": "G.decay", "momentum": "v.decay"},
    "Adadelta": {"rho": "rho"},
    "NAdam": {"momentum_decay": "momentum_decay"},
    "RAdam": {"eps": "eps_hat"},
    "Adamax": {"eps": "eps_max"},
    "ASGD": {"lambd": "decay", "alpha": "power", "t0": "start"},
    "Rprop": {"etas": ("eta_minus", "eta_plus"), "step_sizes": ("step_min", "step_max")},
    "Adafactor": {"beta2_decay": "decay_power", "eps": ("eps_floor", "eps_scale"), "d": "clip_threshold"},
    "Muon": {"momentum": "v.decay", "eps": "eps_floor"},
    "SparseAdam": {"eps": "eps_hat"},
}
_NEGATED = ("beta2_decay",)


def from_torch(
    state_dict: StateDict | str | os.PathLike[str],
    params: PyTree,
    order: Order = None,
    *,
    optimizer: str | None = None,
    count: int | None = None,
    count_by_leaf: bool = False,
    **overrides: Any,
) -> tuple[TorchOptimizer, PyTree]:
    """Return the transformation and its state with which a run of PyTorch goes on.

    The class is inferred from the options in `param_groups`. State dicts of PyTorch 1.7 and later are accepted: options that
    were added later may be missing, and get the values that PyTorch gives them. Options that no class has, such as a
    scheduler's `initial_lr`, are ignored if all options of a class are there. A PyTorch scheduler is not part of an
    optimizer: override `lr` with a schedule of the number of steps.

    Args:
        state_dict: the result of `torch.optim.X.state_dict()` or of
            `torch.distributed.checkpoint.state_dict.get_optimizer_state_dict`, with PyTorch tensors, NumPy or JAX arrays; or
            the path of a file that `save` wrote.
        params: tree of the parameters, with our layouts.
        order: which parameter here is which parameter of PyTorch. If the state dict has names, in `param_names` or in place
            of indices, `order` is a dict from names to items; a name that it leaves out is matched to the path that is the
            name with its dots as slashes. If the state dict has no names, `order` is a list of items in the order of
            `model.parameters()`; with several groups, it is one list for each group, because PyTorch numbers parameters
            group by group. An item is a path joined by "/", or a pair (path, layout): `layout` names the axes of PyTorch's
            array in the order they have here, as in `numpy.transpose`; `LINEAR`, `CONV1D`, `CONV2D` and `CONV3D` are Flax's.
            `None`: match by the names, or else by the order of `jax.tree.leaves`, with no transposition.
        optimizer: the name of the class, such as "AdamW", if the options fit several classes: older versions of PyTorch
            saved the same options for Adam and AdamW.
        count: number of steps taken, where PyTorch keeps none: SGD, Muon and LBFGS. Needed for schedules; without it, 1 if
            there is a state, else 0. For the others it must agree with PyTorch's.
        count_by_leaf: whether parameters may have taken different numbers of steps, having had no gradient in some; the
            transformation is then `jaxopt_lec.count_by_leaf` of what it would be.
        **overrides: options to use instead of the saved ones, in all groups.

    Returns:
        The optimizer of `jaxopt_lec.compat.torch`, and its state, in the dtypes that its `init` gives for `params`.

    Raises:
        TypeError: not a state dict, parameters that are no arrays, an unknown override, a complex entry of a real parameter
            or a real one of a complex one.
        ValueError: options that fit no class or several, parameters not named once each, an order that contradicts the
            names, several groups with neither names nor one list each, missing or unknown entries, wrong shapes, unequal
            numbers of steps. It is raised before anything is built, and names the parameter and the entry.
    """
    if count is not None and (type(count) is not int or count < 0):
        raise ValueError(f"count must be an int from 0, the number of steps, got {count!r}")
    saved = load(state_dict) if isinstance(state_dict, str | os.PathLike) else state_dict
    saved, known = nested(saved), found_in(params)
    name, groups = class_and_options(saved, optimizer, overrides)
    names, sizes = names_of(saved["param_groups"]), [len(group["params"]) for group in saved["param_groups"]]
    parameters = in_saved_order(name, known, order, names, sizes)
    states = states_of(name, saved, parameters)
    check_groups(parameters, order, names, sizes, states)
    members = [list(range(end - size, end)) for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
    if (
        count is None
        and name in WITHOUT_STEP
        and any(_is_scheduled(option) for group in groups for option in group.values())
    ):
        raise ValueError(f"{name}: PyTorch stores no number of steps, and a schedule needs it: give count=")
    if name == "LBFGS":
        lbfgs_values = _lbfgs_values(states, parameters, groups[0]["history_size"], count)
    else:
        group_of = {i: group for group, indices in zip(groups, members, strict=True) for i in indices}
        read = {p.name: _read(name, group_of[i], states[i], p) for i, p in enumerate(parameters)}
        values = {at: found for at, (found, _) in read.items()}
        unknown = int(any(values.values())) if count is None else count
        steps = {at: unknown if n is None else n for at, (_, n) in read.items()}
        updates = _check_counts(name, steps, count, count_by_leaf)
    groups = [
        _with_output_axis(name, group, [parameters[i] for i in indices], overrides)
        for group, indices in zip(groups, members, strict=True)
    ]

    make = getattr(constructors, name)
    if len(groups) == 1:
        tx = make(**groups[0])
    else:
        patterns = [_exactly([parameters[i].name for i in indices]) for indices in members]
        of_the_call = {key: groups[0][key] for key in ("initial_accumulator_value",) if key in groups[0]}
        tx = make([{**group, "params": at} for group, at in zip(groups, patterns, strict=True)], **of_the_call)
    found = order_of([[parameters[i] for i in indices] for indices in members], names)
    tx = TorchOptimizer.of(tx.name, tx.groups, counting_by_leaf(tx) if count_by_leaf else tx, found)
    state = tx.init(params)
    if name == "LBFGS":
        return tx, state._replace(**{key: _like(x, getattr(state, key)) for key, x in lbfgs_values.items()})

    def put(slot: str, at: str, old: Any) -> Any:
        return _put(values[at].get(slot), old)

    def put_count(at: str, old: Any) -> Any:
        return jax.tree.map(functools.partial(_like, steps[at]), old)

    def filled(node: Any) -> Any:
        if isinstance(node, optax.ScaleByScheduleState):
            return node._replace(count=_like(updates, node.count))
        if not isinstance(node, EquationState):
            return node
        counts: Any = _like(updates, _updates(node))
        if isinstance(node.count, LeafCounts):
            counts = LeafCounts(counts, _map_by_name(put_count, node.count.leaves))
        slots = {slot: _map_by_name(functools.partial(put, slot), tree) for slot, tree in node.slots.items()}
        return node._replace(count=counts, slots=slots)

    return tx, jax.tree.map(filled, state, is_leaf=_is_counted)


def to_torch(
    tx: optax.GradientTransformation,
    state: PyTree,
    params: PyTree,
    order: Order = None,
    tensor: Callable[[Any], Any] = np.asarray,
) -> dict[str, Any]:
    """Return the state dict with which a run goes on in PyTorch, by `optimizer.load_state_dict`.

    Numeric options have the value that the state holds; a schedule that of the next step. Scalars such as `step` are float64
    for parameters of float64, else float32, as PyTorch's are if the parameters have its default dtype.

    Args:
        tx: an optimizer of `jaxopt_lec.compat.torch`.
        state: its state, also that of its `jaxopt_lec.count_by_leaf`, or as `flax.nnx.Optimizer` keeps it.
        params: as in `from_torch`.
        order: as in `from_torch`. A dict has its names in PyTorch's order; they become `param_names`. `None`: the order of
            the state dict if `from_torch` made `tx`, else the order of `jax.tree.leaves`. PyTorch's groups are `tx.groups`;
            parameters are numbered group by group, and in this order within each group.
        tensor: makes PyTorch's tensor: `torch.as_tensor`. It is called with NumPy arrays of its own, and with JAX arrays for
            bfloat16, which PyTorch does not take from NumPy.

    Raises:
        TypeError: `tx` is not an optimizer of `jaxopt_lec.compat.torch`, or `state` not its state.
        ValueError: parameters not named once each or in another group than the optimizer has them, a layout that does not
            fit.
    """
    if not isinstance(tx, TorchOptimizer):
        raise TypeError(f"tx must be an optimizer of jaxopt_lec.compat.torch, got a {type(tx).__name__}")
    name = tx.name
    leaves, template = jax.tree.leaves(state), template_of(tx, state, params)
    if template is None or [jnp.shape(x) for x in leaves] != [x.shape for x in jax.tree.leaves(template)]:
        raise foreign(name)
    treedef: Any = jax.tree.structure(template)
    state = treedef.unflatten(leaves)  # of NNX's variables, in which `flax.nnx.Optimizer` keeps them
    labels = _by_name(_labels(name, [group["params"] for group in tx.groups], params))
    parameters, names = in_written_order(found_in(params), order, tx.order, labels, len(tx.groups))
    members = [[i for i, p in enumerate(parameters) if labels[p.name] == g] for g in range(len(tx.groups))]
    alone = len(tx.groups) == 1 and tx.groups[0]["params"] is None
    states = [state] if alone else [state.inner_states[g] for g in range(len(tx.groups))]
    nodes = [[n for n in jax.tree.leaves(s, is_leaf=_is_counted) if hasattr(n, "hyper")] for s in states]
    groups = [
        {
            **_current(name, group, of_group),
            "params": indices,
            **({} if names is None else {"param_names": [names[i] for i in indices]}),
        }
        for group, of_group, indices in zip(tx.groups, nodes, members, strict=True)
    ]
    if name == "LBFGS":
        return {"state": _lbfgs_entries(nodes[0][0], parameters, functools.partial(_handed, tensor)), "param_groups": groups}

    values: dict[str, dict[str, Any]] = {p.name: {} for p in parameters}
    steps: dict[str, int] = {}
    for of_group, indices in zip(nodes, members, strict=True):
        steps |= {parameters[i].name: int(_updates(of_group[0])) for i in indices}
        for node in of_group:
            if isinstance(node.count, LeafCounts):
                steps |= {at: int(jax.tree.leaves(n)[0]) for at, n in _by_name(node.count.leaves).items()}
            for slot, tree in node.slots.items():
                for at, x in _by_name(tree).items():
                    values[at][slot] = x

    group_of = {i: group for group, indices in zip(groups, members, strict=True) for i in indices}
    entries = {}
    for i, p in enumerate(parameters):
        # PyTorch makes a parameter's state at its first step; Adagrad when the optimizer is made.
        if steps[p.name] or name == "Adagrad":
            found = _written(name, group_of[i], values[p.name], steps[p.name], p)
            entries[i] = {key: _handed(tensor, x) for key, x in found.items()}
    return {"state": {i: found for i, found in entries.items() if found}, "param_groups": groups}


def save(state_dict: StateDict, path: str | os.PathLike[str]) -> None:
    """Write a state dict to a safetensors file, in PyTorch or in JAX; the file is written whole or not at all.

    Tensors are named "state.0.exp_avg"; complex ones are stored as pairs of reals. All else is JSON in the metadata.

    Args:
        state_dict: the result of `torch.optim.X.state_dict()` or `to_torch`, with PyTorch tensors, NumPy or JAX arrays; its
            parameters may be names instead of numbers.
        path: of the file, which is replaced if there is one.

    Raises:
        ImportError: safetensors is not installed.
        TypeError: not a state dict, or a value that is neither an array nor JSON, with its name.
    """
    safetensors = _safetensors()
    state_dict = nested(state_dict)
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    skeleton = {
        "state": {str(i): _encoded(entries, f"state.{i}", tensors) for i, entries in state_dict["state"].items()},
        "param_groups": _encoded(list(state_dict["param_groups"]), "param_groups", tensors),
    }
    data = safetensors.numpy.save(tensors, metadata={_METADATA: json.dumps(skeleton)})
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str], tensor: Callable[[Any], Any] = np.asarray) -> dict[str, Any]:
    """Return the state dict that `save` wrote; nothing in the file is executed.

    Args:
        path: of the file.
        tensor: as in `to_torch`; `torch.as_tensor` for `optimizer.load_state_dict`.

    Raises:
        ImportError: safetensors is not installed.
        ValueError: the file is not one that `save` wrote.
    """
    safetensors = _safetensors()
    data = Path(path).read_bytes()
    try:
        stored = dict(safetensors.deserialize(data))
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{os.fspath(path)!r} is not a safetensors file ({error}). What torch.save writes is a pickle, which "
            "could run any code and is not read here; convert it in PyTorch, the optimizer's state_dict alone: "
            "jaxopt_lec.compat.checkpoint.save(torch.load(path, weights_only=True), 'optimizer.safetensors')"
        ) from error
    metadata = header.get("__metadata__", {})
    if _METADATA not in metadata:
        raise ValueError(
            f"{os.fspath(path)!r} is a safetensors file, but not one that jaxopt_lec.compat.checkpoint.save wrote"
        )

    def decoded(value: Any) -> Any:
        if isinstance(value, list):
            return [decoded(x) for x in value]
        if not isinstance(value, dict):
            return value
        if _TUPLE in value:
            return tuple(decoded(x) for x in value[_TUPLE])
        if _TENSOR in value:
            dtype, name = jnp.dtype(value["dtype"]), value[_TENSOR]
            if name not in stored:
                raise ValueError(f"{os.fspath(path)!r} has no tensor {name!r}, of which its metadata speak")
            shape = stored[name]["shape"][: -1 if np.issubdtype(dtype, np.complexfloating) else None]
            return _handed(tensor, np.frombuffer(stored[name]["data"], dtype).reshape(shape))
        return {key: decoded(x) for key, x in value.items()}

    skeleton = json.loads(metadata[_METADATA])
    labels = {
        str(label): label for group in skeleton["param_groups"] for label in group["params"]
    }  # JSON's keys are strings
    return {
        "state": {labels.get(key, key): decoded(entries) for key, entries in skeleton["state"].items()},
        "param_groups": decoded(skeleton["param_groups"]),
    }


_METADATA, _TENSOR, _TUPLE = "jaxopt_lec.state_dict", "$tensor", "$tuple"


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError('files need safetensors: pip install "jaxopt_lec[checkpoint]"') from error
    return safetensors


def _encoded(value: Any, name: str, tensors: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Return `value` as JSON, its arrays put into `tensors` and named in their place."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{name} has keys that are not strings: {list(value)}")
        return {key: _encoded(x, f"{name}.{key}", tensors) for key, x in value.items()}
    if isinstance(value, list | tuple):
        items = [_encoded(x, f"{name}.{i}", tensors) for i, x in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if not hasattr(value, "dtype"):
        raise TypeError(f"{name} is a {type(value).__name__}, which a file cannot hold: {value!r}")
    x = np.array(as_numpy(value), order="C")
    tensors[name] = np.stack([x.real, x.imag], -1) if np.iscomplexobj(x) else x
    return {_TENSOR: name, "dtype": x.dtype.name}


def _handed(tensor: Callable[[Any], Any], x: Any) -> Any:
    """Return what `tensor` makes of an array, which is not shared with anyone; other values as they are."""
    if isinstance(x, list):
        return [_handed(tensor, part) for part in x]
    if not isinstance(x, np.ndarray | np.generic):
        return x
    x = np.array(x, order="C")
    return tensor(jnp.asarray(x) if x.dtype == jnp.bfloat16 else x)


def _like(x: Any, old: jax.Array) -> jax.Array:
    """Return a copy of `x` with the dtype of `old`, and where that lies."""
    new = jnp.array(x, dtype=old.dtype, copy=True)
    return jax.device_put(new, old.sharding) if old.committed else new


def _put(x: Any, old: Any) -> Any:
    """Return `x` in the place of the slot `old`; complex numbers as their parts, a scalar for each part."""
    if x is None:
        return old
    if _is_split(old):
        imaginary = x.imag if np.iscomplexobj(x) else x
        return old._replace(real=_like(x.real, old.real), imaginary=_like(imaginary, old.imaginary))
    return _like(x, old)


def _is_split(x: Any) -> bool:
    """Whether `x` are the parts of a complex array, a type that Optax does not export."""
    return getattr(x, "_fields", ()) == ("real", "imaginary")


def _is_counted(x: Any) -> bool:
    return isinstance(x, EquationState | LBFGSState | optax.ScaleByScheduleState)


def _by_name(tree: PyTree) -> dict[str, Any]:
    return dict(named_leaves(tree, is_leaf=_is_split))


def _map_by_name(function: Callable[[str, Any], Any], tree: PyTree) -> PyTree:
    return map_by_name(function, tree, is_leaf=_is_split)


def _exactly(names: list[str]) -> str:
    """Return a pattern that finds these paths and nothing else."""
    return rf"\A(?:{'|'.join(map(re.escape, names))})\Z"


def _is_scheduled(option: Any) -> bool:
    return any(map(callable, option)) if isinstance(option, tuple) else callable(option)


def _entry_shapes(name: str, options: Mapping[str, Any], p: Parameter) -> dict[str, tuple[int, ...]]:
    """Return the entries that PyTorch has for the parameter, with their shapes."""
    shape = p.torch_shape
    shapes = dict.fromkeys(SLOTS[name], shape)
    absent = {
        "momentum_buffer": name != "Muon" and _is_off(options.get("momentum")),
        "grad_avg": not options.get("centered"),
        "max_exp_avg_sq": not options.get("amsgrad"),
        "row_var": len(shape) < 2,
        "col_var": len(shape) < 2,
        "variance": len(shape) >= 2,
    }
    shapes |= {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, *shape[-1:])} if name == "Adafactor" else {}
    shapes |= {} if name in WITHOUT_STEP else {"step": ()}
    shapes |= {"mu": ()} if name == "ASGD" else {}
    return {key: () if key in SCALARS else of for key, of in shapes.items() if not absent.get(key)}


def _slots(name: str, p: Parameter) -> dict[str, str]:
    """Return PyTorch's names for the slots of this parameter, or refuse a layout in which the method would be another."""
    slots, axes = SLOTS[name], len(p.shape)
    if name == "SparseAdam" and axes and p.layout[0] != 0:
        raise ValueError(
            f"SparseAdam: {p}: rows without a gradient lie along the first axis, in PyTorch and here; the layout {p.layout} "
            "moves it"
        )
    if name != "Adafactor" or axes < 2 or p.layout[-2:] == (axes - 2, axes - 1):
        return slots
    if p.layout[-2:] == (axes - 1, axes - 2):  # transposed, rows are columns
        return {**slots, "row_var": "C", "col_var": "R"}
    raise ValueError(
        f"Adafactor: {p}: PyTorch factors the last two axes of its shape {p.torch_shape}; with the layout {p.layout} these "
        f"are not the last two here, {p.shape}, so its row_var and col_var cannot go over"
    )


def _entry(name: str, key: str, x: Any, p: Parameter) -> Any:
    """Return an entry as a NumPy array."""
    try:
        return as_numpy(x)
    except RuntimeError as error:
        raise TypeError(
            f"{name}: {p}: {key!r} is a {type(x).__name__}, not a plain tensor ({error}); of a sharded model give "
            "get_optimizer_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True))"
        ) from error


def _read(
    name: str, options: Mapping[str, Any], state: Mapping[str, Any], p: Parameter
) -> tuple[dict[str, Any], int | None]:
    """Return the slots of the parameter and its number of steps, `None` if it is not kept."""
    slots, expected = _slots(name, p), _entry_shapes(name, options, p)
    present = {key: _entry(name, key, x, p) for key, x in state.items()}
    for key in present:
        if key not in expected:
            raise ValueError(f"{name}: {p} has the entry {key!r}; expected are {sorted(expected) or 'none'}")
    if not present:
        # A first momentum that is not dampened is as one that was zero before: nothing tells it from later ones.
        return {}, None if name in WITHOUT_STEP and _is_off(options.get("dampening", 0)) else 0
    for key, shape in expected.items():
        if key not in present:
            raise ValueError(f"{name}: {p} has no entry {key!r}; expected are {sorted(expected)}")
        if present[key].shape != shape:
            raise ValueError(
                f"{name}: {p}: {key!r} has shape {present[key].shape}, expected {shape} for the parameter of shape "
                f"{p.shape} with the layout {p.layout}; is it another parameter's? PyTorch numbers them group by group"
            )
        if key not in SCALARS and np.iscomplexobj(present[key]) != p.is_complex:
            raise TypeError(f"{name}: {p}: {key!r} is {present[key].dtype}, the parameter {p.dtype}: one is complex")
    values = {slots[key]: x if key in SCALARS else np.transpose(x, p.layout) for key, x in present.items() if key in slots}
    if name in WITHOUT_STEP:
        return values, None
    step = float(present["step"])
    if step < 0 or not step.is_integer():
        raise ValueError(f"{name}: {p}: 'step' is {step}, which is no number of steps")
    return values, int(step)


def _check_counts(name: str, steps: dict[str, int], count: int | None, by_leaf: bool) -> int:
    """Return the number of the optimizer's steps."""
    most = max(steps.values(), default=0)
    first = next(iter(steps), "")
    for at, n in steps.items():
        if n != steps[first] and not by_leaf:
            raise ValueError(
                f"{name}: {at!r} has taken {n} steps, {first!r} {steps[first]}: PyTorch counts those with a gradient. Give "
                "count_by_leaf=True to go on so"
            )
    if count is not None and (count < most or (count > most and not by_leaf)):
        raise ValueError(f"{name}: count is {count}, but the state dict has taken {most} steps")
    return most if count is None else count


def _with_output_axis(
    name: str, options: dict[str, Any], parameters: list[Parameter], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    if name != "Muon" or "output_axis" in overrides:
        return options
    axes = {p.name: -1 if p.layout == LINEAR else -2 for p in parameters}
    if len(set(axes.values())) > 1:
        linear, other = (next(at for at, axis in axes.items() if axis == wanted) for wanted in (-1, -2))
        raise ValueError(
            f"Muon: {linear!r} has the layout LINEAR, {other!r} in the same group has not: put them into two groups in "
            "PyTorch, or give output_axis="
        )
    return {**options, "output_axis": next(iter(axes.values()))}


def _updates(node: Any) -> jax.Array:
    return node.count.updates if isinstance(node.count, LeafCounts) else node.count


def _current(name: str, options: Mapping[str, Any], nodes: Sequence[Any]) -> dict[str, Any]:
    """Return PyTorch's options of a group, with the values in force."""
    stored: dict[str, Any] = {}
    for node in nodes:
        slots = node.slots if isinstance(node, EquationState) else {}
        for key, x in node.hyper.items():
            for at in (key, *(f"{slot}.{key}" for slot in slots)):
                stored.setdefault(at, x)
    ours = {**_COMMON, **_HYPER.get(name, {})}

    def value(option: Any, key: Any, sign: int) -> Any:
        if isinstance(option, tuple):
            keys = key if isinstance(key, tuple) else [None] * len(option)
            return tuple(value(x, k, sign) for x, k in zip(option, keys, strict=True))
        if option is None or isinstance(option, bool | str):
            return option
        if isinstance(option, Schedule):
            return float(option(_updates(nodes[0])))
        if isinstance(option, jax.Array):
            return float(option)
        # A number is in the state as an array, float32 perhaps: the number itself, as long as it was not replaced there.
        if key not in stored or as_scalar(option) == sign * stored[key]:
            return option
        return sign * float(stored[key])

    names = option_names()[name] & set(options)
    found = {key: value(options[key], ours.get(key), -1 if key in _NEGATED else 1) for key in options if key in names}
    return found | ({DECOUPLED: True} if name == "AdamW" else {})


def _written(name: str, options: Mapping[str, Any], values: Mapping[str, Any], step: int, p: Parameter) -> dict[str, Any]:
    """Return the parameter's entries as PyTorch has them."""
    slots = _slots(name, p)
    found: dict[str, Any] = {}
    for key in _entry_shapes(name, options, p):
        if key == "step":
            found[key] = step if name == "SparseAdam" else p.scalar_dtype(step)
        elif key == "mu":
            found[key] = p.scalar_dtype(1 / max(1, step - options["t0"]))
        elif key in SCALARS:
            found[key] = p.scalar_dtype(jax.tree.leaves(values[slots[key]])[0])
        else:
            x = values[slots[key]]
            x = np.asarray(jax.lax.complex(*x) if _is_split(x) else x)
            found[key] = np.transpose(x.astype(p.dtype), np.argsort(p.layout))
    return found


# --- L-BFGS: PyTorch keeps one state, of all parameters as one vector, with the first parameter


_VECTORS, _NUMBERS, _PAIRS = ("d", "prev_flat_grad"), ("t", "H_diag", "prev_loss"), ("old_dirs", "old_stps", "ro")


def _positions(parameters: list[Parameter]) -> np.ndarray[Any, Any]:
    """Return where the coordinates of our vector of all parameters are in PyTorch's."""
    found, start = {}, 0
    for p in parameters:
        parts = (2,) if p.is_complex else ()
        block = start + np.arange(p.length).reshape(p.torch_shape + parts)
        found[p.position] = np.transpose(block, p.layout + ((len(p.layout),) if parts else ())).ravel()
        start += p.length
    return np.concatenate([found[i] for i in sorted(found)])


def _lbfgs_values(
    states: list[Mapping[str, Any]], parameters: list[Parameter], history_size: int, count: int | None
) -> dict[str, Any]:
    """Return the fields of our state that are not as at the beginning."""
    for p, entries in zip(parameters[1:], states[1:], strict=True):
        if entries:
            raise ValueError(
                f"LBFGS: {p} has the entries {sorted(entries)}; only the first parameter, {parameters[0]}, has any"
            )
    state, first = states[0], parameters[0]
    if not state:
        return {"count": count or 0}
    counters, rest = ("func_evals", "n_iter"), (*_VECTORS, *_NUMBERS, *_PAIRS)
    needed = (*counters, *(rest if state.get("n_iter") else ()))
    for key in needed:
        if key not in state:
            raise ValueError(f"LBFGS: {first} has no entry {key!r}; expected are {sorted(needed)}")
    for key in state:
        if key not in (*needed, "al"):  # PyTorch's scratch memory
            raise ValueError(f"LBFGS: {first} has the entry {key!r}; expected are {sorted(needed)}")
    values: dict[str, Any] = {key: int(state[key]) for key in counters} | {"count": 1 if count is None else count}
    if not state["n_iter"]:
        return values
    at, n_pairs = _positions(parameters), len(state["ro"])

    def vector(key: str, x: Any) -> Any:
        x = as_numpy(x)
        if x.shape != at.shape:
            raise ValueError(f"LBFGS: {first}: {key!r} has shape {x.shape}, expected {at.shape}, all parameters together")
        return x[at]

    for key in _PAIRS:
        if len(state[key]) != n_pairs or n_pairs > history_size:
            raise ValueError(
                f"LBFGS: {first}: {key!r} has {len(state[key])} rows, 'ro' {n_pairs}; expected as many, at most "
                f"{history_size}"
            )
    values |= {key: vector(key, state[key]) for key in _VECTORS} | {key: float(as_numpy(state[key])) for key in _NUMBERS}
    values["n_pairs"] = n_pairs
    for key in _PAIRS:
        rows = [float(as_numpy(x)) if key == "ro" else vector(key, x) for x in state[key]]
        full = np.zeros((history_size,) + (() if key == "ro" else at.shape))
        full[:n_pairs] = rows if rows else full[:0]
        values[key] = full
    return values


def _lbfgs_entries(state: LBFGSState, parameters: list[Parameter], hand: Callable[[Any], Any]) -> dict[int, Any]:
    if not state.func_evals:
        return {}
    counters = {"func_evals": int(state.func_evals), "n_iter": int(state.n_iter)}
    if not state.n_iter:
        return {0: counters}
    back, size, n_pairs = np.argsort(_positions(parameters)), len(state.ro), int(state.n_pairs)
    dtypes = {p.dtype for p in parameters}
    dtype = jnp.finfo(dtypes.pop()).dtype if len(dtypes) == 1 else state.d.dtype

    def vector(x: Any) -> Any:
        return np.asarray(x).astype(dtype)[..., back]

    rows = [k % size for k in range(max(0, n_pairs - size), n_pairs)]
    return {
        0: {
            **counters,
            "d": hand(vector(state.d)),
            "t": float(state.t),
            "old_dirs": hand([vector(state.old_dirs[row]) for row in rows]),
            "old_stps": hand([vector(state.old_stps[row]) for row in rows]),
            "ro": hand([np.asarray(state.ro[row]).astype(dtype) for row in rows]),
            "H_diag": hand(np.asarray(state.H_diag).astype(dtype)) if n_pairs else 1,
            "prev_flat_grad": hand(vector(state.prev_flat_grad)),
            "prev_loss": float(state.prev_loss),
        }
    }
