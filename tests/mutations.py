"""Check that the tests catch deliberate faults: each is planted in a copy of the repository, and its tests must fail.

    python tests/mutations.py [-k PATTERN] [--list] [-j JOBS]

It is not part of the test suite, because it takes some minutes. Run it after changing the tests, above all after making them
faster: a fault that no test catches shows that a test is missing.

To add a fault, add a `Mutation` below. `old` must stand in the file exactly once: take a short piece of one line, which
edits nearby do not change. `tests` are arguments of pytest that select the fewest tests that should fail. The fault should
be one that a person could make; the package must still import. If the code has changed and `old` is no longer there, the
fault is reported as an error: update `old`.

Each run is a fork of this process, which has imported JAX and the rest but nothing of this project. Nothing is written into
the working tree, and the copies are removed however this process ends. Compiled programs are shared by all runs through
JAX's cache, whose keys are the programs.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("jaxopt_lec", "tests", "docs", "examples", "pyproject.toml")
# What the tests import besides the project, once for all runs.
LIBRARIES = (
    "chex",
    "flax.linen",
    "flax.nnx",
    "hypothesis",
    "jax.experimental.pallas.triton",
    "matplotlib.pyplot",
    "numba",
    "orbax.checkpoint",
    "pandas",
    "rich",
    "scipy.stats",
    "sklearn.datasets",
    "torch",
    "typer",
)
LONGEST = 300  # seconds; what takes longer hangs


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One deliberate fault.

    Attributes:
        name: to find it by.
        file: where, in `jaxopt_lec`.
        fault: what is wrong then.
        old, new: the text that is replaced, which must be there exactly once, and what takes its place.
        tests: arguments of pytest, which select the tests that should fail.
    """

    name: str
    file: str
    fault: str
    old: str
    new: str
    tests: str

    def planted_in(self, root: Path) -> str:
        """Return the file's text with the fault."""
        text = (root / "jaxopt_lec" / self.file).read_text(encoding="utf-8")
        if (times := text.count(self.old)) != 1:
            raise LookupError(f"the text to replace is there {times} times, not once: {self.old!r}")
        return text.replace(self.old, self.new)


def oracle(row: str) -> str:
    """Select the comparison of a row of tests/cases.py with its NumPy loop, in float64 and with a constant rate."""
    return f'tests/test_laws.py -k "float64_equals and [{row}-number]"'


