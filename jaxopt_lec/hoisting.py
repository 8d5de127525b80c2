"""Hoisting: what an equation computes from scalars alone is computed once in an update, not again for each leaf.

Bias corrections and the like are a third of an equation's operations; over hundreds of leaves XLA would spend more time on
finding them equal than on all the rest.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from jaxopt_lec.launches import jaxopt_lec_in_one_array

__all__ = ["Hoisted"]


class _Parts(NamedTuple):
    on_scalars: Callable[..., list[jax.Array]]  # scalars -> all scalars that the arrays meet
    on_arrays: Callable[..., list[jax.Array]]  # (those scalars, arrays) -> results
    out_tree: Any


class Hoisted:
    """A pure function `(scalars, arrays) -> result` over trees, to be called many times with the same scalars.

    For each new combination of shapes the function is traced once and split in two.
    """

    def __init__(self, name: str, function: Callable[[Any, Any], Any]) -> None:
        """Hold the function; it is traced when it is called. Traces show it by name."""
        self._name = name
        self._function = function
        self._traceable = jax.jit(function)  # for its cache of traces
        self._parts: dict[ClosedJaxpr, _Parts] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the function: traced programs belong to this process, and another process traces again."""
        return Hoisted, (self._name, self._function)

    def with_scalars(self, scalars: Any, several: bool = False) -> Callable[[Any], Any]:
        """Return the function of the arrays; its calls share what depends on the scalars alone.

        Where `several` arrays of one shape are to come, a GPU computes them in a few kernels, not in one for each.
        """
        given = jax.tree.leaves(scalars)
        # By the arrays' types. None where the function closes over values of an outer trace, which only it can reach.
        found: dict[Any, tuple[_Parts, list[jax.Array]] | None] = {}

        def parts_for(arrays: Any, number: int) -> tuple[_Parts, list[jax.Array]] | None:
            traced = self._traceable.trace(scalars, arrays)
            program = traced.jaxpr
            if len(program.jaxpr.invars) != len(given) + number:
                return None
            if program not in self._parts:
                self._parts[program] = _split(self._name, program, len(given), jax.tree.structure(traced.out_info))
            parts = self._parts[program]
            met = parts.on_scalars(*given)
            return parts, jaxopt_lec_in_one_array(*met) if several and met else met

        def call(arrays: Any) -> Any:
            leaves, treedef = jax.tree.flatten(arrays)
            types = (treedef, *map(jax.typeof, leaves))
            if types not in found:
                found[types] = parts_for(arrays, len(leaves))
            if (parts_and_scalars := found[types]) is None:
                return self._function(scalars, arrays)
            parts, met = parts_and_scalars
            return parts.out_tree.unflatten(parts.on_arrays(*met, *leaves))

        return call


def _split(name: str, program: ClosedJaxpr, number_of_scalars: int, out_tree: Any) -> _Parts:
    jaxpr = program.jaxpr
    scalars, arrays = jaxpr.invars[:number_of_scalars], jaxpr.invars[number_of_scalars:]
    known = {*scalars, *(v for v in jaxpr.constvars if v.aval.shape == ())}
    first, rest = [], []
    for operation in jaxpr.eqns:
        of_scalars = all(isinstance(v, Literal) or v in known for v in operation.invars)
        if of_scalars and not operation.effects and all(v.aval.shape == () for v in operation.outvars):
            first.append(operation)
            known.update(operation.outvars)
        else:
            rest.append(operation)
    needed = [v for operation in rest for v in operation.invars] + list(jaxpr.outvars)
    met = list(dict.fromkeys(v for v in needed if not isinstance(v, Literal) and v in known))

    def compiled(**changes: Any) -> Callable[..., list[jax.Array]]:
        run: Any = jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(**changes), program.consts))
        run.__name__ = name
        # A call of what was traced before: a fraction of the time of tracing it again. XLA puts the body in its place.
        return jax.jit(run)

    return _Parts(
        on_scalars=compiled(invars=scalars, eqns=first, outvars=met, effects=frozenset()),
        on_arrays=compiled(invars=[*met, *arrays], eqns=rest),
        out_tree=out_tree,
    )
