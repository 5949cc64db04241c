"""Compiling for NVIDIA GPUs that are not there: descriptions of devices, and what the compiler must not try.

JAX's CUDA plugin compiles on any machine, given the description of a device; it needs neither a GPU nor CUDA's own
libraries. From jax 0.12 on it carries descriptions of the common ones. For jax 0.10, that of an H100 lies beside this
file. What needs the device is left out: nothing is tuned by trying it, so which kernels the products get is decided
otherwise there.
"""

from __future__ import annotations

import functools
import importlib.util
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

PLUGINS = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")
START, NAME = b"gpu_device_info {\n", re.compile(rb'device_description_str: "([^"]*)"')
SHIPPED = {"NVIDIA H100 80GB HBM3": Path(__file__).with_name("h100.txtpb")}  # for plugins that carry none

# Without a device, products cannot be tried out: cuBLAS takes them rather than Triton.
OPTIONS: Mapping[str, str] = {"xla_gpu_enable_triton_gemm": "False"}
CUDNN_VERSION = 92300  # assumed where libcudnn is not installed: 9.23.0


def plugin() -> Path | None:
    """The shared library of JAX's CUDA plugin; None where it is not installed."""
    if importlib.util.find_spec("jax_plugins") is None:
        return None
    for name in PLUGINS:
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            library = Path(folder, "xla_cuda_plugin.so")
            if library.exists():
                return library
    return None


@functools.cache
def descriptions(library: Path) -> Mapping[str, str]:
    """Descriptions by the name of the device, as the plugin carries them, and those that are shipped besides."""
    found = {name: path.read_text() for name, path in SHIPPED.items()}
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(START)
        while start >= 0:
            end = content.find(b"\0", start)
            text = content[start:end]
            name = NAME.search(text)
            if name:
                found[name[1].decode()] = text.decode()
            start = content.find(START, end)
    return found


def description(device_kinds: tuple[str, ...]) -> str | None:
    """The description of the first of these devices that there is one of; None without one, or without the plugin."""
    library = plugin()
    known = descriptions(library) if library else {}
    return next((known[kind] for kind in device_kinds if kind in known), None)


def devices(text: str, hosts: int, each: int) -> tuple[jax.Device, ...]:
    """Devices of a description: `each` on every host."""
    from jax.experimental import topologies

    answer_for_cudnn()
    described = topologies.get_topology_desc(platform="cuda", target_config=text, topology=f"1x{hosts}x{each}")
    return tuple(described.devices)


def answer_for_cudnn() -> None:
    """Lets attention be lowered to cuDNN where libcudnn is not installed. JAX asks for its version, and has no flag."""
    from jax._src.cudnn import fused_attention_stablehlo as lowering

    try:
        lowering.check_cudnn_version()
    except RuntimeError:
        lowering.check_cudnn_version = lambda: CUDNN_VERSION