MUTATIONS = [
    # --- arithmetic
    Mutation(
        "abs2-without-the-conjugate",
        "arithmetic.py",
        "|x|² of complex x is Re x², as if a conjugate were missing.",
        "x.real**2 + x.imag**2",
        "x.real**2 - x.imag**2",
        'tests/test_laws.py -k "float64_equals and [adam-number]"',
    ),
    Mutation(
        "sqrt-derivative-doubled",
        "arithmetic.py",
        "The derivative of √x is 1/√x, not 1/(2√x).",
        "2 * root, 1",
        "root, 1",
        'tests/test_laws.py -k "differentiable_in and [adam]"',
    ),
    Mutation(
        "sqrt-derivative-at-zero",
        "arithmetic.py",
        "The derivative of √x at 0 is infinite, as JAX's own.",
        "jnp.where(root > 0, tangents[0] / jnp.where(root > 0, 2 * root, 1), 0)",
        "tangents[0] / (2 * root)",
        "tests/test_equation.py -k sqrt_has_a_finite_derivative",
    ),
    Mutation(
        "one-minus-power-cancels",
        "arithmetic.py",
        "1 − bᵗ is computed as written, and cancels in float32.",
        "-jnp.expm1(t * jnp.log1p(-c))",
        "1 - jnp.power(1 - c, t)",
        "tests/test_equation.py -k one_minus_power_is_accurate",
    ),
    Mutation(
        "one-minus-power-derivative",
        "arithmetic.py",
        "The derivative of 1 − bᵗ lacks the factor t.",
        "t * jnp.power(1 - c, t - 1)",
        "jnp.power(1 - c, t - 1)",
        "tests/test_equation.py -k one_minus_power_has",
    ),
    Mutation(
        "debias-by-the-next-step",
        "arithmetic.py",
        "An average is debiased by 1 − bᵗ⁺¹.",
        "average / one_minus_power(b, t)",
        "average / one_minus_power(b, t + 1)",
        oracle("adamax"),
    ),
    # --- equations
    Mutation(
        "sgd-uphill",
        "optimizers/sgd.py",
        "The learning rate keeps the sign of the gradient.",
        "(-learning_rate if flip_sign else learning_rate) * g",
        "learning_rate * g",
        oracle("sgd"),
    ),
    Mutation(
        "momentum-rate-outside",
        "optimizers/momentum.py",
        "The rate stands outside the velocity where it should stand inside, and the other way round.",
        "if learning_rate_inside:",
        "if not learning_rate_inside:",
        'tests/test_laws.py -k "float64_equals and [momentum-schedule]"',
    ),
    Mutation(
        "momentum-first-step-dampened",
        "optimizers/momentum.py",
        "Dampening acts in the first step too.",
        "jnp.where(t == 1, 1, complement(dampening))",
        "complement(dampening)",
        oracle("momentum_dampened"),
    ),
    Mutation(
        "nesterov-without-look-ahead",
        "optimizers/nesterov.py",
        "The step is the velocity, as in plain momentum.",
        "return decay * v + g, ",
        "return v, ",
        oracle("nesterov"),
    ),
    Mutation(
        "nesterov-exact-looks-back",
        "optimizers/nesterov.py",
        "The gradient is taken at θ + γ v, behind and not ahead.",
        "lambda p, v: p - decay * v",
        "lambda p, v: p + decay * v",
        "tests/test_nesterov.py -k look_ahead_and_exact",
    ),
    Mutation(
        "nesterov-exact-conjugate",
        "optimizers/nesterov.py",
        "The gradient of complex parameters is not conjugated.",
        "optax.tree.conj(jax.grad(f)(look_ahead))",
        "jax.grad(f)(look_ahead)",
        'tests/test_laws.py -k "float64_equals and [nesterov_exact-number]"',
    ),
    Mutation(
        "nesterov-parameters-ignore-the-rate",
        "optimizers/nesterov.py",
        "The textbook's θ is recovered without the rate that stands outside the velocity.",
        "if not learning_rate_inside:",
        "if False:",
        "tests/test_nesterov.py -k recovery_with_the_learning_rate_outside",
    ),
    Mutation(
        "adagrad-decays-a-step-early",
        "optimizers/adagrad.py",
        "The rate's decay counts steps from 1, not from 0.",
        "(t - 1) * learning_rate_decay",
        "t * learning_rate_decay",
        oracle("adagrad_decayed"),
    ),
    Mutation(
        "adagrad-eps-outside-the-root",
        "optimizers/adagrad.py",
        "ε_root is added outside the root.",
        "sqrt(G + eps_root) + eps",
        "sqrt(G) + eps_root + eps",
        oracle("adagrad_slide"),
    ),
    Mutation(
        "rmsprop-not-centered",
        "optimizers/rmsprop.py",
        "The variance is the second moment.",
        "G - abs2(m)",
        "G",
        oracle("rmsprop_centered"),
    ),
    Mutation(
        "rmsprop-momentum-before-the-root",
        "optimizers/rmsprop.py",
        "The velocity is over the gradients, and divided afterwards.",
        "scale(decay=decay, eps=eps, eps_root=eps_root),\n"
        "        *([] if momentum is None else [scale_by_momentum(decay=momentum)]),",
        "*([] if momentum is None else [scale_by_momentum(decay=momentum)]),\n"
        "        scale(decay=decay, eps=eps, eps_root=eps_root),",
        oracle("rmsprop_momentum"),
    ),
    Mutation(
        "adadelta-eps-of-the-numerator",
        "optimizers/adadelta.py",
        "ε of the numerator stands outside its root.",
        "sqrt(s.S + eps)",
        "(sqrt(s.S) + eps)",
        oracle("adadelta"),
    ),
    Mutation(
        "adadelta-sums-gradients",
        "optimizers/adadelta.py",
        "The second average is of the gradient, not of the step.",
        "ema(s.S, abs2(delta), rho)",
        "ema(s.S, abs2(g), rho)",
        oracle("adadelta"),
    ),
    Mutation(
        "adam-eps-inside-the-root",
        "optimizers/adam.py",
        "ε is added inside the root.",
        "eps_root) + eps + eps_hat",
        "eps_root + eps) + eps_hat",
        oracle("adam"),
    ),
    Mutation(
        "adam-second-correction-dropped",
        "optimizers/adam.py",
        "v is not divided by 1−β₂ᵗ.",
        "sqrt(v / c2 +",
        "sqrt(v +",
        oracle("adam"),
    ),
    Mutation(
        "adam-eps-hat-uncorrected",
        "optimizers/adam.py",
        "ε̂ is not divided by √(1−β₂ᵗ).",
        "eps_hat / sqrt(c2))",
        "eps_hat)",
        oracle("adam_hat"),
    ),
    Mutation(
        "adamw-coupled",
        "optimizers/adamw.py",
        "The decay is added to the gradient before Adam sees it.",
        "scale_by_adam(b1=b1, b2=b2, eps=eps, eps_root=eps_root),\n"
        '        masked("adamw", add_decayed_weights(weight_decay=weight_decay), mask),',
        'masked("adamw", add_decayed_weights(weight_decay=weight_decay), mask),\n'
        "        scale_by_adam(b1=b1, b2=b2, eps=eps, eps_root=eps_root),",
        oracle("adamw"),
    ),
    Mutation(
        "decay-without-the-rate",
        "optimizers/adamw.py",
        "A decay that is a step of its own is not multiplied by the rate.",
        "g - learning_rate * weight_decay * p",
        "g - weight_decay * p",
        oracle("sgd_decayed"),
    ),
    Mutation(
        "amsgrad-without-the-maximum",
        "optimizers/amsgrad.py",
        "v_max is the last v.",
        "jnp.maximum(s.v_max, v)",
        "v",
        oracle("amsgrad"),
    ),
    Mutation(
        "adamax-eps-outside-the-maximum",
        "optimizers/adamax.py",
        "ε_max is added to the maximum, in each step anew.",
        "jnp.abs(g) + eps_max)",
        "jnp.abs(g)) + eps_max",
        oracle("adamax_torch"),
    ),
    Mutation(
        "nadam-momentum-of-the-step-before",
        "optimizers/nadam.py",
        "m̂ takes μₜ where it should take μₜ₊₁.",
        "mu(t + 1) * m /",
        "mu(t) * m /",
        oracle("nadam"),
    ),
    Mutation(
        "radam-not-rectified",
        "optimizers/radam.py",
        "rₜ is left out.",
        "sqrt(jnp.maximum(r2, 0)) * m_hat",
        "m_hat",
        oracle("radam"),
    ),
    Mutation(
        "radam-series-coefficient",
        "optimizers/radam.py",
        "A coefficient of the series for ρₜ is half of what it should be.",
        "19 * c**3 / 360",
        "19 * c**3 / 720",
        "tests/test_equation.py -k averaged_steps",
    ),
    Mutation(
        "lion-one-decay-for-both",
        "optimizers/lion.py",
        "The momentum takes β₁ in place of β₂.",
        '"m": ema(s.m, g, b2)',
        '"m": ema(s.m, g, b1)',
        oracle("lion"),
    ),
    Mutation(
        "rprop-remembers-a-turned-gradient",
        "optimizers/rprop.py",
        "A gradient that turned is used and remembered, not set to 0.",
        "g = jnp.where(turned, 0, g)",
        "",
        oracle("rprop"),
    ),
    Mutation(
        "rprop-without-the-largest-step",
        "optimizers/rprop.py",
        "Step sizes grow without bound.",
        "step_min, step_max)\n    g",
        "step_min, jnp.inf)\n    g",
        "tests/theory/test_matrix_methods.py -k rprop_step_sizes",
    ),
    Mutation(
        "asgd-rate-without-its-power",
        "optimizers/asgd.py",
        "The rate falls like 1/t, not like t^−α.",
        "learning_rate * t) ** power",
        "learning_rate * t)",
        oracle("asgd"),
    ),
    Mutation(
        "asgd-averages-the-parameter-before",
        "optimizers/asgd.py",
        "The average is of θ before the step.",
        "(p + u - s.average)",
        "(p - s.average)",
        'tests/compat/test_trajectories.py -k "trajectory_is and torch-ASGD and scheduled and not missing"',
    ),
    Mutation(
        "adafactor-decay-of-the-next-step",
        "optimizers/adafactor.py",
        "1−β̂₂ is (t+1)^−c.",
        "t**-decay_power",
        "(t + 1) ** -decay_power",
        oracle("adafactor"),
    ),
    Mutation(
        "adafactor-mean-factor-missing",
        "optimizers/adafactor.py",
        "The product of row and column means is not divided by the mean of the rows' means.",
        "V_hat = R / jnp.maximum(jnp.mean(R, -2, keepdims=True), eps_floor) * C",
        "V_hat = R * C",
        oracle("adafactor"),
    ),
    Mutation(
        "adafactor-not-clipped",
        "optimizers/adafactor.py",
        "A long step is not shortened.",
        "U = U / jnp.maximum(1, rms(U) / clip_threshold)",
        "",
        oracle("adafactor"),
    ),
    Mutation(
        "adafactor-rate-never-falls",
        "optimizers/adafactor.py",
        "The rate is η also where 1/√t is smaller.",
        "jnp.minimum(learning_rate, 1 / sqrt(t))",
        "learning_rate",
        'tests/compat/test_trajectories.py -k "trajectory_is and torch-Adafactor and maximize and not missing"',
    ),
    Mutation(
        "lamb-mean-for-norm",
        "optimizers/lamb.py",
        "The norm of θ is its root mean square.",
        "sqrt(jnp.sum(abs2(p)))",
        "sqrt(jnp.mean(abs2(p)))",
        oracle("lamb"),
    ),
    Mutation(
        "lamb-ratio-before-the-decay",
        "optimizers/lamb.py",
        "The trust ratio is of the direction without its decay.",
        'masked("lamb", add_decayed_weights(weight_decay=weight_decay), mask),\n        scale_by_trust_ratio(),',
        'scale_by_trust_ratio(),\n        masked("lamb", add_decayed_weights(weight_decay=weight_decay), mask),',
        oracle("lamb_decayed"),
    ),
    Mutation(
        "lamb-at-zero",
        "optimizers/lamb.py",
        "A parameter that is 0 never moves.",
        "(p_norm > 0) & (g_norm > 0)",
        "g_norm > 0",
        "tests/theory/test_matrix_methods.py -k lamb_without_a_norm",
    ),
    Mutation(
        "ftrl-proximal-sign",
        "optimizers/ftrl.py",
        "The proximal term has the other sign.",
        "p - (n**power",
        "p + (n**power",
        oracle("ftrl"),
    ),
    Mutation(
        "ftrl-l2-divided-by-the-rate",
        "optimizers/ftrl.py",
        "λ₂ is divided by the rate too.",
        "(n**power + beta) / learning_rate + l2)",
        "(n**power + beta + l2) / learning_rate)",
        oracle("ftrl_sparse"),
    ),
    Mutation(
        "muon-without-the-fifth-power",
        "optimizers/muon.py",
        "The quintic is a cubic.",
        "(b * A + c * A @ A)",
        "(b * A)",
        oracle("muon"),
    ),
    Mutation(
        "muon-ratio-without-its-root",
        "optimizers/muon.py",
        "A wide matrix steps n_out/n_in times as far, not the root of it.",
        "max(n_in, 1)) ** 0.5",
        "max(n_in, 1))",
        'tests/compat/test_trajectories.py -k "trajectory_is and torch-Muon and scheduled and not missing"',
    ),
    Mutation(
        "newton-undamped",
        "optimizers/newton.py",
        "The damping is not added to the Hessian.",
        "+ damping * jnp.eye",
        "+ 0 * jnp.eye",
        "tests/test_newton.py -k newton_equals_the_oracle",
    ),
    Mutation(
        "newton-leaps-at-a-saddle",
        "optimizers/newton.py",
        "Negative eigenvalues are taken for the smallest that is allowed.",
        "jnp.abs(eigenvalues)",
        "eigenvalues",
        "tests/test_newton.py -k newton_equals_the_oracle",
    ),
    Mutation(
        "newton-cg-undamped",
        "optimizers/newton.py",
        "The damping is not added to the Hessian's products.",
        "optax.tree.add_scale(hessian_times(d), damping, d)",
        "hessian_times(d)",
        "tests/test_newton.py -k newton_cg_equals_the_oracle",
    ),
    Mutation(
        "newton-cg-stops-early",
        "optimizers/newton.py",
        "The residual need not shrink faster than the gradient, so that convergence is linear.",
        "jnp.minimum(0.5, jnp.sqrt(size * norm)) * norm",
        "0.5 * norm",
        "tests/theory/test_newton.py -k newton_cg",
    ),
    Mutation(
        "newton-cg-follows-negative-curvature",
        "optimizers/newton.py",
        "The inner iteration goes on where the curvature is negative.",
        "cg.curved & (cg.k",
        "(cg.k",
        "tests/theory/test_newton.py -k negative_curvature",
    ),
    Mutation(
        "batch-tail-weighs-as-much",
        "optimizers/batch_gradient_descent.py",
        "The examples that fill no micro-batch weigh as much as one that is full.",
        "scale(size - whole, tail)",
        "scale(micro_batch_size, tail)",
        "tests/test_batch_gradient_descent.py -k gradient_of_the_whole",
    ),
    # --- slots
    Mutation(
        "slots-in-bfloat16",
        "slots.py",
        "An average of bfloat16 gradients is kept in bfloat16.",
        "jnp.zeros_like(p, dtype=compute_dtype(p.dtype))",
        "jnp.zeros_like(p)",
        'tests/test_laws.py -k "keeps_shapes and [adam-"',
    ),
    Mutation(
        "second-moments-complex",
        "slots.py",
        "The second moment of complex gradients is complex.",
        "jnp.zeros_like(p, dtype=real_dtype(compute_dtype(p.dtype)))",
        "jnp.zeros_like(p, dtype=compute_dtype(p.dtype))",
        'tests/test_laws.py tests/test_equation.py -k "keeps_shapes and [adam- or moments_of_complex"',
    ),
    Mutation(
        "compute-dtype-forgets-float64",
        "slots.py",
        "What is float64 is computed in float32.",
        "jnp.dtype(jnp.float64 if wide else jnp.float32)",
        "jnp.dtype(jnp.float32)",
        oracle("adam"),
    ),
    Mutation(
        "slot-shares-a-hyperparameter",
        "slots.py",
        "A slot of a scalar parameter is the hyperparameter's own array, and cannot be donated with it.",
        "copy=True",
        "copy=False",
        'tests/test_laws.py -k "may_be_donated and [adagrad]"',
    ),
    # --- the lifter
    Mutation(
        "count-from-zero",
        "equation.py",
        "The equation sees the number of the step from 0.",
        "            t.astype(real),",
        "            t.astype(real) - 1,",
        oracle("adam"),
    ),
    Mutation(
        "direction-not-cast-back",
        "equation.py",
        "The direction of a bfloat16 gradient is float32.",
        "return split_like(x.astype(jax.dtypes.canonicalize_dtype(like.dtype)), like)",
        "return x",
        'tests/test_laws.py -k "keeps_shapes and [adam-"',
    ),
    Mutation(
        "computed-in-the-gradients-dtype",
        "equation.py",
        "A float16 gradient is squared in float16.",
        "            g.astype(dtype),",
        "            g,",
        "tests/test_peers.py -k float16",
    ),
    Mutation(
        "parameters-dtype-ignored",
        "equation.py",
        "A float32 gradient of a float64 parameter is worked on in float32.",
        "*([] if p is None else [p.dtype])",
        "",
        "tests/test_equation.py -k float64",
    ),
    Mutation(
        "missing-gradient-resets-slots",
        "equation.py",
        "The slots of a leaf without a gradient become 0.",
        "{slot: list(leaves) for slot, leaves in olds.items()}",
        '{slot: [0 * x if hasattr(x, "dtype") else x for x in xs] for slot, xs in olds.items()}',
        'tests/test_laws.py -k "leaves_without_gradient and [adam-None]"',
    ),
    Mutation(
        "masked-gradient-is-a-zero",
        "equation.py",
        "A masked gradient is taken for one that is there.",
        "return x is None or isinstance(x, optax.MaskedNode)",
        "return x is None",
        'tests/test_laws.py -k "leaves_without_gradient and [adam-masked]"',
    ),
    Mutation(
        "mask-ignored",
        "equation.py",
        "All parameters decay, whatever the mask says.",
        "if mask is None:",
        "if True:",
        "tests/test_equation.py -k a_mask_says_where_to_decay",
    ),
    Mutation(
        "count-by-leaf-counts-all",
        "equation.py",
        "A leaf's step number goes on without a gradient.",
        "n if _is_hole(g) else optax.safe_increment(n)",
        "optax.safe_increment(n)",
        "tests/test_equation.py -k count_by_leaf_gives_a_leaf",
    ),
    Mutation(
        "schedule-of-the-next-step",
        "equation.py",
        "Schedules are asked for t, not for t−1.",
        "signature.at(given, updates_so_far)",
        "signature.at(given, updates_so_far + 1)",
        "tests/test_equation.py -k schedules_see_the_step_count",
    ),
    Mutation(
        "hyperparameter-in-the-state-ignored",
        "equation.py",
        "What is set in the state is not used.",
        "{key: as_scalar(value) for key, value in state.hyper.items()}",
        "signature.values(numeric, jnp.zeros((), jnp.int32))",
        'tests/test_laws.py -k "set_in_the_state and [adam]"',
    ),
    Mutation(
        "array-as-rate-frozen",
        "equation.py",
        "A rate that is an array is read by init alone.",
        "if callable(value) or isinstance(value, jax.Array)}\n        apply",
        "if callable(value)}\n        apply",
        "tests/test_equation.py tests/compat/test_torch_arguments.py -k 'array or injected'",
    ),
    Mutation(
        "extra-argument-of-another-leaf",
        "equation.py",
        "All leaves see the first leaf of an extra argument.",
        "return lambda i: leaves[i]",
        "return lambda i: leaves[0]",
        "tests/test_equation.py -k extra_argument",
    ),
    Mutation(
        "extra-arguments-of-the-loss-dropped",
        "equation.py",
        "The loss is called without the extra arguments that it has by name.",
        "return {q.name: extra[q.name] for q in parameters if q.name in extra}",
        "return {}",
        'tests/test_laws.py -k "float64_equals and [nesterov_exact-number]"',
    ),
    Mutation(
        "path-of-another-leaf",
        "equation.py",
        "An error names the leaf that stands as far from the other end.",
        "is_leaf=_is_hole)[0][i][0])",
        "is_leaf=_is_hole)[0][-1 - i][0])",
        "tests/test_equation.py -k refused_by_name_and_path",
    ),
    Mutation(
        "shape-not-checked",
        "equation.py",
        "A gradient of another shape with as many axes is taken.",
        "if p.shape != g.shape:",
        "if p.ndim != g.ndim:",
        "tests/test_equation.py -k refused_by_name_and_path",
    ),
    Mutation(
        "complex-and-real-mixed",
        "equation.py",
        "A complex gradient of a real parameter is taken.",
        "if jnp.iscomplexobj(p) != jnp.iscomplexobj(g):",
        "if False:",
        "tests/test_equation.py -k refused_by_name_and_path",
    ),
    Mutation(
        "static-arguments-that-compare-equal",
        "equation.py",
        "1 and True share what was traced.",
        "(name, type(value), value)",
        "(name, value)",
        "tests/test_equation.py -k static_hyperparameters_that_compare_equal",
    ),
    Mutation(
        "hoisted-scalars-in-another-order",
        "hoisting.py",
        "What arrays meet of the scalars comes in the reverse order.",
        "invars=[*met, *arrays]",
        "invars=[*reversed(met), *arrays]",
        oracle("adam"),
    ),
    Mutation(
        "range-closed-above",
        "hyperparameters.py",
        "A decay of 1 is in [0, 1).",
        "else value < self.high",
        "else value <= self.high",
        "tests/test_equation.py -k wrong_hyperparameters_are_refused",
    ),
    Mutation(
        "range-closed-below",
        "hyperparameters.py",
        "An ε of 0 is in (0, ∞).",
        "value > self.low if",
        "value >= self.low if",
        "tests/test_equation.py -k wrong_hyperparameters_are_refused",
    ),
    Mutation(
        "range-before-rounding",
        "hyperparameters.py",
        "A decay that is 1 in float32 is taken.",
        "if float(kept) not in self.ranges[name] or vanishes:",
        "if vanishes:",
        "tests/test_equation.py -k wrong_hyperparameters_are_refused",
    ),
    Mutation(
        "hyperparameters-rounded",
        "hyperparameters.py",
        "A hyperparameter that was given in float16 stays so.",
        "jnp.finfo(dtype).bits < 32:",
        "jnp.finfo(dtype).bits < 16:",
        "tests/test_equation.py -k hyperparameters_are_never_cast_down",
    ),
    Mutation(
        "state-holds-the-users-array",
        "hyperparameters.py",
        "The rate in the state is the array that the user gave, and is donated with it.",
        "copy=True) for name",
        "copy=False) for name",
        'tests/test_laws.py tests/test_equation.py -k "may_be_donated and [adam] or not_donated"',
    ),
    Mutation(
        "train-state-drops-extra-arguments",
        "train_state.py",
        "The optimizer does not see the extra arguments.",
        "functools.partial(tx.update, **(extra_args or {}))",
        "tx.update",
        'tests/test_laws.py -k "linen_train_state and [nesterov_exact]"',
    ),
    # --- tools over state
    Mutation(
        "codec-scale-off",
        "state/codecs.py",
        "A code is decoded as a share of 128, not of 127.",
        "jnp.square(c / 127)",
        "jnp.square(c / 128)",
        "tests/state/test_state_codecs.py -k 'error_bounds_of_a_first or exact_on_average'",
    ),
    Mutation(
        "codec-noise-of-half-the-range",
        "state/codecs.py",
        "The noise of rounding lies in [0, ½): up is the likelier way.",
        "+ 0.5) * 2.0**-15",
        "+ 0.5) * 2.0**-16",
        "tests/state/test_state_codecs.py -k exact_on_average",
    ),
    Mutation(
        "codec-makes-zeros",
        "state/codecs.py",
        "A small second moment becomes 0.",
        "jnp.maximum(unsigned_code, 1)",
        "unsigned_code",
        "tests/state/test_state_codecs.py -k none_becomes_zero",
    ),
    Mutation(
        "stochastic-rounding-biased",
        "state/stochastic_rounding.py",
        "One bit of the noise is missing, and bfloat16 is rounded down too often.",
        "bits & 0xFFFF",
        "bits & 0x7FFF",
        "tests/state/test_state_codecs.py -k exact_on_average",
    ),
    Mutation(
        "one-noise-for-all-leaves",
        "state/compress.py",
        "All leaves are rounded with the same noise.",
        "seed_of(count, place)",
        "seed_of(count, 0)",
        "tests/state/test_state_compress.py -k noise_of_its_own",
    ),
    Mutation(
        "decoded-in-float32",
        "state/compress.py",
        "A leaf that was float64 comes back in float32.",
        "codec.decode(codes, scales).astype(dtype)",
        "codec.decode(codes, scales)",
        "tests/state/test_state_compress.py -k comes_back_in_its_dtype",
    ),
    Mutation(
        "copies-of-parameters-compressed",
        "state/compress.py",
        "A slot that starts as a copy of a parameter is encoded.",
        " and not copy ",
        " ",
        "tests/state/test_state_compress.py -k copies_of_parameters_are_not",
    ),
    Mutation(
        "master-low-bits-dropped",
        "state/master.py",
        "θ is the bfloat16 parameter alone.",
        "high + jax.lax.bitcast_convert_type(low, jnp.uint32)",
        "high",
        "tests/state/test_state_master.py -k 32_bits_are_all_bits",
    ),
    Mutation(
        "master-rounds-down",
        "state/master.py",
        "The parameter is θ cut off, not rounded to the nearest.",
        "(bits + 0x8000) >> 16",
        "bits >> 16",
        "tests/state/test_state_master.py -k 32_bits_are_all_bits",
    ),
    Mutation(
        "zero-divides-by-its-own-axes-alone",
        "state/shard.py",
        "An axis that is split already is taken for whole when it is split again.",
        "% (_shards(mesh, entries[k]) * _shards(mesh, more))",
        "% _shards(mesh, more)",
        "tests/state/test_state_shard.py -k zero_takes_the_first_axis",
    ),
    Mutation(
        "scales-split-through-a-block",
        "state/shard.py",
        "Scales are split like their codes where a device would have part of a block.",
        "scales[-1] % shards == 0 and codes[-1] % scales[-1] == 0",
        "scales[-1] % shards == 0",
        "tests/state/test_state_shard.py -k 'zero_takes_the_first_axis or scales_are_split'",
    ),
    Mutation(
        "digests-not-compared",
        "state/checkpoint.py",
        "Changed bytes of a checkpoint are restored.",
        "if has_digest != had_digest:",
        "if False:",
        "tests/state/test_state_checkpoint.py -k no_damage",
    ),
    Mutation(
        "digests-without-places",
        "state/checkpoint.py",
        "The digest of an array is that of its numbers in any order.",
        "random_bits(jnp.uint32(0), bits.shape) ^ bits",
        "bits",
        "tests/state/test_state_checkpoint.py -k digests",
    ),
    Mutation(
        "restored-in-another-dtype",
        "state/checkpoint.py",
        "What was saved in another dtype is cast without a word.",
        "if jnp.dtype(saved.dtype) != jnp.dtype(expected.dtype):",
        "if False:",
        "tests/state/test_state_checkpoint.py -k another_dtype",
    ),
    Mutation(
        "inspect-forgets-shardings",
        "state/inspect.py",
        "Each device is said to hold the whole of a leaf.",
        "x.shape if s is None else s.shard_shape(x.shape)",
        "x.shape",
        "tests/state/test_state_inspect.py -k bytes_on_a_device",
    ),
    # --- fused steps
    Mutation(
        "fused-leaves-in-another-order",
        "fusing/loops.py",
        "Results go to the leaf at the other end.",
        "for leaf in leaves for position in leaf.results]",
        "for leaf in reversed(leaves) for position in leaf.results]",
        "tests/test_fuse.py -k one_loop_with_the_least_bytes",
    ),
    Mutation(
        "fused-constants-confused",
        "fusing/dataflow.py",
        "Scalars that differ in a constant are taken for one.",
        "(np.asarray(v.val).tobytes(), v.aval) if",
        "v.aval if",
        "tests/test_fuse.py -k 'scalars_are_shared_only or print_alike'",
    ),
    Mutation(
        "loop-tail-dropped",
        "fusing/runtime.py",
        "The last number of each whole chunk is left as it was.",
        "min(first + CHUNK, word",
        "min(first + CHUNK - 1, word",
        "tests/test_fuse.py -k many_chunks",
    ),
    Mutation(
        "loop-maximum-loses-nan",
        "fusing/source.py",
        "The maximum of NaN and a number is the number.",
        '"max": "({0} if {0} != {0} or {0} >= {1} else {1})"',
        '"max": "({0} if {0} >= {1} else {1})"',
        "tests/test_fuse.py -k nan_and_infinity",
    ),
    Mutation(
        "loop-rounds-ties-up",
        "fusing/runtime.py",
        "Halfway between two bfloat16 numbers a loop rounds away from 0, not to the even one.",
        "((bits >> numba.uint32(16)) & numba.uint32(1))",
        "numba.uint32(1)",
        "tests/test_fuse.py -k bfloat16",
    ),
    Mutation(
        "loop-power-off-by-one",
        "fusing/source.py",
        "x³ in a loop is x⁴.",
        '["{0}"] * abs(power)',
        '["{0}"] * (abs(power) + (abs(power) > 2))',
        "tests/test_fuse.py -k equation_of_ones_own",
    ),
    Mutation(
        "kernel-positions-repeat",
        "fusing/kernel.py",
        "The blocks of a kernel's call have the positions, and so the noise, of the first.",
        "((left + k) * BLOCK + places[1])",
        "(left * BLOCK + places[1])",
        "tests/test_fuse_kernel.py -k kernel_equals",
    ),
    # --- the lab
    Mutation(
        "one-sided-interval",
        "lab/statistics.py",
        "The interval takes the quantile of a one-sided test.",
        "1 - LEVEL / 2",
        "1 - LEVEL",
        "tests/lab/test_lab_statistics.py -k scipy_s",
    ),
    Mutation(
        "holm-is-bonferroni",
        "lab/statistics.py",
        "All p values are multiplied by the number of tests.",
        "(m - j) * p_values[k]",
        "m * p_values[k]",
        "tests/lab/test_lab_statistics.py -k holm_by_hand",
    ),
    Mutation(
        "pairs-of-other-seeds",
        "lab/statistics.py",
        "Where a run diverged, the runs after it are paired with those of other seeds.",
        "zip(ours, theirs, strict=True) if a is not None and b is not None]",
        "zip([x for x in ours if x is not None], [x for x in theirs if x is not None])]",
        "tests/lab/test_lab_statistics.py -k seeds_that_one_of_the_two_lost",
    ),
    Mutation(
        "what-cannot-be-tested-does-not-count",
        "lab/statistics.py",
        "A comparison without a p value is left out of the correction, as if it had been certain.",
        "1.0 if difference.p is None else difference.p for",
        "0.0 if difference.p is None else difference.p for",
        "tests/lab/test_lab_statistics.py -k counts_as_a_comparison",
    ),
    Mutation(
        "selection-on-test-data",
        "lab/compare.py",
        "Learning rates are chosen on the data that test them.",
        "validation = hold(data.validation, room)",
        "validation = hold(data.test, room)",
        "tests/lab/test_lab_study.py -k scored_on_test_data",
    ),
    Mutation(
        "tested-on-tuning-seeds",
        "lab/compare.py",
        "The seeds that test a learning rate are those that it was chosen on.",
        "tuple(range(self.seeds, 2 * self.seeds))",
        "tuple(range(self.seeds))",
        "tests/lab/test_lab_study.py -k fresh_seeds_are_not",
    ),
    Mutation(
        "diverged-lanes-forgotten",
        "lab/compare.py",
        "A learning rate is judged by the lanes that did not diverge.",
        "[worst if run.diverged else run.score for run in runs]",
        "[run.score for run in runs if not run.diverged]",
        "tests/lab/test_lab_study.py -k diverged_lane_is_worse",
    ),
    Mutation(
        "highest-of-equal-rates",
        "lab/compare.py",
        "Among equally good learning rates the highest is chosen.",
        "rates = sorted(by_rate)",
        "rates = sorted(by_rate, reverse=True)",
        "tests/lab/test_lab_study.py -k test_selection",
    ),
    Mutation(
        "target-of-the-best-seed",
        "lab/targets.py",
        "The default target is what the luckiest seed reached.",
        "np.fmax.reduce(scores, 1).min()",
        "np.fmax.reduce(scores, 1).max()",
        "tests/lab/test_lab_statistics.py -k reached_with_every_seed",
    ),
    Mutation(
        "halving-keeps-one-less",
        "lab/sweep.py",
        "A cut rounds the number of points that go on down.",
        "math.ceil(len(order) * self.halving.keep)",
        "math.floor(len(order) * self.halving.keep)",
        "tests/lab/test_lab_sweep.py -k 'halving_runs_the_best and False or rounds_up'",
    ),
    Mutation(
        "halved-points-can-win",
        "lab/sweep.py",
        "A point that was stopped is judged by the steps that it had.",
        '== "halving").any(1)] = np.inf',
        '== "halving").any(1)] *= 1',
        "tests/lab/test_lab_sweep.py -k 'best_point or judged'",
    ),
    Mutation(
        "one-lucky-lane-is-enough",
        "lab/sweep.py",
        "A point of which one lane diverged is judged by the others.",
        "np.where(np.isfinite(each).all(1),",
        "np.where(np.isfinite(each).any(1),",
        "tests/lab/test_lab_sweep.py -k 'best_point or judged'",
    ),
    Mutation(
        "study-recomputes",
        "lab/sweep.py",
        "A study that continues runs again what is done.",
        "if not file.exists()]",
        "if True]",
        "tests/lab/test_lab_study_folder.py -k read_without_running",
    ),
    Mutation(
        "studies-mixed",
        "lab/study_folder.py",
        "A study continues another one that is in its folder.",
        "if name != PLATFORM and before.get(name) != now.get(name):",
        "if False:",
        "tests/lab/test_lab_study_folder.py -k not_mixed",
    ),
    Mutation(
        "grid-product-in-step",
        "lab/grid.py",
        "The points of two grids are combined one by one, not each with each.",
        "tuple(v for v in values for _ in range(len(other)))",
        "values * len(other)",
        "tests/lab/test_lab_grid.py -k every_combination",
    ),
    Mutation(
        "lanes-come-back-shuffled",
        "lab/lanes.py",
        "Results are put together device by device, not in the order in which lanes were dealt.",
        "x = np.asarray(dealt).swapaxes(0, 1)",
        "x = np.asarray(dealt)",
        "tests/lab/test_lab_lanes.py -k inverse",
    ),
    Mutation(
        "examples-drawn-twice",
        "lab/training.py",
        "An epoch draws examples with replacement.",
        "random.permutation(n_examples)[",
        "random.integers(0, n_examples, n_examples)[",
        "tests/lab/test_lab_lanes.py -k draws_no_example_twice",
    ),
    Mutation(
        "padding-is-scored",
        "lab/training.py",
        "The copies that fill up a held-out set count as examples.",
        "weight = (np.arange(pieces * size) < n)",
        "weight = (np.arange(pieces * size) >= 0)",
        "tests/lab/test_lab_lanes.py -k padding_of_held_out",
    ),
    Mutation(
        "patience-never-lost",
        "lab/minimize.py",
        "A tolerance that is met now and then adds up, as if in consecutive steps.",
        "held = jnp.where(met, at.held + 1, 0)",
        "held = at.held + met",
        "tests/lab/test_lab_minimize.py -k patience",
    ),
    Mutation(
        "one-noise-for-all-steps",
        "lab/minimize.py",
        "Every step gets the same key.",
        "jax.random.fold_in(given.key, t)",
        "given.key",
        "tests/lab/test_lab_minimize.py -k a_key_gives",
    ),
    Mutation(
        "basins-unsorted",
        "lab/multi_start.py",
        "Basins are formed around whatever lane comes first.",
        'waiting = waiting[np.argsort(end.value[waiting], kind="stable")]',
        "",
        "tests/lab/test_lab_multi_start.py -k 'deterministic or told_apart'",
    ),
    Mutation(
        "unconverged-lanes-are-minima",
        "lab/multi_start.py",
        "Lanes that took all steps count as converged.",
        "(end.stop != Stop.STEPS) & ",
        "",
        "tests/lab/test_lab_multi_start.py -k counted_apart",
    ),
    Mutation(
        "himmelblau-minimum-off",
        "lab/surfaces.py",
        "One of Himmelblau's minima is stated 10⁻³ away from where it is.",
        "-3.7793102533777469",
        "-3.7783102533777469",
        'tests/lab/test_lab_surfaces.py -k "minima and Himmelblau"',
    ),
    Mutation(
        "rastrigin-formula",
        "lab/surfaces.py",
        "Rastrigin's waves are half as high.",
        "10 + x**2 - 10 * jnp.cos",
        "5 + x**2 - 5 * jnp.cos",
        'tests/lab/test_lab_surfaces.py -k "formula and Rastrigin"',
    ),
    # --- PyTorch and Keras
    Mutation(
        "torch-default-changed",
        "compat/torch.py",
        "RMSprop's α is Keras's 0.9 by default.",
        "alpha: Decay = 0.99",
        "alpha: Decay = 0.9",
        "tests/compat/test_signatures.py -k pytorchs",
    ),
    Mutation(
        "torch-group-options-ignored",
        "compat/torch.py",
        "The options of the call win over those of a group.",
        "options | group | kept",
        "group | options | kept",
        "tests/compat/test_torch_arguments.py -k a_group_gets_the_defaults",
    ),
    Mutation(
        "torch-groups-in-another-order",
        "compat/torch.py",
        "A parameter belongs to the rest, whatever pattern finds it.",
        "(found or rest)[0]",
        "(rest or found)[0]",
        "tests/compat/test_torch_arguments.py -k groups_are_found_by_path",
    ),
    Mutation(
        "torch-decay-decoupled-by-default",
        "compat/torch.py",
        "Adam's decay is AdamW's, and the other way round.",
        "[direction, *decay] if decoupled else",
        "[direction, *decay] if not decoupled else",
        'tests/compat/test_trajectories.py -k "trajectory_is and torch-RAdam and scheduled and not missing"',
    ),
    Mutation(
        "torch-maximize-ignored",
        "compat/torch.py",
        "`maximize` goes downhill.",
        "[optax.scale(-1.0)] if maximize else []",
        "[]",
        'tests/compat/test_trajectories.py -k "trajectory_is and torch-SparseAdam and maximize and not missing"',
    ),
    Mutation(
        "torch-sparse-columns",
        "compat/torch.py",
        "SparseAdam steps wherever a number is not 0, not in whole rows.",
        "jnp.any(g != 0, axis=tuple(range(1, g.ndim)), keepdims=True)",
        "g != 0",
        "tests/compat/test_trajectories.py tests/compat/test_torch_arguments.py "
        '-k "trajectory_is and torch-SparseAdam and maximize and not missing or rows_with_a_zero"',
    ),
    Mutation(
        "torch-options-above-the-range",
        "compat/arguments.py",
        "Ranges of arguments are not checked.",
        ".check({key: value})",
        "",
        "tests/compat/test_torch_arguments.py -k out_of_range",
    ),
    Mutation(
        "keras-clipnorm-global",
        "compat/keras.py",
        "`clipnorm` is the norm of all variables together.",
        "clip_by_norm(max_norm=clipnorm), tx)",
        "optax.clip_by_global_norm(clipnorm), tx)",
        'tests/compat/test_trajectories.py -k "trajectory_is and keras and clipnorm and not global_clipnorm"',
    ),
    Mutation(
        "keras-step-sees-the-unshrunk-variable",
        "compat/keras.py",
        "The step after the weight decay sees the variable before it.",
        "step.update(updates, state.step, _moved(params, shrinking))",
        "step.update(updates, state.step, params)",
        'tests/compat/test_trajectories.py -k "trajectory_is and keras-Lamb and weight_decay"',
    ),
    Mutation(
        "keras-overwrites-a-step-late",
        "compat/keras.py",
        "Variables are overwritten by their average one update late.",
        "(iterations + 1) % overwrite_frequency",
        "iterations % overwrite_frequency",
        'tests/compat/test_trajectories.py -k "trajectory_is and keras and ema_overwrite_frequency"',
    ),
    Mutation(
        "keras-accumulates-a-sum",
        "compat/keras.py",
        "The step is taken with the sum of the gradients, not with their mean.",
        "(s / every)",
        "s",
        'tests/compat/test_trajectories.py -k "trajectory_is and keras and accumulation"',
    ),
    Mutation(
        "keras-l2-halved",
        "compat/keras.py",
        "Ftrl's L2 is the paper's, half of Keras's.",
        "l2=2 * l2_regularization_strength",
        "l2=l2_regularization_strength",
        'tests/compat/test_trajectories.py -k "trajectory_is and keras-Ftrl and l2_regularization_strength"',
    ),
    Mutation(
        "lbfgs-keeps-negative-curvature",
        "compat/lbfgs.py",
        "Pairs of negative curvature are remembered too.",
        "keep = ys > MIN_CURVATURE",
        "keep = jnp.abs(ys) > MIN_CURVATURE",
        "tests/compat/test_lbfgs.py -k negative_curvature",
    ),
    Mutation(
        "lbfgs-strong-wolfe-is-weak",
        "compat/lbfgs.py",
        "A point where the slope is steep and positive is taken.",
        "jnp.abs(new.slope) <= -C2 * start.slope",
        "-new.slope <= -C2 * start.slope",
        "tests/compat/test_lbfgs.py -k 'trajectory_is and strong_wolfe and not network'",
    ),
    Mutation(
        "lbfgs-first-step-not-shortened",
        "compat/lbfgs.py",
        "The first step is as long as the gradient.",
        "(state.n_iter == 0) & (shortening < 1)",
        "(state.n_iter == 0) & (shortening < 0)",
        "tests/compat/test_lbfgs.py -k 'trajectory_is and network'",
    ),
    Mutation(
        "from-torch-moments-exchanged",
        "compat/state_dicts.py",
        "PyTorch's first moment becomes our second, and the other way round.",
        '_ADAM = {"exp_avg": "m", "exp_avg_sq": "v"}',
        '_ADAM = {"exp_avg": "v", "exp_avg_sq": "m"}',
        "tests/compat/test_checkpoint.py -k 'run_of_pytorch and AdamW'",
    ),
    Mutation(
        "from-torch-convolution-turned",
        "compat/checkpoint.py",
        "Height and width of a convolution's kernel are exchanged.",
        "CONV2D: Layout = (2, 3, 1, 0)",
        "CONV2D: Layout = (3, 2, 1, 0)",
        "tests/compat/test_checkpoint.py -k layouts_are_flax",
    ),
    Mutation(
        "to-torch-layout-not-inverted",
        "compat/checkpoint.py",
        "Slots go back with the permutation of axes that they came with.",
        "np.argsort(p.layout))",
        "p.layout)",
        "tests/compat/test_checkpoint.py -k a_network_goes_on",
    ),
    Mutation(
        "from-torch-steps-of-the-first",
        "compat/checkpoint.py",
        "Unequal numbers of steps go over as if they were equal.",
        "if n != steps[first] and not by_leaf:",
        "if False:",
        "tests/compat/test_checkpoint.py -k 'unequal or wrong_state_dicts'",
    ),
    # --- what the documentation says
    Mutation(
        "default-is-not-what-the-page-says",
        "optimizers/rmsprop.py",
        "The decay of `rmsprop` has another default than the page about PyTorch and Keras says.",
        "learning_rate: ScalarOrSchedule,\n    decay: ScalarOrSchedule = 0.9,",
        "learning_rate: ScalarOrSchedule,\n    decay: ScalarOrSchedule = 0.99,",
        "tests/docs/test_divergences.py -k 'not page_is_what'",
    ),
]


