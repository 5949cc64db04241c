"""Model configuration: frozen, validated, independent of flags and files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from surgmotion_jax.checks import at_least, one_of

POSITIONS = ("rope_tiled", "rope", "sincos", "sincos_uniform")
REMAT_POLICIES = ("none", "full", "attention", "projections", "dots")
DTYPES = ("float32", "bfloat16")
ATTENTIONS = ("xla", "cudnn", "splash", "fused")
"""Kernels of attention; what each needs is said beside their table in `attention`."""


class Grid(NamedTuple):
    """Token grid: tubelet steps, rows, columns. Token n = (d * height + y) * width + x."""

    time: int
    height: int
    width: int

    @property
    def columns(self) -> int:
        """Number of spatial patches, each a column through time."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        return self.time * self.columns


@dataclass(frozen=True)
class Variant:
    """One row of the ViT table: width, depth, heads and hidden width of the MLP."""

    width: int
    depth: int
    heads: int
    mlp: int


# `vit_gigantic*` has 8192 hidden units as V-JEPA 2.1 intends; the V-JEPA 2 code builds 6656 through a keyword typo.
# `vit_nano` is ours: the smallest with the head dimension of the released models, for laptops and tests. `vit_pico` has
# half its width and heads half as wide: small pictures in small patches, many of them, on a CPU.
VARIANTS: dict[str, Variant] = {
    "vit_synthetic": Variant(1, 1, 1, 4),
    "vit_pico": Variant(96, 4, 3, 384),
    "vit_nano": Variant(192, 4, 3, 768),
    "vit_tiny": Variant(192, 12, 3, 768),
    "vit_small": Variant(384, 12, 6, 1536),
    "vit_base": Variant(768, 12, 12, 3072),
    "vit_large": Variant(1024, 24, 16, 4096),
    "vit_huge": Variant(1280, 32, 16, 5120),
    "vit_giant": Variant(1408, 40, 16, 6144),
    "vit_giant_xformers": Variant(1408, 40, 22, 6144),
    "vit_gigantic": Variant(1664, 48, 16, 8192),
    "vit_gigantic_xformers": Variant(1664, 48, 26, 8192),
}


def rotary_segment(head_dim: int) -> int:
    """Width of the part of a head that each of time, row and column rotates: 2 * floor(floor(hd / 3) / 2)."""
    return 2 * ((head_dim // 3) // 2)


@dataclass(frozen=True)
class TransformerConfig:
    """Everything a stack of blocks needs. `head_dim * heads == width`; positions 'none' is for probes."""

    width: int
    depth: int
    heads: int
    mlp: int
    norm_eps: float = 1e-6
    positions: str = "rope_tiled"
    attention: str = "xla"
    remat: str = "none"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} is not divisible by {self.heads} heads; "
                "choose a number of heads that divides the width."
            )
        one_of("positions", self.positions, (*POSITIONS, "none"))
        one_of("remat", self.remat, REMAT_POLICIES)
        one_of("dtype", self.dtype, DTYPES)
        if self.positions.startswith("rope") and rotary_segment(self.head_dim) < 2:
            raise ValueError(
                f"head dimension {self.head_dim} (width {self.width} / {self.heads} heads) is too small for 3-D "
                "RoPE, which rotates 2 * floor(floor(hd / 3) / 2) entries per axis; use a head dimension of at "
                "least 6, or positions='sincos'."
            )

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class PredictorSettings:
    """The predictor as the user sets it (V-JEPA 2: 384 x 12, 12 heads, MLP ratio 4)."""

    width: int = 384  # width of its blocks
    depth: int = 12  # number of blocks
    heads: int = 12  # attention heads
    mask_tokens: int = 10  # stored mask tokens; released checkpoints hold 10
    mask_index: int = 0  # the one that training uses (facebookresearch training: 0; its evaluation and Hugging Face: 1)
    zero_init: bool = True  # mask tokens start at zero
    mlp: int = 0  # hidden units of its MLPs; 0: 4 x width

    def __post_init__(self) -> None:
        at_least("model.predictor.mlp", self.mlp, 0)
        if not 0 <= self.mask_index < self.mask_tokens:
            raise ValueError(
                f"model.predictor.mask_index is {self.mask_index}; it must lie in 0..{self.mask_tokens - 1} "
                "(model.predictor.mask_tokens)."
            )


