"""Reading a PyTorch optimizer's state dict: its form, its parameters' names, the class that saved it and its options.

There are two forms. `optimizer.state_dict()` identifies parameters by numbers, and has their names too if PyTorch was given
any. `torch.distributed.checkpoint.state_dict.get_optimizer_state_dict` identifies them by names, nested or flattened.
"""

import functools
import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxopt_lec.compat import torch as constructors
from jaxopt_lec.compat.parameters import Parameter, listed
from jaxopt_lec.compat.torch import _is_off

__all__ = [
    "DECOUPLED",
    "SCALARS",
    "SLOTS",
    "WITHOUT_STEP",
    "as_numpy",
    "class_and_options",
    "names_of",
    "nested",
    "option_names",
    "states_of",
]

StateDict: TypeAlias = Mapping[str, Any]
Label: TypeAlias = int | str

# PyTorch's names for our slots.
_ADAM = {"exp_avg": "m", "exp_avg_sq": "v"}
SLOTS: dict[str, dict[str, str]] = {
    "SGD": {"momentum_buffer": "v"},
    "Adagrad": {"sum": "G"},
    "RMSprop": {"square_avg": "G", "momentum_buffer": "v", "grad_avg": "m"},
    "Adadelta": {"square_avg": "G", "acc_delta": "S"},
    "Adam": {**_ADAM, "max_exp_avg_sq": "v_max"},
    "AdamW": {**_ADAM, "max_exp_avg_sq": "v_max"},
    "NAdam": {"mu_product": "mu_product", **_ADAM},
    "RAdam": _ADAM,
    "Adamax": {"exp_avg": "m", "exp_inf": "u"},
    "ASGD": {"eta": "eta", "ax": "average"},
    "Rprop": {"prev": "g_prev", "step_size": "step_size"},
    "Adafactor": {"row_var": "R", "col_var": "C", "variance": "V"},
    "Muon": {"momentum_buffer": "v"},
    "SparseAdam": _ADAM,
}
WITHOUT_STEP = ("SGD", "Muon", "LBFGS")
SCALARS = ("step", "mu_product", "eta", "mu")
_LBFGS = ("func_evals", "n_iter", "d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss", "al")

DECOUPLED = "decoupled_weight_decay"
# Options that PyTorch added to a class later. PyTorch's `__setstate__` gives them the defaults that our constructors have,
# except that SGD's `fused` becomes False.
_LATER = frozenset({"foreach", "maximize", "capturable", "differentiable", "fused"})
_LATER_OF: dict[str, set[str]] = {
    "SGD": {"nesterov"},
    "RMSprop": {"momentum", "centered"},
    "Adam": {"amsgrad", DECOUPLED},
    "AdamW": {"amsgrad"},
    "NAdam": {DECOUPLED},
    "RAdam": {DECOUPLED},
}
# Options that PyTorch's schedulers write into the groups.
_OF_SCHEDULERS = {"initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum"}


# --- the form


def nested(state_dict: Any) -> StateDict:
    """Return the nested state dict of an optimizer, with "state" and "param_groups"; a flattened one is rebuilt.

    Raises:
        TypeError: it is not an optimizer's state dict; the message says what was given and, if known, what to give instead.
    """
    if _is_flattened(state_dict):
        state_dict = _unflattened(state_dict)
    if not _is_nested(state_dict):
        raise TypeError(
            "not the state_dict of a PyTorch optimizer, which has 'state' and 'param_groups': " + _described(state_dict)
        )
    for i, group in enumerate(state_dict["param_groups"]):
        if not isinstance(group, Mapping) or not isinstance(group.get("params"), Sequence):
            raise TypeError(f"param_groups[{i}] is not a group of a PyTorch optimizer: it has no 'params'")
    kind, called = (str, "a name") if _is_by_name(state_dict["param_groups"]) else (int, "an index")
    for label, entries in state_dict["state"].items():
        if type(label) is not kind or not isinstance(entries, Mapping):
            raise TypeError(f"state[{label!r}] is not the state of a parameter: its key must be {called}, its value a dict")
    return state_dict


def _is_nested(x: Any) -> bool:
    return (
        isinstance(x, Mapping)
        and isinstance(x.get("state"), Mapping)
        and isinstance(x.get("param_groups"), Sequence)
        and not isinstance(x["param_groups"], str)
    )


