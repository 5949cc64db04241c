"""The architecture that checkpoints state, and the way back to a model."""

from __future__ import annotations

import json

import pytest

from surgmotion_jax.models.architecture import COMPUTE_FIELDS, architecture, model_of
from surgmotion_jax.models.config import ModelConfig, PredictorSettings, V21Settings

V21 = ModelConfig(
    variant="vit_large",
    heads=8,
    positions="rope",
    predictor=PredictorSettings(mlp=100),
    v21=V21Settings(levels=4, output_levels=1, rope_grid=16, modality=True, context_projection=True, target_width=1664),
)


def test_every_field_is_stated_except_how_to_compute():
    stated = architecture(V21)
    assert stated.keys() == vars(V21).keys() - set(COMPUTE_FIELDS)
    assert stated["v21"] == vars(V21.v21)
    assert stated["predictor"] == vars(V21.predictor)


@pytest.mark.parametrize("model", [ModelConfig(), V21, ModelConfig(depth=2, width=48, heads=3, mlp=7)])
def test_a_model_is_found_again_in_its_architecture(model):
    found = model_of(
        json.loads(json.dumps(architecture(model))), attention=model.attention, remat=model.remat, dtype=model.dtype
    )
    assert found == model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a | {"dept": 3}, r"architecture has the unknown field\(s\) 'dept'; .* Did you mean 'depth'\?"),
        (lambda a: a | {"dtype": "float32"}, r"unknown field\(s\) 'dtype'"),
        (lambda a: a | {"v21": {"level": 4}}, r"architecture.v21 has the unknown field\(s\) 'level'.*'levels'\?"),
        (lambda a: {k: v for k, v in a.items() if k != "patch"}, r"architecture lacks patch; .* or damaged"),
        (lambda a: a | {"predictor": {}}, r"architecture.predictor lacks width, depth, heads, mask_tokens, mask_index"),
        (lambda a: a | {"predictor": 3}, r"architecture.predictor is 3; it must be a mapping"),
        (lambda a: a | {"depth": "12"}, r"architecture.depth is '12'; it must be of type int"),
        (lambda a: a | {"depth": True}, r"architecture.depth is True; it must be of type int"),
        (lambda a: a | {"variant": "vit_larg"}, r"Did you mean 'vit_large'"),
    ],
)
def test_other_descriptions_are_refused_by_field(change, message):
    with pytest.raises(ValueError, match=message):
        model_of(change(architecture(ModelConfig())))
