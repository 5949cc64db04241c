"""PyTorch's files: read right without PyTorch, and nothing hostile in them gets anywhere."""

import struct
import time
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch_files
from torch_files import Raw, Tensor, call, encode, name

from surgmotion_jax.checkpoints.errors import WeightFileRefused
from surgmotion_jax.checkpoints.foreign.torch_archive import MAX_PICKLE_BYTES, read_archive

GRID = np.arange(24, dtype=np.float32).reshape(4, 6)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.pt"


def test_values_and_tensors_come_back(file):
    saved = {
        "encoder": {"w": Tensor(GRID, "0"), "b": Tensor(np.ones(3, ml_dtypes.bfloat16), "1")},
        "scalar": Tensor(np.array(7, np.int64), "2"),
        "none": Tensor(np.zeros((0, 3), np.float32), "3"),
        "epoch": 3,
        "lr": 1e-3,
        "rest": ["text", None, True, (1, 2)],
    }
    read = read_archive(torch_files.write(file, saved))
    np.testing.assert_array_equal(read["encoder"]["w"], GRID)
    assert read["encoder"]["b"].dtype == ml_dtypes.bfloat16
    assert read["scalar"].shape == ()
    assert read["scalar"] == 7
    assert read["none"].shape == (0, 3)
    assert (read["epoch"], read["lr"], read["rest"]) == (3, 1e-3, ["text", None, True, (1, 2)])


def test_tensors_are_read_only_views_of_the_mapped_file_whatever_their_strides(file):
    turned = Tensor(GRID, "0", shape=(6, 4), strides=(1, 6))
    part = Tensor(GRID, "0", shape=(2, 3), strides=(6, 2), offset=6)
    read = read_archive(torch_files.write(file, {"whole": Tensor(GRID, "0"), "turned": turned, "part": part}))
    np.testing.assert_array_equal(read["turned"], GRID.T)
    np.testing.assert_array_equal(read["part"], GRID[1:3, ::2])
    assert np.shares_memory(read["whole"], read["part"])
    for array in read.values():
        assert not array.flags.owndata
        assert not array.flags.writeable


HOSTILE = {
    "os.system": lambda marker: call("os system", f"touch {marker}"),
    "posix.system": lambda marker: Raw(
        encode("posix") + encode("system") + b"\x93" + encode((f"touch {marker}",)) + b"R"
    ),
    "builtins.eval": lambda marker: call("builtins eval", f"open({str(marker)!r}, 'w')"),
    "torch.load": lambda marker: call("torch load", str(marker)),
}


@pytest.mark.parametrize("named", HOSTILE)
def test_a_pickle_that_calls_anything_is_refused_and_calls_nothing(named, file, tmp_path):
    marker = tmp_path / "marker"
    torch_files.write(file, {"encoder": {"w": Tensor(GRID, "0")}, "evil": HOSTILE[named](marker)})
    with pytest.raises(WeightFileRefused, match=rf"model.pt: refused, nothing of it was run: the pickle names {named}"):
        read_archive(file)
    assert not marker.exists()


def test_the_same_attack_works_on_the_pickle_module(tmp_path):
    """So the test above would notice a reader that executes."""
    import pickle

    marker = tmp_path / "marker"
    pickle.loads(torch_files.pickled(HOSTILE["os.system"](marker)))
    assert marker.exists()


def tensor(**changes):
    return {"w": Tensor(GRID, "0", **changes)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (tensor(count=2_500_000_000), "storage 0 declares 10000000000 bytes, its member data/0 has 96 bytes"),
        (tensor(shape=(2_500_000_000,), strides=(1,)), "needs 2500000000 elements of float32; the storage has 24"),
        (tensor(shape=(2_500_000_000,), strides=(0,)), "needs 2500000000 elements of float32; the storage has 24"),
        (tensor(strides=(7, 1)), r"shape \(4, 6\), strides \(7, 1\) and offset 0, which needs 27 elements"),
        (tensor(offset=1), "which needs 25 elements of float32; the storage has 24"),
        (tensor(storage="DoubleStorage"), "storage 0 declares 192 bytes, its member data/0 has 96 bytes"),
        (tensor(count=-1), "declares -4 bytes"),
        (tensor(strides=(-6, 1)), "whose offset, shape or strides are not numbers from 0 up"),
        (tensor(shape=(4, "6")), "whose offset, shape or strides are not numbers"),
        (tensor(shape=(24,)), "whose offset, shape or strides are not numbers"),
        (tensor(shape=(0, 2**60), strides=(1, 1)), "not numbers from 0 up to 2\\^40"),
        (tensor(storage="ComplexFloatStorage"), "the pickle names torch.ComplexFloatStorage"),
        (tensor(storage="QInt8Storage"), "the pickle names torch.QInt8Storage"),
        (tensor(storage="float32"), "a persistent identifier that is not a storage"),
        (tensor(storage="UntypedStorage"), "a tensor without a typed storage"),
        (tensor(rebuild="torch._utils _rebuild_qtensor"), "the pickle names torch._utils._rebuild_qtensor"),
        ({"w": call("torch._utils _rebuild_sparse_tensor", 0)}, "names torch._utils._rebuild_sparse_tensor"),
        ({"w": call("torch._utils _rebuild_parameter", 1)}, "a parameter without a tensor"),
        ({"w": call("torch._utils _rebuild_tensor_v2", 1, 0, (1,), (1,))}, "a tensor without a typed storage"),
        ({"w": call("torch._utils _rebuild_tensor_v2", 1)}, "a malformed pickle at byte .* missing"),
        ({"w": Raw(encode(("storage", 1)) + b"Q")}, "a persistent identifier that is not a storage"),
        ({"w": Raw(encode("x") + b")R")}, "the pickle calls a str"),
        ({"w": Raw(encode("x") + b"}b")}, "the pickle sets the state of a str"),
        ({"w": Raw(name("torch FloatStorage") + b")\x81")}, "the pickle instruction NEWOBJ"),
        ({"w": Raw(b"}" + encode(((1,),)) + b"Ns")}, "a dict key of type tuple"),
    ],
)
def test_what_is_declared_must_be_there(value, message, file):
    torch_files.write(file, value, arrays={"0": GRID})
    with pytest.raises(WeightFileRefused, match=message):
        read_archive(file)


