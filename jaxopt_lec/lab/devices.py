"""How many devices a CPU is."""

import contextlib
import os

import jax

__all__ = ["use_all_cores"]


def use_all_cores() -> None:
    """Let the CPU be as many devices as it has usable cores, so that as many lanes run at once.

    Nothing happens where that was decided already: by JAX's option `jax_num_cpu_devices`, by XLA_FLAGS, or by a first array.
    """
    if jax.config.jax_num_cpu_devices != -1:  # type: ignore[attr-defined]
        return
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # the backend runs already, as when a program calls this command
        jax.config.update("jax_num_cpu_devices", cores or 1)
