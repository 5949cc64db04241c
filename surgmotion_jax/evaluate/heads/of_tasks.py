"""Which head reads which features, and how their arrays are laid out for it.

Letters: B moments, N tokens or moments of a video, L layers, t, h, w token grid, D width.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.features.cache import Wanted
from surgmotion_jax.evaluate.heads.networks import PIXEL_HEADS, Head, HeadConfig, LinearConfig, make_head
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.models.attention import AUTO, best_attention
from surgmotion_jax.models.dense_head import DenseHeadConfig
from surgmotion_jax.models.layout import SINGLE_DEVICE, Layout
from surgmotion_jax.models.patch_head import PatchHeadConfig
from surgmotion_jax.models.probe import ProbeConfig
from surgmotion_jax.models.temporal import TemporalConfig

PIXELS = "pixels"  # in the place of a head's name where an encoder in training reads the rows first
KIND_OF_HEAD = {
    "attentive": "tokens",
    "linear": "pooled",
    "knn": "pooled",
    "temporal": "pooled",
    "dense": "layers",
    "patch_linear": "layers",
    "constant": "pooled",
}
HEADS_OF_FAMILY = {
    "workflow": ("attentive", "linear", "knn", "temporal", "constant"),
    "action": ("attentive", "linear", "knn", "constant"),
    "presence": ("attentive", "linear", "knn", "temporal", "constant"),
    "triplet": ("attentive", "linear", "knn", "temporal", "constant"),
    "skill": ("attentive", "linear", "knn", "constant"),
    "segmentation": ("dense", "patch_linear", "constant"),
    "depth": ("dense", "patch_linear", "constant"),
}
LAYERS = 4  # that a dense head reads by default
MOST_DOUBLINGS = (256, 128, 64, 32)  # channels of the dense head's up-sampling


def check_head(family: str, head: str) -> None:
    """Raises ValueError for a head that cannot do what the family asks."""
    if head not in HEADS_OF_FAMILY[family]:
        raise ValueError(
            f"probe.head is {head}, but the benchmark's family is {family}; choose {', '.join(HEADS_OF_FAMILY[family])}"
        )


def wanted_features(config: EvaluateConfig, depth: int) -> Wanted:
    """What the head reads of an encoder with `depth` blocks."""
    kind = KIND_OF_HEAD[config.probe.head]
    if kind != "layers":
        return Wanted(kind)
    spread = {round((number + 1) * depth / LAYERS) - 1 for number in range(LAYERS)}
    return Wanted(kind, config.probe.layers or tuple(sorted(max(0, layer) for layer in spread)))


def attention_on(platform: str, attention: str, dtype: str, head_dim: int) -> str:
    """An attentive head's attention, with 'auto' replaced by what `platform` ('cpu', 'gpu', 'tpu') runs best.

    Raises ValueError for a kernel that cannot run there.
    """
    if attention == AUTO:
        return best_attention(platform, dtype, (head_dim,))
    needs = {"cudnn": "gpu", "splash": "tpu", "fused": "tpu"}.get(attention)
    if needs and platform != needs:
        raise ValueError(
            f"probe.attention is {attention!r}, which needs a {needs.upper()}, but the devices are {platform!r}; set "
            "--config.probe.attention=auto"
        )
    return attention


def with_attention(config: EvaluateConfig, platform: str, width: int) -> EvaluateConfig:
    """The config with an attention 'auto' of its head decided, so that records of a run say which one ran.

    `width` is that of the tokens, 0 where it is not known yet. A head without attention has 'xla', which means nothing.
    """
    probe = config.probe
    if probe.attention != AUTO:
        return config
    attentive = probe.head == "attentive"
    found = attention_on(platform, AUTO, probe.dtype, width // probe.heads) if attentive else "xla"
    return dataclasses.replace(config, probe=dataclasses.replace(probe, attention=found))


def head_for(
    config: EvaluateConfig,
    objective: Objective,
    shape: tuple[int, ...],
    scale: float = 1.0,
    layout: Layout = SINGLE_DEVICE,
) -> Head:
    """The head for features of `shape` (of one moment). `scale` is a typical depth, `layout` that of a head's device.

    Raises ValueError for attention that the device does not have.
    """
    probe, width = config.probe, shape[-1]
    made: HeadConfig
    if probe.head == "attentive":
        made = ProbeConfig(
            width,
            objective.outputs,
            probe.depth,
            probe.heads,
            norm_eps=probe.norm_eps,
            attention=attention_on(layout.platform, probe.attention, probe.dtype, width // probe.heads),
            remat=probe.remat,
            dtype=probe.dtype,
        )
    elif probe.head == "linear":
        made = LinearConfig(width, objective.outputs)
    elif probe.head == "temporal":
        made = TemporalConfig(width, objective.outputs, probe.temporal, probe.width, dtype=probe.dtype)
    elif probe.head == "patch_linear":
        made = patch_config(config, objective, shape, scale)
    else:
        made = dense_config(config, objective, shape, scale)
    return make_head(probe.head, made, layout)


def dense_config(config: EvaluateConfig, objective: Objective, shape: tuple[int, ...], scale: float) -> DenseHeadConfig:
    """As many doublings as lead from patches to the stride, one to four; channels no wider than asked for."""
    size, layers = config.data.size, shape[0]
    doublings = max(1, min(len(MOST_DOUBLINGS), int(np.log2(size / shape[2] / config.probe.stride))))
    channels = tuple(min(c, 4 * config.probe.width) for c in MOST_DOUBLINGS[-doublings:])
    projection, dtype = 2 * config.probe.width, config.probe.dtype
    return DenseHeadConfig(
        shape[-1], (size, size), layers, output_of(objective), scale, projection, channels, dtype=dtype
    )


def patch_config(config: EvaluateConfig, objective: Objective, shape: tuple[int, ...], scale: float) -> PatchHeadConfig:
    """As many numbers along a patch as the stride asks for, at least one."""
    size, layers, rows = config.data.size, shape[0], shape[2]
    cells = max(1, round(size / rows / config.probe.stride))
    return PatchHeadConfig(shape[-1], (size, size), layers, cells, output_of(objective), scale, config.probe.normed)


def output_of(objective: Objective) -> str:
    """What a number of a pixel is: `depth` or `logits`."""
    return "depth" if objective.name == "depth" else "logits"


def as_head_input(head: str, rows: np.ndarray) -> np.ndarray:
    """Features [B, *shape] as the head takes them: tokens [B,N,D], one token a moment [B,1,D], layers [L,B,t,h,w,D].

    Pixels stay as they are.
    """
    if head == PIXELS:
        return rows
    if head in PIXEL_HEADS:
        return np.ascontiguousarray(np.moveaxis(rows, 1, 0))
    return rows.reshape(len(rows), -1, rows.shape[-1])
