"""Tune an optimizer: a grid over several hyperparameters and seeds, in a few programs, as a study that can be interrupted.

You learn: `sweep` trains a workload at every point of a grid with every seed, and gives a tidy table and all curves; what is
no number, such as the optimizer itself, is swept too; hopeless points stop early; a study in a folder survives a kill.
"""

import tempfile
from pathlib import Path

import numpy as np

import jaxopt_lec as jl
from jaxopt_lec import lab
from jaxopt_lec.lab.workloads import load_workload

lab.use_all_cores()


def make(method, learning_rate, weight_decay):
    """Any function of hyperparameters that returns an Optax transformation."""
    return method(learning_rate, weight_decay=weight_decay)


task = lab.Training(make, load_workload("digits-logistic"), steps=180)
grid = lab.grid(method=[jl.adamw, jl.lion], learning_rate=np.geomspace(1e-3, 1.0, 7), weight_decay=[0.0, 0.01, 0.1])


def a_grid():
    found = lab.sweep(task, grid, seeds=3)
    print(f"{len(found.table)} trainings of {task.steps} steps\n")
    means = found.table.groupby(["method", "weight_decay", "learning_rate"])["validation_accuracy"].mean()
    print((100 * means).unstack().rename(columns="{:.3g}".format).to_string(float_format="{:.1f}".format), "\n")
    best = found.best
    print(f"best: {best['method'].__name__}, rate {best['learning_rate']:.3g}, weight decay {best['weight_decay']}\n")
    assert found.curves.shape == (2 * 7 * 3 * 3, 180)
    return found


def the_best_go_on(whole):
    found = lab.sweep(task, grid, seeds=3, halving=lab.Halving(keep=1 / 3, cuts=2))
    print("with halving:", found.table["steps_taken"].value_counts().to_dict(), "lanes by their steps")
    assert found.objectives.min() <= 1.05 * whole.objectives.min()


def a_study_that_was_interrupted(folder):
    points = lab.random_grid(6, 0, method=jl.adamw, learning_rate=lab.log_uniform(1e-3, 1.0), weight_decay=0.01)
    first = lab.sweep(task, points, seeds=3, study=folder)
    for file in folder.glob("lanes-*"):  # as if it had been killed before they were done
        file.unlink()
    again = lab.sweep(task, points, seeds=3, study=folder)
    np.testing.assert_array_equal(first.curves, again.curves)
    print("a study that was interrupted ends with the same numbers, to the last bit")


if __name__ == "__main__":
    the_best_go_on(a_grid())
    with tempfile.TemporaryDirectory() as scratch:
        a_study_that_was_interrupted(Path(scratch) / "study")
