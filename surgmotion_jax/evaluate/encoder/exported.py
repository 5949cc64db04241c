"""An encoder as one StableHLO program, to be run by JAX, or anything else that takes StableHLO, without this package.

  encode = load_exported("encoder.stablehlo")
  tokens_BxtxhxwxD = encode(video_BxTxHxWx3)  # uint8, any B

The number of clips B is symbolic, frames and pixels are fixed. Normalisation is part of the program. Weights are
constants of the program by default, so that one file is all there is to keep; as StableHLO files cannot hold more
than 2 GB, larger encoders take them as arguments, from an npz beside the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import export

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.manifest import installed_versions
from surgmotion_jax.checkpoints.tree import leaves_by_path, nest
from surgmotion_jax.checks import one_of
from surgmotion_jax.evaluate.encoder.frozen import Array, FrozenEncoder, Params, features
from surgmotion_jax.evaluate.features.files import to_npz
from surgmotion_jax.models.architecture import architecture

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
SCHEMA_VERSION = 1
MOST_INSIDE = 1_900_000_000  # bytes of weights; the limit of the format is 2 GB with the program
CHECKED_BATCHES = (1, 3)
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # relative error (L2) of the loaded program to the direct call


@dataclass(frozen=True)
class ExportSettings:
    """What the program is for. The encoder's sizes are checked when it is made."""

    frames: int = 16  # frames per clip
    size: int = 256  # rows and columns, pixels
    platforms: tuple[str, ...] = ("cpu", "cuda", "tpu")  # where it can run
    weights_as_arguments: bool = False  # weights in an npz beside the program, not in it

    def __post_init__(self) -> None:
        for platform in self.platforms:
            if platform == "gpu":
                raise ValueError(
                    f"platforms is 'gpu'; it must be one of {', '.join(PLATFORMS)}: cuda for NVIDIA's GPUs, rocm for "
                    "AMD's."
                )
            one_of("platforms", platform, PLATFORMS)
        if not self.platforms:
            raise ValueError(f"platforms is empty; give one or more of {', '.join(PLATFORMS)}")


def export_encoder(encoder: FrozenEncoder, path: storage.PathLike, settings: ExportSettings) -> dict[str, Any]:
    """Writes the program to `path`, what it is to `path + '.json'`, and where asked the weights to `path + '.npz'`.

    The program is serialised, loaded back and compared with the direct call at two batch sizes before anything is
    written. Returns the JSON's value. Raises ValueError for sizes that the encoder does not take, for weights too
    large to be inside, where this machine's platform is not among those asked for (nothing could be checked), and
    where the loaded program gives something else.
    """
    grid = encoder.grid(settings.frames, settings.size, settings.size)
    _check_here(settings.platforms)
    params = jax.tree.map(np.asarray, encoder.params)
    if not settings.weights_as_arguments:
        _check_fits(params)
    program = serialise(encoder, params, settings)
    difference = compare(encoder, params, program, settings)
    weights = (
        to_npz({path: np.asarray(leaf) for path, leaf in leaves_by_path(params).items()})
        if settings.weights_as_arguments
        else b""
    )
    video = ["batch", settings.frames, settings.size, settings.size, 3]
    described = {
        "schema_version": SCHEMA_VERSION,
        "input": {"shape": video, "dtype": "uint8", "meaning": "RGB; batch is any number of clips"},
        "output": {"shape": ["batch", *grid, encoder.width], "dtype": "float32"},
        "platforms": list(settings.platforms),
        "weights": {"where": "arguments" if weights else "inside", "sha256": _sha256(weights) if weights else None},
        "checkpoint": {"name": encoder.origin.name, "step": encoder.origin.step, "digest": encoder.origin.digest},
        "architecture": architecture(encoder.config),
        "dtype": encoder.config.dtype,
        "checked": {"batches": list(CHECKED_BATCHES), "relative_error": difference},
        "sha256": _sha256(program),
        "versions": installed_versions(),
    }
    if weights:
        storage.write_bytes_atomic(f"{os.fspath(path)}.npz", weights)
    storage.write_text_atomic(f"{os.fspath(path)}.json", json.dumps(described, indent=1) + "\n")
    storage.write_bytes_atomic(path, program)
    return described


