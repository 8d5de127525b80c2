"""Optimizers for JAX, each written as its equation."""

from jaxopt_lec.equation import EquationState, LeafCounts, count_by_leaf, equation, tree_equation
from jaxopt_lec.fusing.fuse import Fused, fuse
from jaxopt_lec.hyperparameters import Decay, Hyper, NonNegative, Positive, Range
from jaxopt_lec.optimizers.adadelta import adadelta, scale_by_adadelta
from jaxopt_lec.optimizers.adafactor import adafactor, scale_by_adafactor
from jaxopt_lec.optimizers.adagrad import adagrad, scale_by_adagrad
from jaxopt_lec.optimizers.adam import adam, scale_by_adam
from jaxopt_lec.optimizers.adamax import adamax, scale_by_adamax
from jaxopt_lec.optimizers.adamw import adamw, add_decayed_weights, decay_weights
from jaxopt_lec.optimizers.amsgrad import amsgrad, scale_by_amsgrad
from jaxopt_lec.optimizers.asgd import asgd, scale_by_asgd
from jaxopt_lec.optimizers.batch_gradient_descent import full_batch_value_and_grad
from jaxopt_lec.optimizers.ftrl import ftrl, scale_by_ftrl
from jaxopt_lec.optimizers.lamb import lamb, scale_by_trust_ratio
from jaxopt_lec.optimizers.lion import lion, scale_by_lion
from jaxopt_lec.optimizers.momentum import momentum, scale_by_momentum
from jaxopt_lec.optimizers.muon import muon, orthogonalize
from jaxopt_lec.optimizers.nadam import nadam, scale_by_nadam
from jaxopt_lec.optimizers.nesterov import (
    nesterov,
    nesterov_exact,
    nesterov_parameters,
    scale_by_nesterov,
    scale_by_nesterov_exact,
)
from jaxopt_lec.optimizers.newton import newton, newton_cg, scale_by_newton, scale_by_newton_cg
from jaxopt_lec.optimizers.radam import radam, scale_by_radam
from jaxopt_lec.optimizers.rmsprop import rmsprop, scale_by_centered_rmsprop, scale_by_rmsprop
from jaxopt_lec.optimizers.rprop import rprop, scale_by_rprop
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate, sgd
from jaxopt_lec.paths import named_leaves

__all__ = [
    "Decay",
    "EquationState",
    "Fused",
    "Hyper",
    "LeafCounts",
    "NonNegative",
    "Positive",
    "Range",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "add_decayed_weights",
    "amsgrad",
    "asgd",
    "count_by_leaf",
    "decay_weights",
    "equation",
    "ftrl",
    "full_batch_value_and_grad",
    "fuse",
    "lamb",
    "lion",
    "momentum",
    "muon",
    "nadam",
    "named_leaves",
    "nesterov",
    "nesterov_exact",
    "nesterov_parameters",
    "newton",
    "newton_cg",
    "orthogonalize",
    "radam",
    "rmsprop",
    "rprop",
    "scale_by_adadelta",
    "scale_by_adafactor",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_amsgrad",
    "scale_by_asgd",
    "scale_by_centered_rmsprop",
    "scale_by_ftrl",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_momentum",
    "scale_by_nadam",
    "scale_by_nesterov",
    "scale_by_nesterov_exact",
    "scale_by_newton",
    "scale_by_newton_cg",
    "scale_by_radam",
    "scale_by_rmsprop",
    "scale_by_rprop",
    "scale_by_trust_ratio",
    "sgd",
    "tree_equation",
]
