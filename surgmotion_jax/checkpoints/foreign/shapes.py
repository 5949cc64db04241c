"""The architecture that the shapes of a release's tensors imply, under facebookresearch's names.

Letters: C width, L depth, M hidden width of the MLP, E width of the predictor, t tubelet, p patch. Heads leave no trace
in any shape: they come from the table of variants, from a config beside the weights, or from the person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from surgmotion_jax.models.config import VARIANTS
from surgmotion_jax.models.name_rules import count_layers

PREDICTOR_HEADS = {384: 12}  # every released predictor
PROBE_HEADS = 16  # facebookresearch's attentive probes, whatever the encoder

Tensors = Mapping[str, Any]


class NoSuchArchitecture(ValueError):
    """The shapes do not agree with each other, or do not say enough; the message says what to add."""


@dataclass(frozen=True)
class TrunkShape:
    """A stack of blocks as its tensors show it."""

    width: int
    depth: int
    mlp: int


@dataclass(frozen=True)
class EncoderShape:
    """An encoder as its tensors show it; `levels` counts the norms of V-JEPA 2.1, 0 for one final norm."""

    trunk: TrunkShape
    patch: int
    tubelet: int
    levels: int = 0


@dataclass(frozen=True)
class PredictorShape:
    """A predictor as its tensors show it: `inputs` and `outputs` are the widths of the features it takes and gives."""

    trunk: TrunkShape
    mask_tokens: int
    inputs: int
    outputs: int
    context: bool = False


def shape_of(tensors: Tensors, name: str, rank: int) -> tuple[int, ...]:
    """Shape of a tensor that must be there with `rank` axes. Raises NoSuchArchitecture otherwise."""
    if name not in tensors:
        raise NoSuchArchitecture(f"{name} is missing, without which the architecture is unknown.")
    shape = tuple(int(size) for size in tensors[name].shape)
    if len(shape) != rank:
        raise NoSuchArchitecture(f"{name} has shape {list(shape)}; {rank} axes are expected.")
    return shape


def trunk_shape(tensors: Tensors, prefix: str) -> TrunkShape:
    """Width, depth and hidden width of the blocks named `prefix0`, `prefix1`, ..."""
    depth = count_layers(tensors, prefix)
    if not depth:
        raise NoSuchArchitecture(f"{prefix}0 is missing: there are no blocks.")
    mlp, width = shape_of(tensors, f"{prefix}0.mlp.fc1.weight", 2)
    if f"{prefix}0.mlp.fc3.weight" in tensors:
        raise NoSuchArchitecture(f"{prefix}0.mlp.fc3 shows a SwiGLU block; released models use GELU, which is read.")
    return TrunkShape(width, depth, mlp)


def encoder_shape(tensors: Tensors) -> EncoderShape:
    """The encoder's architecture but for its heads. Raises NoSuchArchitecture naming the tensor that does not fit."""
    name = "patch_embed.proj.weight"
    if len(tuple(getattr(tensors.get(name), "shape", ()))) == 4:
        raise NoSuchArchitecture(f"{name} has 4 axes: an image encoder; only encoders of video (5 axes) are read.")
    width, channels, tubelet, height, patch = shape_of(tensors, name, 5)
    trunk = trunk_shape(tensors, "blocks.")
    if channels != 3 or height != patch or width != trunk.width:
        raise NoSuchArchitecture(
            f"{name} has shape {[width, channels, tubelet, height, patch]}; with blocks of width {trunk.width} it must "
            f"be [{trunk.width}, 3, tubelet, patch, patch]."
        )
    return EncoderShape(trunk, patch, tubelet, count_layers(tensors, "norms_block."))


def predictor_shape(tensors: Tensors) -> PredictorShape:
    """The predictor's architecture but for its heads. Raises NoSuchArchitecture naming the tensor that does not fit."""
    trunk = trunk_shape(tensors, "predictor_blocks.")
    first = "predictor_embed.weight" if "predictor_embed.weight" in tensors else "predictor_embed.0.weight"
    _, inputs = shape_of(tensors, first, 2)
    outputs, _ = shape_of(tensors, "predictor_proj.weight", 2)
    context = "predictor_proj_context.weight" in tensors
    return PredictorShape(trunk, count_layers(tensors, "mask_tokens."), inputs, outputs, context)


def encoder_heads(trunk: TrunkShape, asked: int, said: str = "as asked") -> tuple[int, str]:
    """The number of heads and where it comes from. Raises NoSuchArchitecture if the table does not hold the shape.

    ViT-g exists with 16 and with 22 heads (`vit_giant`, `vit_giant_xformers`): only the second was released, so it is
    the default, and the answer says so.
    """
    if asked:
        return checked_heads("--heads", asked, trunk.width), said
    rows = {name: v for name, v in VARIANTS.items() if (v.width, v.depth, v.mlp) == _row(trunk)}
    if not rows:
        raise NoSuchArchitecture(
            f"an encoder of width {trunk.width}, depth {trunk.depth} and MLP {trunk.mlp} is no released one, and "
            "shapes do not show the number of heads; give --heads=N."
        )
    name = next((name for name in rows if name.endswith("_xformers")), next(iter(rows)))
    others = ", ".join(f"--heads={v.heads} for {n}" for n, v in rows.items() if n != name)
    return rows[name].heads, f"of {name}, the released variant of this shape; {others}" if others else f"of {name}"


def predictor_heads(trunk: TrunkShape, asked: int, said: str = "as asked") -> tuple[int, str]:
    """As `encoder_heads`, for the predictor."""
    if asked:
        return checked_heads("--predictor-heads", asked, trunk.width), said
    if trunk.width not in PREDICTOR_HEADS:
        raise NoSuchArchitecture(
            f"a predictor of width {trunk.width} is no released one (width 384), and shapes do not show the number of "
            "heads; give --predictor-heads=N."
        )
    return PREDICTOR_HEADS[trunk.width], "of the released predictors"


def checked_heads(what: str, heads: int, width: int) -> int:
    """`heads`, if they divide the width; NoSuchArchitecture otherwise."""
    if heads < 1 or width % heads:
        raise NoSuchArchitecture(f"{what} is {heads}; it must divide the width, {width}.")
    return heads


def _row(trunk: TrunkShape) -> tuple[int, int, int]:
    return trunk.width, trunk.depth, trunk.mlp
