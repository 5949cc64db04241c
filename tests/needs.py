"""What some tests need that is not always installed."""

from __future__ import annotations

import importlib.util

import pytest

from surgmotion_jax.parallel import gpu_compiler

LIBTPU = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install -e '.[tpu]'"
)
CUDA_PLUGIN = pytest.mark.skipif(
    gpu_compiler.plugin() is None, reason="JAX's CUDA plugin is not installed: pip install -e '.[gpu-plan]'"
)
