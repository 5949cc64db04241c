"""Features of a video, one vector a second.

python docs/examples/features.py VIDEO [ENCODER]

ENCODER is a pretraining workdir, converted weights, or random:VARIANT.
"""

import sys

import numpy as np

import surgmotion_jax
from surgmotion_jax.data.decode import probe, read_frames

FRAMES, FPS, SIZE = 16, 8.0, 64


def features(video: str, encoder: str = "random:vit_nano") -> tuple[np.ndarray, np.ndarray]:
    """Seconds [N] at which windows end, and the mean of each window's tokens [N, D]."""
    encode = surgmotion_jax.load_encoder(encoder)
    second_N = np.arange(FRAMES / FPS, probe(video).duration_s, 1.0)
    found_NxD = []
    for second in second_N:
        time_T = second - np.arange(FRAMES)[::-1] / FPS
        clip_TxHxWx3 = read_frames(video, time_T, (SIZE, SIZE))
        tokens_1xtxhxwxD = encode(clip_TxHxWx3[None])
        found_NxD.append(np.asarray(tokens_1xtxhxwxD).mean((0, 1, 2, 3)))
    return second_N, np.stack(found_NxD)


if __name__ == "__main__":
    seconds, vectors = features(*sys.argv[1:])
    for second, vector in zip(seconds, vectors, strict=True):
        print(f"{second:6.1f} s  {vector.shape[0]} numbers, the first {vector[:4].round(3)}")
