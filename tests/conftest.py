"""What all tests share: a quick compiler, two CPU devices, strict promotion, and no use of the network."""

import gc
import os
from collections import Counter
from pathlib import Path

import jaxlib

# Most of the time of these tests is XLA's, which compiles thousands of small programs that run for microseconds. So it
# optimizes less here, unless JAXOPT_LEC_SHIPPED_COMPILER asks for the compiler that users have. These are variables of the
# environment, so that child processes have them too, and are set before JAX starts.
QUICK = ["--xla_cpu_parallel_codegen_split_count=1"]  # no threads for a program of one small kernel
if jaxlib.version.__version_info__ < (0, 12):
    QUICK.append("--xla_cpu_use_fusion_emitters=false")  # half of the time of compiling; later versions stop at the flag
if not os.environ.get("JAXOPT_LEC_SHIPPED_COMPILER"):
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICK]).strip()
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# What was compiled once is read by the other worker, by child processes and by the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

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


def pytest_collection_finish():
    """Take what is loaded by now out of the garbage collector's rounds: a million objects that stay."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Say at the end how many of the frameworks' trajectories ours agree with."""
    passed = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    agreeing = Counter(value for report in passed for key, value in report.user_properties if key == "agrees with")
    for (framework, cases), count in sorted(agreeing.items(), reverse=True):
        terminalreporter.write_line(f"{framework}: {count} of {cases} cases agree")
