"""Pictures from arrays: frames with heat, outlines and masks laid over, features as colours, data URIs.

Letters: B clips, t tubelets, gh, gw rows and columns of the patch grid, h, w pixels of a picture, N tokens,
D features. Pictures are uint8 RGB.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageDraw

from surgmotion_jax.models.principal import principal_axes, spread

# Dark violet over red to pale yellow: lightness rises all the way, so it also reads in grey.
HEAT_STOPS = ((20, 11, 52), (92, 18, 110), (165, 44, 96), (226, 89, 51), (251, 155, 6), (252, 255, 164))
FOV_COLOUR = (255, 255, 255)
TOP_COLOUR = (56, 232, 255)
MASKED_COLOUR = (118, 124, 132)
_LEAST_QUALITY = 14


def shown_frames(frames: int, tubelet: int, most: int = 8) -> list[int]:
    """Evenly spread frame numbers, each the first of its tubelet, so that no tubelet shows twice."""
    tubelets = frames // tubelet
    index_K = np.linspace(0, tubelets - 1, min(most, tubelets)).round().astype(int)
    return [int(index) * tubelet for index in index_K]


def shrink(frame_HxWx3: np.ndarray, width: int) -> np.ndarray:
    """The frame at the given width, its proportions kept."""
    height = max(1, round(frame_HxWx3.shape[0] * width / frame_HxWx3.shape[1]))
    return np.asarray(Image.fromarray(frame_HxWx3).resize((width, height), Image.Resampling.LANCZOS))


def heat_colours(level: np.ndarray) -> np.ndarray:
    """Levels 0..1 of any shape as float RGB 0..255, along `HEAT_STOPS`."""
    at = np.linspace(0, 1, len(HEAT_STOPS))
    return np.stack([np.interp(level, at, channel) for channel in np.array(HEAT_STOPS).T], axis=-1)


def lay_heat(picture_hxwx3: np.ndarray, level_ghxgw: np.ndarray, where_ghxgw: np.ndarray) -> np.ndarray:
    """Heat over the cells of `where`: the higher the level, the less of the picture shows through."""
    level_hxw = enlarge(level_ghxgw, picture_hxwx3.shape)
    strength_hxwx1 = (enlarge_cells(where_ghxgw, picture_hxwx3.shape) * (0.25 + 0.6 * level_hxw))[..., None]
    return _blend(picture_hxwx3, heat_colours(level_hxw), strength_hxwx1)


def lay_cells(picture_hxwx3: np.ndarray, level_ghxgw: np.ndarray, where_ghxgw: np.ndarray) -> np.ndarray:
    """Heat cell by cell, for scores that are defined only in the cells of `where`."""
    cells_hxwx1 = enlarge_cells(where_ghxgw, picture_hxwx3.shape)[..., None]
    colour_ghxgwx3 = heat_colours(level_ghxgw)
    colour_hxwx3 = enlarge_cells(colour_ghxgwx3, picture_hxwx3.shape)
    return _blend(picture_hxwx3, colour_hxwx3, 0.92 * cells_hxwx1)


def dim(picture_hxwx3: np.ndarray, masked_ghxgw: np.ndarray) -> np.ndarray:
    """The masked cells nearly grey: a grey that differs from the black around an endoscopic view."""
    masked_hxwx1 = enlarge_cells(masked_ghxgw, picture_hxwx3.shape)[..., None]
    return _blend(picture_hxwx3, np.array(MASKED_COLOUR, np.float64), 0.86 * masked_hxwx1)


def outline_region(picture_hxwx3: np.ndarray, inside_ghxgw: np.ndarray, width: int = 2) -> np.ndarray:
    """A line along the inner rim of a region of cells; nothing if the region is everything."""
    if inside_ghxgw.all():
        return picture_hxwx3
    inside_hxw = enlarge_cells(inside_ghxgw, picture_hxwx3.shape)
    rim_hxw = inside_hxw & ~_eroded(inside_hxw, width)
    return np.where(rim_hxw[..., None], np.array(FOV_COLOUR, np.uint8), picture_hxwx3)


def outline_cells(picture_hxwx3: np.ndarray, chosen_ghxgw: np.ndarray) -> np.ndarray:
    """A box around each chosen cell, dark inside bright so that it stands out on any ground."""
    image = Image.fromarray(picture_hxwx3)
    draw = ImageDraw.Draw(image)
    rows, columns = (_cell_edges(*pair) for pair in zip(picture_hxwx3.shape, chosen_ghxgw.shape, strict=False))
    for row, column in np.argwhere(chosen_ghxgw):
        box = [columns[column], rows[row], columns[column + 1] - 1, rows[row + 1] - 1]
        draw.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline=TOP_COLOUR, width=2)
        if min(box[2] - box[0], box[3] - box[1]) >= 6:
            draw.rectangle([box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1], outline=(0, 30, 40), width=1)
    return np.asarray(image)


def feature_colours(features_BxtxghxgwxD: np.ndarray, fov_Bxghxgw: np.ndarray | None = None) -> np.ndarray:
    """Features as colours 0..1, `(B, t, gh, gw, 3)`: their first three principal components as R, G, B.

    One basis for all clips, found on the tokens inside the field of view. Each component is signed so that
    its third moment is positive and scaled by its 1st and 99th percentile: the colours depend on how the
    tokens lie to one another, not on the axes that the encoder happens to use. Tokens that are not finite
    come out mid-grey.
    """
    feature_NxD = features_BxtxghxgwxD.reshape(-1, features_BxtxghxgwxD.shape[-1]).astype(np.float64)
    finite_N = np.asarray(np.isfinite(feature_NxD).all(axis=1))
    used_N = finite_N.copy()
    if fov_Bxghxgw is not None and fov_Bxghxgw.any():
        used_N &= np.broadcast_to(fov_Bxghxgw[:, None], features_BxtxghxgwxD.shape[:-1]).reshape(-1)
    colour_Nx3 = np.full((feature_NxD.shape[0], 3), 0.5)
    if used_N.any():
        mean_D, basis_DxK = principal_axes(feature_NxD[used_N])
        part_NxK = (np.where(finite_N[:, None], feature_NxD, mean_D) - mean_D) @ basis_DxK
        for k in range(basis_DxK.shape[1]):
            level_N = spread(part_NxK[:, k], used_N, percent=1)
            colour_Nx3[finite_N, k] = level_N[finite_N]
    return colour_Nx3.reshape(*features_BxtxghxgwxD.shape[:-1], 3)


def colour_picture(colour_ghxgwx3: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cell colours 0..1 as a smooth picture of `shape` (height, width, ...)."""
    smooth = np.stack([enlarge(colour_ghxgwx3[..., k], shape) for k in range(3)], axis=-1)
    return np.round(255 * smooth).astype(np.uint8)


