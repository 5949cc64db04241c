"""A small training state and its manifest fields, shared by the tests of checkpoints."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from surgmotion_jax.checkpoints.manifest import ManifestFields

ARCHITECTURE = {"variant": "tiny", "patch": [2, 16, 16], "depth": 2}
FIELDS = ManifestFields(kind="pretrain", architecture=ARCHITECTURE, config={"steps": 10, "lr": 1e-3})


class Moments(typing.NamedTuple):
    count: typing.Any
    mean: typing.Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    encoder: typing.Any
    target_encoder: typing.Any
    moments: typing.Any
    step: typing.Any


def host_state(seed=0, size=32):
    """(size, 2 size) kernels in float32, a bfloat16 leaf, an int32 leaf and a scalar, all of random bits."""
    generator = np.random.default_rng(seed)

    def encoder():
        return {
            "kernel": generator.standard_normal((size, 2 * size)).astype(np.float32),
            "scale": generator.standard_normal((size,)).astype(jnp.bfloat16),
        }

    return State(encoder(), encoder(), (Moments(np.int32([seed]), encoder()), None), np.int32(seed))


def on_mesh(state, devices):
    """The state spread over the first `devices` fake devices along its leading axes, scalars replicated."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("fsdp",), axis_types=(AxisType.Auto,))

    def place(leaf):
        spec = PartitionSpec("fsdp") if leaf.ndim and leaf.shape[0] % devices == 0 else PartitionSpec()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(place, state)


def abstract(state):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


def assert_bit_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
