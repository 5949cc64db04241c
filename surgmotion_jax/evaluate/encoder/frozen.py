"""Pretrained weights as functions: video in, features out.

  encoder = surgmotion_jax.load_encoder("runs/tiny")
  tokens_BxtxhxwxD = encoder(video_BxTxHxWx3)

Letters: B clips, T frames, H rows, W columns, t tubelet steps, h and w rows and columns of patches, D width,
K context tokens, M target tokens, L chosen layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, overload

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.checks import one_of
from surgmotion_jax.evaluate.encoder.weights import Origin, read_weights
from surgmotion_jax.models.attention import check_attention, resolve_attention
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import DTYPES, Grid, ModelConfig
from surgmotion_jax.models.layout import SINGLE_DEVICE, Layout
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.models.pixels import normalise_pixels, unit_pixels
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh

Array: TypeAlias = np.ndarray | jax.Array


class Features(NamedTuple):
    """Normalised tokens [B,t,h,w,D] float32, and those of the chosen layers, [L,B,t,h,w,D]."""

    tokens: jax.Array
    layers: jax.Array


def features(
    config: ModelConfig,
    params: Params,
    video_BxTxHxWx3: jax.Array,
    layers: tuple[int, ...] = (),
    layout: Layout = SINGLE_DEVICE,
) -> Features:
    """The pure function behind `FrozenEncoder`: uint8 pixels, or float ones in [0, 1], not yet normalised."""
    batch, frames, height, width = video_BxTxHxWx3.shape[:4]
    grid = config.grid(max(frames, config.tubelet), height, width)
    pixels = normalise_pixels(unit_pixels(video_BxTxHxWx3))
    encoded = backbone_of(config).encode(params, pixels, layers=layers, layout=layout)
    tokens = encoded.tokens.reshape(batch, *grid, -1)
    return Features(tokens, encoded.layers.reshape(len(layers), *tokens.shape))


class FrozenEncoder:
    """An encoder with its weights, callable on clips; made by `load_encoder`.

    Attributes: `config` (the architecture), `params` (as its `Backbone` takes them), `origin` (which
    weights: name, digest, step), `layout` (the devices).
    """

    def __init__(self, config: ModelConfig, params: Params, origin: Origin, layout: MeshLayout) -> None:
        self.config, self.params, self.origin, self.layout = config, params, origin, layout
        self._traced: list[tuple[Any, ...]] = []
        whole, batch = layout.replicated, layout.batch
        self._features = jax.jit(self._run, static_argnums=2, in_shardings=(whole, batch))
        self._selected = jax.jit(self._run_selected, in_shardings=(whole, batch, batch), out_shardings=batch)

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return self.config.encoder.width

    @property
    def programs(self) -> int:
        """How many programs have been compiled so far: one per shape, dtype and choice of layers."""
        return len(self._traced)

    def grid(self, frames: int, height: int, width: int) -> Grid:
        """Tokens (t, h, w) of a clip. Raises ValueError for a size that the architecture does not allow."""
        patch, tubelet = self.config.patch, self.config.tubelet
        if frames < 1 or (frames % tubelet and frames >= tubelet):
            raise ValueError(
                f"the clip has {frames} frames; this encoder takes {tubelet} frames per token: give a multiple of "
                f"{tubelet} (or 1, a still image), such as {max(frames - frames % tubelet, tubelet)}"
            )
        if min(height, width) < patch or height % patch or width % patch:
            near = [max(patch, round(side / patch) * patch) for side in (height, width)]
            raise ValueError(
                f"the clip has {height} x {width} pixels (rows x columns); this encoder takes patches of {patch} x "
                f"{patch}: resize or crop to multiples of {patch}, such as {near[0]} x {near[1]}"
            )
        return self.config.grid(max(frames, tubelet), height, width)

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raises ValueError unless `layers` are distinct blocks whose outputs can be had."""
        backbone_of(self.config).check_layers(tuple(layers))

    @overload
    def __call__(self, video_BxTxHxWx3: Array) -> jax.Array: ...

    @overload
    def __call__(self, video_BxTxHxWx3: Array, layers: Sequence[int]) -> jax.Array | Features: ...

    def __call__(self, video_BxTxHxWx3: Array, layers: Sequence[int] = ()) -> jax.Array | Features:
        """Encodes clips.

        Args:
          video_BxTxHxWx3: RGB, uint8, or floating in [0, 1]; NumPy or JAX. Normalisation happens inside. T is a
            multiple of the tubelet (or 1), H and W multiples of the patch, otherwise free: positions are relative.
          layers: 0-based blocks whose outputs to return too, each through the final norm.

        Returns:
          Tokens [B,t,h,w,D] float32; with layers, `Features(tokens, layers)`.

        Raises:
          ValueError: another rank, dtype, range or size, or a layer that does not exist.
        """
        found = self.with_layers(video_BxTxHxWx3, layers)
        return found if layers else found.tokens

    def with_layers(self, video_BxTxHxWx3: Array, layers: Sequence[int]) -> Features:
        """What a call gives with layers, also where these are none."""
        video, batch = self._place(video_BxTxHxWx3)
        out = self._features(self.params, video, tuple(layers))
        return out if len(video) == batch else Features(out.tokens[:batch], out.layers[:, :batch])

    def selected(self, video_BxTxHxWx3: Array, ids_BxK: Array) -> jax.Array:
        """Encodes only the tokens `ids` of each clip, as pretraining encodes its context: [B,K,D] float32.

        For V-JEPA 2.1 that is its normed levels side by side, D times their number, as its predictor takes them.
        Token numbers are (step * h + row) * w + column. Raises ValueError as a call does, and for other numbers.
        """
        check_ids(ids_BxK, self.grid(*np.shape(video_BxTxHxWx3)[1:4]))
        video, batch = self._place(video_BxTxHxWx3)
        return self._selected(self.params, video, self._pad(np.asarray(ids_BxK, np.int32)))[:batch]

    def compile(
        self, size: tuple[int, ...], layers: tuple[int, ...] = (), options: Mapping[str, str] | None = None
    ) -> jax.stages.Compiled:
        """The program of `with_layers` for uint8 clips of a size [B,T,H,W,3]; B is a multiple of the devices.

        Parameters may be shapes, and devices may be described ones. `options` are the compiler's.
        """
        video = jax.ShapeDtypeStruct(size, jnp.uint8)
        return self._features.lower(self.params, video, layers).compile(compiler_options=dict(options or {}))

    def _place(self, video: Array) -> tuple[jax.Array, int]:
        """The clips on the devices, rows padded to a multiple of them, and how many are real."""
        check_pixels(video)
        self.grid(*video.shape[1:4])
        if video.dtype not in (np.uint8, np.float32):
            video = video.astype(np.float32)
        return self._pad(video), len(video)

    def _pad(self, rows: Any) -> jax.Array:
        missing = -len(rows) % self.layout.batch_parts
        if missing:
            rows = np.concatenate([np.asarray(rows), np.zeros((missing, *rows.shape[1:]), rows.dtype)])
        return jax.device_put(rows, self.layout.batch)

    def _run(self, params: Params, video: jax.Array, layers: tuple[int, ...]) -> Features:
        self._traced.append((video.shape, video.dtype, layers))
        return features(self.config, params, video, layers, self.layout)

    def _run_selected(self, params: Params, video: jax.Array, ids_BxK: jax.Array) -> jax.Array:
        self._traced.append((video.shape, video.dtype, ids_BxK.shape))
        pixels = normalise_pixels(unit_pixels(video))
        return backbone_of(self.config).encode(params, pixels, ids_BxK, levels=True, layout=self.layout).tokens


