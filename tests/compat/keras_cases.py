"""The table of cases for `jaxopt_lec.compat.keras`: each optimizer's own options, and the ones that all of them share."""

from collections.abc import Iterator
from typing import Any

from problems import Case, Problem

Options = dict[str, Any]

# Each optimizer's own options.
OWN: dict[str, list[Options]] = {
    "SGD": [
        {},
        {"momentum": 0.9},
        {"learning_rate": 0.03, "momentum": 0.9, "nesterov": True},
        {"learning_rate": 0.1, "nesterov": True},
    ],
    "Adagrad": [
        {},
        {"learning_rate": 0.1, "initial_accumulator_value": 0.0},
        {"learning_rate": 0.1, "initial_accumulator_value": 1.0, "epsilon": 0.5},
    ],
    "RMSprop": [
        {},
        {"learning_rate": 0.05, "epsilon": 0.1},
        {"learning_rate": 0.02, "rho": 0.95, "momentum": 0.8},
        {"learning_rate": 0.02, "centered": True, "epsilon": 1e-2},
        {"learning_rate": 0.02, "centered": True, "momentum": 0.5, "rho": 0.8, "epsilon": 0.1},
    ],
    "Adadelta": [
        {},
        {"learning_rate": 1.0, "rho": 0.9},
        {"learning_rate": 0.1, "rho": 0.7, "epsilon": 0.1},
    ],
    "Adam": [
        {},
        {"learning_rate": 0.1, "epsilon": 0.1},
        {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.9, "amsgrad": True},
        {"learning_rate": 0.05, "amsgrad": True, "epsilon": 0.5},
    ],
    "AdamW": [
        {},
        {"learning_rate": 0.1, "weight_decay": 0.3, "epsilon": 0.1},
        {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.9, "amsgrad": True},
        {"learning_rate": 0.1, "weight_decay": 0.0},
    ],
    "Adamax": [
        {},
        {"learning_rate": 0.1, "epsilon": 0.5},
        {"learning_rate": 0.05, "beta_1": 0.7, "beta_2": 0.8},
    ],
    "Nadam": [
        {},
        {"learning_rate": 0.1, "epsilon": 0.1},
        {"learning_rate": 0.05, "beta_1": 0.7, "beta_2": 0.9},
    ],
    "Ftrl": [
        {},
        {"learning_rate": 0.1, "learning_rate_power": -0.7},
        {"learning_rate": 0.1, "learning_rate_power": 0.0},
        {"learning_rate": 0.1, "initial_accumulator_value": 1.0, "beta": 0.5},
        {"learning_rate": 0.2, "l1_regularization_strength": 0.3, "l2_regularization_strength": 0.2},
        {"learning_rate": 0.2, "l2_shrinkage_regularization_strength": 0.3},
        {
            "learning_rate": 0.3,
            "learning_rate_power": -0.4,
            "initial_accumulator_value": 0.5,
            "l1_regularization_strength": 0.05,
            "l2_regularization_strength": 0.1,
            "l2_shrinkage_regularization_strength": 0.1,
            "beta": 0.2,
        },
    ],
    "Lion": [
        {},
        {"learning_rate": 0.02, "beta_1": 0.8, "beta_2": 0.9},
    ],
    "Adafactor": [
        {},
        {"learning_rate": 0.1, "beta_2_decay": -0.5},
        {"relative_step": False},
        {"learning_rate": 0.1, "epsilon_1": 0.1, "epsilon_2": 0.7, "clip_threshold": 2.0},
        {"learning_rate": 0.03, "clip_threshold": 0.5},
    ],
    "Lamb": [
        {},
        {"learning_rate": 0.1, "epsilon": 0.1},
        {"learning_rate": 0.05, "beta_1": 0.7, "beta_2": 0.9},
    ],
    "Muon": [
        {},
        {"learning_rate": 0.02, "exclude_embeddings": False},
        {"learning_rate": 0.02, "exclude_embeddings": False, "nesterov": False, "momentum": 0.8},
        {"learning_rate": 0.02, "exclude_layers": ["open", "bias"], "adam_lr_ratio": 0.3},
        {"learning_rate": 0.02, "exclude_layers": [r"closed/k"], "exclude_embeddings": False},
        {"learning_rate": 0.02, "rms_rate": None, "exclude_embeddings": False, "weight_decay": 0.3},
        {"learning_rate": 0.02, "adam_beta_1": 0.7, "adam_beta_2": 0.9, "epsilon": 0.1, "adam_weight_decay": 0.2},
        {"learning_rate": 0.02, "muon_a": 2.0, "muon_b": -1.5, "muon_c": 0.5, "ns_steps": 3, "rms_rate": 0.5},
        {"learning_rate": 0.02, "weight_decay": None, "adam_weight_decay": None},
    ],
    "ScheduleFreeAdamW": [
        {},
        {"learning_rate": 0.05, "epsilon": 0.1},
        {"learning_rate": 0.05, "beta_1": 0.7, "beta_2": 0.9, "warmup_steps": 10},
        {"learning_rate": 0.05, "beta_1": 0.98, "epsilon": 1e-2, "warmup_steps": 100},
    ],
}

