"""Releases told apart by their names, their architecture by shapes, and every name accounted for."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.checkpoints.foreign.accounting import Entry, summary, table
from surgmotion_jax.checkpoints.foreign.described import Hints, describe
from surgmotion_jax.checkpoints.foreign.families import UnknownWeights, recognise
from surgmotion_jax.checkpoints.foreign.networks import Foreign, IncompleteWeights, leaves_of
from surgmotion_jax.checkpoints.foreign.shapes import NoSuchArchitecture, TrunkShape, encoder_heads
from surgmotion_jax.models.name_rules import Deferred
from tests.checkpoints import foreign_weights as fw

WRAPPED = "module.backbone."


def facebook(**more):
    sections = {
        "encoder": fw.prefixed(WRAPPED, fw.facebook_encoder(seed=0)),
        "target_encoder": fw.prefixed(WRAPPED, fw.facebook_encoder(seed=1)),
        "predictor": fw.prefixed(WRAPPED, fw.facebook_predictor()),
    }
    return sections | more


def lazy(tensors):
    return {n: Deferred(a.shape, a.dtype, (n,), lambda a=a: a) for n, a in tensors.items()}


@pytest.mark.parametrize(
    ("sections", "key", "parts"),
    [
        (facebook(), "vjepa2", {"encoder", "target", "predictor"}),
        ({"encoder": fw.prefixed(WRAPPED, fw.facebook_encoder())}, "vjepa2_encoder", {"target"}),
        ({"": fw.facebook_encoder()}, "vjepa2_encoder", {"target"}),
        ({"": fw.prefixed("encoder.", fw.facebook_encoder())}, "vjepa2_encoder", {"target"}),
        ({"": fw.transformers_model()}, "transformers", {"target", "predictor"}),
        (
            {"": fw.prefixed("vjepa2.", fw.transformers_model()) | fw.transformers_probe()},
            "transformers_classifier",
            {"target", "predictor", "probe"},
        ),
        ({"classifiers.0": fw.prefixed("module.", fw.facebook_probe())}, "probe", {"probe"}),
        ({"ema_encoder": fw.prefixed("module.", fw.facebook21_encoder())}, "vjepa21", {"target"}),
    ],
    ids=["vjepa2", "encoder_only", "bare", "flat", "transformers", "classifier", "probe", "vjepa21"],
)
def test_a_release_is_known_by_its_names(sections, key, parts):
    found = recognise("file", sections)
    assert (found.key, set(found.parts)) == (key, parts)
    assert not found.ignored
    total = sum(map(len, sections.values()))
    assert len(found.originals) == len(found.names) == total
    assert all(name in found.originals for name in found.names.values())


def test_training_state_and_stale_tables_are_ignored_with_a_reason():
    sections = facebook(**{"opt.state.0": {"exp_avg": np.zeros(2, np.float32)}})
    sections["encoder"]["module.backbone.pos_embed"] = np.zeros((1, 4, 48), np.float32)
    found = recognise("file", sections)
    assert found.ignored == {
        "encoder/module.backbone.pos_embed": "fixed sin-cos table; positions are computed",
        "opt.state.0/exp_avg": "optimiser state",
    }


def test_other_heads_of_a_sweep_are_ignored():
    sections = {f"classifiers.{i}": fw.prefixed("module.", fw.facebook_probe(seed=i)) for i in range(2)}
    found = recognise("file", sections)
    np.testing.assert_array_equal(found.parts["probe"]["linear.weight"], fw.facebook_probe(seed=0)["linear.weight"])
    assert set(found.ignored) == {f"classifiers.1/{name}" for name in sections["classifiers.1"]}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"": {"features.0.weight": np.zeros(2), "classifier.bias": np.zeros(1)}},
            r"features.0.weight, classifier.bias fit",
        ),
        ({"": {}}, r"no tensors found. Known are:\n  V-JEPA 2, facebookresearch"),
        (
            facebook(extra={"weight": np.zeros(2)}),
            r"section 'extra' \(the names extra/weight\) is not known; known are",
        ),
        ({"encoder": {"a.b": np.zeros(2)}}, r"encoder/a.b fit no release"),
        (
            {"": fw.transformers_model() | {"decoder.weight": np.zeros(1)}},
            r"'decoder.weight' is not a name of transformers",
        ),
        (
            {"encoder": fw.facebook_encoder() | {"module.norm.bias": np.zeros(48)}},
            r"'encoder/norm.bias' and 'encoder/module.norm.bias' are both the encoder's 'norm.bias'",
        ),
    ],
    ids=["foreign", "empty", "section_of_strangers", "names_of_strangers", "transformers_stranger", "twice"],
)
def test_a_style_that_nobody_knows_is_refused_with_what_was_found(sections, message):
    with pytest.raises(UnknownWeights, match=message):
        recognise("file", sections)


@pytest.mark.parametrize(
    ("shape", "heads", "why"),
    [
        (TrunkShape(1024, 24, 4096), 16, "vit_large"),
        (TrunkShape(1280, 32, 5120), 16, "vit_huge"),
        (
            TrunkShape(1408, 40, 6144),
            22,
            "vit_giant_xformers, the released variant of this shape; --heads=16 for vit_giant",
        ),
        (TrunkShape(1664, 48, 8192), 26, "vit_gigantic_xformers"),
    ],
)
def test_heads_come_from_the_table_and_the_ambiguous_one_says_so(shape, heads, why):
    found, told = encoder_heads(shape, 0)
    assert found == heads
    assert why in told


@pytest.mark.parametrize(
    ("change", "hints", "message"),
    [
        (lambda n: None, Hints(predictor_heads=2), r"width 48, depth 3 and MLP 192 is no released one.*give --heads=N"),
        (lambda n: None, Hints(heads=3), r"predictor of width 32 is no released one.*give --predictor-heads=N"),
        (lambda n: None, Hints(heads=5, predictor_heads=2), r"--heads is 5; it must divide the width, 48"),
        (
            lambda n: n["target"].pop("blocks.2.mlp.fc1.weight"),
            Hints(3, 2),
            r"target: 1 tensors are missing.*blocks.2.mlp.fc1.weight",
        ),
        (
            lambda n: n["target"].update(fw.facebook_encoder(fw.Sizes(depth=2))),
            Hints(3, 2),
            None,
        ),
        (
            lambda n: n["target"].pop("patch_embed.proj.weight"),
            Hints(3, 2),
            r"patch_embed.proj.weight is missing, without",
        ),
        (
            lambda n: n["target"].update({"patch_embed.proj.weight": np.zeros((48, 3, 8, 8))}),
            Hints(3, 2),
            r"4 axes: an image encoder",
        ),
        (
            lambda n: n["target"].update({"patch_embed.proj.weight": np.zeros((48, 1, 2, 8, 8))}),
            Hints(3, 2),
            r"\[48, 1, 2, 8, 8\]; with blocks of width 48 it must be \[48, 3, tubelet, patch, patch\]",
        ),
        (
            lambda n: n["target"].update({"blocks.0.mlp.fc3.weight": np.zeros((48, 192))}),
            Hints(3, 2),
            r"SwiGLU",
        ),
        (
            lambda n: n["target"].update({"blocks.1.attn.extra": np.zeros(3)}),
            Hints(3, 2),
            r"target: blocks.1.attn.extra fit no layer of this architecture",
        ),
        (
            lambda n: n["target"].update({"norm.weight": np.ones(47)}),
            Hints(3, 2),
            r"norm/scale: \[47\] in the source, \[48\] in the architecture",
        ),
    ],
    ids=[
        "heads",
        "predictor_heads",
        "odd_heads",
        "missing",
        "unchanged",
        "no_patch",
        "image",
        "channels",
        "swiglu",
        "stranger",
        "shape",
    ],
)
def test_weights_that_do_not_add_up_are_refused(change, hints, message):
    networks = {"target": fw.facebook_encoder(), "predictor": fw.facebook_predictor()}
    change(networks)
    foreign = Foreign("vjepa2", "", {name: lazy(tensors) for name, tensors in networks.items()}, {})

    def plan():
        from surgmotion_jax.checkpoints.foreign.described import expected_leaves

        described = describe(foreign, hints)
        for name, tensors in foreign.networks.items():
            leaves_of(name, tensors, described.heads[name], expected_leaves(described, name))

    if message is None:
        plan()
        return
    with pytest.raises((NoSuchArchitecture, IncompleteWeights), match=f"(?s){message}"):
        plan()


def test_target_and_online_encoder_must_be_one_architecture():
    networks = {"target": lazy(fw.facebook_encoder()), "encoder": lazy(fw.facebook_encoder(fw.Sizes(depth=2)))}
    with pytest.raises(NoSuchArchitecture, match="target and online encoder differ"):
        describe(Foreign("vjepa2", "", networks, {}), Hints(3))


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"hidden_act": "relu"}, r"config.json: hidden_act is 'relu'; only 'gelu' is computed here"),
        ({"layer_norm_eps": 1e-5}, r"config.json: layer_norm_eps is 1e-05"),
    ],
)
def test_a_config_that_means_another_network_is_refused(beside, message):
    foreign = Foreign("transformers", "", {"target": lazy(fw.facebook_encoder())}, {})
    assert describe(foreign, Hints(), {"num_attention_heads": 3}).heads["target"] == 3
    with pytest.raises(NoSuchArchitecture, match=message):
        describe(foreign, Hints(), {"num_attention_heads": 3, **beside})


def test_the_heads_of_a_probe_are_16_unless_transformers_says_otherwise():
    probe = lazy(fw.facebook_probe())
    assert describe(Foreign("probe", "", {"probe": probe}, {}), Hints()).heads == {"probe": 16}
    networks = {"target": lazy(fw.facebook_encoder()), "probe": probe}
    found = describe(Foreign("transformers_classifier", "", networks, {}), Hints(), {"num_attention_heads": 3})
    assert found.heads["probe"] == 3
    assert (found.probe.depth, found.probe.norm_eps, found.probe.outputs) == (4, 1e-6, 5)


def test_a_name_without_a_place_or_a_reason_is_an_error():
    tensors = lazy(fw.facebook_encoder())
    foreign = Foreign("vjepa2", "", {"target": tensors}, dict(tensors))
    some = {f"target/{name}": tensor for name, tensor in list(tensors.items())[1:]}
    with pytest.raises(IncompleteWeights, match="patch_embed.proj.weight are in nothing that would be written"):
        foreign.accounts(some)


def test_the_table_groups_layers_and_says_every_fate():
    entries = [
        *(
            Entry(f"blocks.{i}.norm.{k}", (4,), "float32", (f"ours/norm/{k}",))
            for i in range(3)
            for k in ("weight", "bias")
        ),
        Entry("opt/lr", (), "", (), "optimiser state"),
        Entry("opt/wd", (), "", (), "optimiser state"),
        Entry("same", (2,), "float16", ("same",)),
    ]
    assert summary(entries) == "9 names: 1 used, 6 renamed, 2 ignored"
    assert [" ".join(line.split()) for line in table(entries)] == [
        "6 x blocks.N.norm.* float32[4] -> ours/norm/*",
        "2 x opt/... ignored: optimiser state",
        "1 x same float16[2] -> same",
    ]
