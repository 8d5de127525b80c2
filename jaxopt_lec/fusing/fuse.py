"""`fuse`: an optimizer's whole step in one pass over memory on CPUs, made from the equation by numba.

XLA's CPU compiler makes several loops of an Adam step, each of which reads and writes memory. Here the step is traced, what
is element-wise in it becomes one loop for all leaves, compiled by numba and called from XLA's program on XLA's threads,
and what is not stays with XLA. Nobody writes a kernel: the equation is the kernel.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import optax
from jax.extend.core import jaxpr_as_fun
from jax.interpreters.partial_eval import DynamicJaxprTracer

from jaxopt_lec.fusing.blocks import blocks_of
from jaxopt_lec.fusing.dataflow import Program, regions
from jaxopt_lec.fusing.loops import grouped
from jaxopt_lec.fusing.primitive import Part
from jaxopt_lec.fusing.source import is_elementwise
from jaxopt_lec.paths import named_leaves
from jaxopt_lec.transformation import checked

__all__ = ["Fused", "fuse"]

PyTree: TypeAlias = Any


def fuse(tx: optax.GradientTransformation) -> "Fused":
    """Return `init` and `step` of a transformation; on CPUs, with the extra `[cpu]`, a step is one loop over memory.

    `step(params, state, grads)` is `updates, state = tx.update(grads, state, params)` and `optax.apply_updates(params,
    updates)`, for any transformation: ours, a chain, Optax's, your own equation. Call it inside `jax.jit` with params and
    state donated, so that they are updated in place. The numbers are XLA's to rounding.

    What is not element-wise (norms, matrix products, random numbers), leaves without axes, complex numbers and float16 stay
    with XLA; `Fused.explain` says what. On GPUs and TPUs, where XLA makes one kernel of a step itself (leaves of compressed
    state get one here), without numba, and under `vmap` a step is plain XLA. It is not differentiable: `tx.update` is.

    Args:
        tx: any transformation, or an `optax.MultiSteps`.

    Raises:
        TypeError: `tx` is no transformation; a `Fused` is none, so it is fused last.

    Warns:
        UserWarning: once for a `Fused`, naming operation and leaf, if XLA must compute whole arrays beside the loop.
    """
    return Fused(checked("fuse", tx))


class Fused:
    """A transformation with its parameters' update: see `fuse`."""

    def __init__(self, tx: optax.GradientTransformationExtraArgs) -> None:
        """Hold the transformation; it is traced when a step is."""
        self._tx = tx
        self._warned = False
        self._left: list[str] = []  # what whole arrays XLA computes in the step that was traced last
        self._run = jax.jit(self._stepped)

    def init(self, params: PyTree) -> PyTree:
        """Return the transformation's state for the parameters."""
        return self._tx.init(params)

    def step(self, params: PyTree, state: PyTree, grads: PyTree, **extra: Any) -> tuple[PyTree, PyTree]:
        """Return the parameters and the state after one step. `extra` is given to `update`, as in Optax."""
        fused = self
        if not all(hasattr(x, "dtype") or isinstance(x, float) for x in jax.tree.leaves(extra)):
            # A function, such as the loss, is no argument of a program.
            fused, extra = Fused(_given(self._tx, extra)), {}
        # In a program that is being traced there is no need of another one.
        traced = any(isinstance(x, DynamicJaxprTracer) for x in jax.tree.leaves((params, state, grads)))
        after = (fused._stepped if traced else fused._run)(params, state, grads, extra)
        if fused._left and not self._warned:
            self._warned = True
            warnings.warn(f"fuse: not element-wise, so that XLA computes whole arrays: {fused._left[0]}", stacklevel=2)
        return after

    def explain(self, params: PyTree, grads: PyTree = None, **extra: Any) -> str:
        """Say which leaves are in which loop, and what stays with XLA.

        Args:
            params: arrays, or their shapes and dtypes.
            grads: the same of the gradients, where they are not like the parameters.
            **extra: what `update` is given besides.
        """
        state = jax.eval_shape(self._tx.init, params)
        return str(_Plan(self._plain, params, state, params if grads is None else grads, extra))

    def _plain(self, params: PyTree, state: PyTree, grads: PyTree, extra: PyTree) -> tuple[PyTree, PyTree]:
        updates, state = self._tx.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    def _stepped(self, params: PyTree, state: PyTree, grads: PyTree, extra: PyTree) -> tuple[PyTree, PyTree]:
        plan = _Plan(self._plain, params, state, grads, extra)
        self._left = plan.left() if _has_numba() else []
        return plan.run(params, state, grads, extra)


