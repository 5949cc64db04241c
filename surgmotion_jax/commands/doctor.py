"""`surgmotion doctor [--config=FILE[:ARG]] [--data=PATH] [--config.section.field=VALUE ...]`

Shows what a run would find on this machine, and trains and compiles nothing.

  (nothing)             versions, devices, memory, compilation cache, optional extras
  --data=PATH           opens a video, folder, glob or CSV, lists unreadable files, times the decoding of clips
  --config=FILE[:ARG]   checks a config against the devices and estimates its memory; opens its data.sources, if any
  --config.a.b=VALUE    overrides a field

Exit code 0: all fine; 1: something that a run needs is broken, each on a line that begins with PROBLEM.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from surgmotion_jax import config as door
from surgmotion_jax.commands.pretrain import read_command_line
from surgmotion_jax.pretrain.config import PretrainConfig, RunConfig

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "av")
EXTRAS = {"tensorboardX": "tensorboard", "torch": "torch"}  # module -> extra of this package that installs it
TIMED_CLIPS = 4
NO_DATA = "(no data given)"

Line = tuple[str, str]  # label and text; the label PROBLEM marks what is broken
PROBLEM = "PROBLEM"


class Request(NamedTuple):
    """What the command line asks for."""

    flags: list[str]  # --config=FILE and overrides
    data: str | None


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        print("shipped configs:", ", ".join(door.config_names()))
        return 0
    broken = 0
    for label, text in examine(read_request(argv)):
        # flushed line by line: opening many videos takes a while
        print(f"{PROBLEM} {text}" if label == PROBLEM else f"{label:>12}  {text}", flush=True)
        broken += label == PROBLEM
    print("all fine" if not broken else f"{broken} problem{'s' if broken > 1 else ''}")
    return 1 if broken else 0


def read_request(argv: Sequence[str]) -> Request:
    """Splits a command line. Raises ValueError for anything unknown, or overrides without a config."""
    flags = [a for a in argv if a.startswith(("--config=", "--config."))]
    parser = argparse.ArgumentParser(prog="surgmotion doctor", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--data")
    try:
        given, unknown = parser.parse_known_args([a for a in argv if a not in flags])
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion doctor --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion doctor --help.")
    if flags and not any(a.startswith("--config=") for a in flags):
        raise ValueError(f"{flags[0]} overrides a field, but there is no --config=FILE; see surgmotion doctor --help.")
    return Request(flags, given.data)


def examine(request: Request) -> Iterator[Line]:
    """All findings, in the order to print."""
    config: PretrainConfig | None = None
    fault: Line | None = None
    if request.flags:
        try:
            config = read_config(request)
        except ValueError as error:
            fault = PROBLEM, f"config: {error}"
    yield from guarded("packages", versions)
    yield from guarded("devices", lambda: devices(config))
    yield from guarded("host", host)
    yield from guarded("compilation cache", lambda: compilation_cache(config.run if config else RunConfig()))
    yield from guarded("extras", lambda: extras(config))
    if fault:
        yield fault
    if config is not None:
        yield from guarded("config", lambda: plan(config))
    if request.data or (config and any(source.path != NO_DATA for source in config.data.sources.values())):
        yield from guarded("data", lambda: data(request, config))


def guarded(subject: str, check: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines of a check; an error ends it with a PROBLEM line instead of ending the command."""
    try:
        yield from check()
    except (ValueError, RuntimeError, OSError) as error:  # JAX raises RuntimeError for a device it cannot start
        yield PROBLEM, f"{subject}: {error}"


def read_config(request: Request) -> PretrainConfig:
    """The config that the flags name, with or without data. Raises ValueError naming the field that is wrong."""
    flags, _ = door.parse_flags(request.flags)
    # A config must name videos, but checking one against the devices needs none.
    path = request.data or (None if flags.data.sources else NO_DATA)
    config, _ = read_command_line([*request.flags, *([f"--data={path}"] if path else []), "--workdir=."])
    return config


def versions() -> Iterator[Line]:
    """Python and the packages that a run is made of."""
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "package", f"surgmotion-jax {version('surgmotion-jax') or 'not installed: run from a checkout'}"
    for name in PACKAGES:
        found = version(name)
        if found is None:
            yield PROBLEM, f"package {name} is not installed; pip install {name}"
        else:
            yield name.partition("-")[0], found


