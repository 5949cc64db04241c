"""Fingerprints: near for the same seconds in another file, far for anything else, and harmless to share."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.corpus.fingerprint import Fingerprint, distance, hashes
from surgmotion_jax.corpus.lists import KIND, ListedVideo, read_list, write_list
from surgmotion_jax.corpus.observe import WHOLE, glance, lit
from tests.corpus.scenes import letterboxed, resized, scene

FPS = 8.0
OPERATION = scene(0, 12, FPS)


def hashed(video_NxHxWx3: np.ndarray, fps: float = FPS) -> tuple[np.ndarray, np.ndarray]:
    small = np.stack([glance(picture).small_SxSx3 for picture in video_NxHxWx3])
    return hashes(small, fps, lit(small))


def tinted(video: np.ndarray) -> np.ndarray:
    return (255 * (video / 255.0) ** 0.7 * np.array([1, 0.9, 0.8])).astype(np.uint8)


def noisy(video: np.ndarray) -> np.ndarray:
    return np.clip(video + np.random.default_rng(0).normal(0, 12, video.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("most", "change"),
    [
        (9, lambda video: resized(video, (45, 62))),
        (6, lambda video: letterboxed(video, 12)),
        (24, lambda video: resized(video, (64, 80), crop=0.03)),
        (12, tinted),
        (3, lambda video: video // 2),
        (12, noisy),
    ],
    ids=["resized", "letterboxed", "cropped", "tinted", "dark", "noisy"],
)
def test_a_copy_stays_near(change, most):
    one, strong = hashed(OPERATION)
    other, _ = hashed(change(OPERATION))
    assert strong.all()
    assert distance(one, other).mean() <= most


def test_half_the_pictures_make_the_same_seconds():
    assert distance(hashed(OPERATION)[0], hashed(OPERATION[::2], FPS / 2)[0]).max() <= 12


def test_other_operations_are_far():
    prints = np.concatenate([hashed(scene(seed, 6, FPS))[0] for seed in range(8)])
    apart = distance(prints[:, None], prints[None])
    owner = np.arange(len(prints)) // 6
    assert apart[owner[:, None] != owner[None]].min() > 40
    assert apart.diagonal().max() == 0


def test_what_shows_nothing_is_weak():
    flat = np.full((16, 64, 64, 3), 90, np.uint8)
    assert not hashes(flat, 8.0, WHOLE)[1].any()
    assert not hashes(flat[:0], 8.0, WHOLE)[1].any()


def test_only_whole_seconds_count_unless_there_is_no_other():
    small = np.zeros((27, 64, 64, 3), np.uint8)
    assert len(hashes(small, 8.0, WHOLE)[0]) == 3
    assert len(hashes(small[:5], 8.0, WHOLE)[0]) == 1


def listed() -> ListedVideo:
    words, strong = hashed(OPERATION)
    strong[3] = False
    return ListedVideo("test", Fingerprint("cholec80", "video47", words, strong, 2.0))


def test_a_list_comes_back(tmp_path):
    write_list(tmp_path / "list.json", [listed()])
    (back,) = read_list(tmp_path / "list.json")
    assert back.title == "cholec80 test video47"
    assert np.array_equal(back.seconds.strong_T, listed().seconds.strong_T)
    same = distance(back.seconds.hash_TxW, listed().seconds.hash_TxW)
    assert same[back.seconds.strong_T].max() == 0
    assert back.seconds.first_s == 2.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"kind": "other"}', "found no list of fingerprints"),
        (f'{{"kind": "{KIND}", "version": 2, "bits": 128}}', "version 2 of 128 bits"),
        (f'{{"kind": "{KIND}", "version": 1, "bits": 128}}', "a row is no video"),
        (
            f'{{"kind": "{KIND}", "version": 1, "bits": 128, "videos": [{{"case": "a", "dataset": "b", "split": "", '
            '"first_s": 0, "seconds": ["00"]}]}',
            "'a' has 1 seconds",
        ),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, text, told):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ValueError, match=rf"list.json: .*{told}"):
        read_list(tmp_path / "list.json")