def _is_flattened(x: Any) -> bool:
    return (
        isinstance(x, Mapping)
        and any(str(key).startswith("param_groups.") for key in x)
        and all(str(key).startswith(("state.", "param_groups.")) for key in x)
    )


def _unflattened(flat: Mapping[str, Any]) -> StateDict:
    """Return the nested form of "state.NAME.exp_avg" and "param_groups.NAME.lr"; equal options form a group."""
    state: dict[str, dict[str, Any]] = {}
    options: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        part, _, rest = key.partition(".")
        name, _, last = rest.rpartition(".")
        (state if part == "state" else options).setdefault(name, {})[last] = value
    groups: list[dict[str, Any]] = []
    for name, own in options.items():
        own.pop("param_names", None)  # a list for the whole group, not an option of one parameter
        values = {key: _plain(value) for key, value in own.items()}
        same = next((g for g in groups if {k: _plain(v) for k, v in g.items() if k != "params"} == values), None)
        if same is None:
            groups.append({**own, "params": [name]})
        else:
            same["params"].append(name)
    return {"state": state, "param_groups": groups}


def _described(x: Any) -> str:
    """Describe what was given instead of an optimizer's state dict, and say where to find one."""
    kind = f"a {type(x).__name__}"
    if not isinstance(x, Mapping):
        if callable(getattr(x, "state_dict", None)):
            whose = "its state_dict()" if hasattr(x, "param_groups") else "the state_dict() of the optimizer"
            return f"{kind}; give {whose}"
        return kind
    inside = [f"[{key!r}]" for key, value in x.items() if _is_nested(value) or _is_flattened(value)]
    for key, value in x.items():
        if isinstance(value, list | tuple):
            inside += [f"[{key!r}][{i}]" for i, part in enumerate(value) if _is_nested(part)]
    if inside:
        return f"{kind} with the keys {listed(x)}; it contains one: give state_dict{' or state_dict'.join(inside)}"
    if not x:
        return f"an empty {type(x).__name__}"
    if {"scale", "growth_factor"} <= set(x):
        return f"the state of a GradScaler, with the keys {listed(x)}"
    if "last_epoch" in x:
        return f"the state of a learning rate scheduler, with the keys {listed(x)}"
    if all(hasattr(value, "dtype") for value in x.values()):
        return f"{kind} of arrays only, like a model's state_dict, with the keys {listed(x)}"
    return f"{kind} with the keys {listed(x)}"


# --- the parameters


def _is_by_name(groups: Sequence[Mapping[str, Any]]) -> bool:
    labels = [label for group in groups for label in group["params"]]
    return bool(labels) and all(isinstance(label, str) for label in labels)


def states_of(name: str, saved: StateDict, parameters: Sequence[Parameter]) -> list[Mapping[str, Any]]:
    """Return the entries of each parameter, without those that are `None`.

    Args:
        name: of the optimizer, for errors.
        saved: as `nested` returns it.
        parameters: all parameters, in the order of the groups.
    """
    group_of: dict[Label, int] = {}
    by_name = _is_by_name(saved["param_groups"])
    for g, group in enumerate(saved["param_groups"]):
        if not group["params"]:
            raise ValueError(f"{name}: param_groups[{g}] has no parameters")
        for label in group["params"]:
            if not by_name and not (type(label) is int and 0 <= label < len(parameters)):
                raise ValueError(
                    f"{name}: param_groups[{g}] has the parameter {label!r}, which is not an index below {len(parameters)}"
                )
            if label in group_of:  # an index, because `names_of` refuses a name that comes twice
                p = parameters[label]
                raise ValueError(f"{name}: parameter {label}, {p}, is in the groups {group_of[label]} and {g}")
            group_of[label] = g
    for label in saved["state"]:
        if label not in group_of:
            raise ValueError(
                f"{name}: there is a state of parameter {label!r}, but only {len(group_of)} parameters: {listed(group_of)}"
            )
    return [{key: x for key, x in saved["state"].get(label, {}).items() if x is not None} for label in group_of]


