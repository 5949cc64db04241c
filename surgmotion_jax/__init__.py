"""Video representation learning for surgery by latent motion prediction, in JAX.

import surgmotion_jax
encoder = surgmotion_jax.load_encoder("runs/tiny")  # see surgmotion_jax/evaluate/encoder/frozen.py
tokens_BxtxhxwxD = encoder(video_BxTxHxWx3)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgmotion_jax.evaluate.encoder.frozen import load_encoder, load_pretraining

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder", "load_pretraining"]

_LAZY = {
    "load_encoder": "surgmotion_jax.evaluate.encoder.frozen",
    "load_pretraining": "surgmotion_jax.evaluate.encoder.frozen",
}


def __getattr__(name: str) -> Any:
    """Imports a public function when it is first asked for, so that `surgmotion --help` loads no JAX."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
