"""What a picture shows: where heat, outlines and grey lie, and colours that depend on geometry alone."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.report import pictures

_SIZE = (64, 64, 3)


@pytest.fixture
def picture_hxwx3() -> np.ndarray:
    return np.random.default_rng(0).integers(40, 200, _SIZE, dtype=np.uint8)


def _features(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    scale_D = np.array([5.0, 3.0, 2.0] + [0.1] * 9)
    return random.gamma(1.5, 1.0, (2, 3, 4, 5, 12)) * scale_D


def test_colours_do_not_depend_on_the_axes_offset_or_scale_of_the_features() -> None:
    features = _features()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))
    moved = -3.0 * (features @ rotation) + 7.0
    mirrored = 3.0 * features @ rotation
    colours = pictures.feature_colours(features)
    assert colours.std() > 0.1
    np.testing.assert_allclose(pictures.feature_colours(mirrored), colours, atol=1e-6)
    # A point reflection turns every third moment, and with it every sign, around: the picture stays.
    assert np.abs(moved - mirrored).max() > 1
    np.testing.assert_allclose(pictures.feature_colours(-features), colours, atol=1e-6)
    np.testing.assert_allclose(pictures.feature_colours(moved), colours, atol=1e-6)


def test_colours_follow_their_clip_when_clips_are_reordered() -> None:
    features = _features()
    np.testing.assert_allclose(
        pictures.feature_colours(features[::-1]), pictures.feature_colours(features)[::-1], atol=1e-9
    )


def test_principal_axes_are_orthonormal_and_of_falling_variance() -> None:
    feature_NxD = _features().reshape(-1, 12)
    mean_D, basis_DxK = pictures.principal_axes(feature_NxD)
    np.testing.assert_allclose(basis_DxK.T @ basis_DxK, np.eye(3), atol=1e-12)
    deviation_K = ((feature_NxD - mean_D) @ basis_DxK).std(axis=0)
    assert deviation_K[0] > deviation_K[1] > deviation_K[2]
    spectrum = np.linalg.svd(feature_NxD - mean_D, compute_uv=False)
    np.testing.assert_allclose(deviation_K, spectrum[:3] / np.sqrt(len(feature_NxD)), rtol=1e-9)


def test_tokens_outside_the_field_of_view_do_not_shape_the_basis() -> None:
    features, fov = _features(), np.ones((2, 4, 5), bool)
    fov[:, 0] = False
    wild = features.copy()
    wild[:, :, 0] += 100 * np.random.default_rng(2).normal(size=wild[:, :, 0].shape)
    inside = pictures.feature_colours(features, fov)[:, :, 1:]
    np.testing.assert_allclose(pictures.feature_colours(wild, fov)[:, :, 1:], inside, atol=1e-9)
    assert np.abs(pictures.feature_colours(wild)[:, :, 1:] - inside).max() > 0.1


@pytest.mark.parametrize("width", [1, 2, 12])
def test_broken_or_few_features_still_have_colours(width: int) -> None:
    features = _features()[..., :width].copy()
    features[0, 0, 0, 0, 0] = np.nan
    colours = pictures.feature_colours(features)
    assert np.isfinite(colours).all()
    np.testing.assert_array_equal(colours[0, 0, 0, 0], 0.5)
    assert (pictures.feature_colours(np.full_like(features, np.inf)) == 0.5).all()


def test_masked_cells_are_grey_and_the_others_untouched(picture_hxwx3: np.ndarray) -> None:
    masked = np.zeros((4, 4), bool)
    masked[1, 2] = True
    dimmed = pictures.dim(picture_hxwx3, masked)
    where = pictures.enlarge_cells(masked, _SIZE)
    assert where.sum() == 16 * 16
    assert where[16:32, 32:48].all()
    np.testing.assert_array_equal(dimmed[~where], picture_hxwx3[~where])
    assert np.abs(dimmed[where].astype(int) - pictures.MASKED_COLOUR).max() <= 0.14 * 160 + 1


def test_heat_lies_inside_the_field_of_view_only(picture_hxwx3: np.ndarray) -> None:
    fov = np.zeros((4, 4), bool)
    fov[1:3, 1:3] = True
    heated = pictures.lay_heat(picture_hxwx3, np.full((4, 4), 0.7), fov)
    changed = (heated != picture_hxwx3).any(axis=-1)
    assert not changed[~pictures.enlarge_cells(fov, _SIZE)].any()
    assert changed[pictures.enlarge_cells(fov, _SIZE)].mean() > 0.9


def test_outlines_follow_the_rim(picture_hxwx3: np.ndarray) -> None:
    inside = np.zeros((4, 4), bool)
    inside[1:3, 1:3] = True
    outlined = pictures.outline_region(picture_hxwx3, inside, width=2)
    assert (outlined[16:18, 16:48] == 255).all()
    np.testing.assert_array_equal(outlined[18:46, 18:46], picture_hxwx3[18:46, 18:46])
    np.testing.assert_array_equal(pictures.outline_region(picture_hxwx3, np.ones((4, 4), bool)), picture_hxwx3)
    boxed = pictures.outline_cells(picture_hxwx3, inside)
    changed = (boxed != picture_hxwx3).any(axis=-1)
    assert changed[16, 20:28].all()
    assert not changed[22:26, 22:26].any()


def test_lightness_of_the_heat_rises_all_the_way() -> None:
    lightness = pictures.heat_colours(np.linspace(0, 1, 50)) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()


def test_spread_uses_the_range_of_its_region() -> None:
    score = np.array([1.0, 2.0, 3.0, 90.0, np.nan])
    level = pictures.spread(score, np.array([True, True, True, False, True]))
    np.testing.assert_allclose(level, [0, 0.5, 1, 1, 0])
    assert (pictures.spread(np.full(4, 2.0), np.ones(4, bool)) == 0).all()


@pytest.mark.parametrize(
    ("frames", "tubelet", "expected"), [(16, 2, list(range(0, 16, 2))), (4, 2, [0, 2]), (2, 2, [0])]
)
def test_shown_frames(frames: int, tubelet: int, expected: list[int]) -> None:
    assert pictures.shown_frames(frames, tubelet) == expected


def test_long_clips_show_first_and_last_tubelet_once_each() -> None:
    shown = pictures.shown_frames(64, 2)
    assert (shown[0], shown[-1], len(set(shown))) == (0, 62, 8)


def test_jpeg_opens_again_and_keeps_to_its_budget(picture_hxwx3: np.ndarray) -> None:
    smooth = pictures.colour_picture(np.random.default_rng(0).random((4, 4, 3)), _SIZE)
    uri = pictures.jpeg_uri(smooth, 20_000)
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    opened = np.asarray(Image.open(io.BytesIO(data)))
    assert np.abs(opened.astype(int) - smooth).mean() < 4
    assert len(pictures.jpeg_uri(picture_hxwx3, 2_000)) < len(pictures.jpeg_uri(picture_hxwx3, 20_000))
