"""`surgmotion data preview --data=PATH --out=FILE.png [--config=FILE[:ARG]] [--clips=N] [--config.a.b=VALUE ...]`

Pictures the first training clips of a run as the model gets them, and prints one line for each.

  --data=PATH           a video, folder, glob or CSV; may be left out where the config names data.sources
  --out=FILE.png        the picture; it shows frames of the videos, so treat it as you treat them
  --config=FILE[:ARG]   what the run would use (default: pretrain/tiny)
  --clips=N             how many clips (default: 4)
  --config.a.b=VALUE    overrides a field, e.g. --config.saliency.edge=6

Letters: S clips shown, F frames drawn, K tubes of I_h, T frames, H, W pixels, t tubelets, gh, gw rows and columns of
the patch grid, u 1 or t, h, w pixels of a drawn frame.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from surgmotion_jax import config as door
from surgmotion_jax import storage
from surgmotion_jax.checks import at_least
from surgmotion_jax.commands.pretrain import read_command_line
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.report import pictures

if TYPE_CHECKING:
    from surgmotion_jax.data import Batch
    from surgmotion_jax.pretrain.objective import Prepared

FRAMES = 6
FRAME_WIDTH = 150
GAP, MARGIN, LABEL_WIDTH, TITLE_HEIGHT = 4, 12, 104, 30
INK, FAINT, PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)
TOP_COLOUR = (40, 230, 90)


class Request(NamedTuple):
    """What the command line asks for."""

    config: PretrainConfig
    out: str
    clips: int


class Shown(NamedTuple):
    """One clip as the training step prepares it."""

    origin: str
    program: str  # name of the mask program of its step
    frame_TxHxWx3: np.ndarray  # uint8, after augmentation
    valid_T: np.ndarray  # False: a frame repeated because the video is too short
    inside_ghxgw: np.ndarray  # tubes in the field of view
    score_uxghxgw: np.ndarray  # u is 1 where a tube is a column, else t
    top_uxghxgw: np.ndarray  # I_h of the first mask set
    masked_txghxgw: np.ndarray  # targets of the first mask set


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        print("shipped configs:", ", ".join(door.config_names()))
        return 0
    request = read_request(argv)
    shown_S = list(training_clips(request.config, request.clips))
    for number, shown in enumerate(shown_S, 1):
        print(describe(number, shown))
    file = io.BytesIO()
    draw(shown_S, request.config).save(file, "PNG")
    storage.write_bytes_atomic(request.out, file.getvalue())
    print(f"preview: {request.out}")
    return 0


def read_request(argv: Sequence[str]) -> Request:
    """Reads a command line. Raises ValueError for anything unknown, missing or out of range."""
    flags = [a for a in argv if a.startswith(("--config=", "--config."))]
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--data")
    parser.add_argument("--out")
    parser.add_argument("--clips", type=int, default=4)
    try:
        given, unknown = parser.parse_known_args([a for a in argv if a not in flags])
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion data preview --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion data preview --help.")
    at_least("--clips", given.clips, 1)
    if not (given.out or "").lower().endswith(".png"):
        raise ValueError(f"--out is {given.out!r}; it must name the picture to write, e.g. --out=preview.png.")
    storage.ensure_writable(storage.as_path(given.out).parent)
    if not any(a.startswith("--config=") for a in flags):
        flags.insert(0, "--config=pretrain/tiny")
    data = [f"--data={given.data}"] if given.data else []
    config, _ = read_command_line([*flags, *data, "--workdir=."])
    return Request(config, given.out, given.clips)


def training_clips(config: PretrainConfig, count: int) -> Iterator[Shown]:
    """The first `count` clips that a run of this config trains on, through its loader and its `prepare`."""
    import jax
    import jax.numpy as jnp

    from surgmotion_jax.data import ClipDataset, batches
    from surgmotion_jax.pretrain.objective import RawBatch, prepare
    from surgmotion_jax.pretrain.sample.masks import mask_programs, program_of_step

    programs = mask_programs(config.mask, config.grid)
    prepared = {p.name: jax.jit(partial(prepare, config=config, program=p, training=True)) for p in programs}
    # Neither how many processes decode nor what they keep changes a clip; a few clips are worth neither.
    dataset = ClipDataset(dataclasses.replace(config.data, workers=0, memory_gb=0.0), config.seed)
    for fault in dataset.faults:
        print(f"unreadable: {fault.path}: {fault.reason}")
    batch = config.optim.batch
    rows, steps = min(count, batch), -(-count // batch)
    for step, raw in enumerate(batches(dataset, global_batch=batch, rows=(0, rows), start_step=0, stop_step=steps)):
        for fault in raw.skipped:
            print(f"unreadable, replaced by another clip: {fault.path}: {fault.reason}")
        program = program_of_step(programs, config.seed, step).name
        arrays = RawBatch(*map(jnp.asarray, (raw.video_BxTxHxWx3, raw.valid_BxT, raw.index_B)))
        ready = prepared[program](arrays, jnp.int32(step))
        for row in range(min(rows, count - step * batch)):
            yield one_clip(ready, raw, row, program, config)


def one_clip(ready: Prepared, raw: Batch, row: int, program: str, config: PretrainConfig) -> Shown:
    """Row `row` of a prepared batch, on the grid of patches."""
    grid = config.grid
    per_tube = (-1, grid.height, grid.width)
    masked_N = np.zeros(grid.tokens, bool)
    masked_N[np.asarray(ready.masks[0].target_BxM[row])] = True
    return Shown(
        origin=raw.origin[row],
        program=program,
        frame_TxHxWx3=np.round(255 * np.asarray(ready.video01_BxTxHxWx3[row])).astype(np.uint8),
        valid_T=raw.valid_BxT[row],
        inside_ghxgw=np.asarray(ready.inside_Bxhxw[row]),
        score_uxghxgw=np.asarray(ready.score_BxU[row]).reshape(per_tube),
        top_uxghxgw=np.asarray(ready.top_BxU[row]).reshape(per_tube),
        masked_txghxgw=masked_N.reshape(per_tube),
    )


def describe(number: int, shown: Shown) -> str:
    """One line: origin, share of tubes in the field of view, the tubes of I_h with their scores, highest first."""
    place_Kx3 = np.argwhere(shown.top_uxghxgw)
    score_K = shown.score_uxghxgw[shown.top_uxghxgw]
    named = len(shown.score_uxghxgw) > 1  # columns run through all time: their number in time says nothing
    tubes = ", ".join(
        f"({', '.join(map(str, place_Kx3[k] if named else place_Kx3[k][1:]))}) {score_K[k]:.3f}"
        for k in np.argsort(-score_K, kind="stable")
    )
    repeated = int((~shown.valid_T).sum())
    return (
        f"clip {number}  {shown.origin}  {shown.program}  {inside_percent(shown)} of tubes in the field of view"
        f"{f'  {repeated} repeated frames' if repeated else ''}  top tubes ({'time, ' if named else ''}row, column) "
        f"score: {tubes or 'none'}"
    )


def inside_percent(shown: Shown) -> str:
    return f"{100 * shown.inside_ghxgw.mean():.0f} %"


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
    sets = " (first set)" if config.mask.kind == "multiblock" and len(config.mask.sets) > 1 else ""
    entries = [
        (Image.fromarray(heat), "score, low to high"),
        (swatch(TOP_COLOUR, PAPER), f"I_h: the {config.loss.motion.top_k} masked tubes of highest score"),
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
