"""How a parameter is called: the keys on the way to it, joined by "/"."""

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
from jax.tree_util import keystr, tree_flatten_with_path

__all__ = ["check_matched", "map_by_name", "named_leaves"]

PyTree: TypeAlias = Any
IsLeaf: TypeAlias = Callable[[Any], bool] | None


def named_leaves(tree: PyTree, is_leaf: IsLeaf = None) -> list[tuple[str, Any]]:
    """Return the leaves with their names, in the order of `jax.tree.leaves`.

    The name is the path. NNX's variables keep their value in an attribute, which is no part of the name: some of NNX's trees
    leave it out.
    """
    variables = {keys for keys, x in tree_flatten_with_path(tree, is_leaf=_is_variable)[0] if _is_variable(x)}
    leaves = tree_flatten_with_path(tree, is_leaf=is_leaf)[0]
    own = [keys[:-1] if keys[:-1] in variables else keys for keys, _ in leaves]
    return [(str(keystr(keys, simple=True, separator="/")), x) for keys, (_, x) in zip(own, leaves, strict=True)]


def map_by_name(function: Callable[[str, Any], Any], tree: PyTree, is_leaf: IsLeaf = None) -> PyTree:
    """Return the tree of what `function` makes of each leaf's name and the leaf."""
    treedef: Any = jax.tree.structure(tree, is_leaf=is_leaf)
    return treedef.unflatten(function(name, x) for name, x in named_leaves(tree, is_leaf))


def check_matched(what: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a pattern that is found in no name: it is misspelt, or meant for other parameters."""
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            shown = [repr(name) for name in names[:20]] + ["..."] * (len(names) > 20)
            raise ValueError(f"{what}: no parameter matches {pattern!r}; there are {', '.join(shown)}")


def _is_variable(x: Any) -> bool:
    """Whether `x` is a variable of NNX, which need not be installed."""
    return any(kind.__name__ == "Variable" and kind.__module__.startswith("flax.") for kind in type(x).__mro__)
