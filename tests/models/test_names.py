"""Names of the releases: every direction, every family, lazily and all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.models.name_rules import Deferred, nested, read_all
from surgmotion_jax.models.probe_names import (
    facebook_probe_tensors,
    hugging_face_probe_tensors,
    probe_from_facebook,
    probe_leaves,
    probe_tensors,
    probe_to_facebook,
)
from surgmotion_jax.models.reference_names import (
    encoder_from_facebook,
    encoder_leaves,
    encoder_tensors,
    encoder_to_facebook,
    facebook_names,
    facebook_tensors,
    hugging_face_names,
    hugging_face_tensors,
    predictor_leaves,
    predictor_tensors,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def stored(file):
    arrays = np.load(GOLDEN / file)
    return {k.removeprefix("w/"): arrays[k] for k in arrays.files if k.startswith("w/")}


@pytest.fixture(scope="module")
def core():
    return stored("core_hf.npz")


@pytest.fixture(scope="module")
def head():
    return stored("classifier_hf.npz")


def same(got, want):
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert tuple(got[name].shape) == value.shape, name
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_transformers_names_round_trip(core):
    same(hugging_face_names(facebook_names(core)), core)


def test_both_steps_can_be_chained_without_reading(core):
    class Untouchable:
        """A tensor that may be looked at, not read."""

        def __init__(self, array):
            self.shape, self.dtype = array.shape, array.dtype

        def __array__(self, dtype=None, copy=None):
            raise AssertionError("read")

    blind = facebook_tensors({name: Untouchable(value) for name, value in core.items()})
    leaves = encoder_leaves(blind, 3, "encoder.") | predictor_leaves(blind, 2, "predictor.")
    assert leaves["trunk/blocks/attn/qkv/kernel"].shape == (2, 32, 3, 2, 16)
    assert leaves["patch_embed/kernel"].dtype == np.float32
    with pytest.raises(AssertionError, match="read"):
        leaves["norm/scale"]()


def test_a_leaf_reads_its_own_tensors_and_no_others(core):
    reads = []

    class Counted:
        def __init__(self, name, array):
            self.name, self.array, self.shape, self.dtype = name, array, array.shape, array.dtype

        def __array__(self, dtype=None, copy=None):
            reads.append(self.name)
            return self.array

    leaves = encoder_leaves(facebook_tensors({n: Counted(n, a) for n, a in core.items()}), 3, "encoder.")
    bias = leaves["trunk/blocks/attn/qkv/bias"]
    want = [f"encoder.layer.{i}.attention.{p}.bias" for i in range(3) for p in ("query", "key", "value")]
    assert bias.sources == tuple(want)
    bias()
    assert reads == want
    origins = [s for leaf in leaves.values() for s in leaf.sources]
    assert sorted(origins) == sorted(n for n in core if n.startswith("encoder."))


@pytest.mark.parametrize(("file", "heads", "patch"), [("core_hf.npz", (3, 2), 8), ("vjepa21_fb.npz", (2, 2), 16)])
def test_facebookresearch_names_round_trip(file, heads, patch):
    weights = facebook_names(stored(file))
    encoder = nested(encoder_leaves(weights, heads[0], "encoder."))
    predictor = nested(predictor_leaves(weights, heads[1], "predictor."))
    back = encoder_tensors(encoder, patch, 2, "encoder.") | predictor_tensors(predictor, "predictor.")
    same(back, weights)
    same(read_all(back), weights)


def test_vjepa21_parts_arrive(core):
    encoder = encoder_leaves(stored("vjepa21_fb.npz"), 2, "encoder.")
    assert encoder["norms/scale"].shape == (4, 24)
    assert encoder["image_embed/kernel"].shape == (16 * 16 * 3, 24)
    predictor = predictor_leaves(stored("vjepa21_fb.npz"), 2, "predictor.")
    assert {"embed/fc1/kernel", "embed/fc2/kernel", "context_proj/kernel", "image_modality"} <= predictor.keys()
    plain = encoder_leaves(facebook_tensors(core), 3, "encoder.")
    assert not {"norms/scale", "image_embed/kernel", "video_modality"} & plain.keys()


def test_probe_names_round_trip(head):
    facebook = facebook_probe_tensors(head)
    assert facebook["pooler.cross_attention_block.xattn.kv.weight"].shape == (96, 48)
    params = probe_from_facebook(facebook, 3)
    assert params["cross"]["kv"]["kernel"].shape == (48, 2, 3, 16)
    same(hugging_face_probe_tensors(probe_tensors(params)), head)
    same(probe_to_facebook(params), read_all(facebook))


def test_a_probe_without_block_or_self_attention_round_trips(head):
    facebook = read_all(facebook_probe_tensors(head))
    cross = "pooler.cross_attention_block."
    bare = {n: a for n, a in facebook.items() if not n.startswith(("pooler.blocks.", cross))}
    bare |= {n.replace(".xattn", ""): a for n, a in facebook.items() if ".xattn." in n}
    leaves = probe_leaves({f"module.{n}": a for n, a in bare.items()}, 3, "module.")
    assert {p.split("/")[0] for p in leaves} == {"query", "cross", "linear"}
    same(probe_to_facebook(nested(leaves), "module."), {f"module.{n}": a for n, a in bare.items()})


def test_tensors_are_views_of_the_leaves(core):
    encoder = encoder_from_facebook(facebook_names(core), 3, "encoder.")
    for name, tensor in encoder_to_facebook(encoder, 8, 2).items():
        if name.startswith("blocks.1.mlp"):
            fc = encoder["trunk"]["blocks"]["mlp"][name.split(".")[3]]
            assert np.shares_memory(tensor, fc["kernel" if name.endswith("weight") else "bias"])


def without(weights, *names):
    return {n: a for n, a in weights.items() if n not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: without(w, "norm.bias", "blocks.1.norm1.bias"),
            r"2 tensors are missing.*: blocks.1.norm1.bias, norm",
        ),
        (lambda w: w | {"blocks.2.mlp.fc1.bias": np.zeros(7)}, r"blocks.2.mlp.fc1.bias has shape \(7,\), but blocks.0"),
        (lambda w: {}, r"They hold nothing"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(core, change, message):
    weights = {n.removeprefix("encoder."): a for n, a in facebook_names(core).items() if n.startswith("encoder.")}
    with pytest.raises(ValueError, match=message):
        encoder_leaves(change(weights), 3)
    with pytest.raises(ValueError, match=r"does not fit trunk/blocks/attn/qkv/kernel: .*number of heads"):
        encoder_leaves(weights, 5)


def test_incomplete_transformers_weights_are_refused(core):
    with pytest.raises(ValueError, match=r"encoder.layer.1.attention.key.bias is missing .* although .*query.bias"):
        facebook_tensors(without(core, "encoder.layer.1.attention.key.bias"))
    with pytest.raises(ValueError, match=r"predictor.mask_tokens.1 is missing"):
        hugging_face_tensors(without(facebook_names(core), "predictor.mask_tokens.1"))
    with pytest.raises(ValueError, match=r"tensors belong to V-JEPA 2.1, such as encoder.img_mod_embed"):
        hugging_face_tensors(stored("vjepa21_fb.npz"))
    with pytest.raises(ValueError, match=r"no leaf trunk/blocks/attn/proj/kernel; they hold norm at the top"):
        encoder_tensors({"norm": {}}, 8, 2)


def test_a_deferred_array_converts_like_an_array():
    made = Deferred((2,), np.dtype(np.float32), ("a",), lambda: np.ones(2, np.float32))
    assert np.asarray(made).dtype == np.float32
    assert np.asarray(made, dtype=np.float64).dtype == np.float64
