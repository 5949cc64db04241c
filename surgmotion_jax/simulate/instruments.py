"""Instruments as rounded cones: their shapes by class, where their parts are in a frame, and where rays meet them.

An instrument's own frame has its origin at the tool tip and z along the shaft, away from the port. It has three rigid
parts: 0 the shaft, 1 and 2 the jaws. Lengths of shapes are in shaft radii. Letters: N rays or points.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from surgmotion_jax.simulate.case import Script

KINDS = ("grasper", "hook", "scissors", "clipper", "irrigator", "bipolar")
EXCHANGED_KINDS = (*KINDS, "bag")  # of operations in which instruments are exchanged
SHAFT, JAW_A, JAW_B = range(3)

_RADIUS = {"laparoscopic": 0.032, "endoscopic": 0.021, "open": 0.024, "microscopic": 0.022}  # shares of the view
# Radius of a shaft's far end over that of its near end: handheld ones grow thicker. Those in an endoscope's channels
# would fill the picture where they pass the lens; theirs shrink, and end behind it.
_WIDENING = {"laparoscopic": 1.0, "endoscopic": 0.12, "open": 3.0, "microscopic": 3.0}
_BEHIND_PORT = {"laparoscopic": 4.0, "endoscopic": 0.2, "open": 4.0, "microscopic": 4.0}  # length there, in views


@dataclass(frozen=True)
class Cone:
    """A ball moved in a straight line while its radius changes. `material`: 0 shaft, 1 steel, 2 its dark inside."""

    part: int
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    start_radius: float
    end_radius: float
    material: int = 1


@dataclass(frozen=True)
class Tool:
    """What a class of instrument looks like."""

    kind: str
    hinge: float  # z of the jaws' axis, shaft radii
    cones: tuple[Cone, ...]
    shaft_colour: tuple[float, float, float]
    band_colour: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Pose:
    """Where the parts of one instrument are: world = origin + axes @ own."""

    slot: int
    radius: float  # mm, of the shaft
    tool: Tool
    reach: float  # mm from the tip to the far end of the shaft
    origin_3x3: np.ndarray  # [part, xyz] mm
    axes_3x3x3: np.ndarray  # [part, world axis, own axis]


def tool_of(instrument: int, specialty: str, kinds: tuple[str, ...] = KINDS) -> Tool:
    """The shape of an instrument class: its kind by number, its proportions and colours by how often kinds repeat."""
    kind = kinds[instrument % len(kinds)]
    again = instrument // len(kinds)
    stretch = 1 + 0.22 * (again % 4)
    hinge, cones = _SHAPES[kind](stretch)
    shafts = _SHAFTS[specialty]
    return Tool(kind, hinge, cones, shafts[(instrument + again) % len(shafts)], _BANDS[instrument % len(_BANDS)])


def poses_at(script: Script, frame: int) -> dict[int, Pose]:
    """The poses of all inserted instruments of a frame, by slot."""
    specialty = script.config.specialty
    radius = _RADIUS[specialty] * script.view
    kinds, instrument_M = EXCHANGED_KINDS if script.config.exchange else KINDS, script.instruments_at(frame)
    poses = {}
    for slot in np.flatnonzero(script.visible_TxM[frame]).tolist():
        tool = tool_of(int(instrument_M[slot]), specialty, kinds)
        port_3 = np.asarray(script.port_Mx3[slot], np.float64)
        tip_3 = np.asarray(script.tip_TxMx3[frame, slot], np.float64)
        axes = _shaft_axes(-port_3, tip_3 - port_3, float(script.roll_TxM[frame, slot]))
        origin, turned = _jaws(tip_3, axes, tool.hinge * radius, float(script.opening_TxM[frame, slot]))
        reach = float(np.linalg.norm(tip_3 - port_3)) + _BEHIND_PORT[specialty] * script.view
        poses[slot] = Pose(slot, radius, tool, reach, origin, turned)
    return poses


def cones_of(pose: Pose) -> list[tuple[Cone, np.ndarray, np.ndarray, float, float]]:
    """Each cone with its two ends in world mm and its two radii in mm, the long shaft last."""
    placed = []
    for cone in pose.tool.cones:
        axes, origin = pose.axes_3x3x3[cone.part], pose.origin_3x3[cone.part]
        ends = [origin + axes @ (np.asarray(end) * pose.radius) for end in (cone.start, cone.end)]
        placed.append((cone, ends[0], ends[1], cone.start_radius * pose.radius, cone.end_radius * pose.radius))
    return placed


def shaft_of(pose: Pose, widening: float) -> tuple[Cone, np.ndarray, np.ndarray, float, float]:
    """The shaft as a cone from the wrist to far behind the port."""
    wrist = pose.tool.hinge - 3.0
    cone = Cone(SHAFT, (0, 0, -pose.reach / pose.radius), (0, 0, wrist), widening, 1.0, 0)
    axis, tip = pose.axes_3x3x3[SHAFT][:, 2], pose.origin_3x3[SHAFT]
    return cone, tip - axis * pose.reach, tip + axis * wrist * pose.radius, widening * pose.radius, pose.radius


def widening_of(specialty: str) -> float:
    """Radius of the far end of a shaft over that of its near end."""
    return _WIDENING[specialty]


def meet_cone(
    position_3: np.ndarray, ray_3xN: np.ndarray, start_3: np.ndarray, end_3: np.ndarray, radii: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Depth [N] where rays meet a cone, inf where they miss, and the outward normals [3, N] there."""
    length = float(np.linalg.norm(end_3 - start_3))
    axis = ((end_3 - start_3) / length).astype(np.float32)
    away = (position_3 - start_3).astype(np.float32)
    # The flank touches the ball at h of the axis along a circle tilted by this sine.
    sine = float(np.clip((radii[0] - radii[1]) / length, -0.95, 0.95))
    cos2 = 1 - sine * sine
    dd, da, do = _dot(ray_3xN, ray_3xN), _along(ray_3xN, axis), _along(ray_3xN, away)
    oo, oa = float(away @ away), float(away @ axis)
    lean = radii[0] * sine
    a = cos2 * dd - da * da
    b = cos2 * do - oa * da + lean * da
    c = cos2 * oo - oa * oa + 2 * lean * oa - radii[0] ** 2
    flank = _first_root(a, b, np.float32(c))
    met = np.where(np.isfinite(flank), flank, 0)
    height = (oa + met * da - lean) / np.float32(cos2)
    best = np.where((height >= 0) & (height <= length), flank, np.inf)
    for at, radius in ((0.0, radii[0]), (length, radii[1])):
        to = away - axis * np.float32(at)
        best = np.minimum(best, _first_root(dd, _along(ray_3xN, to), np.float32(to @ to - radius * radius)))
    reached = np.where(np.isfinite(best), best, 0)
    height = np.clip((oa + reached * da - lean) / np.float32(cos2), 0, length)
    normal = away[:, None] + reached * ray_3xN - axis[:, None] * height
    normal /= np.sqrt(_dot(normal, normal)) + np.float32(1e-9)
    return best, normal


