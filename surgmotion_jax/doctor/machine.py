"""Versions, devices, memory, the compilation cache and optional packages of this machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from surgmotion_jax import storage
from surgmotion_jax.doctor.line import Line, Subject
from surgmotion_jax.parallel.processes import join
from surgmotion_jax.pretrain.config import RunConfig

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "av")


class Extra(NamedTuple):
    """An optional package: the extra of this project that installs it, and what that extra holds."""

    name: str
    packages: str


EXTRAS = {
    "tensorboardX": Extra("tensorboard", "tensorboardX"),
    "torch": Extra("torch", "torch transformers safetensors"),
}
"""By module."""


def packages(subject: Subject) -> Iterator[Line]:
    """Python and the packages that a run is made of."""
    yield Line("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Line("package", f"surgmotion-jax {version('surgmotion-jax') or 'not installed: run from a checkout'}")
    for name in PACKAGES:
        found = version(name)
        if found is None:
            yield Line(name, f"package {name} is not installed; pip install {name}", problem=True)
        else:
            yield Line(name.partition("-")[0], found)


def version(distribution: str) -> str | None:
    """The installed version of a distribution, None where there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def devices(subject: Subject) -> Iterator[Line]:
    """Kind, number and memory of the accelerators. A config of several processes joins them, as a run does."""
    if subject.config is not None:
        join(subject.config.distributed)
    with held_stderr() as told:
        first = jax.local_devices()[0]
    libtpu = version("libtpu")
    if libtpu and first.platform != "tpu":
        yield Line("libtpu", f"{libtpu}, but no TPU was found: runs use {first.platform}, surgmotion plan uses libtpu")
    elif told:
        sys.stderr.write(told[0])
    stats = first.memory_stats() or {}
    memory = f"{stats['bytes_limit'] / 1e9:.1f} GB each" if "bytes_limit" in stats else "own memory not reported"
    yield Line("devices", f"{jax.device_count()} x {first.device_kind} ({first.platform}), {memory}")
    yield Line("processes", str(jax.process_count()))


@contextlib.contextmanager
def held_stderr() -> Iterator[list[str]]:
    """Holds back what is written to the process's stderr, by libraries in C++ too; at the end the list has it.

    Where the body raises, all is written out at once.
    """
    told: list[str] = []
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield told
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            text = file.read().decode(errors="replace")
            if sys.exc_info()[0] is None:
                told += [text] if text else []
            else:
                sys.stderr.write(text)


def host(subject: Subject) -> Iterator[Line]:
    """Cores that this process may use, and memory of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    yield Line("host", f"{cores} cores, {memory:.1f} GB memory")


def compilation_cache(subject: Subject) -> Iterator[Line]:
    """Where compiled programs are kept. A run goes on without it, so it is never a problem."""
    folder = (subject.config.run if subject.config else RunConfig()).compilation_cache
    if not folder:
        yield Line("cache", "none: every start compiles anew")
        return
    try:
        yield Line("cache", f"{storage.ensure_writable(folder)}, writable")
    except storage.NotWritable as error:
        yield Line("cache", f"not writable, every start compiles anew: {error}")


def extras(subject: Subject) -> Iterator[Line]:
    """Optional packages; one is a problem only where the config asks for it."""
    config = subject.config
    for module, extra in EXTRAS.items():
        if importlib.util.find_spec(module) is not None:
            yield Line(module, version(module) or "found")
        elif module == "tensorboardX" and config is not None and config.run.tensorboard == "on":
            text = f"run.tensorboard is 'on' but {module} is not installed; {install(extra)}"
            yield Line(module, text, problem=True)
        else:
            yield Line(module, f"not installed (optional; {install(extra)})")


def install(extra: Extra) -> str:
    """The command that installs an extra: from the checkout that this package lies in, or by the packages' names."""
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        return f"pip install -e '{'.' if checkout == Path.cwd() else checkout}[{extra.name}]'"
    return f"pip install {extra.packages}"