class FrozenPredictor:
    """A predictor with its weights; made by `load_pretraining`."""

    def __init__(self, config: ModelConfig, params: Params, layout: MeshLayout) -> None:
        self.config, self.params, self.layout = config, params, layout
        self._predict = jax.jit(self._run, static_argnums=(4, 5))

    def __call__(
        self,
        context_BxKxD: Array,
        context_ids_BxK: Array,
        target_ids_BxM: Array,
        grid: Grid,
        mask_index: int | None = None,
    ) -> jax.Array:
        """Predicts the target encoder's features at `target_ids` from context features: [B,M,D] float32.

        The target of the loss is the layer norm, without affine, of `target(video)`. `mask_index` None takes the
        config's. Raises ValueError for token numbers outside the grid.
        """
        check_ids(context_ids_BxK, grid)
        check_ids(target_ids_BxM, grid)
        ids = (jnp.asarray(context_ids_BxK, jnp.int32), jnp.asarray(target_ids_BxM, jnp.int32))
        return self._predict(self.params, context_BxKxD, *ids, grid, mask_index)

    def _run(
        self, params: Params, context: jax.Array, context_ids: jax.Array, ids: jax.Array, grid: Grid, index: int | None
    ) -> jax.Array:
        predictor = backbone_of(self.config).predictor
        predicted = predictor.predict(params, context, context_ids, ids, grid=grid, mask_index=index)
        return predicted.astype(jnp.float32)


