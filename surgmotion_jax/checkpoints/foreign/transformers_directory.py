"""A directory that transformers loads: `config.json`, `model.safetensors`, `README.md` (the model card).

`VJEPA2Model.from_pretrained` builds its network from the config alone, so whatever that class cannot express is refused
here rather than written and computed wrongly there.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.foreign.safetensors_file import write_safetensors
from surgmotion_jax.models.config import ModelConfig, TransformerConfig
from surgmotion_jax.storage import Json

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
MASK_INDEX = 1  # the mask token that transformers always uses

Arrays = Mapping[str, Callable[[], np.ndarray]]


class NotExpressible(ValueError):
    """transformers' V-JEPA 2 classes cannot compute this model; the message says what stands in the way."""


@dataclass(frozen=True)
class Head:
    """The classifier of `VJEPA2ForVideoClassification`: depth of its self-attention, heads, and the classes' names."""

    layers: int
    heads: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Training:
    """Clip that the weights were trained on. transformers takes token positions from this grid, whatever the input."""

    crop: int = 256
    frames: int = 64


def config_fields(model: ModelConfig, training: Training, head: Head | None = None) -> dict[str, Json]:
    """The content of `config.json`. Raises NotExpressible naming the field that transformers has no place for."""
    encoder, predictor = model.encoder, model.predictor_trunk
    _check_expressible(model, training, head)
    fields: dict[str, Json] = {
        "model_type": "vjepa2",
        "architectures": ["VJEPA2ForVideoClassification" if head else "VJEPA2Model"],
        "dtype": "float32",
        "patch_size": model.patch,
        "crop_size": training.crop,
        "frames_per_clip": training.frames,
        "tubelet_size": model.tubelet,
        "in_chans": 3,
        "hidden_size": encoder.width,
        "num_attention_heads": encoder.heads,
        "num_hidden_layers": encoder.depth,
        "mlp_ratio": mlp_ratio(encoder),
        "layer_norm_eps": encoder.norm_eps,
        "hidden_act": "gelu",
        "qkv_bias": True,
        "pred_hidden_size": predictor.width,
        "pred_num_attention_heads": predictor.heads,
        "pred_num_hidden_layers": predictor.depth,
        "pred_num_mask_tokens": model.predictor.mask_tokens,
        "pred_zero_init_mask_tokens": model.predictor.zero_init,
        "pred_mlp_ratio": mlp_ratio(predictor),
    }
    if head:
        fields["num_pooler_layers"] = head.layers
        fields["id2label"] = {str(i): label for i, label in enumerate(head.labels)}
        fields["label2id"] = {label: i for i, label in enumerate(head.labels)}
    return fields


def mlp_ratio(trunk: TransformerConfig) -> float:
    """The ratio from which `int(width * ratio)` gives back the hidden width: the nearest quotient may fall short."""
    ratio = trunk.mlp / trunk.width
    return ratio if int(trunk.width * ratio) == trunk.mlp else math.nextafter(ratio, math.inf)


def _check_expressible(model: ModelConfig, training: Training, head: Head | None) -> None:
    if model.positions != "rope_tiled":
        raise NotExpressible(
            f"model.positions is {model.positions!r}; transformers' VJEPA2Model computes 'rope_tiled' only (V-JEPA 2). "
            "Keep these weights in our format: leave out --to=transformers."
        )
    for name, value, unit in (("crop", training.crop, model.patch), ("frames", training.frames, model.tubelet)):
        if value < unit or value % unit:
            raise NotExpressible(f"--{name} is {value}; it must be a multiple of {unit}, one token.")
    if head and head.heads != model.encoder.heads:
        raise NotExpressible(
            f"the classifier has {head.heads} heads and the encoder {model.encoder.heads}; transformers gives both the "
            "encoder's number. Keep these weights in our format: leave out --to=transformers."
        )


def write_directory(folder: pathlib.Path, arrays: Arrays, fields: Mapping[str, Json], card: str) -> None:
    """Writes config, weights (one tensor in memory at a time) and card into a folder."""
    write_safetensors(folder / WEIGHTS_FILE, arrays, {"format": "pt"})  # transformers asks for this entry
    storage.write_text_atomic(folder / CONFIG_FILE, json.dumps(fields, indent=2) + "\n")
    storage.write_text_atomic(folder / CARD_FILE, card)


def model_card(fields: Mapping[str, Json], source: Mapping[str, Json], notes: Sequence[str]) -> str:
    """The model card: what it is, how to load it, where it comes from, what to know."""
    kind = fields["architectures"][0]
    card = f"""---
library_name: transformers
tags:
- video
- v-jepa-2
---
# {source["name"]}

V-JEPA 2 weights: encoder {fields["hidden_size"]} wide, {fields["num_hidden_layers"]} layers, \
{fields["num_attention_heads"]} heads, patch {fields["patch_size"]}, tubelet {fields["tubelet_size"]}; \
trained on {fields["frames_per_clip"]} frames of {fields["crop_size"]} x {fields["crop_size"]} pixels.

```python
from transformers import {kind}

model = {kind}.from_pretrained("PATH/OF/THIS/FOLDER")
```

Input: `pixel_values_videos` [batch, frames, 3, height, width], RGB in 0..1, minus (0.485, 0.456, 0.406), divided by
(0.229, 0.224, 0.225). Token positions are those of the configured crop, so other heights and widths give other
features than training did; other numbers of frames do not matter.

## Origin

Converted by surgmotion_jax from `{source["name"]}` ({source["family"]}).
sha256 of the source: `{source["sha256"]}`. What became of each of its tensors is in `conversion.json`.
"""
    if notes:
        card += "\n## Notes\n\n" + "".join(f"- {note}\n" for note in notes)
    return card
