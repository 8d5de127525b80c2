"""PyTorch's optimizers: the names, arguments, defaults and numbers of `torch.optim`, over the equations of this library.

Each constructor has the signature of its PyTorch class, with these readings:

- `params` is `None`, all parameters alike, or a list of groups as in PyTorch, whose `"params"` is a regular expression, or a
  list of them, searched for in the parameter's path joined by "/": `[{"params": "bias|scale", "weight_decay": 0.0}, {}]`. A
  group without `"params"` takes the rest. Each parameter must belong to exactly one group.
- `lr` is a number or a schedule, a function of the number of steps done, like a `LambdaLR` times the rate. A schedule
  and a `jax.Array` stay in force as given; a Python number can be set in the state.
- `foreach`, `fused`, `capturable` and `differentiable` choose an implementation in PyTorch; they have no effect.
- The real and imaginary parts of a complex parameter are two real ones. Its gradient is PyTorch's ∂L/∂Re + i ∂L/∂Im, the
  conjugate of what `jax.grad` returns.
- A parameter whose gradient is `None` is skipped; `jaxopt_lec.count_by_leaf` keeps its step number back too, as PyTorch.

All raise TypeError for an argument of the wrong type, such as a schedule where a number is needed, and ValueError for one
out of range; `init` raises ValueError for a pattern that matches nothing and for a parameter in no group or in two,
`update` TypeError for another optimizer's state.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ParamSpec, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxopt_lec.compat.arguments import (
    AtLeastOne,
    Decay,
    NonNegative,
    NonPositiveNumber,
    Positive,
    Share,
    bound,
    checked,
    guarded,
    is_number,
    patterns,
)
from jaxopt_lec.compat.lbfgs import lbfgs
from jaxopt_lec.equation import EquationState, _is_hole, _raise_located, chain
from jaxopt_lec.hyperparameters import Range, ScalarOrSchedule
from jaxopt_lec.optimizers.adadelta import scale_by_adadelta
from jaxopt_lec.optimizers.adafactor import scale_by_adafactor
from jaxopt_lec.optimizers.adagrad import scale_by_adagrad
from jaxopt_lec.optimizers.adam import scale_by_adam
from jaxopt_lec.optimizers.adamax import scale_by_adamax
from jaxopt_lec.optimizers.adamw import add_decayed_weights, decay_weights
from jaxopt_lec.optimizers.amsgrad import scale_by_amsgrad
from jaxopt_lec.optimizers.asgd import scale_by_asgd
from jaxopt_lec.optimizers.momentum import scale_by_momentum
from jaxopt_lec.optimizers.muon import COEFFICIENTS, orthogonalize
from jaxopt_lec.optimizers.nadam import scale_by_nadam
from jaxopt_lec.optimizers.nesterov import scale_by_nesterov
from jaxopt_lec.optimizers.radam import scale_by_radam
from jaxopt_lec.optimizers.rmsprop import scale_by_centered_rmsprop, scale_by_rmsprop
from jaxopt_lec.optimizers.rprop import scale_by_rprop
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.paths import check_matched, map_by_name, named_leaves

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "TorchOptimizer",
]

P = ParamSpec("P")
Groups: TypeAlias = Sequence[Mapping[str, Any]] | None
Tx: TypeAlias = optax.GradientTransformation
Shrinking: TypeAlias = Annotated[ScalarOrSchedule, Range(0, 1, closed="neither")]
Growing: TypeAlias = Annotated[ScalarOrSchedule, Range(1, math.inf, closed="neither")]


class TorchOptimizer(optax.GradientTransformationExtraArgs):  # type: ignore[misc]  # Optax is untyped
    """A gradient transformation that knows PyTorch's name and options for itself."""

    @classmethod
    def of(cls, name: str, groups: tuple[dict[str, Any], ...], tx: Tx, order: Any = None) -> "TorchOptimizer":
        """Hold `tx` with what it is called; `update` has it, so that what takes the pair apart can put it together again."""
        inner = optax.with_extra_args_support(tx)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            return inner.update(updates, state, params, **extra)

        update.name, update.groups, update.order = name, groups, order  # type: ignore[attr-defined]
        return cls(inner.init, update)

    @property
    def name(self) -> str:
        """The name of the class in `torch.optim`."""
        return self.update.name

    @property
    def groups(self) -> tuple[dict[str, Any], ...]:
        """The options of each parameter group, defaults filled in; `"params"` are its patterns, `None` for the rest."""
        return self.update.groups

    @property
    def order(self) -> Any:
        """The `order` that `checkpoint.from_torch` read, for `checkpoint.to_torch`; `None` if it did not make this."""
        return self.update.order


