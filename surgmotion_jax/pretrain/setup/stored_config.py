"""A run's config as its workdir keeps it, with the number of the schema that it is written in."""

from __future__ import annotations

from surgmotion_jax import storage
from surgmotion_jax.pretrain.config import PretrainConfig, as_dict
from surgmotion_jax.storage import Json

CONFIG_FILE = "config.json"
SCHEMA_VERSION = 1


def stored(config: PretrainConfig) -> dict[str, Json]:
    """What `config.json` holds."""
    return {"schema_version": SCHEMA_VERSION, **as_dict(config)}


def read_stored(path: storage.PathLike) -> dict[str, Json]:
    """The config in a `config.json`, as nested dicts. Raises ValueError, naming the file, for one of another schema."""
    fields = storage.read_json(path)
    version = fields.pop("schema_version", None) if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: schema_version {version!r}, this version reads {SCHEMA_VERSION}; use the version of the package "
            "that wrote it, or another --workdir."
        )
    return dict(fields)
