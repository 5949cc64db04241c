"""Files of weights: the kind is found by content, tables of tensors are told from the rest, nothing is copied."""

import hashlib
import json

import numpy as np
import pytest
import torch_files
from torch_files import Tensor

from surgmotion_jax.checkpoints.errors import WeightFileRefused
from surgmotion_jax.checkpoints.foreign import weight_files
from surgmotion_jax.checkpoints.foreign.safetensors_file import write_safetensors
from surgmotion_jax.checkpoints.foreign.weight_files import open_weights

GRID = np.arange(6, dtype=np.float32).reshape(2, 3)
MOMENTS = {"exp_avg": Tensor(GRID, "moments")}


def table(*names):
    return torch_files.state_dict({name: GRID + i for i, name in enumerate(names)})


def names(weights):
    return {section: list(tensors) for section, tensors in weights.sections.items()}


def test_a_training_checkpoint_in_the_facebookresearch_style(tmp_path):
    optimiser = {"state": {0: MOMENTS, 1: MOMENTS}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]}
    saved = {
        "encoder": table("module.backbone.norm.weight", "module.backbone.norm.bias"),
        "predictor": table("module.backbone.mask_tokens.0"),
        "target_encoder": table("module.backbone.norm.weight"),
        "opt": optimiser,
        "scaler": None,
        "epoch": 12,
        "lr": 6.25e-4,
    }
    file = torch_files.write(tmp_path / "vitl.pt", saved)
    weights = open_weights(str(file))
    assert names(weights) == {
        "encoder": ["module.backbone.norm.weight", "module.backbone.norm.bias"],
        "predictor": ["module.backbone.mask_tokens.0"],
        "target_encoder": ["module.backbone.norm.weight"],
    }
    assert weights.extras == {
        "opt.state": "2 entries whose keys are no text, as in optimiser state; not read",
        "opt.param_groups": "[{'lr': 0.001, 'params': [0, 1]}]",
        "scaler": "None",
        "epoch": "12",
        "lr": "0.000625",
    }
    tensor = weights.sections["encoder"]["module.backbone.norm.bias"]
    assert (tensor.name, tensor.shape, tensor.dtype, tensor.nbytes) == (
        "module.backbone.norm.bias",
        (2, 3),
        np.float32,
        24,
    )
    np.testing.assert_array_equal(tensor.read(), GRID + 1)
    assert not tensor.read().flags.owndata
    assert (weights.path, weights.format) == (file, "torch")
    assert weights.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_flat_state_dict_and_probes(tmp_path):
    assert names(open_weights(torch_files.write(tmp_path / "a", table("norm.weight", "b")))) == {
        "": ["norm.weight", "b"]
    }
    probes = {"classifiers": [table("module.linear.weight"), table("module.linear.weight")], "epoch": 1}
    assert names(open_weights(torch_files.write(tmp_path / "b", probes))) == {
        "classifiers.0": ["module.linear.weight"],
        "classifiers.1": ["module.linear.weight"],
    }


def test_safetensors_under_any_name(tmp_path):
    file = tmp_path / "weights.pt"
    write_safetensors(file, {"norm.weight": GRID}, {"format": "pt"})
    weights = open_weights(file)
    assert (weights.format, names(weights), weights.extras) == ("safetensors", {"": ["norm.weight"]}, {"format": "pt"})
    np.testing.assert_array_equal(weights.sections[""]["norm.weight"].read(), GRID)


def shards(folder):
    write_safetensors(folder / "model-1-of-2.safetensors", {"a": GRID}, {})
    write_safetensors(folder / "model-2-of-2.safetensors", {"b": GRID + 1, "c": GRID + 2}, {})
    places = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors", "c": "model-2-of-2.safetensors"}
    return list_shards(folder, places)


def list_shards(folder, places):
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 72}, "weight_map": places}))
    return index