def _optimizer(
    *, complex_parameters: bool = True, of_the_call: Sequence[str] = ()
) -> Callable[[Callable[P, Tx]], Callable[P, TorchOptimizer]]:
    """Give the constructor for one group of real parameters its groups, and its complex parameters.

    Args:
        complex_parameters: whether PyTorch takes them.
        of_the_call: options that PyTorch takes from the call only, whatever a group says.
    """

    def decorate(build: Callable[P, Tx]) -> Callable[P, TorchOptimizer]:
        name, signature = build.__name__, inspect.signature(build)
        one_group: Callable[..., Tx] = build

        @functools.wraps(build)
        def make(*args: P.args, **kwargs: P.kwargs) -> TorchOptimizer:
            options = bound(name, signature, args, kwargs)
            kept = {key: options[key] for key in of_the_call}
            given = _checked_groups(name, options.pop("params"), options)
            groups = tuple(
                {
                    **checked(name if len(given) == 1 else f"{name}: group {i}", signature, options | group | kept),
                    "params": at,
                }
                for i, (at, group) in enumerate(given)
            )

            def transformation(group: dict[str, Any]) -> Tx:
                try:
                    tx = one_group(**{**group, "params": None})
                except (TypeError, ValueError) as error:
                    _raise_located(error, name)
                return _on_parts(tx) if complex_parameters else _refusing_complex(name, tx)

            if len(groups) == 1 and groups[0]["params"] is None:
                return TorchOptimizer.of(name, groups, guarded(name, transformation(groups[0])))
            labels = functools.partial(_labels, name, [group["params"] for group in groups])
            transformations = {i: transformation(group) for i, group in enumerate(groups)}
            return TorchOptimizer.of(name, groups, guarded(name, optax.partition(transformations, labels)))

        return make

    return decorate


def _checked_groups(
    name: str, groups: Any, options: Mapping[str, Any]
) -> list[tuple[tuple[str, ...] | None, dict[str, Any]]]:
    """Return for each group its patterns, `None` for the rest, and the options of its own."""
    if groups is None:
        return [(None, {})]
    if not isinstance(groups, list | tuple) or not groups or not all(isinstance(group, Mapping) for group in groups):
        raise TypeError(
            f"{name}: params must be None or a list of groups such as {{'params': 'bias', 'weight_decay': 0.0}}; the "
            "parameters themselves are given to init"
        )
    found: list[tuple[tuple[str, ...] | None, dict[str, Any]]] = []
    for i, group in enumerate(groups):
        unknown = set(group) - set(options) - {"params"}
        if unknown:
            raise TypeError(f"{name}: group {i} has the unknown options {sorted(unknown)}; it may have {sorted(options)}")
        own = dict(group)
        at = own.pop("params", None)
        at = None if at is None else patterns(f"{name}: group {i}", at)
        if at == ():
            raise ValueError(f"{name}: group {i} has no patterns; leave out 'params' for the group of the rest")
        found.append((at, own))
    if sum(at is None for at, _ in found) > 1:
        raise ValueError(f"{name}: only one group can take the rest; give the others 'params'")
    return found


def _labels(name: str, groups: list[tuple[str, ...] | None], params: Any) -> Any:
    """Return the tree of the numbers of the groups that the parameters belong to."""
    rest = [i for i, at in enumerate(groups) if at is None]
    names = []

    def label(where: str, _: Any) -> int:
        names.append(where)
        found = [i for i, at in enumerate(groups) if any(re.search(pattern, where) for pattern in at or ())]
        if len(found) > 1 or not (found or rest):
            raise ValueError(f"{name}: the parameter {where!r} is in {f'the groups {found}' if found else 'no group'}")
        return (found or rest)[0]

    labels = map_by_name(label, params, is_leaf=_is_hole)
    for i, at in enumerate(groups):
        check_matched(f"{name}: group {i}", at or (), names)
    return labels


