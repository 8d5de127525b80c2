"""Keras 3's optimizers: the same names, arguments, defaults and numbers as `keras.optimizers`, over the equations here.

Each constructor has the signature of its Keras class, with these readings:

- `learning_rate` is a number or a schedule, a function of the number of updates done, as Keras calls a
  `LearningRateSchedule` with `iterations`; with `gradient_accumulation_steps`, of the number of gradients seen, as there.
- `weight_decay` shrinks the variable, θ ← θ − η λ θ, before the step, which sees the shrunk variable.
- `exclude_from_weight_decay`, by keyword, takes the place of Keras's method: regular expressions, searched for in the
  parameter's path joined by "/", of the variables that are not shrunk.
- `clipnorm` (each variable's norm), `clipvalue` and `global_clipnorm`, of which one may be given, clip the gradient.
- `use_ema` averages the variables, ā ← ema_momentum ā + (1 − ema_momentum) θ, at every update;
  `optax.tree.get(state, "average")` are they. Each `ema_overwrite_frequency` updates θ ← ā.
- `gradient_accumulation_steps` averages the gradients of so many updates, and steps at the last of them.
- `loss_scale_factor` divides the gradient; multiply the loss by it.
- `name` has no effect.

All raise ValueError for a hyperparameter out of range and for more than one way of clipping; their updates need `params`
where something reads them.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypedDict, Unpack

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import tree_map_with_path

from jaxopt_lec.arithmetic import abs2, ema
from jaxopt_lec.compat.paths import path_of
from jaxopt_lec.equation import EquationState, chain, equation
from jaxopt_lec.hyperparameters import Positive, ScalarOrSchedule
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
from jaxopt_lec.slots import compute_dtype

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
    "Muon",
    "Nadam",
    "RMSprop",
    "SharedOptions",
]

PyTree: TypeAlias = Any
Tx: TypeAlias = optax.GradientTransformation


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


def _optimizer(
    keras_name: str,
    learning_rate: ScalarOrSchedule,
    step: Callable[[ScalarOrSchedule], Tx],
    *,
    weight_decay: ScalarOrSchedule | None = None,
    clipnorm: float | None = None,
    clipvalue: float | None = None,
    global_clipnorm: float | None = None,
    use_ema: bool = False,
    ema_momentum: float = 0.99,
    ema_overwrite_frequency: int | None = None,
    loss_scale_factor: float | None = None,
    gradient_accumulation_steps: int | None = None,
    name: str | None = None,
    exclude_from_weight_decay: Sequence[str] = (),
    **unknown: Any,
) -> optax.GradientTransformationExtraArgs:
    """Do what Keras does around each optimizer's step, which is a function of the learning rate."""
    every = gradient_accumulation_steps or 1
    _check(not unknown, keras_name, f"no argument {', '.join(unknown)}", TypeError)
    _check(gradient_accumulation_steps is None or every >= 2, keras_name, "gradient_accumulation_steps must be 2 or more")
    _check(0 <= ema_momentum <= 1, keras_name, f"ema_momentum must lie in [0, 1], got {ema_momentum}")
    _check((ema_overwrite_frequency or 1) >= 1, keras_name, "ema_overwrite_frequency must be 1 or more")
    clips = [clip for clip in (clipnorm, clipvalue, global_clipnorm) if clip is not None]
    _check(len(clips) <= 1, keras_name, "only one of clipnorm, clipvalue and global_clipnorm can be given")
    _check(all(clip > 0 for clip in clips), keras_name, f"the bound of the gradient must be above 0, got {clips}")
    _check(loss_scale_factor is None or loss_scale_factor > 0, keras_name, "loss_scale_factor must be above 0")
    try:
        # Keras asks a schedule for the number of gradients seen; the step counts updates.
        rate = (lambda count: learning_rate(count * every + every - 1)) if callable(learning_rate) else learning_rate
        tx = step(rate)
        if weight_decay is not None:
            tx = _shrinking_first(rate, weight_decay, exclude_from_weight_decay, tx)
        if clipnorm is not None:
            tx = chain(keras_name, clip_by_norm(max_norm=clipnorm), tx)
        if clipvalue is not None:
            tx = chain(keras_name, optax.clip(clipvalue), tx)
        if global_clipnorm is not None:
            tx = chain(keras_name, optax.clip_by_global_norm(global_clipnorm), tx)
        if every > 1:
            tx = _accumulating(tx, every)
        if loss_scale_factor is not None:
            tx = chain(keras_name, optax.scale(1 / loss_scale_factor), tx)
        if use_ema:
            tx = _averaging(tx, ema_momentum, ema_overwrite_frequency, every)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{keras_name}: {error}") from error
    return optax.with_extra_args_support(tx)


