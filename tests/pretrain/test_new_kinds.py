"""A kind of mask and a motion score that the package does not know: each is its settings, functions and entry."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.pretrain.objective import prepare
from surgmotion_jax.pretrain.sample.mask_kind import MaskConfig, MaskKind, MaskProgram, split_tokens
from surgmotion_jax.pretrain.sample.masks import MASKS, mask_programs
from surgmotion_jax.pretrain.sample.saliencies import SALIENCIES
from surgmotion_jax.pretrain.sample.saliency_kind import Saliency, SaliencyConfig
from tests.pretrain.fixtures import NANO, random_batch, small_config, train


@dataclass(frozen=True)
class BandConfig(MaskConfig):
    kind: str = "band"
    rows: int = 1  # rows of patches that are hidden, from the top


def programs(settings, grid):
    return (MaskProgram("band", grid, (settings.rows * grid.width * grid.time,), settings),)


def draw(program, settings, given):
    grid = program.grid
    hidden_N = jnp.tile(jnp.arange(grid.columns) < settings.rows * grid.width, grid.time)
    return (split_tokens(jnp.tile(hidden_N.astype(jnp.float32), (len(given.sample_key_B), 1)), program.targets[0]),)


def test_a_new_kind_of_mask_is_drawn_and_trained_with(monkeypatch):
    monkeypatch.setitem(MASKS, "band", MaskKind(BandConfig, programs, draw))
    config = small_config(**NANO, **{"mask.kind": "band", "mask.rows": 2, "optim.lr": 1e-5})
    (program,) = mask_programs(config.mask, config.grid)
    batch = random_batch(config, 2)
    (mask,) = prepare(batch, jnp.int32(0), config=config, program=program, training=True).masks
    np.testing.assert_array_equal(np.unique(mask.target_BxM % 9), np.arange(6))
    first, second = train(config)
    assert second["loss/total"] < first["loss/total"]


def test_a_new_score_weighs_tokens(monkeypatch):
    def score(clips, settings, model):
        return clips.pixels_BxHxW.reshape(len(clips.pixels_BxHxW), 3, 16, 3, 16).mean((2, 4)).reshape(-1, 9)

    monkeypatch.setitem(SALIENCIES, "seen", Saliency(score, SaliencyConfig))
    config = small_config(**{"saliency.kind": "seen"})
    (program,) = mask_programs(config.mask, config.grid)
    prepared = prepare(random_batch(config, 2), jnp.int32(0), config=config, program=program, training=True)
    np.testing.assert_array_equal(prepared.score_BxU, np.ones((2, 9)))


@pytest.mark.parametrize("section", ["mask", "saliency"])
def test_an_unknown_kind_is_refused_by_name(section):
    with pytest.raises(ValueError, match=rf"{section}.kind is 'motoin'; it must be one of"):
        small_config(**{f"{section}.kind": "motoin"})
