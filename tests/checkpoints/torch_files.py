"""Writes files as `torch.save` does, byte by byte, so that tests need no PyTorch and can write what it never would."""

import dataclasses
import struct
import zipfile

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}


@dataclasses.dataclass
class Tensor:
    """A tensor as declared; what is left out describes the array honestly."""

    array: np.ndarray
    key: str
    shape: tuple | None = None
    strides: tuple | None = None
    offset: int = 0
    count: int | None = None
    storage: str | None = None
    rebuild: str = "torch._utils _rebuild_tensor_v2"


@dataclasses.dataclass
class Raw:
    """Opcodes to put as they are."""

    opcodes: bytes


def name(dotted):
    """The opcode for a global, `module name`."""
    return b"c" + dotted.replace(" ", "\n").encode() + b"\n"


def call(dotted, *arguments):
    return Raw(name(dotted) + encode(arguments) + b"R")


def encode(value):
    """Opcodes of protocol 2 for a value."""
    return ENCODERS[type(value)](value)


def encode_number(value):
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def encode_text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def encode_dict(value):
    return b"}(" + b"".join(encode(part) for item in value.items() for part in item) + b"u"


def encode_tensor(tensor):
    array = tensor.array
    shape = array.shape if tensor.shape is None else tensor.shape
    steps = tuple(step // array.itemsize for step in np.empty(array.shape, array.dtype).strides)
    strides = steps if tensor.strides is None else tensor.strides
    count = array.size if tensor.count is None else tensor.count
    kind = Raw(name(f"torch {tensor.storage or STORAGES[array.dtype.name]}"))
    storage = Raw(encode(("storage", kind, tensor.key, "cpu", count)) + b"Q")
    hooks = call("collections OrderedDict")
    return call(tensor.rebuild, storage, tensor.offset, shape, strides, False, hooks).opcodes


ENCODERS = {
    Raw: lambda value: value.opcodes,
    Tensor: encode_tensor,
    type(None): lambda value: b"N",
    bool: lambda value: b"\x88" if value else b"\x89",
    int: encode_number,
    float: lambda value: b"G" + struct.pack(">d", value),
    str: encode_text,
    tuple: lambda value: b"(" + b"".join(map(encode, value)) + b"t",
    list: lambda value: b"](" + b"".join(map(encode, value)) + b"e",
    dict: encode_dict,
}


def pickled(value):
    return b"\x80\x02" + encode(value) + b"."


def write(path, value, *, arrays=None, extra=(), pickle=None, compression=zipfile.ZIP_STORED):
    """Writes an archive of a value with its tensors' storages; `extra` are (name, bytes) of further members."""
    stored = {}
    _collect(value, stored)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(value) if pickle is None else pickle)
        members = {"byteorder": b"little", "version": b"3\n"} | dict(extra)
        for member, data in members.items():
            archive.writestr(f"archive/{member}", data)
        for key, array in (stored if arrays is None else arrays).items():
            with archive.open(f"archive/data/{key}", "w", force_zip64=True) as file:
                file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return path


def _collect(value, stored):
    if isinstance(value, Tensor):
        stored[value.key] = value.array
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            _collect(part, stored)


def state_dict(arrays, first_key=0):
    """Name -> array as name -> tensor with storages of their own."""
    return {label: Tensor(array, str(first_key + i)) for i, (label, array) in enumerate(arrays.items())}
