"""Conversions against PyTorch and transformers: random tiny models of every family, there, here and back.

Features of the converted weights equal PyTorch's to 2e-5; the first loss of continued pretraining to 1e-5.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.checkpoints.own_weights import open_own
from surgmotion_jax.checkpoints.subtree import load_subtree
from surgmotion_jax.checkpoints.weights import find_weights
from surgmotion_jax.commands import convert
from surgmotion_jax.config import build
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.layout import SINGLE_DEVICE
from surgmotion_jax.models.pixels import normalise_pixels
from surgmotion_jax.models.probe import probe
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.objective import loss_and_metrics, prepare
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.setup.initial import plan_initial, start_from
from surgmotion_jax.pretrain.state import create_state
from tests.checkpoints import foreign_weights as fw
from tests.pretrain.fixtures import random_batch, small_flags

pytestmark = pytest.mark.oracle

FEATURES, LOSS = 2e-5, 1e-5
HEADS = ("--heads=3", "--predictor-heads=2")
CLIP = ("--crop=32", "--frames=8")


@pytest.fixture(scope="module")
def oracle():
    """torch and transformers, with a fixed seed."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    return SimpleNamespace(torch=torch, hub=transformers)


def randomised(oracle, cls, **more):
    """A model whose every weight, biases and mask tokens too, is far from its initial value."""
    model = cls(oracle.hub.VJEPA2Config(**fw.transformers_config(**more), attn_implementation="eager")).eval()
    with oracle.torch.no_grad():
        for name, weight in model.named_parameters():
            norm = "norm" in name and name.endswith("weight")
            weight.copy_((1.0 if norm else 0.0) + 0.1 * oracle.torch.randn(weight.shape))
    return model


@pytest.fixture(scope="module")
def pixels():
    """Two clips [B,T,3,H,W], normalised."""
    return np.random.default_rng(3).normal(0, 1, (2, 8, 3, 32, 32)).astype(np.float32)


def ours(folder: Path, *places: str):
    """Model, probe config and the parameters at some places of a converted directory."""
    checkpoint = open_own(find_weights(folder))
    return checkpoint, load_subtree(checkpoint.path, places).state


def channels_last(pixels):
    return jnp.asarray(pixels.transpose(0, 1, 3, 4, 2))


def run(*arguments) -> None:
    assert convert.main([str(a) for a in arguments]) == 0


def close(got, want, tolerance=FEATURES):
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=0, atol=tolerance)


def features(oracle, model, pixels):
    """Encoder and predictor features of PyTorch, for all tokens and for a context and a target."""
    torch = oracle.torch
    context, target = torch.arange(0, 64, 2)[None].repeat(2, 1), torch.arange(1, 64, 2)[None].repeat(2, 1)
    with torch.no_grad():
        out = model(torch.from_numpy(pixels), context_mask=[context], target_mask=[target])
    return out.last_hidden_state.numpy(), out.predictor_output.last_hidden_state.numpy(), context, target


def assert_features(folder, encoder_place, want, pixels):
    """The converted encoder and predictor give PyTorch's features."""
    checkpoint, state = ours(folder, encoder_place, "params/predictor")
    tokens, predicted, context, target = want
    params = state["target"] if encoder_place == "target" else state["params"]["encoder"]
    got = backbone_of(checkpoint.model).encode(params, channels_last(pixels)).tokens
    close(got, tokens)
    ids = jnp.asarray(context.numpy()), jnp.asarray(target.numpy())
    grid = checkpoint.model.grid(8, 32, 32)
    close(
        backbone_of(checkpoint.model).predictor.predict(
            state["params"]["predictor"], got[:, ::2], *ids, grid=grid, mask_index=1
        ),
        predicted,
    )


