"""Cutting clips into patches: the way that TPUs take gives the same bits as the way of all others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from surgmotion_jax.models import encoder


@pytest.mark.parametrize(("shape", "patch", "tubelet"), [((2, 4, 32, 48, 3), 16, 2), ((1, 3, 24, 16, 3), 8, 1)])
def test_a_convolution_cuts_as_a_transposition_does(shape, patch, tubelet):
    video = jax.random.normal(jax.random.key(0), shape, jnp.bfloat16)
    cut, convolved = (way(video, patch, tubelet) for way in (encoder._by_transposition, encoder._by_convolution))
    assert convolved.dtype == cut.dtype == jnp.bfloat16
    assert (cut == convolved).all()


@pytest.mark.parametrize(("dtype", "convolves"), [("bfloat16", ["tpu"]), ("float32", [])])
def test_only_tpus_convolve_and_only_what_stays_exact(dtype, convolves):
    video = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), dtype)
    cut = jax.jit(lambda video: encoder.patchify(video, 16, 2)).trace(video)
    found = [name for name in ("tpu", "cpu") if "convolution" in cut.lower(lowering_platforms=(name,)).as_text()]
    assert found == convolves
