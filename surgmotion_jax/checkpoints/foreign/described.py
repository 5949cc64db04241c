"""The model that a release's weights belong to: what the shapes say, what a config beside them says, what is assumed.

Every fact that the shapes cannot show is listed with where it came from, so that a person can contradict it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import jax

from surgmotion_jax.checkpoints.foreign.networks import Foreign
from surgmotion_jax.checkpoints.foreign.shapes import (
    PROBE_HEADS,
    EncoderShape,
    NoSuchArchitecture,
    PredictorShape,
    checked_heads,
    encoder_heads,
    encoder_shape,
    predictor_heads,
    predictor_shape,
    shape_of,
)
from surgmotion_jax.checkpoints.tree import Array, leaves_by_path
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import VARIANTS, ModelConfig, PredictorSettings, V21Settings
from surgmotion_jax.models.name_rules import count_layers
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.models.probe import ProbeConfig, init_probe
from surgmotion_jax.storage import Json

ROPE_PIXELS = 256  # V-JEPA 2.1 scales rows and columns to the grid of this crop


@dataclass(frozen=True)
class Hints:
    """What a person said: 0 and "" mean nothing was said."""

    heads: int = 0
    predictor_heads: int = 0
    probe_heads: int = 0
    positions: str = ""
    said: str = "as asked"  # where the numbers of heads come from


@dataclass(frozen=True)
class Described:
    """The model and the heads of each network; `model` is None for a probe alone. `told` are lines for people."""

    model: ModelConfig | None
    heads: Mapping[str, int]
    told: tuple[str, ...]
    probe: ProbeConfig | None = None


def describe(foreign: Foreign, hints: Hints, beside: Mapping[str, Json] | None = None) -> Described:
    """The architecture of a source. `beside` is the `config.json` of transformers, if there is one.

    Raises NoSuchArchitecture naming what does not fit or what must be said with which flag.
    """
    hints = _with_config(hints, beside or {})
    shapes = [encoder_shape(foreign.networks[n]) for n in ("target", "encoder") if n in foreign.networks]
    if len(set(shapes)) > 1:
        raise NoSuchArchitecture(f"target and online encoder differ: {shapes[0]} and {shapes[1]}; convert them apart.")
    told: list[str] = []
    heads: dict[str, int] = {}
    model = probe = None
    if shapes:
        count, why = encoder_heads(shapes[0].trunk, hints.heads, hints.said)
        heads |= dict.fromkeys(("target", "encoder"), count)
        predictor = predictor_shape(foreign.networks["predictor"]) if "predictor" in foreign.networks else None
        model = _model(foreign.family, shapes[0], count, hints)
        told.append(tell_encoder(model, why))
        if predictor:
            heads["predictor"], why = predictor_heads(predictor.trunk, hints.predictor_heads, hints.said)
            model = _with_predictor(model, foreign.family, predictor, heads["predictor"])
            told.append(tell_predictor(model, why))
    if "probe" in foreign.networks:
        probe, line = _probe(foreign, hints, heads.get("target", 0))
        heads["probe"] = probe.heads
        told.append(line)
    return Described(model, heads, tuple(told), probe)


def _with_config(hints: Hints, beside: Mapping[str, Json]) -> Hints:
    """Hints, filled up from transformers' config. Raises NoSuchArchitecture for values that mean another network."""
    for name, allowed in (("hidden_act", "gelu"), ("layer_norm_eps", 1e-6), ("qkv_bias", True), ("in_chans", 3)):
        if beside.get(name, allowed) != allowed:
            raise NoSuchArchitecture(f"config.json: {name} is {beside[name]!r}; only {allowed!r} is computed here.")
    heads, predictor = (int(beside.get(name, 0)) for name in ("num_attention_heads", "pred_num_attention_heads"))
    return replace(
        hints,
        heads=hints.heads or heads,
        predictor_heads=hints.predictor_heads or predictor,
        probe_heads=hints.probe_heads or hints.heads or heads,
        said="of config.json" if beside and not (hints.heads or hints.predictor_heads) else hints.said,
    )