@dataclasses.dataclass
class Run:
    """Some tests in a copy of the tree, with a fault or without.

    Attributes:
        tests: arguments of pytest.
        mutation: the fault.
        status: pytest's exit status; −1 if the process ended without one.
        passed: how many tests passed.
        failed: the first test that failed.
        broken: the first file that could not be collected.
        seconds: how long it took.
        output: the end of what it printed.
    """

    tests: str
    mutation: Mutation | None = None
    status: int = -1
    passed: int = 0
    failed: str = ""
    broken: str = ""
    seconds: float = 0.0
    output: str = ""


class Observer:
    """A plugin of pytest that takes down what happens."""

    def __init__(self) -> None:
        self.passed, self.failed, self.broken = 0, "", ""

    def pytest_runtest_logreport(self, report: "pytest.TestReport") -> None:
        self.passed += report.when == "call" and report.passed
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: "pytest.CollectReport") -> None:
        if report.failed and not self.broken:
            self.broken = report.nodeid


def run_tests(copy: Path, tests: str) -> None:
    """Run pytest in the copy, as a process that ends here, and leave there what happened."""
    import pytest

    os.setsid()  # a group of its own, to be ended with all that it starts
    (copy / "pid").write_text(str(os.getpid()))
    with (copy / "output").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)  # for programs that the tests start
    # Without the repository, but with the environment, which may lie in it.
    elsewhere = [path for path in sys.path if path.startswith(sys.prefix) or not Path(path).resolve().is_relative_to(ROOT)]
    sys.path[:] = [str(copy), *elsewhere]
    sys.argv = ["pytest"]
    observer = Observer()
    already = "ignore::pytest.PytestAssertRewriteWarning"  # of Hypothesis, which is imported
    arguments = ["-x", "-m", "", "-p", "no:cacheprovider", "--timeout=0", "--tb=short", "-W", already, *shlex.split(tests)]
    status = int(pytest.main(arguments, plugins=[observer]))
    imported = getattr(sys.modules.get("jaxopt_lec"), "__file__", str(copy))
    if not Path(imported).resolve().is_relative_to(copy.resolve()):
        status, observer.broken = -1, f"{imported}, which is not in the copy"
    (copy / "report.json").write_text(json.dumps({"status": status, **vars(observer)}))
    sys.stdout.flush()
    os._exit(0)


