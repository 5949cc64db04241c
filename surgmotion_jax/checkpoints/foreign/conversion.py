"""A conversion, planned in full before anything is written: which array goes where, and what became of every name.

The plan names each output array and what it is made of; writing then only has to read and write them in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from surgmotion_jax.checkpoints.foreign import transformers_directory
from surgmotion_jax.checkpoints.foreign.accounting import Entry
from surgmotion_jax.checkpoints.foreign.described import Described, expected_leaves
from surgmotion_jax.checkpoints.foreign.networks import Foreign, leaves_of
from surgmotion_jax.checkpoints.foreign.transformers_directory import Head, NotExpressible, Training
from surgmotion_jax.checkpoints.own_weights import PLACES
from surgmotion_jax.models.config import ModelConfig, PredictorSettings
from surgmotion_jax.models.hugging_face_names import hugging_face_probe_tensors, hugging_face_tensors
from surgmotion_jax.models.name_rules import Deferred, count_layers
from surgmotion_jax.storage import Json

PLACEHOLDER = PredictorSettings(width=8, depth=0, heads=1, mask_tokens=1)
OTHER = {"target": "encoder", "encoder": "target"}
TITLES = {"target": "target encoder", "encoder": "online encoder", "predictor": "predictor", "probe": "probe"}


@dataclass(frozen=True)
class Plan:
    """Arrays by their place in the result, the accounting of the source, and sentences that a person must see."""

    arrays: Mapping[str, Deferred]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes that will be written."""
        return sum(int(np.prod(a.shape)) * np.dtype(a.dtype).itemsize for a in self.arrays.values())


def choose_encoder(foreign: Foreign, asked: str, one: bool) -> tuple[Foreign, tuple[str, ...]]:
    """Leaves one encoder where `one` is needed or a certain one was `asked` for: `target` or `online`.

    A source that has only the other one gives that, and says so.
    """
    wanted = {"online": "encoder", "": "target"}.get(asked, asked)
    other = OTHER[wanted]
    if not (one or asked) or other not in foreign.networks:
        return foreign, ()
    if wanted not in foreign.networks:
        return foreign, (f"the source has no {TITLES[wanted]}: its {TITLES[other]} is taken",)
    flag = "online" if wanted == "target" else "target"
    reason = f"the {TITLES[other]}; --weights={flag} takes it instead"
    return foreign.without([other], reason), ()


def plan_ours(foreign: Foreign, described: Described) -> Plan:
    """Every network in our names: `target/...`, `params/encoder/...`, `params/predictor/...`, `params/probe/...`.

    Raises IncompleteWeights naming tensors that are missing, left over or of a wrong shape.
    """
    arrays: dict[str, Deferred] = {}
    for network, tensors in foreign.networks.items():
        expected = expected_leaves(described, network)
        leaves = leaves_of(network, tensors, described.heads[network], expected)
        arrays |= {f"{PLACES[network]}/{path}": leaf for path, leaf in leaves.items()}
    return Plan(arrays, tuple(foreign.accounts(arrays)))


def plan_transformers(
    foreign: Foreign, described: Described, training: Training, labels: tuple[str, ...]
) -> tuple[Plan, dict[str, Json]]:
    """The arrays of `model.safetensors` and the fields of `config.json`: (Plan, fields).

    `foreign` holds one encoder. Raises NotExpressible for what transformers has no class for, IncompleteWeights as
    `plan_ours` does.
    """
    model = described.model
    encoder = next((foreign.networks[n] for n in OTHER if n in foreign.networks), None)
    if model is None or encoder is None:
        raise NotExpressible(
            "the source holds no encoder, and transformers loads a classifier only together with one; convert it to "
            "our format: leave out --to=transformers."
        )
    plan_ours(foreign, described)  # the same checks, whatever is written
    notes = []
    predictor = foreign.networks.get("predictor")
    if predictor is None:
        model = replace(model, predictor=PLACEHOLDER)
        predictor = _placeholder(model)
        notes.append(
            "the source has no predictor and transformers insists on one: a placeholder without layers, all zeros, is "
            "written; pass skip_predictor=True"
        )
    elif transformers_directory.MASK_INDEX % model.predictor.mask_tokens != model.predictor.mask_index:
        notes.append(
            f"transformers' predictor uses mask token {transformers_directory.MASK_INDEX}, training used "
            f"{model.predictor.mask_index}; for its predictions copy that one: tokens = "
            "model.predictor.embeddings.mask_tokens.data; "
            f"tokens[{transformers_directory.MASK_INDEX}] = tokens[{model.predictor.mask_index}]"
        )
    probe = foreign.networks.get("probe")
    head = _head(probe, described, labels) if probe else None
    fields = transformers_directory.config_fields(model, training, head)
    core = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    core |= {f"predictor.{name}": tensor for name, tensor in predictor.items()}
    prefix = "vjepa2." if head else ""
    arrays = {f"{prefix}{name}": tensor for name, tensor in hugging_face_tensors(core).items()}
    arrays |= hugging_face_probe_tensors(probe) if probe else {}
    return Plan(arrays, tuple(foreign.accounts(arrays)), tuple(notes)), fields


def _head(probe: Mapping[str, Deferred], described: Described, labels: tuple[str, ...]) -> Head:
    classes = probe["linear.weight"].shape[0]
    if labels and len(labels) != classes:
        raise NotExpressible(f"{len(labels)} labels are given for {classes} classes.")
    return Head(
        count_layers(probe, "pooler.blocks."),
        described.heads["probe"],
        labels or tuple(f"LABEL_{i}" for i in range(classes)),
    )


def _placeholder(model: ModelConfig) -> dict[str, Deferred]:
    """A predictor of no layers, all zeros, in facebookresearch's names."""
    wide, narrow = model.encoder.width, model.predictor.width
    shapes = {
        "predictor_embed.weight": (narrow, wide),
        "predictor_embed.bias": (narrow,),
        "mask_tokens.0": (1, 1, narrow),
        "predictor_norm.weight": (narrow,),
        "predictor_norm.bias": (narrow,),
        "predictor_proj.weight": (wide, narrow),
        "predictor_proj.bias": (wide,),
    }
    return {name: _zeros(shape) for name, shape in shapes.items()}


def _zeros(shape: tuple[int, ...]) -> Deferred:
    return Deferred(shape, np.dtype(np.float32), (), lambda: np.zeros(shape, np.float32))
