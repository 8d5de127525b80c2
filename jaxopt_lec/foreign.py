"""Arrays of other libraries, such as PyTorch, which no operation of JAX takes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["kind_of", "refuse_foreign"]


def refuse_foreign(what: str, x: Any) -> None:
    """Refuse an array of another library, such as PyTorch, which JAX's operations do not accept."""
    if not hasattr(x, "dtype") or isinstance(x, np.ndarray | np.generic | jax.Array | jax.ShapeDtypeStruct):
        return
    try:
        jnp.issubdtype(x.dtype, jnp.inexact)
    except TypeError as error:
        numpy = "x.detach().cpu().numpy()" if hasattr(x, "detach") else "x.numpy()" if hasattr(x, "numpy") else "x"
        raise TypeError(f"{what} is a {kind_of(x)}; give arrays of JAX or NumPy: jnp.asarray({numpy})") from error


def kind_of(x: Any) -> str:
    """Return the package and the class of an object, such as torch.Parameter."""
    return f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"
