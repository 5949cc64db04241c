"""Features are computed once, survive interruption, and do not depend on batch, order or number of devices."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import types

import jax
import numpy as np
import pytest

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.evaluate.config import CacheConfig, DataConfig
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.features.cache import (
    ComputedFeatures,
    Encoding,
    Wanted,
    bytes_needed,
    cache_folder,
    features_of,
    file_name,
)
from surgmotion_jax.evaluate.features.windows_of_cases import Position, WindowReader, in_order
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from tests.evaluate.encoders import small_encoder
from tests.evaluate.evaluations import cholec80

DATA = DataConfig(frames=2, size=16)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    root = cholec80(tmp_path_factory.mktemp("set") / "set")
    return catalogue.get("cholec80").read(root, "official").cases["test"]


@pytest.fixture(scope="module")
def encoder():
    return small_encoder()


def encoding(encoder, kind="tokens", batch=8, **cache):
    layers = (0, 1) if kind == "layers" else ()
    return Encoding(encoder, Wanted(kind, layers), DATA, CacheConfig(batch=batch, **cache))


@pytest.mark.parametrize("kind", ["tokens", "layers", "pooled"])
def test_stored_features_are_those_computed_when_asked_for(cases, encoder, tmp_path, kind):
    stored = features_of(cases, encoding(encoder, kind), tmp_path)
    computed = ComputedFeatures(cases, encoding(encoder, kind))
    positions = [in_order(cases)[n] for n in (20, 3, 11, 0, 23, 1, 15, 8)]  # as many as are encoded together
    assert (
        stored.shape == computed.shape == {"tokens": (1, 2, 2, 48), "layers": (2, 1, 2, 2, 48), "pooled": (48,)}[kind]
    )
    np.testing.assert_array_equal(stored.rows(positions), computed.rows(positions))


def test_every_window_is_encoded_once_and_never_again(cases, encoder, tmp_path):
    first = encoding(encoder)
    features_of(cases, first, tmp_path)
    assert first.encoded == 24
    again = encoding(encoder)
    features_of(cases[::-1], again, tmp_path)
    assert again.encoded == 0
    assert bytes_needed(cases, first) == 24 * 4 * 48 * 4


def test_a_disk_without_room_for_what_is_missing_is_refused_before_a_window_is_encoded(
    cases, encoder, tmp_path, monkeypatch
):
    free = bytes_needed(cases[1:], encoding(encoder))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=free))
    whole = encoding(encoder)
    remedies = r"--cache=none, --cache=pooled with a head .* --config.cache.dtype=float16"
    with pytest.raises(ValueError, match=rf"missing take {24 * 4 * 48 * 4} bytes, {free} are free there; .*{remedies}"):
        features_of(cases, whole, tmp_path)
    assert whole.encoded == 0
    features_of(cases, encoding(encoder, dtype="float16"), tmp_path)  # half the size
    features_of(cases[:1], encoding(encoder), tmp_path)
    features_of(cases, encoding(encoder), tmp_path)  # only what is missing has to fit


def test_an_interrupted_run_keeps_whole_cases_and_goes_on(cases, encoder, tmp_path):
    class Stopped(Exception):
        pass

    class Stopping(Encoding):
        def __call__(self, batch):
            if self.encoded >= 15:
                raise Stopped
            return super().__call__(batch)

    with pytest.raises(Stopped):
        features_of(cases, Stopping(encoder, Wanted("tokens"), DATA, CacheConfig(batch=5)), tmp_path)
    (folder,) = (path for path in tmp_path.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == sorted([file_name(cases[0]), "key.json"])
    rest = encoding(encoder, batch=5)
    features = features_of(cases, rest, tmp_path)
    assert rest.encoded == 24 - 5  # all but the one batch that holds nothing else than the first case
    whole = features_of(cases, encoding(encoder, batch=5), tmp_path / "other")
    np.testing.assert_array_equal(features.rows(in_order(cases)), whole.rows(in_order(cases)))


@dataclasses.dataclass(frozen=True)
class Recording(WindowReader):
    """Notes the windows that it decodes, by case and time."""

    decoded: list[tuple[str, float]] = dataclasses.field(default_factory=list)

    def case_windows(self, case, rows=None):
        numbers = range(len(case.times_N)) if rows is None else rows
        for number, video in zip(numbers, super().case_windows(case, rows), strict=True):
            self.decoded.append((case.id, float(case.times_N[number])))
            yield video


class Placing(Encoding):
    """A row of features is the window's place in its batch, the calls are kept: what rounding may depend on."""

    def __init__(self, encoder, batch):
        super().__init__(encoder, Wanted("pooled"), DATA, CacheConfig(kind="pooled", batch=batch))
        self.reader, self.calls = Recording(DATA), []

    def __call__(self, batch):
        self.calls.append(batch.positions)
        self.encoded += len(batch.positions)
        where = np.arange(len(batch.positions), dtype=np.float32)[:, None]
        seen = batch.video_BxTxSxSx3[: len(batch.positions)].mean((1, 2, 3, 4), dtype=np.float32)[:, None]
        return np.where(np.arange(48) % 2, where, seen + len(batch.video_BxTxSxSx3) * where)


