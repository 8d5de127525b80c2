"""The table of cases: one row for each optimizer and each variant that has numbers of its own.

The laws of tests/test_laws.py hold for every row. What a row is left out of stands in its `skip`, with the reason; one that
differs from another row in numbers alone says so in `same_program_as`. A new row has every law.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
import oracles
import pytest

import jaxopt_lec as jl


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One optimizer.

    Attributes:
        make: learning_rate -> transformation.
        oracle: the NumPy float64 loop, called with the same `arguments`.
        like_optax, like_torch: peers of the same numbers, `learning_rate -> transformation` and `(class of torch.optim,
            arguments)`, whose steps tests/torch_steps.py recorded.
        float32: arguments for the oracle in the float32 law, with the reason beside the row.
        needs: what `update` must be given beside the gradients: "params", "value_fn".
        min_ndim: how many axes a leaf must have; the laws' smaller leaves get leading axes of length 1.
        mixes: whether coordinates are summed over a leaf, so that rounding is relative to the leaf's largest.
        same_program_as: the row whose program this one is, to the last operation, with other numbers in its state. What no
            number changes, how the program lives with trees, transformations of JAX and other libraries, is then checked
            for one of them: the laws of `programs`. A law checks that the programs are the same.
        skip: law -> why it does not apply.
    """

    name: str
    factory: Callable[..., optax.GradientTransformationExtraArgs]
    oracle: Callable[..., np.ndarray]
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    like_optax: Callable[[Any], optax.GradientTransformation] | None = None
    like_torch: tuple[str, Mapping[str, Any]] | None = None
    float32: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()
    min_ndim: int = 0
    mixes: bool = False
    same_program_as: str = ""
    skip: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def make(self, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
        return self.factory(learning_rate, **self.arguments)

    @functools.cached_property
    def tx(self) -> optax.GradientTransformationExtraArgs:
        """The transformation at learning rate 0.1, made once: its leaf functions are compiled once for many laws."""
        return self.make(0.1)

    def __str__(self) -> str:
        return self.name


WHOLE_TREE = {
    "leaves": "the Hessian couples the leaves",
    "holes": "the loss function needs every parameter",
    "complex": "a function of complex parameters has no Hessian",
    "oracle": "needs a Hessian: tests/test_newton.py",
    "float32": "needs a Hessian: tests/test_newton.py",
}

HAS_NO_SIGN = "a complex number has no sign, and the equation says so: optax.contrib.split_real_and_imaginary"

AMPLIFIED = (
    "five quintics multiply a rounding by up to 3.4445⁵: 3e-6 of one step after 1,000; tests/theory/test_matrix_methods.py"
)
FROM_A_SUM = {
    "complex": HAS_NO_SIGN,
    "float32": "θ is made anew from the sum z: the sum's rounding, 2e-6 of θ after 1,000 steps, is more of the small update",
    "converges": "θ = −η z/√n holds to all that z has summed: as a schedule takes η to 0, it takes θ to 0",
    "nonnegative": "z₀ = 0 belongs to θ₀ = 0: two steps from 10 do not stay above 0",
}


def adafactor_of_optax(learning_rate: float) -> optax.GradientTransformation:
    """Its alias has β̂₂ in float32; its parts have not. There is no 1/√t, which is above η while t < 1/η²."""
    return optax.chain(
        optax.scale_by_factored_rms(min_dim_size_to_factor=1, decay_rate_fn=lambda count, _: 1 - (count + 1.0) ** -0.8),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
        optax.scale(-learning_rate),
    )


def adafactor_with_machine_floor(learning_rate: Any, eps: float, eps_floor: float) -> Any:
    """The oracle is told the floor; the optimizer finds it by the dtype that it computes in."""
    return jl.adafactor(learning_rate, eps=eps, machine_floor=True)


def sgd_decayed(learning_rate: Any, weight_decay: float) -> Any:
    """Decay as a step of its own, which has the learning rate already."""
    decay = jl.decay_weights(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(jl.sgd(learning_rate), decay)


CASES = [
    Case("sgd", jl.sgd, oracles.sgd, like_optax=optax.sgd, like_torch=("SGD", {})),
    Case(
        "sgd_decayed",
        sgd_decayed,
        oracles.sgd,
        {"weight_decay": 0.1},
        like_optax=lambda lr: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(lr)),
        like_torch=("SGD", {"weight_decay": 0.1}),
        needs=("params",),
    ),
    Case("momentum", jl.momentum, oracles.momentum),
    Case(
        "momentum_outside",
        jl.momentum,
        oracles.momentum,
        {"learning_rate_inside": False, "decay": 0.8},
        like_optax=lambda lr: optax.sgd(lr, momentum=0.8),
        like_torch=("SGD", {"momentum": 0.8}),
    ),
    Case(
        "momentum_dampened",
        jl.momentum,
        oracles.momentum,
        {"learning_rate_inside": False, "dampening": 0.3},
        like_torch=("SGD", {"momentum": 0.9, "dampening": 0.3}),
        same_program_as="momentum_outside",
    ),
    Case(
        "momentum_dampened_fully",
        jl.momentum,
        oracles.momentum,
        {"learning_rate_inside": False, "dampening": 1.0},
        like_torch=("SGD", {"momentum": 0.9, "dampening": 1.0}),
        same_program_as="momentum_outside",
        skip={
            "float32": "vₜ = γᵗ⁻¹ g₁ is the first gradient alone: 0 after 1,000 steps",
            "converges": "only the first gradient counts",
        },
    ),
    Case("nesterov", jl.nesterov, oracles.nesterov_look_ahead),
    Case(
        "nesterov_outside",
        jl.nesterov,
        oracles.nesterov_look_ahead,
        {"learning_rate_inside": False},
        like_optax=lambda lr: optax.sgd(lr, momentum=0.9, nesterov=True),
        like_torch=("SGD", {"momentum": 0.9, "nesterov": True}),
    ),
    Case(
        "nesterov_exact",
        jl.nesterov_exact,
        oracles.nesterov,
        needs=("params", "value_fn"),
        skip={"holes": "the loss function needs every parameter"},
    ),
    Case("adagrad", jl.adagrad, oracles.adagrad, like_torch=("Adagrad", {"eps": 1e-10})),
    Case("adagrad_slide", jl.adagrad, oracles.adagrad, {"eps": 0.0, "eps_root": 1e-6}, same_program_as="adagrad"),
    Case(
        "adagrad_accumulator",
        jl.adagrad,
        oracles.adagrad,
        {"eps": 0.0, "eps_root": 1e-7, "initial_accumulator": 0.1},
        like_optax=lambda lr: optax.adagrad(lr, initial_accumulator_value=0.1, eps=1e-7),
        same_program_as="adagrad",
    ),
    Case(
        "adagrad_decayed",
        jl.adagrad,
        oracles.adagrad,
        {"learning_rate_decay": 1e-3},
        like_torch=("Adagrad", {"eps": 1e-10, "lr_decay": 1e-3}),
        same_program_as="adagrad",
    ),
    Case(
        "rmsprop",
        jl.rmsprop,
        oracles.rmsprop,
        like_optax=lambda lr: optax.rmsprop(lr, decay=0.9, eps=1e-8, eps_in_sqrt=False),
        like_torch=("RMSprop", {"alpha": 0.9, "eps": 1e-8}),
    ),
    Case(
        "rmsprop_slide",
        jl.rmsprop,
        oracles.rmsprop,
        {"eps": 0.0, "eps_root": 1e-4},
        like_optax=lambda lr: optax.rmsprop(lr, decay=0.9, eps=1e-4),
        same_program_as="rmsprop",
    ),
    Case(
        "rmsprop_centered",
        jl.rmsprop,
        oracles.rmsprop,
        {"centered": True, "decay": 0.99},
        like_torch=("RMSprop", {"alpha": 0.99, "eps": 1e-8, "centered": True}),
    ),
    Case(
        "rmsprop_momentum",
        jl.rmsprop,
        oracles.rmsprop,
        {"momentum": 0.9},
        like_torch=("RMSprop", {"alpha": 0.9, "eps": 1e-8, "momentum": 0.9}),
    ),
    Case(
        "adadelta",
        jl.adadelta,
        oracles.adadelta,
        like_optax=lambda lr: optax.adadelta(lr, rho=0.95, eps=1e-6),
        like_torch=("Adadelta", {"rho": 0.95, "eps": 1e-6}),
    ),
    Case("adam", jl.adam, oracles.adam, like_optax=optax.adam, like_torch=("Adam", {})),
    Case(
        "adam_slide",
        jl.adam,
        oracles.adam,
        {"eps": 0.0, "eps_root": 1e-4},
        like_optax=lambda lr: optax.adam(lr, eps=0.0, eps_root=1e-4),
        same_program_as="adam",
    ),
    Case(
        "adam_hat",
        jl.adam,
        oracles.adam,
        {"eps": 0.0, "eps_hat": 1e-2},
        same_program_as="adam",
    ),
    Case(
        "adam_uncorrected",
        jl.adam,
        oracles.adam,
        {"bias_correction": False},
    ),
    Case(
        "adamw",
        jl.adamw,
        oracles.adamw,
        {"weight_decay": 0.05},
        like_optax=lambda lr: optax.adamw(lr, weight_decay=0.05),
        like_torch=("AdamW", {"weight_decay": 0.05}),
        needs=("params",),
    ),
    Case("amsgrad", jl.amsgrad, oracles.amsgrad, like_torch=("Adam", {"amsgrad": True})),
    Case(
        "amsgrad_hat",
        jl.amsgrad,
        oracles.amsgrad,
        {"eps": 0.0, "eps_hat": 1e-2},
        same_program_as="amsgrad",
    ),
    Case(
        "amsgrad_paper",
        jl.amsgrad,
        oracles.amsgrad,
        {"bias_correction": False},
    ),
    Case(
        "adamax",
        jl.adamax,
        oracles.adamax,
        skip={
            "float32": "u = β₂ᵏ |g|, k steps after a large gradient: each of the k products rounds, and so does β₂: 5e-6 "
            "after 1,000 steps, 1.2e-6 of it from the products alone; the next row has a shorter memory"
        },
    ),
    Case(
        "adamax_short",
        jl.adamax,
        oracles.adamax,
        {"b2": 0.95},
        float32={"b2": float(np.float32(0.95))},
        same_program_as="adamax",
    ),
    Case(
        "adamax_torch",
        jl.adamax,
        oracles.adamax,
        {"b2": 0.95, "eps": 0.0, "eps_max": 1e-3},
        like_optax=lambda lr: optax.adamax(lr, b2=0.95, eps=1e-3),
        like_torch=("Adamax", {"betas": (0.9, 0.95), "eps": 1e-3}),
        float32={"b2": float(np.float32(0.95))},
        same_program_as="adamax",
    ),
    Case("nadam", jl.nadam, oracles.nadam, like_torch=("NAdam", {})),
    Case(
        "nadam_constant",
        jl.nadam,
        oracles.nadam,
        {"momentum_decay": np.inf},
        like_optax=optax.nadam,
        same_program_as="nadam",
    ),
    Case("radam", jl.radam, oracles.radam),
    Case(
        "radam_peers",
        jl.radam,
        oracles.radam,
        # At 0.999 Optax and PyTorch lose 2000·eps in ρₜ, as the formula is printed; at 0.99 a tenth of it.
        {"threshold": 5.0, "b2": 0.99},
        like_optax=lambda lr: optax.radam(lr, b2=0.99),
        same_program_as="radam",
    ),
    Case(
        "radam_torch",
        jl.radam,
        oracles.radam,
        {"threshold": 5.0, "b2": 0.99, "eps": 0.0, "eps_hat": 1e-3},
        like_torch=("RAdam", {"betas": (0.9, 0.99), "eps": 1e-3}),
        same_program_as="radam",
    ),
    Case("lion", jl.lion, oracles.lion, like_optax=lambda lr: optax.lion(lr, weight_decay=0.0), needs=("params",)),
    Case(
        "lion_decayed",
        jl.lion,
        oracles.lion,
        {"weight_decay": 0.1},
        like_optax=lambda lr: optax.lion(lr, weight_decay=0.1),
        needs=("params",),
        same_program_as="lion",
    ),
    Case(
        "rprop",
        jl.rprop,
        oracles.rprop,
        like_torch=("Rprop", {}),
        float32={"eta_plus": float(np.float32(1.2))},  # a step size is a power of it
        skip={"complex": HAS_NO_SIGN, "set_rate": "the rate is the first step size, and init's"},
    ),
    Case(
        "asgd",
        jl.asgd,
        oracles.asgd,
        {"start": 3.0},
        like_torch=("ASGD", {"t0": 3.0}),
        needs=("params",),
        skip={"set_rate": "a rate acts one step late, as in PyTorch, and that of the first step is init's"},
    ),
    Case(
        "adafactor",
        jl.adafactor,
        oracles.adafactor,
        like_optax=adafactor_of_optax,
        needs=("params",),
    ),
    Case(
        "adafactor_floor",
        jl.adafactor,
        oracles.adafactor,
        {"eps": 0.0, "eps_floor": 1e-3},
        like_torch=("Adafactor", {"eps": (1e-3, 1e-3)}),
        needs=("params",),
        same_program_as="adafactor",
    ),
    Case(
        "adafactor_machine_floor",
        adafactor_with_machine_floor,
        oracles.adafactor,
        {"eps": 0.0, "eps_floor": float(np.finfo(np.float64).eps)},
        like_torch=("Adafactor", {}),
        float32={"eps_floor": float(np.finfo(np.float32).eps)},
        needs=("params",),
    ),
    Case("muon", jl.muon, oracles.muon, needs=("params",), min_ndim=2, mixes=True, skip={"float32": AMPLIFIED}),
    Case(
        "muon_plain",
        jl.muon,
        oracles.muon,
        # Optax has its ε beside the average of gradients, not their sum: one so small is the same there.
        {"nesterov": False, "eps": 1e-30, "adjust": "match_rms"},
        like_optax=lambda lr: optax.contrib.muon(lr, nesterov=False, eps=1e-30, consistent_rms=0.2),
        needs=("params",),
        min_ndim=2,
        mixes=True,
        skip={"float32": AMPLIFIED},
    ),
    Case(
        "muon_stack",
        jl.muon,
        oracles.muon,
        {"as_matrix": "stack"},
        needs=("params",),
        min_ndim=3,
        mixes=True,
        skip={"float32": AMPLIFIED},
    ),
    Case("ftrl", jl.ftrl, oracles.ftrl, needs=("params",), skip=FROM_A_SUM),
    Case(
        "ftrl_sparse",
        jl.ftrl,
        oracles.ftrl,
        {"power": 0.6, "initial_accumulator": 1.0, "l1": 0.5, "l2": 0.1, "l2_shrinkage": 0.05, "beta": 1.0},
        needs=("params",),
        same_program_as="ftrl",
        skip=FROM_A_SUM,
    ),
    Case("lamb", jl.lamb, oracles.lamb, like_optax=optax.lamb, needs=("params",)),
    Case(
        "lamb_decayed",
        jl.lamb,
        oracles.lamb,
        {"weight_decay": 0.1},
        like_optax=lambda lr: optax.lamb(lr, weight_decay=0.1),
        needs=("params",),
        same_program_as="lamb",
    ),
    Case("newton", jl.newton, oracles.newton, {"damping": 0.5}, needs=("params", "value_fn"), skip=WHOLE_TREE),
    Case(
        "newton_cg",
        jl.newton_cg,
        oracles.newton_cg,
        {"damping": 0.5},
        needs=("params", "value_fn"),
        skip={**WHOLE_TREE, "hyper_gradient": "a while loop has no reverse mode"},
    ),
]


@functools.cache
def kind(case: Case) -> tuple[Any, ...]:
    """Return what the lifter sees of a row: what it needs, and its slots as shapes on a leaf of two axes."""
    leaf = jax.ShapeDtypeStruct((2, 3), np.float32)
    states = jax.tree.leaves(jax.eval_shape(case.tx.init, leaf), is_leaf=lambda x: isinstance(x, jl.EquationState))
    slots = (slot.shape for state in states if hasattr(state, "slots") for slot in state.slots.values())
    return case.needs, case.min_ndim, tuple(sorted(slots))


def kinds(law: str = "", without: str = "") -> list[Any]:
    """Return one row for each program, among the rows that a law holds for; all but one row of each kind are `thorough`.

    Use it for laws about the lifter, or about a tool for any state: they treat rows of one kind alike.
    Rows whose `needs` contain `without` are left out.
    """
    seen, rows = set(), []
    for case in programs(law):
        if without in case.needs:
            continue
        rows.append(pytest.param(case, id=case.name, marks=[pytest.mark.thorough] if kind(case) in seen else []))
        seen.add(kind(case))
    return rows


def applying(law: str) -> list[Case]:
    """Return the rows that a law holds for."""
    return [case for case in CASES if law not in case.skip]


def programs(law: str = "") -> list[Case]:
    """Return one row for each program, of those that a law holds for."""
    rows: dict[str, Case] = {}
    for case in applying(law):
        rows.setdefault(case.same_program_as or case.name, case)
    return list(rows.values())


def kinds_and_numbers(law: str = "") -> list[Any]:
    """Return the rows that a law holds for, in which numbers count too; all but one of each kind are `thorough`."""
    others = [case for case in applying(law) if case not in programs(law)]
    return kinds(law) + [pytest.param(case, id=case.name, marks=[pytest.mark.thorough]) for case in others]