@dataclass(frozen=True)
class V21Settings:
    """What V-JEPA 2.1 (arXiv 2603.14482) adds to V-JEPA 2, besides positions='rope'. The defaults add nothing."""

    levels: int = 0  # encoder depths with a norm of their own (V-JEPA 2.1: 4); 0: one norm after the last block
    output_levels: int = 0  # the last ones of them, that training predicts; 0: all (distilled models: 1)
    rope_grid: int = 0  # rows and columns are scaled to this grid (16 for patch 16, 18 for patch 14); 0: not scaled
    modality: bool = False  # images have a tokenizer of one frame, images and videos an embedding each
    context_projection: bool = False  # the predictor predicts visible tokens too, by a projection of their own
    target_width: int = 0  # of what the predictor predicts; 0: output_levels x the encoder's (distilled: the teacher's)

    def __post_init__(self) -> None:
        for name in ("levels", "output_levels", "rope_grid", "target_width"):
            at_least(f"model.v21.{name}", getattr(self, name), 0)
        if self.output_levels > self.levels:
            raise ValueError(
                f"model.v21.output_levels is {self.output_levels}, but model.v21.levels is {self.levels}; training can "
                "predict levels that exist: raise levels or lower output_levels."
            )
        if self.rope_grid == 1:
            raise ValueError("model.v21.rope_grid is 1; give the side of a grid, 2 or more, or 0 not to scale.")

    @property
    def adds(self) -> bool:
        """Whether anything is asked for that V-JEPA 2 does not have. Widths of targets are nobody's own."""
        return bool(self.levels or self.rope_grid or self.modality or self.context_projection)

    @property
    def outputs(self) -> int:
        """Levels that the encoder's training output holds, side by side; 1 for V-JEPA 2."""
        return self.output_levels or self.levels or 1


@dataclass(frozen=True)
class ModelConfig:
    """The `model` section of a config."""

    backbone: str = "auto"  # vit, vjepa21, or another of models/catalogue.py; auto: vjepa21 where v21 asks for it
    variant: str = "vit_large"  # a row of the ViT table
    depth: int = 0  # number of encoder blocks; 0 keeps the variant's
    width: int = 0  # width of the encoder; 0 keeps the variant's
    heads: int = 0  # attention heads of the encoder; 0 keeps the variant's
    mlp: int = 0  # hidden units of the encoder's MLPs; 0 keeps the variant's
    patch: int = 16  # pixels per side of a patch
    tubelet: int = 2  # frames per token
    positions: str = "rope_tiled"  # rope_tiled (V-JEPA 2), rope (V-JEPA 2.1), sincos, sincos_uniform
    attention: str = "auto"  # xla, cudnn (NVIDIA GPUs), splash, fused (TPUs); auto: whichever suits the devices
    remat: str = "full"  # kept of a block: none (all), full (its input), attention, projections, dots: see transformer
    dtype: str = "bfloat16"  # computation; parameters, norms, softmax and loss stay float32
    predictor: PredictorSettings = field(default_factory=PredictorSettings)
    v21: V21Settings = field(default_factory=V21Settings)  # V-JEPA 2.1

    def __post_init__(self) -> None:
        one_of("model.variant", self.variant, tuple(VARIANTS))
        one_of("model.positions", self.positions, POSITIONS)
        if self.backbone == "vit" and self.v21.adds:
            raise ValueError(
                "model.backbone is 'vit', but model.v21 asks for what V-JEPA 2.1 adds; set model.backbone to 'auto', "
                "or the fields of model.v21 to their defaults."
            )
        for name in ("depth", "width", "heads", "mlp"):
            at_least(f"model.{name}", getattr(self, name), 0)
        at_least("model.patch", self.patch, 1)
        at_least("model.tubelet", self.tubelet, 1)
        depth = self.depth or VARIANTS[self.variant].depth
        if self.v21.levels > depth:
            raise ValueError(
                f"model.v21.levels is {self.v21.levels}; the encoder has {depth} blocks, so at most {depth}."
            )
        if self.v21.rope_grid and not self.positions.startswith("rope"):
            raise ValueError(
                f"model.v21.rope_grid is {self.v21.rope_grid}, but model.positions is {self.positions!r}, which is not "
                "rotary; set rope_grid to 0 or positions to 'rope'."
            )

    @property
    def backbone_name(self) -> str:
        """The entry of the catalogue of backbones."""
        if self.backbone != "auto":
            return self.backbone
        return "vjepa21" if self.v21.adds else "vit"

    @property
    def encoder(self) -> TransformerConfig:
        v = VARIANTS[self.variant]
        return TransformerConfig(
            width=self.width or v.width,
            depth=self.depth or v.depth,
            heads=self.heads or v.heads,
            mlp=self.mlp or v.mlp,
            positions=self.positions,
            attention=self.attention,
            remat=self.remat,
            dtype=self.dtype,
        )

    @property
    def predictor_trunk(self) -> TransformerConfig:
        p = self.predictor
        return TransformerConfig(
            width=p.width,
            depth=p.depth,
            heads=p.heads,
            mlp=p.mlp or 4 * p.width,
            positions=self.positions,
            attention=self.attention,
            remat=self.remat,
            dtype=self.dtype,
        )

    @property
    def context_width(self) -> int:
        """Width of the encoder's training output, which the predictor takes."""
        return self.v21.outputs * self.encoder.width

    @property
    def target_width(self) -> int:
        """Width of what the predictor predicts."""
        return self.v21.target_width or self.context_width

    @property
    def patch_values(self) -> int:
        """Pixel values in one tubelet patch."""
        return self.tubelet * self.image_values

    @property
    def image_values(self) -> int:
        """Pixel values in one patch of an image."""
        return self.patch * self.patch * 3

    def grid(self, frames: int, height: int, width: int) -> Grid:
        """Token grid of a clip; frames and pixels beyond the last full patch do not count (a valid convolution)."""
        return Grid(frames // self.tubelet, height // self.patch, width // self.patch)