def _check(holds: bool, name: str, otherwise: str, kind: type[Exception] = ValueError) -> None:
    if not holds:
        raise kind(f"{name}: {otherwise}")


@equation()
def clip_by_norm(g: Any, s: Any, p: Any, t: Any, *, max_norm: Positive = 1.0) -> tuple[Any, dict[str, Any]]:
    """Shorten the gradient of each leaf to at most `max_norm`: u = g c / max(‖g‖, c)."""
    return g * (max_norm / jnp.maximum(jnp.sqrt(jnp.sum(abs2(g))), max_norm)), {}


class ShrinkingState(NamedTuple):
    """The state of an optimizer with weight decay: that of the decay and that of the step after it."""

    decay: Any
    step: Any


def _shrinking_first(rate: ScalarOrSchedule, weight_decay: ScalarOrSchedule, excluded: Sequence[str], step: Tx) -> Tx:
    def mask(tree: PyTree) -> PyTree:
        def is_shrunk(path: Any, _: Any) -> bool:
            return not any(re.search(pattern, path_of(path)) for pattern in excluded)

        return tree_map_with_path(is_shrunk, tree, is_leaf=_is_none)

    decay = optax.masked(decay_weights(learning_rate=rate, weight_decay=weight_decay), mask)

    def init(params: PyTree) -> ShrinkingState:
        return ShrinkingState(decay.init(params), step.init(params))

    def update(updates: PyTree, state: ShrinkingState, params: PyTree = None) -> tuple[PyTree, ShrinkingState]:
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
        return AveragingState(jnp.zeros((), jnp.int32), _wide_zeros(params), tx.init(params))

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

            def overwritten(u: Any, a: jax.Array, p: jax.Array) -> jax.Array:
                return jnp.where(now, a.astype(p.dtype) - p, jnp.zeros_like(p) if u is None else u)

            updates = jax.tree.map(overwritten, updates, average, params, is_leaf=_is_none)
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
        return AccumulatingState(jnp.zeros((), jnp.int32), _wide_zeros(params), tx.init(params))

    def update(updates: PyTree, state: AccumulatingState, params: PyTree = None) -> tuple[PyTree, AccumulatingState]:
        def add(g: Any, a: jax.Array) -> Any:
            return None if g is None else a + g.astype(a.dtype)

        def wait() -> tuple[PyTree, PyTree, Any]:
            sums = jax.tree.map(lambda s, a: a if s is None else s, total, state.accumulated, is_leaf=_is_none)
            return optax.tree.zeros_like(updates), sums, state.step

        def step() -> tuple[PyTree, PyTree, Any]:
            mean = jax.tree.map(lambda s, g: (s / every).astype(g.dtype), total, updates)
            directions, new = tx.update(mean, state.step, params)
            rest = jax.tree.map(
                lambda s, a: a if s is None else jnp.zeros_like(a), total, state.accumulated, is_leaf=_is_none
            )
            return directions, rest, new

        total = jax.tree.map(add, updates, state.accumulated, is_leaf=_is_none)
        count = optax.safe_increment(state.count)
        directions, accumulated, new = jax.lax.cond(count % every == 0, step, wait)
        return directions, AccumulatingState(count, accumulated, new)

    return optax.GradientTransformation(init, update)


def _wide_zeros(params: PyTree) -> PyTree:
    return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=compute_dtype(p.dtype)), params)


def _is_none(x: Any) -> bool:
    return x is None


def _moved(params: PyTree, updates: PyTree) -> PyTree:
    """Return the parameters after the updates; one whose update is `None` stays."""
    return jax.tree.map(lambda u, p: p if u is None else optax.apply_updates(p, u), updates, params, is_leaf=_is_none)


