"""Numbers that are not finite are refused where weights enter, with the tensor's name."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from surgmotion_jax.checkpoints.finite import check_all_finite
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.checkpoints.weights import save_weights
from surgmotion_jax.evaluate.encoder.frozen import load_encoder
from surgmotion_jax.models.architecture import architecture
from tests.evaluate.encoders import small_encoder


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_tensor_with_one_bad_value_is_named(value, dtype):
    bad = np.ones((2, 3), dtype)
    bad[1, 2] = value
    check_all_finite("w", {"good": np.ones(3, dtype), "step": np.arange(3)})
    with pytest.raises(ValueError, match=rf"^w: bad has 1 of 6 values that are not finite, the first {value}; a run"):
        check_all_finite("w", {"good": np.ones(3, dtype), "bad": bad})


def test_an_encoder_with_such_weights_is_not_loaded(tmp_path):
    encoder = small_encoder()
    params = {path: np.array(leaf) for path, leaf in leaves_by_path({"target": encoder.params}).items()}
    save(tmp_path / "sound", params, encoder)
    load_encoder(tmp_path / "sound")
    params["target/norm/bias"][0] = np.nan
    save(tmp_path / "bad", params, encoder)
    with pytest.raises(ValueError, match=r"bad.*: target/norm/bias has 1 of \d+ values that are not finite"):
        load_encoder(tmp_path / "bad")


def save(folder, params, encoder) -> None:
    tree: dict[str, object] = {}
    for path, leaf in params.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = lambda leaf=leaf: leaf
    save_weights(folder, tree, ManifestFields("weights", architecture(encoder.config), {}, None))