def prepare(copy: Path, mutation: Mutation | None) -> None:
    """Copy the tree, and plant the fault."""
    copy.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    if mutation is not None:
        (copy / "jaxopt_lec" / mutation.file).write_text(mutation.planted_in(copy), encoding="utf-8")


def finish(run: Run, copy: Path) -> Run:
    """Take down what happened in a copy, and remove it."""
    with contextlib.suppress(FileNotFoundError):
        for name, value in json.loads((copy / "report.json").read_text()).items():
            setattr(run, name, value)
    with contextlib.suppress(FileNotFoundError):
        run.output = (copy / "output").read_text(errors="replace")[-2000:]
    shutil.rmtree(copy, ignore_errors=True)
    return run


def runs(waiting: Sequence[Run], folder: Path, jobs: int, leash: int) -> Iterator[Run]:
    """Run all, so many at a time, and yield each when it has ended."""
    coming, going = list(reversed(waiting)), {}
    while coming or going:
        while coming and len(going) < jobs:
            run = coming.pop()
            copy = folder / str(len(coming))
            prepare(copy, run.mutation)
            sys.stdout.flush()
            started, pid = time.monotonic(), os.fork()
            if pid == 0:
                try:
                    os.close(leash)
                    run_tests(copy, run.tests)
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(1)
            going[pid] = run, copy, started
        time.sleep(0.02)
        for pid, (run, copy, started) in list(going.items()):
            run.seconds = time.monotonic() - started
            if run.seconds > LONGEST:
                os.killpg(pid, signal.SIGKILL)
            elif os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # what the tests left running
            del going[pid]
            finish(run, copy)
            if run.seconds > LONGEST:
                run.status, run.failed = 1, f"none ended within {LONGEST} s"
            elif os.WIFSIGNALED(status):
                run.status, run.failed = 1, f"the process died: {signal.Signals(os.WTERMSIG(status)).name}"
            yield run


