"""Draws a script: every frame with its truth, alone or in a row, byte for byte the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.simulate.case import Frame, Script
from surgmotion_jax.simulate.dense import Sight, flow_between, lesion_of, see, tips
from surgmotion_jax.simulate.light import lit
from surgmotion_jax.simulate.nuisance import Veil, draw_veil, sensor, spoil
from surgmotion_jax.simulate.number_strip import paint_number
from surgmotion_jax.simulate.room import Room, draw_room, room_view
from surgmotion_jax.simulate.surface import Surface, build_surface
from surgmotion_jax.simulate.viewport import field_of_view

_STREAM = {"surface": 101, "veil": 102, "viewport": 103, "room": 104}


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn once for a case: its tissue, its veil of nuisances, its field of view, what lies outside."""

    script: Script
    surface: Surface
    veil: Veil
    view_HxW: np.ndarray  # float32: 1 inside the field of view, 0 outside
    room: Room | None


def build_scene(script: Script) -> Scene:
    """Everything of a case that its frames share: about a second's work."""

    def rng(name: str) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([script.seed, _STREAM[name]]))

    room = draw_room(script.config, rng("room")) if script.out_of_body_T.any() else None
    view = field_of_view(script.config, rng("viewport"))
    return Scene(script, build_surface(script, rng("surface")), draw_veil(script, rng("veil")), view, room)


def render(
    script: Script, start: int = 0, stop: int | None = None, *, truth: bool = True, scene: Scene | None = None
) -> Iterator[Frame]:
    """Frames `start` to `stop` (exclusive; None for the end) of a script, in order.

    A frame's bytes do not depend on which frames are drawn before it. Outside the field of view, and in frames that
    the camera spends outside the body, masks are empty, depth is 0 (none) and everything counts as occluded; tips are
    then NaN.

    Args:
        script: of the case.
        start: first frame.
        stop: one past the last frame.
        truth: False leaves out flow and occlusion (both None), which need the frame after.
        scene: what `build_scene` returned for this script, to save building it again.

    Raises:
        ValueError: for frames that the script does not have.
    """
    stop = script.frames if stop is None else stop
    if not 0 <= start <= stop <= script.frames:
        raise ValueError(f"frames {start} to {stop} asked for; the script has frames 0 to {script.frames}")
    return _frames(scene or build_scene(script), start, stop, truth)


def _frames(scene: Scene, start: int, stop: int, truth: bool) -> Iterator[Frame]:
    script, after = scene.script, None
    for number in range(start, stop):
        sight = after or see(scene.surface, script, number)
        last = number + 1 == script.frames
        after = see(scene.surface, script, number + 1) if truth and not last else None
        yield _frame(scene, sight, after)


def _frame(scene: Scene, sight: Sight, after: Sight | None) -> Frame:
    """One frame from what its pixels show, with flow if what the next frame shows is given."""
    script, number = scene.script, sight.number
    shape = scene.view_HxW.shape
    inside = scene.view_HxW > 0
    body = not script.out_of_body_T[number]
    shown = inside if body else np.zeros_like(inside)
    flow, occluded = None, None
    if after is not None:
        flow, occluded = _motion(scene, sight, after, shown)
    albedo = (sight.colour_Px3 + np.float32(0.5)).astype(np.uint8).reshape(*shape, 3)
    return Frame(
        number=number,
        video_HxWx3=_picture(scene, sight),
        albedo_HxWx3=np.where(shown[..., None], albedo, 0),
        instrument_HxW=np.where(shown, sight.slot_P.reshape(shape), 0).astype(np.uint8),
        lesion_HxW=lesion_of(scene.surface, sight).reshape(shape) & shown,
        fov_HxW=inside.copy(),
        depth_HxW=np.where(shown, sight.depth_P.reshape(shape), 0).astype(np.float32),
        flow_HxWx2=flow,
        occluded_HxW=occluded,
        tip_Mx2=tips(script, sight) if body else np.full((len(script.port_Mx3), 2), np.nan, np.float32),
    )


def _motion(scene: Scene, sight: Sight, after: Sight, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow [H, W, 2], 0 where nothing is shown, and occlusion [H, W]."""
    height, width = shown.shape
    flow, hidden = flow_between(sight, after)
    flow, hidden = flow.reshape(height, width, 2), hidden.reshape(height, width)
    if scene.script.out_of_body_T[after.number]:
        return np.where(shown[..., None], flow, 0), np.ones_like(shown)
    column = np.clip(np.rint(np.arange(width) + flow[..., 0]), 0, width - 1).astype(np.int32)
    row = np.clip(np.rint(np.arange(height)[:, None] + flow[..., 1]), 0, height - 1).astype(np.int32)
    leaves = scene.view_HxW[row, column] <= 0
    return np.where(shown[..., None], flow, 0), hidden | leaves | ~shown


def _picture(scene: Scene, sight: Sight) -> np.ndarray:
    """uint8 [H, W, 3]: the frame as it is recorded."""
    script, number = scene.script, sight.number
    if script.out_of_body_T[number] and scene.room is not None:
        clean = room_view(scene.room, script.config, number)
    else:
        clean = _softened(lit(script, sight).reshape(*scene.view_HxW.shape, 3))
    picture = spoil(script, scene.veil, number, clean)
    picture = sensor(scene.veil, number, picture * scene.view_HxW[..., None])
    picture[scene.view_HxW <= 0] = 0
    return paint_number(picture, number) if script.config.paint_frame_number else picture


def _softened(picture: np.ndarray) -> np.ndarray:
    """A lens's slight blur, which also takes the stairs off the instruments' outlines."""
    wide = picture.copy()
    wide[:, 1:-1] = 0.22 * (picture[:, :-2] + picture[:, 2:]) + 0.56 * picture[:, 1:-1]
    tall = wide.copy()
    tall[1:-1] = 0.22 * (wide[:-2] + wide[2:]) + 0.56 * wide[1:-1]
    return tall
