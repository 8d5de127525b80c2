"""How a parameter is called: the keys on the way to it, joined by "/"."""

from typing import Any

from jax.tree_util import GetAttrKey, keystr

__all__ = ["path_of"]


def path_of(keys: Any) -> str:
    """Return a parameter's path; NNX's variables have their value in an attribute, which some of its trees leave out."""
    keys = keys[:-1] if keys and keys[-1] == GetAttrKey("value") else keys
    return str(keystr(keys, simple=True, separator="/"))
