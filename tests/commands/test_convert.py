"""`surgmotion convert` from outside: every family in, both formats out, refusals that leave nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from surgmotion_jax.checkpoints.errors import CheckpointMismatch
from surgmotion_jax.checkpoints.foreign import convert as conversion
from surgmotion_jax.checkpoints.foreign.safetensors_file import read_safetensors, write_safetensors
from surgmotion_jax.checkpoints.own_weights import open_own
from surgmotion_jax.checkpoints.subtree import load_subtree
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.checkpoints.weights import find_weights
from surgmotion_jax.commands import convert
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.hugging_face_names import facebook_tensors
from surgmotion_jax.models.probe_names import probe_from_facebook
from surgmotion_jax.models.reference_names import encoder_from_facebook, predictor_from_facebook
from surgmotion_jax.records import read_metrics
from tests.checkpoints import foreign_weights as fw
from tests.checkpoints import torch_files

GOLDEN = Path(__file__).parents[1] / "golden"
HEADS = ("--heads=3", "--predictor-heads=2")
CLIP = ("--crop=32", "--frames=8")
WRAPPED = "module.backbone."


def torch_file(path: Path, **sections) -> Path:
    """A file of `torch.save` with one dict of tensors per keyword; other values as they are."""
    key, content = 0, {}
    for name, value in sections.items():
        arrays = isinstance(value, dict) and all(isinstance(v, np.ndarray) for v in value.values())
        content[name] = torch_files.state_dict(value, key) if arrays else value
        key += 1000
    return torch_files.write(path, content)


def facebook_file(path: Path) -> Path:
    return torch_file(
        path,
        encoder=fw.prefixed(WRAPPED, fw.facebook_encoder(seed=0)),
        predictor=fw.prefixed(WRAPPED, fw.facebook_predictor(seed=1)),
        target_encoder=fw.prefixed(WRAPPED, fw.facebook_encoder(seed=5)),
        epoch=3,
    )


def transformers_folder(folder: Path, weights=None, **more) -> Path:
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", weights or fw.transformers_model(), {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(fw.transformers_config(**more)))
    return folder


def convert_files(*arguments) -> int:
    return convert.main([str(a) for a in arguments])


def stored(folder: Path) -> dict[str, np.ndarray]:
    checkpoint = find_weights(folder)
    top = {path.split("/")[0] for path in open_own(checkpoint).manifest.tree}
    return leaves_by_path(load_subtree(checkpoint, sorted(top)).state)


def under(place: str, tree) -> dict[str, np.ndarray]:
    return {f"{place}/{path}": leaf for path, leaf in leaves_by_path(tree).items()}


def same(got, want) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_a_facebook_checkpoint_becomes_ours_whole(tmp_path, capsys):
    source = facebook_file(tmp_path / "vitl.pt")
    assert convert_files(source, tmp_path / "out", *HEADS) == 0
    want = under("target", encoder_from_facebook(fw.facebook_encoder(seed=5), 3))
    want |= under("params/encoder", encoder_from_facebook(fw.facebook_encoder(seed=0), 3))
    want |= under("params/predictor", predictor_from_facebook(fw.facebook_predictor(seed=1), 2))
    same(stored(tmp_path / "out"), want)
    printed = capsys.readouterr().out
    assert "48 wide, 3 layers, MLP 192, patch 8, tubelet 2; 3 heads (as asked)" in printed
    assert "6 x target_encoder/module.backbone.blocks.N.attn.qkv.*" in printed
    assert "-> target/trunk/blocks/attn/qkv/*" in printed
    source_of = open_own(find_weights(tmp_path / "out")).manifest.source
    assert source_of["sha256"] in printed
    told = {entry["name"]: entry for entry in source_of["tensors"]}
    assert told["epoch"]["reason"] == "training record"
    assert told["predictor/module.backbone.mask_tokens.2"]["places"] == ["params/predictor/mask_tokens"]
    assert len(told) == 2 * len(fw.facebook_encoder()) + len(fw.facebook_predictor()) + 1


def test_the_only_encoder_of_a_file_is_the_one_that_is_loaded_by_default(tmp_path):
    source = torch_file(tmp_path / "SurgMotion.pt", encoder=fw.prefixed(WRAPPED, fw.facebook_encoder()))
    assert convert_files(source, tmp_path / "out", "--heads=3") == 0
    same(stored(tmp_path / "out"), under("target", encoder_from_facebook(fw.facebook_encoder(), 3)))


def test_a_transformers_directory_there_and_back(tmp_path):
    source = transformers_folder(tmp_path / "hub")
    assert convert_files(source, tmp_path / "ours") == 0
    assert convert_files(tmp_path / "ours", tmp_path / "back", "--to=transformers") == 0
    arrays, _ = read_safetensors(tmp_path / "back" / "model.safetensors")
    same(arrays, fw.transformers_model())
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert {name: written[name] for name in fw.transformers_config()} == fw.transformers_config()
    card = (tmp_path / "back" / "README.md").read_text()
    assert "VJEPA2Model.from_pretrained" in card
    assert json.loads((tmp_path / "back" / "conversion.json").read_text())["sha256"] in card


def test_a_classifier_there_and_back_keeps_its_labels(tmp_path):
    weights = fw.prefixed("vjepa2.", fw.transformers_model()) | fw.transformers_probe()
    labels = {str(i): f"class {i}" for i in range(fw.TINY.classes)}
    source = transformers_folder(tmp_path / "hub", weights, id2label=labels)
    assert convert_files(source, tmp_path / "ours") == 0
    probe = probe_from_facebook(fw.facebook_probe(), 3)
    got = {path: leaf for path, leaf in stored(tmp_path / "ours").items() if path.startswith("params/probe")}
    same(got, under("params/probe", probe))
    assert convert_files(tmp_path / "ours", tmp_path / "back", "--to=transformers") == 0
    arrays, _ = read_safetensors(tmp_path / "back" / "model.safetensors")
    same(arrays, weights)
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (written["architectures"], written["id2label"]) == (["VJEPA2ForVideoClassification"], labels)


def test_a_probe_alone(tmp_path, capsys):
    heads = [fw.prefixed("module.", fw.facebook_probe(seed=i)) for i in range(2)]
    source = torch_file(
        tmp_path / "probe.pt", classifiers=[torch_files.state_dict(h, 1000 * i) for i, h in enumerate(heads)]
    )
    assert convert_files(source, tmp_path / "ours") == 0
    same(stored(tmp_path / "ours"), under("params/probe", probe_from_facebook(fw.facebook_probe(seed=0), 16)))
    assert "16 heads (facebookresearch's, whatever the encoder); norm eps 1e-05" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds no encoder, and transformers loads a classifier only together"):
        convert_files(tmp_path / "ours", tmp_path / "hf", "--to=transformers")


def test_vjepa21_keeps_all_that_it_adds(tmp_path, capsys):
    """Weights and features of the 2.1 modules: tokenizers, modality embeddings, level norms, multi-level predictor."""
    golden = np.load(GOLDEN / "vjepa21_fb.npz")
    weights = {name.removeprefix("w/"): golden[name] for name in golden.files if name.startswith("w/")}
    encoder, predictor = (
        fw.prefixed("module.", {n.removeprefix(p): v for n, v in weights.items() if n.startswith(p)})
        for p in ("encoder.", "predictor.")
    )
    source = torch_file(tmp_path / "vitg.pt", target_encoder=encoder, predictor=predictor)
    assert convert_files(source, tmp_path / "ours", "--heads=2", "--predictor-heads=2") == 0
    model = open_own(find_weights(tmp_path / "ours")).model
    assert (model.v21.levels, model.v21.rope_grid, model.v21.modality, model.positions) == (4, 16, True, "rope")
    assert model.v21.context_projection
    arrays = stored(tmp_path / "ours")
    assert sum(leaf.size for leaf in arrays.values()) == sum(value.size for value in weights.values())
    target = load_subtree(find_weights(tmp_path / "ours"), ["target"]).state["target"]
    video = golden["video"].transpose(0, 2, 3, 4, 1)
    tokens = jax.jit(lambda params, x: backbone_of(model).encode(params, x).tokens)(target, video)
    np.testing.assert_allclose(tokens, golden["video_out"], rtol=0, atol=2e-5)
    assert "4 normed levels" in capsys.readouterr().out
    with pytest.raises(ValueError, match="computes 'rope_tiled' only"):
        convert_files(source, tmp_path / "hf", "--to=transformers", "--heads=2", "--predictor-heads=2")


@pytest.mark.parametrize(("flag", "seed"), [("--weights=target", 5), ("--weights=online", 0), ("", 5)])
def test_transformers_gets_one_encoder_the_target_by_default(tmp_path, flag, seed, capsys):
    source = facebook_file(tmp_path / "vitl.pt")
    assert convert_files(source, tmp_path / "hf", "--to=transformers", *HEADS, *CLIP, *([flag] if flag else [])) == 0
    arrays, _ = read_safetensors(tmp_path / "hf" / "model.safetensors")
    weights = {f"encoder.{name}": value for name, value in fw.facebook_encoder(seed=seed).items()}
    back = {name: np.asarray(tensor) for name, tensor in facebook_tensors(arrays).items()}
    same({name: value for name, value in back.items() if name.startswith("encoder.")}, weights)
    printed = capsys.readouterr().out
    other = "online encoder; --weights=online takes it" if seed else "target encoder; --weights=target takes it"
    assert f"ignored: the {other} instead" in printed
    assert "uses mask token 1, training used 0" in printed


def test_without_a_predictor_transformers_gets_a_placeholder_and_is_told(tmp_path, capsys):
    source = torch_file(tmp_path / "SurgMotion.pt", encoder=fw.prefixed(WRAPPED, fw.facebook_encoder()))
    assert convert_files(source, tmp_path / "hf", "--to=transformers", "--heads=3", "--weights=online") == 0
    arrays, _ = read_safetensors(tmp_path / "hf" / "model.safetensors")
    placeholder = {name: value for name, value in arrays.items() if name.startswith("predictor.")}
    assert len(placeholder) == 7
    assert not any(value.read().any() for value in placeholder.values())
    printed = capsys.readouterr().out
    assert "the source has no online encoder: its target encoder is taken" in printed
    assert "skip_predictor=True" in printed
    assert "trained on 64 frames of 256 pixels (assumed; --frames, --crop)" in printed


def test_other_dtypes_are_stored_as_float32_and_that_is_said(tmp_path, capsys):
    half = {name: value.astype(np.float16) for name, value in fw.facebook_encoder().items()}
    assert convert_files(torch_file(tmp_path / "half.pt", encoder=half), tmp_path / "out", "--heads=3") == 0
    assert f"{len(half)} tensors of float16 are stored as float32" in capsys.readouterr().out
    got = stored(tmp_path / "out")
    assert {leaf.dtype for leaf in got.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(got["target/norm/scale"], half["norm.weight"].astype(np.float32))


def test_a_dry_run_checks_and_tells_all_and_writes_nothing(tmp_path, capsys):
    source = facebook_file(tmp_path / "vitl.pt")
    assert convert_files(source, tmp_path / "out", *HEADS, "--dry-run") == 0
    assert "would be written" in capsys.readouterr().out
    assert [entry.name for entry in tmp_path.iterdir()] == ["vitl.pt"]


def damaged(tmp_path):
    weights = fw.facebook_encoder()
    del weights["blocks.1.norm2.bias"]
    return torch_file(tmp_path / "s.pt", encoder=weights), "blocks.1.norm2.bias"


def strangers(tmp_path):
    return torch_file(tmp_path / "s.pt", model={"conv1.weight": np.zeros((2, 2), np.float32)}), "conv1.weight"


def integers(tmp_path):
    weights = fw.facebook_encoder()
    weights["norm.bias"] = np.zeros(48, np.int64)
    return torch_file(tmp_path / "s.pt", encoder=weights), "norm.bias holds int64; weights are one of float32"


def other_config(tmp_path):
    return transformers_folder(tmp_path / "s", model_type="vjepa3"), "model_type is 'vjepa3'"


def not_there(tmp_path):
    return tmp_path / "s.pt", "no such file"


def not_finite(tmp_path):
    weights = fw.facebook_encoder()
    weights["blocks.1.norm2.bias"] = np.full_like(weights["blocks.1.norm2.bias"], np.nan)
    wanted = r"s.pt: encoder/blocks.1.norm2.bias has 48 of 48 values that are not finite, the first nan"
    return torch_file(tmp_path / "s.pt", encoder=weights), wanted


@pytest.mark.parametrize("make", [damaged, strangers, integers, other_config, not_there, not_finite])
@pytest.mark.parametrize("form", ["surgmotion", "transformers"])
def test_what_cannot_be_converted_leaves_nothing(tmp_path, make, form):
    source, message = make(tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        convert_files(source, tmp_path / "out", *HEADS, f"--to={form}")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("form", ["surgmotion", "transformers"])
def test_a_failure_while_writing_leaves_nothing(tmp_path, form, monkeypatch):
    source = facebook_file(tmp_path / "vitl.pt")
    with_progress = conversion.with_progress

    def failing(plan, say):
        arrays = dict(with_progress(plan, say).arrays)
        name = list(arrays)[-1]

        def read():
            raise OSError("the disk is gone")

        arrays[name] = type(arrays[name])(arrays[name].shape, arrays[name].dtype, (), read)
        return type(plan)(arrays, plan.entries)

    monkeypatch.setattr(conversion, "with_progress", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        convert_files(source, tmp_path / "out", *HEADS, *CLIP, f"--to={form}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["vitl.pt"]


def test_an_existing_destination_is_left_alone(tmp_path):
    source = facebook_file(tmp_path / "vitl.pt")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="exists already and is not overwritten"):
        convert_files(source, tmp_path / "out", *HEADS)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--positions=sincos",), r"model.positions is 'sincos'; transformers' VJEPA2Model computes 'rope_tiled' only"),
        (("--crop=33",), r"--crop is 33; it must be a multiple of 8"),
        (("--frames=7",), r"--frames is 7; it must be a multiple of 2"),
    ],
)
def test_what_transformers_cannot_compute_is_refused(tmp_path, flags, message):
    source = facebook_file(tmp_path / "vitl.pt")
    with pytest.raises(ValueError, match=message):
        convert_files(source, tmp_path / "hf", "--to=transformers", *HEADS, *flags)


def test_flags_that_a_checkpoint_of_ours_answers_itself_are_refused(tmp_path):
    convert_files(facebook_file(tmp_path / "vitl.pt"), tmp_path / "ours", *HEADS)
    with pytest.raises(ValueError, match=r"--heads: .* says itself what it holds"):
        convert_files(tmp_path / "ours", tmp_path / "again", "--heads=3")


def test_pretraining_refuses_weights_of_another_architecture_before_it_compiles(tmp_path, prepare):
    convert_files(facebook_file(tmp_path / "vitl.pt"), tmp_path / "ours", *HEADS)
    with pytest.raises(CheckpointMismatch, match=r"model.width: 48 in the checkpoint, 192 requested"):
        prepare(tmp_path / "workdir", f"--config.init.checkpoint={tmp_path / 'ours'}")


@pytest.mark.slow
def test_a_run_through_transformers_and_back_starts_the_same(tmp_path, run, capsys):
    """The first loss from the converted copy of a run's target and predictor is that from the run itself."""
    assert run(tmp_path / "first", "--config.run.stop_at_step=1") == 0
    convert_files(tmp_path / "first", tmp_path / "hf", "--to=transformers")
    convert_files(tmp_path / "hf", tmp_path / "ours")
    capsys.readouterr()
    losses = []
    for name, source, parts in (
        ("a", "first", ("predictor", "target")),
        ("b", "ours", ("encoder", "predictor", "target")),
    ):
        flags = (f"--config.init.checkpoint={tmp_path / source}", f"--config.init.parts={parts}")
        assert run(tmp_path / name, "--config.run.stop_at_step=1", *flags) == 0
        losses.append([r["metrics"]["loss/total"] for r in read_metrics(tmp_path / name) if r["kind"] == "train"])
    assert losses[0] == losses[1]
    printed = capsys.readouterr().out
    assert "online encoder: a copy of the checkpoint's target encoder (not asked for)" in printed
    assert "online encoder: a copy of the checkpoint's target encoder (none in the checkpoint)" in printed
    first = [r["metrics"]["loss/total"] for r in read_metrics(tmp_path / "first") if r["kind"] == "train"]
    assert first != losses[0], "else the weights made no difference"