@pytest.mark.parametrize(
    ("pickle", "message"),
    [
        (b"", "a malformed pickle"),
        (b"hello", "a malformed pickle"),
        (torch_files.pickled({"a": 1})[:-4], "a malformed pickle"),
        (b"\x80\x02.", "a malformed pickle at byte 2"),
        (b"\x80\x02NN.", "a malformed pickle"),
        (b"\x80\x02h\x07.", "a malformed pickle at byte 2 .BINGET."),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", None),  # a memo of 2^31 entries, in Python's machine
        (b"\x80\x04\x8e" + struct.pack("<Q", 10**10) + b"x.", "a malformed pickle"),
        (b"\x80\x04\x95" + struct.pack("<Q", 10**10) + b"N.", None),
        (b"\x80\x02" + b"(" * 20_000 + b".", "a malformed pickle"),
        (b"\x80\x02)" + b"\x85" * 20_000 + b".", None),  # tuples nested 20,000 deep
        (b"N" * (MAX_PICKLE_BYTES + 1), f"data.pkl has {MAX_PICKLE_BYTES + 1} bytes, at most {MAX_PICKLE_BYTES}"),
    ],
    ids=range(12),
)
def test_malformed_and_swollen_pickles_cost_little(pickle, message, file):
    torch_files.write(file, None, pickle=pickle)
    tracemalloc.start()
    began = time.process_time()
    try:
        if message is None:
            read_archive(file)
        else:
            with pytest.raises(WeightFileRefused, match=message):
                read_archive(file)
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 20


def test_every_truncation_is_refused(file):
    whole = torch_files.write(file, {"w": Tensor(GRID, "0")}).read_bytes()
    for length in range(4, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(WeightFileRefused, match="the zip archive cannot be read .* truncated or damaged"):
            read_archive(file)


def test_a_missing_middle_is_refused(file):
    whole = torch_files.write(file, {"w": Tensor(GRID, "0")}).read_bytes()
    file.write_bytes(whole[:40] + whole[90:])
    with pytest.raises(WeightFileRefused, match="truncated or damaged"):
        read_archive(file)


def test_other_archives_are_refused(file):
    value = {"w": Tensor(GRID, "0")}
    torch_files.write(file, value, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightFileRefused, match="archive/data.pkl is compressed or encrypted.*save it again"):
        read_archive(file)
    torch_files.write(file, value, extra={"byteorder": b"big"}.items())
    with pytest.raises(WeightFileRefused, match="big-endian data"):
        read_archive(file)
    torch_files.write(file, value, extra=[("../../evil", b"")])
    with pytest.raises(WeightFileRefused, match="member 'archive/../../evil': its name is unsafe"):
        read_archive(file)
    np.savez(file.with_suffix(".npz"), GRID)
    with pytest.raises(WeightFileRefused, match="'arr_0.npy': its name is unsafe|without data.pkl"):
        read_archive(file.with_suffix(".npz"))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", b"")
    with pytest.raises(WeightFileRefused, match="without data.pkl, so not of torch.save; it holds document.xml"):
        read_archive(file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("other/data.pkl", b"")
    with pytest.raises(WeightFileRefused, match="several top folders"):
        read_archive(file)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_files_of_torch_save_are_read_equal(file):
    import torch

    grid = torch.arange(24.0).reshape(4, 6)
    kinds = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64 float8_e5m2"
    tensors = {kind: torch.arange(6).to(getattr(torch, kind)).reshape(2, 3) for kind in kinds.split()}
    tensors |= {"turned": grid.t(), "part": grid[1:3, ::2], "row": grid[2], "parameter": torch.nn.Parameter(grid)}
    tensors |= {"scalar": torch.tensor(3.5), "none": torch.zeros(0, 3)}
    layer = torch.nn.Linear(3, 5)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    plain = {"loss": np.float64(0.5), "size": grid.shape, "where": torch.device("cpu"), "kind": torch.bfloat16}
    torch.save({"tensors": tensors, "layer": layer.state_dict(), "opt": optimiser.state_dict(), **plain}, file)
    read = read_archive(file)
    for key, value in tensors.items():
        assert read["tensors"][key].shape == tuple(value.shape)
        assert str(value.dtype) == f"torch.{read['tensors'][key].dtype.name}"
        np.testing.assert_array_equal(read["tensors"][key].astype(np.float64), value.detach().double().numpy())
    np.testing.assert_array_equal(read["layer"]["weight"], layer.weight.detach().numpy())
    moment = optimiser.state_dict()["state"][0]["exp_avg"].numpy()
    np.testing.assert_array_equal(read["opt"]["state"][0]["exp_avg"], moment)
    assert (read["size"], read["where"], repr(read["kind"])) == ((4, 6), "cpu", "torch.bfloat16")
    for kept in (layer, grid.to_sparse(), torch.ones(2, dtype=torch.complex64)):
        torch.save({"x": kept}, file)
        with pytest.raises(WeightFileRefused, match="the pickle names torch"):
            read_archive(file)