def SGD(
    learning_rate: ScalarOrSchedule = 0.01,
    momentum: ScalarOrSchedule = 0.0,
    nesterov: bool = False,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
    """Keras `SGD`: v ← μ v + η g; θ ← θ − v, or θ − (μ v + η g) with `nesterov`: the rate inside the velocity.

    Args:
        learning_rate: η in [0, ∞).
        momentum: μ in [0, 1); Keras takes 1 too.
        nesterov: whether to look ahead; without momentum it says nothing.
        **options: see `KerasOptions`.

    Slots: v with momentum.
    """

    def step(rate: ScalarOrSchedule) -> Tx:
        if isinstance(momentum, int | float) and momentum == 0:
            return scale_by_learning_rate(learning_rate=rate)
        velocity = (scale_by_nesterov if nesterov else scale_by_momentum)(decay=momentum)
        return chain("SGD", scale_by_learning_rate(learning_rate=rate, flip_sign=False), velocity, optax.scale(-1.0))

    return _optimizer("SGD", learning_rate, step, **options)


def Adagrad(
    learning_rate: ScalarOrSchedule = 0.001,
    initial_accumulator_value: ScalarOrSchedule = 0.1,
    epsilon: ScalarOrSchedule = 1e-7,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
    """Keras `Adagrad`: G ← G + g²; θ ← θ − η g/√(G + ε), ε inside the root.

    Args:
        learning_rate, initial_accumulator_value, epsilon: η, G₀, ε in [0, ∞).
        **options: see `KerasOptions`.

    Slots: G.
    """
    scale = scale_by_adagrad(eps=0.0, eps_root=epsilon, initial_accumulator=initial_accumulator_value)
    return _optimizer("Adagrad", learning_rate, _then_rate("Adagrad", scale), **options)


def RMSprop(
    learning_rate: ScalarOrSchedule = 0.001,
    rho: ScalarOrSchedule = 0.9,
    momentum: ScalarOrSchedule = 0.0,
    epsilon: ScalarOrSchedule = 1e-7,
    centered: bool = False,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
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
            *([] if isinstance(momentum, int | float) and momentum == 0 else [scale_by_momentum(decay=momentum)]),
            optax.scale(-1.0),
        )

    return _optimizer("RMSprop", learning_rate, step, **options)


def Adadelta(
    learning_rate: ScalarOrSchedule = 0.001,
    rho: ScalarOrSchedule = 0.95,
    epsilon: ScalarOrSchedule = 1e-7,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
    """Keras `Adadelta`: G ← ρ G + (1−ρ) g²; Δ = √(S+ε)/√(G+ε) g; S ← ρ S + (1−ρ) Δ²; θ ← θ − η Δ.

    Args:
        learning_rate: η in [0, ∞); the paper's is 1.
        rho: ρ in [0, 1).
        epsilon: ε in (0, ∞).
        **options: see `KerasOptions`.

    Slots: G, S.
    """
    scale = scale_by_adadelta(rho=rho, eps=epsilon)
    return _optimizer("Adadelta", learning_rate, _then_rate("Adadelta", scale), **options)


def Adam(
    learning_rate: ScalarOrSchedule = 0.001,
    beta_1: ScalarOrSchedule = 0.9,
    beta_2: ScalarOrSchedule = 0.999,
    epsilon: ScalarOrSchedule = 1e-7,
    amsgrad: bool = False,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
    """Keras `Adam`: θ ← θ − η √(1−β₂ᵗ)/(1−β₁ᵗ) m/(√v + ε): ε on the uncorrected root.

    Args:
        learning_rate, epsilon: η, ε in [0, ∞).
        beta_1, beta_2: β₁, β₂ in [0, 1).
        amsgrad: the maximum of all v so far for v.
        **options: see `KerasOptions`.

    Slots: m, v; v_max with `amsgrad`.
    """
    scale = (scale_by_amsgrad if amsgrad else scale_by_adam)(b1=beta_1, b2=beta_2, eps=0.0, eps_hat=epsilon)
    return _optimizer("Adam", learning_rate, _then_rate("Adam", scale), **options)


def AdamW(
    learning_rate: ScalarOrSchedule = 0.001,
    weight_decay: ScalarOrSchedule = 0.004,
    beta_1: ScalarOrSchedule = 0.9,
    beta_2: ScalarOrSchedule = 0.999,
    epsilon: ScalarOrSchedule = 1e-7,
    amsgrad: bool = False,
    **options: Unpack[SharedOptions],
) -> optax.GradientTransformationExtraArgs:
    """Keras `AdamW`: `Adam` with weight decay by default.

    Args:
        weight_decay: λ in [0, ∞).
        learning_rate, beta_1, beta_2, epsilon, amsgrad, **options: as in `Adam`.

    Slots: as `Adam`.
    """
    _check(weight_decay is not None, "AdamW", "weight_decay must be a number or a schedule")
    return Adam(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options)


def Adamax(
    learning_rate: ScalarOrSchedule = 0.001,
    beta_1: ScalarOrSchedule = 0.9,
    beta_2: ScalarOrSchedule = 0.999,
    epsilon: ScalarOrSchedule = 1e-7,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
    """Keras `Adamax`: u ← max(β₂ u, |g|); θ ← θ − η m̂/(u + ε).

    Arguments as in `Adam`. Slots: m, u.
    """
    scale = scale_by_adamax(b1=beta_1, b2=beta_2, eps=epsilon)
    return _optimizer("Adamax", learning_rate, _then_rate("Adamax", scale), **options)


def Nadam(
    learning_rate: ScalarOrSchedule = 0.001,
    beta_1: ScalarOrSchedule = 0.9,
    beta_2: ScalarOrSchedule = 0.999,
    epsilon: ScalarOrSchedule = 1e-7,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
    """Keras `Nadam`: θ ← θ − η m̂/(√v̂ + ε) with the m̂ of `jaxopt_lec.nadam` for ψ = 1.

    Arguments as in `Adam`. Slots: m, v, mu_product.
    """
    scale = _with_one_product(scale_by_nadam(b1=beta_1, b2=beta_2, eps=epsilon, momentum_decay=1.0))
    return _optimizer("Nadam", learning_rate, _then_rate("Nadam", scale), **options)


def _with_one_product(nadam: Tx) -> Tx:
    """Let Π μᵢ go on also for a variable without a gradient: Keras has one for all."""

    def update(updates: PyTree, state: EquationState, params: PyTree = None) -> tuple[PyTree, EquationState]:
        directions, new = nadam.update(updates, state, params)
        treedef: Any
        gs, treedef = jax.tree.flatten(updates, is_leaf=_is_none)
        products = treedef.flatten_up_to(new.slots["mu_product"])
        gone_on = [product for g, product in zip(gs, products, strict=True) if g is not None]
        if gone_on:
            products = [None if p is None else gone_on[0].astype(p.dtype) for p in products]
        return directions, new._replace(slots={**new.slots, "mu_product": treedef.unflatten(products)})

    return optax.GradientTransformation(nadam.init, update)


def Ftrl(
    learning_rate: ScalarOrSchedule = 0.001,
    learning_rate_power: float = -0.5,
    initial_accumulator_value: ScalarOrSchedule = 0.1,
    l1_regularization_strength: ScalarOrSchedule = 0.0,
    l2_regularization_strength: float = 0.0,
    l2_shrinkage_regularization_strength: float = 0.0,
    beta: ScalarOrSchedule = 0.0,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
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

    return _optimizer("Ftrl", learning_rate, step, **options)


def Lion(
    learning_rate: ScalarOrSchedule = 0.001,
    beta_1: ScalarOrSchedule = 0.9,
    beta_2: ScalarOrSchedule = 0.99,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
    """Keras `Lion`: θ ← θ − η sign(β₁ m + (1−β₁) g); m ← β₂ m + (1−β₂) g.

    Args:
        learning_rate: η in [0, ∞).
        beta_1, beta_2: β₁, β₂ in [0, 1).
        **options: see `KerasOptions`.

    Slots: m.
    """
    return _optimizer("Lion", learning_rate, _then_rate("Lion", scale_by_lion(b1=beta_1, b2=beta_2)), **options)


def Adafactor(
    learning_rate: ScalarOrSchedule = 0.001,
    beta_2_decay: float = -0.8,
    epsilon_1: ScalarOrSchedule = 1e-30,
    epsilon_2: ScalarOrSchedule = 1e-3,
    clip_threshold: ScalarOrSchedule = 1.0,
    relative_step: bool = True,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
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

    return _optimizer("Adafactor", learning_rate, step, **options)


def Lamb(
    learning_rate: ScalarOrSchedule = 0.001,
    beta_1: ScalarOrSchedule = 0.9,
    beta_2: ScalarOrSchedule = 0.999,
    epsilon: ScalarOrSchedule = 1e-7,
    **options: Unpack[KerasOptions],
) -> optax.GradientTransformationExtraArgs:
    """Keras `Lamb`: θ ← θ − η (‖θ‖/‖r‖) r with r = m̂/(√v̂ + ε), norms for each variable; the decay is outside the ratio.

    Arguments and slots as in `Adam`.
    """
    scale = chain("Lamb", scale_by_adam(b1=beta_1, b2=beta_2, eps=epsilon), scale_by_trust_ratio())
    return _optimizer("Lamb", learning_rate, _then_rate("Lamb", scale), **options)


def Muon(
    learning_rate: ScalarOrSchedule = 0.001,
    adam_beta_1: ScalarOrSchedule = 0.9,
    adam_beta_2: ScalarOrSchedule = 0.999,
    adam_weight_decay: ScalarOrSchedule | None = 0.004,
    epsilon: ScalarOrSchedule = 1e-7,
    weight_decay: ScalarOrSchedule | None = 0.004,
    *,
    exclude_layers: Sequence[str] | None = None,
    exclude_embeddings: bool = True,
    muon_a: float = 3.4445,
    muon_b: float = -4.7750,
    muon_c: float = 2.0315,
    adam_lr_ratio: float = 1,
    momentum: ScalarOrSchedule = 0.95,
    ns_steps: int = 5,
    nesterov: bool = True,
    rms_rate: ScalarOrSchedule | None = 0.2,
    **options: Unpack[SharedOptions],
) -> optax.GradientTransformationExtraArgs:
    """Keras `Muon`: θ ← θ − η ρ √max(n, m) O for matrices, O the orthogonalized g + μ v, v ← μ v + g; `Adam` for the rest.

    Args:
        learning_rate, weight_decay: η, λ of all, λ of the matrices, in [0, ∞); a λ of `None` is no decay.
        adam_beta_1, adam_beta_2, epsilon, adam_weight_decay: of the rest, as in `Adam`.
        exclude_layers: regular expressions, searched for in the path, of matrices that Adam takes.
        exclude_embeddings: whether Adam takes the matrices with "embedding" in their path.
        muon_a, muon_b, muon_c, ns_steps: as `coefficients` and `steps` of `jaxopt_lec.orthogonalize`.
        adam_lr_ratio: Adam's rate is η times it, in [0, ∞).
        momentum: μ in [0, 1).
        nesterov: the look-ahead g + μ v; else v.
        rms_rate: ρ in [0, ∞); `None` leaves out ρ √max(n, m).
        **options: see `SharedOptions`.

    Slots: v of the matrices; m, v of the rest.
    """

    def uses_adam(path: Any, p: Any) -> bool:
        where = path_of(path)
        embedding = exclude_embeddings and "embedding" in where.lower()
        return jnp.ndim(p) != 2 or embedding or any(re.search(layer, where) for layer in exclude_layers or ())

    def step(rate: ScalarOrSchedule) -> Tx:
        adam_rate = (lambda count: adam_lr_ratio * rate(count)) if callable(rate) else adam_lr_ratio * rate
        adam = _then_rate("Muon", scale_by_adam(b1=adam_beta_1, b2=adam_beta_2, eps=0.0, eps_hat=epsilon))(adam_rate)
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
        return _partition({"adam": adam, "muon": muon}, lambda path, p: "adam" if uses_adam(path, p) else "muon")

    return _optimizer("Muon", learning_rate, step, **options)


def _partition(transformations: dict[str, Tx], label: Callable[[Any, Any], str]) -> Tx:
    """Return `optax.partition` by what the parameters are; a gradient may be missing, and says nothing of its parameter."""

    def by(params: PyTree) -> optax.GradientTransformationExtraArgs:
        return optax.partition(transformations, tree_map_with_path(label, params))

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        return by(updates if params is None else params).update(updates, state, params)

    return optax.GradientTransformation(lambda params: by(params).init(params), update)


def _then_rate(name: str, direction: Tx) -> Callable[[ScalarOrSchedule], Tx]:
    return lambda rate: chain(name, direction, scale_by_learning_rate(learning_rate=rate))