def test_shards_are_one_table_opened_by_directory_or_index(tmp_path):
    index = shards(tmp_path)
    for path in (tmp_path, index):
        weights = open_weights(path)
        assert (weights.path, names(weights)) == (index, {"": ["a", "b", "c"]})
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(tmp_path.iterdir())]
    assert len(lines) == 3
    assert weights.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_directory_with_one_file(tmp_path):
    torch_files.write(tmp_path / "pytorch_model.bin", table("a"))
    assert open_weights(tmp_path).format == "torch"
    write_safetensors(tmp_path / "model.safetensors", {"a": GRID}, {})
    assert open_weights(tmp_path).format == "safetensors"


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (
            {"a": "model-1-of-2.safetensors", "d": "model-2-of-2.safetensors"},
            "tensor 'b' is listed in None and found in",
        ),
        ({"a": "model-2-of-2.safetensors"}, "tensor 'a' is listed in model-2-of-2.safetensors and found in None"),
        ({"a": "../model.safetensors"}, "the shard '../model.safetensors' is not a file beside it"),
        ({"a": "/etc/passwd"}, "the shard '/etc/passwd' is not a file beside it"),
        ({"a": "model-3-of-2.safetensors"}, "the shard 'model-3-of-2.safetensors' is not a file beside it"),
        ({}, "no weight_map, so this is no index"),
    ],
)
def test_an_index_must_list_what_is_there(places, message, tmp_path):
    shards(tmp_path)
    list_shards(tmp_path, places)
    with pytest.raises(WeightFileRefused, match=message):
        open_weights(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    shards(tmp_path)
    write_safetensors(tmp_path / "model-2-of-2.safetensors", {"a": GRID}, {})
    with pytest.raises(WeightFileRefused, match=r"2-of-2.safetensors: tensor 'a' is in model-1-of-2.safetensors too"):
        open_weights(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epoch": 3}, r"it holds no table of tensors, only \{'epoch': 3\}"),
        ("words", "it holds no table of tensors, only words"),
        ({0: MOMENTS}, "it holds no table of tensors"),
        (Tensor(GRID, "0"), "it holds a single tensor; a table from name to tensor is needed"),
        ({"a.b": table("w"), "a": {"b": table("w")}}, "two tensors are called a.b.w"),
    ],
)
def test_a_value_without_a_table_of_tensors_is_refused(value, message, tmp_path):
    with pytest.raises(WeightFileRefused, match=message):
        open_weights(torch_files.write(tmp_path / "x.pt", value))


# A dict that holds itself, and lists each of which holds the one before four times: 4^12 values in a few bytes.
INSIDE_ITSELF = b"}q\x00" + torch_files.encode("again") + b"h\x00s"
DOUBLING = b"]q\x000" + b"".join(b"](h%ch%ch%ch%ceq%c0" % (i, i, i, i, i + 1) for i in range(12)) + b"h\x0c"


@pytest.mark.parametrize("opcodes", [INSIDE_ITSELF, DOUBLING], ids=["inside itself", "doubling"])
def test_values_nested_without_end_are_refused(opcodes, tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "_MAX_VALUES", 10_000)
    file = torch_files.write(tmp_path / "x.pt", None, pickle=b"\x80\x02" + opcodes + b".")
    with pytest.raises(WeightFileRefused, match="x.pt: values nested deeper than 16, or more than 10000 of them, at"):
        open_weights(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", r"a bare pickle.*torch.save\(torch.load\(OLD"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer.*git lfs pull"),
        (
            b"<!doctype html>",
            "neither a zip file of torch.save nor safetensors .its first bytes are b'<!doctype html>'",
        ),
        (b"", "neither a zip file of torch.save nor safetensors"),
        (b'{"a": 1}', "no weight_map"),
        (b'{"a"', "not valid JSON"),
    ],
)
def test_other_files_are_named(content, message, tmp_path):
    file = tmp_path / "model.pt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"model.pt:.*{message}"):
        open_weights(file)


def test_missing_remote_and_empty_places_are_named(tmp_path):
    with pytest.raises(WeightFileRefused, match="x.pt: no such file"):
        open_weights(tmp_path / "x.pt")
    with pytest.raises(WeightFileRefused, match="gs://bucket/x.pt: .*needs a local file"):
        open_weights("gs://bucket/x.pt")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightFileRefused, match=r"none of model.safetensors.index.json, .*; it holds config.json"):
        open_weights(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", {}, {})
    with pytest.raises(WeightFileRefused, match="it holds no tensor"):
        open_weights(tmp_path)