def version(distribution: str) -> str | None:
    """The installed version of a distribution, None where there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def devices(config: PretrainConfig | None) -> Iterator[Line]:
    """Kind, number and memory of the accelerators. A config of several processes joins them, as a run does."""
    import jax

    from surgmotion_jax.parallel.processes import join

    if config is not None:
        join(config.distributed)
    first = jax.local_devices()[0]
    stats = first.memory_stats() or {}
    memory = f"{stats['bytes_limit'] / 1e9:.1f} GB each" if "bytes_limit" in stats else "own memory not reported"
    yield "devices", f"{jax.device_count()} x {first.device_kind} ({first.platform}), {memory}"
    yield "processes", str(jax.process_count())


def host() -> Iterator[Line]:
    """Cores that this process may use, and memory of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    yield "host", f"{cores} cores, {memory:.1f} GB memory"


def compilation_cache(run: RunConfig) -> Iterator[Line]:
    """Where compiled programs are kept. A run goes on without it, so it is never a problem."""
    from surgmotion_jax import storage

    if not run.compilation_cache:
        yield "cache", "none: every start compiles anew"
        return
    try:
        yield "cache", f"{storage.ensure_writable(run.compilation_cache)}, writable"
    except storage.NotWritable as error:
        yield "cache", f"not writable, every start compiles anew: {error}"


def extras(config: PretrainConfig | None) -> Iterator[Line]:
    """Optional packages; one is a problem only where the config asks for it."""
    for module, extra in EXTRAS.items():
        if importlib.util.find_spec(module) is not None:
            yield module, version(module) or "found"
        elif module == "tensorboardX" and config is not None and config.run.tensorboard == "on":
            yield PROBLEM, f"run.tensorboard is 'on' but {module} is not installed; {install(extra)}"
        else:
            yield module, f"not installed (optional; {install(extra)})"


def install(extra: str) -> str:
    return f"pip install 'surgmotion-jax[{extra}]'"


def plan(config: PretrainConfig) -> Iterator[Line]:
    """The start banner of a run, once its config has passed every check made before compiling."""
    import jax

    from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
    from surgmotion_jax.pretrain.setup.placement import place
    from surgmotion_jax.pretrain.setup.preflight import check
    from surgmotion_jax.pretrain.setup.summary import summarise

    config, _ = place(config, jax.devices())
    layout = MeshLayout(make_mesh(config.parallel))
    programs, abstract = check(config, layout)
    yield from summarise(config, layout, abstract, programs).items()


def data(request: Request, config: PretrainConfig | None) -> Iterator[Line]:
    """Opens every video, then draws a few clips the way a run draws them."""
    from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig, describe

    if config is not None:
        asked, seed = config.data, config.seed
    else:
        assert request.data is not None
        # Without a config the question is only whether the files can be read, however short they are.
        asked, seed = DataConfig({"data": SourceConfig(request.data)}, holdout=0.0), 0
    # What is timed is decoding: frames kept in memory would hide it.
    dataset = ClipDataset(dataclasses.replace(asked, memory_gb=0.0), seed)
    for row in describe(dataset):
        yield f"data {row['dataset']}", describe_row(row)
    for fault in (*dataset.faults, *dataset.catalogue.short):
        yield ("left out" if fault in dataset.catalogue.short else "unreadable"), f"{fault.path}: {fault.reason}"
    yield "decoding", time_clips(dataset)
    if config is not None:
        dataset.clip(0, "heldout")  # a run evaluates: raises where nothing is held out


def describe_row(row: dict[str, Any]) -> str:
    """One dataset of the `describe` table as text."""
    return (
        f"{row['files']} files, {row['cases']} cases, {row['hours']:.2f} h, specialty {row['specialty']}, "
        f"{row['clips_train']} training and {row['clips_heldout']} held-out clips, "
        f"{100 * row['share']:.0f} % of draws, {row['short']} too short, {row['unreadable']} unreadable"
    )


def time_clips(dataset: Any) -> str:
    """Draws training clips one after another, unthreaded. Raises ValueError where too many files turn out broken."""
    started = time.perf_counter()
    for index in range(TIMED_CLIPS):
        dataset.clip(index)
    each = 1000 * (time.perf_counter() - started) / TIMED_CLIPS
    config = dataset.config
    height, width = config.canvas
    return (
        f"{each:.0f} ms a clip of {config.frames} frames at {config.fps:g} fps, {width} x {height} px, in one thread "
        f"(mean of {TIMED_CLIPS} clips)"
    )
