"""A plan in words, as a person reads it, and as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from jax import Device

from surgmotion_jax.parallel.times import Time
from surgmotion_jax.parallel.topology import Topology
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.losses.table import active_terms
from surgmotion_jax.pretrain.plan.plan import JPEG_CLIP_S, MP4_CLIP_S, Plan, plan
from surgmotion_jax.pretrain.plan.remedies import remedies
from surgmotion_jax.pretrain.plan.sweep import Trial, label, sweep
from surgmotion_jax.pretrain.setup.teacher import with_teacher

STAND_IN = "planned"  # for paths that a plan does not read


@dataclass(frozen=True)
class Planned:
    """Whether the plan, or the best of a sweep, fits, and all figures as plain values."""

    fits: bool
    content: Mapping[str, object]


def taught(config: PretrainConfig) -> PretrainConfig:
    """With the architecture of a frozen teacher; one that is not named yet is taken to be as the student is."""
    return config if config.objective.teacher == STAND_IN else with_teacher(config)


def run_plan(config: PretrainConfig, topology: Topology, devices: Sequence[Device], mfu: float | None) -> Planned:
    """Makes one plan and prints it."""
    config = taught(config)
    if topology.compiled:
        print(f"compiling for {topology.name}, which takes minutes", flush=True)
    found = plan(config, topology, devices, mfu)
    for name, text in lines(found):
        print(f"{name:>14}  {text}")
    return Planned(found.fits, as_json(found))


def run_sweep(
    config: PretrainConfig, topology: Topology, devices: Sequence[Device], mfu: float | None, compilations: int
) -> Planned:
    """Makes several plans and prints them, the best first and in full."""
    print("the config itself first, then the candidates", flush=True)
    trials = sweep(taught(config), topology, devices, mfu, compilations, lambda text: print(text, flush=True))
    for trial in trials:
        print(sweep_line(trial))
    best = trials[0].plan
    print(f"\nbest: {label(best.config)}")
    for name, text in lines(best):
        print(f"{name:>14}  {text}")
    return Planned(best.fits, {"trials": [as_json(trial.plan) for trial in trials]})


def sweep_line(trial: Trial) -> str:
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
    yield from _time_lines(plan)
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
        f"{plan.attention}, remat {config.model.remat}, {config.model.dtype}; masks {plan.program}",
    )
    for name in ("parameters", "optimizer", "target", "teacher", "batch"):
        title = {"target": "EMA", "optimizer": "optimiser"}.get(name, name)
        if name in ("target", "teacher") and not getattr(memory, name):
            continue
        away = f"; {gib(memory.host)} in host memory" if name == "optimizer" and memory.host else ""
        away = "; frozen, so without gradients or a state of the optimiser" if name == "teacher" else away
        yield title, f"{gib(getattr(memory, name))} a device ({getattr(memory, name)} bytes){away}"
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
    for remedy in remedies(plan):
        enough = "then it fits" if remedy.enough else "not enough alone"
        terms = active_terms(plan.config.loss, plan.config.objective.predicts)
        over_batch = [active.term.label for active in terms if active.term.over_batch]
        if "accumulate" in remedy.flags:
            enough += "".join(f"; {label} then sees one micro-batch at a time" for label in over_batch)
        yield "remedy", f"{remedy.flags}: saves about {gib(remedy.saves)}, {remedy.adds_s:+.3f} s a step; {enough}"


def _work_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    flops, mfu = plan.flops, f"{100 * plan.mfu:.3g} % MFU {plan.mfu_source}"
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


def _time_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    """What the compiler says of the program that it compiled: kernels of a GPU, or times on a TPU."""
    if plan.kernels:
        yield "kernels", ", ".join(f"{count} {kind}" for kind, count in plan.kernels.items()) + " a step"
    time = plan.time
    if time is None:
        return
    mfu = time.mfu(plan.topology.peak_flops)
    yield (
        "estimate",
        f"{milliseconds(time.total)} for {plan.program}, {100 * mfu.plain:.1f} ({100 * mfu.corrected:.1f}) % MFU; "
        f"kernels {1000 * time.kernels:.1f} ms of it. In brackets: operations without a product take at most what "
        "their bytes take. Collectives are not in it",
    )
    for name, part in time.parts.items():
        yield "part", f"{name}: {milliseconds(part)}, {100 * part.plain / time.total.plain:.1f} %"
    for dear in time.dearest:
        yield "dearest", f"{milliseconds(dear.time)}  {dear.count:g} x {dear.op_name[-80:]}  {dear.source}"
    for name in time.unknown_kernels:
        yield "warning", f"kernel {name} has no known time on a {plan.topology.chip.name}: it is not in the estimate"


def milliseconds(time: Time) -> str:
    """Both sums: '357.0 (331.2) ms'."""
    return f"{1000 * time.plain:.1f} ({1000 * time.corrected:.1f}) ms"


def _input_lines(plan: Plan) -> Iterator[tuple[str, str]]:
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
    if found.narrow:
        more = f", and {len(found.narrow) - 1} more" if len(found.narrow) > 1 else ""
        yield "warning", f"rows padded to more than twice their length in loops: {found.narrow[0]}{more}"


def gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def as_json(plan: Plan) -> dict[str, object]:
    """The plan as plain values, figures derived from it included."""

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
    found = {}
    for package in ("surgmotion-jax", "jax", "libtpu"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
