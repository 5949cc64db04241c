"""Frames that cost nothing to draw: flat colour and the painted number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from surgmotion_jax.simulate.case import Frame, Script
from surgmotion_jax.simulate.number_strip import paint_number


def draw(script: Script) -> Iterator[Frame]:
    """All frames of a script. The colour follows the case's seed, so that no two cases look the same."""
    shape, slots = (script.config.height, script.config.width), len(script.port_Mx3)
    colour = [40 + (script.seed >> shift) % 160 for shift in (0, 16, 32)]
    plain = np.full((*shape, 3), colour, np.uint8)
    empty, inside = np.zeros(shape, bool), np.ones(shape, bool)
    for number in range(script.frames):
        yield Frame(
            number=number,
            video_HxWx3=paint_number(plain, number),
            albedo_HxWx3=plain,
            instrument_HxW=np.zeros(shape, np.uint8),
            lesion_HxW=empty,
            fov_HxW=inside,
            depth_HxW=np.full(shape, 50, np.float32),
            flow_HxWx2=None,
            occluded_HxW=None,
            tip_Mx2=np.full((slots, 2), number, np.float32),
        )
