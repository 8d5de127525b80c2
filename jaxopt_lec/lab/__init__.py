"""Research tools: fair comparisons of optimizers on small, real workloads, and searches over loss surfaces.

Comparing and drawing need the extra ``[lab]``; what is re-exported here does not.
"""

from jaxopt_lec.lab import surfaces
from jaxopt_lec.lab.minimize import Minimization, Stop, Tolerances, minimize
from jaxopt_lec.lab.multi_start import Basin, MultiStart, multi_start
from jaxopt_lec.lab.observe import Observed, Statistics, observe
from jaxopt_lec.lab.starts import grid_starts, random_starts

__all__ = [
    "Basin",
    "Minimization",
    "MultiStart",
    "Observed",
    "Statistics",
    "Stop",
    "Tolerances",
    "grid_starts",
    "minimize",
    "multi_start",
    "observe",
    "random_starts",
    "surfaces",
]
