"""The checksums of Matroska files: every wrong bit of a cluster is found, wherever its packets are met."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.matroska_sums import ClusterSums
from surgmotion_jax.data.media import UnreadableVideo
from surgmotion_jax.simulate.number_strip import paint_number
from tests.data.recordings import RATE, Storage, write

FRAMES = 60
CLUSTER = bytes.fromhex("1f43b675")
STORED = Storage(options={"g": "20", "bf": "0"}, container={"cluster_time_limit": "790"})


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [paint_number(np.full((64, 96, 3), 90, np.uint8), number) for number in range(FRAMES)]
    return write(tmp_path_factory.mktemp("sums") / "sound.mkv", pictures, STORED)


def _starts(data: bytes) -> list[int]:
    found = [data.find(CLUSTER, 200)]
    while (following := data.find(CLUSTER, found[-1] + 1)) >= 0:
        found.append(following)
    return found


def _with_a_bit_flipped(data: bytes, path: Path, place: int) -> Path:
    changed = bytearray(data)
    changed[place] ^= 1
    path.write_bytes(changed)
    return path


def _misses(path: Path, backwards: bool = False) -> list[bool]:
    """By packet, whether its cluster is wrong."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        positions = [packet.pos for packet in container.demux(stream) if packet.size]
        with ClusterSums.of(container, stream) as sums:
            assert sums is not None
            found = [sums.misses(position) for position in (positions[::-1] if backwards else positions)]
    return found[::-1] if backwards else found


def test_a_sound_file_has_several_clusters_and_none_is_wrong(sound: Path):
    assert len(_starts(sound.read_bytes())) == 3
    assert not any(_misses(sound))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("place", [30, 200, -1])
def test_one_bit_condemns_its_cluster_alone(tmp_path: Path, sound: Path, place: int, backwards: bool):
    data = sound.read_bytes()
    _, second, third = _starts(data)
    damaged = _with_a_bit_flipped(data, tmp_path / "x.mkv", (third if place < 0 else second) + place)
    assert _misses(damaged, backwards) == [20 <= number < 40 for number in range(FRAMES)]


def test_a_cluster_whose_head_is_damaged_is_wrong_and_the_next_one_is_found(tmp_path: Path, sound: Path):
    data = sound.read_bytes()
    second = _starts(data)[1]
    found = _misses(_with_a_bit_flipped(data, tmp_path / "x.mkv", second + 1))
    # FFmpeg reads none of its packets, or some that it finds inside; those of the others are sound.
    assert len(found) >= FRAMES - 20
    assert not any(found[:20])
    assert not any(found[-20:])


def test_files_without_sums_are_read_as_they_were(tmp_path: Path, sound: Path):
    data = sound.read_bytes()
    for start in _starts(data):
        head = data.find(b"\xbf\x84", start)
        data = data[:head] + b"\xec" + data[head + 1 :]  # nothing, of the same length
    path = tmp_path / "x.mkv"
    path.write_bytes(data)
    with av.open(str(path)) as container, ClusterSums.of(container, container.streams.video[0]) as sums:
        assert sums is None
    times = [number / RATE for number in range(0, FRAMES, 7)]
    np.testing.assert_array_equal(read_frames(str(path), times), read_frames(str(sound), times))


def test_frames_of_a_wrong_cluster_are_refused_and_those_behind_it_served(tmp_path: Path, sound: Path):
    data = sound.read_bytes()
    damaged = _with_a_bit_flipped(data, tmp_path / "x.mkv", _starts(data)[2] - 2)
    info, behind = probe(str(damaged)), [45 / RATE, 50 / RATE]
    for times in ([0.0], [19 / RATE], behind, [0.0, *behind]):
        np.testing.assert_array_equal(read_frames(str(damaged), times, info=info), read_frames(str(sound), times))
    for number in (20, 25, 39):
        with pytest.raises(UnreadableVideo, match="damaged"):
            read_frames(str(damaged), [number / RATE], info=info)