def _on_parts(tx: Tx) -> Tx:
    """Let the real and the imaginary parts of complex parameters be two parameters."""
    tx = optax.contrib.split_real_and_imaginary(tx)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        # The parts become a complex number again also where the user made promotion strict.
        with jax.numpy_dtype_promotion("standard"):
            return tx.update(updates, state, params)

    return optax.GradientTransformation(tx.init, update)


def _is_off(x: Any) -> bool:
    return is_number(x) and bool(x == 0)


def _uphill(maximize: bool) -> list[Tx]:
    return [optax.scale(-1.0)] if maximize else []


def _decay(weight_decay: ScalarOrSchedule) -> list[Tx]:
    return [] if _is_off(weight_decay) else [add_decayed_weights(weight_decay=weight_decay)]


def _decaying(weight_decay: ScalarOrSchedule, decoupled: bool, direction: Tx) -> list[Tx]:
    """Place the weight decay behind the direction if it is decoupled, before it as L2 regularisation."""
    decay = _decay(weight_decay)
    return [direction, *decay] if decoupled else [*decay, direction]


def _refusing_complex(name: str, tx: Tx) -> Tx:
    return _refusing(tx, TypeError, f"{name} does not take complex parameters, as in PyTorch", jnp.iscomplexobj)


def _refusing(tx: Tx, kind: type[Exception], why: str, refuses: Callable[[Any], bool]) -> Tx:
    def init(params: Any) -> Any:
        for where, p in named_leaves(params):
            if refuses(p):
                raise kind(f"{why}: {repr(where) if where else 'the only leaf'} has shape {jnp.shape(p)}")
        return tx.init(params)

    return optax.GradientTransformation(init, tx.update)


@_optimizer()
def SGD(
    params: Groups = None,
    lr: NonNegative = 1e-3,
    momentum: Decay = 0,
    dampening: Share = 0,
    weight_decay: NonNegative = 0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
    foreach: bool | None = None,
    differentiable: bool = False,
    fused: bool | None = None,
) -> Tx:
    """`torch.optim.SGD`: v ← μ v + (1−τ)(g + λθ), v₁ = g + λθ; θ ← θ − lr v, or θ − lr (g + λθ + μ v) with `nesterov`.

    Args:
        lr, weight_decay: η, λ in [0, ∞).
        momentum, dampening: μ in [0, 1), τ in [0, 1].
        nesterov: needs momentum, and no dampening.
        maximize: whether to go uphill: −g for g.

    Slots: v with momentum. Errors: ValueError for `nesterov` without momentum or with dampening.
    """
    if nesterov and (_is_off(momentum) or callable(dampening) or (is_number(dampening) and dampening != 0)):
        raise ValueError("nesterov needs momentum and zero dampening")
    velocity = scale_by_nesterov(decay=momentum) if nesterov else scale_by_momentum(decay=momentum, dampening=dampening)
    return chain(
        "SGD",
        *_uphill(maximize),
        *_decay(weight_decay),
        *([] if _is_off(momentum) else [velocity]),
        scale_by_learning_rate(learning_rate=lr),
    )


@_optimizer(of_the_call=["initial_accumulator_value"])
def Adagrad(
    params: Groups = None,
    lr: NonNegative = 1e-2,
    lr_decay: NonNegative = 0,
    weight_decay: NonNegative = 0,
    initial_accumulator_value: NonNegative = 0,
    eps: NonNegative = 1e-10,
    foreach: bool | None = None,
    *,
    maximize: bool = False,
    differentiable: bool = False,
    fused: bool | None = None,
) -> Tx:
    """`torch.optim.Adagrad`: G ← G + g², θ ← θ − lr/(1 + (t−1) lr_decay) g/(√G + ε), with g + λθ for g.

    Args:
        lr, lr_decay, weight_decay, initial_accumulator_value, eps: in [0, ∞); of a group's own `initial_accumulator_value`
            PyTorch makes no use, nor does this.
        maximize: as in `SGD`.

    Slots: G.
    """
    return chain(
        "Adagrad",
        *_uphill(maximize),
        *_decay(weight_decay),
        scale_by_adagrad(eps=eps, initial_accumulator=initial_accumulator_value, learning_rate_decay=lr_decay),
        scale_by_learning_rate(learning_rate=lr),
    )


