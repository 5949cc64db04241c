"""Model configuration: frozen, validated, independent of flags and files."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import NamedTuple

POSITIONS = ("rope_tiled", "rope", "sincos", "sincos_uniform")
REMAT_POLICIES = ("none", "full", "dots")
DTYPES = ("float32", "bfloat16")


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
# `vit_nano` is ours: the smallest with the head dimension of the released models, for laptops and tests.
VARIANTS: dict[str, Variant] = {
    "vit_synthetic": Variant(1, 1, 1, 4),
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


def one_of(name: str, got: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError, with a suggestion, unless `got` is one of `allowed`."""
    if got not in allowed:
        close = difflib.get_close_matches(str(got), allowed, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{name} is {got!r}; it must be one of {', '.join(allowed)}.{hint}")


def at_least(name: str, got: float, least: float) -> None:
    """Raises ValueError unless `got >= least`."""
    if not got >= least:
        raise ValueError(f"{name} is {got}; it must be at least {least}.")


def rotary_segment(head_dim: int) -> int:
    """Width of the part of a head that each of time, row and column rotates: 2 * floor(floor(hd / 3) / 2)."""
    return 2 * ((head_dim // 3) // 2)


@dataclass(frozen=True)
class TransformerConfig:
    """Everything a stack of blocks needs. `head_dim * heads == width`."""

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
        one_of("positions", self.positions, POSITIONS)
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

    def __post_init__(self) -> None:
        if not 0 <= self.mask_index < self.mask_tokens:
            raise ValueError(
                f"model.predictor.mask_index is {self.mask_index}; it must lie in 0..{self.mask_tokens - 1} "
                "(model.predictor.mask_tokens)."
            )


@dataclass(frozen=True)
class ModelConfig:
    """The `model` section of a config."""

    variant: str = "vit_large"  # a row of the ViT table
    depth: int = 0  # number of encoder blocks; 0 keeps the variant's
    patch: int = 16  # pixels per side of a patch
    tubelet: int = 2  # frames per token
    positions: str = "rope_tiled"  # rope_tiled (V-JEPA 2), rope (V-JEPA 2.1), sincos, sincos_uniform
    attention: str = "xla"  # xla, cudnn (NVIDIA GPUs), splash (TPUs)
    remat: str = "full"  # none, full (recompute every block), dots (keep matrix products)
    dtype: str = "bfloat16"  # computation; parameters, norms, softmax and loss stay float32
    predictor: PredictorSettings = field(default_factory=PredictorSettings)

    def __post_init__(self) -> None:
        one_of("model.variant", self.variant, tuple(VARIANTS))
        at_least("model.depth", self.depth, 0)
        at_least("model.patch", self.patch, 1)
        at_least("model.tubelet", self.tubelet, 1)

    @property
    def encoder(self) -> TransformerConfig:
        v = VARIANTS[self.variant]
        return TransformerConfig(
            width=v.width,
            depth=self.depth or v.depth,
            heads=v.heads,
            mlp=v.mlp,
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
            mlp=4 * p.width,
            positions=self.positions,
            attention=self.attention,
            remat=self.remat,
            dtype=self.dtype,
        )

    @property
    def patch_values(self) -> int:
        """Pixel values in one tubelet patch."""
        return self.tubelet * self.patch * self.patch * 3

    def grid(self, frames: int, height: int, width: int) -> Grid:
        """Token grid of a clip; frames and pixels beyond the last full patch do not count (a valid convolution)."""
        return Grid(frames // self.tubelet, height // self.patch, width // self.patch)
