"""Optimizer state that is small, sharded and visible, for any Optax transformation: it acts outside the equation."""

from jaxopt_lec.state.checkpoint import restore, save
from jaxopt_lec.state.codecs import Codec, bfloat16, blockwise_8bit
from jaxopt_lec.state.compress import CompressState, Format, compress, decompress
from jaxopt_lec.state.inspect import Cost, inspect, summary
from jaxopt_lec.state.master import MasterState, apply_updates, master, master_parameters
from jaxopt_lec.state.shard import abstract, shard, shardings

__all__ = [
    "Codec",
    "CompressState",
    "Cost",
    "Format",
    "MasterState",
    "abstract",
    "apply_updates",
    "bfloat16",
    "blockwise_8bit",
    "compress",
    "decompress",
    "inspect",
    "master",
    "master_parameters",
    "restore",
    "save",
    "shard",
    "shardings",
    "summary",
]
