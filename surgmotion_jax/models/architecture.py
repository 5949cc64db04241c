"""What a checkpoint says about its model: a plain dict, written and read back.

It holds every field of the model except how to compute it (attention, remat, dtype).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from surgmotion_jax.checks import did_you_mean
from surgmotion_jax.models.config import ModelConfig, PredictorSettings, V21Settings

# Model fields that say how to compute, not what the arrays of a checkpoint mean.
COMPUTE_FIELDS = ("attention", "remat", "dtype")

SECTIONS: dict[str, type] = {"predictor": PredictorSettings, "v21": V21Settings}


def architecture(model: ModelConfig) -> dict[str, Any]:
    """What must agree for a checkpoint's arrays to make sense, as nested plain dicts."""
    return {name: value for name, value in dataclasses.asdict(model).items() if name not in COMPUTE_FIELDS}


def model_of(
    architecture: Mapping[str, Any], *, attention: str = "xla", remat: str = "none", dtype: str = "float32"
) -> ModelConfig:
    """The model that `architecture` described, to be computed as the keywords say.

    Raises ValueError naming fields that are unknown, missing or of the wrong type, and where `ModelConfig` refuses a
    value.
    """
    fields = dict(_checked(architecture, ModelConfig, ""))
    for name, section in SECTIONS.items():
        fields[name] = section(**_checked(fields[name], section, f"{name}."))
    return ModelConfig(**fields, attention=attention, remat=remat, dtype=dtype)


def _checked(found: Any, section: type, prefix: str) -> Mapping[str, Any]:
    """The fields of one section, if all that it must have are there, and no others."""
    where = f"architecture.{prefix}".rstrip(".")
    if not isinstance(found, Mapping):
        raise ValueError(f"{where} is {found!r}; it must be a mapping of fields, as a checkpoint's manifest holds.")
    defaults = {f.name: getattr(section(), f.name) for f in dataclasses.fields(section)}
    known = [name for name in defaults if prefix or name not in COMPUTE_FIELDS]
    unknown = [name for name in found if name not in known]
    if unknown:
        hint = did_you_mean(str(unknown[0]), known)
        raise ValueError(
            f"{where} has the unknown field(s) {', '.join(map(repr, unknown))}; known are {', '.join(known)}.{hint} A "
            "newer version of this package may have written it: use that version."
        )
    missing = [name for name in known if name not in found]
    if missing:
        raise ValueError(
            f"{where} lacks {', '.join(missing)}; the manifest was not written by this package, or damaged."
        )
    for name, value in found.items():
        wanted = type(defaults[name])
        if name not in SECTIONS and type(value) is not wanted:
            raise ValueError(f"architecture.{prefix}{name} is {value!r}; it must be of type {wanted.__name__}.")
    return found
