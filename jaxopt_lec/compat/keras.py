"""Keras 3's optimizers: the same names, arguments, defaults and numbers as `keras.optimizers`, over the equations here.

Each constructor has the signature of its Keras class, with these readings:

- `learning_rate` is a number or a schedule, a function of the number of updates done, as Keras calls a
  `LearningRateSchedule` with `iterations`; with `gradient_accumulation_steps`, of the number of gradients seen, as there.
- `weight_decay` shrinks the variable, θ ← θ − η λ θ, before the step, which sees the shrunk variable.
- `exclude_from_weight_decay`, by keyword, takes the place of Keras's method: regular expressions, searched for in the
  parameter's path joined by "/", of the variables that are not shrunk. Each must be found in some path.
- `clipnorm` (each variable's norm), `clipvalue` and `global_clipnorm`, of which one may be given, clip the gradient.
- `use_ema` averages the variables, ā ← ema_momentum ā + (1 − ema_momentum) θ, at every update;
  `optax.tree.get(state, "average")` are they. Each `ema_overwrite_frequency` updates θ ← ā.
- `gradient_accumulation_steps` averages the gradients of so many updates, and steps at the last of them.
- `loss_scale_factor` divides the gradient; multiply the loss by it.
- `name` has no effect.
- What all optimizers share is given by keyword only.

All raise TypeError for an argument of the wrong type, such as a schedule where a number is needed, and ValueError for one
out of range and for more than one way of clipping; `init` raises ValueError for a pattern that matches nothing, `update`
TypeError for another optimizer's state. `update` needs `params` where something reads them.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, ParamSpec, TypeAlias, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lec.arithmetic import abs2, ema, one_minus_power, sqrt
from jaxopt_lec.compat.arguments import (
    AtLeastOne,
    Decay,
    NonNegative,
    NonNegativeNumber,
    NonPositiveNumber,
    Positive,
    PositiveNumber,
    bound,
    checked,
    guarded,
    is_number,
)
from jaxopt_lec.equation import EquationState, _array, _is_hole, _raise_located, chain, equation
from jaxopt_lec.hyperparameters import Range, ScalarOrSchedule, Schedule
from jaxopt_lec.optimizers.adadelta import scale_by_adadelta
from jaxopt_lec.optimizers.adafactor import scale_by_adafactor
from jaxopt_lec.optimizers.adagrad import scale_by_adagrad
from jaxopt_lec.optimizers.adam import scale_by_adam
from jaxopt_lec.optimizers.adamax import scale_by_adamax
from jaxopt_lec.optimizers.adamw import decay_weights
from jaxopt_lec.optimizers.amsgrad import scale_by_amsgrad
from jaxopt_lec.optimizers.ftrl import scale_by_ftrl
from jaxopt_lec.optimizers.lamb import scale_by_trust_ratio
from jaxopt_lec.optimizers.lion import scale_by_lion
from jaxopt_lec.optimizers.momentum import scale_by_momentum
from jaxopt_lec.optimizers.muon import orthogonalize
from jaxopt_lec.optimizers.nadam import scale_by_nadam
from jaxopt_lec.optimizers.nesterov import scale_by_nesterov
from jaxopt_lec.optimizers.rmsprop import scale_by_centered_rmsprop, scale_by_rmsprop
from jaxopt_lec.optimizers.sgd import scale_by_learning_rate
from jaxopt_lec.paths import check_matched, map_by_name, named_leaves
from jaxopt_lec.slots import compute_dtype, real_dtype, zeros_real

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "KerasOptions",
    "Lamb",
    "Lion",
    "LossScaleOptimizer",
    "LossScaleState",
    "Muon",
    "Nadam",
    "RMSprop",
    "ScheduleFreeAdamW",
    "SharedOptions",
    "schedule_free_parameters",
]

P = ParamSpec("P")
PyTree: TypeAlias = Any
Tx: TypeAlias = optax.GradientTransformation
# What an optimizer does with the learning rate.
Step: TypeAlias = Callable[[ScalarOrSchedule], Tx]


class SharedOptions(TypedDict, total=False):
    """The arguments that all of Keras's optimizers share, given by keyword."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    name: str | None
    exclude_from_weight_decay: Sequence[str]


class KerasOptions(SharedOptions, total=False):
    """`SharedOptions`, and the weight decay where it is not an argument of the optimizer's own."""

    weight_decay: ScalarOrSchedule | None


