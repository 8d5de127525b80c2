"""Train half way in PyTorch, save, and go on in Flax NNX and JAX as if nothing had happened.

You learn: `checkpoint.save` writes a PyTorch optimizer's state to a safetensors file; `checkpoint.from_torch` turns
that file into the optimizer and the state with which JAX goes on, given the path in Flax's model and the axis layout for
each of PyTorch's names; `checkpoint.to_torch` converts back. The same run finished in PyTorch differs by rounding alone.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
import safetensors.torch
import torch
from flax import nnx
from sklearn.datasets import load_digits

from jaxopt_lec.compat import checkpoint
from jaxopt_lec.compat.checkpoint import CONV2D, LINEAR

STEPS, BATCH_SIZE = 240, 128
HALF = range(STEPS // 2), range(STEPS // 2, STEPS)

# For each of PyTorch's names, the path in Flax's model: (out, in, height, width) in PyTorch is (height, width, in, out) in
# Flax, (out, in) is (in, out).
PLACES = {
    "conv.weight": ("conv/kernel", CONV2D),
    "conv.bias": "conv/bias",
    "out.weight": ("out/kernel", LINEAR),
    "out.bias": "out/bias",
}


class TorchModel(torch.nn.Module):
    """A convolution and a linear layer; images are (batch, 8, 8)."""

    def __init__(self):
        """Draw the weights."""
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 12, 3)
        self.out = torch.nn.Linear(6 * 6 * 12, 10)

    def forward(self, images):
        """Return the logits."""
        x = torch.relu(self.conv(images[:, None]))
        return self.out(x.permute(0, 2, 3, 1).flatten(1))  # channels last, as in Flax


class FlaxModel(nnx.Module):
    """The same in Flax."""

    def __init__(self, *, rngs: nnx.Rngs):
        """Draw the weights."""
        self.conv = nnx.Conv(1, 12, (3, 3), padding="VALID", rngs=rngs)
        self.out = nnx.Linear(6 * 6 * 12, 10, rngs=rngs)

    def __call__(self, images):
        """Return the logits."""
        x = nnx.relu(self.conv(images[..., None]))
        return self.out(x.reshape(len(x), -1))


def batches(steps):
    """Yield the batch of each step, the same for both frameworks."""
    images, labels = load_digits(return_X_y=True)
    images, labels = (images.reshape(-1, 8, 8) / 16).astype(np.float32), labels.astype(np.int64)
    for step in steps:
        batch = np.random.default_rng(step).choice(len(labels), BATCH_SIZE, replace=False)
        yield images[batch], labels[batch]


def train_in_pytorch(model, optimizer, steps):
    losses = []
    for images, labels in batches(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(images)), torch.tensor(labels))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@nnx.jit
def train_step(model, optimizer, images, labels):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


def train_in_jax(model, optimizer, steps):
    return [float(train_step(model, optimizer, *batch)) for batch in batches(steps)]


def weights_for_flax(weights):
    """Return the tree of Flax's weights, made of PyTorch's by the same layouts."""
    tree = {}
    for name, item in PLACES.items():
        path, layout = (item, None) if isinstance(item, str) else item
        module, leaf = path.split("/")
        tree.setdefault(module, {})[leaf] = jnp.array(np.transpose(weights[name], layout))
    return tree


def restore(folder):
    """Make Flax's model and optimizer from the files; nothing of PyTorch is needed for this."""
    model = FlaxModel(rngs=nnx.Rngs(0))
    nnx.update(model, weights_for_flax(safetensors.numpy.load_file(folder / "model.safetensors")))
    tx, state = checkpoint.from_torch(folder / "optimizer.safetensors", nnx.state(model, nnx.Param), PLACES)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    nnx.update(optimizer.opt_state, nnx.state(state))
    return model, optimizer


def draw(path, first, in_jax, in_pytorch, difference):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    handed_over = HALF[0][-1]
    second = [handed_over, *HALF[1]]
    axes.plot(second, [first[-1], *in_jax], color="#2471a3", lw=4, alpha=0.55, label="JAX, second half")
    axes.plot(second, [first[-1], *in_pytorch], color="#222222", lw=1.5, ls=(0, (4, 3)), label="PyTorch's own second half")
    axes.plot(HALF[0], first, color="#c0392b", lw=1.6, label="PyTorch, first half")
    axes.axvline(handed_over, color="#7f7f7f", lw=1)
    axes.annotate("handed over", (handed_over, 1.5), xytext=(6, 0), textcoords="offset points", color="#555555")
    axes.set(xlabel="step", ylabel="cross-entropy of the batch (nats)", yscale="log", xlim=(0, STEPS))
    axes.set_title(f"AdamW on handwritten digits: the largest difference of the losses is {difference:.0e}")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, reverse=True)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--figure", type=Path, help="where to draw the losses")
    figure = parser.parse_args().figure

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = TorchModel()
    # PyTorch saves the names that it is given, so the order of the parameters does not matter.
    optimizer = torch.optim.AdamW(network.named_parameters(), lr=3e-3, weight_decay=0.05)
    first = train_in_pytorch(network, optimizer, HALF[0])

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        safetensors.torch.save_file(network.state_dict(), folder / "model.safetensors")
        checkpoint.save(optimizer.state_dict(), folder / "optimizer.safetensors")
        model, restored = restore(folder)
    in_jax = train_in_jax(model, restored, HALF[1])
    in_pytorch = train_in_pytorch(network, optimizer, HALF[1])

    expected = weights_for_flax({name: p.detach().numpy() for name, p in network.named_parameters()})
    differences = jax.tree.map(
        lambda ours, theirs: jnp.max(jnp.abs(ours - theirs)), nnx.to_pure_dict(nnx.state(model)), expected
    )
    weights = float(max(jax.tree.leaves(differences)))
    losses = float(np.max(np.abs(np.array(in_jax) - in_pytorch)))
    print(f"loss in PyTorch: {first[0]:.4f} at first, {first[-1]:.4f} when it was saved")
    print(f"loss after {STEPS} steps: {in_jax[-1]:.6f} in JAX, {in_pytorch[-1]:.6f} in PyTorch")
    print(f"largest difference in {STEPS // 2} steps: {losses:.1e} of the losses, {weights:.1e} of the weights at the end")
    assert losses < 1e-4, losses
    assert weights < 1e-3, weights

    # And back: what PyTorch's optimizer has itself after all steps.
    back = checkpoint.to_torch(restored.tx, restored.opt_state, nnx.state(model, nnx.Param), tensor=torch.as_tensor)
    optimizer.load_state_dict(back)
    assert {int(entries["step"]) for entries in optimizer.state_dict()["state"].values()} == {STEPS}
    print(f"back in PyTorch: the state of {len(back['state'])} parameters after {STEPS} steps")
    if figure:
        draw(figure, first, in_jax, in_pytorch, losses)


if __name__ == "__main__":
    main()
