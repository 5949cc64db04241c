"""Rules for the layers that a video transformer is made of: their PyTorch tensors and our leaves.

A `stacked` rule has one name a layer.
"""

from __future__ import annotations

import numpy as np

from surgmotion_jax.models.name_rules import Rule


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _transposed(array: np.ndarray) -> np.ndarray:
    return array.T


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1)


def _flat_matrix(kernel: np.ndarray) -> np.ndarray:
    return kernel.reshape(kernel.shape[0], -1).T


def vector(path: str, *names: str, stacked: bool = False) -> Rule:
    """A tensor that both sides hold alike."""
    return Rule(path, names, _same, _same, stacked)


def token(path: str, *names: str, stacked: bool = False) -> Rule:
    """A learned token: [1,1,C] there, [C] here."""
    return Rule(path, names, _flat, lambda leaf: leaf[None, None], stacked)


def tokens(path: str, name: str) -> Rule:
    """Several learned tokens in one tensor: [1,Q,C] there, [Q,C] here."""
    return Rule(path, (name,), lambda tensor: tensor[0], lambda leaf: leaf[None])


def norm(path: str, *names: str, stacked: bool = False) -> list[Rule]:
    """Scale and bias of a layer norm."""
    return [
        vector(f"{path}/scale", *(f"{n}.weight" for n in names), stacked=stacked),
        vector(f"{path}/bias", *(f"{n}.bias" for n in names), stacked=stacked),
    ]


def linear(path: str, *names: str, stacked: bool = False) -> list[Rule]:
    """Kernel [in, out], transposed there, and bias."""
    weights, biases = [tuple(f"{n}.{part}" for n in names) for part in ("weight", "bias")]
    return [
        Rule(f"{path}/kernel", weights, _transposed, _transposed, stacked),
        vector(f"{path}/bias", *biases, stacked=stacked),
    ]


def heads_out(path: str, *names: str, features: tuple[int, ...], stacked: bool = False) -> list[Rule]:
    """A linear layer whose output we keep as [*features, head dimension], as queries, keys and values."""
    weights, biases = [tuple(f"{n}.{part}" for n in names) for part in ("weight", "bias")]

    def kernel(weight: np.ndarray) -> np.ndarray:
        return weight.T.reshape(weight.shape[1], *features, -1)

    def bias(array: np.ndarray) -> np.ndarray:
        return array.reshape(*features, -1)

    return [
        Rule(f"{path}/kernel", weights, kernel, _flat_matrix, stacked),
        Rule(f"{path}/bias", biases, bias, _flat, stacked),
    ]


def heads_in(path: str, *names: str, heads: int, stacked: bool = False) -> list[Rule]:
    """A linear layer whose input we keep as [heads, head dimension]: the output projection of attention."""
    weights, biases = [tuple(f"{n}.{part}" for n in names) for part in ("weight", "bias")]

    def read(weight: np.ndarray) -> np.ndarray:
        return weight.T.reshape(heads, -1, weight.shape[0])

    def write(kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(-1, kernel.shape[-1]).T

    return [
        Rule(f"{path}/kernel", weights, read, write, stacked),
        vector(f"{path}/bias", *biases, stacked=stacked),
    ]


def patches(path: str, name: str, patch: int, tubelet: int) -> list[Rule]:
    """The patch embedding: (channel, frame, row, column) there, (frame, row, column, channel) flattened here."""

    def read(weight: np.ndarray) -> np.ndarray:
        return weight.transpose(2, 3, 4, 1, 0).reshape(-1, weight.shape[0])

    def write(kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(tubelet, patch, patch, 3, -1).transpose(4, 3, 0, 1, 2)

    return [Rule(f"{path}/kernel", (f"{name}.weight",), read, write), vector(f"{path}/bias", f"{name}.bias")]


def blocks(path: str, prefix: str, depth: int, heads: int) -> list[Rule]:
    """A stack of transformer blocks, named `prefix0`, `prefix1`, ..."""
    layers = [f"{prefix}{i}" for i in range(depth)]

    def each(part: str) -> list[str]:
        return [f"{layer}.{part}" for layer in layers]

    return [
        *norm(f"{path}/norm1", *each("norm1"), stacked=True),
        *heads_out(f"{path}/attn/qkv", *each("attn.qkv"), features=(3, heads), stacked=True),
        *heads_in(f"{path}/attn/proj", *each("attn.proj"), heads=heads, stacked=True),
        *norm(f"{path}/norm2", *each("norm2"), stacked=True),
        *linear(f"{path}/mlp/fc1", *each("mlp.fc1"), stacked=True),
        *linear(f"{path}/mlp/fc2", *each("mlp.fc2"), stacked=True),
    ]
