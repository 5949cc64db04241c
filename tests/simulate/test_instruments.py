"""Shapes of instruments: rays meet the cones where they are, classes differ, tips and shafts are where scripts say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from surgmotion_jax.simulate.instruments import KINDS, cones_of, meet_cone, poses_at, tool_of
from surgmotion_jax.simulate.render import build_scene, render
from tests.simulate.hand_script import hand_script


@pytest.mark.parametrize("radii", [(3.0, 3.0), (3.0, 1.0), (0.5, 2.5)])
def test_rays_meet_a_cone_on_its_surface_and_nowhere_before(radii):
    """The distance from a hit to the nearest ball of the chain is 0, and along the ray before it, positive."""
    rng = np.random.default_rng(0)
    eye, start, end = np.array([2.0, -3.0, 40.0]), np.array([-6.0, 0.0, 1.0]), np.array([7.0, 4.0, 5.0])
    ray = (rng.uniform(-9, 9, (3, 4000)) - eye[:, None]).astype(np.float32) / 40
    depth, normal = meet_cone(eye, ray, start, end, radii)

    def gap(point_3xN):
        share = np.linspace(0, 1, 801)
        centre = start[:, None] + (end - start)[:, None] * share
        radius = radii[0] + (radii[1] - radii[0]) * share
        return (np.linalg.norm(point_3xN[:, :, None] - centre[:, None], axis=0) - radius).min(axis=1)

    hit = np.isfinite(depth)
    assert 0.05 < hit.mean() < 0.95
    assert np.abs(gap(eye[:, None] + depth[hit] * ray[:, hit])).max() < 0.02
    for share in (0.5, 0.9, 0.99):
        assert gap(eye[:, None] + share * depth[hit] * ray[:, hit]).min() > 0
    for far in np.linspace(20, 60, 9):
        assert gap(eye[:, None] + far * ray[:, ~hit]).min() > -0.02
    np.testing.assert_allclose(np.linalg.norm(normal[:, hit], axis=0), 1, atol=1e-4)
    assert ((normal[:, hit] * ray[:, hit]).sum(axis=0) < 1e-3).all(), "normals point away from the eye"


def test_classes_differ_in_shape_or_proportion():
    tools = [tool_of(number, "laparoscopic") for number in range(24)]
    assert [tool.kind for tool in tools[:6]] == list(KINDS)
    assert len({tool.cones for tool in tools}) == 24


def test_jaws_end_at_the_tip_when_closed_and_apart_when_open():
    def ends(opening):
        script = hand_script(1)
        pose = poses_at(dataclasses.replace(script, opening_TxM=np.full((1, 2), opening)), 0)[0]
        last = [end for cone, _, end, _, _ in cones_of(pose) if cone.part and cone.end[2] == 0]
        return np.array(last), script.tip_TxMx3[0, 0], pose.radius

    closed, tip, radius = ends(0.0)
    assert np.linalg.norm(closed - tip, axis=1).max() < 0.7 * radius
    opened, _, _ = ends(0.8)
    assert np.linalg.norm(opened[0] - opened[1]) > 3 * radius


def test_shafts_pass_through_their_ports():
    script = hand_script(3, moving=True)
    for slot, pose in poses_at(script, 2).items():
        axis, to_port = pose.axes_3x3x3[0][:, 2], script.port_Mx3[slot] - pose.origin_3x3[0]
        np.testing.assert_allclose(np.cross(axis, to_port), 0, atol=1e-9)
        assert axis @ to_port < 0
        np.testing.assert_allclose(pose.axes_3x3x3[0].T @ pose.axes_3x3x3[0], np.eye(3), atol=1e-9)


def test_every_kind_shows():
    script = hand_script(1)
    scene = build_scene(script)
    masks = set()
    for number in range(len(KINDS)):
        changed = dataclasses.replace(script, instrument_M=np.array([number, number]))
        mask = next(render(changed, scene=dataclasses.replace(scene, script=changed))).instrument_HxW
        assert (mask == 1).sum() > 100
        masks.add(mask.tobytes())
    assert len(masks) == len(KINDS)
