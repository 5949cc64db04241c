"""V-JEPA 2.1 on clips, its training losses alone, in PyTorch on the weights' released names (vjepa2.md, section 10).

Written from the published description and held to the golden numbers of the authors' code; it gives those that the
fixtures lack, at other sizes. Letters: B clips, N tokens of the grid, K context tokens, M target tokens, C width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

EPSILON, NORMALISED_EPSILON = 1e-6, 1e-5  # of layers; of targets, which have no affine
LEVELS = (2, 5, 8, 11)  # of the fixtures' 12 blocks


@dataclass(frozen=True)
class Peer:
    """The network of some weights, by a PyTorch that is given, as it is not always installed.

    `grid` is (depth, height, width) in tokens, `side` that of the weights' grid.
    """

    torch: ModuleType
    weights: Mapping[str, Tensor]
    grid: tuple[int, int, int]
    side: int
    heads: int

    def losses(self, teacher: Mapping[str, Tensor], video: Tensor, masks: list[tuple[Tensor, Tensor]]) -> np.ndarray:
        """The error of the targets and that of the context, by distance: means over mask sets, (ids_BxK, ids_BxM)."""
        encoder = part(self.weights, "encoder.")
        with self.torch.no_grad():
            targets = self.torch.cat([self.normalised(level) for level in self.levels(teacher, video, None)], -1)
            found = []
            for context, target in masks:
                seen = self.torch.cat(self.levels(encoder, video, context), -1)
                predicted, visible = self.predict(seen, context, target)
                error = (predicted - chosen(targets, target)).abs().mean()
                beside = (visible - chosen(targets, context)).abs().mean(-1) / self.distance(context, target).sqrt()
                found.append((float(error), float(beside.mean())))
        return np.mean(found, 0)

    def levels(self, w: Mapping[str, Tensor], video: Tensor, kept: Tensor | None) -> list[Tensor]:
        """The normed outputs of four depths, [B,K,C] each; all tokens where nothing is `kept`."""
        patches = self.torch.nn.functional.conv3d(
            video, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=(2, 16, 16)
        )
        x = patches.flatten(2).transpose(1, 2) + w["video_mod_embed"]
        ids = self.torch.arange(x.shape[1]).expand(len(x), -1)
        if kept is not None:
            x, ids = chosen(x, kept), kept
        found = []
        for number in range(count(w, "blocks.")):
            x = self.block(part(w, f"blocks.{number}."), x, ids)
            if number in LEVELS:
                found.append(self.norm(part(w, f"norms_block.{len(found)}."), x))
        return found

    def predict(self, seen: Tensor, context: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the target tokens and of the visible ones. All mask sets share the first mask token."""
        w = part(self.weights, "predictor.")
        x = self.torch.nn.functional.gelu(self.linear(part(w, "predictor_embed.0."), seen))
        x = self.linear(part(w, "predictor_embed.2."), x)
        masked = w["mask_tokens.0"].expand(len(x), target.shape[1], -1)
        ids, order = self.torch.cat([context, target], 1).sort(1)
        x = chosen(self.torch.cat([x, masked], 1), order) + w["video_mod_embed"]
        for block in range(count(w, "predictor_blocks.")):
            x = self.block(part(w, f"predictor_blocks.{block}."), x, ids)
        x = chosen(self.norm(part(w, "predictor_norm."), x), order.argsort(1))
        visible, hidden = x[:, : context.shape[1]], x[:, context.shape[1] :]
        return self.linear(part(w, "predictor_proj."), hidden), self.linear(part(w, "predictor_proj_context."), visible)

    def block(self, w: Mapping[str, Tensor], x: Tensor, ids: Tensor) -> Tensor:
        qkv = self.linear(part(w, "attn.qkv."), self.norm(part(w, "norm1."), x))
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = self.torch.nn.functional.scaled_dot_product_attention(self.rotated(q, ids), self.rotated(k, ids), v)
        x = x + self.linear(part(w, "attn.proj."), attended.transpose(1, 2).flatten(2))
        hidden = self.torch.nn.functional.gelu(self.linear(part(w, "mlp.fc1."), self.norm(part(w, "norm2."), x)))
        return x + self.linear(part(w, "mlp.fc2."), hidden)

    def rotated(self, x_BxHxNxD: Tensor, ids_BxN: Tensor) -> Tensor:
        """Rotary positions: a third of the head each for depth, row and column, the last two on the weights' grid."""
        depth, rows, columns = self.places(ids_BxN)
        scaled = (
            depth,
            rows * ((self.side - 1) / (self.grid[1] - 1)),
            columns * ((self.side - 1) / (self.grid[2] - 1)),
        )
        width = 2 * (x_BxHxNxD.shape[-1] // 3 // 2)
        frequencies = 10_000.0 ** -(self.torch.arange(width // 2) / (width // 2))
        parts = []
        for axis, place in enumerate(scaled):
            x = x_BxHxNxD[..., axis * width : (axis + 1) * width]
            angle = (place[:, None, :, None] * frequencies).repeat_interleave(2, -1)
            turned = self.torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
            parts.append(x * angle.cos() + turned * angle.sin())
        return self.torch.cat([*parts, x_BxHxNxD[..., 3 * width :]], -1)

    def places(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, height, width = self.grid
        return (ids // (height * width)).float(), (ids // width % height).float(), (ids % width).float()

    def distance(self, context: Tensor, target: Tensor) -> Tensor:
        """From each context token to the nearest target token, in tokens, [B,K]."""
        here, there = (self.torch.stack(self.places(ids), -1) for ids in (context, target))
        return self.torch.cdist(here, there).amin(-1)

    def linear(self, w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return self.torch.nn.functional.linear(x, w["weight"], w["bias"])

    def norm(self, w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return self.torch.nn.functional.layer_norm(x, x.shape[-1:], w["weight"], w["bias"], EPSILON)

    def normalised(self, x: Tensor) -> Tensor:
        return self.torch.nn.functional.layer_norm(x, x.shape[-1:], eps=NORMALISED_EPSILON)


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def count(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).partition(".")[0] for name in weights if name.startswith(prefix)})


def chosen(x_BxNxC: Tensor, ids_BxK: Tensor) -> Tensor:
    return x_BxNxC.gather(1, ids_BxK[..., None].expand(-1, -1, x_BxNxC.shape[-1]))