def _optimizer(*, shrinks: bool = True) -> Callable[[Callable[P, Step]], Callable[P, optax.GradientTransformationExtraArgs]]:
    """Give the constructor of a step, which is a function of the learning rate, what all of Keras's optimizers share.

    Args:
        shrinks: whether the shared weight decay is meant; the step of `Muon` has its own.
    """

    def decorate(build: Callable[P, Step]) -> Callable[P, optax.GradientTransformationExtraArgs]:
        name, step_of = build.__name__, _untyped(build)
        own = [q for q in inspect.signature(build).parameters.values() if q.kind is not q.VAR_KEYWORD]
        names = {q.name for q in own}
        shared = [q for q in inspect.signature(_around).parameters.values() if q.kind is q.KEYWORD_ONLY]
        signature = inspect.Signature(
            [*own, *(q for q in shared if q.name not in names)], return_annotation=optax.GradientTransformationExtraArgs
        )

        @functools.wraps(build)
        def make(*args: P.args, **kwargs: P.kwargs) -> optax.GradientTransformationExtraArgs:
            given = checked(name, signature, bound(name, signature, args, kwargs))
            options = {q.name: given[q.name] for q in shared if shrinks or q.name != "weight_decay"}
            try:
                tx = _around(name, given["learning_rate"], step_of(**given), **options)
            except (TypeError, ValueError) as error:
                _raise_located(error, name)
            matching = {key: given[key] for key in ("exclude_from_weight_decay", "exclude_layers") if given.get(key)}
            return guarded(name, _on_arrays(name, tx, matching))

        # All arguments are shown, not **options: by `help`, and to `optax.inject_hyperparams`.
        make.__signature__ = signature  # type: ignore[attr-defined]
        return make

    return decorate


def _untyped(build: Callable[P, Step]) -> Callable[..., Step]:
    return build


def _around(
    keras_name: str,
    learning_rate: ScalarOrSchedule,
    step: Step,
    *,
    weight_decay: NonNegative | None = None,
    clipnorm: PositiveNumber | None = None,
    clipvalue: PositiveNumber | None = None,
    global_clipnorm: PositiveNumber | None = None,
    use_ema: bool = False,
    ema_momentum: Annotated[float, Range(0, 1, closed="both")] = 0.99,
    ema_overwrite_frequency: AtLeastOne | None = None,
    loss_scale_factor: PositiveNumber | None = None,
    gradient_accumulation_steps: Annotated[int, Range(2, math.inf)] | None = None,
    name: str | None = None,
    exclude_from_weight_decay: Sequence[str] = (),
) -> Tx:
    """Do what Keras does around each optimizer's step."""
    every = gradient_accumulation_steps or 1
    if sum(clip is not None for clip in (clipnorm, clipvalue, global_clipnorm)) > 1:
        raise ValueError("only one of clipnorm, clipvalue and global_clipnorm can be given")
    # Keras asks a schedule for the number of gradients seen; the step counts updates.
    rate = learning_rate
    if isinstance(learning_rate, Schedule):
        rate = Schedule(learning_rate.what, lambda count: learning_rate.function(count * every + every - 1))
    tx = step(rate)
    if weight_decay is not None:
        tx = _shrinking_first(rate, weight_decay, exclude_from_weight_decay, tx)
    if clipnorm is not None:
        tx = chain(keras_name, clip_by_norm(max_norm=clipnorm), tx)
    if clipvalue is not None:
        tx = chain(keras_name, _clip_by_value(keras_name, clipvalue), tx)
    if global_clipnorm is not None:
        tx = chain(keras_name, optax.clip_by_global_norm(global_clipnorm), tx)
    if every > 1:
        tx = _accumulating(tx, every)
    if loss_scale_factor is not None:
        tx = chain(keras_name, optax.scale(1 / loss_scale_factor), tx)
    return _averaging(tx, ema_momentum, ema_overwrite_frequency, every) if use_ema else tx


def _on_arrays(name: str, tx: Tx, patterns: Mapping[str, Sequence[str]]) -> Tx:
    """Let Python numbers and arrays of NumPy be parameters, and check that each pattern is found in the name of one."""
    tx = optax.with_extra_args_support(tx)
    arrays = functools.partial(jax.tree.map, lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else _array(x))

    def init(params: PyTree) -> Any:
        names = [where for where, _ in named_leaves(params, is_leaf=_is_hole)]
        for key, given in patterns.items():
            check_matched(f"{name}: {key}", given, names)
        return tx.init(arrays(params))

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra: Any) -> tuple[PyTree, Any]:
        return tx.update(arrays(updates), state, arrays(params), **extra)

    return optax.GradientTransformationExtraArgs(init, update)


@equation()
def clip_by_norm(g: Any, s: Any, p: Any, t: Any, *, max_norm: Positive = 1.0) -> tuple[Any, dict[str, Any]]:
    """Shorten the gradient of each leaf to at most `max_norm`: u = g c / max(‖g‖, c)."""
    return g * (max_norm / jnp.maximum(jnp.sqrt(jnp.sum(abs2(g))), max_norm)), {}


def _clip_by_value(keras_name: str, clipvalue: float) -> Tx:
    clip = optax.clip(clipvalue)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        for where, g in named_leaves(updates):
            if jnp.iscomplexobj(g):
                raise TypeError(
                    f"{keras_name}: clipvalue needs real gradients, and at {where!r} it is {g.dtype}: clipnorm and "
                    "global_clipnorm take complex ones"
                )
        return clip.update(updates, state, params)

    return optax.GradientTransformation(clip.init, update)


