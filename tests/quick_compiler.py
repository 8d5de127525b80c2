"""XLA's settings for the tests: it optimizes less, and caches compiled programs.

Most of the test time is compilation: XLA compiles thousands of small programs, which then run for microseconds.
"""

import os
from pathlib import Path

import jaxlib

# No threads to generate code for a program of one small kernel.
FLAGS = ["--xla_cpu_parallel_codegen_split_count=1"]
if jaxlib.version.__version_info__ < (0, 12):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # takes half of the time; later versions refuse the flag
VARIABLES = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    # What was compiled once is read by the other worker, by child processes and by the next run.
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def choose() -> None:
    """Set the variables of the environment, unless JAXOPT_LEC_SHIPPED_COMPILER asks for the compiler that users have."""
    if not os.environ.get("JAXOPT_LEC_SHIPPED_COMPILER"):
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS]).strip()
        for name, value in VARIABLES.items():
            os.environ.setdefault(name, value)


def environment() -> dict[str, str]:
    """Return the variables for a child process that is given no others."""
    return {name: os.environ[name] for name in ("XLA_FLAGS", *VARIABLES) if name in os.environ}