# One lively set of options for each, that the ways of use and the shared options are crossed with.
LIVELY: dict[str, Options] = {
    "SGD": {"learning_rate": 0.03, "momentum": 0.9, "nesterov": True},
    "Adagrad": {"learning_rate": 0.1, "epsilon": 1e-2},
    "RMSprop": {"learning_rate": 0.02, "centered": True, "momentum": 0.5, "epsilon": 1e-2},
    "Adadelta": {"learning_rate": 0.3, "epsilon": 1e-2},
    "Adam": {"learning_rate": 0.05, "amsgrad": True, "epsilon": 1e-2},
    "AdamW": {"learning_rate": 0.05, "epsilon": 1e-2},
    "Adamax": {"learning_rate": 0.05, "epsilon": 1e-2},
    "Nadam": {"learning_rate": 0.05, "epsilon": 1e-2},
    "Ftrl": {"learning_rate": 0.1, "l1_regularization_strength": 0.1, "l2_shrinkage_regularization_strength": 0.1},
    "Lion": {"learning_rate": 0.02},
    "Adafactor": {"learning_rate": 0.03},
    "Lamb": {"learning_rate": 0.05, "epsilon": 1e-2},
    "Muon": {"learning_rate": 0.02},
    "ScheduleFreeAdamW": {"learning_rate": 0.05, "epsilon": 1e-2, "warmup_steps": 6},
}

DECAYED: Options = {"weight_decay": 0.3, "exclude_from_weight_decay": ("bias", "scale$|nothing")}
AVERAGED: Options = {"use_ema": True, "ema_momentum": 0.8}

# The options that all share, on a method whose steps are linear in the gradient, one that is adaptive, those that look at
# the variable itself, and one whose state is not all shaped like it.
SHARED: list[tuple[str, Options]] = [
    ("SGD", {"clipnorm": 0.5}),
    ("Adagrad", {"clipnorm": 0.5}),
    ("SGD", {"clipvalue": 0.2}),
    ("Adam", {"clipvalue": 0.2}),
    ("SGD", {"global_clipnorm": 1.0}),
    ("Ftrl", {"global_clipnorm": 1.0}),
    ("Muon", {"global_clipnorm": 1.0}),
    ("SGD", {"global_clipnorm": 1e4}),  # never reached
    ("SGD", {"loss_scale_factor": 8.0}),
    ("Adagrad", {"loss_scale_factor": 0.25, "clipnorm": 0.5}),
    ("SGD", AVERAGED),
    ("Adam", {"use_ema": True}),
    ("Nadam", AVERAGED | {"ema_overwrite_frequency": 4}),
    ("SGD", AVERAGED | {"ema_overwrite_frequency": 7} | DECAYED),
    ("Lamb", AVERAGED | {"ema_overwrite_frequency": 1}),
    ("SGD", {"gradient_accumulation_steps": 2}),
    ("Adam", {"gradient_accumulation_steps": 4}),
    ("Nadam", {"gradient_accumulation_steps": 3}),
    ("Adafactor", {"gradient_accumulation_steps": 3}),
    ("Lion", {"gradient_accumulation_steps": 2} | DECAYED),
    ("Muon", {"gradient_accumulation_steps": 2}),
    ("Adagrad", {"gradient_accumulation_steps": 4, "clipnorm": 0.5}),
    ("SGD", {"gradient_accumulation_steps": 3, "global_clipnorm": 1.0, "loss_scale_factor": 4.0} | DECAYED),
    ("SGD", {"gradient_accumulation_steps": 3} | AVERAGED),
    ("Adam", {"gradient_accumulation_steps": 3} | AVERAGED | {"ema_overwrite_frequency": 2}),
    ("ScheduleFreeAdamW", {"clipnorm": 0.5}),
    ("ScheduleFreeAdamW", AVERAGED | {"ema_overwrite_frequency": 4}),
    ("ScheduleFreeAdamW", {"gradient_accumulation_steps": 3, "global_clipnorm": 1.0, "loss_scale_factor": 4.0} | DECAYED),
]