@_optimizer()
def RMSprop(
    params: Groups = None,
    lr: NonNegative = 1e-2,
    alpha: Decay = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0,
    momentum: Decay = 0,
    centered: bool = False,
    capturable: bool = False,
    foreach: bool | None = None,
    maximize: bool = False,
    differentiable: bool = False,
) -> Tx:
    """`torch.optim.RMSprop`: G ← α G + (1−α) g²; b ← μ b + g/(√G + ε); θ ← θ − lr b, with g + λθ for g.

    Args:
        lr, eps, weight_decay: in [0, ∞).
        alpha, momentum: α, μ in [0, 1).
        centered: √(G − m²) for √G, m the running mean of g. Where rounding makes it negative PyTorch has NaN, here it is 0.
        maximize: as in `SGD`.

    Slots: G; m if centered; v, which is b, with momentum.
    """
    scale = scale_by_centered_rmsprop if centered else scale_by_rmsprop
    return chain(
        "RMSprop",
        *_uphill(maximize),
        *_decay(weight_decay),
        scale(decay=alpha, eps=eps),
        *([] if _is_off(momentum) else [scale_by_momentum(decay=momentum)]),
        scale_by_learning_rate(learning_rate=lr),
    )


@_optimizer()
def Adadelta(
    params: Groups = None,
    lr: NonNegative = 1.0,
    rho: Decay = 0.9,
    eps: Positive = 1e-6,
    weight_decay: NonNegative = 0,
    foreach: bool | None = None,
    *,
    capturable: bool = False,
    maximize: bool = False,
    differentiable: bool = False,
) -> Tx:
    """`torch.optim.Adadelta`: G ← ρ G + (1−ρ) g²; Δ = √(S+ε)/√(G+ε) g; S ← ρ S + (1−ρ) Δ²; θ ← θ − lr Δ, g + λθ for g.

    Args:
        lr, weight_decay: in [0, ∞).
        rho: ρ in [0, 1).
        eps: ε in (0, ∞); PyTorch takes 0 too, and never moves.
        maximize: as in `SGD`.

    Slots: G, S.
    """
    return chain(
        "Adadelta",
        *_uphill(maximize),
        *_decay(weight_decay),
        scale_by_adadelta(rho=rho, eps=eps),
        scale_by_learning_rate(learning_rate=lr),
    )


@_optimizer()
def Adam(
    params: Groups = None,
    lr: NonNegative = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0,
    amsgrad: bool = False,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
    capturable: bool = False,
    differentiable: bool = False,
    fused: bool | None = None,
    decoupled_weight_decay: bool = False,
) -> Tx:
    """`torch.optim.Adam`: θ ← θ − lr m̂/(√v̂ + ε), with g + λθ for g.

    Args:
        lr, eps, weight_decay: in [0, ∞).
        betas: (β₁, β₂), each in [0, 1).
        amsgrad: the maximum of all v so far for v.
        maximize: as in `SGD`.
        decoupled_weight_decay: θ ← θ − lr λ θ beside the step instead, as in `AdamW`.

    Slots: m, v; v_max with `amsgrad`.
    """
    direction = _adam_direction(betas, eps, amsgrad)
    return chain(
        "Adam",
        *_uphill(maximize),
        *_decaying(weight_decay, decoupled_weight_decay, direction),
        scale_by_learning_rate(learning_rate=lr),
    )


def _adam_direction(betas: tuple[ScalarOrSchedule, ScalarOrSchedule], eps: ScalarOrSchedule, amsgrad: bool) -> Tx:
    return (scale_by_amsgrad if amsgrad else scale_by_adam)(b1=betas[0], b2=betas[1], eps=eps)


@_optimizer()
def AdamW(
    params: Groups = None,
    lr: NonNegative = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    foreach: bool | None = None,
    capturable: bool = False,
    differentiable: bool = False,
    fused: bool | None = None,
) -> Tx:
    """`torch.optim.AdamW`: θ ← θ − lr (m̂/(√v̂ + ε) + λ θ).

    Arguments and slots as in `Adam`.
    """
    return chain(
        "AdamW",
        *_uphill(maximize),
        _adam_direction(betas, eps, amsgrad),
        *_decay(weight_decay),
        scale_by_learning_rate(learning_rate=lr),
    )


