"""The table of cases for `jaxopt_lec.compat.torch`: PyTorch's own option database and what it leaves untested.

Options that only choose an implementation (foreach, fused, capturable, differentiable, a tensor as learning rate) are not
here: tests/compat/test_signatures.py says that they change nothing.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from problems import Case, Problem

Options = dict[str, Any]

# Followed in one way of use each, the plain one. The first lines of each are PyTorch's own database.
PLAIN: dict[str, list[Options]] = {
    "SGD": [
        {},
        {"lr": 1e-2},
        {"weight_decay": 0.5},
        {"momentum": 0.9},
        {"weight_decay": 0.1, "maximize": True},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "dampening": 1.0},
        {"lr": 0.1, "momentum": 0.9, "dampening": 1.0, "weight_decay": 0.5},
        {"lr": 0.1, "momentum": 0.5, "nesterov": True},
        {"lr": 0.1, "dampening": 0.5},
        {"lr": 0.1, "momentum": 0.99, "dampening": 0.9, "weight_decay": 0.3},
    ],
    "Adagrad": [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        {"lr": 0.1},
        {"initial_accumulator_value": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "eps": 0.5},
        {"lr": 0.5, "lr_decay": 0.1, "eps": 1e-3},
        {"lr": 0.1, "initial_accumulator_value": 2.0, "eps": 0.1},
    ],
    "RMSprop": [
        {},
        {"lr": 1e-3},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"weight_decay": 0.1, "centered": True},
        {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "centered": True, "momentum": 0.1},
        {"lr": 0.1, "eps": 0.5},
        {"lr": 0.02, "alpha": 0.9, "momentum": 0.9},
        {"lr": 0.1, "eps": 0.3, "centered": True},
        {"lr": 0.03, "alpha": 0.5, "eps": 1e-3},
        {"lr": 0.05, "alpha": 0.0, "eps": 0.1},
    ],
    "Adadelta": [
        {},
        {"lr": 0.01},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"weight_decay": 0.1, "maximize": True},
        {"rho": 0.95, "weight_decay": 0.9},
        {"lr": 0.1, "eps": 0.1},
        {"rho": 0.5, "eps": 1e-3},
        {"lr": 0.1, "rho": 0.0, "eps": 0.5},
    ],
    "Adam": [
        {},
        {"lr": 0.01},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "amsgrad": True},
        {"amsgrad": True},
        {"maximize": True, "amsgrad": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"lr": 0.1, "eps": 0.5},
        {"lr": 0.1, "eps": 0.5, "amsgrad": True},
        {"lr": 0.1, "betas": (0.5, 0.9)},
        {"lr": 0.1, "betas": (0.0, 0.99)},
        {"lr": 0.1, "betas": (0.9, 0.0), "eps": 0.1},
        {"lr": 0.1, "betas": (0.5, 0.9), "amsgrad": True},
        {"lr": 0.1, "weight_decay": 0.3, "maximize": True, "decoupled_weight_decay": True},
    ],
    "AdamW": [
        {},
        {"lr": 0.01},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "amsgrad": True},
        {"lr": 0.1, "weight_decay": 0.0},
        {"lr": 0.1, "amsgrad": True},
        {"lr": 0.1, "eps": 0.5, "weight_decay": 0.5},
        {"lr": 0.1, "betas": (0.5, 0.9), "maximize": True, "amsgrad": True},
    ],
    "NAdam": [
        {},
        {"lr": 1e-3},
        {"momentum_decay": 6e-3},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "momentum_decay": 6e-3},
        {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"lr": 0.1, "eps": 0.5},
        {"lr": 0.1, "momentum_decay": 1.0},
        {"lr": 0.1, "momentum_decay": 0.0},
        {"lr": 0.1, "betas": (0.5, 0.9), "momentum_decay": 0.3},
    ],
    "RAdam": [
        {},
        {"lr": 2e-3},
        {"eps": 1e-6},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"weight_decay": 0.1, "maximize": True},
        {"lr": 0.1, "eps": 0.5},
        {"lr": 0.1, "betas": (0.5, 0.9)},
        {"lr": 0.1, "betas": (0.9, 0.5), "eps": 0.1},  # ρ_∞ = 3: never rectified
        {"lr": 0.1, "betas": (0.0, 0.99)},
    ],
    "Adamax": [
        {},
        {"lr": 0.1},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"weight_decay": 0.1, "maximize": True},
        {"lr": 0.1, "eps": 0.5},
        {"lr": 0.1, "betas": (0.5, 0.9)},
        {"lr": 0.1, "betas": (0.0, 0.5), "eps": 1e-3},
    ],
    "ASGD": [
        {},
        {"lambd": 0.1},
        {"lr": 0.02},
        {"t0": 100},
        {"maximize": True},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        {"t0": 0},
        {"t0": 5.5, "lr": 0.05},
        {"lr": 0.1, "lambd": 1.0, "t0": 10},
        {"lr": 0.1, "lambd": 1.0, "alpha": 0.25},
        {"lr": 0.1, "lambd": 2.0, "alpha": 1.5, "t0": 3},
    ],
    "Rprop": [
        {},
        {"lr": 2e-4},
        {"etas": (0.5, 1.5)},
        {"step_sizes": (2e-6, 100)},
        {"maximize": True},
        {"lr": 0.1, "etas": (0.25, 1.1)},
        {"lr": 0.02, "step_sizes": (0.01, 0.03)},
        {"lr": 0.1, "step_sizes": (0.001, 0.05)},  # the first step is clipped
    ],
    "Adafactor": [
        {},
        {"weight_decay": 0.1, "lr": 0.01},
        {"weight_decay": 0.1, "maximize": True},
        {"beta2_decay": -1.0},
        {"d": 1.5},
        {"lr": 1.0},
        {"lr": 0.2, "beta2_decay": -0.3},
        {"lr": 0.1, "eps": (0.1, 1e-3)},
        {"lr": 0.1, "eps": (1.0, 1e-3)},
        {"lr": 0.1, "eps": (1e-30, 0.8)},
        {"lr": 0.1, "eps": (None, 2.0)},
        {"lr": 0.1, "d": 3.0, "beta2_decay": -0.5},
    ],
    "Muon": [
        {},
        {"lr": 0.01},
        {"weight_decay": 0.2},
        {"momentum": 0.8},
        {"ns_steps": 6},
        {"ns_coefficients": (3.4, -4.7, 2.0)},
        {"lr": 0.02, "nesterov": False},
        {"lr": 0.02, "momentum": 0.0},
        {"lr": 0.02, "ns_steps": 1},
        {"lr": 0.1, "ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 3},
        {"lr": 0.02, "adjust_lr_fn": "original"},
        {"lr": 0.1, "adjust_lr_fn": "match_rms_adamw"},
        {"lr": 0.1, "adjust_lr_fn": "match_rms_adamw", "nesterov": False, "weight_decay": 0.5},
        {"lr": 0.02, "eps": 1.0},
        {"lr": 0.02, "eps": 100.0, "nesterov": False},
    ],
    "SparseAdam": [
        {},
        {"lr": 0.01},
        {"maximize": True},
        {"lr": 0.1, "eps": 0.5},
        {"lr": 0.1, "betas": (0.5, 0.9)},
        {"lr": 0.1, "betas": (0.0, 0.99), "maximize": True},
    ],
    "LBFGS": [
        {},
        {"lr": 0.01},
        {"tolerance_grad": 1e-6},
        {"line_search_fn": "strong_wolfe"},
        {"lr": 0.3, "max_iter": 5, "history_size": 2},
        {"history_size": 1},
        {"lr": 0.3, "max_iter": 8, "max_eval": 3},
        {"lr": 0.5, "max_iter": 1},
        {"lr": 0.3, "max_iter": 10, "tolerance_change": 0.05},
        {"lr": 0.5, "max_iter": 10, "tolerance_grad": 0.5},
        {"lr": 0.7, "max_iter": 3, "line_search_fn": "strong_wolfe"},
        {"max_iter": 4, "max_eval": 6, "history_size": 3, "line_search_fn": "strong_wolfe"},
        {"lr": 10.0, "max_iter": 2, "line_search_fn": "strong_wolfe"},
    ],
}

# Followed in every way of use: plain, scheduled, with missing gradients, with both, complex.
CROSSED: dict[str, list[Options]] = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.03, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.8, "dampening": 0.5, "weight_decay": 0.2, "maximize": True},
        {"lr": 0.1, "momentum": 0.9, "dampening": 1.0, "weight_decay": 0.1},
    ],
    "Adagrad": [
        {"lr": 0.1, "lr_decay": 0.5, "weight_decay": 0.1},
        {"lr": 0.3, "eps": 0.1, "initial_accumulator_value": 0.5, "maximize": True},
    ],
    "RMSprop": [
        {"lr": 0.05, "eps": 0.1, "weight_decay": 0.1},
        {"lr": 0.05, "weight_decay": 0.1, "centered": True, "momentum": 0.1, "maximize": True},
        {"lr": 0.02, "alpha": 0.9, "momentum": 0.9, "eps": 1e-2},
    ],
    "Adadelta": [
        {"weight_decay": 0.1, "eps": 1e-3},
        {"lr": 0.3, "rho": 0.7, "eps": 0.1, "maximize": True},
    ],
    "Adam": [
        {"lr": 0.1, "eps": 0.1},
        {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.1, "amsgrad": True},
        {"lr": 0.05, "weight_decay": 0.2, "decoupled_weight_decay": True, "amsgrad": True, "maximize": True},
    ],
    "AdamW": [
        {"lr": 0.1, "eps": 0.1, "weight_decay": 0.3},
        {"lr": 0.1, "betas": (0.8, 0.95), "amsgrad": True, "maximize": True},
    ],
    "NAdam": [
        {"lr": 0.1, "eps": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "weight_decay": 0.1, "momentum_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    ],
    "RAdam": [
        {"lr": 0.1, "eps": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    ],
    "Adamax": [
        {"lr": 0.1, "eps": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "betas": (0.8, 0.7), "maximize": True},
    ],
    "ASGD": [
        {"lr": 0.1, "lambd": 0.5, "t0": 4, "weight_decay": 0.1},
        {"lr": 0.05, "lambd": 0.3, "alpha": 0.5, "t0": 0, "maximize": True},
    ],
    "Rprop": [
        {"lr": 0.02},
        {"lr": 0.05, "etas": (0.3, 1.5), "step_sizes": (0.01, 0.2), "maximize": True},
    ],
    "Adafactor": [
        {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.2, "eps": (0.05, 0.5), "d": 1.2, "beta2_decay": -0.6, "maximize": True},
    ],
    "Muon": [
        {"lr": 0.02},
        {"lr": 0.05, "adjust_lr_fn": "match_rms_adamw", "nesterov": False, "momentum": 0.7, "eps": 0.5},
    ],
    "SparseAdam": [
        {"lr": 0.1, "eps": 0.1},
        {"lr": 0.1, "betas": (0.8, 0.95), "maximize": True},
    ],
    "LBFGS": [
        {"lr": 0.3, "max_iter": 4},
        {"max_iter": 4, "line_search_fn": "strong_wolfe"},
    ],
}

# The arguments for all parameters, and the groups with their own: followed plain, scheduled, and with all of it at once.
GROUPED: dict[str, tuple[Options, tuple[Options, ...]]] = {
    "SGD": (
        {"lr": 0.05, "momentum": 0.9},
        (
            {"params": r"kernel$", "lr": 0.02, "nesterov": True},
            {"params": [r"bias", r"open/scale"], "momentum": 0.0, "weight_decay": 0.2, "maximize": True},
            {"dampening": 0.3},
        ),
    ),
    "Adagrad": (
        {"lr": 0.1, "initial_accumulator_value": 0.5},
        ({"params": r"kernel", "lr_decay": 0.3, "eps": 0.1}, {"weight_decay": 0.1, "initial_accumulator_value": 0.0}),
    ),
    "RMSprop": (
        {"lr": 0.05, "momentum": 0.5},
        (
            {"params": r"kernel|bias", "centered": True, "alpha": 0.9},
            {"params": r"embedding", "momentum": 0.0, "eps": 0.1, "maximize": True},
            {"weight_decay": 0.1},
        ),
    ),
    "Adadelta": (
        {"eps": 1e-3},
        ({"params": r"^open", "rho": 0.5}, {"lr": 0.5, "weight_decay": 0.1, "maximize": True}),
    ),
    "Adam": (
        {"lr": 0.1},
        (
            {"params": r"kernel$", "amsgrad": True, "betas": (0.8, 0.9)},
            {"params": [r"bias$", r"scale$"], "lr": 0.02, "weight_decay": 0.2, "eps": 0.1},
            {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
        ),
    ),
    "AdamW": (
        {"lr": 0.1, "weight_decay": 0.2},
        (
            {"params": [r"bias$", r"scale$"], "weight_decay": 0.0},
            {"params": r"^open/(kernel|embedding)", "amsgrad": True},
            {"eps": 0.1},
        ),
    ),
    "NAdam": (
        {"lr": 0.1, "weight_decay": 0.1},
        ({"params": r"kernel", "momentum_decay": 0.2, "decoupled_weight_decay": True}, {"betas": (0.7, 0.9), "eps": 0.1}),
    ),
    "RAdam": (
        {"lr": 0.1},
        ({"params": r"kernel", "betas": (0.7, 0.95)}, {"weight_decay": 0.1, "eps": 0.1, "maximize": True}),
    ),
    "Adamax": (
        {"lr": 0.1},
        ({"params": r"embedding", "betas": (0.7, 0.8), "eps": 0.1}, {"lr": 0.02, "weight_decay": 0.1, "maximize": True}),
    ),
    "ASGD": (
        {"lr": 0.1, "t0": 2},
        ({"params": r"kernel", "lambd": 0.5, "t0": 10}, {"lr": 0.02, "alpha": 0.3, "weight_decay": 0.1, "maximize": True}),
    ),
    "Rprop": (
        {"lr": 0.02},
        ({"params": r"kernel", "etas": (0.3, 1.4)}, {"lr": 0.05, "step_sizes": (0.01, 0.1), "maximize": True}),
    ),
    "Adafactor": (
        {"lr": 0.1},
        ({"params": r"kernel", "d": 2.0, "eps": (0.05, 0.5)}, {"lr": 0.05, "beta2_decay": -0.5, "weight_decay": 0.1}),
    ),
    "Muon": (
        {"lr": 0.1},
        ({"params": r"kernel", "nesterov": False, "ns_steps": 3}, {"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.3}),
    ),
    "SparseAdam": (
        {"lr": 0.1},
        ({"params": r"kernel", "betas": (0.5, 0.9)}, {"lr": 0.02, "eps": 0.1}),
    ),
}

# What a method can be followed on. Where the recorded gradients of one array are mixed, scales further apart would only
# hide the small ones: they are moderate there.
PROBLEMS = {
    "Adafactor": Problem(exponents=(-1, 0, 1)),
    "Muon": Problem(exponents=(-1, 0), leaves=("kernel", "embedding")),
    "SparseAdam": Problem(leaves=("kernel", "embedding", "bias"), sparse=True),
    "LBFGS": Problem(open=False, leaves=("kernel", "embedding", "bias")),
}
REAL_ONLY = ("Adafactor", "Muon", "SparseAdam")
FIXED: dict[str, dict[str, Any]] = {
    "ASGD": {"tracks": ("params", "average")},
    "Muon": {"condition": "orthogonalized in float64: PyTorch's own is bfloat16"},
    "LBFGS": {"steps": 3},  # of up to 20 iterations: later it has converged, and only rounding moves it
}


def cases() -> Iterator[Case]:
    for optimizer, options in PLAIN.items():
        base = Case(optimizer, problem=PROBLEMS.get(optimizer, Problem()), **FIXED.get(optimizer, {}))
        as_complex = dataclasses.replace(base.problem, is_complex=True)
        for given in options:
            yield dataclasses.replace(base, options=given)
        for given in CROSSED[optimizer]:
            plain = dataclasses.replace(base, options=given)
            yield plain
            yield dataclasses.replace(plain, scheduled=True)
            if optimizer != "LBFGS":
                yield dataclasses.replace(plain, missing=True)
                yield dataclasses.replace(plain, missing=True, scheduled=True)
            if optimizer not in REAL_ONLY:
                yield dataclasses.replace(plain, problem=as_complex)
        if optimizer in GROUPED:
            given, groups = GROUPED[optimizer]
            plain = dataclasses.replace(base, options=given, groups=groups)
            yield plain
            yield dataclasses.replace(plain, scheduled=True)
            yield dataclasses.replace(plain, missing=True)
            if optimizer not in REAL_ONLY:
                yield dataclasses.replace(plain, problem=as_complex, missing=True)


CASES = {str(case): case for case in cases()}
