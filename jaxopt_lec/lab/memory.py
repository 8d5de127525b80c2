"""How much memory a study may take, found out on the machine itself."""

from collections.abc import Sequence
from pathlib import Path

import jax

from jaxopt_lec.lab.errors import InputError

__all__ = ["fitting", "free_memory", "readable"]

# The rest is for what else runs on the machine, for the compiler, and for what XLA's own estimate leaves out.
SHARE = 0.5
CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def free_memory(devices: Sequence[jax.Device], cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Return half the bytes that are free on the devices, all together; CPU devices share the machine's memory.

    On a CPU that is what the system calls available, or what the container may still take, if that is less.

    Raises:
        InputError: this machine does not say.
    """
    stats = [device.memory_stats() or {} for device in devices]
    if all("bytes_limit" in found for found in stats):
        return int(SHARE * len(devices) * min(found["bytes_limit"] - found["bytes_in_use"] for found in stats))
    known = [number for number in (available(meminfo), left_in_container(cgroup)) if number is not None]
    if not known:
        raise InputError(f"the free memory of {devices[0].device_kind} cannot be found out: give memory_limit, in bytes")
    return int(SHARE * min(known))


def fitting(devices: tuple[jax.Device, ...], each: int, limit: int) -> tuple[jax.Device, ...]:
    """Return the devices on which a program that takes `each` bytes per device can run; none if it does not fit.

    Args:
        devices: the devices to choose from.
        each: bytes per device.
        limit: bytes of all devices together. CPU devices share it, so fewer devices need less; other devices do not share.
    """
    if devices[0].platform == "cpu":
        return devices[: limit // max(1, each)]
    return devices if each * len(devices) <= limit else ()


def available(meminfo: Path) -> int | None:
    """Return what Linux calls available memory, in bytes."""
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def left_in_container(cgroup: Path) -> int | None:
    """Return what a container with a limit (version 2 of control groups, then version 1) may still take, in bytes."""
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        if (cgroup / limit).exists() and (cgroup / used).exists():
            text = (cgroup / limit).read_text().strip()
            return None if text == "max" else max(0, int(text) - int((cgroup / used).read_text()))
    return None


def readable(number: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.4g} TB"