@equation()
def scale_by_ratio(g: Any, s: Any, p: Any, t: Any, *, adam_lr_ratio: NonNegative = 1.0) -> tuple[Any, dict[str, Any]]:
    """Multiply by a ratio of learning rates, which stays what it is when the rate is set: u = r g."""
    return adam_lr_ratio * g, {}


class ShrinkingState(NamedTuple):
    """The state of an optimizer with weight decay: that of the decay and that of the step after it."""

    decay: Any
    step: Any


def _shrinking_first(rate: ScalarOrSchedule, weight_decay: ScalarOrSchedule, excluded: Sequence[str], step: Tx) -> Tx:
    def mask(tree: PyTree) -> PyTree:
        def is_shrunk(where: str, _: Any) -> bool:
            return not any(re.search(pattern, where) for pattern in excluded)

        return map_by_name(is_shrunk, tree, is_leaf=_is_hole)

    decay = optax.masked(decay_weights(learning_rate=rate, weight_decay=weight_decay), mask)

    def init(params: PyTree) -> ShrinkingState:
        return ShrinkingState(decay.init(params), step.init(params))

    def update(updates: PyTree, state: ShrinkingState, params: PyTree = None) -> tuple[PyTree, ShrinkingState]:
        if params is None:
            raise ValueError("weight_decay needs params: call update(updates, state, params)")
        shrinking, decay_state = decay.update(optax.tree.zeros_like(updates), state.decay, params)
        directions, step_state = step.update(updates, state.step, _moved(params, shrinking))
        return optax.tree.add(shrinking, directions), ShrinkingState(decay_state, step_state)

    return optax.GradientTransformation(init, update)


class AveragingState(NamedTuple):
    """The state of an optimizer with `use_ema`.

    Attributes:
        count: number of updates so far, int32 scalar.
        average: tree like the parameters, at least float32: their moving average.
        step: the state of the optimizer.
    """

    count: jax.Array  # type: ignore[assignment]  # the field hides tuple.count
    average: PyTree
    step: Any


def _averaging(tx: Tx, momentum: float, overwrite_frequency: int | None, every: int) -> Tx:
    def init(params: PyTree) -> AveragingState:
        step = tx.init(params)  # first, as it says what is wrong with a parameter
        return AveragingState(jnp.zeros((), jnp.int32), _wide_zeros(params), step)

    def update(updates: PyTree, state: AveragingState, params: PyTree = None) -> tuple[PyTree, AveragingState]:
        if params is None:
            raise ValueError("use_ema needs params: call update(updates, state, params)")
        updates, step = tx.update(updates, state.step, params)
        iterations = state.count // every
        m = jnp.where(iterations == 0, 0.0, momentum)  # the first average is the variable itself
        average = jax.tree.map(
            lambda a, p: ema(a, p.astype(a.dtype), m.astype(a.dtype)), state.average, _moved(params, updates)
        )
        if overwrite_frequency is not None:
            now = (iterations + 1) % overwrite_frequency == 0

            def overwritten(u: Any, a: Any, p: Any) -> Any:
                return u if _is_hole(p) else jnp.where(now, a.astype(p.dtype) - p, jnp.zeros_like(p) if _is_hole(u) else u)

            updates = jax.tree.map(overwritten, updates, average, params, is_leaf=_is_hole)
        return updates, AveragingState(optax.safe_increment(state.count), average, step)

    return optax.GradientTransformation(init, update)


class AccumulatingState(NamedTuple):
    """The state of an optimizer with `gradient_accumulation_steps`.

    Attributes:
        count: number of gradients so far, int32 scalar.
        accumulated: tree like the parameters, at least float32: the sum of the gradients since the last step.
        step: the state of the optimizer.
    """

    count: jax.Array  # type: ignore[assignment]  # the field hides tuple.count
    accumulated: PyTree
    step: Any


