"""How well motion scores find a moving tool, on clips whose truth is known: a table, by

    python -m tests.pretrain.saliency_truth --seeds=10 [--frames=FOLDER]

Frames of a real endoscope, in the order of their names, then carry the simulated tool: camera, tissue, glints, noise
and border are real, the tool and its truth are not.

Letters: T frames, H rows, W columns, F pairs of frames, N tokens, m and n rows and columns of blocks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from surgmotion_jax.pretrain.sample.flow import align, displacements, flow_score
from surgmotion_jax.pretrain.sample.fov import field_of_view, patches_inside
from surgmotion_jax.pretrain.sample.saliency import motion_score
from tests.pretrain.motion_scenes import NUISANCES, MotionScene, auroc, motion_scene, tool_tokens

SIDE, PATCH = 128, 8  # as many tokens as 256 pixels have in patches of 16
COVERED = 0.1  # a token shows the tool when the tool covers this share of it, mean over the clip
CASES = ((), *((name,) for name in NUISANCES), NUISANCES)


class Judged(NamedTuple):
    """AUROC of the scores for the tool's tokens; median error of the flow and size of the true flow, in pixels."""

    flow: float
    paper: float
    error_tool: float
    error_tissue: float
    true_tool: float
    true_tissue: float


@partial(jax.jit, static_argnames="patch")
def scores(video_TxHxWx3: jax.Array, patch: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(flow score [N], paper score [N], inside the field of view [N], displacement [F,m,n,2]) of a uint8 clip."""
    video01 = video_TxHxWx3[None].astype(jnp.float32) / 255
    pixels = field_of_view(video01)
    inside = patches_inside(pixels, patch, 3)
    flow = flow_score(video01, pixels, patch, 2, "column")[0]
    paper = motion_score(video01, patch, 2, "column", inside)[0]
    camera, own = displacements(align(video01, pixels, patch), patch)
    return flow, paper, inside.reshape(-1), camera + own


def judge(scene: MotionScene, patch: int = PATCH) -> Judged:
    """All tokens inside the field of view count: those with a tenth of tool or more against all others."""
    flow, paper, inside, displacement = (np.asarray(x) for x in scores(scene.video_TxHxWx3, patch))
    tool = tool_tokens(scene, patch)[inside] > COVERED
    return Judged(auroc(flow[inside], tool), auroc(paper[inside], tool), *flow_errors(scene, displacement))


def flow_errors(scene: MotionScene, displacement_Fxmxnx2: np.ndarray) -> tuple[float, float, float, float]:
    """Median end-point error in tool and tissue, and median true flow there, over blocks that stay in sight."""
    pairs, rows, columns, _ = displacement_Fxmxnx2.shape
    scale = scene.fov_HxW.shape[0] // rows

    def of_blocks(x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, rows, scale, columns, scale, *x.shape[3:]).mean((2, 4))

    true_Fxmxnx2 = of_blocks(scene.flow_TxHxWx2[:pairs])
    seen = (of_blocks(scene.occluded_TxHxW[:pairs]) == 0) & (of_blocks(scene.fov_HxW[None]) == 1)
    share = of_blocks(scene.tool_TxHxW[:pairs])
    error = np.linalg.norm(displacement_Fxmxnx2 - true_Fxmxnx2, axis=-1)
    size = np.linalg.norm(true_Fxmxnx2, axis=-1)
    tool, tissue = seen & (share > 0.9), seen & (share == 0)
    return _median(error[tool]), _median(error[tissue]), _median(size[tool]), _median(size[tissue])


def over_real_frames(folder: Path, seed: int, fps: float, filmed_fps: float = 25.0) -> MotionScene:
    """A clip of up to 16 real frames, `fps` of them a second, with the tool of a simulated scene put over them.

    There is no truth about the flow of the tissue: it counts as occluded.
    """
    names = sorted(p for p in folder.iterdir() if p.stem.isdigit())
    frames = names[seed % 4 :: round(filmed_fps / fps)][:16]
    scene = motion_scene(seed, fps, (), frames=len(frames), side=SIDE)
    real = np.stack([_square(name) for name in frames])
    video = np.where(scene.tool_TxHxW[..., None], scene.video_TxHxWx3, real)
    return scene._replace(video_TxHxWx3=video, occluded_TxHxW=~scene.tool_TxHxW[:-1])


def table(seeds: Sequence[int], folder: Path | None = None, patch: int = PATCH) -> list[str]:
    """Lines of the table: medians over the seeds, the worst seed in brackets."""
    lines = [f"{'clips':32}{'fps':>4}   flow           paper          error, px of true flow: tool   tissue"]
    for case in CASES:
        name = "all" if case == NUISANCES else " ".join(case) or "tool alone"
        for fps in (25, 4, 1):
            lines.append(_line(name, fps, [judge(motion_scene(s, fps, case, side=SIDE), patch) for s in seeds]))
    for fps in (25, 4, 1) if folder else ():
        assert folder is not None
        lines.append(
            _line("real frames, simulated tool", fps, [judge(over_real_frames(folder, s, fps)) for s in seeds])
        )
    return lines


def _line(name: str, fps: int, judged: Sequence[Judged]) -> str:
    flow, paper, *errors = np.array(judged).T
    in_tool, in_tissue, tool, tissue = (_median(x[np.isfinite(x)]) for x in errors)
    return (
        f"{name:32}{fps:4d}   {_median(flow):.3f} ({flow.min():.3f})  {_median(paper):.3f} ({paper.min():.3f})  "
        f"{in_tool:12.2f} of {tool:5.2f}   {in_tissue:5.2f} of {tissue:5.2f}"
    )


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else float("nan")


def _square(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        width, height = picture.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        cut = picture.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BOX))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--frames", type=Path)
    asked = parser.parse_args()
    print("\n".join(table(range(asked.first, asked.first + asked.seeds), asked.frames)))
