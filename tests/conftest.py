"""What all tests share: two CPU devices, strict promotion, and no use of the network."""

import jax

# Before the backend starts: laws about shardings need more than one device.
jax.config.update("jax_num_cpu_devices", 2)
# An equation must not lean on implicit dtype promotion, nor keep a tracer.
jax.config.update("jax_numpy_dtype_promotion", "strict")
