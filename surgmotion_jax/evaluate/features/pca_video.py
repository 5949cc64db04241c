"""A video's frames beside its features as colours, in the manner of the figures of DINOv2 and V-JEPA 2.1.

One basis for the whole video. The first principal axis of all tokens divides foreground from background; the next
three, found on the foreground, are red, green and blue. Letters: W windows, T frames of a window, S side of the
square, t token steps of a window, h and w rows and columns of patches, D features, N tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from surgmotion_jax import storage
from surgmotion_jax.data.write_video import VideoWriter
from surgmotion_jax.evaluate.features.windows import WindowPlan
from surgmotion_jax.models.principal import principal_axes

PCA_SUFFIX = ".pca.mp4"
LEAST_SIDE = 320  # pictures are enlarged by a whole number until they are this high
GAP = 8  # pixels between the two pictures
MOST_FITTED = 20_000  # tokens that find the basis; more change nothing that can be seen
DARK = 0.08  # brightness left to the background
CLEAR = 0.7  # share of the first axis's variance that two sides must explain; one Gaussian heap reaches 0.64


class Divide(NamedTuple):
    """Foreground is where the first axis, times `sign`, is above `level`; with sign 0 all is foreground."""

    level: float
    sign: float


@dataclass(frozen=True, eq=False)
class Palette:
    """From features to colours."""

    mean_D: np.ndarray
    first_D: np.ndarray
    divide: Divide
    basis_Dx3: np.ndarray
    low_3: np.ndarray
    high_3: np.ndarray

    def __call__(self, token_hxwxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colours 0..1 [h,w,3], and which tokens are foreground [h,w] bool."""
        centred = token_hxwxD.astype(np.float32) - self.mean_D
        level = (centred @ self.basis_Dx3 - self.low_3) / (self.high_3 - self.low_3)
        return np.clip(level, 0, 1), _foreground(centred @ self.first_D, self.divide)


def fit_palette(token_NxD: np.ndarray, rim_N: np.ndarray) -> Palette:
    """The palette of a video from some of its tokens; `rim` marks those at the picture's edge.

    Which side of the first axis is background: the one that holds more of the rim, next to its share of all tokens.
    Colours are scaled by the 2nd and 98th percentile of the foreground. Fewer than three features repeat the last
    axis.
    """
    token_NxD = token_NxD.astype(np.float32)
    mean_D, first_Dx1 = principal_axes(token_NxD, 1)
    centred_NxD, first_D = token_NxD - mean_D, first_Dx1[:, 0]
    score_N = centred_NxD @ first_D
    divide = _divide(score_N, rim_N)
    front_NxD = centred_NxD[_foreground(score_N, divide)]
    if divide.sign:  # its part along the axis that has done its work
        front_NxD = front_NxD - np.outer(front_NxD @ first_D, first_D)
    _, basis_DxK = principal_axes(front_NxD, 3)
    basis_Dx3 = basis_DxK[:, np.minimum(np.arange(3), basis_DxK.shape[1] - 1)]
    low_3, high_3 = np.percentile(front_NxD @ basis_Dx3, (2, 98), axis=0)
    return Palette(mean_D, first_D, divide, basis_Dx3, low_3, np.maximum(high_3, low_3 + 1e-6))


def _foreground(score: np.ndarray, divide: Divide) -> np.ndarray:
    return score * divide.sign >= divide.level * divide.sign


def _divide(score_N: np.ndarray, rim_N: np.ndarray) -> Divide:
    """Otsu's threshold: the one whose two sides explain most of the variance."""
    sorted_N = np.sort(score_N.astype(np.float64))
    count = len(sorted_N)
    below_N = np.arange(1, count) / count
    sum_N = np.cumsum(sorted_N)[:-1] / count
    mean = sorted_N.mean()
    between_N = (mean * below_N - sum_N) ** 2 / (below_N * (1 - below_N))
    best = int(np.argmax(between_N)) if count > 1 else 0
    if count < 2 or between_N[best] < CLEAR * sorted_N.var():
        return Divide(0.0, 0.0)
    level = float(sorted_N[best : best + 2].mean())
    above_N = score_N >= level
    rim_above = above_N[rim_N].mean() if rim_N.any() else 0.0
    return Divide(level, -1.0 if rim_above > above_N.mean() else 1.0)


