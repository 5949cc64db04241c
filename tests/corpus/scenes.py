"""Made-up operations: soft, warm textures over which a camera wanders, in files of several kinds.

Letters: N frames, H, W pixels.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

FIELD = 96


def scene(seed: int, seconds: float, fps: float = 8.0, size: tuple[int, int] = (64, 80)) -> np.ndarray:
    """uint8 [N, H, W, 3]: textures that turn into others every eight seconds, seen by a camera that moves."""
    rng = np.random.default_rng(seed)
    fields = [_texture(rng) for _ in range(int(seconds / 8) + 2)]
    phase, frames = rng.uniform(0, 6.28, 2), []
    for n in range(round(seconds * fps)):
        place, part = divmod(n / fps / 8, 1.0)
        mixed = (1 - part) * fields[int(place)] + part * fields[int(place) + 1]
        top, left = (FIELD / 8 * (1 + np.sin(phase + np.array([0.25, 0.3]) * n / fps))).tolist()
        box = (left, top, left + 3 * FIELD / 4, top + 3 * FIELD / 4)
        image = Image.fromarray(mixed.astype(np.uint8))
        frames.append(np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=box)))
    return np.stack(frames)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """float [F, F, 3], reddish."""
    level = np.zeros((FIELD, FIELD))
    for cells, weight in ((4, 1.0), (9, 1.5), (24, 3.0), (60, 8.0)):
        noise = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        level += np.asarray(noise.resize((FIELD, FIELD), Image.Resampling.BICUBIC)) / weight
    bright = np.clip(110 + 45 * level, 20, 235)
    return np.stack([bright, 0.55 * bright, 0.5 * bright], axis=-1)


def write_file(path: Path, video_NxHxWx3: np.ndarray, fps: float, *, crf: int = 12) -> Path:
    """H.264 in whatever container the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt = *video_NxHxWx3.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for number, picture in enumerate(video_NxHxWx3):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts, frame.time_base = number, 1 / Fraction(fps).limit_denominator(1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_folder(path: Path, video_NxHxWx3: np.ndarray, quality: int = 90) -> Path:
    """A frame folder of JPEG files."""
    path.mkdir(parents=True)
    for number, picture in enumerate(video_NxHxWx3):
        Image.fromarray(picture).save(path / f"{number:06d}.jpg", quality=quality)
    return path


def resized(video_NxHxWx3: np.ndarray, size: tuple[int, int], crop: float = 0.0) -> np.ndarray:
    """Each picture at another size, with so much cut off on every side."""
    rows, columns = video_NxHxWx3.shape[1:3]
    box = (crop * columns, crop * rows, (1 - crop) * columns, (1 - crop) * rows)
    return np.stack(
        [np.asarray(Image.fromarray(p).resize(size[::-1], Image.Resampling.BILINEAR, box=box)) for p in video_NxHxWx3]
    )


def letterboxed(video_NxHxWx3: np.ndarray, bars: int) -> np.ndarray:
    """The same with black bars above and below."""
    return np.pad(video_NxHxWx3, ((0, 0), (bars, bars), (0, 0), (0, 0)))