@contextlib.contextmanager
def guarded_folder() -> Iterator[tuple[Path, int]]:
    """Give a folder that is removed however this process ends, with the runs that are still going.

    Another process waits for the end of the pipe whose other end, the leash, this one holds.
    """
    folder = Path(tempfile.mkdtemp(prefix="mutations-"))
    end, leash = os.pipe()
    guard = os.fork()
    if guard == 0:
        os.setsid()  # beyond the reach of Ctrl-C
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.close(leash)
        os.read(end, 1)
        for pid in folder.glob("*/pid"):
            with contextlib.suppress(OSError, ValueError):
                os.killpg(int(pid.read_text()), signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)
    os.close(end)
    try:
        yield folder, leash
    finally:
        os.close(leash)
        os.waitpid(guard, 0)


def row(name: str, file: str, verdict: str, seconds: str, first: str, fault: str) -> str:
    """Return one line of the table, and a second one with what the fault is."""
    return f"{name:<38} {file:<36} {verdict:<9} {seconds:>7}  {first}\n    {fault}"


def verdict(run: Run) -> tuple[str, str]:
    """Return what happened to a fault, and the first test that fails or what else is wrong."""
    if run.status == 0 and run.passed:
        return "SURVIVED", ""
    if run.status == 1 and run.failed:
        return "killed", run.failed
    return "ERROR", run.broken or f"pytest ended with {run.status}: {' '.join(run.output.split()[-40:])}"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-k", metavar="PATTERN", default="", help="only faults in whose name or file this is found")
    parser.add_argument("--list", action="store_true", help="say which faults there are, and run nothing")
    parser.add_argument("-j", metavar="JOBS", type=int, default=1, help="how many run at a time")
    options = parser.parse_args()
    chosen = [m for m in MUTATIONS if re.search(options.k, f"{m.name} {m.file}")]
    repeated = {m.name for m in MUTATIONS if [n.name for n in MUTATIONS].count(m.name) > 1}
    if repeated or not chosen:
        print(f"several faults are called {sorted(repeated)}" if repeated else f"no fault matches {options.k!r}")
        return 2
    if options.list:
        for m in chosen:
            print(f"{m.name:<38} {m.file:<36} {m.fault}\n    pytest {m.tests}")
        return 0

    errors: dict[str, str] = {}
    for m in chosen:
        try:
            m.planted_in(ROOT)
        except (OSError, LookupError) as error:
            errors[m.name] = str(error)
    selections = list(dict.fromkeys(m.tests for m in chosen if m.name not in errors))

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    started = time.monotonic()
    with guarded_folder() as (folder, leash):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        for name in LIBRARIES:
            importlib.import_module(name)

        print(f"{len(selections)} selections of tests without a fault", flush=True)
        red: dict[str, str] = {}
        for run in runs([Run(tests) for tests in selections], folder, options.j, leash):
            if run.status != 0 or not run.passed:
                red[run.tests] = f"not green without a fault: {verdict(run)[1]}"
                print(f"not green: pytest {run.tests}\n{run.output}", flush=True)
        print(f"{len(selections) - len(red)} are green, after {time.monotonic() - started:.0f} s\n", flush=True)

        print(row("name", "file", "verdict", "seconds", "first test that fails", "what the fault is"), flush=True)
        errors |= {m.name: red[m.tests] for m in chosen if m.tests in red}
        for m in chosen:
            if m.name in errors:
                print(row(m.name, m.file, "ERROR", "", errors[m.name], m.fault), flush=True)
        survived, killed = [], 0
        planted = [Run(m.tests, m) for m in chosen if m.name not in errors]
        for run in runs(planted, folder, options.j, leash):
            m, (what, first) = run.mutation, verdict(run)
            print(row(m.name, m.file, what, f"{run.seconds:.1f}", first, m.fault), flush=True)
            killed += what == "killed"
            survived += [m.name] if what == "SURVIVED" else []
            errors |= {m.name: first} if what == "ERROR" else {}
    print(f"\n{killed} of {len(chosen)} faults killed in {time.monotonic() - started:.0f} s", end="")
    print(f"; survived: {', '.join(survived)}" if survived else "", end="")
    print(f"; errors: {', '.join(errors)}" if errors else "")
    return 1 if survived or errors else 0


if __name__ == "__main__":
    sys.exit(main())
