"""Predicting the next character of a text with a small transformer."""

import ast
import sysconfig
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_lec.lab.errors import InputError
from jaxopt_lec.lab.workloads.classification import Classification
from jaxopt_lec.lab.workloads.models import Remedies, layer_key
from jaxopt_lec.lab.workloads.reading import read_bytes
from jaxopt_lec.lab.workloads.workload import Batch, Data, Params, Score, State

CONTEXT = 32  # characters that an example has
MODULE_LENGTH = 3000  # characters of the default text that a module gives at most
RARE = 1e-5  # characters that make up less of the text are one and the same


def library_text() -> str:
    """Return the standard library's own documentation: the docstrings of its modules, by name, of each up to a length.

    Without that length a few modules, with long tables of examples, would fill most of the text, and validation would be
    on another kind of text than training. The text is that of the Python that runs: another version has another text.
    """
    modules = []
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        documented = (
            node
            for node in ast.walk(ast.parse(file.read_bytes()))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        )
        modules.append("\n\n".join(filter(None, map(ast.get_docstring, documented)))[:MODULE_LENGTH])
    return "\n\n".join(filter(None, modules))


def read_text(file: Path) -> str:
    """Read a UTF-8 text, plain or gzipped, with line ends as Python has them.

    Raises:
        InputError: the file is not a UTF-8 text, is too short, or repeats a single character.
    """
    try:
        text = read_bytes(file).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text in UTF-8: {error.reason} at byte {error.start}") from error
    if len(text) < 100 * CONTEXT:
        raise InputError(f"{file}: a text of {len(text)} characters is too short: at least {100 * CONTEXT:,} are needed")
    if len(set(text)) == 1:
        raise InputError(f"{file}: {text[0]!r} is the only character of the text, so there is nothing to predict")
    return text


def as_data(text: str) -> tuple[Data, int]:
    """Cut a text into examples, and return them with the size of the vocabulary.

    The first eight tenths are for training, the next one for validation, the last for the test. An example is CONTEXT
    characters and, one place on, the characters to be predicted from them.
    """
    counts = Counter(text)
    known = sorted(character for character, n in counts.items() if n >= RARE * len(text))
    numbers = {character: i + 1 for i, character in enumerate(known)}  # 0: all that are rare
    codes = np.fromiter((numbers.get(character, 0) for character in text), np.int32, len(text))

    def examples(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = (len(part) - 1) // CONTEXT
        return part[: n * CONTEXT].reshape(n, CONTEXT), part[1 : n * CONTEXT + 1].reshape(n, CONTEXT)

    cuts = [8 * len(codes) // 10, 9 * len(codes) // 10]
    return Data(*map(examples, np.split(codes, cuts))), len(known) + 1


class Block(nnx.Module):
    """Causal self-attention and a perceptron, each on normalised input and added to it."""

    def __init__(self, width: int, heads: int, dropout: float, rngs: nnx.Rngs) -> None:
        """Draw the weights."""
        self.heads = heads
        self.before_attention = nnx.LayerNorm(width, rngs=rngs)
        self.query_key_value = nnx.Linear(width, 3 * width, use_bias=False, rngs=rngs)
        self.attended = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.before_perceptron = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """Apply the block to [character, width], CONTEXT characters to an example; in training mode with a key.

        One axis for all characters: on a CPU, weights' gradients that sum over two axes take twice as long.
        """
        width = x.shape[-1]
        q, k, v = (
            part.reshape(-1, CONTEXT, self.heads, width // self.heads)
            for part in jnp.split(self.query_key_value(self.before_attention(x)), 3, axis=-1)
        )
        scores = jnp.einsum("nqhc,nkhc->nhqk", q, k) / np.sqrt(width / self.heads)
        weights = jax.nn.softmax(jnp.where(np.tri(CONTEXT, dtype=bool), scores, -jnp.inf))
        mixed = jnp.einsum("nhqk,nkhc->nqhc", weights, v).reshape(x.shape)
        x = x + self._dropped(self.attended(mixed), layer_key(key, 0))
        hidden = jax.nn.gelu(self.up(self.before_perceptron(x)))
        return x + self._dropped(self.down(hidden), layer_key(key, 1))

    def _dropped(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        return self.dropout(x, deterministic=key is None, rngs=key)


class Transformer(nnx.Module):
    """A decoder-only transformer over characters, with learned places and a readout of its own."""

    def __init__(self, vocabulary: int, width: int, depth: int, heads: int, remedies: Remedies, *, rngs: nnx.Rngs) -> None:
        """Draw the weights."""
        self.character = nnx.Embed(vocabulary, width, rngs=rngs)
        self.place = nnx.Embed(CONTEXT, width, rngs=rngs)
        self.blocks = nnx.List(Block(width, heads, remedies.dropout, rngs) for _ in range(depth))
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.readout = nnx.Linear(width, vocabulary, rngs=rngs)

    def __call__(self, characters: jax.Array, key: jax.Array | None) -> jax.Array:
        """Return the logits of the next character at every place. With a key the model is in training mode."""
        x = self.character(characters) + self.place(jnp.arange(CONTEXT))
        x = x.reshape(-1, x.shape[-1])
        for i, block in enumerate(self.blocks):
            x = block(x, layer_key(key, i))
        return self.readout(self.norm(x)).reshape(*characters.shape, -1)


@dataclass(frozen=True)
class Characters(Classification):
    """Classification of the next character, scored in bits per character."""

    score: Score = field(default=Score("bits per character", higher_is_better=False), init=False)

    def metric(self, params: Params, state: State, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return the mean cross-entropy of every example's characters, in nats and in bits."""
        loss, _ = super().metric(params, state, batch)
        loss = loss.mean(-1)
        return loss, loss / np.log(2)


def characters(name: str, text: str, remedies: Remedies) -> Characters:
    """Make the workload of a text: two blocks of width 64 with four heads."""
    data, vocabulary = as_data(text)
    return Characters(name, data, lambda rngs: Transformer(vocabulary, 64, 2, 4, remedies, rngs=rngs), remedies.l2)
