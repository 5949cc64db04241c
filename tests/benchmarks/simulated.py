"""Small data sets for the tests of readers, drawn by the renderer that costs nothing."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.simulate.generate import SetConfig, generate
from tests.simulate import fake_renderer


def make(name: str, root: Path, cases: int = 3, seconds: float = 4.0, fps: float | None = None) -> Path:
    """A simulated set; each frame shows its number."""
    config = SetConfig(name, cases, seconds, height=64, width=64, fps=fps, paint_frame_number=True)
    generate(config, root, draw=fake_renderer.draw)
    return root


def edit(path: Path, old: str, new: str) -> None:
    """Replaces a text in a file, which must be there."""
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))