def test_transformers_to_ours_and_back(oracle, pixels, tmp_path):
    model = randomised(oracle, oracle.hub.VJEPA2Model)
    model.save_pretrained(tmp_path / "hub")
    run(tmp_path / "hub", tmp_path / "ours")
    want = features(oracle, model, pixels)
    assert_features(tmp_path / "ours", "target", want, pixels)
    run(tmp_path / "ours", tmp_path / "back", "--to=transformers")
    again, info = oracle.hub.VJEPA2Model.from_pretrained(
        tmp_path / "back", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    for got, expected in zip(features(oracle, again.eval(), pixels)[:2], want[:2], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_classifier_to_ours_and_back(oracle, pixels, tmp_path):
    labels = {i: f"class {i}" for i in range(fw.TINY.classes)}
    model = randomised(oracle, oracle.hub.VJEPA2ForVideoClassification, id2label=labels)
    model.save_pretrained(tmp_path / "hub")
    run(tmp_path / "hub", tmp_path / "ours")
    with oracle.torch.no_grad():
        want = model(oracle.torch.from_numpy(pixels)).logits.numpy()
    checkpoint, state = ours(tmp_path / "ours", "target", "params/probe")
    tokens = backbone_of(checkpoint.model).encode(state["target"], channels_last(pixels)).tokens
    close(probe(checkpoint.probe, state["params"]["probe"], tokens), want)
    run(tmp_path / "ours", tmp_path / "back", "--to=transformers")
    again, info = oracle.hub.VJEPA2ForVideoClassification.from_pretrained(
        tmp_path / "back", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    assert again.config.id2label == labels
    with oracle.torch.no_grad():
        np.testing.assert_array_equal(again.eval()(oracle.torch.from_numpy(pixels)).logits.numpy(), want)


def as_torch(oracle, weights):
    return {name: oracle.torch.from_numpy(np.array(value)) for name, value in weights.items()}


def loaded(oracle, cls, weights, **more):
    """A transformers model that holds certain weights, all of them and no others."""
    model = cls(oracle.hub.VJEPA2Config(**fw.transformers_config(**more), attn_implementation="eager")).eval()
    model.load_state_dict(as_torch(oracle, weights), strict=True)
    return model


def save_facebook(oracle, path: Path, **sections) -> Path:
    """`torch.save` in the style of facebookresearch's training: wrappers' prefixes, and what else is in such a file."""
    prefixed = {n: as_torch(oracle, fw.prefixed("module.backbone.", w)) for n, w in sections.items()}
    optimiser = {"state": {0: {"exp_avg": oracle.torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    oracle.torch.save({**prefixed, "opt": optimiser, "scaler": None, "epoch": 4, "lr": 1e-3}, path)
    return path


def test_facebook_file_to_ours_and_to_transformers(oracle, pixels, tmp_path):
    source = save_facebook(
        oracle,
        tmp_path / "vitl.pt",
        encoder=fw.facebook_encoder(seed=5),
        target_encoder=fw.facebook_encoder(seed=0),
        predictor=fw.facebook_predictor(seed=1),
    )
    want = features(oracle, loaded(oracle, oracle.hub.VJEPA2Model, fw.transformers_model(seed=0)), pixels)
    run(source, tmp_path / "ours", *HEADS)
    assert_features(tmp_path / "ours", "target", want, pixels)
    run(source, tmp_path / "hub", "--to=transformers", *HEADS, *CLIP)
    model, info = oracle.hub.VJEPA2Model.from_pretrained(
        tmp_path / "hub", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    np.testing.assert_array_equal(features(oracle, model.eval(), pixels)[0], want[0])


def test_surgmotion_file_to_ours_and_to_transformers(oracle, pixels, tmp_path):
    source = tmp_path / "SurgMotion-vitl.pt"
    weights = as_torch(oracle, fw.prefixed("module.backbone.", fw.facebook_encoder(seed=0)))
    oracle.torch.save({"encoder": weights}, source)
    full = loaded(oracle, oracle.hub.VJEPA2Model, fw.transformers_model(seed=0))
    want = features(oracle, full, pixels)[0]
    run(source, tmp_path / "ours", "--heads=3")
    checkpoint, state = ours(tmp_path / "ours", "target")
    close(backbone_of(checkpoint.model).encode(state["target"], channels_last(pixels)).tokens, want)
    run(tmp_path / "ours", tmp_path / "hub", "--to=transformers", *CLIP)
    model, info = oracle.hub.VJEPA2Model.from_pretrained(
        tmp_path / "hub", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    with oracle.torch.no_grad():
        got = model.eval()(oracle.torch.from_numpy(pixels), skip_predictor=True).last_hidden_state.numpy()
    np.testing.assert_array_equal(got, want)


def test_facebook_probe_file_to_ours(oracle, pixels, tmp_path):
    """transformers' head computes the same probe, once its norms have the eps of the facebookresearch one."""
    source = tmp_path / "probe.pt"
    heads = [as_torch(oracle, fw.prefixed("module.", fw.facebook_probe(seed=seed))) for seed in (2, 9)]
    oracle.torch.save({"classifiers": heads, "opt": None, "epoch": 20}, source)
    run(source, tmp_path / "ours", "--probe-heads=3")
    weights = fw.prefixed("vjepa2.", fw.transformers_model(seed=0)) | fw.transformers_probe(seed=2)
    labels = {i: str(i) for i in range(fw.TINY.classes)}
    model = loaded(oracle, oracle.hub.VJEPA2ForVideoClassification, weights, id2label=labels)
    for module in [*model.pooler.modules()]:
        if isinstance(module, oracle.torch.nn.LayerNorm):
            module.eps = 1e-5
    tokens = 1e-3 * np.random.default_rng(0).normal(size=(2, 64, fw.TINY.width)).astype(np.float32)
    with oracle.torch.no_grad():
        want = model.classifier(model.pooler(oracle.torch.from_numpy(tokens))).numpy()
    checkpoint, state = ours(tmp_path / "ours", "params/probe")
    close(probe(checkpoint.probe, state["params"]["probe"], jnp.asarray(tokens)), want)


def continued(config_of, checkpoint: Path):
    """Config, state and prepared batch of the first step of a run that starts from converted weights."""
    config = config_of(**{"init.checkpoint": str(checkpoint)})
    layout = MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:1]))
    initial = plan_initial(config.init, config.model)
    state = start_from(initial, create_state(config, layout))
    program = mask_programs(config.mask, config.grid)[0]
    step = jnp.zeros((), jnp.int32)
    return config, state, prepare(random_batch(config, 2), step, config=config, program=program, training=True)


def plain_vjepa(**overrides):
    """V-JEPA 2's loss on 8 frames of 32 pixels, two mask sets, for the tiny model."""
    flags = small_flags()
    flags.model.update({"variant": "vit_large", "width": 48, "depth": 3, "heads": 3, "mlp": 192, "patch": 8})
    flags.model.predictor.update({"width": 32, "depth": 2, "heads": 2, "mask_tokens": 3, "mask_index": 0})
    flags.loss.motion.alpha = flags.loss.affinity.weight = flags.loss.diversity.weight = 0.0
    flags.augment.crop, flags.mask.kind, flags.saliency.kind = 32, "multiblock", "none"
    flags.update_from_flattened_dict(overrides)
    return build(PretrainConfig, flags)


def torch_encode(oracle, model, video, ids):
    """Features of chosen tokens: gathered before the blocks, each with its position, as pretraining does."""
    encoder = model.encoder
    tokens = encoder.embeddings(video)
    hidden = oracle.torch.gather(tokens, 1, ids[..., None].expand(-1, -1, tokens.shape[-1]))
    for layer in encoder.layer:
        hidden = layer(hidden, ids)[0]
    return encoder.layernorm(hidden)


def torch_predict(oracle, model, context, context_ids, target_ids, mask_index):
    """The predictor on context features alone. transformers gathers them itself and always takes mask token 1."""
    everything = oracle.torch.zeros(len(context), 64, context.shape[-1])
    everything.scatter_(1, context_ids[..., None].expand(-1, -1, context.shape[-1]), context)
    tokens = model.predictor.embeddings.mask_tokens.data
    tokens[1] = tokens[mask_index]
    return model.predictor(everything, [context_ids], [target_ids]).last_hidden_state


def test_first_loss_of_continued_pretraining(oracle, tmp_path):
    """The loss of V-JEPA 2 (arXiv 2506.09985, equation 1) by PyTorch's modules: same clip, masks and weights."""
    torch = oracle.torch
    weights = {
        "encoder": fw.facebook_encoder(seed=0),
        "target_encoder": fw.facebook_encoder(seed=5),
        "predictor": fw.facebook_predictor(seed=1),
    }
    run(save_facebook(oracle, tmp_path / "vitl.pt", **weights), tmp_path / "ours", *HEADS)
    config, state, prepared = continued(plain_vjepa, tmp_path / "ours")
    _, metrics = loss_and_metrics(state.params, state.target, prepared, config, SINGLE_DEVICE)
    online = loaded(oracle, oracle.hub.VJEPA2Model, fw.transformers_model(seed=0))
    target = loaded(oracle, oracle.hub.VJEPA2Model, fw.transformers_model(seed=5))
    video = np.asarray(normalise_pixels(prepared.video01_BxTxHxWx3)).transpose(0, 1, 4, 2, 3)
    video = torch.from_numpy(np.ascontiguousarray(video))
    everything = torch.arange(64)[None].repeat(2, 1)
    losses = []
    with torch.no_grad():
        wanted = torch_encode(oracle, target, video, everything)
        wanted = torch.nn.functional.layer_norm(wanted, wanted.shape[-1:])
        for mask in prepared.masks:
            context_ids, target_ids = (torch.from_numpy(np.array(ids)).long() for ids in mask)
            context = torch_encode(oracle, online, video, context_ids)
            predicted = torch_predict(oracle, online, context, context_ids, target_ids, mask_index=0)
            there = torch.gather(wanted, 1, target_ids[..., None].expand(-1, -1, wanted.shape[-1]))
            losses.append((predicted - there).abs().mean())
    assert len(losses) == 2
    close(metrics["loss/total"], torch.stack(losses).mean().numpy(), LOSS)
    fresh = create_state(config, MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:1])))
    other = loss_and_metrics(fresh.params, fresh.target, prepared, config, SINGLE_DEVICE)[0]
    assert abs(float(other) - float(metrics["loss/total"])) > 100 * LOSS, "else any weights would pass"