@dataclass(frozen=True)
class Pretrained:
    """Everything that pretraining learns. Each part is callable and has `params`."""

    encoder: FrozenEncoder  # online
    predictor: FrozenPredictor
    target: FrozenEncoder  # the online encoder's moving average
    config: ModelConfig


def load_encoder(
    path: storage.PathLike,
    *,
    weights: str = "target",
    dtype: str = "float32",
    attention: str = "auto",
    devices: Sequence[jax.Device] | None = None,
) -> FrozenEncoder:
    """Loads an encoder.

    Args:
      path: a workdir, its checkpoints folder, one step of it, converted weights, or a fresh encoder as
        `random:VARIANT[/PATCH][:SEED]`, such as `random:vit_tiny` or `random:vit_nano/8`.
      weights: `target` (the moving average, the usual choice for evaluation) or `online`.
      dtype: of the computation, float32 or bfloat16; parameters, norms and the features returned stay float32.
      attention: xla, cudnn (NVIDIA GPUs), splash, fused (TPUs); auto takes whichever suits the devices.
      devices: where to run; default is every device of this process. Clips are spread over them.

    Raises ValueError for a path without weights, damaged weights (by digest), or settings that do not fit.
    """
    layout = placed(dtype, attention, devices)
    found = read_weights(path, (weights,), layout.replicated)
    config = computed(found.config, dtype, attention, layout)
    return FrozenEncoder(config, found.params[weights], found.origin, layout)


def load_pretraining(
    path: storage.PathLike,
    *,
    dtype: str = "float32",
    attention: str = "auto",
    devices: Sequence[jax.Device] | None = None,
) -> Pretrained:
    """Loads online encoder, predictor and target encoder; arguments and errors as for `load_encoder`.

    Raises ValueError, also, where the weights are those of an encoder alone.
    """
    layout = placed(dtype, attention, devices)
    found = read_weights(path, ("online", "predictor", "target"), layout.replicated)
    config = computed(found.config, dtype, attention, layout)
    encoder, target = (FrozenEncoder(config, found.params[name], found.origin, layout) for name in ("online", "target"))
    return Pretrained(encoder, FrozenPredictor(config, found.params["predictor"], layout), target, config)


def check_pixels(video: Array) -> None:
    """Raises ValueError unless `video` is [B,T,H,W,3], uint8 or floating within [0, 1]."""
    shape = tuple(getattr(video, "shape", ()))
    if len(shape) != 5 or shape[-1] != 3 or 0 in shape:
        turned = len(shape) == 5 and 3 in shape[1:3]
        hint = "; move the channels last" if turned else "; add the batch axis" if len(shape) == 4 else ""
        raise ValueError(f"video has shape {shape}; allowed is [clips, frames, rows, columns, 3], none empty{hint}")
    if video.dtype == np.uint8:
        return
    if not jnp.issubdtype(video.dtype, jnp.floating):
        raise ValueError(f"video has dtype {video.dtype}; allowed are uint8, and floating point within [0, 1]")
    low, high = float(video.min()), float(video.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"floating video ranges from {low:g} to {high:g}; allowed is [0, 1]: divide 8-bit values by 255, and "
            "leave ImageNet normalisation to the encoder"
        )


def check_ids(ids: Array, grid: Grid) -> None:
    """Raises ValueError unless `ids` are rows of token numbers of the grid."""
    ids = np.asarray(ids)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer) or not ids.size:
        raise ValueError(f"ids are {ids.dtype} {ids.shape}; allowed are whole numbers [clips, tokens]")
    if ids.min() < 0 or ids.max() >= grid.tokens:
        raise ValueError(f"ids range from {ids.min()} to {ids.max()}; the grid {tuple(grid)} has 0..{grid.tokens - 1}")


def placed(dtype: str, attention: str, devices: Sequence[jax.Device] | None) -> MeshLayout:
    """The layout of the devices, once it is known that they can compute as asked."""
    one_of("dtype", dtype, DTYPES)
    devices = jax.local_devices() if devices is None else list(devices)
    check_attention(attention, devices[0].platform, dtype)
    return MeshLayout(make_mesh(ParallelConfig(), devices))


def computed(config: ModelConfig, dtype: str, attention: str, layout: MeshLayout) -> ModelConfig:
    """The architecture, to be computed as asked; it says which attention runs, so that records of a run do too."""
    asked = replace(config, dtype=dtype, attention=attention, remat="none")
    return resolve_attention(asked, layout.platform)
