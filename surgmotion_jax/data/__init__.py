"""Videos in, batches of clips out: sources, decoding, the sampling rule, the loader."""

from surgmotion_jax.data.catalogue import BudgetExceeded
from surgmotion_jax.data.clips import ClipDataset, describe
from surgmotion_jax.data.config import DataConfig, SourceConfig
from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.loader import batches
from surgmotion_jax.data.media import Limits, UnreadableVideo, VideoInfo
from surgmotion_jax.data.sample import SCHEMA_VERSION, Batch, Fault, Sample, check

__all__ = [
    "SCHEMA_VERSION",
    "Batch",
    "BudgetExceeded",
    "ClipDataset",
    "DataConfig",
    "Fault",
    "Limits",
    "Sample",
    "SourceConfig",
    "UnreadableVideo",
    "VideoInfo",
    "batches",
    "check",
    "describe",
    "probe",
    "read_frames",
]
