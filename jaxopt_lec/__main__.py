"""The command ``jaxopt-lec``, also as ``python -m jaxopt_lec``; without the extra ``[lab]`` it says what to install."""

import sys


def main() -> None:
    """Run the command."""
    try:
        from jaxopt_lec.cli import app
    except ModuleNotFoundError as error:
        sys.exit(f"jaxopt-lec needs {error.name}: pip install 'jaxopt_lec[lab]'")
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Nothing was run.\n")
        sys.exit(130)
    app(prog_name="jaxopt-lec")


if __name__ == "__main__":
    main()
