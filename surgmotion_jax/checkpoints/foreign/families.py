"""Which release a weight file comes from, told by its names alone, and which part of a model each tensor belongs to.

Releases differ in how they group tensors (one dict per network, or prefixes), in prefixes left by wrappers of training
(`module.`, `backbone.`) and in the names of layers. Here tensors are grouped into the parts `encoder` (online),
`target` (its moving average), `predictor` and `probe`, under the names of one style. A name that nobody knows is an
error: no weights are ever loaded by halves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Tensors = Mapping[str, Any]
Sections = Mapping[str, Tensors]

SHOWN = 8  # names quoted in an error


class UnknownWeights(ValueError):
    """A file whose names fit no release; the message says what was found and what is known."""


@dataclass(frozen=True)
class Family:
    """A release: its title, the style of its names (`facebook` or `transformers`), and names that show it."""

    title: str
    style: str
    example: str


FAMILIES: dict[str, Family] = {
    "vjepa2": Family(
        "V-JEPA 2, facebookresearch",
        "facebook",
        "encoder, target_encoder, predictor: module.backbone.blocks.0.attn.qkv.weight",
    ),
    "vjepa2_encoder": Family(
        "one encoder in facebookresearch's names, as SurgMotion's",
        "facebook",
        "encoder: module.backbone.blocks.0.attn.qkv.weight",
    ),
    "vjepa21": Family(
        "V-JEPA 2.1, facebookresearch",
        "facebook",
        "ema_encoder or target_encoder: norms_block.0.weight, patch_embed_img.proj.weight, video_mod_embed",
    ),
    "probe": Family(
        "attentive probe, facebookresearch",
        "facebook",
        "classifiers: module.pooler.query_tokens, module.linear.weight",
    ),
    "transformers": Family(
        "VJEPA2Model, transformers", "transformers", "encoder.layer.0.attention.query.weight, predictor.layer.0..."
    ),
    "transformers_classifier": Family(
        "VJEPA2ForVideoClassification, transformers",
        "transformers",
        "vjepa2.encoder.layer.0..., pooler.query_tokens, classifier.weight",
    ),
}

# Top-level names of facebookresearch's files, and the parts that they are.
PARTS = {"encoder": "encoder", "target_encoder": "target", "ema_encoder": "target", "predictor": "predictor"}
LEFT_OUT = {
    "opt": "optimiser state",
    "optimizer": "optimiser state",
    "scaler": "gradient scaler",
    "scheduler": "schedule",
    "epoch": "training record",
    "itr": "training record",
    "loss": "training record",
    "batch_size": "training record",
    "world_size": "training record",
    "lr": "training record",
}
STALE = {
    "pos_embed": "fixed sin-cos table; positions are computed",
    "predictor_pos_embed": "fixed sin-cos table; positions are computed",
}


@dataclass(frozen=True)
class Recognised:
    """A file's tensors by part, under the names of the family's style, wrappers' prefixes removed.

    `names` gives each (part, name) its full name in the file, `originals` each full name its tensor; `ignored` gives
    full names that are in no part their reason.
    """

    key: str
    parts: dict[str, dict[str, Any]]
    names: dict[tuple[str, str], str]
    originals: dict[str, Any]
    ignored: dict[str, str] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        return FAMILIES[self.key]


def recognise(where: str, sections: Sections) -> Recognised:
    """Groups the tensors of a file. `sections` holds one dict of tensors per top-level name; "" for a flat file.

    Raises UnknownWeights naming the first names found and the styles known.
    """
    sections = {name: tensors for name, tensors in sections.items() if tensors}
    if not sections:
        raise UnknownWeights(f"{where}: no tensors found. {known_styles()}")
    for accept in (_transformers, _probe, _facebook):
        found = accept(where, sections)
        if found is not None:
            return found
    raise UnknownWeights(f"{where}: {found_names(sections)} fit no release. {known_styles()}")


def known_styles() -> str:
    """The releases that can be read, for errors."""
    lines = "".join(f"\n  {family.title}: {family.example}" for family in FAMILIES.values())
    return f"Known are:{lines}"


def found_names(sections: Sections) -> str:
    """The first names of a file, for errors."""
    names = [_full(section, name) for section, tensors in sections.items() for name in tensors]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"the names {', '.join(names[:SHOWN])}{more}"


def reason_for_value(name: str) -> str:
    """Why a value that is no tensor, at a dotted path of the file, is left out."""
    return LEFT_OUT.get(name.partition(".")[0], "not a tensor")


def strip_wrappers(name: str) -> str:
    """A name without what data parallelism and the mask wrapper put in front of it."""
    return re.sub(r"^(module\.|backbone\.)+", "", name)


def _full(section: str, name: str) -> str:
    return f"{section}/{name}" if section else name


def _flat(sections: Sections) -> Tensors | None:
    """The tensors of a file that is one dict, perhaps under one of the names that hold a whole model."""
    if len(sections) != 1:
        return None
    name, tensors = next(iter(sections.items()))
    return tensors if name in ("", "model", "state_dict") else None


def _transformers(where: str, sections: Sections) -> Recognised | None:
    tensors = _flat(sections)
    if tensors is None or not any(".embeddings.patch_embeddings." in name for name in tensors):
        return None
    section = next(iter(sections))
    parts: dict[str, dict[str, Any]] = {}
    names: dict[tuple[str, str], str] = {}
    for full, tensor in tensors.items():
        name = full.removeprefix("vjepa2.")
        part = {"encoder": "target", "predictor": "predictor", "pooler": "probe", "classifier": "probe"}.get(
            name.split(".")[0]
        )
        if part is None:
            raise UnknownWeights(
                f"{where}: {full!r} is not a name of transformers' V-JEPA 2, which begin with encoder, predictor, "
                "pooler or classifier (vjepa2.encoder and vjepa2.predictor beside a classifier)."
            )
        parts.setdefault(part, {})[name] = tensor
        names[part, name] = _full(section, full)
    originals = {_full(section, full): tensor for full, tensor in tensors.items()}
    return Recognised("transformers_classifier" if "probe" in parts else "transformers", parts, names, originals)


def _probe(where: str, sections: Sections) -> Recognised | None:
    heads = {name: tensors for name, tensors in sections.items() if name.split(".")[0] == "classifiers"}
    if not heads:
        return None
    first, *others = heads
    collected = _Collected(where)
    collected.take("probe", first, heads[first])
    for name in others:
        collected.ignore(name, heads[name], "another head of the sweep; the first one is taken, as in the releases")
    collected.leave_out({name: tensors for name, tensors in sections.items() if name not in heads})
    return collected.recognised("probe")


def _facebook(where: str, sections: Sections) -> Recognised | None:
    sections = _split_by_prefix(sections)
    if not set(PARTS) & set(sections):
        return None
    collected = _Collected(where)
    for section, part in PARTS.items():
        if section in sections:
            collected.take(part, section, sections[section])
    if not any(_has_layers(tensors) for tensors in collected.parts.values()):
        return None
    collected.leave_out({name: tensors for name, tensors in sections.items() if name not in PARTS})
    encoders = [collected.parts[part] for part in ("encoder", "target") if part in collected.parts]
    if any(name.startswith("norms_block.") for tensors in encoders for name in tensors):
        return collected.recognised("vjepa21")
    if list(collected.parts) == ["encoder"]:
        collected.rename("encoder", "target")  # a released encoder is the one to use: what is loaded by default
        return collected.recognised("vjepa2_encoder")
    return collected.recognised("vjepa2")


def _has_layers(tensors: Tensors) -> bool:
    return any(re.match(r"(predictor_)?blocks\.\d+\.", name) for name in tensors)


def _split_by_prefix(sections: Sections) -> Sections:
    """A flat file as sections: `encoder.blocks...` by its first word, and a bare encoder as `encoder`."""
    tensors = _flat(sections)
    if tensors is None:
        return sections
    if any(strip_wrappers(name).startswith("patch_embed.") for name in tensors):
        return {"encoder": _Renamed(tensors, "")}
    split: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        section, _, rest = name.partition(".")
        split.setdefault(section, {})[rest] = tensor
    return {section: _Renamed(inner, f"{section}.") for section, inner in split.items()}


class _Renamed(dict[str, Any]):
    """Tensors of a flat file, which remembers the prefix that their names had there."""

    def __init__(self, tensors: Tensors, prefix: str) -> None:
        super().__init__(tensors)
        self.prefix = prefix


def _namer(section: str, tensors: Tensors) -> Callable[[str], str]:
    if isinstance(tensors, _Renamed):
        return lambda name: f"{tensors.prefix}{name}"
    return lambda name: _full(section, name)


class _Collected:
    """Parts under construction."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.parts: dict[str, dict[str, Any]] = {}
        self.names: dict[tuple[str, str], str] = {}
        self.originals: dict[str, Any] = {}
        self.ignored: dict[str, str] = {}

    def take(self, part: str, section: str, tensors: Tensors) -> None:
        """Adds a section's tensors to a part. Raises UnknownWeights if two names become one without wrappers."""
        full = _namer(section, tensors)
        mine = self.parts.setdefault(part, {})
        self.originals |= {full(name): tensor for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            bare = strip_wrappers(name)
            if bare in STALE:
                self.ignored[full(name)] = STALE[bare]
                continue
            if bare in mine:
                raise UnknownWeights(
                    f"{self.where}: {self.names[part, bare]!r} and {full(name)!r} are both the {part}'s {bare!r}; "
                    "keep one of them in the file."
                )
            mine[bare] = tensor
            self.names[part, bare] = full(name)

    def rename(self, old: str, new: str) -> None:
        self.parts[new] = self.parts.pop(old)
        self.names = {(new if part == old else part, name): full for (part, name), full in self.names.items()}

    def ignore(self, section: str, tensors: Tensors, reason: str) -> None:
        full = _namer(section, tensors)
        self.originals |= {full(name): tensor for name, tensor in tensors.items()}
        self.ignored |= {full(name): reason for name in tensors}

    def leave_out(self, sections: Sections) -> None:
        """Ignores what training keeps beside the weights. Raises UnknownWeights for a section nobody knows."""
        for section, tensors in sections.items():
            reason = LEFT_OUT.get(section.split(".")[0])
            if reason is None:
                raise UnknownWeights(
                    f"{self.where}: the section {section!r} ({found_names({section: tensors})}) is not known; known "
                    f"are {_listing(PARTS)}, classifiers, and {_listing(LEFT_OUT)}, which are left out."
                )
            self.ignore(section, tensors, reason)

    def recognised(self, key: str) -> Recognised:
        return Recognised(key, self.parts, self.names, self.originals, self.ignored)


def _listing(names: Iterable[str]) -> str:
    return ", ".join(names)