class _Plan:
    """How one step is computed: what XLA does first, and the loops."""

    def __init__(self, step: Callable[..., Any], params: PyTree, state: PyTree, grads: PyTree, extra: PyTree) -> None:
        self.traced, after = jax.make_jaxpr(step, return_shape=True)(params, state, grads, extra)
        program = self.program = Program(self.traced, is_elementwise)
        self.results = after  # as shapes and dtypes
        self.after: Any = jax.tree.structure(after)
        # The inputs begin with what the outputs replace, unless the state changes its structure; a step that prints or calls
        # back is left as it is.
        before: Any = jax.tree.structure((params, state))
        positions = list(range(len(program.outputs))) if before == self.after and not self.traced.effects else []
        self.blocks = blocks_of(program, positions)
        in_blocks = {position for leaf in self.blocks for position in leaf.positions}
        alone = [position for position in positions if position not in in_blocks] if _has_numba() else []
        self.loops = grouped(program, regions(program, alone, is_elementwise))
        self.parts: list[Part] = [*self.loops, *self.blocks]
        covered = {position for part in self.parts for position in part.positions}
        self.rest = [k for k in range(len(program.outputs)) if k not in covered]
        given = {*program.inputs, *program.consts}
        self.read = [v for v in dict.fromkeys(v for part in self.parts for v in part.operands) if v not in given]
        # Parts outlive the trace, and with them the program: it must not hold the trace's values.
        self.consts, program.consts = program.consts, {}
        wanted = [*self.read, *(program.outputs[k] for k in self.rest)]
        self.with_xla = program.needed(wanted, given)

    def run(self, *arguments: PyTree) -> Any:
        if not self.parts:
            return self.after.unflatten(jaxpr_as_fun(self.traced)(*jax.tree.leaves(arguments)))
        program = self.program
        known = dict(zip(program.inputs, jax.tree.leaves(arguments), strict=True)) | self.consts
        found = program.evaluate(self.with_xla, known, [*self.read, *(program.outputs[k] for k in self.rest)])
        known.update(zip(self.read, found, strict=False))
        results = dict(zip(self.rest, found[len(self.read) :], strict=True))
        for part in self.parts:
            results.update(zip(part.positions, part(known), strict=True))
        return self.after.unflatten([results[k] for k in range(len(results))])

    @functools.cached_property
    def names(self) -> list[str]:
        """What the results are called."""
        trees = zip(("params", "state"), self.results, strict=True)
        return [f"{what}/{name}" for what, tree in trees for name, _ in named_leaves(tree)]

    def left(self) -> list[str]:
        """Say what whole arrays XLA computes, before the loops or instead of them."""
        program = self.program
        read_by = {v: p for loop in self.loops for leaf in loop.leaves for p in leaf.results for v in leaf.arrays}
        found = [
            f"{program.made_by[v].name}, read for {self.names[read_by[v]]}"
            for v in self.read
            if program.avals[v].shape and v in read_by
        ]
        for k in self.rest:
            v = program.outputs[k]
            if isinstance(v, int) and v in program.made_by and program.avals[v].shape and program.avals[v].size:
                found.append(f"{program.made_by[v].name}, which gives {self.names[k]}")
        return found

    def __str__(self) -> str:
        lines = []
        for loop in self.loops:
            names = [self.names[next(iter(leaf.results))] for leaf in loop.leaves]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            leaves = "1 leaf" if len(names) == 1 else f"{len(names)} leaves"
            lines.append(
                f"one loop over {leaves}, {loop.bytes_per_number()} bytes for each number: {', '.join(names[:3])}{more}"
            )
        lines += [f"one kernel on GPUs and TPUs, XLA's on CPUs: {self.names[leaf.positions[0]]}" for leaf in self.blocks]
        left = self.left()
        lines += [f"whole arrays with XLA: {what}" for what in left[:10]] + [f"and {len(left) - 10} more"] * (len(left) > 10)
        scalars = sum(not self.program.avals[v].shape for o in self.with_xla for v in o.outputs)
        return "\n".join([*lines, f"{scalars} scalars with XLA"])


def _given(tx: optax.GradientTransformationExtraArgs, extra: PyTree) -> optax.GradientTransformationExtraArgs:
    """Return the transformation with the extra arguments given."""
    return optax.GradientTransformationExtraArgs(tx.init, lambda *args, **more: tx.update(*args, **extra, **more))


def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None
