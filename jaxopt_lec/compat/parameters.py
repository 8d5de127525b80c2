"""Which parameter here is which parameter of PyTorch: by names in the state dict, or by the caller's order."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxopt_lec.equation import _array
from jaxopt_lec.paths import named_leaves

__all__ = [
    "Layout",
    "Order",
    "Parameter",
    "check_groups",
    "found_in",
    "in_saved_order",
    "in_written_order",
    "listed",
    "order_of",
]

PyTree: TypeAlias = Any
Layout: TypeAlias = tuple[int, ...]
Item: TypeAlias = str | tuple[str, Sequence[int] | None]
# Modules that DistributedDataParallel, torch.compile, FSDP and activation checkpointing put around a model or parts of it.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
Order: TypeAlias = Sequence[Item] | Sequence[Sequence[Item]] | Mapping[str, Item] | None


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter: `position` counts in the order of `jax.tree.leaves`, `layout` are PyTorch's axes in our order."""

    name: str
    position: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    layout: Layout

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape in PyTorch."""
        return tuple(self.shape[self.layout.index(axis)] for axis in range(len(self.shape)))

    @property
    def is_complex(self) -> bool:
        """Whether the dtype is complex."""
        return np.issubdtype(self.dtype, np.complexfloating)

    @property
    def scalar_dtype(self) -> type[np.floating[Any]]:
        """What PyTorch keeps step numbers in, if the parameter has the default dtype or a narrower one."""
        return np.float64 if self.dtype in (np.float64, np.complex128) else np.float32

    @property
    def length(self) -> int:
        """How many real numbers it has."""
        return math.prod(self.shape) * (2 if self.is_complex else 1)

    def __str__(self) -> str:
        """Return the name for error messages."""
        return repr(self.name)


def found_in(params: PyTree) -> dict[str, Parameter]:
    """Return the parameters of a tree by path, in the order of `jax.tree.leaves`, with PyTorch's layout."""
    known = {}
    for i, (at, leaf) in enumerate(named_leaves(params)):
        x = _array(leaf)
        if not isinstance(x, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
            raise TypeError(f"params must be a tree of arrays of JAX or NumPy, {at!r} is a {type(x).__name__}")
        known[at] = Parameter(at, i, x.shape, np.dtype(x.dtype), tuple(range(x.ndim)))
    return known


def order_of(groups: Sequence[Sequence[Parameter]], names: Sequence[str] | None) -> Order:
    """Return these parameters as an `order`: by PyTorch's names if there are any, else as one list for each group."""
    if names is None:
        return [[(p.name, p.layout) for p in group] for group in groups]
    return {name: (p.name, p.layout) for name, p in zip(names, (p for group in groups for p in group), strict=True)}


# --- the order of the groups


def in_saved_order(
    name: str, known: dict[str, Parameter], order: Order, names: Sequence[str] | None, sizes: Sequence[int]
) -> list[Parameter]:
    """Return the parameters as the state dict numbers them: group by group.

    Args:
        name: of the optimizer, for errors.
        known: as `found_in` returns them.
        order: of the caller.
        names: the names in the state dict.
        sizes: how many parameters each of its groups has.

    Raises:
        TypeError: an order of another form.
        ValueError: parameters not named once each, an order that contradicts the names, several groups with neither names
            nor an order.
    """
    if sum(sizes) != len(known):
        shown = "" if names is None else f"; {_both(known, names)}"
        raise ValueError(f"{name}: the state dict has {sum(sizes)} parameters, params has {len(known)}{shown}")
    if names is None and isinstance(order, Mapping):
        raise TypeError(
            "order must be a list of paths or of pairs (path, layout), because the state dict has no names that could be "
            f"the keys of a dict, got {order!r}"
        )
    if names is not None and (order is None or isinstance(order, Mapping)):
        return _by_name(known, order or {}, names)
    if order is None and len(sizes) > 1:
        raise ValueError(f"the state dict has {len(sizes)} groups and no names of parameters. {_by_group(sizes)}")
    groups = _by_position(known, order)
    if _is_by_group(order) and [len(group) for group in groups] != list(sizes):
        raise ValueError(
            f"order has {len(groups)} groups of {_counts([len(group) for group in groups])} parameters, the state dict has "
            f"{len(sizes)} of {_counts(sizes)}"
        )
    parameters = [p for group in groups for p in group]
    if names is not None:
        _check_names(known, parameters, names)
    return parameters


def check_groups(
    parameters: Sequence[Parameter],
    order: Order,
    names: Sequence[str] | None,
    sizes: Sequence[int],
    states: Sequence[Mapping[str, Any]],
) -> None:
    """Refuse a single list of the parameters of several groups, unless names or shapes show which group each is in.

    The list could be in the order of `model.parameters()` instead of the order of the groups; a parameter would then get the
    options and the averages of another one. The list is accepted if the names match it, or if shapes in the state differ
    between the groups.
    """
    if len(sizes) == 1 or order is None or isinstance(order, Mapping) or _is_by_group(order):
        return
    if names is not None:
        here, there = _comparable([p.name for p in parameters], names)
        if all(_is_named(path, name) for path, name in zip(here, there, strict=True)):
            return
    first: dict[Any, tuple[int, Parameter]] = {}
    groups = [g for g, size in enumerate(sizes) for _ in range(size)]
    for g, p, state in zip(groups, parameters, states, strict=True):
        for shape in (p.torch_shape, *(() if state else (None,))):
            other, q = first.setdefault(shape, (g, p))
            if other != g:
                alike = "have no state, whose shapes could tell" if shape is None else f"have both the shape {shape}"
                raise ValueError(
                    f"order does not say which parameters are in which of the {len(sizes)} groups: {q} and {p} {alike}. "
                    f"{_by_group(sizes)}"
                )


def _is_named(path: str, name: str) -> bool:
    return path == name or _module(path) == _module(name) != ""


def _by_group(sizes: Sequence[int]) -> str:
    """Return how to give an order by groups, for an error message."""
    return (
        "PyTorch numbers parameters group by group, not in the order of model.parameters(): give order= as a list of lists, "
        f"one for each group, of {_counts(sizes)} paths or pairs (path, layout)"
    )


def in_written_order(
    known: dict[str, Parameter], order: Order, read: Order, groups: Mapping[str, int], n_groups: int
) -> tuple[list[Parameter], list[str] | None]:
    """Return the parameters as PyTorch numbers them, group by group, and their names; `None` if there are no names.

    Args:
        known: as `found_in` returns them.
        order: of the caller.
        read: what `order_of` returned when the optimizer was made from a state dict, `None` if it was not.
        groups: the number of each path's group.
        n_groups: how many groups there are.
    """
    order, names = read if order is None else order, None
    if isinstance(order, Mapping):
        names = list(read if isinstance(read, Mapping) else order)
        parameters = _by_name(known, {**read, **order} if isinstance(read, Mapping) else order, names)
    else:
        lists = _by_position(known, order)
        for g, p in ((g, p) for g, group in enumerate(lists) for p in group if _is_by_group(order)):
            if groups[p.name] != g or len(lists) != n_groups:
                raise ValueError(
                    f"order has {p} in group {g} of {len(lists)}, the optimizer in group {groups[p.name]} of {n_groups}"
                )
        parameters = [p for group in lists for p in group]
    by_group = sorted(range(len(parameters)), key=lambda i: groups[parameters[i].name])
    parameters, names = [parameters[i] for i in by_group], None if names is None else [names[i] for i in by_group]
    if isinstance(read, Mapping):
        _check_as_read(parameters, read)
    return parameters, names


def _check_as_read(parameters: Sequence[Parameter], read: Mapping[str, Any]) -> None:
    """Refuse an order that puts a parameter under a name that `from_torch` read for another parameter."""
    for p, (name, (path, _)) in zip(parameters, read.items(), strict=True):
        if p.name != path:
            raise ValueError(
                f"order has {p} where PyTorch has {name!r}, which was {path!r} in from_torch: without an order, to_torch "
                "writes what was read"
            )


def _by_position(known: dict[str, Parameter], order: Order) -> list[list[Parameter]]:
    """Return the parameters in the order given: one list for each group if the order has groups, else a single list."""
    if order is None:
        return [list(known.values())]
    if not isinstance(order, list | tuple):
        raise TypeError(f"order must be a list of paths or of pairs (path, layout), got {order!r}")
    lists: list[Any] = list(order) if _is_by_group(order) else [order]
    found: dict[str, Parameter] = {}
    groups = [[_found(known, item, found) for item in items] for items in lists]
    _check_complete(known, found)
    return groups


def _is_by_group(order: Any) -> bool:
    """Whether an order has one list for each group; a pair (path, layout) does not count as a list of two paths."""

    def is_layout(x: Any) -> bool:
        return x is None or (isinstance(x, list | tuple) and all(isinstance(axis, int | np.integer) for axis in x))

    def is_pair(x: Any) -> bool:
        return isinstance(x, list | tuple) and len(x) == 2 and isinstance(x[0], str) and is_layout(x[1])

    def is_group(x: Any) -> bool:
        return isinstance(x, list | tuple) and not is_pair(x) and all(isinstance(part, str) or is_pair(part) for part in x)

    return isinstance(order, list | tuple) and len(order) > 0 and all(map(is_group, order))


def _found(known: dict[str, Parameter], item: Any, found: dict[str, Parameter]) -> Parameter:
    """Return the parameter that an item of an order names, and add it to `found`."""
    layout: Sequence[int] | None
    match item:
        case str(path):
            layout = None
        case [str(path), None | list() | tuple() as layout]:
            pass
        case _:
            raise TypeError(f"order has {item!r}, which is neither a path nor a pair (path, layout)")
    p = known.get(path, known.get(path.removesuffix("/value")))
    if p is None:
        raise ValueError(f"order names {path!r}, but there is no such parameter; there are {listed(known)}")
    if p.name in found:
        raise ValueError(f"order names {path!r} twice")
    if layout is not None and sorted(layout) != list(range(len(p.shape))):
        raise ValueError(f"{path!r}: the layout {tuple(layout)} is no permutation of the axes of the shape {p.shape}")
    found[p.name] = p if layout is None else dataclasses.replace(p, layout=tuple(layout))
    return found[p.name]


def _check_complete(known: dict[str, Parameter], found: dict[str, Parameter]) -> None:
    missing = [name for name in known if name not in found]
    if missing:
        raise ValueError(f"order does not name the parameter {', '.join(map(repr, missing))}")


# --- names


def _dotted(path: str) -> str:
    """Return what PyTorch would call the parameter at a path."""
    return path.replace("/", ".")


def _by_name(known: dict[str, Parameter], order: Mapping[str, Any], names: Sequence[str]) -> list[Parameter]:
    """Return the parameter for each name: the one that the order gives, else the one whose path is the name."""
    for name in sorted(set(order) - set(names)):
        raise ValueError(f"order has the key {name!r}, which is not a name in the state dict; {_both(known, names)}")
    paths: dict[str, list[str]] = {}
    for path in known:
        paths.setdefault(_dotted(path), []).append(path)
    found: dict[str, Parameter] = {}
    parameters = []
    for name in names:
        own = paths.get(name, [""] if list(known) == [""] else [])
        if name not in order and len(own) != 1:
            raise ValueError(
                f"the state dict has the parameter {name!r}, which is {'no path' if not own else f'the paths {own}'} here: "
                f"give order= as a dict from its names to paths or pairs (path, layout); {_both(known, names)}"
            )
        parameters.append(_found(known, order[name] if name in order else own[0], found))
    _check_complete(known, found)
    return parameters


def _check_names(known: dict[str, Parameter], parameters: Sequence[Parameter], names: Sequence[str]) -> None:
    """Refuse an order by position that contradicts the names.

    A name and a path that differ may still be the same parameter, as "out.weight" and "out/kernel" are. They are not if the
    name, or the module part of it, matches another path here, or if the path, or its module, matches another name there.
    """
    here, there = _comparable([p.name for p in parameters], names)
    modules_here, modules_there = ({_module(name) for name in some} - {""} for some in (here, there))
    for i, (path, name) in enumerate(zip(here, there, strict=True)):
        ours, theirs = _module(path), _module(name)
        is_of_another = path != name and (path in there or name in here)
        if is_of_another or (ours != theirs and (ours in modules_there or theirs in modules_here)):
            raise ValueError(
                f"order has {parameters[i]} where the state dict has {names[i]!r}: give no order, or a dict from its names "
                f"to paths or pairs (path, layout); {_both(known, names)}"
            )


def _comparable(paths: Sequence[str], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the paths here and the names there without what wraps the model on one side only.

    Such are the modules of PyTorch's wrappers, Flax's "params", and a first part that all have in common, if the modules
    after it are the same on both sides.
    """
    here, there = ([_unwrapped(_dotted(name)) for name in some] for some in (paths, names))
    inner_here, inner_there = _without_common_part(here), _without_common_part(there)
    is_same_model = {_module(name) for name in inner_here} == {_module(name) for name in inner_there}
    return (inner_here, inner_there) if is_same_model else (here, there)


def _unwrapped(name: str) -> str:
    first, *rest = [part for part in name.split(".") if part not in _WRAPPERS] or [name]
    return ".".join(rest if first == "params" and rest else [first, *rest])


def _without_common_part(names: Sequence[str]) -> list[str]:
    parts = [name.split(".") for name in names]
    n = 0
    while parts and all(len(own) > n + 1 and own[n] == parts[0][n] for own in parts):
        n += 1
    return [".".join(own[n:]) for own in parts]


def _module(name: str) -> str:
    """Return the dotted name of the module that a parameter is in; "" if there is none."""
    return name.rpartition(".")[0]


def _both(known: Mapping[str, Any], names: Sequence[str]) -> str:
    return f"its names are {listed(names)}; the paths here are {listed(known)}"


def listed(names: Iterable[Any]) -> str:
    """Return the first names, for an error message."""
    some = [repr(name) for name in names]
    return ", ".join(some[:20] + ["..."] * (len(some) > 20))


def _counts(sizes: Sequence[int]) -> str:
    return " and ".join(map(str, sizes))