def _dot(a_3xN: np.ndarray, b_3xN: np.ndarray) -> np.ndarray:
    return a_3xN[0] * b_3xN[0] + a_3xN[1] * b_3xN[1] + a_3xN[2] * b_3xN[2]


def _along(a_3xN: np.ndarray, b_3: np.ndarray) -> np.ndarray:
    return a_3xN[0] * b_3[0] + a_3xN[1] * b_3[1] + a_3xN[2] * b_3[2]


def _first_root(a: np.ndarray, b: np.ndarray, c: np.float32) -> np.ndarray:
    """Smaller root of a s^2 + 2 b s + c in front of the camera, inf where there is none."""
    inside = b * b - a * c
    good = (inside >= 0) & (a > 1e-9)
    root = (-b - np.sqrt(np.where(good, inside, 0))) / np.where(good, a, 1)
    return np.where(good & (root > 1e-3), root, np.float32(np.inf))


def _shaft_axes(rest_3: np.ndarray, now_3: np.ndarray, roll: float) -> np.ndarray:
    """Own axes as columns: z along the shaft; x, y carried there from a fixed direction without twist, then rolled."""
    rest, now = rest_3 / np.linalg.norm(rest_3), now_3 / np.linalg.norm(now_3)
    side = np.cross(rest, [0.0, 0.0, 1.0] if abs(rest[2]) < 0.9 else [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    turn, cosine = np.cross(rest, now), float(rest @ now)
    x = side + np.cross(turn, side) + np.cross(turn, np.cross(turn, side)) / (1 + cosine)
    y = np.cross(now, x)
    return np.stack([x * np.cos(roll) + y * np.sin(roll), y * np.cos(roll) - x * np.sin(roll), now], axis=1)


def _jaws(tip_3: np.ndarray, axes: np.ndarray, hinge: float, opening: float) -> tuple[np.ndarray, np.ndarray]:
    """Origins and axes of the three parts; the jaws turn by half the opening about their hinge."""
    origins, turned = [tip_3], [axes]
    for half in (opening / 2, -opening / 2):
        cos, sin = np.cos(half), np.sin(half)
        own = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
        turned.append(axes @ own)
        origins.append(tip_3 + axes[:, 2] * hinge - turned[-1][:, 2] * hinge)
    return np.stack(origins), np.stack(turned)


def _wrist(hinge: float) -> tuple[Cone, ...]:
    return (
        Cone(SHAFT, (0, 0, hinge - 3.4), (0, 0, hinge - 1.2), 0.92, 0.92, 2),
        Cone(SHAFT, (0, 0, hinge - 1.6), (0, 0, hinge + 0.1), 0.86, 0.80, 1),
    )


def _pair(points: list[tuple[float, float, float]], radii: list[float], material: int = 1) -> tuple[Cone, ...]:
    """Both jaws, mirror images in y, as chains of cones through `points`."""
    cones = []
    for part, mirror in ((JAW_A, 1), (JAW_B, -1)):
        balls = [((x, mirror * y, z), radius) for (x, y, z), radius in zip(points, radii, strict=True)]
        for (start, first), (end, second) in pairwise(balls):
            cones.append(Cone(part, start, end, first, second, material))
    return tuple(cones)


def _grasper(stretch: float) -> tuple[float, tuple[Cone, ...]]:
    hinge = -7.0 * stretch
    jaws = _pair([(0, 0.35, hinge), (0, 0.62, 0.5 * hinge), (0, 0.40, 0)], [0.62, 0.55, 0.34])
    return hinge, _wrist(hinge) + jaws


def _hook(stretch: float) -> tuple[float, tuple[Cone, ...]]:
    hinge = -6.5 * stretch
    bend = (0.0, -2.3, -0.2)
    rods = (
        Cone(SHAFT, (0, -0.2, hinge), (0, -2.0, -2.0), 0.55, 0.42),
        Cone(SHAFT, (0, -2.0, -2.0), bend, 0.42, 0.36),
        Cone(SHAFT, bend, (0, -0.9, 0.05), 0.36, 0.32),
        Cone(SHAFT, (0, -0.9, 0.05), (0, 0, -0.5), 0.32, 0.24),
    )
    return hinge, _wrist(hinge) + rods


def _scissors(stretch: float) -> tuple[float, tuple[Cone, ...]]:
    hinge = -8.0 * stretch
    jaws = _pair([(0, 0.22, hinge), (0.35, 0.38, 0.45 * hinge), (0.1, 0.12, 0)], [0.50, 0.42, 0.12])
    return hinge, _wrist(hinge) + jaws


def _clipper(stretch: float) -> tuple[float, tuple[Cone, ...]]:
    hinge = -5.0 * stretch
    jaws = _pair([(0, 0.55, hinge), (0, 0.95, 0.75 * hinge), (0, 0.62, 0)], [0.62, 0.55, 0.50])
    return hinge, _wrist(hinge) + jaws


def _irrigator(stretch: float) -> tuple[float, tuple[Cone, ...]]:
    hinge = -9.0 * stretch
    tube = (
        Cone(SHAFT, (0, 0, hinge), (0, 0, -0.8), 0.86, 0.80),
        Cone(SHAFT, (0, 0, -0.7), (0, 0, -0.45), 0.62, 0.55, 2),
    )
    return hinge, _wrist(hinge) + tube


def _bipolar(stretch: float) -> tuple[float, tuple[Cone, ...]]:
    hinge = -9.5 * stretch
    tines = _pair([(0, 0.30, hinge), (0, 1.05, 0.45 * hinge), (0, 0.95, 0.22 * hinge)], [0.45, 0.42, 0.40], 3)
    tips = _pair([(0, 0.95, 0.22 * hinge), (0, 0.26, 0)], [0.36, 0.24])
    return hinge, _wrist(hinge) + tines + tips


def _bag(stretch: float) -> tuple[float, tuple[Cone, ...]]:
    """A ring at the shaft's end that holds a pouch open."""
    hinge = -9.0 * stretch
    pouch = (
        Cone(SHAFT, (0, 0, hinge), (0, 0, -5.6), 0.9, 2.3, 3),
        Cone(SHAFT, (0, 0, -5.6), (0, 0, -2.4), 2.3, 2.4, 3),
    )
    ring = _pair([(-2.3, 0.6, -5.6), (0, 2.5, -5.6), (2.3, 0.6, -5.6)], [0.3, 0.3, 0.3])
    return hinge, _wrist(hinge) + pouch + ring


_SHAPES = {
    "grasper": _grasper,
    "hook": _hook,
    "scissors": _scissors,
    "clipper": _clipper,
    "irrigator": _irrigator,
    "bipolar": _bipolar,
    "bag": _bag,
}

_SHAFTS = {
    "laparoscopic": ((34, 34, 38), (44, 44, 48), (150, 152, 156), (30, 34, 44), (58, 56, 56)),
    "endoscopic": ((214, 212, 204), (96, 140, 146), (196, 174, 110), (86, 98, 140), (150, 150, 154)),
    "open": ((172, 174, 176), (188, 188, 186), (160, 162, 168), (196, 186, 150)),
    "microscopic": ((166, 168, 172), (74, 84, 120), (52, 52, 56), (184, 182, 176)),
}
_BANDS = (
    (190, 192, 196),
    (196, 160, 70),
    (70, 120, 180),
    (80, 150, 100),
    (170, 72, 66),
    (150, 150, 160),
    (214, 214, 210),
)


def colour_of(pose: Pose, cone: Cone, own_3xN: np.ndarray) -> np.ndarray:
    """Colour [N, 3] (sRGB, 0..255) of points given in the part's own frame, mm: bands, coils and grooves on metal."""
    z = own_3xN[2] / np.float32(pose.radius)
    base = {
        0: pose.tool.shaft_colour,
        1: (168, 170, 176),
        2: (64, 64, 68),
        3: pose.tool.band_colour,
    }[cone.material]
    colour = np.broadcast_to(np.asarray(base, np.float32), (z.size, 3)).copy()
    if cone.material == 0:
        from_wrist = pose.tool.hinge - 3.0 - z
        band = (from_wrist > 3.0) & (from_wrist < 4.6)
        colour[band] = np.asarray(pose.tool.band_colour, np.float32)
        mark = np.abs(np.mod(from_wrist, 12.0) - 9.0) < 0.18
        colour[mark] *= np.float32(0.72)
    elif cone.part != SHAFT:
        groove = np.float32(0.10) * np.sin(z * np.float32(9.0)) * (own_3xN[1] / np.float32(pose.radius))
        colour *= (1 + np.clip(groove, -0.12, 0.12))[:, None]
    return colour
