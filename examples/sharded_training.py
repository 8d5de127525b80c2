"""Split an optimizer's state over devices: ZeRO-1 with 8-bit state, for an NNX model, on 8 simulated devices.

You learn: with `state.shard` the parameters are on every device, as in plain data parallelism, and each device keeps and
updates an eighth of the state; `state.inspect` says what that saves; and a checkpoint is restored onto another mesh.
"""

import tempfile
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 8)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from flax import nnx  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402

import jaxopt_lec as jl  # noqa: E402
from jaxopt_lec import state  # noqa: E402

mesh = jax.make_mesh((8,), ("data",))
everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


class Model(nnx.Module):
    """Two layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        """Draw the parameters."""
        self.hidden = nnx.Linear(64, 512, rngs=rngs)
        self.out = nnx.Linear(512, 64, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the output."""
        return self.out(nnx.relu(self.hidden(x)))


model = Model(nnx.Rngs(0))
nnx.update(model, jax.device_put(nnx.state(model), everywhere))

tx = state.compress(jl.adamw(3e-3))
params = nnx.as_pure(nnx.state(model, nnx.Param))
where = state.shardings(tx, params, zero="data")
print(state.inspect(tx, params, of_state=where))  # before anything is allocated

optimizer = nnx.Optimizer(model, state.shard(tx, everywhere, zero="data"), wrt=nnx.Param)


@nnx.jit
def step(model: Model, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
    loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss


# The batch is split too; XLA sums the gradients of its parts.
x = jax.device_put(jax.random.normal(jax.random.key(0), (256, 64)), split)
losses = [float(step(model, optimizer, x, jnp.sin(x))) for _ in range(200)]
print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")
assert losses[-1] < 0.1 * losses[0]

opt_state = nnx.as_pure(optimizer.opt_state)
codes = opt_state.codes[0].slots["m"]["hidden"]["kernel"]
print(f"m of hidden/kernel: {codes.dtype} {codes.shape}, on each device {codes.addressable_shards[0].data.shape}")
assert codes.addressable_shards[0].data.size * 8 == codes.size

# Saved on eight devices, restored on four by two.
with tempfile.TemporaryDirectory() as folder:
    state.save(Path(folder) / "state", opt_state)
    grid = NamedSharding(jax.make_mesh((4, 2), ("data", "model")), PartitionSpec())
    like = state.abstract(tx, params, jax.tree.map(lambda _: grid, params), zero=("data", "model"))
    restored = state.restore(Path(folder) / "state", like)
jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(restored), jax.tree.leaves(opt_state))
print("restored onto a mesh of 4 × 2, bit by bit")