def enlarge(level_ghxgw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Levels 0..1 on the grid, interpolated smoothly to the first two sizes of `shape`, still 0..1."""
    image = Image.fromarray(level_ghxgw.astype(np.float32))
    return np.clip(np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), np.float64), 0, 1)


def enlarge_cells(cell_ghxgw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each cell repeated over its own pixels; further axes are kept."""
    rows, columns = (_cell_edges(*pair) for pair in zip(shape[:2], cell_ghxgw.shape[:2], strict=True))
    return np.repeat(np.repeat(cell_ghxgw, np.diff(rows), axis=0), np.diff(columns), axis=1)


def jpeg_uri(picture_hxwx3: np.ndarray, most_bytes: int) -> str:
    """The picture as a JPEG data URI, at the best quality that stays within `most_bytes` (or the least)."""
    data = b""
    for quality in range(86, _LEAST_QUALITY - 1, -9):
        stream = io.BytesIO()
        Image.fromarray(picture_hxwx3).save(stream, "JPEG", quality=quality, optimize=True)
        data = stream.getvalue()
        if len(data) <= most_bytes:
            break
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


def _cell_edges(pixels: int, cells: int) -> np.ndarray:
    return np.round(np.arange(cells + 1) * pixels / cells).astype(int)


def _blend(picture_hxwx3: np.ndarray, over: np.ndarray, strength: np.ndarray) -> np.ndarray:
    return np.round((1 - strength) * picture_hxwx3 + strength * over).astype(np.uint8)


def _eroded(inside_hxw: np.ndarray, width: int) -> np.ndarray:
    padded = np.pad(inside_hxw, width)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * width + 1, 2 * width + 1))
    return np.asarray(windows.all(axis=(2, 3)))