# Several at once, and the ways in which they could be in each other's way.
COMBINED: list[tuple[str, Options, dict[str, Any]]] = [
    ("SGD", DECAYED, {"scheduled": True}),
    ("AdamW", {"exclude_from_weight_decay": ("kernel",)}, {"scheduled": True}),
    ("SGD", {"gradient_accumulation_steps": 3} | DECAYED, {"scheduled": True}),
    ("Adam", {"gradient_accumulation_steps": 4, "clipvalue": 0.3} | AVERAGED, {"scheduled": True}),
    ("SGD", AVERAGED | {"ema_overwrite_frequency": 5}, {"missing": True}),
    ("SGD", {"global_clipnorm": 1.0} | DECAYED, {"missing": True}),
    ("Adam", {"clipnorm": 0.5} | DECAYED, {"missing": True, "scheduled": True}),
    ("Muon", {"exclude_embeddings": False, "clipvalue": 0.3}, {"missing": True, "scheduled": True}),
    ("SGD", {"gradient_accumulation_steps": 2}, {"missing": True}),
    ("Adam", {"gradient_accumulation_steps": 4} | DECAYED, {"missing": True, "scheduled": True}),
    ("ScheduleFreeAdamW", {"clipvalue": 0.3} | DECAYED, {"missing": True, "scheduled": True}),
    # A rate above 1/√t, which holds it down; with large steps, so only a few of them.
    ("Adafactor", {"learning_rate": 0.4, "relative_step": False}, {"steps": 20}),
    ("Adafactor", {"learning_rate": 0.4, "relative_step": True}, {"steps": 20}),
    ("Adafactor", {"learning_rate": 0.4}, {"steps": 20, "scheduled": True}),
]

# Where the gradients of one array or of all are mixed, scales further apart would only hide the small ones.
MODERATE = Problem(exponents=(-1, 0, 1))
PROBLEMS = {"Adafactor": MODERATE, "Muon": Problem(exponents=(-1, 0))}
CONDITIONS = {
    "Adafactor": "means in float64: on JAX, Keras takes them in float32",
    "Muon": "norms in float64: on JAX, Keras takes them in float32",
}


def case(optimizer: str, options: Options, **use: Any) -> Case:
    mixed = "clipnorm" in options or "global_clipnorm" in options
    problem = PROBLEMS.get(optimizer, MODERATE if mixed else Problem())
    tracks = ("params", "average") if options.get("use_ema") else ("params",)
    return Case(optimizer, options, problem, tracks=tracks, condition=CONDITIONS.get(optimizer, ""), **use)


def cases() -> Iterator[Case]:
    for optimizer, options in OWN.items():
        for given in options:
            yield case(optimizer, given)
        lively = LIVELY[optimizer]
        yield case(optimizer, lively, scheduled=True)
        yield case(optimizer, lively, missing=True)
        yield case(optimizer, lively | DECAYED)
    for optimizer, given in SHARED:
        yield case(optimizer, LIVELY[optimizer] | given)
    for optimizer, given, use in COMBINED:
        yield case(optimizer, LIVELY[optimizer] | given, **use)


CASES = {str(case): case for case in cases()}