def _accumulating(tx: Tx, every: int) -> Tx:
    """Step with the mean of so many gradients; one that is missing adds nothing, and at the step its sum waits, as in Keras.

    `optax.MultiSteps` takes no missing gradients.
    """

    def init(params: PyTree) -> AccumulatingState:
        step = tx.init(params)  # first, as it says what is wrong with a parameter
        return AccumulatingState(jnp.zeros((), jnp.int32), _wide_zeros(params), step)

    def update(updates: PyTree, state: AccumulatingState, params: PyTree = None) -> tuple[PyTree, AccumulatingState]:
        def add(g: Any, a: Any) -> Any:
            return g if _is_hole(g) else a + g.astype(a.dtype)

        def wait() -> tuple[PyTree, PyTree, Any]:
            sums = jax.tree.map(lambda s, a: a if _is_hole(s) else s, total, state.accumulated, is_leaf=_is_hole)
            return optax.tree.zeros_like(updates), sums, state.step

        def step() -> tuple[PyTree, PyTree, Any]:
            mean = jax.tree.map(lambda s, g: (s / every).astype(g.dtype), total, updates)
            directions, new = tx.update(mean, state.step, params)
            rest = jax.tree.map(
                lambda s, a: a if _is_hole(s) else jnp.zeros_like(a), total, state.accumulated, is_leaf=_is_hole
            )
            return directions, rest, new

        total = jax.tree.map(add, updates, state.accumulated, is_leaf=_is_hole)
        count = optax.safe_increment(state.count)
        directions, accumulated, new = jax.lax.cond(count % every == 0, step, wait)
        return directions, AccumulatingState(count, accumulated, new)

    return optax.GradientTransformation(init, update)


def _wide_zeros(params: PyTree) -> PyTree:
    return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=compute_dtype(p.dtype)), params)


def _moved(params: PyTree, updates: PyTree) -> PyTree:
    """Return the parameters after the updates; a parameter without an update stays as it is."""
    return jax.tree.map(lambda u, p: p if _is_hole(u) else optax.apply_updates(p, u), updates, params, is_leaf=_is_hole)


