"""The command ``jaxopt-lec``, also as ``python -m jaxopt_lec``; without the extra ``[lab]`` it says what to install."""

import contextlib
import os
import sys

INTERRUPTED = 130  # the exit code after Ctrl-C


def main() -> None:
    """Run the command."""
    try:
        from jaxopt_lec.cli import app
    except ModuleNotFoundError as error:
        sys.exit(f"jaxopt-lec needs {error.name}: pip install 'jaxopt_lec[lab]'")
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Nothing was run.\n")
        sys.exit(INTERRUPTED)
    try:
        app(prog_name="jaxopt-lec")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # `sys.exit` would wait up to a minute for the compiler's threads, and XLA may crash if they outlive Python.
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(INTERRUPTED)
        raise


if __name__ == "__main__":
    main()
