"""Workloads: what is trained. Real data, a model, its loss and its metric."""

from jaxopt_lec.lab.workloads.builtin import WORKLOADS, load_workload
from jaxopt_lec.lab.workloads.classification import Classification
from jaxopt_lec.lab.workloads.models import Activation, Initializer, Remedies
from jaxopt_lec.lab.workloads.workload import ACCURACY, Batch, Data, Score, Workload

__all__ = [
    "ACCURACY",
    "WORKLOADS",
    "Activation",
    "Batch",
    "Classification",
    "Data",
    "Initializer",
    "Remedies",
    "Score",
    "Workload",
    "load_workload",
]