def stored_bytes(folder):
    (place,) = folder.iterdir()
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_whatever_is_missing_each_window_keeps_its_place_among_the_same_others(cases, encoder, tmp_path):
    """Cases of 7 moments in batches of 5: no border of a case is one of a batch."""
    cases = [dataclasses.replace(case, times_N=case.times_N[:7], labels={}) for case in cases]
    batches = [in_order(cases)[start : start + 5] for start in range(0, 21, 5)]
    first = Placing(encoder, 5)
    features_of(cases, first, tmp_path)
    whole = stored_bytes(tmp_path)
    assert [len(call) for call in first.calls] == [5, 5, 5, 5, 1]
    (place,) = tmp_path.iterdir()
    for missing in itertools.chain.from_iterable(itertools.combinations(range(3), count) for count in range(4)):
        for number in missing:
            (place / file_name(cases[number])).unlink()
        again = Placing(encoder, 5)
        features_of(cases, again, tmp_path)
        assert stored_bytes(tmp_path) == whole
        needed = [batch for batch in batches if any(position.case in missing for position in batch)]
        assert [list(call) for call in again.calls] == needed
        decoded = [(cases[p.case].id, float(cases[p.case].times_N[p.row])) for batch in needed for p in batch]
        assert again.reader.decoded == decoded


def test_a_run_that_was_interrupted_ends_with_the_same_bytes(cases, encoder, tmp_path):
    cases = [dataclasses.replace(case, times_N=case.times_N[:7], labels={}) for case in cases]
    features_of(cases, encoding(encoder, batch=5), tmp_path)
    whole = stored_bytes(tmp_path)
    for missing in ((1,), (0, 2)):
        for number in missing:
            (next(tmp_path.iterdir()) / file_name(cases[number])).unlink()
        features_of(cases, encoding(encoder, batch=5), tmp_path)
        assert stored_bytes(tmp_path) == whole


def test_nothing_is_encoded_to_fill_a_request_that_is_smaller_than_a_batch(cases, tmp_path):
    class Sizes(Encoding):
        def __call__(self, batch):
            sizes.append(len(batch.video_BxTxSxSx3))
            return super().__call__(batch)

    sizes: list[int] = []
    fresh = small_encoder()
    whole = Sizes(fresh, Wanted("pooled"), DATA, CacheConfig(kind="none", batch=8))
    positions = in_order(cases)
    features = features_of(cases, whole, tmp_path)
    rows = [features.rows(positions[start : start + 4]) for start in range(0, 24, 4)]
    assert (sizes, fresh.programs) == ([4] * 6, 1)
    together = features.rows(positions[:19])
    assert (sizes[6:], fresh.programs) == ([8, 8, 8], 2)  # never more than a batch, and all of a size
    np.testing.assert_allclose(np.concatenate(rows)[:19], together, atol=1e-5)


def test_eight_devices_give_the_features_of_one(cases, encoder):
    layout = MeshLayout(make_mesh(ParallelConfig(), jax.devices()))
    params = jax.device_put(encoder.params, layout.replicated)
    everywhere = FrozenEncoder(encoder.config, params, encoder.origin, layout)
    assert layout.batch_parts == 8
    positions = in_order(cases)
    one = ComputedFeatures(cases, encoding(encoder, batch=5)).rows(positions)
    eight = ComputedFeatures(cases, encoding(everywhere, batch=5)).rows(positions)
    np.testing.assert_allclose(one, eight, atol=1e-5)


def test_other_weights_windows_or_moments_are_other_files(cases, encoder, tmp_path):
    key = encoding(encoder).key
    assert cache_folder(tmp_path, key) == cache_folder(tmp_path, encoding(encoder).key)
    other_weights = Encoding(small_encoder(1), Wanted("tokens"), DATA, CacheConfig())
    other_windows = Encoding(encoder, Wanted("tokens"), dataclasses.replace(DATA, fps=2.0), CacheConfig())
    found = {cache_folder(tmp_path, e.key) for e in (encoding(encoder), other_weights, other_windows)}
    assert len(found) == 3
    fewer = dataclasses.replace(cases[0], times_N=cases[0].times_N[:-1])
    assert file_name(fewer) != file_name(cases[0])
    assert file_name(dataclasses.replace(cases[0], labels={})) == file_name(cases[0])


def test_damaged_files_are_named(cases, encoder, tmp_path):
    features_of(cases[:1], encoding(encoder), tmp_path)
    path = cache_folder(tmp_path, encoding(encoder).key) / file_name(cases[0])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"video41-.*npy: not a sound file of features"):
        features_of(cases[:1], encoding(encoder), tmp_path)
    np.save(path, np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match=r"holds \(3, 2\), expected \(8, 1, 2, 2, 48\)"):
        features_of(cases[:1], encoding(encoder), tmp_path)


def test_remote_folders_and_sizes_that_do_not_fit_are_refused(cases, encoder):
    with pytest.raises(ValueError, match="features are kept on a local disk"):
        features_of(cases, encoding(encoder), "gs://bucket/features")
    with pytest.raises(ValueError, match="17 x 17 pixels"):
        Encoding(encoder, Wanted("tokens"), dataclasses.replace(DATA, size=17), CacheConfig())


def test_half_precision_halves_the_files(cases, encoder, tmp_path):
    half = encoding(encoder, dtype="float16")
    assert 2 * bytes_needed(cases, half) == bytes_needed(cases, encoding(encoder))
    found = features_of(cases, half, tmp_path).rows([Position(0, 0)])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, ComputedFeatures(cases, encoding(encoder)).rows([Position(0, 0)]), atol=5e-3)
