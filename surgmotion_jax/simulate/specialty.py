"""The four kinds of operation as measures in space: how far the camera, how wide the view, where shafts come from.

A `Specialty` also sets the scale of all motion: what is 8 mm of movement in the abdomen is 1 mm under a microscope.
"""

from __future__ import annotations

from dataclasses import dataclass

from surgmotion_jax.simulate.case import SPECIALTIES


@dataclass(frozen=True)
class Specialty:
    """Measures of one kind of operation. `view` is the side of the square of tissue that a square picture shows."""

    view: float  # mm across the picture at the tissue plane, camera at rest
    distance: float  # mm from camera to tissue plane, camera at rest
    tilt: float  # radians: how far the resting camera looks off the vertical
    ports: tuple[tuple[float, float, float], ...]  # mm, by slot: left hand, right hand, assistant; about the camera
    drift: float  # share of the view over which the camera wanders
    roll: float  # radians, standard deviation of the camera's slow turning
    follow: float  # 0..1: how often the camera is moved after the action
    advance: float  # share of the distance over which it goes in and out

    @property
    def focal(self) -> float:
        """Focal length over the picture's height."""
        return self.distance / self.view


# Rows in the order of `SPECIALTIES`. Ports are given relative to the point of tissue under the resting camera.
_ROWS = (
    Specialty(90.0, 85.0, 0.35, ((-95, -60, 95), (95, -60, 95), (80, 70, 100)), 0.03, 0.05, 0.7, 0.12),
    # An endoscope's instruments leave channels beside the lens, so their fixed points lie close to the camera.
    Specialty(48.0, 40.0, 0.15, ((-9, -16, 42), (9, -16, 42), (0, 17, 42)), 0.05, 0.30, 0.5, 0.30),
    Specialty(170.0, 450.0, 0.05, ((-130, -170, 140), (130, -170, 140), (140, 150, 150)), 0.008, 0.01, 0.1, 0.02),
    Specialty(26.0, 200.0, 0.02, ((-34, -22, 40), (34, -22, 40), (30, 30, 44)), 0.006, 0.01, 0.15, 0.02),
)


def specialty_of(name: str) -> Specialty:
    """The measures of a specialty.

    Raises:
        ValueError: for a name that is not among SPECIALTIES.
    """
    if name not in SPECIALTIES:
        raise ValueError(f"specialty {name!r} is not known; choose one of {list(SPECIALTIES)}")
    return _ROWS[SPECIALTIES.index(name)]
