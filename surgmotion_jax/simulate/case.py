"""What is decided about a simulated operation before a pixel is drawn, and what a drawn frame holds.

World: millimetres; the tissue at rest lies around the plane z = 0, z grows towards the camera. The camera is a
pinhole at `camera.position`, looking along -z when all its angles are 0, image rows growing along -y.
Letters: T frames, M instruments (a fixed number of slots; an instrument out of view keeps its slot), H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.checks import one_of

SPECIALTIES = ("laparoscopic", "endoscopic", "open", "microscopic")
VERBS = 10  # motion patterns that the simulator knows, as many as the verbs of CholecT50
NUISANCES = ("smoke", "blood", "fluid", "smudge", "brightness", "outside", "glint", "noise")
"""What spoils a picture: brightness that changes, the camera outside the body, glints of wet tissue, sensor noise."""
NONE = -1  # of `triplet_TxMx3`: this instrument is idle or out of view

# Field of SceneConfig, least, most.
_SCENE_RANGES = (
    ("height", 16, 4096),
    ("width", 16, 4096),
    ("fps", 0.1, 240.0),
    ("seconds", 0.1, 36_000.0),
    ("nuisance", 0.0, 2.0),
    ("difficulty", 0.0, 1.0),
    ("zoom", 1.0, 4.0),
)


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; it must lie in [{least}, {most}]")


@dataclass(frozen=True)
class Vocabulary:
    """How many of everything a data set knows, and which (instrument, verb, target) belong together."""

    phases: int
    instruments: int
    verbs: int
    targets: int
    triplets: tuple[tuple[int, int, int], ...]  # row number = triplet id

    def __post_init__(self) -> None:
        for name, most in (("phases", 96), ("instruments", 64), ("verbs", VERBS), ("targets", 64)):
            _check_range(f"vocabulary.{name}", getattr(self, name), 1, most)
        if not self.triplets:
            raise ValueError("vocabulary.triplets is empty; name at least one (instrument, verb, target)")
        sizes = (self.instruments, self.verbs, self.targets)
        for row, triplet in enumerate(self.triplets):
            if len(triplet) != 3 or not all(0 <= part < size for part, size in zip(triplet, sizes, strict=True)):
                raise ValueError(
                    f"vocabulary.triplets[{row}] is {triplet}; it must be (instrument, verb, target) below {sizes}"
                )
        if len(set(self.triplets)) != len(self.triplets):
            twice = next(triplet for triplet in self.triplets if self.triplets.count(triplet) > 1)
            raise ValueError(f"vocabulary.triplets names {twice} more than once; a triplet has one row")


@dataclass(frozen=True)
class SceneConfig:
    """One simulated operation, apart from its seed."""

    specialty: str = "laparoscopic"  # one of SPECIALTIES
    height: int = 256  # pixels
    width: int = 256
    fps: float = 25.0  # source frame rate; may be as low as 1
    seconds: float = 60.0
    nuisance: float = 0.5  # strength of everything of `nuisances`: 0 none, 1 strong, 2 twice as strong
    nuisances: tuple[str, ...] = NUISANCES  # those that there are; each goes as it would with all others
    difficulty: float = 0.5  # of telling things apart: contrast, clutter, camera motion; 0 easy, 1 hard
    zoom: float = 1.0  # of the lens: at 2, half as much tissue across the picture, and instruments twice as large
    exchange: bool = False  # instruments are exchanged through the ports as phases ask for them
    lesion: bool = False  # a polyp-like lesion in view
    paint_frame_number: bool = False  # test mode: the frame number as black and white blocks along the top rows

    def __post_init__(self) -> None:
        if self.specialty not in SPECIALTIES:
            raise ValueError(f"scene.specialty is {self.specialty!r}; choose one of {list(SPECIALTIES)}")
        for name, least, most in _SCENE_RANGES:
            _check_range(f"scene.{name}", getattr(self, name), least, most)
        for name in self.nuisances:
            one_of("scene.nuisances", name, NUISANCES)

    @property
    def frames(self) -> int:
        """Number of frames: at least one, however short the operation."""
        return max(1, round(self.seconds * self.fps))

    def strength(self, nuisance: str) -> float:
        """Of one of NUISANCES; 0 where it is not among those that there are."""
        return self.nuisance if nuisance in self.nuisances else 0.0


@dataclass(frozen=True, eq=False)
class Script:
    """All that happens in one operation, frame by frame: a pure function of (config, vocabulary, skill, seed)."""

    config: SceneConfig
    vocabulary: Vocabulary
    seed: int
    skill: float  # 0 novice .. 1 expert
    grs_6: np.ndarray  # [6] the items of the global rating scale, 1..5 each; their sum, 6..30, is the GRS
    phase_T: np.ndarray  # int
    triplet_TxMx3: np.ndarray  # int: instrument, verb, target of each slot, NONE where idle or out of view
    camera_position_Tx3: np.ndarray  # mm
    camera_angles_Tx3: (
        np.ndarray
    )  # radians: pitch (about x), yaw (about y), roll (about the optical axis), in this order
    instrument_M: np.ndarray  # int: class of the instrument in each slot, over the whole case or as it begins
    port_Mx3: np.ndarray  # mm: the fixed point that each shaft passes through
    tip_TxMx3: np.ndarray  # mm: tool tip
    opening_TxM: np.ndarray  # radians between the jaws; 0 closed
    roll_TxM: np.ndarray  # radians about the shaft
    visible_TxM: np.ndarray  # bool: the instrument is inserted (it may still lie outside the picture)
    target_site_Kx3: np.ndarray  # mm: where each target structure lies on the tissue, K = vocabulary.targets
    pull_TxMx3: np.ndarray  # mm: displacement of the tissue at the tip of each slot (grasping, retracting)
    breath_T: np.ndarray  # mm: displacement of the tissue along z by breathing
    pulse_T: np.ndarray  # mm: the same by the pulse, near vessels
    smoke_T: np.ndarray  # 0..1
    blood_T: np.ndarray  # 0..1 share of the blood pools that have formed
    fluid_T: np.ndarray  # 0..1
    smudge_T: np.ndarray  # 0..1 dirt on the lens
    brightness_T: np.ndarray  # factor, 1 normal
    out_of_body_T: np.ndarray  # bool: the camera is outside the patient
    focal: float = (
        1.0  # focal length over the picture's height: a point x mm aside at depth d is focal * height * x / d
    )
    view: float = 90.0  # mm across the picture at the tissue plane, camera at rest, zoom 1: the scale of all drawn
    instrument_TxM: np.ndarray | None = None  # int: class in each slot where they are exchanged, also while outside

    @property
    def frames(self) -> int:
        return len(self.phase_T)

    def instruments_at(self, frame: int) -> np.ndarray:
        """Class of the instrument in each slot [M] in a frame."""
        return self.instrument_M if self.instrument_TxM is None else np.asarray(self.instrument_TxM[frame])

    @property
    def grs(self) -> int:
        return int(self.grs_6.sum())


@dataclass(frozen=True, eq=False)
class Frame:
    """One drawn frame with its truth. `flow` and `occluded` speak of the next frame and are None for the last."""

    number: int
    video_HxWx3: np.ndarray  # uint8 RGB, all nuisances on
    albedo_HxWx3: np.ndarray  # uint8 RGB, surface colour alone: no light, no nuisance
    instrument_HxW: np.ndarray  # uint8: 0 tissue, slot + 1 otherwise
    lesion_HxW: np.ndarray  # bool
    fov_HxW: np.ndarray  # bool: inside the field of view
    depth_HxW: np.ndarray  # float32 mm along the optical axis
    flow_HxWx2: np.ndarray | None  # float32 pixels (right, down) to the next frame
    occluded_HxW: np.ndarray | None  # bool: not visible in the next frame
    tip_Mx2: np.ndarray  # float32 pixels (x, y) of each tool tip as projected; NaN where not inserted


def triplet_ids(script: Script, frame: int) -> Sequence[int]:
    """Ids of the triplets that happen in `frame`, ascending, each once."""
    table = {triplet: row for row, triplet in enumerate(script.vocabulary.triplets)}
    found = {table[i, v, t] for i, v, t in script.triplet_TxMx3[frame].tolist() if i != NONE}
    return sorted(found)
