"""A backbone from outside the package: register tokens, trained, sharded, restored. The page is docs/backbones.md."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.models.architecture import architecture, model_of
from surgmotion_jax.models.catalogue import BACKBONES, backbone_of
from surgmotion_jax.models.encoder import Encoder
from surgmotion_jax.models.flops import trunk_flops
from surgmotion_jax.models.linear import WEIGHT_INIT
from surgmotion_jax.models.transformer import TOKENS, named
from surgmotion_jax.models.vit import Vit
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh, to_global
from surgmotion_jax.pretrain.setup.preflight import check
from surgmotion_jax.pretrain.state import create_state
from surgmotion_jax.pretrain.step import compile_train_step
from tests.pretrain.fixtures import random_batch, small_config

PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"


# The page shows what follows.
REGISTERS = 4


class RegisterEncoder(Encoder):
    """The encoder with learnt tokens that take part in attention and are left out of the output."""

    def blocks(self, x_BxKxC, ids_BxK, grid, capture):
        batch, _, width = x_BxKxC.shape
        registers_RxC = self.param("registers", named(WEIGHT_INIT, (None, "embed")), (REGISTERS, width), jnp.float32)
        registers = jnp.broadcast_to(registers_RxC.astype(x_BxKxC.dtype), (batch, REGISTERS, width))
        x = self.layout.constrain(jnp.concatenate([registers, x_BxKxC], axis=1), TOKENS)
        ids = jnp.pad(ids_BxK, ((0, 0), (REGISTERS, 0)))  # they stand at token 0, whose rotation is by no angle
        x, captured = super().blocks(x, ids, grid, capture)
        return x[:, REGISTERS:], captured[:, :, REGISTERS:]


class RegisterVit(Vit):
    """V-JEPA 2's vision transformer with registers."""

    network = RegisterEncoder

    def flops(self, tokens):
        plain, more = super().flops(tokens), super().flops(tokens + REGISTERS)  # registers need no product of patches
        return more._replace(forward=more.forward - more.embed + plain.embed, embed=plain.embed)


# The end of what the page shows.


@pytest.fixture(autouse=True)
def entry(monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit_registers", RegisterVit)


def trained(config, devices):
    """The state and losses after two steps on so many devices, every parameter divided among them."""
    layout = MeshLayout(make_mesh(ParallelConfig(1, devices, 1), jax.devices()[:devices]))
    programs, _ = check(config, layout)
    step, state, losses = compile_train_step(config, programs[0], layout), create_state(config, layout), []
    for seed in range(2):
        state, metrics = step(state, to_global(layout, random_batch(config, 8, seed), 8))
        losses.append(float(metrics["loss/total"]))
    return state, losses


@pytest.fixture(scope="module")
def config():
    """V-JEPA 2's own loss: it compiles in less time than the others."""
    plain = {"saliency.kind": "none", "saliency.fov": "none", "loss.affinity.weight": 0, "loss.diversity.weight": 0}
    return small_config(**{"model.backbone": "vit_registers", "optim.warmup_steps": 0, **plain})


@pytest.mark.slow
def test_registers_train_on_two_devices_and_are_restored(config, tmp_path):
    state, losses = trained(config, 2)
    assert np.isfinite(losses).all()
    registers = state.params["encoder"]["registers"]
    assert registers.addressable_shards[0].data.shape == (REGISTERS, config.model.encoder.width // 2)
    start = backbone_of(config.model).init(jax.random.split(jax.random.key(config.seed))[0])["registers"]
    assert np.abs(registers - start).max() > 1e-5, "registers must learn"
    with CheckpointStore(tmp_path) as store:
        assert store.save(2, state, ManifestFields("pretrain", architecture(config.model), {}), wait=True)
        restored = store.restore(state)
    jax.tree.map(np.testing.assert_array_equal, restored.state, state)
    assert model_of(restored.manifest.architecture).backbone == "vit_registers"


@pytest.mark.slow
def test_registers_train_on_two_devices_as_on_one(config):
    np.testing.assert_allclose(trained(config, 2)[1], trained(config, 1)[1], rtol=1e-5)


def test_registers_change_the_tokens_but_not_their_number():
    model = small_config().model
    plain, other = backbone_of(model), backbone_of(dataclasses.replace(model, backbone="vit_registers"))
    params, video = other.init(jax.random.key(0)), jnp.ones((2, 8, 48, 48, 3))
    whole, bare = other.encode(params, video, layers=(0,)), plain.encode(params, video, layers=(0,))
    assert whole.tokens.shape == bare.tokens.shape
    assert whole.layers.shape == bare.layers.shape
    assert np.abs(whole.tokens - bare.tokens).max() > 1e-3
    more = other.flops(36).forward - plain.flops(36).forward
    assert more == trunk_flops(model.encoder, 36 + REGISTERS) - trunk_flops(model.encoder, 36)
    assert other.facts(False) == {**plain.facts(False), "backbone": "vit_registers"}


def test_the_page_shows_this_code():
    lines = Path(__file__).read_text().split("\n")
    first, last = (
        lines.index(f"# {end}") for end in ("The page shows what follows.", "The end of what the page shows.")
    )
    shown = "\n".join(lines[first + 1 : last]).strip()
    assert len([line for line in shown.split("\n") if line]) <= 40
    assert f"```python\n{shown}\n```" in PAGE.read_text()
