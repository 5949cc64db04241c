"""Sharded kernels are gathered once a pass, whatever is rematerialised, and activations never."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.parallel.rules import parameter_shardings

CONFIG = ModelConfig(variant="vit_nano", depth=2, patch=8, dtype="float32")
# By shape: the compiler gathers a kernel before or after its heads are joined.
KERNELS = {
    "192,576": "qkv",
    "192,3,3,64": "qkv",
    "192,192": "proj",
    "3,64,192": "proj",
    "192,768": "fc1",
    "768,192": "fc2",
}


def gathered(remat):
    """How often each kernel of a block is gathered in the loss's gradient, by name; other gathers by shape."""
    config = dataclasses.replace(CONFIG, remat=remat)
    layout = MeshLayout(make_mesh(ParallelConfig(1, 8, 1), jax.devices()[:8]))

    def loss(params, video):
        return jnp.square(backbone_of(config).encode(params, video, layout=layout).tokens[..., :7]).sum()

    shapes = jax.eval_shape(lambda: backbone_of(config).init(jax.random.key(0)))
    shardings = parameter_shardings(layout.mesh, shapes, backbone_of(config).axes())
    step = jax.jit(jax.grad(loss), in_shardings=(shardings, layout.batch), out_shardings=shardings)
    text = step.lower(shapes, jax.ShapeDtypeStruct((8, 4, 24, 32, 3), jnp.float32)).compile().as_text()
    found = re.findall(r"= f32\[([\d,]+)\]\S* all-gather(?:-start)?\(", text)
    return Counter(KERNELS.get(shape.removeprefix("1,"), shape) for shape in found)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("remat", [pytest.param("none", marks=SLOW), "full", pytest.param("projections", marks=SLOW)])
def test_every_kernel_is_gathered_once_forward_and_once_backward(remat):
    counts = gathered(remat)
    patches = {shape: n for shape, n in counts.items() if shape not in KERNELS.values()}
    assert set(patches) <= {"384,192"}, f"only the patch embedding's kernel may be gathered besides: {patches}"
    want = dict.fromkeys(KERNELS.values(), 2)
    assert {name: counts[name] for name in want} == want
