"""The models, in Flax NNX, and the model-side remedies of the lecture that they can be built with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx


class Activation(StrEnum):
    """What stands between two layers."""

    RELU = "relu"
    SIGMOID = "sigmoid"
    TANH = "tanh"


class Initializer(StrEnum):
    """How weight matrices are drawn: Glorot & Bengio's uniform, or the plain N(0, 1) that it replaced."""

    XAVIER = "xavier"
    NORMAL = "normal"


ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    Activation.RELU: jax.nn.relu,
    Activation.SIGMOID: jax.nn.sigmoid,
    Activation.TANH: jnp.tanh,
}
INITIALIZERS = {
    Initializer.XAVIER: nnx.initializers.xavier_uniform(),
    Initializer.NORMAL: nnx.initializers.normal(stddev=1.0),
}


@dataclass(frozen=True)
class Remedies:
    """The model-side remedies of the lecture. They change the workload, for all optimizers alike.

    Args:
        activation: what stands between two layers; None is the model's own, ReLU.
        initializer: how weight matrices are drawn. Biases start at 0.
        batch_norm: whether batch normalisation stands before every activation.
        dropout: the probability, in [0, 1), with which a hidden unit is dropped.
        l2: λ ≥ 0 in the training loss + λ/2 · Σ W² over all weight matrices and convolution kernels.
    """

    activation: Activation | None = None
    initializer: Initializer = Initializer.XAVIER
    batch_norm: bool = False
    dropout: float = 0.0
    l2: float = 0.0


class Hidden(nnx.Module):
    """One hidden layer: a linear map, batch normalisation if asked for, the activation, dropout if asked for."""

    def __init__(self, linear: nnx.Linear | nnx.Conv, features: int, remedies: Remedies, rngs: nnx.Rngs) -> None:
        """Take the linear map, and build what the remedies ask for."""
        self.linear = linear
        # The default momentum, 0.99, would still hold a third of the start after 100 steps.
        self.norm = nnx.BatchNorm(features, momentum=0.9, rngs=rngs) if remedies.batch_norm else None
        self.activation = ACTIVATIONS[remedies.activation or Activation.RELU]
        self.dropout = nnx.Dropout(remedies.dropout) if remedies.dropout else None

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """Apply the layer: in training mode with a key, in evaluation mode without."""
        x = self.linear(x)
        if self.norm is not None:
            x = self.norm(x, use_running_average=key is None)
        x = self.activation(x)
        if self.dropout is not None:
            x = self.dropout(x, deterministic=key is None, rngs=key)
        return x


class MLP(nnx.Module):
    """A multilayer perceptron over flattened images; with no hidden layer it is multinomial logistic regression."""

    def __init__(self, pixels: int, hidden: Sequence[int], classes: int, remedies: Remedies, *, rngs: nnx.Rngs) -> None:
        """Draw the weights."""
        init = INITIALIZERS[remedies.initializer]
        widths = [pixels, *hidden]
        self.hidden = nnx.List(
            Hidden(nnx.Linear(n_in, n_out, kernel_init=init, rngs=rngs), n_out, remedies, rngs)
            for n_in, n_out in pairwise(widths)
        )
        self.readout = nnx.Linear(widths[-1], classes, kernel_init=init, rngs=rngs)

    def __call__(self, images: jax.Array, key: jax.Array | None) -> jax.Array:
        """Return the logits. With a key the model is in training mode; without one, in evaluation mode."""
        x = images.reshape(len(images), -1)
        for i, layer in enumerate(self.hidden):
            x = layer(x, layer_key(key, i))
        return self.readout(x)


class CNN(nnx.Module):
    """A small convolutional network: 3×3 convolutions, each followed by 2×2 max pooling, then one linear map."""

    def __init__(self, side: int, channels: Sequence[int], classes: int, remedies: Remedies, *, rngs: nnx.Rngs) -> None:
        """Draw the weights."""
        init = INITIALIZERS[remedies.initializer]
        self.hidden = nnx.List(
            Hidden(convolution(n_in, n_out, init, rngs), n_out, remedies, rngs) for n_in, n_out in pairwise([1, *channels])
        )
        pooled = side // 2 ** len(channels)
        self.readout = nnx.Linear(pooled * pooled * channels[-1], classes, kernel_init=init, rngs=rngs)

    def __call__(self, images: jax.Array, key: jax.Array | None) -> jax.Array:
        """Return the logits. With a key the model is in training mode; without one, in evaluation mode."""
        x = images[..., None]
        for i, layer in enumerate(self.hidden):
            x = layer(x, layer_key(key, i))
            n, height, width, channels = x.shape
            # A reshape and a maximum: the gradient of reduce_window is slow on the CPU, and slower under vmap.
            x = x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
        return self.readout(x.reshape(len(x), -1))


def convolution(n_in: int, n_out: int, init: nnx.Initializer, rngs: nnx.Rngs) -> nnx.Conv:
    """Return a 3×3 convolution that keeps the image's size."""
    return nnx.Conv(n_in, n_out, kernel_size=(3, 3), kernel_init=init, conv_general_dilated=convolve_by_patches, rngs=rngs)


def convolve_by_patches(images: jax.Array, kernel: jax.Array, *args: object, **kwargs: object) -> jax.Array:
    """Convolve as one matrix product over patches, stride 1, zeros around the image.

    On a CPU, XLA's own convolution is six times slower here, and slower still under vmap with one kernel per lane.
    """
    height, width, n_in, n_out = kernel.shape
    n, rows, columns = images.shape[:3]
    padded = jnp.pad(images, ((0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0)))
    patches = jnp.concatenate(
        [padded[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)], axis=-1
    )
    flat = patches.reshape(-1, height * width * n_in) @ kernel.reshape(-1, n_out)
    return flat.reshape(n, rows, columns, n_out)


def layer_key(key: jax.Array | None, layer: int) -> jax.Array | None:
    """Give every layer its own dropout key; evaluation mode has none."""
    return None if key is None else jax.random.fold_in(key, layer)
