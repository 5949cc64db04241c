"""Pictures of training clips: frames as they are, with their motion score, and masked.

Letters: S clips shown, F frames drawn, u 1 or t, gh, gw rows and columns of the patch grid, h, w pixels of a drawn
frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from surgmotion_jax.pages.clips import Shown, inside_percent
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.losses.motion import MotionLossConfig
from surgmotion_jax.pretrain.losses.table import settings_of
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.report import pictures

FRAMES = 6
FRAME_WIDTH = 150
GAP, MARGIN, LABEL_WIDTH, TITLE_HEIGHT = 4, 12, 104, 30
INK, FAINT, PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)
TOP_COLOUR = (40, 230, 90)


def draw(shown_S: Sequence[Shown], config: PretrainConfig) -> Image.Image:
    """All clips below one another, three strips each, and a legend."""
    blocks = [draw_clip(number, shown, config) for number, shown in enumerate(shown_S, 1)]
    blocks.append(draw_legend(blocks[0].width, config))
    page = Image.new("RGB", (blocks[0].width, sum(block.height for block in blocks)), PAPER)
    top = 0
    for block in blocks:
        page.paste(block, (0, top))
        top += block.height
    return page


def draw_clip(number: int, shown: Shown, config: PretrainConfig) -> Image.Image:
    """A title, the times of the frames, and strips of frames: as they are, with their score, masked."""
    tubelet = config.model.tubelet
    frame_F = pictures.shown_frames(len(shown.frame_TxHxWx3), tubelet, FRAMES)
    strips = {"input": paint_input, "motion score": paint_score, "masked": paint_masked}
    pitch = FRAME_WIDTH + GAP
    size = (2 * MARGIN + LABEL_WIDTH + FRAMES * pitch, 2 * TITLE_HEIGHT + len(strips) * pitch + MARGIN)
    block = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(block)
    title = f"{number}   {shown.origin}   field of view {inside_percent(shown)}   mask {shown.program}"
    pen.text((MARGIN, TITLE_HEIGHT // 2), title, INK, font(15), anchor="lm")
    for f, frame in enumerate(frame_F):
        left = MARGIN + LABEL_WIDTH + f * pitch
        told = f"{frame / config.data.fps:.2f} s" if shown.valid_T[frame] else "repeated"
        pen.text((left + FRAME_WIDTH // 2, TITLE_HEIGHT + 18), told, FAINT, font(12), anchor="mm")
        picture = pictures.shrink(shown.frame_TxHxWx3[frame], FRAME_WIDTH)
        for strip, paint in enumerate(strips.values()):
            painted = Image.fromarray(paint(picture, shown, frame // tubelet))
            block.paste(painted, (left, 2 * TITLE_HEIGHT + strip * pitch))
    for strip, label in enumerate(strips):
        middle = 2 * TITLE_HEIGHT + strip * pitch + FRAME_WIDTH // 2
        pen.text((MARGIN + LABEL_WIDTH - 10, middle), label, INK, font(13), anchor="rm")
    return block


def paint_input(picture_hxwx3: np.ndarray, shown: Shown, tubelet: int) -> np.ndarray:
    """The frame with the outline of the field of view."""
    del tubelet
    return pictures.outline_region(picture_hxwx3, shown.inside_ghxgw)


def paint_score(picture_hxwx3: np.ndarray, shown: Shown, tubelet: int) -> np.ndarray:
    """Heat inside the field of view, I_h outlined."""
    where_uxghxgw = np.broadcast_to(shown.inside_ghxgw, shown.score_uxghxgw.shape)
    u = tubelet if len(shown.score_uxghxgw) > 1 else 0
    level_ghxgw = pictures.spread(shown.score_uxghxgw, where_uxghxgw)[u]
    heated = pictures.lay_heat(picture_hxwx3, level_ghxgw, shown.inside_ghxgw)
    return outline_top(pictures.outline_region(heated, shown.inside_ghxgw), shown.top_uxghxgw[u])


def paint_masked(picture_hxwx3: np.ndarray, shown: Shown, tubelet: int) -> np.ndarray:
    """Targets dimmed, I_h outlined: it is chosen among them."""
    u = tubelet if len(shown.top_uxghxgw) > 1 else 0
    dimmed = pictures.dim(picture_hxwx3, shown.masked_txghxgw[tubelet])
    return outline_top(dimmed, shown.top_uxghxgw[u])


def outline_top(picture_hxwx3: np.ndarray, top_ghxgw: np.ndarray) -> np.ndarray:
    """A green line inside the rim of each chosen tube, whole even at the frame's border."""
    image = Image.fromarray(picture_hxwx3)
    pen = ImageDraw.Draw(image)
    height, width = (size / cells for size, cells in zip(picture_hxwx3.shape, top_ghxgw.shape, strict=False))
    for row, column in np.argwhere(top_ghxgw):
        box = (column * width, row * height, (column + 1) * width - 1, (row + 1) * height - 1)
        pen.rectangle([round(edge) for edge in box], outline=TOP_COLOUR, width=3)
    return np.asarray(image)


def draw_legend(width: int, config: PretrainConfig) -> Image.Image:
    """What the colours mean."""
    block = Image.new("RGB", (width, 2 * TITLE_HEIGHT), PAPER)
    pen = ImageDraw.Draw(block)
    ramp_x = np.linspace(0, 1, 40)
    heat = np.tile(np.round(pictures.heat_colours(ramp_x)).astype(np.uint8), (14, 1, 1))
    several = any(len(program.targets) > 1 for program in mask_programs(config.mask, config.grid))
    sets, top_k = " (first set)" if several else "", settings_of(config.loss, MotionLossConfig).top_k
    entries = [
        (Image.fromarray(heat), "score, low to high"),
        (swatch(TOP_COLOUR, PAPER), f"I_h: the {top_k} masked tubes of highest score"),
        (swatch(FAINT, pictures.FOV_COLOUR), "white line: tubes in the field of view"),
        (swatch(pictures.MASKED_COLOUR, pictures.MASKED_COLOUR), f"masked{sets}"),
    ]
    left = MARGIN + LABEL_WIDTH
    for picture, text in entries:
        block.paste(picture, (left, TITLE_HEIGHT - 7))
        left += picture.width + 6
        pen.text((left, TITLE_HEIGHT), text, INK, font(13), anchor="lm")
        left += round(font(13).getlength(text)) + 22
    return block


def swatch(rim: tuple[int, int, int], ground: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (14, 14), ground)
    ImageDraw.Draw(image).rectangle((0, 0, 13, 13), outline=rim, width=3 if rim == TOP_COLOUR else 1)
    return image


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the picture is the same on every machine."""
    return ImageFont.load_default(size)