def _model(family: str, shape: EncoderShape, heads: int, hints: Hints) -> ModelConfig:
    trunk = shape.trunk
    row = trunk.width, trunk.depth, heads, trunk.mlp
    names = [name for name, v in VARIANTS.items() if (v.width, v.depth, v.heads, v.mlp) == row]
    sizes: dict[str, Json] = {} if names else dict(zip(("width", "depth", "heads", "mlp"), row, strict=True))
    v21 = V21Settings()
    if family == "vjepa21":
        v21 = V21Settings(shape.levels, rope_grid=ROPE_PIXELS // shape.patch, modality=True)
    return ModelConfig(
        variant=names[0] if names else "vit_large",
        patch=shape.patch,
        tubelet=shape.tubelet,
        positions=hints.positions or ("rope" if family == "vjepa21" else "rope_tiled"),
        remat="none",
        dtype="float32",
        v21=v21,
        **sizes,
    )


def _with_predictor(model: ModelConfig, family: str, shape: PredictorShape, heads: int) -> ModelConfig:
    trunk, width = shape.trunk, model.encoder.width
    if shape.inputs % width:
        raise NoSuchArchitecture(
            f"the predictor takes features of width {shape.inputs}, no multiple of the encoder's {width}."
        )
    settings = PredictorSettings(
        width=trunk.width,
        depth=trunk.depth,
        heads=heads,
        mask_tokens=shape.mask_tokens,
        mask_index=1 % shape.mask_tokens if family.startswith("transformers") and shape.mask_tokens else 0,
        mlp=0 if trunk.mlp == 4 * trunk.width else trunk.mlp,
    )
    levels = shape.inputs // width
    v21 = model.v21
    if v21.levels:
        v21 = replace(
            v21,
            output_levels=0 if levels == v21.levels else levels,
            context_projection=shape.context,
            target_width=0 if shape.outputs == shape.inputs else shape.outputs,
        )
    return replace(model, predictor=settings, v21=v21)


def _probe(foreign: Foreign, hints: Hints, encoder: int) -> tuple[ProbeConfig, str]:
    """The probe and where its number of heads comes from. Its norms' eps is the release's: no tensor shows it."""
    tensors = foreign.networks["probe"]
    classes, width = shape_of(tensors, "linear.weight", 2)
    complete = "pooler.cross_attention_block.q.weight" not in tensors
    if foreign.family == "probe":
        asked = hints.probe_heads or hints.heads
        heads, why, eps = (
            asked or PROBE_HEADS,
            "as asked" if asked else "facebookresearch's, whatever the encoder",
            1e-5,
        )
    else:
        heads, why, eps = hints.probe_heads or encoder, "the encoder's, as transformers computes it", 1e-6
    mlp = shape_of(tensors, "pooler.cross_attention_block.mlp.fc1.weight", 2)[0] if complete else 4 * width
    probe = ProbeConfig(
        width=width,
        outputs=classes,
        depth=1 + count_layers(tensors, "pooler.blocks."),
        heads=checked_heads("the probe's number of heads", heads, width),
        mlp=0 if mlp == 4 * width else mlp,
        queries=shape_of(tensors, "pooler.query_tokens", 3)[1],
        norm_eps=eps,
        complete_block=complete,
    )
    return probe, tell_probe(probe, why)


PROBE_FIELDS = ("width", "outputs", "depth", "heads", "mlp", "queries", "norm_eps", "complete_block")


def probe_fields(probe: ProbeConfig) -> dict[str, Json]:
    """What a checkpoint says about its probe: how to compute is not part of it."""
    return {name: getattr(probe, name) for name in PROBE_FIELDS}


def tell_probe(probe: ProbeConfig, why: str) -> str:
    """The probe in a line."""
    return (
        f"probe: {probe.width} wide, {probe.outputs} classes, {probe.depth - 1} blocks before the query; "
        f"{probe.heads} heads ({why}); norm eps {probe.norm_eps:g}"
    )


def tell_encoder(model: ModelConfig, why: str) -> str:
    """The encoder in a line; `why` says where the number of heads comes from."""
    c = model.encoder
    name = "no row of the ViT table" if model.width else model.variant
    levels = f", {model.v21.levels} normed levels" if model.v21.levels else ""
    return (
        f"encoder: {name}, {c.width} wide, {c.depth} layers, MLP {c.mlp}, patch {model.patch}, tubelet {model.tubelet}"
        f"{levels}; {c.heads} heads ({why}); positions {model.positions}"
    )


def tell_predictor(model: ModelConfig, why: str) -> str:
    """The predictor in a line."""
    c = model.predictor_trunk
    return (
        f"predictor: {c.width} wide, {c.depth} layers, MLP {c.mlp}, {model.predictor.mask_tokens} mask tokens; "
        f"{c.heads} heads ({why})"
    )


def expected_leaves(described: Described, network: str) -> dict[str, Array]:
    """Path -> shape of every leaf that a network of this architecture has; nothing is allocated."""
    return leaves_by_path(jax.eval_shape(_initialiser(described, network), jax.random.key(0)))


def _initialiser(described: Described, network: str) -> Callable[[jax.Array], Params]:
    if network == "probe":
        assert described.probe is not None, "the probe has an architecture"
        return partial(init_probe, described.probe)
    assert described.model is not None, f"the {network} has an architecture"
    backbone = backbone_of(described.model)
    return backbone.predictor.init if network == "predictor" else backbone.init
