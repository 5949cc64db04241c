"""What tissue looks like at rest, specialty by specialty: colour, height and wetness painted on a seamless square.

Colours are sRGB, 0 to 255. Lengths are in mm. Letters: S samples along a side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from surgmotion_jax.simulate.noise import blurred, cell_distances, octaves, smooth_noise, smoothstep

Colour = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Patch:
    """A square of tissue at rest. `x_S` and `y_S` are mm from its middle."""

    side: float  # mm
    view: float  # mm that the picture shows, the yardstick of every feature
    x_S: np.ndarray
    y_S: np.ndarray
    albedo_3xSxS: np.ndarray
    height_SxS: np.ndarray
    gloss_SxS: np.ndarray  # 0 dry .. 1 wet
    vessel_SxS: np.ndarray  # 0..1

    @property
    def size(self) -> int:
        return len(self.x_S)

    def cells(self, per_view: float) -> int:
        """Lattice cells along the side for a feature that occurs `per_view` times across the picture."""
        return max(2, round(per_view * self.side / self.view))

    def tint(self, share_SxS: np.ndarray, colour: Colour) -> None:
        """Moves the albedo towards `colour` by a share of 0..1."""
        keep_SxS = 1 - share_SxS
        for channel, target in enumerate(colour):
            self.albedo_3xSxS[channel] *= keep_SxS
            self.albedo_3xSxS[channel] += share_SxS * np.float32(target)

    def shade(self, factor_SxS: np.ndarray) -> None:
        """Multiplies the albedo."""
        self.albedo_3xSxS[...] *= factor_SxS


def paint_tissue(specialty: str, rng: np.random.Generator, size: int, side: float, view: float) -> Patch:
    """Tissue of `specialty` on [S, S] samples over `side` mm, for a picture that shows `view` mm."""
    axis = (np.arange(size, dtype=np.float32) / size - np.float32(0.5)) * np.float32(side)
    blank = np.zeros((size, size), np.float32)
    albedo = np.zeros((3, size, size), np.float32)
    patch = Patch(side, view, axis, -axis, albedo, blank.copy(), blank + 1, blank.copy())
    _PAINTERS[specialty](patch, rng)
    # Wet in places only: a film everywhere would glint like foil.
    patch.gloss_SxS[...] *= 0.12 + 0.88 * smoothstep(octaves(rng, size, patch.cells(3), 3, 0.7), 0.0, 1.3)
    np.clip(patch.albedo_3xSxS, 4, 250, out=patch.albedo_3xSxS)
    return patch


def _abdomen(patch: Patch, rng: np.random.Generator) -> None:
    """Liver, lobes of fat and pink peritoneum, each with a soft border and its own relief."""
    size, view = patch.size, patch.view
    fine = octaves(rng, size, patch.cells(14), 4, 0.7)
    patch.tint(np.ones_like(fine), (198, 104, 92))
    patch.tint(smoothstep(octaves(rng, size, patch.cells(3), 3), 0.2, 1.6) * 0.55, (226, 158, 138))
    strands = 1 - smoothstep(np.abs(octaves(rng, size, (patch.cells(2.2), patch.cells(7)), 3)), 0.0, 0.16)
    patch.tint(strands * 0.35, (238, 206, 190))
    patch.height_SxS[...] += view * 0.035 * smooth_noise(rng, size, patch.cells(1.3))
    patch.height_SxS[...] += view * 0.004 * strands

    region = octaves(rng, size, patch.cells(0.9), 3, 0.45)
    region += 0.9 * _slope_towards(patch, rng)
    liver = smoothstep(region, 0.35, 0.43)
    fat = smoothstep(-region + 0.35 * smooth_noise(rng, size, patch.cells(4)), 0.62, 0.78)
    nearest, second = cell_distances(rng, size, patch.cells(9))
    lobule = smoothstep(second - nearest, 0.0, 0.35)
    patch.tint(fat, (228, 164, 92))
    patch.tint(fat * (1 - lobule) * 0.40, (188, 108, 66))
    patch.tint(fat * smoothstep(octaves(rng, size, patch.cells(4), 3), 0, 1.8) * 0.6, (206, 120, 84))
    patch.height_SxS[...] += fat * view * (0.012 + 0.014 * (1 - nearest * nearest))
    patch.tint(liver, (122, 48, 40))
    patch.tint(liver * smoothstep(fine, 0.1, 1.8) * 0.35, (160, 84, 66))
    patch.height_SxS[...] += view * 0.06 * smoothstep(region, 0.30, 0.75)
    _rim(patch, region, 0.35)
    patch.shade(1 + 0.07 * fine)
    draw_vessels(patch, rng, trees=14, width=0.011, colours=((138, 24, 26), (96, 40, 62)), keep_off=liver)


def _lumen(patch: Patch, rng: np.random.Generator) -> None:
    """Mucosa with ring folds around the dark mouth of the bowel and a fine net of vessels."""
    size, view = patch.size, patch.view
    warp = 0.05 * view * octaves(rng, size, patch.cells(1.1), 2)
    angle = rng.uniform(0, 2 * np.pi)
    cx, cy = 0.62 * view * np.cos(angle), 0.62 * view * np.sin(angle)
    away = np.hypot(patch.x_S[None] - cx, patch.y_S[:, None] - cy) + warp
    mottle = octaves(rng, size, patch.cells(5), 4, 0.6)
    patch.tint(np.ones_like(away), (224, 138, 116))
    patch.tint(smoothstep(octaves(rng, size, patch.cells(1.6), 3), -0.3, 1.6) * 0.7, (206, 92, 80))
    patch.tint(smoothstep(-mottle, 0.4, 2.0) * 0.5, (240, 176, 146))
    ring = away / (0.30 * view) + 0.10 * smooth_noise(rng, size, patch.cells(2))
    fold = (0.5 - 0.5 * np.cos(2 * np.pi * ring)) ** 3 * smoothstep(away, 0.16 * view, 0.34 * view)
    patch.height_SxS[...] += view * (0.075 * fold + 0.012 * smooth_noise(rng, size, patch.cells(3)))
    patch.height_SxS[...] -= view * 0.55 * np.exp(-((away / (0.27 * view)) ** 2))
    patch.height_SxS[...] += view * 0.10 * smoothstep(away, 0.5 * view, 1.2 * view)
    patch.tint(fold * 0.30, (244, 172, 146))
    patch.tint((1 - smoothstep(away, 0.08 * view, 0.30 * view)) * 0.75, (120, 40, 36))
    pits = cell_distances(rng, size, patch.cells(26))[0]
    patch.shade(1 + 0.05 * mottle - 0.05 * (1 - smoothstep(pits, 0.1, 0.5)))
    draw_vessels(patch, rng, trees=26, width=0.006, colours=((176, 44, 44), (190, 62, 56)), strength=0.55)


def _wound(patch: Patch, rng: np.random.Generator) -> None:
    """An incision: drape, skin, a rim of yellow fat, red muscle and membranes inside."""
    size, view = patch.size, patch.view
    turn = rng.uniform(-0.25, 0.25)
    x, y = patch.x_S[None], patch.y_S[:, None]
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    away = np.hypot(u / (0.56 * view), v / (0.37 * view)) + 0.045 * octaves(rng, size, patch.cells(2), 3)
    fibre = octaves(rng, size, (patch.cells(16), patch.cells(3)), 4, 0.6)
    patch.tint(np.ones_like(away), (138, 46, 42))
    patch.tint(smoothstep(fibre, -0.4, 1.8) * 0.5, (190, 96, 82))
    patch.height_SxS[...] += view * (0.012 * smooth_noise(rng, size, patch.cells(2.2)) + 0.0012 * fibre)
    _bowel(patch, rng)
    draw_vessels(patch, rng, trees=16, width=0.009, colours=((120, 16, 20), (92, 30, 50)))
    patch.vessel_SxS[...] *= 1 - smoothstep(away, 0.88, 0.94)

    nearest, second = cell_distances(rng, size, patch.cells(17))
    fat = smoothstep(away, 0.84, 0.90)
    patch.tint(fat, (230, 160, 84))
    patch.tint(fat * (1 - smoothstep(second - nearest, 0, 0.3)) * 0.4, (196, 108, 66))
    patch.tint(fat * smoothstep(octaves(rng, size, patch.cells(6), 2), 0.2, 1.8) * 0.7, (190, 74, 62))
    skin = smoothstep(away, 1.02, 1.045)
    patch.tint(skin, (224, 172, 142))
    patch.tint(skin * (1 - smoothstep(away, 1.04, 1.10)) * 0.6, (186, 84, 74))
    patch.tint(skin * smoothstep(smooth_noise(rng, size, patch.cells(8)), 0, 2) * 0.4, (206, 128, 92))
    patch.height_SxS[...] += view * 0.085 * smoothstep(away, 0.80, 1.08)
    patch.height_SxS[...] += view * 0.006 * fat * (1 - skin) * (1 - nearest)
    _retractors(patch, u / view, v / view)
    patch.gloss_SxS[...] *= 1 - 0.9 * skin
    _drape(patch, rng, smoothstep(away, 1.36, 1.375))


def _bowel(patch: Patch, rng: np.random.Generator) -> None:
    """Coils of gut: bands between the contour lines of a smooth field, with dark clefts."""
    size, view = patch.size, patch.view
    field = 2.6 * smooth_noise(rng, size, patch.cells(1.5)) + 0.10 * smooth_noise(rng, size, patch.cells(6))
    round_2 = 1 - np.square(np.mod(field, 1) * 2 - 1)
    there = smoothstep(smooth_noise(rng, size, patch.cells(1.2)), -0.9, -0.5)
    patch.tint(there, (204, 122, 104))
    patch.tint(there * smoothstep(octaves(rng, size, patch.cells(5), 4, 0.7), 0.0, 1.6) * 0.5, (224, 160, 138))
    patch.tint(there * (1 - smoothstep(round_2, 0.0, 0.45)) * 0.75, (112, 34, 34))
    patch.height_SxS[...] += there * view * 0.06 * (np.sqrt(round_2 + 0.04) - 0.5)


def _retractors(patch: Patch, u: np.ndarray, v: np.ndarray) -> None:
    """Two steel blades that hold the wound open, at its ends."""
    edge = np.maximum(np.abs(np.abs(u) - 0.60) / 0.085, np.abs(v) / 0.11)
    blade = 1 - smoothstep(edge, 0.93, 1.0)
    slot = (1 - smoothstep(np.abs(np.abs(v) - 0.05), 0.010, 0.018)) * (1 - smoothstep(edge, 0.70, 0.76))
    patch.tint(blade, (152, 156, 162))
    patch.tint(blade * slot, (70, 40, 38))
    patch.height_SxS[...] += blade * patch.view * 0.02
    patch.gloss_SxS[...] = np.maximum(patch.gloss_SxS, blade)
    patch.vessel_SxS[...] *= 1 - blade


def _drape(patch: Patch, rng: np.random.Generator, share: np.ndarray) -> None:
    """Blue surgical cloth with creases and a weave, where `share` is 1."""
    size, view = patch.size, patch.view
    crease = np.abs(octaves(rng, size, patch.cells(1.3), 2))
    patch.tint(share, (44, 112, 138))
    weave = smooth_noise(rng, size, (patch.cells(60), patch.cells(12)))
    patch.shade(1 + share * (0.06 * weave - 0.12 * (1 - smoothstep(crease, 0, 0.25))))
    patch.height_SxS[...] += share * view * (0.02 + 0.02 * crease)
    patch.gloss_SxS[...] *= 1 - share


def _cortex(patch: Patch, rng: np.random.Generator) -> None:
    """Brain under the microscope: pale gyri, dark sulci, red arteries, blue veins, a white cotton patty."""
    size, view = patch.size, patch.view
    valley = np.abs(octaves(rng, size, patch.cells(1.5), 3, 0.38))
    gyrus = smoothstep(valley, 0.02, 0.42)
    fine = octaves(rng, size, patch.cells(10), 4, 0.65)
    patch.tint(np.ones_like(valley), (214, 160, 140))
    patch.tint(smoothstep(octaves(rng, size, patch.cells(2.5), 3), 0, 1.7) * 0.6, (230, 192, 166))
    patch.tint((1 - gyrus) * 0.45, (190, 96, 84))
    patch.tint((1 - smoothstep(valley, 0.02, 0.12)) * 0.85, (96, 22, 26))
    patch.height_SxS[...] += view * (0.10 * gyrus - 0.05) + view * 0.002 * fine
    capillary = 1 - smoothstep(np.abs(octaves(rng, size, patch.cells(7), 3, 0.6)), 0.0, 0.10)
    patch.tint(capillary * 0.32, (190, 40, 40))
    draw_vessels(patch, rng, trees=5, width=0.034, colours=((92, 34, 62), (150, 26, 30)))
    draw_vessels(patch, rng, trees=12, width=0.013, colours=((176, 28, 30), (120, 34, 56)))
    patch.shade(1 + 0.04 * fine)
    angle, turn = rng.uniform(0, 2 * np.pi, 2)
    x, y = patch.x_S[None] - 0.46 * view * np.cos(angle), patch.y_S[:, None] - 0.40 * view * np.sin(angle)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    edge = np.maximum(np.abs(u) / 0.15, np.abs(v) / 0.09) / view + 0.02 * smooth_noise(rng, size, patch.cells(20))
    cotton = 1 - smoothstep(edge, 0.96, 1.04)
    patch.tint(cotton, (226, 220, 208))
    patch.tint(cotton * (1 - smoothstep(np.abs(v) / view, 0.006, 0.010)), (52, 84, 150))
    patch.tint(cotton * smoothstep(octaves(rng, size, patch.cells(4), 3), 0.6, 2.0) * 0.8, (196, 92, 84))
    patch.height_SxS[...] += cotton * view * 0.012
    patch.vessel_SxS[...] *= 1 - cotton
    patch.gloss_SxS[...] *= 1 - 0.8 * cotton


def _slope_towards(patch: Patch, rng: np.random.Generator) -> np.ndarray:
    """A gentle ramp across the middle in a random direction, so that every picture shows more than one organ."""
    angle = rng.uniform(0.15 * np.pi, 0.85 * np.pi)
    reach = patch.x_S[None] * np.cos(angle) + patch.y_S[:, None] * np.sin(angle)
    return np.sin(reach * np.float32(2 * np.pi / patch.side)) * np.float32(1.6)


def _rim(patch: Patch, region_SxS: np.ndarray, at: float) -> None:
    """A dark crease where one organ lies on another."""
    patch.shade(1 - 0.35 * np.exp(-(((region_SxS - np.float32(at)) / np.float32(0.05)) ** 2)))


def draw_vessels(
    patch: Patch,
    rng: np.random.Generator,
    *,
    trees: int,
    width: float,
    colours: tuple[Colour, Colour],
    strength: float = 0.85,
    keep_off: np.ndarray | None = None,
) -> None:
    """Adds branching vessels to colour, height and pulse.

    Args:
        patch: where to draw.
        rng: source of their courses.
        trees: how many over two views squared.
        width: of a trunk, as a share of the view.
        colours: of arteries and of veins, which take turns.
        strength: share of the colour that a vessel takes over.
        keep_off: [S, S] 0..1, where vessels lie deep and hardly show.
    """
    count = max(2, round(trees * (patch.side / patch.view / 2) ** 2))
    shown = 1.0 if keep_off is None else 1 - 0.8 * keep_off
    trunk = width * patch.view / patch.side * patch.size
    for colour, share in zip(colours, (count - count // 2, count // 2), strict=True):
        drawn = Image.new("L", (patch.size, patch.size))
        pen = ImageDraw.Draw(drawn)
        for _ in range(share):
            _grow(pen, rng, patch.size, rng.random(2) * patch.size, rng.uniform(0, 2 * np.pi), trunk)
        mask = blurred(np.asarray(drawn, np.float32) / 255, 1) * shown
        patch.tint(mask * strength, colour)
        soft = blurred(mask, max(1, round(trunk / 3)))
        patch.height_SxS[...] += soft * np.float32(0.35 * width * patch.view)
        patch.tint(smoothstep(soft, 0.75, 1.1) * 0.25, (255, 210, 200))
        np.maximum(patch.vessel_SxS, soft, out=patch.vessel_SxS)


def _grow(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: int, at_2: np.ndarray, heading: float, width: float
) -> None:
    """One vessel as a winding line which thins out and branches."""
    step = max(size / 128, 2.0)
    # A pull back to the first direction keeps vessels from curling up.
    bend = wander = 0.0
    while width > size / 800:
        bend = 0.75 * bend + rng.normal(0, 0.05) - 0.01 * wander
        wander += bend
        heading += bend
        to_2 = at_2 + step * np.array([np.cos(heading), np.sin(heading)])
        _stroke(pen, size, at_2, to_2, width)
        if rng.random() < 0.07:
            side = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.0)
            _grow(pen, rng, size, to_2, heading + float(side), width * rng.uniform(0.45, 0.75))
        at_2, width = to_2, width * 0.975


def _stroke(pen: ImageDraw.ImageDraw, size: int, from_2: np.ndarray, to_2: np.ndarray, width: float) -> None:
    """A line with round ends, drawn again one side further wherever it leaves the square."""
    home = np.floor(from_2 / size) * size
    (x0, y0), (x1, y1) = from_2 - home, to_2 - home
    wide = max(1, round(width))
    reach, half = wide + size / 64, (wide - 1) / 2
    for dx in {0, size if min(x0, x1) < reach else 0, -size if max(x0, x1) > size - reach else 0}:
        for dy in {0, size if min(y0, y1) < reach else 0, -size if max(y0, y1) > size - reach else 0}:
            pen.line((x0 + dx, y0 + dy, x1 + dx, y1 + dy), fill=255, width=wide)
            if wide > 2:
                pen.ellipse((x1 + dx - half, y1 + dy - half, x1 + dx + half, y1 + dy + half), fill=255)


_PAINTERS: dict[str, Callable[[Patch, np.random.Generator], None]] = {
    "laparoscopic": _abdomen,
    "endoscopic": _lumen,
    "open": _wound,
    "microscopic": _cortex,
}
