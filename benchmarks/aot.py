"""What does one step of an optimizer cost on a TPU and on a GPU? Read off the programs that XLA compiles for them.

    python benchmarks/aot.py [--target tpu|h100|both] [--venvs DIR] [--write docs/bytes_per_parameter.md]

XLA compiles for a TPU v5e and an H100 that need not be there. One step is `update` and `optax.apply_updates`, parameters and
state donated: first on one large leaf, then on the 300 leaves of a transformer. "Optax" has its hyperparameters as constants
in the program; "as data" has them in its state, by `optax.inject_hyperparams`, as all of ours have. Each compiler lives in a
virtual environment of its own, made with pip on the first run (2.5 GB together); a run takes a few minutes on two cores.
"""

import argparse
import json
import os
import subprocess
import tempfile
import venv
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

from rich.console import Console
from tables import add_write, markdown, show, write

VERSIONS = ["jax==0.10.2", "jaxlib==0.10.2", "optax==0.2.8", "numba==0.68.1"]
TARGETS = {
    "tpu": ("TPU v5e", ["libtpu==0.0.42.1"]),
    "h100": ("H100", ["jax-cuda12-pjrt==0.10.2", "jax-cuda12-plugin==0.10.2", "nvidia-cuda-nvcc-cu12==12.9.86"]),
}
HERE = Path(__file__).resolve().parent

# A model of an H100's time, not a measurement: bytes a second, seconds for a launch.
BANDWIDTH, LAUNCH = 3.35e12, 2.5e-6

# table → method → contender → cost
Costs: TypeAlias = dict[str, dict[str, dict[str, Any]]]


def environment(target: str, folder: Path, console: Console) -> Path:
    """The Python of the virtual environment that has the compiler, made if it is not there."""
    python = folder / target / ("Scripts" if os.name == "nt" else "bin") / "python"
    packages = [*VERSIONS, *TARGETS[target][1]]
    stamp = folder / target / "packages.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != packages:
        console.print(f"Making {folder / target} with {', '.join(packages)}")
        if not python.exists():
            venv.create(folder / target, symlinks=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--disable-pip-version-check", *packages], check=True)
        stamp.write_text(json.dumps(packages))
    return python


def costs(target: str, folder: Path, console: Console) -> Costs:
    python = environment(target, folder, console)
    variables = {"PYTHONPATH": str(HERE.parent), "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    if target == "tpu":
        library = subprocess.run(
            [python, "-c", "import libtpu; print(libtpu.get_library_path())"], check=True, capture_output=True, text=True
        ).stdout.strip()
        variables |= {"TPU_LIBRARY_PATH": library, "TPU_SKIP_MDS_QUERY": "1"}
        variables |= {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"}
    found: Costs = {}
    command = [python, HERE / "aot_programs.py", target]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | variables) as process,
        console.status(f"{TARGETS[target][0]}: starting") as status,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            found.setdefault(said["table"], {}).setdefault(said["method"], {})[said["who"]] = SimpleNamespace(**said["cost"])
            status.update(f"{TARGETS[target][0]}: compiled {said['method']} ({said['who']}, one {said['table']})")
        if process.wait():
            errors.seek(0)
            raise SystemExit(f"Compiling for {target} failed:\n{errors.read()[-3000:]}")
    return found


def of_leaf(target: str, found: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = [["", "least", "ours", "÷ least", "temporary", "kernels", "Optax", "kernels", "as data: kernels"]]
    if target == "tpu":
        rows[0].insert(3, "XLA says")
    for name, by in found.items():
        ours, theirs, data = by["ours"], by.get("optax"), by.get("data")
        count = ours.parameters
        row = [name, f"{ours.least / count:.2f}", f"{ours.bytes / count:.2f}", f"{ours.bytes / ours.least:.3f}"]
        if target == "tpu":
            says = ours.counted / count
            row.insert(3, f"{says:.2f}" if says > 1 else "–")  # it does not look into a kernel of ours
        row += [size(ours.temporary), str(ours.kernels)]
        row += [f"{theirs.bytes / count:.2f}" if theirs else "–", *(str(x.kernels) if x else "–" for x in (theirs, data))]
        rows.append(row)
    return rows


def of_tree(target: str, found: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = [["", "÷ least", "temporary", "kernels", "fused: kernels", "Optax: ÷ least", "kernels", "as data: kernels"]]
    if target == "h100":
        rows[0] += ["model", "of Optax"]
    for name, by in found.items():
        ours, theirs, data = by["ours"], by["optax"], by["data"]
        row = [name, f"{ours.bytes / ours.least:.3f}", size(ours.temporary), str(ours.kernels), str(by["fused"].kernels)]
        row += [f"{theirs.bytes / theirs.least:.3f}", str(theirs.kernels), str(data.kernels)]
        if target == "h100":
            row += [f"{1e3 * (x.bytes / BANDWIDTH + x.kernels * LAUNCH):.2f} ms" for x in (ours, theirs)]
        rows.append(row)
    return rows


def size(number: int) -> str:
    return (
        f"{number / 2**20:.0f} MiB" if number >= 2**20 else f"{number / 1024:.0f} KiB" if number >= 1024 else f"{number} B"
    )


def sections(target: str, found: Costs) -> list[tuple[str, list[list[str]]]]:
    device_name = TARGETS[target][0]
    return [
        (f"{device_name}: one leaf of 16,777,216 float32, bytes for each parameter", of_leaf(target, found["leaf"])),
        (f"{device_name}: 300 leaves of a transformer, 0.34 billion parameters", of_tree(target, found["tree"])),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=[*TARGETS, "both"], default="both")
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxopt_lec_aot"
    parser.add_argument("--venvs", type=Path, default=default, help="folder of the two environments (default: %(default)s)")
    add_write(parser)
    arguments = parser.parse_args()
    console = Console(width=100)
    texts = []
    for target in TARGETS if arguments.target == "both" else [arguments.target]:
        for title, rows in sections(target, costs(target, arguments.venvs, console)):
            show(console, title, rows)
            texts.append(markdown(title, rows))
    if arguments.write:
        write(arguments.write, "aot.py", "\n\n".join(texts))


if __name__ == "__main__":
    main()
