"""One study, many machines: every process of a `jax.distributed` program calls `sweep`, and runs its share.

You learn: what a program needs for that (one line, and a folder that all processes see), and that the numbers are those
of one process. Without arguments this file starts two processes on this machine.

    python examples/sweep_on_many_machines.py COORDINATOR PROCESSES PROCESS FOLDER     # on each machine
"""

import hashlib
import socket
import subprocess
import sys
import tempfile

import jax
import numpy as np

import jaxopt_lec as jl
from jaxopt_lec import lab
from jaxopt_lec.lab.workloads import load_workload


def study(folder):
    task = lab.Training(jl.adam, load_workload("digits-logistic"), steps=90)
    found = lab.sweep(task, lab.grid(learning_rate=np.geomspace(1e-3, 1.0, 8)), seeds=4, study=folder, side_by_side=2)
    return f"best rate {found.best['learning_rate']:.3g}, curves {hashlib.sha256(found.curves.tobytes()).hexdigest()[:16]}"


def one_of_many(coordinator, processes, process, folder):
    # If a process is lost, the others wait for it at their end: for ten seconds, and not for five minutes.
    jax.distributed.initialize(coordinator, int(processes), int(process), shutdown_timeout_seconds=10)
    print(f"{study(folder)}, from process {jax.process_index()} of {jax.process_count()}")


def on_this_machine():
    with socket.socket() as free, tempfile.TemporaryDirectory() as scratch:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
        free.close()
        commands = [[sys.executable, __file__, coordinator, "2", str(i), f"{scratch}/two"] for i in range(2)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
        said = [process.communicate()[0].splitlines()[-1] for process in processes]
        alone = study(f"{scratch}/one")
    print(*said, f"{alone}, from one process", sep="\n")
    assert all(line.startswith(alone) for line in said)


if __name__ == "__main__":
    one_of_many(*sys.argv[1:]) if sys.argv[1:] else on_this_machine()
