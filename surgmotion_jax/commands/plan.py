"""`surgmotion plan --config=FILE[:ARG] --topology=NAME [--sweep] [--mfu=0.4] [--json=FILE] [--config.a.b=VALUE ...]`

Compiles the training step of a config for a TPU slice, without one, and says what the run would take: memory per
device, operations, communication, step time at a stated MFU, decoding per host, chip-hours. Needs no data.

  --config=FILE[:ARG]   a config file or the name of a shipped one, e.g. pretrain/surgmotion_vitl:stage1
  --topology=NAME       v4, v5e, v5p or v6e and the slice's shape, e.g. v5e:16x16, v5p:4x4x8; or gpu:h100x8 (also a100,
                        h100-pcie, h200, b200 and others), for which nothing is compiled and everything is an estimate
  --mfu=SHARE           model operations as a share of the peak, for every time (default 0.4)
  --sweep               compares meshes, remat policies and clips a device, and names the best
  --compilations=N      how many candidates of a sweep are compiled at most, minutes each (default 4)
  --json=FILE           writes the plan, or the trials of a sweep, as JSON too
  --config.a.b=VALUE    overrides a field, e.g. --config.parallel.fsdp=16 --config.model.attention=splash
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from surgmotion_jax import config as door

if TYPE_CHECKING:
    from surgmotion_jax.parallel.topology import Topology
    from surgmotion_jax.pretrain.config import PretrainConfig
    from surgmotion_jax.pretrain.plan.plan import Plan
    from surgmotion_jax.pretrain.plan.sweep import Trial


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        print("shipped configs:", ", ".join(door.config_names()))
        return 0
    from surgmotion_jax.parallel.topology import describe, devices_of, set_environment

    set_environment(os.environ)  # before anything imports JAX
    config, given = read_command_line(argv)
    topology = describe(given.topology)
    devices = devices_of(topology) if topology.compiled else ()
    return (run_sweep if given.sweep else run_plan)(config, topology, devices, given)


def read_command_line(argv: Sequence[str]) -> tuple[PretrainConfig, argparse.Namespace]:
    """The config and the other flags. Neither data nor initial weights need to be there."""
    from surgmotion_jax.data.config import SourceConfig
    from surgmotion_jax.pretrain.config import PretrainConfig

    flags, rest = door.parse_flags(argv)
    parser = argparse.ArgumentParser(prog="surgmotion plan", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--topology")
    parser.add_argument("--mfu", type=float, default=0.4)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--compilations", type=int, default=4)
    parser.add_argument("--json")
    try:
        given, unknown = parser.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion plan --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion plan --help.")
    if not given.topology:
        raise ValueError("no --topology=NAME given; name a slice such as v5e:4x4, or GPUs such as gpu:h100x8.")
    with flags.unlocked():
        flags.init.checkpoint = flags.init.checkpoint or ""
        if not flags.data.sources:
            flags.data.sources = door.ConfigDict({"planned": door.entry(SourceConfig, path="planned")})
    return door.build(PretrainConfig, flags), given


def run_plan(config: PretrainConfig, topology: Topology, devices: Sequence[Any], given: argparse.Namespace) -> int:
    """One plan. Returns 1 if it does not fit."""
    from surgmotion_jax.pretrain.plan.plan import plan

    if topology.compiled:
        print(f"compiling for {topology.name}, which takes minutes", flush=True)
    found = plan(config, topology, devices, given.mfu)
    for label, text in lines(found):
        print(f"{label:>14}  {text}")
    write_json(given.json, as_json(found))
    return 0 if found.fits else 1


def run_sweep(config: PretrainConfig, topology: Topology, devices: Sequence[Any], given: argparse.Namespace) -> int:
    """Several plans, the best first. Returns 1 if none fits."""
    from surgmotion_jax.pretrain.plan.sweep import label, sweep

    print("the config itself first, then the candidates", flush=True)
    trials = sweep(config, topology, devices, given.mfu, given.compilations, lambda text: print(text, flush=True))
    for trial in trials:
        print(sweep_line(trial))
    print(f"\nbest: {label(trials[0].plan.config)}")
    for name, text in lines(trials[0].plan):
        print(f"{name:>14}  {text}")
    write_json(given.json, {"trials": [as_json(trial.plan) for trial in trials]})
    return 0 if trials[0].plan.fits else 1


def sweep_line(trial: Trial) -> str:
    from surgmotion_jax.pretrain.plan.sweep import label

    memory = trial.plan.memory
    verdict = "fits" if trial.sound else "tight" if trial.plan.fits else "too large"
    return (
        f"{gib(memory.peak):>11} ({100 * memory.share:3.0f} %)  {trial.seconds:8.3f} s a step  {verdict:<9}  "
        f"{label(trial.plan.config)}"
    )


def lines(plan: Plan) -> Iterator[tuple[str, str]]:
    """The plan as (label, text), in the order to print."""
    yield from _memory_lines(plan)
    yield from _work_lines(plan)
    yield from _input_lines(plan)
    yield from _finding_lines(plan)


def _memory_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    config, topology, memory, mesh = plan.config, plan.topology, plan.memory, plan.mesh
    how = f"compiled in {plan.compile_seconds:.0f} s" if topology.compiled else "nothing compiled: estimates throughout"
    yield "topology", f"{topology.name}: {topology.chips} {topology.chip.name}, {topology.device_note}; {how}"
    yield "mesh", f"data {mesh['data']} x fsdp {mesh['fsdp']} x tensor {mesh['tensor']} over {topology.devices} devices"
    for row in plan.mesh_table:
        yield "mesh", str(row)
    yield (
        "step",
        f"{config.optim.batch} clips = {plan.clips:g} a device x {config.optim.accumulate} micro-batches; attention "
        f"{config.model.attention}, remat {config.model.remat}, {config.model.dtype}; masks {plan.program}",
    )
    for name in ("parameters", "optimizer", "target", "batch"):
        label = {"target": "EMA", "optimizer": "optimiser"}.get(name, name)
        away = f"; {gib(memory.host)} in host memory" if name == "optimizer" and memory.host else ""
        yield label, f"{gib(getattr(memory, name))} a device ({getattr(memory, name)} bytes){away}"
    yield "activations", f"{gib(memory.activations)} kept for the gradient (estimated)"
    rest = memory.temporaries + memory.padding + memory.code
    yield "temporaries", f"{gib(rest)} gradients, gathered weights, the rest of the compiler's working memory"
    yield (
        "peak",
        f"{gib(memory.peak)} of {gib(memory.capacity)} a device, {100 * memory.share:.0f} %"
        + ("" if plan.fits else f": exceeds it by {gib(memory.peak - memory.capacity)}"),
    )
    if not plan.fits:
        yield from _remedy_lines(plan)


def _remedy_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    from surgmotion_jax.pretrain.plan.remedies import remedies

    for remedy in remedies(plan):
        enough = "then it fits" if remedy.enough else "not enough alone"
        if "accumulate" in remedy.flags and plan.config.loss.diversity.weight:
            enough += "; SFDR then sees one micro-batch at a time"
        yield "remedy", f"{remedy.flags}: saves about {gib(remedy.saves)}, {remedy.adds_s:+.3f} s a step; {enough}"


def _work_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    flops, mfu = plan.flops, f"{100 * plan.mfu:g} % MFU"
    per_clip = flops.model / plan.config.optim.batch / 1e12
    yield (
        "operations",
        f"{flops.model / 1e12:.4g} TFLOP a step, {per_clip:.3f} a clip; {flops.recomputed / 1e12:.4g} more recomputed",
    )
    how = " (estimated)" if plan.estimated else ""
    for t in plan.traffic:
        yield (
            "exchange",
            f"{t.kind} along {', '.join(t.axes) or '(one device)'}: {t.count} a step, {t.bytes / 1e6:.1f} MB{how}",
        )
    yield "step time", f"{plan.step_s:.3f} s at {mfu}; links alone {plan.link_s:.3f} s"
    yield "speed", f"{plan.clips_per_s:.1f} clips/s at {mfu}"
    yield "checkpoint", f"{plan.checkpoint_bytes / 1e9:.2f} GB"
    yield "cost", f"{plan.chip_hours:.0f} chip-hours for {plan.config.steps} steps at {mfu}"


def _input_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    from surgmotion_jax.pretrain.plan.plan import JPEG_CLIP_S, MP4_CLIP_S

    frames = plan.config.data.frames
    ways = (("JPEG records", JPEG_CLIP_S), ("480p video files", MP4_CLIP_S))
    cores = ", ".join(
        f"{plan.host_cores(seconds):.1f} from {way} ({1000 * seconds * frames / 16:.0f} ms for {frames} frames)"
        for way, seconds in ways
    )
    yield (
        "input",
        f"{plan.host_clips_per_s:.1f} clips/s on each of {plan.topology.hosts} hosts; CPU cores a host: {cores}",
    )


def _finding_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    if not plan.topology.compiled:
        return
    found = plan.findings
    for e in found.exchanges:
        yield (
            "per block",
            f"{e.model} {e.work}: {e.role} of {e.bytes / 1e6:.2f} MB, {e.share:.2f} x the sharded weights",
        )
    problems = (
        ("not sharded as planned", found.unexpected_arguments),
        ("more than one block gathered", found.whole_gathers),
        ("communication before the model", found.before_model),
    )
    for text, items in problems:
        for item in items:
            yield "warning", f"{text}: {item}"


def gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain values, figures derived from it included."""
    from surgmotion_jax.pretrain.plan.plan import JPEG_CLIP_S, MP4_CLIP_S
    from surgmotion_jax.pretrain.plan.remedies import remedies

    derived = ("fits", "clips", "step_s", "link_s", "clips_per_s", "host_clips_per_s", "chip_hours")
    return {
        "versions": versions(),
        **dataclasses.asdict(plan),
        **{name: getattr(plan, name) for name in derived},
        "mesh_table": [row._asdict() for row in plan.mesh_table],
        "peak_bytes": plan.memory.peak,
        "peak_share": plan.memory.share,
        "model_flops": plan.flops.model,
        "host_cores": {"jpeg": plan.host_cores(JPEG_CLIP_S), "mp4_480p": plan.host_cores(MP4_CLIP_S)},
        "remedies": [] if plan.fits else [dataclasses.asdict(r) for r in remedies(plan)],
    }


def versions() -> Mapping[str, str]:
    """What the figures depend on besides the config."""
    from importlib import metadata

    found = {}
    for package in ("surgmotion-jax", "jax", "libtpu"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_json(path: str | None, content: Mapping[str, Any]) -> None:
    from surgmotion_jax import storage

    if path:
        storage.write_text_atomic(path, json.dumps(content, indent=1))