def load_exported(path: storage.PathLike) -> Callable[[Array], jax.Array]:
    """The program of a file as a function: uint8 clips [B,T,H,W,3] to tokens [B,t,h,w,D] float32.

    Raises ValueError, naming the file, where it is not what the JSON beside it says, or the weights are not.
    """
    where = os.fspath(path)
    described = storage.read_json(f"{where}.json")
    program = storage.as_path(path).read_bytes()
    _check_sha256(where, program, described["sha256"])
    if described["weights"]["where"] == "inside":
        return jax.jit(export.deserialize(bytearray(program)).call)
    data = storage.as_path(f"{where}.npz").read_bytes()
    _check_sha256(f"{where}.npz", data, described["weights"]["sha256"])
    with np.load(io.BytesIO(data)) as archive:
        params = jax.device_put(nest({name: archive[name] for name in archive.files}))
    call = jax.jit(export.deserialize(bytearray(program)).call)
    return lambda video: call(params, video)


def serialise(encoder: FrozenEncoder, params: Params, settings: ExportSettings) -> bytes:
    """The program's bytes; its arguments are (weights, clips), or clips alone where the weights are inside."""
    config = encoder.config
    (batch,) = export.symbolic_shape("batch")
    video = jax.ShapeDtypeStruct((batch, settings.frames, settings.size, settings.size, 3), np.uint8)

    def with_weights(weights: Params, clips: jax.Array) -> jax.Array:
        return features(config, weights, clips).tokens

    def with_clips(clips: jax.Array) -> jax.Array:
        return features(config, params, clips).tokens

    if settings.weights_as_arguments:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
        exported = export.export(jax.jit(with_weights), platforms=settings.platforms)(shapes, video)
    else:
        exported = export.export(jax.jit(with_clips), platforms=settings.platforms)(video)
    return bytes(exported.serialize())


def compare(encoder: FrozenEncoder, params: Params, program: bytes, settings: ExportSettings) -> float:
    """Largest relative error of the program, loaded back, to the direct call; ValueError if that is not rounding."""
    loaded = export.deserialize(bytearray(program))
    arguments = (params,) if settings.weights_as_arguments else ()
    worst = 0.0
    for batch in CHECKED_BATCHES:
        shape = (batch, settings.frames, settings.size, settings.size, 3)
        video = np.random.default_rng(batch).integers(0, 256, shape, dtype=np.uint8)
        wanted, found = np.asarray(encoder(video)), np.asarray(jax.jit(loaded.call)(*arguments, video))
        if found.shape != wanted.shape:
            raise ValueError(f"the exported program gives {found.shape} for {batch} clips, the encoder {wanted.shape}")
        worst = max(worst, float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)))
    allowed = TOLERANCE[encoder.config.dtype]
    if not worst <= allowed:
        raise ValueError(
            f"the exported program differs from the direct call by {worst:.2g} (relative, at {CHECKED_BATCHES} clips), "
            f"allowed is {allowed:g}; nothing was written. Another version of JAX may lower this encoder differently."
        )
    return worst


def _check_here(platforms: Sequence[str]) -> None:
    device = jax.devices()[0]
    here = {"gpu": "rocm" if "rocm" in device.client.platform_version else "cuda"}.get(device.platform, device.platform)
    if here not in platforms:
        raise ValueError(
            f"platforms are {', '.join(platforms)}, but this machine has {here}, so the program could not be checked; "
            f"add {here}, or export on a machine that has one of them"
        )


def _check_fits(params: Params) -> None:
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    if size > MOST_INSIDE:
        raise ValueError(
            f"the weights are {size / 1e9:.1f} GB, and a StableHLO file holds at most 2 GB; give --weights-as-arguments"
        )


def _check_sha256(where: str, data: bytes, wanted: str) -> None:
    if _sha256(data) != wanted:
        raise ValueError(f"{where}: not the file that {pathlib.PurePath(where).name}'s JSON describes; export it again")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
