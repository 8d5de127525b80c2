"""Programs that compile quickly and are shared: in these tests compiling takes longer than the steps do."""

from collections.abc import Callable
from typing import Any

import jax

# The code need not be fast: LLVM does not optimize, and XLA's older emitter gives it a third of the work.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
_PROGRAMS: dict[Any, Any] = {}


def program(function: Callable[..., Any], *args: Any) -> Any:
    """The compiled function; optimizers that differ in numbers alone have one, because numbers are data of their state."""
    lowered = jax.jit(function).lower(*args)
    key = (lowered.as_text(), lowered.in_tree, lowered.out_tree)
    if key not in _PROGRAMS:
        _PROGRAMS[key] = lowered.compile(compiler_options=QUICK)
    return _PROGRAMS[key]