@_optimizer()
def NAdam(
    params: Groups = None,
    lr: NonNegative = 2e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0,
    momentum_decay: Annotated[ScalarOrSchedule, Range(0, math.inf, closed="both")] = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
    capturable: bool = False,
    differentiable: bool = False,
) -> Tx:
    """`torch.optim.NAdam`: θ ← θ − lr m̂/(√v̂ + ε) with the m̂ of `jaxopt_lec.nadam`, with g + λθ for g.

    Args:
        lr, betas, eps, weight_decay, maximize, decoupled_weight_decay: as in `Adam`.
        momentum_decay: ψ in [0, ∞].

    Slots: m, v, mu_product.
    """
    direction = scale_by_nadam(b1=betas[0], b2=betas[1], eps=eps, momentum_decay=momentum_decay)
    return chain(
        "NAdam",
        *_uphill(maximize),
        *_decaying(weight_decay, decoupled_weight_decay, direction),
        scale_by_learning_rate(learning_rate=lr),
    )


@_optimizer()
def RAdam(
    params: Groups = None,
    lr: NonNegative = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0,
    decoupled_weight_decay: bool = False,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
    capturable: bool = False,
    differentiable: bool = False,
) -> Tx:
    """`torch.optim.RAdam`: θ ← θ − lr rₜ m̂ √(1−β₂ᵗ)/(√v + ε) where ρₜ > 5, else θ − lr m̂, with g + λθ for g.

    Arguments and slots as in `Adam`, rₜ and ρₜ as in `jaxopt_lec.radam`.
    """
    direction = scale_by_radam(b1=betas[0], b2=betas[1], eps=0.0, eps_hat=eps, threshold=5.0)
    return chain(
        "RAdam",
        *_uphill(maximize),
        *_decaying(weight_decay, decoupled_weight_decay, direction),
        scale_by_learning_rate(learning_rate=lr),
    )


@_optimizer()
def Adamax(
    params: Groups = None,
    lr: NonNegative = 2e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0,
    foreach: bool | None = None,
    *,
    maximize: bool = False,
    differentiable: bool = False,
    capturable: bool = False,
) -> Tx:
    """`torch.optim.Adamax`: u ← max(β₂ u, |g| + ε); θ ← θ − lr m̂/u, with g + λθ for g.

    Arguments as in `Adam`. Slots: m, u.
    """
    return chain(
        "Adamax",
        *_uphill(maximize),
        *_decay(weight_decay),
        scale_by_adamax(b1=betas[0], b2=betas[1], eps=0.0, eps_max=eps),
        scale_by_learning_rate(learning_rate=lr),
    )


@_optimizer()
def ASGD(
    params: Groups = None,
    lr: NonNegative = 1e-2,
    lambd: NonNegative = 1e-4,
    alpha: NonNegative = 0.75,
    t0: NonNegative = 1e6,
    weight_decay: NonNegative = 0,
    foreach: bool | None = None,
    maximize: bool = False,
    differentiable: bool = False,
    capturable: bool = False,
) -> Tx:
    """`torch.optim.ASGD`: θ ← (1 − λ ηₜ) θ − ηₜ g and an average of the θ, as in `jaxopt_lec.asgd`, with g + wθ for g.

    Args:
        lr, lambd, alpha, t0, weight_decay: η, λ, α, t₀, w in [0, ∞); a scheduled `lr` acts one step late, as in PyTorch.
        maximize: as in `SGD`.

    Slots: average (PyTorch's `ax`), eta.
    """
    return chain(
        "ASGD",
        *_uphill(maximize),
        *_decay(weight_decay),
        scale_by_asgd(learning_rate=lr, decay=lambd, power=alpha, start=t0),
    )


@_optimizer()
def Rprop(
    params: Groups = None,
    lr: NonNegative = 1e-2,
    etas: tuple[Shrinking, Growing] = (0.5, 1.2),
    step_sizes: tuple[NonNegative, NonNegative] = (1e-6, 50),
    *,
    capturable: bool = False,
    foreach: bool | None = None,
    maximize: bool = False,
    differentiable: bool = False,
) -> Tx:
    """`torch.optim.Rprop`: θ ← θ − sign(g) s, the steps s as in `jaxopt_lec.rprop`.

    Args:
        lr: the first step, in [0, ∞); a schedule's later values are not used, as in PyTorch.
        etas: (η⁻, η⁺) in (0, 1) and (1, ∞).
        step_sizes: the least and the largest step, in [0, ∞).
        maximize: as in `SGD`.

    Slots: g_prev, step_size.
    """
    return chain(
        "Rprop",
        *_uphill(maximize),
        scale_by_rprop(
            learning_rate=lr, eta_minus=etas[0], eta_plus=etas[1], step_min=step_sizes[0], step_max=step_sizes[1]
        ),
    )


