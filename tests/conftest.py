"""What all tests share: a quick compiler, two CPU devices, strict promotion, and no use of the network."""

import contextlib
import ctypes
import gc
from collections import Counter

import quick_compiler

quick_compiler.choose()  # before JAX starts

import jax  # noqa: E402
import pytest  # noqa: E402

# Before the backend starts: laws about shardings need more than one device.
jax.config.update("jax_num_cpu_devices", 2)
# An equation must not lean on implicit dtype promotion, nor keep a tracer.
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="module", autouse=True)
def _caches_of_one_file():
    """Let go of the programs of a file at its end: those of all files together are gigabytes."""
    yield
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps what is free, unless it is told
        ctypes.CDLL(None).malloc_trim(0)


def pytest_collection_finish():
    """Take what is loaded by now out of the garbage collector's rounds: a million objects that stay."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Say at the end how many of the frameworks' trajectories ours agree with."""
    passed = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    agreeing = Counter(value for report in passed for key, value in report.user_properties if key == "agrees with")
    for framework, count in sorted(agreeing.items(), reverse=True):
        terminalreporter.write_line(f"{framework}: {count} recorded trajectories agree")
