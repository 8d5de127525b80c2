"""A workload that a user wrote, found by its file or module."""

import inspect
from pathlib import Path

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.importing import imported, one_line
from jaxopt_lec.lab.workloads.checks import try_out_workload
from jaxopt_lec.lab.workloads.workload import Workload

__all__ = ["find_own_workload"]


def find_own_workload(spec: str, data: Path | None) -> Workload:
    """Make the workload that `package.module:make` or `file.py:make` names.

    Args:
        spec: names a function without arguments, or with one argument `data`.
        data: what `make` gets as its argument.

    Raises:
        InputError: there is no such function, or what it makes is no workload.
    """
    make = imported("workload", spec)
    try:
        parameters = inspect.signature(make).parameters
    except ValueError as error:
        raise InputError(f"workload {spec!r}: {one_line(error)}") from error
    if "data" not in parameters and data is not None:
        raise InputError(f"workload {spec!r}: it takes no argument data (drop --data)")
    if "data" in parameters and data is None and parameters["data"].default is inspect.Parameter.empty:
        raise InputError(f"workload {spec!r}: it needs its data (--data PATH)")
    try:
        found = make(data=data) if data is not None else make()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"workload {spec!r}: making it failed: {one_line(error)}") from error
    return try_out_workload(found, f"workload {spec!r}")