@_optimizer(complex_parameters=False)
def Adafactor(
    params: Groups = None,
    lr: NonNegative = 1e-2,
    beta2_decay: NonPositiveNumber = -0.8,
    eps: tuple[NonNegative | None, NonNegative] = (None, 1e-3),
    d: Annotated[ScalarOrSchedule, Range(1, math.inf)] = 1.0,
    weight_decay: NonNegative = 0.0,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
) -> Tx:
    """`torch.optim.Adafactor`: θ ← θ − max(ε₂, RMS(θ)) min(lr, 1/√t) Û − lr λ θ, with the Û of `jaxopt_lec.adafactor`.

    Args:
        lr, weight_decay: in [0, ∞).
        beta2_decay: in (−∞, 0].
        eps: (ε₁, ε₂) in [0, ∞). ε₁ is a lower bound here, not added to g² as in the paper; `None` is the machine epsilon of
            the dtype computed in, float32 for narrower parameters.
        d: in [1, ∞).
        maximize: as in `SGD`.

    Slots: R, C, V. Errors: TypeError for complex parameters; ValueError for `d` below 1.
    """
    direction = scale_by_adafactor(
        learning_rate=lr,
        decay_power=-beta2_decay,
        eps=0.0,
        eps_floor=0.0 if eps[0] is None else eps[0],
        machine_floor=eps[0] is None,
        eps_scale=eps[1],
        clip_threshold=d,
    )
    decay = [] if _is_off(weight_decay) else [decay_weights(learning_rate=lr, weight_decay=weight_decay)]
    return chain("Adafactor", *_uphill(maximize), direction, *decay)


@_optimizer(complex_parameters=False)
def Muon(
    params: Groups = None,
    lr: NonNegative = 1e-3,
    weight_decay: NonNegative = 0.1,
    momentum: Decay = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
    eps: NonNegative = 1e-7,
    ns_steps: Annotated[int, Range(0, 100)] = 5,
    adjust_lr_fn: str | None = None,
    *,
    output_axis: Annotated[int, Range(-2, -1, closed="both")] = -2,
) -> Tx:
    """`torch.optim.Muon`: v ← μ v + (1−μ) g; θ ← θ − lr (c O + λ θ), O the orthogonalized (1−μ) g + μ v, or v.

    PyTorch orthogonalizes in bfloat16, this in the dtype of the parameters, float32 at least: its steps agree with PyTorch's
    to the 1 % or so that bfloat16 leaves, and exactly with PyTorch's own code run in float64.

    Args:
        lr, weight_decay, eps: in [0, ∞).
        momentum: μ in [0, 1).
        nesterov: the look-ahead (1−μ) g + μ v.
        ns_coefficients, ns_steps: as in `jaxopt_lec.orthogonalize`; fewer than 100 steps.
        adjust_lr_fn: c is √max(1, n_out/n_in) for `None` and "original", 0.2 √max(n_out, n_in) for "match_rms_adamw".
        output_axis: not PyTorch's: −2 for matrices as PyTorch keeps them, (out, in); −1 as Flax does, (in, out).

    Slots: v. Errors: ValueError for a parameter that is not a matrix; TypeError for a complex one.
    """
    adjust = {None: "original", "original": "original", "match_rms_adamw": "match_rms"}
    if adjust_lr_fn not in adjust:
        raise ValueError(f"adjust_lr_fn is None, 'original' or 'match_rms_adamw', got {adjust_lr_fn!r}")
    tx = chain(
        "Muon",
        (scale_by_nesterov if nesterov else scale_by_momentum)(decay=momentum, average=True),
        orthogonalize(
            eps=0.0,
            eps_floor=eps,
            coefficients=ns_coefficients,
            steps=ns_steps,
            adjust=adjust[adjust_lr_fn],
            output_axis=output_axis,
        ),
        *_decay(weight_decay),
        scale_by_learning_rate(learning_rate=lr),
    )
    return _refusing(tx, ValueError, "Muon takes matrices only, as in PyTorch", lambda p: jnp.ndim(p) != 2)


