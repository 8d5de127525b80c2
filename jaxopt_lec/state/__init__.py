"""Optimizer state that is small, sharded and visible, for any Optax transformation: it acts outside the equation."""

from jaxopt_lec.state.codecs import Codec, bfloat16, blockwise_8bit
from jaxopt_lec.state.compress import CompressState, Format, compress, decompress
from jaxopt_lec.state.master import MasterState, apply_updates, master, master_parameters

__all__ = [
    "Codec",
    "CompressState",
    "Format",
    "MasterState",
    "apply_updates",
    "bfloat16",
    "blockwise_8bit",
    "compress",
    "decompress",
    "master",
    "master_parameters",
]