class Gallery:
    """Collects the windows of a video, then writes them; memory grows with the windows added."""

    def __init__(self, plan: WindowPlan, box: tuple[int, int, int, int]) -> None:
        """`box` is where the video lies in the square: (top, left, rows, columns) in pixels."""
        self._plan, self._box = plan, box
        self._due: list[np.ndarray] = []
        self._real: list[np.ndarray] = []
        self._frames: list[np.ndarray] = []
        self._tokens: list[np.ndarray] = []

    def add(
        self,
        due_WxT: np.ndarray,
        real_WxT: np.ndarray,
        frame_WxTxSxSx3: np.ndarray,
        token_WxtxhxwxD: np.ndarray,
    ) -> None:
        """Adds windows: when their frames are due, which are in the video, the frames, and their tokens."""
        self._due.append(due_WxT)
        self._real.append(real_WxT)
        self._frames.append(frame_WxTxSxSx3)
        self._tokens.append(token_WxtxhxwxD.astype(np.float16))

    def write(self, path: storage.PathLike, seconds: float) -> None:
        """Writes the first `seconds` at the rate of the windows' frames, so that it plays in the video's own time."""
        due_WxT, real_WxT = np.concatenate(self._due), np.concatenate(self._real)
        frame_WxTxSxSx3, token_WxtxhxwxD = np.concatenate(self._frames), np.concatenate(self._tokens)
        shown = shown_places(due_WxT, real_WxT, self._plan.fps, seconds)
        per_step = -(-due_WxT.shape[1] // token_WxtxhxwxD.shape[1])
        palette = self._palette(token_WxtxhxwxD, sorted({(w, k // per_step) for w, k in shown}))
        with VideoWriter(path, self._plan.fps) as writer:
            for window, frame in shown:
                colours = palette(token_WxtxhxwxD[window, frame // per_step])
                writer.add(side_by_side(frame_WxTxSxSx3[window, frame], *colours, self._box))

    def _palette(self, token_WxtxhxwxD: np.ndarray, steps: list[tuple[int, int]]) -> Palette:
        rows, columns = token_WxtxhxwxD.shape[2:4]
        inside_hxw, rim_hxw = box_cells(self._box, rows, columns, self._frames[0].shape[2])
        token_NxD = np.concatenate([token_WxtxhxwxD[w, k][inside_hxw] for w, k in steps])
        rim_N = np.tile(rim_hxw[inside_hxw], len(steps))
        every = -(-len(token_NxD) // MOST_FITTED)
        return fit_palette(token_NxD[::every], rim_N[::every])


def shown_places(due_WxT: np.ndarray, real_WxT: np.ndarray, fps: float, seconds: float) -> list[tuple[int, int]]:
    """(window, frame) for each picture of the first `seconds`, `1 / fps` apart. Where windows overlap, a moment is
    shown from the window whose middle is nearest; moments in no window are left out.
    """
    places = []
    middle_W = due_WxT.mean(axis=1)
    last = min(due_WxT[real_WxT].max(), due_WxT[0, 0] + seconds - 1 / fps)
    for moment in due_WxT[0, 0] + np.arange(round((last - due_WxT[0, 0]) * fps) + 1) / fps:
        frame_W = np.rint((moment - due_WxT[:, 0]) * fps).astype(int)
        inside_W = (frame_W >= 0) & (frame_W < due_WxT.shape[1])
        inside_W[inside_W] &= real_WxT[inside_W, frame_W[inside_W]]
        if inside_W.any():
            window = int(np.argmin(np.where(inside_W, np.abs(middle_W - moment), np.inf)))
            places.append((window, int(frame_W[window])))
    return places


def box_cells(box: tuple[int, int, int, int], rows: int, columns: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Which patches [h,w] have their centre in the box, and which of them lie at its edge.

    Of a box so flat or narrow that it holds no centre, the row or column nearest to its middle.
    """
    top, left, height, width = box
    y_h, x_w = (np.arange(rows) + 0.5) * side / rows, (np.arange(columns) + 0.5) * side / columns
    inside_h, inside_w = (y_h >= top) & (y_h < top + height), (x_w >= left) & (x_w < left + width)
    for inside, centres, middle in ((inside_h, y_h, top + height / 2), (inside_w, x_w, left + width / 2)):
        if not inside.any():
            inside[np.abs(centres - middle).argmin()] = True
    inside_hxw = np.outer(inside_h, inside_w)
    padded = np.pad(inside_hxw, 1)
    within = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside_hxw, inside_hxw & ~within


def side_by_side(
    frame_SxSx3: np.ndarray, colour_hxwx3: np.ndarray, front_hxw: np.ndarray, box: tuple[int, int, int, int]
) -> np.ndarray:
    """The frame, and its colours with the background darkened, both cut to the box: uint8, even sides."""
    top, left, height, width = box
    factor = -(-LEAST_SIDE // height)
    square = frame_SxSx3.shape[0]
    shaded = colour_hxwx3 * np.where(front_hxw, 1.0, DARK)[..., None]
    smooth = _resized(np.round(255 * shaded).astype(np.uint8), square * factor, Image.Resampling.BICUBIC)
    plain = _resized(frame_SxSx3, square * factor, Image.Resampling.BICUBIC)
    rows, columns = (length * factor // 2 * 2 for length in (height, width))
    cut = (slice(top * factor, top * factor + rows), slice(left * factor, left * factor + columns))
    return np.concatenate([plain[cut], np.full((rows, GAP, 3), 255, np.uint8), smooth[cut]], axis=1)


def _resized(picture: np.ndarray, side: int, how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), how))
