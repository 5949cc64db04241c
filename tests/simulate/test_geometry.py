"""The camera: what its rays and its projection say agree, and follow the conventions of the contract."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from surgmotion_jax.simulate.geometry import camera_at, looked_at, pixel_rays, project, rotation
from surgmotion_jax.simulate.surface import build_surface, look_up, meet, motion_at, where
from tests.simulate.hand_script import hand_script


def looking(position=(0, 0, 100), angles=(0, 0, 0), **config):
    script = hand_script(1, **config)
    return dataclasses.replace(
        script, camera_position_Tx3=np.array([position], float), camera_angles_Tx3=np.array([angles], float)
    )


def seen(script, *points):
    x, y, depth = project(camera_at(script, 0), np.array(points, float).T)
    return np.round(np.stack([x, y, depth], axis=1), 6)


def test_a_level_camera_sees_x_to_the_right_y_up_and_z_towards_it():
    script = looking()
    middle, per_mm = 47.5, script.focal * 96 / 100
    expected = [[middle, middle, 100], [middle + per_mm, middle, 100], [middle, middle - per_mm, 100]]
    np.testing.assert_allclose(seen(script, (0, 0, 0), (1, 0, 0), (0, 1, 0)), expected, atol=1e-5)
    assert seen(script, (0, 0, 10))[0, 2] == 90


def test_pitch_looks_up_yaw_looks_left_and_roll_turns_the_picture_clockwise():
    """Right-handed turns about x, y and the backward axis: the scene moves down, right and clockwise."""
    assert seen(looking(angles=(0.1, 0, 0)), (0, 0, 0))[0, 1] > 50
    assert seen(looking(angles=(0, 0.1, 0)), (0, 0, 0))[0, 0] > 50
    up = seen(looking(angles=(0, 0, 0.1)), (0, 10, 0))[0]
    assert up[0] > 48


def test_axes_are_a_rotation_in_the_stated_order():
    def turn(axis, angle):
        cos, sin = np.cos(angle), np.sin(angle)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        matrix = np.eye(3)
        matrix[i, i] = matrix[j, j] = cos
        matrix[i, j], matrix[j, i] = -sin, sin
        return matrix

    np.testing.assert_allclose(rotation(0.3, -0.2, 0.5), turn(0, 0.3) @ turn(1, -0.2) @ turn(2, 0.5), atol=1e-12)


def test_a_point_on_a_pixels_ray_projects_to_that_pixel():
    camera = camera_at(looking(position=(3, -40, 70), angles=(0.4, 0.1, -0.3)), 0)
    depth = np.linspace(20, 120, 96 * 96)
    point = camera.position_3[:, None] + depth * pixel_rays(camera).astype(float)
    x, y, back = project(camera, point)
    np.testing.assert_allclose(x.reshape(96, 96), np.broadcast_to(np.arange(96), (96, 96)), atol=1e-3)
    np.testing.assert_allclose(y.reshape(96, 96), np.broadcast_to(np.arange(96)[:, None], (96, 96)), atol=1e-3)
    np.testing.assert_allclose(back, depth, rtol=1e-5)


def test_looked_at_is_what_the_middle_of_the_picture_shows():
    script = looking(position=(3, -40, 70), angles=(0.4, 0.1, -0.3))
    np.testing.assert_allclose(seen(script, (*looked_at(script)[0], 0))[0, :2], 47.5, atol=1e-5)


@pytest.mark.parametrize("specialty", ["laparoscopic", "endoscopic", "open", "microscopic"])
def test_rays_meet_the_tissue_where_its_material_points_are(specialty):
    """Depth and material point agree: the material point, displaced, lies on the ray at that depth."""
    script = hand_script(3, moving=True, specialty=specialty)
    surface = build_surface(script, np.random.default_rng(0))
    camera, motion = camera_at(script, 2), motion_at(surface, script, 2)
    ray = pixel_rays(camera)
    depth, x, y = meet(surface, motion, camera, ray)
    look, rest = look_up(surface, x, y)
    on_ray = camera.position_3[:, None] + depth * ray
    apart = np.linalg.norm(where(motion, x, y, rest, look[:, 3]) - on_ray, axis=0) / script.view
    assert np.median(apart) < 1e-4
    assert np.quantile(apart, 0.99) < 2e-3


def test_the_tissue_passes_through_the_target_sites():
    script = hand_script(1)
    surface = build_surface(script, np.random.default_rng(0))
    x, y, z = script.target_site_Kx3.T.astype(np.float32)
    np.testing.assert_allclose(look_up(surface, x, y)[1], z, atol=0.01 * script.view)
