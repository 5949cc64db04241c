"""Laws of the digests: same on any mesh, different for any flipped bit."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from surgmotion_jax.checkpoints import digest
from surgmotion_jax.checkpoints.digest import tree_digests

DTYPES = [
    np.float32,
    np.int32,
    np.uint8,
    np.int8,
    np.float16,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    np.bool_,
]


def random_array(shape, dtype, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, size=(*shape, np.dtype(dtype).itemsize), dtype=np.uint8)
    return values[..., 0] % 2 == 1 if dtype is np.bool_ else values.view(dtype)[..., 0]


def flip_bit(array, index, bit):
    flat = np.array(array).reshape(-1)
    flat.view(np.uint8)[index * flat.itemsize + bit // 8] ^= 1 << (bit % 8)
    return flat.reshape(array.shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_single_bit_flip_changes_both_sums(dtype):
    array = random_array((2, 3), dtype)
    before = tree_digests({"x": array})["x"]
    bits = 1 if dtype is np.bool_ else 8 * array.itemsize
    for index in range(array.size):
        for bit in range(bits):
            after = tree_digests({"x": flip_bit(array, index, bit)})["x"]
            assert after[:8] != before[:8], (index, bit)
            assert after[8:] != before[8:], (index, bit)


@pytest.mark.parametrize("bit", [0, 22, 31])
def test_the_same_bit_flipped_in_two_elements_is_seen(bit):
    """A plain weighted sum would miss pairs of flipped sign bits, whose contributions cancel modulo 2^32."""
    array = random_array((64,), np.float32)
    before = tree_digests({"x": array})["x"]
    for other in range(1, 64):
        assert tree_digests({"x": flip_bit(flip_bit(array, 0, bit), other, bit)})["x"] != before


def test_swapped_elements_are_seen():
    assert tree_digests({"x": np.float32([1, 2, 3])}) != tree_digests({"x": np.float32([1, 3, 2])})


@pytest.mark.parametrize("spec", [("a", "b"), ("b", "a"), (("a", "b"),), (None, "a"), ()])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_same_digest_sharded_over_eight_devices_as_on_one(spec, dtype):
    array = random_array((16, 24), dtype)
    mesh = jax.make_mesh((4, 2), ("a", "b"), (AxisType.Auto,) * 2)
    sharded = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
    assert len(sharded.devices()) == 8
    single = jax.device_put(array, jax.devices()[3])
    assert tree_digests({"x": sharded}) == tree_digests({"x": single}) == tree_digests({"x": array})


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_64_bit_leaves_agree_between_host_and_device(dtype):
    array = random_array((3, 5), dtype)
    assert tree_digests({"x": array})["x"] != tree_digests({"x": flip_bit(array, 7, 40)})["x"]
    with jax.enable_x64(True):
        assert tree_digests({"x": jnp.asarray(array)}) == tree_digests({"x": array})
    assert tree_digests({"x": np.zeros((), dtype)})  # a scalar has words too


def mix_oracle(word):
    """MurmurHash3's finaliser in Python integers."""
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) % 2**32
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) % 2**32
    return word ^ (word >> 16)


def test_value_follows_the_definition_and_stays_what_it_was():
    """Checkpoints on disk hold this value: changing it needs a new schema version of the manifest."""
    words = np.arange(6, dtype=np.float32).view(np.uint32).tolist()
    sums = [
        sum(mix_oracle(word ^ mix_oracle((seed + i) % 2**32)) for i, word in enumerate(words)) % 2**32
        for seed in (0x9E3779B9, 0x7F4A7C15)
    ]
    found = tree_digests({"a": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}})
    assert found == {"a/w": f"{sums[0]:08x}{sums[1]:08x}"} == {"a/w": "0193f9b38075eca8"}


def test_the_position_wraps_without_overflow_errors():
    """A leaf of over 2^32 words is traced, not run: strides are reduced modulo 2^32."""
    shape = jax.ShapeDtypeStruct((3, 2**16, 2**17), jnp.bfloat16)
    assert jax.eval_shape(lambda x: digest._sums(x, x.shape, (0, 0, 0)), shape).shape == (2,)


def test_leaves_without_a_digest_are_refused_by_path():
    with pytest.raises(ValueError, match="leaf z: dtype complex64 has no digest"):
        tree_digests({"z": np.zeros(2, np.complex64)})


@pytest.mark.parametrize("dtype", [np.float32, np.int64, ml_dtypes.bfloat16])
def test_a_host_leaf_read_in_pieces_has_the_same_digest(dtype, monkeypatch):
    leaves = {
        "even": random_array((8, 5, 3), dtype),
        "uneven": random_array((7, 5), dtype),
        "row": random_array((40,), dtype),
    }
    whole = tree_digests(leaves)
    pieces, from_row = [], digest._from_row
    monkeypatch.setattr(digest, "_from_row", lambda x, shape, row: pieces.append(row) or from_row(x, shape, row))
    monkeypatch.setattr(digest, "_PIECE_BYTES", 48)
    assert tree_digests(leaves) == whole
    assert len(pieces) > 2 * len(leaves)