@_optimizer()
def SGD(
    learning_rate: NonNegative = 0.01,
    momentum: Decay = 0.0,
    nesterov: bool = False,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `SGD`: v ← μ v + η g; θ ← θ − v, or θ − (μ v + η g) with `nesterov`: the rate inside the velocity.

    Args:
        learning_rate: η in [0, ∞).
        momentum: μ in [0, 1); Keras takes 1 too.
        nesterov: whether to look ahead; without momentum it says nothing.
        **options: see `KerasOptions`.

    Slots: v with momentum.
    """

    def step(rate: ScalarOrSchedule) -> Tx:
        if is_number(momentum) and momentum == 0:
            return scale_by_learning_rate(learning_rate=rate)
        velocity = (scale_by_nesterov if nesterov else scale_by_momentum)(decay=momentum)
        return chain("SGD", scale_by_learning_rate(learning_rate=rate, flip_sign=False), velocity, optax.scale(-1.0))

    return step


@_optimizer()
def Adagrad(
    learning_rate: NonNegative = 0.001,
    initial_accumulator_value: NonNegative = 0.1,
    epsilon: NonNegative = 1e-7,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `Adagrad`: G ← G + g²; θ ← θ − η g/√(G + ε), ε inside the root.

    Args:
        learning_rate, initial_accumulator_value, epsilon: η, G₀, ε in [0, ∞).
        **options: see `KerasOptions`.

    Slots: G.
    """
    scale = scale_by_adagrad(eps=0.0, eps_root=epsilon, initial_accumulator=initial_accumulator_value)
    return _then_rate("Adagrad", scale)


@_optimizer()
def RMSprop(
    learning_rate: NonNegative = 0.001,
    rho: Decay = 0.9,
    momentum: Decay = 0.0,
    epsilon: NonNegative = 1e-7,
    centered: bool = False,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `RMSprop`: G ← ρ G + (1−ρ) g²; b ← μ b + η g/√(G + ε); θ ← θ − b: ε inside the root, the rate inside b.

    Args:
        learning_rate, epsilon: η, ε in [0, ∞).
        rho, momentum: ρ, μ in [0, 1).
        centered: √(G − m² + ε), m the running mean of g.
        **options: see `KerasOptions`.

    Slots: G; m if centered; v, which is b, with momentum.
    """

    def step(rate: ScalarOrSchedule) -> Tx:
        return chain(
            "RMSprop",
            (scale_by_centered_rmsprop if centered else scale_by_rmsprop)(decay=rho, eps=0.0, eps_root=epsilon),
            scale_by_learning_rate(learning_rate=rate, flip_sign=False),
            *([] if is_number(momentum) and momentum == 0 else [scale_by_momentum(decay=momentum)]),
            optax.scale(-1.0),
        )

    return step


@_optimizer()
def Adadelta(
    learning_rate: NonNegative = 0.001,
    rho: Decay = 0.95,
    epsilon: Positive = 1e-7,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `Adadelta`: G ← ρ G + (1−ρ) g²; Δ = √(S+ε)/√(G+ε) g; S ← ρ S + (1−ρ) Δ²; θ ← θ − η Δ.

    Args:
        learning_rate: η in [0, ∞); the paper's is 1.
        rho: ρ in [0, 1).
        epsilon: ε in (0, ∞).
        **options: see `KerasOptions`.

    Slots: G, S.
    """
    scale = scale_by_adadelta(rho=rho, eps=epsilon)
    return _then_rate("Adadelta", scale)


@_optimizer()
def Adam(
    learning_rate: NonNegative = 0.001,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.999,
    epsilon: NonNegative = 1e-7,
    amsgrad: bool = False,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `Adam`: θ ← θ − η √(1−β₂ᵗ)/(1−β₁ᵗ) m/(√v + ε): ε on the uncorrected root.

    Args:
        learning_rate, epsilon: η, ε in [0, ∞).
        beta_1, beta_2: β₁, β₂ in [0, 1).
        amsgrad: the maximum of all v so far for v.
        **options: see `KerasOptions`.

    Slots: m, v; v_max with `amsgrad`.
    """
    return _then_rate("Adam", _adam_direction(beta_1, beta_2, epsilon, amsgrad))


def _adam_direction(b1: ScalarOrSchedule, b2: ScalarOrSchedule, epsilon: ScalarOrSchedule, amsgrad: bool) -> Tx:
    return (scale_by_amsgrad if amsgrad else scale_by_adam)(b1=b1, b2=b2, eps=0.0, eps_hat=epsilon)


@_optimizer()
def AdamW(
    learning_rate: NonNegative = 0.001,
    weight_decay: NonNegative = 0.004,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.999,
    epsilon: NonNegative = 1e-7,
    amsgrad: bool = False,
    **options: Unpack[SharedOptions],
) -> Step:
    """Keras `AdamW`: `Adam` with weight decay by default.

    Args:
        weight_decay: λ in [0, ∞).
        learning_rate, beta_1, beta_2, epsilon, amsgrad, **options: as in `Adam`.

    Slots: as `Adam`.
    """
    return _then_rate("AdamW", _adam_direction(beta_1, beta_2, epsilon, amsgrad))


@_optimizer()
def Adamax(
    learning_rate: NonNegative = 0.001,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.999,
    epsilon: NonNegative = 1e-7,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `Adamax`: u ← max(β₂ u, |g|); θ ← θ − η m̂/(u + ε).

    Arguments as in `Adam`. Slots: m, u.
    """
    scale = scale_by_adamax(b1=beta_1, b2=beta_2, eps=epsilon)
    return _then_rate("Adamax", scale)


@_optimizer()
def Nadam(
    learning_rate: NonNegative = 0.001,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.999,
    epsilon: NonNegative = 1e-7,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `Nadam`: θ ← θ − η m̂/(√v̂ + ε) with the m̂ of `jaxopt_lec.nadam` for ψ = 1.

    Arguments as in `Adam`. Slots: m, v, mu_product.
    """
    scale = _with_one_product(scale_by_nadam(b1=beta_1, b2=beta_2, eps=epsilon, momentum_decay=1.0))
    return _then_rate("Nadam", scale)


def _with_one_product(nadam: Tx) -> Tx:
    """Let Π μᵢ go on also for a variable without a gradient: Keras has one for all."""

    def update(updates: PyTree, state: EquationState, params: PyTree = None) -> tuple[PyTree, EquationState]:
        directions, new = nadam.update(updates, state, params)
        treedef: Any
        gs, treedef = jax.tree.flatten(updates, is_leaf=_is_hole)
        products = treedef.flatten_up_to(new.slots["mu_product"])
        gone_on = [product for g, product in zip(gs, products, strict=True) if not _is_hole(g)]
        if gone_on:
            # Copies, since a state may be donated.
            products = [p if _is_hole(p) else jnp.array(gone_on[0], p.dtype, copy=True) for p in products]
        return directions, new._replace(slots={**new.slots, "mu_product": treedef.unflatten(products)})

    return optax.GradientTransformation(nadam.init, update)


@_optimizer()
def Ftrl(
    learning_rate: Positive = 0.001,
    learning_rate_power: NonPositiveNumber = -0.5,
    initial_accumulator_value: NonNegative = 0.1,
    l1_regularization_strength: NonNegative = 0.0,
    l2_regularization_strength: NonNegativeNumber = 0.0,
    l2_shrinkage_regularization_strength: NonNegativeNumber = 0.0,
    beta: NonNegative = 0.0,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `Ftrl`: as `jaxopt_lec.ftrl`, with twice the L2 strengths.

    Args:
        learning_rate: in (0, ∞).
        learning_rate_power: in (−∞, 0].
        initial_accumulator_value, beta: in [0, ∞).
        l1_regularization_strength, l2_regularization_strength, l2_shrinkage_regularization_strength: in [0, ∞).
        **options: see `KerasOptions`.

    Slots: z (Keras's `linear`), n (`accumulator`).
    """

    def step(rate: ScalarOrSchedule) -> Tx:
        return scale_by_ftrl(
            learning_rate=rate,
            power=-learning_rate_power,
            initial_accumulator=initial_accumulator_value,
            l1=l1_regularization_strength,
            l2=2 * l2_regularization_strength,
            l2_shrinkage=2 * l2_shrinkage_regularization_strength,
            beta=beta,
        )

    return step


@_optimizer()
def Lion(
    learning_rate: NonNegative = 0.001,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.99,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `Lion`: θ ← θ − η sign(β₁ m + (1−β₁) g); m ← β₂ m + (1−β₂) g.

    Args:
        learning_rate: η in [0, ∞).
        beta_1, beta_2: β₁, β₂ in [0, 1).
        **options: see `KerasOptions`.

    Slots: m.
    """
    return _then_rate("Lion", scale_by_lion(b1=beta_1, b2=beta_2))


@_optimizer()
def Adafactor(
    learning_rate: NonNegative = 0.001,
    beta_2_decay: NonPositiveNumber = -0.8,
    epsilon_1: NonNegative = 1e-30,
    epsilon_2: NonNegative = 1e-3,
    clip_threshold: Positive = 1.0,
    relative_step: bool = True,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `Adafactor`: as `jaxopt_lec.adafactor`.

    Args:
        learning_rate, epsilon_1, epsilon_2: in [0, ∞).
        beta_2_decay: in (−∞, 0].
        clip_threshold: in (0, ∞).
        relative_step: has no effect, as in Keras, where the rate is min(η, 1/√t) either way.
        **options: see `KerasOptions`.

    Slots: R, C, V; V of a matrix is not kept, as it is in Keras.
    """

    def step(rate: ScalarOrSchedule) -> Tx:
        return scale_by_adafactor(
            learning_rate=rate,
            decay_power=-beta_2_decay,
            eps=epsilon_1,
            eps_scale=epsilon_2,
            clip_threshold=clip_threshold,
        )

    return step


@_optimizer()
def Lamb(
    learning_rate: NonNegative = 0.001,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.999,
    epsilon: NonNegative = 1e-7,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `Lamb`: θ ← θ − η (‖θ‖/‖r‖) r with r = m̂/(√v̂ + ε), norms for each variable; the decay is outside the ratio.

    Arguments and slots as in `Adam`.
    """
    scale = chain("Lamb", scale_by_adam(b1=beta_1, b2=beta_2, eps=epsilon), scale_by_trust_ratio())
    return _then_rate("Lamb", scale)


@_optimizer(shrinks=False)
def Muon(
    learning_rate: NonNegative = 0.001,
    adam_beta_1: Decay = 0.9,
    adam_beta_2: Decay = 0.999,
    adam_weight_decay: NonNegative | None = 0.004,
    epsilon: NonNegative = 1e-7,
    weight_decay: NonNegative | None = 0.004,
    *,
    exclude_layers: Sequence[str] | None = None,
    exclude_embeddings: bool = True,
    muon_a: float = 3.4445,
    muon_b: float = -4.7750,
    muon_c: float = 2.0315,
    adam_lr_ratio: NonNegative = 1,
    momentum: Decay = 0.95,
    ns_steps: Annotated[int, Range(0, math.inf)] = 5,
    nesterov: bool = True,
    rms_rate: NonNegative | None = 0.2,
    **options: Unpack[SharedOptions],
) -> Step:
    """Keras `Muon`: θ ← θ − η ρ √max(n, m) O for matrices, O the orthogonalized g + μ v, v ← μ v + g; `Adam` for the rest.

    Args:
        learning_rate, weight_decay: η, λ of all, λ of the matrices, in [0, ∞); a λ of `None` is no decay.
        adam_beta_1, adam_beta_2, epsilon, adam_weight_decay: of the rest, as in `Adam`.
        exclude_layers: regular expressions, searched for in the path, of matrices that Adam takes.
        exclude_embeddings: whether Adam takes the matrices with "embedding" in their path.
        muon_a, muon_b, muon_c, ns_steps: as `coefficients` and `steps` of `jaxopt_lec.orthogonalize`.
        adam_lr_ratio: Adam's rate is η times it, in [0, ∞); also of an η that is set in the state.
        momentum: μ in [0, 1).
        nesterov: the look-ahead g + μ v; else v.
        rms_rate: ρ in [0, ∞); `None` leaves out ρ √max(n, m).
        **options: see `SharedOptions`.

    Slots: v of the matrices; m, v of the rest.
    """

    def label(where: str, p: Any) -> str:
        embedding = exclude_embeddings and "embedding" in where.lower()
        excluded = any(re.search(layer, where) for layer in exclude_layers or ())
        return "adam" if jnp.ndim(p) != 2 or embedding or excluded else "muon"

    def step(rate: ScalarOrSchedule) -> Tx:
        adam = _then_rate("Muon", _adam_direction(adam_beta_1, adam_beta_2, epsilon, False))(rate)
        adam = chain("Muon", adam, scale_by_ratio(adam_lr_ratio=adam_lr_ratio))
        direction = chain(
            "Muon",
            (scale_by_nesterov if nesterov else scale_by_momentum)(decay=momentum),
            orthogonalize(
                coefficients=(muon_a, muon_b, muon_c),
                steps=ns_steps,
                adjust="none" if rms_rate is None else "match_rms",
                rms_rate=0.0 if rms_rate is None else rms_rate,
            ),
        )
        muon = _then_rate("Muon", direction)(rate)
        excluded = options.get("exclude_from_weight_decay", ())
        if adam_weight_decay is not None:
            adam = _shrinking_first(rate, adam_weight_decay, excluded, adam)
        if weight_decay is not None:
            muon = _shrinking_first(rate, weight_decay, excluded, muon)
        return _partition({"adam": adam, "muon": muon}, label)

    return step


def _partition(transformations: dict[str, Tx], label: Callable[[str, Any], str]) -> Tx:
    """Return `optax.partition` by what the parameters are; a gradient may be missing, and says nothing of its parameter."""

    def by(params: PyTree) -> optax.GradientTransformationExtraArgs:
        return optax.partition(transformations, map_by_name(label, params))

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        return by(updates if params is None else params).update(updates, state, params)

    return optax.GradientTransformation(lambda params: by(params).init(params), update)


def _then_rate(name: str, direction: Tx) -> Step:
    return lambda rate: chain(name, direction, scale_by_learning_rate(learning_rate=rate))


# β₁ is above 0, because x is computed by a division by β₁.
OpenDecay: TypeAlias = Annotated[float, Range(0, 1, closed="neither")]


def _copied(p: jax.Array, hyper: Mapping[str, jax.Array]) -> jax.Array:
    # A copy, because the parameters and the state may be donated to the same call.
    return jnp.array(p, dtype=compute_dtype(p.dtype), copy=True)


@equation(z=_copied, v=zeros_real)
def scale_by_schedule_free_adam(
    g: Any,
    s: Any,
    p: Any,
    t: Any,
    *,
    learning_rate: NonNegative = 0.0025,
    b1: OpenDecay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    warmup_steps: NonNegative = 0.0,
) -> tuple[Any, dict[str, Any]]:
    """Step along Adam's direction without momentum, and average the iterates; see `ScheduleFreeAdamW`.

    The parameter is y. x is computed from y and z, so a change of y from outside, such as weight decay, changes x.
    """
    v = ema(s.v, abs2(g), b2)
    rate = learning_rate * jnp.minimum(1, t / jnp.maximum(1, warmup_steps))
    z = s.z - rate * g / (sqrt(v / one_minus_power(b2, t)) + eps)
    x = _averaged_iterate(p, s.z, b1)
    x = x + (z - x) / t
    return (1 - b1) * z + b1 * x - p, {"z": z, "v": v}


def _averaged_iterate(y: Any, z: Any, b1: Any) -> Any:
    return (y - (1 - b1) * z) / b1


@_optimizer()
def ScheduleFreeAdamW(
    learning_rate: NonNegative = 0.0025,
    beta_1: OpenDecay = 0.9,
    beta_2: Decay = 0.999,
    epsilon: NonNegative = 1e-8,
    warmup_steps: NonNegativeNumber = 0,
    **options: Unpack[KerasOptions],
) -> Step:
    """Keras `ScheduleFreeAdamW`: z ← z − ηₜ g/(√v̂ + ε); x ← x + (z − x)/t; θ ← (1−β₁) z + β₁ x.

    ηₜ = η min(1, t/w). Gradients are computed at θ, which the paper calls y. The paper evaluates the model at x, which
    `schedule_free_parameters` returns; Keras evaluates it at y. The mean x weights all steps equally; the paper weights
    step t by ηₜ² (1−β₂ᵗ). Weight decay shrinks y before the step and does not change z, so a decay of y by δ moves x by
    δ/β₁; in the paper it moves z.

    Args:
        learning_rate, epsilon: η, ε in [0, ∞).
        beta_1: β₁ in (0, 1), no schedule: x is computed from y, z and β₁, so setting another β₁ in the state moves x.
        beta_2: β₂ in [0, 1).
        warmup_steps: w in [0, ∞), the number of steps over which the rate rises to η; 0: no warmup. Weight decay always uses
            the full η.
        **options: see `KerasOptions`.

    Slots: z, which starts as the parameter (Keras's `momentum`); v (`velocity`). Errors: ValueError without `params`.

    Reference: A. Defazio et al., The road less scheduled, 2024, arXiv 2405.15682.
    """

    def step(rate: ScalarOrSchedule) -> Tx:
        return scale_by_schedule_free_adam(learning_rate=rate, b1=beta_1, b2=beta_2, eps=epsilon, warmup_steps=warmup_steps)

    return step


def schedule_free_parameters(params: PyTree, state: PyTree) -> PyTree:
    """Return the averaged iterate x = (y − (1−β₁) z)/β₁ of `ScheduleFreeAdamW`, for evaluation; continue training with y.

    Args:
        params: the parameters y that are trained.
        state: the state of `ScheduleFreeAdamW`, alone or inside other transformations.

    Returns:
        x, a tree like `params`, in its dtypes. `params` is unchanged: keep it for the next step.

    Raises:
        KeyError: `state` holds no state of `ScheduleFreeAdamW`, or several.
        ValueError: the state belongs to other parameters.
    """
    states = [node for node in jax.tree.leaves(state, is_leaf=_is_schedule_free) if _is_schedule_free(node)]
    if len(states) != 1:
        raise KeyError(f"schedule_free_parameters: the state holds {len(states)} states of ScheduleFreeAdamW, expected one")
    # By leaves, because NNX keeps the state's arrays in variables of other types than the parameters'.
    (b1,) = jax.tree.leaves(states[0].hyper["b1"])
    treedef: Any
    ys, treedef = jax.tree.flatten(params)
    ys, zs = [jnp.asarray(y) for y in ys], jax.tree.leaves(states[0].slots["z"])
    if [y.shape for y in ys] != [z.shape for z in zs]:
        raise ValueError("schedule_free_parameters: the state belongs to other parameters: their shapes differ")
    xs = [_averaged_iterate(y.astype(z.dtype), z, b1.astype(z.dtype)).astype(y.dtype) for y, z in zip(ys, zs, strict=True)]
    return treedef.unflatten(xs)


def _is_schedule_free(x: Any) -> bool:
    return isinstance(x, EquationState) and set(x.slots) == {"v", "z"} and "warmup_steps" in x.hyper


class LossScaleState(NamedTuple):
    """The state of `LossScaleOptimizer`.

    Attributes:
        step_counter: number of steps since the last change of the scale, int32 scalar.
        dynamic_scale: the factor by which to multiply the loss of the next step, float32 scalar.
        inner: the state of the inner optimizer.
    """

    step_counter: jax.Array
    dynamic_scale: jax.Array
    inner: Any


def LossScaleOptimizer(
    inner_optimizer: optax.GradientTransformation,
    initial_scale: PositiveNumber = 2.0**15,
    dynamic_growth_steps: AtLeastOne = 2000,
    name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Keras `LossScaleOptimizer`: divide the gradient by a scale that adapts to the range of the number format.

    Multiply the loss by `optax.tree.get(state, "dynamic_scale")`. If a gradient has an infinite or NaN entry, nothing is
    updated and the scale is halved. After `dynamic_growth_steps` consecutive steps without such an entry it is doubled.

    Args:
        inner_optimizer: the inner optimizer. It should have no `loss_scale_factor`; Keras switches that off.
        initial_scale: the first scale, in (0, ∞).
        dynamic_growth_steps: the number of consecutive steps after which the scale is doubled, at least 1.
        name: has no effect.

    State: `LossScaleState`. Errors: TypeError if `inner_optimizer` is not an optimizer; for the other arguments see above.
    """
    own = "LossScaleOptimizer"
    signature = inspect.signature(LossScaleOptimizer)
    if not isinstance(inner_optimizer, optax.GradientTransformation):
        raise TypeError(f"{own}: inner_optimizer must be an optimizer, such as Adam(), got {inner_optimizer!r}")
    checked(
        own,
        signature,
        {"initial_scale": initial_scale, "dynamic_growth_steps": dynamic_growth_steps, "name": name},
    )
    tx = optax.with_extra_args_support(inner_optimizer)

    def init(params: PyTree) -> LossScaleState:
        scale = jnp.array(initial_scale, jnp.float32, copy=True)
        return LossScaleState(jnp.zeros((), jnp.int32), scale, tx.init(params))

    def update(updates: PyTree, state: LossScaleState, params: PyTree = None, **extra: Any) -> tuple[PyTree, Any]:
        def step() -> tuple[PyTree, LossScaleState]:
            directions, inner = tx.update(jax.tree.map(unscaled, updates), state.inner, params, **extra)
            grows = state.step_counter == dynamic_growth_steps - 1
            scale = jnp.where(grows, 2 * state.dynamic_scale, state.dynamic_scale)
            return directions, LossScaleState(jnp.where(grows, 0, state.step_counter + 1), scale, inner)

        def skip() -> tuple[PyTree, LossScaleState]:
            still = jax.tree.map(lambda u: jnp.zeros(u.shape, u.dtype), jax.eval_shape(step)[0])
            return still, LossScaleState(jnp.zeros_like(state.step_counter), state.dynamic_scale / 2, state.inner)

        def unscaled(g: jax.Array) -> jax.Array:
            # In float32 at least: in float16 the quotient could underflow, which the scale is there to prevent.
            dtype = compute_dtype(g.dtype)
            return g.astype(dtype) / state.dynamic_scale.astype(real_dtype(dtype)).astype(dtype)

        finite = [jnp.isfinite(g).all() for g in jax.tree.leaves(updates)]
        return jax.lax.cond(jnp.all(jnp.array(finite)), step, skip)

    return guarded(own, _on_arrays(own, optax.GradientTransformationExtraArgs(init, update), {}))
