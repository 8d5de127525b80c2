"""One lane of a study: one training run, as a pure function that compiles and maps."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lec.lab.observe import Statistics, observe
from jaxopt_lec.transformation import of_multi_steps

if TYPE_CHECKING:
    from jaxopt_lec.lab.workloads import Workload  # needs Flax, which this file does not

Batch: TypeAlias = Any
Factory: TypeAlias = Callable[[jax.Array], optax.GradientTransformation]

BATCH_SIZE = 128
# Held-out sets are scored in pieces of this many examples: a lane never holds the activations of a whole test set.
PIECE = 1000
# Steps whose number the compiler knows: a loop of unknown length costs a GPU one round trip to the host per turn.
LONGEST_BLOCK = 64
FEWEST_BLOCKS = 18  # so that a lane can be cut short twice by thirds
# A step evaluates the loss of its batch, and its gradient, which takes about twice as long.
STEP_IN_EVALUATIONS = 3
# About how many times a watched lane is looked at.
EVALUATIONS = 25


class Lane(NamedTuple):
    """What tells one lane from another: data, so that all lanes share one program."""

    learning_rate: Any
    seed: Any  # the seed's place in `Shared`, not the seed itself


class Seeded(NamedTuple):
    """All that a seed decides, with one row per seed. No optimizer and no learning rate enters: lanes are paired."""

    params: Any
    state: Any
    order: np.ndarray  # [seed, step, place in the batch]: which example is drawn
    dropout: jax.Array  # [seed]: keys


class Held(NamedTuple):
    """A held-out set in pieces, [piece, example, ...]; padding examples weigh 0."""

    batch: Batch
    weight: np.ndarray


class Watched(NamedTuple):
    """What lanes are looked at with on their way. It changes nothing of what they compute."""

    held: Held
    on: jax.Array | np.ndarray | np.bool_  # data, so that one program serves lanes that are watched and lanes that are not


class Shared(NamedTuple):
    """What all lanes read."""

    train: Batch
    held: Held
    seeded: Seeded
    blocks: jax.Array | np.ndarray | np.int32  # how many blocks of steps to take: all of them but in a measurement
    watched: Watched | None = None  # None: the program has nothing to watch with


class Record(NamedTuple):
    """What a watched lane was at every evaluation step; zeros where watching was off."""

    loss: jax.Array  # [evaluation], of the set it is watched with, after the step
    score: jax.Array
    gradient_norm: Any  # trees like the parameters, of [evaluation]: of that step
    update_norm: Any
    weight_norm: Any  # before the step


class Outcome(NamedTuple):
    """The results of one lane."""

    training_loss: jax.Array  # [step]
    loss: jax.Array  # of the held-out set
    score: jax.Array
    diverged: jax.Array  # whether any of these numbers is not finite
    record: Record | None = None  # of a program that can watch


def block_length(steps: int) -> int:
    """Return the longest block that divides the steps evenly and leaves enough blocks, if there are enough steps."""
    longest = max(1, min(LONGEST_BLOCK, steps // FEWEST_BLOCKS))
    return max(n for n in range(1, longest + 1) if steps % n == 0)


def blocks_between(steps: int) -> int:
    """Return how many blocks lie between two looks at a watched lane."""
    return max(1, round(steps / block_length(steps) / EVALUATIONS))


def evaluation_steps(steps: int) -> np.ndarray:
    """Return after which steps a watched lane is looked at: evenly spaced ones, and the last."""
    interval = block_length(steps) * blocks_between(steps)
    return np.append(np.arange(interval, steps, interval), steps)


def scoring_in_steps(held_out: int, batch_size: int) -> float:
    """Return about how many steps take as long as scoring `held_out` examples."""
    return held_out / (STEP_IN_EVALUATIONS * batch_size)


def examples(batch: Batch) -> int:
    """Count the examples of a set."""
    return len(jax.tree.leaves(batch)[0])


def batch_order(seed: int, n_examples: int, batch_size: int, steps: int) -> np.ndarray:
    """Draw the examples of every step, [step, place], without replacement within an epoch.

    The examples that fill no whole batch at the end of an epoch wait for the next shuffle.
    """
    random = np.random.default_rng(seed)
    per_epoch = n_examples // batch_size
    epochs = [
        random.permutation(n_examples)[: per_epoch * batch_size].reshape(per_epoch, batch_size)
        for _ in range(-(-steps // per_epoch))
    ]
    return np.concatenate(epochs)[:steps].astype(np.int32)


def seeded(workload: "Workload", seeds: Sequence[int], batch_size: int, steps: int) -> Seeded:
    """Draw all that the seeds decide: initial parameters, order of the examples, dropout keys."""
    keys = jax.vmap(jax.random.key)(np.array(seeds))
    init, dropout = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    # One after the other: a program for all at once takes twice as long to compile.
    params, state = jax.jit(partial(jax.lax.map, workload.initialize))(init)
    n = examples(workload.data.train)
    order = np.stack([batch_order(seed, n, batch_size, steps) for seed in seeds])
    return Seeded(params, state, order, dropout)


def hold(batch: Batch, room: int) -> Held:
    """Cut a held-out set into pieces, padded to at least `room` examples with copies of its first one.

    Sets of different sizes that get the same room have the same shapes, so one program scores either.
    """
    n = examples(batch)
    pieces = -(-room // PIECE)
    size = -(-room // pieces)

    def leaf(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        padding = np.broadcast_to(x[:1], (pieces * size - n, *x.shape[1:]))
        return np.concatenate([x, padding]).reshape(pieces, size, *x.shape[1:])

    weight = (np.arange(pieces * size) < n).astype(np.float32)
    return Held(jax.tree.map(leaf, batch), weight.reshape(pieces, size))


def train_lane(workload: "Workload", factory: Factory, steps: int, lane: Lane, shared: Shared) -> Outcome:
    """Train from the seed's start with the lane's learning rate, then score the held-out set.

    Args:
        workload: what is trained.
        factory: makes the optimizer from the learning rate, a traced scalar.
        steps: how many steps a whole run has; static.
        lane: the learning rate and the seed.
        shared: the data and all that the seeds decide; with `watched`, the lane brings a record home too.
    """
    optimizer = optax.with_extra_args_support(of_multi_steps(factory(lane.learning_rate)))
    params, state, order, dropout = jax.tree.map(lambda x: jnp.asarray(x)[lane.seed], shared.seeded)
    watched = shared.watched
    block = block_length(steps)
    between = blocks_between(steps)
    last_block = steps // block - 1

    def due(i: jax.Array) -> jax.Array:
        """Whether the lane is looked at after block i."""
        assert watched is not None
        return jnp.asarray(watched.on) & (((i + 1) % between == 0) | (i == last_block))

    def step(carry: tuple[Any, Any, Any, Any], t: jax.Array) -> tuple[tuple[Any, Any, Any, Any], jax.Array]:
        params, state, memory, _ = carry
        batch = jax.tree.map(lambda x: x[order[t]], shared.train)
        key = jax.random.fold_in(dropout, t)

        def loss(params: Any) -> tuple[jax.Array, Any]:
            value, new_state = workload.loss(params, state, batch, key)
            return widened(value), new_state

        (value, new_state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        # What line searches and Newton's method ask for, by Optax's names; the others never see it.
        extra = {"value": value, "grad": grads, "value_fn": lambda params: loss(params)[0]}
        updates, memory = optimizer.update(grads, memory, params, **extra)
        # Kept for after the block: to ask at every step whether to look would cost a GPU a round trip to the host each time.
        seen = None if watched is None else (grads, optax.tree.cast_like(updates, params), params)
        return (optax.apply_updates(params, updates), new_state, memory, seen), value

    def take_block(i: jax.Array, carry: tuple[Any, jax.Array, Any]) -> tuple[Any, jax.Array, Any]:
        model, losses, record = carry
        model, some = jax.lax.scan(step, model, i * block + jnp.arange(block))
        if watched is not None:
            params, state, _, seen = model

            def look(record: Record) -> Record:
                loss, score = held_out(workload, params, state, watched.held)
                now = Record(loss, score, *norms_of(*seen))
                return jax.tree.map(lambda all_, one: all_.at[i // between].set(one), record, now)

            record = jax.lax.cond(due(i), look, lambda record: record, record)
        return model, jax.lax.dynamic_update_slice(losses, some.astype(losses.dtype), (i * block,)), record

    seen, record = None, None
    if watched is not None:
        seen = (params,) * 3  # all three are like the parameters
        scores = jax.eval_shape(partial(held_out, workload), params, state, watched.held)
        shapes = Record(*scores, *jax.eval_shape(norms_of, *seen))
        n = len(evaluation_steps(steps))
        record = jax.tree.map(lambda x: jnp.zeros((n, *x.shape), x.dtype), shapes)
    start = (params, state, optimizer.init(params), seen), jnp.zeros(steps), record
    (params, state, _, _), losses, record = jax.lax.fori_loop(0, shared.blocks, take_block, start)
    loss, score = held_out(workload, params, state, shared.held)
    finite = jnp.isfinite(losses).all() & jnp.isfinite(loss) & jnp.isfinite(score)
    return Outcome(losses, loss, score, ~finite, record)


def norms_of(grads: Any, updates: Any, params: Any) -> tuple[Any, Any, Any]:
    """Return the norms of every leaf's gradient, update and weights, as `observe` takes them."""
    made = observe(optax.stateless(lambda *_: updates))
    seen: Statistics = made.update(grads, optax.EmptyState(), params)[2]
    return seen.gradient_norm, seen.update_norm, seen.weight_norm


def held_out(workload: "Workload", params: Any, state: Any, held: Held) -> tuple[jax.Array, jax.Array]:
    """Return the mean loss and the mean score of a held-out set."""

    def piece(held: Held) -> tuple[jax.Array, jax.Array]:
        values = jax.tree.map(widened, workload.metric(params, state, held.batch))
        return jax.tree.map(lambda x: x @ held.weight.astype(x.dtype), values)

    total = held.weight.sum()
    loss, score = jax.tree.map(lambda x: x.sum() / total.astype(x.dtype), jax.lax.map(piece, held))
    return loss, score


def widened(x: jax.Array) -> jax.Array:
    """Return numbers in float32 at least: in half precision, a sum over many examples loses small terms."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)
