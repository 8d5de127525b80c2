"""What a user wrote on the command line, found: `package.module:name` or `path/to/file.py:name`."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxopt_lec.lab.errors import InputError

__all__ = ["imported", "one_line"]


def imported(kind: str, spec: str) -> Any:
    """Import the function that a spec names.

    Args:
        kind: what it makes, for messages: "optimizer", "workload".
        spec: `package.module:name` or `file.py:name`; the name may have dots.

    Raises:
        InputError: it leads to no function.
    """
    place, _, attribute = spec.rpartition(":")
    named = attribute and all(part.isidentifier() for part in attribute.split("."))
    is_file = place.endswith(".py")
    if not named or not (is_file or all(part.isidentifier() for part in place.split("."))):
        raise InputError(f"{kind} {spec!r} is not of the form package.module:name or file.py:name")
    try:
        found: Any = from_file(Path(place)) if is_file else importlib.import_module(place)
    except FileNotFoundError as error:
        raise InputError(f"{kind} {spec!r}: there is no file {place}") from error
    except ModuleNotFoundError as error:
        if not is_file and error.name is not None and f"{place}.".startswith(f"{error.name}."):
            raise InputError(f"{kind} {spec!r}: there is no module {error.name}") from error
        raise InputError(f"{kind} {spec!r}: importing {place} failed: {one_line(error)}") from error
    except (Exception, SystemExit) as error:  # a script that ends itself would end this program without a word
        raise InputError(f"{kind} {spec!r}: importing {place} failed: {one_line(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"{kind} {spec!r}: {place} has no attribute {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{kind} {spec!r}: {attribute} is a {type(found).__name__}, not a function")
    return found


def from_file(path: Path) -> ModuleType:
    """Import a file, under a name that no module can have: another module of the file's name stays what it is."""
    path = path.resolve(strict=True)
    name = str(path)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def one_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message."""
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[0]}" if message else type(error).__name__
