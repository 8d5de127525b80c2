"""Research tools: fair comparisons of optimizers on small, real workloads, and searches over loss surfaces.

Comparing and drawing need the extra ``[lab]``; what is re-exported here does not.
"""

from jaxopt_lec.lab import surfaces
from jaxopt_lec.lab.devices import use_all_cores
from jaxopt_lec.lab.errors import InputError, LostProcessError
from jaxopt_lec.lab.grid import choice, grid, log_uniform, random_grid, static, uniform
from jaxopt_lec.lab.minimize import Minimization, Stop, Tolerances, minimize
from jaxopt_lec.lab.multi_start import Basin, MultiStart, multi_start
from jaxopt_lec.lab.observe import Observed, Statistics, observe
from jaxopt_lec.lab.starts import grid_starts, random_starts
from jaxopt_lec.lab.sweep import Halving, Sweep, sweep
from jaxopt_lec.lab.tasks import Minimizing, Running, Training

__all__ = [
    "Basin",
    "Halving",
    "InputError",
    "LostProcessError",
    "Minimization",
    "Minimizing",
    "MultiStart",
    "Observed",
    "Running",
    "Statistics",
    "Stop",
    "Sweep",
    "Tolerances",
    "Training",
    "choice",
    "grid",
    "grid_starts",
    "log_uniform",
    "minimize",
    "multi_start",
    "observe",
    "random_grid",
    "random_starts",
    "static",
    "surfaces",
    "sweep",
    "uniform",
    "use_all_cores",
]
