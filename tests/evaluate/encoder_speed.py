"""Times the frozen encoder against the same encoder of transformers, in turns; run as a program.

  python -m tests.evaluate.encoder_speed --rows=4 --rounds=15
  python -m tests.evaluate.encoder_speed --config=bench/peer_tiny --config.model.variant=vit_small

On the CPU, both take uint8 clips of the config's size, as an evaluation gives them, and end with tokens on the host, in
float32 and from the same weights. Their features are compared before anything is timed. The peer needs torch and
transformers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from surgmotion_jax.commands.configs import pretrain_config
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder, computed, placed
from surgmotion_jax.evaluate.encoder.weights import Origin
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.pixels import IMAGENET_MEAN, IMAGENET_STD
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.runs.benchmark import SYNTHETIC, cores
from tests.evaluate.head_speed import timed_in_turns
from tests.pretrain.torch_peer import check_peer, peer_config, peer_encoder_weights

AGREE = 2e-4  # of features with unit variance


class OurEncoder:
    """Calling it encodes the clips and returns the seconds."""

    def __init__(self, encoder: FrozenEncoder, video_BxTxHxWx3: np.ndarray) -> None:
        self.encoder, self.video = encoder, video_BxTxHxWx3
        self.tokens = np.zeros(0)

    def __call__(self) -> float:
        started = time.perf_counter()
        self.tokens = np.asarray(self.encoder(self.video))
        return time.perf_counter() - started


class TorchEncoder:
    """The same in PyTorch: pixels normalised, tokens of the last norm."""

    def __init__(self, config: PretrainConfig, params: Any, video_BxTxHxWx3: np.ndarray) -> None:
        import torch
        from transformers import VJEPA2Model

        torch.set_num_threads(cores())
        self.model = VJEPA2Model(peer_config(config)).encoder.eval()
        self.model.load_state_dict(peer_encoder_weights(config, params), strict=True)
        self.video = torch.from_numpy(video_BxTxHxWx3)
        self.tokens = np.zeros(0)

    def __call__(self) -> float:
        import torch

        started = time.perf_counter()
        with torch.inference_mode():
            mean, deviation = (torch.tensor(values, dtype=torch.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
            pixels = ((self.video.float() / 255 - mean) / deviation).permute(0, 1, 4, 2, 3).contiguous()
            x = self.model.embeddings(pixels)
            for layer in self.model.layer:
                x = layer(x, None)[0]
            self.tokens = self.model.layernorm(x).numpy()
        return time.perf_counter() - started


def pair(config: PretrainConfig, rows: int) -> dict[str, OurEncoder | TorchEncoder]:
    """Both on the same random clips and weights, each called once. Raises AssertionError where features differ."""
    check_peer(config)
    layout = placed("float32", "auto", jax.devices("cpu")[:1])
    params = jax.jit(backbone_of(config.model).init)(jax.random.key(0))
    encoder = FrozenEncoder(computed(config.model, "float32", "auto", layout), params, Origin("", (), 0, ""), layout)
    size = rows, config.data.frames, config.augment.crop, config.augment.crop, 3
    video = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    found: dict[str, Any] = {
        "ours": OurEncoder(encoder, video),
        "torch": TorchEncoder(config, encoder.params, video),
    }
    for subject in found.values():
        subject()
    theirs = found["torch"].tokens
    np.testing.assert_allclose(found["ours"].tokens.reshape(theirs.shape), theirs, rtol=0, atol=AGREE)
    return found


def lines(quartiles: dict[str, np.ndarray]) -> list[str]:
    """A line a subject: median (quartiles) in ms, and ours as a share of the peer's."""
    ratio = quartiles["ours"][1] / quartiles["torch"][1]
    told = [
        f"{name:6} {1e3 * q2:9.2f} ms ({1e3 * q1:.2f} to {1e3 * q3:.2f})" for name, (q1, q2, q3) in quartiles.items()
    ]
    return [*told, f"ours / torch: {ratio:.3f} by medians"]


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"rows": 4, "rounds": 15}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked, flags = parser.parse_known_args(argv)
    config = pretrain_config(flags or ["--config=bench/peer_tiny"], stand_in=SYNTHETIC)
    subjects: dict[str, Callable[[], float]] = dict(pair(config, asked.rows))
    size = f"{config.data.frames} x {config.augment.crop} x {config.augment.crop}"
    print(f"{config.model.variant}, {asked.rows} clips of {size}, float32, {cores()} cores")
    print("\n".join(lines(timed_in_turns(subjects, asked.rounds))))


if __name__ == "__main__":
    main(sys.argv[1:])