def names_of(groups: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Return PyTorch's names of the parameters, in the order of the groups; `None` if the state dict has no names.

    Raises:
        ValueError: names in only some of the groups, more or fewer names than parameters, or a name twice.
    """
    key, by_name = "param_names", _is_by_name(groups)
    for i, group in enumerate(groups):
        if (key in group) != (key in groups[0]):
            has, lacks = (i, 0) if key in group else (0, i)
            raise ValueError(
                f"param_groups[{has}] has {key!r}, {list(groups[has][key])}, and param_groups[{lacks}] has none: add them "
                f"there or delete all"
            )
        given = list(group.get(key, ()))
        if key in group and (len(given) != len(group["params"]) or not all(isinstance(name, str) for name in given)):
            raise ValueError(f"param_groups[{i}] has {len(group['params'])} parameters, but the {key!r} {given}")
        if by_name and given not in ([], list(group["params"])):
            raise ValueError(f"param_groups[{i}] has the 'params' {list(group['params'])}, but the {key!r} {given}")
    if not by_name and key not in groups[0]:
        return None
    names = [name for group in groups for name in group["params" if by_name else key]]
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise ValueError(f"param_groups have the name {', '.join(map(repr, twice))} twice: {names}")
    return names


# --- the class and its options


@functools.cache
def option_names() -> dict[str, frozenset[str]]:
    """Return the keys of each class's groups; those of AdamW are Adam's."""
    names = {
        name: frozenset(inspect.signature(getattr(constructors, name)).parameters) - {"params", "output_axis"}
        for name in (*SLOTS, "LBFGS")
    }
    return names | {"AdamW": names["AdamW"] | {DECOUPLED}}


def class_and_options(
    saved: StateDict, optimizer: str | None, overrides: Mapping[str, Any]
) -> tuple[str, list[dict[str, Any]]]:
    """Return the name of the class, and for each group the options for our constructor of that name.

    Args:
        saved: as `nested` returns it.
        optimizer: the name of the class, if the caller knows it.
        overrides: options to use instead of the saved ones.

    Raises:
        TypeError: an override that the class does not have.
        ValueError: options or entries that fit no class, several classes, or a class other than `optimizer`.
    """
    groups = saved["param_groups"]
    if not groups:
        raise ValueError("param_groups is empty")
    if optimizer is not None and optimizer not in option_names():
        raise ValueError(f"optimizer must be one of {', '.join(sorted(option_names()))}, got {optimizer!r}")
    family = _family(groups, _entries(saved["state"]), optimizer)
    name, decoupled = _adam_or_adamw(groups, optimizer, overrides) if family == "Adam" else (family, None)
    defaults = {key: q.default for key, q in inspect.signature(getattr(constructors, name)).parameters.items()}
    accepted = set(defaults) - {"params"}
    for key in overrides:
        if key not in accepted:
            raise TypeError(f"{name} has no option {key!r}; its options are {', '.join(sorted(accepted))}")
    filled_in = {key: defaults[key] for key in _later(name) & accepted} | ({"fused": False} if name == "SGD" else {})
    options = [filled_in | {key: _plain(x) for key, x in group.items() if key in accepted} for group in groups]
    if name == "Adam" and decoupled:
        options = [{**group, DECOUPLED: own} for group, own in zip(options, decoupled, strict=True)]
    return name, [group | dict(overrides) for group in options]


def _entries(states: Mapping[Label, Mapping[str, Any]]) -> set[str]:
    """Return the names of all entries in the state; refuse a name that no class of PyTorch has."""
    known = {*_LBFGS, *SCALARS}.union(*SLOTS.values())
    found: set[str] = set()
    for label, entries in states.items():
        own = {key for key, x in entries.items() if x is not None}
        if own - known:
            raise ValueError(
                f"state[{label!r}] has the entries {sorted(own - known)}, which no optimizer of PyTorch has: another "
                "package's optimizer cannot be loaded"
            )
        found |= own
    return found


def _family(groups: Sequence[Mapping[str, Any]], entries: set[str], optimizer: str | None) -> str:
    """Return the name of the class; for AdamW it is Adam."""
    fitting = [_fitting(i, group, entries) for i, group in enumerate(groups)]
    common = [name for name in fitting[0] if all(name in some for some in fitting)]
    if not common:
        i, other = next((i, some) for i, some in enumerate(fitting) if not set(some) & set(fitting[0]))
        raise ValueError(
            f"param_groups[{i}] has the options of {' or '.join(other)}, param_groups[0] those of {' or '.join(fitting[0])}"
        )
    wanted = "Adam" if optimizer == "AdamW" else optimizer
    if wanted in common:
        return wanted
    if wanted is not None:
        raise ValueError(
            f"optimizer is {optimizer!r}, but the state dict has the options and entries of {' or '.join(common)}"
        )
    if len(common) > 1:
        classes = [own for name in common for own in (("Adam", "AdamW") if name == "Adam" else (name,))]
        more = {name: sorted(option_names()[name] - _LATER - set(groups[0])) for name in common}
        raise ValueError(
            f"param_groups[0] has options that {' and '.join(classes)} all had in older versions of PyTorch; "
            f"{', '.join(f'{name} has also {options}' for name, options in more.items())} today. Give optimizer= the name "
            "of the class that saved it"
        )
    return common[0]


def _fitting(i: int, group: Mapping[str, Any], entries: set[str]) -> list[str]:
    """Return the classes whose options a group can have: those that have just these today, else those that once had."""
    names = {name: options for name, options in option_names().items() if name != "AdamW"}
    every_option = frozenset().union(*names.values())
    present, notes = every_option & set(group), set(group) - every_option - {"params", "param_names"}
    complete = [name for name, options in names.items() if options == present]
    if complete:
        return complete
    if notes - _OF_SCHEDULERS:
        raise ValueError(
            f"param_groups[{i}] has the options {sorted(notes - _OF_SCHEDULERS)}, which no optimizer of PyTorch has: "
            "another package's optimizer cannot be loaded; if you added these options yourself, delete them from the groups"
        )
    needed = {name: options - _later(name) for name, options in names.items()}
    with_options = [name for name in names if needed[name] <= present <= names[name]]
    found = [name for name in with_options if entries <= _entry_names(name)]
    if found:
        return found
    if with_options:
        raise ValueError(
            f"param_groups[{i}] has the options of {' or '.join(with_options)}, but the state has the entries "
            f"{sorted(entries)}, which are not theirs"
        )
    near = min(names, key=lambda name: len(needed[name] - present) + len(present - names[name]))
    raise ValueError(
        f"param_groups[{i}] has the options of no PyTorch optimizer known here: {sorted(present)}; {near} has also "
        f"{sorted(needed[near] - present)} and not {sorted(present - names[near])}. Another package's optimizer cannot be "
        "loaded"
    )


def _later(name: str) -> frozenset[str]:
    """Return the options that a state dict of the class may lack, because PyTorch added them later."""
    return _LATER | _LATER_OF.get(name, set())


def _entry_names(name: str) -> set[str]:
    if name == "LBFGS":
        return set(_LBFGS)
    return set(SLOTS[name]) | (set() if name in WITHOUT_STEP else {"step"}) | ({"mu"} if name == "ASGD" else set())


def _adam_or_adamw(
    groups: Sequence[Mapping[str, Any]], optimizer: str | None, overrides: Mapping[str, Any]
) -> tuple[str, list[bool]]:
    """Return "Adam" or "AdamW", and for each group whether its weight decay is decoupled, as AdamW's is.

    Older versions of PyTorch did not save that. Without weight decay the two are the same, and it is "Adam".
    """
    decoupled = []
    for i, group in enumerate(groups):
        own = overrides.get(DECOUPLED, group.get(DECOUPLED))
        if optimizer == "AdamW" and own is False:
            raise ValueError(f"optimizer is 'AdamW', but param_groups[{i}] has {DECOUPLED}=False, as Adam has")
        if own is None and optimizer is None and not _is_off(_plain(overrides.get("weight_decay", group["weight_decay"]))):
            raise ValueError(
                f"param_groups[{i}] has the options that Adam and AdamW both had in older versions of PyTorch, and a "
                f"weight_decay, which they use differently; Adam has also {DECOUPLED}=False today, AdamW True. Give "
                "optimizer='Adam' or optimizer='AdamW', whichever saved it"
            )
        decoupled.append(optimizer == "AdamW" if own is None else bool(own))
    named = "AdamW" if all(decoupled) and DECOUPLED not in overrides else "Adam"
    return optimizer or named, decoupled


def _plain(option: Any) -> Any:
    """Return an option as our constructors take it: tensors as numbers, lists as tuples."""
    if isinstance(option, list | tuple):
        return tuple(_plain(x) for x in option)
    return as_numpy(option).item() if hasattr(option, "dtype") else option


def as_numpy(x: Any) -> Any:
    """Return a tensor of PyTorch, an array or a number as a NumPy array."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
    try:
        return np.asarray(x)
    except TypeError:  # PyTorch's bfloat16
        return np.asarray(jax.dlpack.from_dlpack(x.contiguous()))
