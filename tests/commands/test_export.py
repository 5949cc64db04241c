"""`surgmotion export`: the program runs without this package, and is published only if it is right."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from surgmotion_jax.commands import export as command
from surgmotion_jax.evaluate.encoder import exported
from surgmotion_jax.evaluate.encoder.exported import ExportSettings, export_encoder, load_exported
from tests.evaluate.encoders import small_encoder

SETTINGS = ExportSettings(4, 16, ("cpu", "tpu"))


@pytest.fixture(scope="module")
def encoder():
    return small_encoder()


@pytest.fixture(scope="module")
def video_BxTxHxWx3():
    return np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16, 3), dtype=np.uint8)


def test_the_command_writes_a_program_that_jax_alone_can_run(tmp_path, capsys, encoder, video_BxTxHxWx3, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "load_encoder", lambda *names, **settings: asked.append((names, settings)) or encoder)
    path = tmp_path / "encoder.stablehlo"
    flags = ["--size=16", "--frames=4", "--platforms=cpu,cuda,tpu", "--weights=online", "--dtype=bfloat16"]
    assert command.main(["runs/tiny", str(path), *flags]) == 0
    one_device = jax.local_devices()[:1]
    assert asked == [
        (("runs/tiny",), {"weights": "online", "dtype": "bfloat16", "attention": "xla", "devices": one_device})
    ]
    assert "relative error" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["encoder.stablehlo", "encoder.stablehlo.json"]
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    np.testing.assert_allclose(program.call(video_BxTxHxWx3), encoder(video_BxTxHxWx3), atol=2e-5)


@pytest.mark.parametrize("arguments", [False, True])
def test_loaded_back_it_takes_any_number_of_clips(tmp_path, encoder, video_BxTxHxWx3, arguments):
    path = tmp_path / "e.stablehlo"
    told = export_encoder(encoder, path, ExportSettings(4, 16, ("cpu",), arguments))
    assert told == json.loads((tmp_path / "e.stablehlo.json").read_text())
    assert told["input"]["shape"] == ["batch", 4, 16, 16, 3]
    assert told["output"]["shape"] == ["batch", 2, 2, 2, 48]
    assert told["checkpoint"]["digest"] == encoder.origin.digest
    assert told["checked"]["relative_error"] < 1e-4
    assert (tmp_path / "e.stablehlo.npz").exists() == arguments
    assert (path.stat().st_size < 200_000) == arguments  # 82,128 weights of four bytes
    encode = load_exported(path)
    for clips in (video_BxTxHxWx3, video_BxTxHxWx3[:2]):
        np.testing.assert_allclose(encode(clips), encoder(clips), atol=2e-5)


def test_a_program_that_gives_something_else_is_not_published(tmp_path, encoder, monkeypatch):
    other = small_encoder(1)
    program = exported.serialise(other, other.params, SETTINGS)
    monkeypatch.setattr(exported, "serialise", lambda *_: program)
    with pytest.raises(ValueError, match=r"differs from the direct call by .* allowed is 0.0001; nothing was written"):
        export_encoder(encoder, tmp_path / "e.stablehlo", SETTINGS)
    assert not list(tmp_path.iterdir())


def test_files_that_do_not_belong_together_are_refused(tmp_path, encoder):
    path = tmp_path / "e.stablehlo"
    export_encoder(encoder, path, ExportSettings(4, 16, ("cpu",), True))
    weights = tmp_path / "e.stablehlo.npz"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"e.stablehlo.npz: not the file"):
        load_exported(path)
    path.write_bytes(path.read_bytes() + b"?")
    with pytest.raises(ValueError, match=r"e.stablehlo: not the file"):
        load_exported(path)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"platforms": ("cpu", "gpu")}, "platforms is 'gpu'; it must be one of cpu, cuda, rocm, tpu"),
        ({"platforms": ()}, "platforms is empty"),
        ({"platforms": ("tpu",)}, "this machine has cpu, so the program could not be checked; add cpu"),
        ({"frames": 3}, "3 frames"),
        ({"size": 20}, "20 x 20 pixels"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, encoder, settings, match):
    with pytest.raises(ValueError, match=match):
        export_encoder(encoder, tmp_path / "e", ExportSettings(**{"frames": 4, "size": 16} | settings))
    assert not list(tmp_path.iterdir())


def test_weights_above_the_limit_of_the_format_are_refused(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(exported, "MOST_INSIDE", 1000)
    with pytest.raises(ValueError, match="holds at most 2 GB; give --weights-as-arguments"):
        export_encoder(encoder, tmp_path / "e", SETTINGS)