@_optimizer(complex_parameters=False)
def SparseAdam(
    params: Groups = None,
    lr: NonNegative = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    maximize: bool = False,
) -> Tx:
    """`torch.optim.SparseAdam`: Adam for the rows of the first axis that have a gradient; the others keep θ, m and v.

    Gradients are dense arrays: a row of zeros is a row without a gradient. (PyTorch's sparse gradient can hold a row of the
    value zero; there m and v decay.) θ ← θ − lr √(1−β₂ᵗ)/(1−β₁ᵗ) m/(√v + ε), t the number of steps of the whole parameter.

    Args:
        lr, betas, eps, maximize: as in `Adam`.

    Slots: m, v. Errors: TypeError for complex parameters.
    """
    return chain(
        "SparseAdam",
        *_uphill(maximize),
        _for_rows_with_gradient(scale_by_adam(b1=betas[0], b2=betas[1], eps=0.0, eps_hat=eps)),
        scale_by_learning_rate(learning_rate=lr),
    )


def _for_rows_with_gradient(tx: Tx) -> Tx:
    """Let a lifted equation see, in each leaf, only the rows that are not all zero."""

    def update(updates: Any, state: EquationState, params: Any = None) -> tuple[Any, EquationState]:
        def touched(g: Any, new: Any, old: Any) -> Any:
            if g is None:
                return new
            g = jnp.asarray(g)
            return jnp.where(jnp.any(g != 0, axis=tuple(range(1, g.ndim)), keepdims=True), new, old)

        directions, new = tx.update(updates, state, params)
        by_rows = functools.partial(jax.tree.map, touched, updates, is_leaf=lambda g: g is None)
        slots = {name: by_rows(slot, state.slots[name]) for name, slot in new.slots.items()}
        return by_rows(directions, optax.tree.zeros_like(updates)), new._replace(slots=slots)

    return optax.GradientTransformation(tx.init, update)


def LBFGS(
    params: Groups = None,
    lr: NonNegative = 1,
    max_iter: AtLeastOne = 20,
    max_eval: AtLeastOne | None = None,
    tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9,
    history_size: AtLeastOne = 100,
    line_search_fn: str | None = None,
) -> TorchOptimizer:
    """`torch.optim.LBFGS`: up to `max_iter` quasi-Newton iterations in each update.

    `update(grads, state, params, value_fn=f)` is PyTorch's `step(closure)`: f is the loss as a function of a tree like
    params, with those extra arguments bound that it has by name. `value=` may give the loss at params, which saves one
    evaluation.

    Args:
        lr: in [0, ∞).
        max_iter: at least 1, iterations of one update.
        max_eval: evaluations of the loss in one update; `None` is 1.25 `max_iter`.
        tolerance_grad, tolerance_change: when to stop; one below 0 is never met.
        history_size: at least 1, how many pairs of steps and gradient differences are kept.
        line_search_fn: `None`, a step of `lr`, or "strong_wolfe".

    State: `jaxopt_lec.compat.lbfgs.LBFGSState`. Errors: ValueError for groups, as in PyTorch, and without `value_fn`.

    Reference: J. Nocedal, Updating quasi-Newton matrices with limited storage, 1980.
    """
    if params is not None:
        raise ValueError("LBFGS takes all parameters together: params must be None")
    given = {
        "lr": lr,
        "max_iter": max_iter,
        "max_eval": max_eval,
        "tolerance_grad": tolerance_grad,
        "tolerance_change": tolerance_change,
        "history_size": history_size,
        "line_search_fn": line_search_fn,
    }
    options = checked("LBFGS", inspect.signature(LBFGS), given)
    if line_search_fn not in (None, "strong_wolfe"):
        raise ValueError(f"LBFGS: line_search_fn must be None or 'strong_wolfe', got {line_search_fn!r}")
    if max_eval is None:
        options["max_eval"] = max_iter * 5 // 4
    return TorchOptimizer.of("LBFGS", ({"params": None, **options},), lbfgs(**options))
