"""What `surgmotion bench` does: builds the subjects, lets them take turns, says and writes what was found."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import metadata
from typing import Any

import jax

from surgmotion_jax import storage
from surgmotion_jax.commands.bench import OURS, PEER, SYNTHETIC, Request
from surgmotion_jax.data import ClipDataset, batches
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh, process_rows
from surgmotion_jax.pretrain.bench import steps as bench_step
from surgmotion_jax.pretrain.bench.steps import Counts, OurStep
from surgmotion_jax.pretrain.bench.timing import Quartiles, StepTime, mfu, quartiles, ratios, take_turns
from surgmotion_jax.pretrain.bench.torch_peer import TorchStep, check_peer
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.objective import RawBatch
from surgmotion_jax.pretrain.plan.cost import step_flops
from surgmotion_jax.pretrain.sample.masks import MaskProgram
from surgmotion_jax.pretrain.setup.machine import memory_gb
from surgmotion_jax.pretrain.setup.placement import place
from surgmotion_jax.pretrain.setup.preflight import check
from surgmotion_jax.pretrain.step import resolve

PROFILED_STEPS = 3


@dataclasses.dataclass
class Subject:
    """Something that makes steps, and what is known of them."""

    config: PretrainConfig
    step: OurStep | TorchStep
    flops: float  # model operations of a step
    masks: str  # counts, in words
    devices: int
    times: list[StepTime] = dataclasses.field(default_factory=list)

    @property
    def seconds(self) -> Quartiles:
        return quartiles([t.total for t in self.times])

    @property
    def mfu(self) -> float | None:
        kind = jax.devices()[0].device_kind
        return mfu(self.flops, self.seconds.median, kind, self.devices, self.config.model.dtype)


class Bench:
    """Subjects by name, ours first."""

    def __init__(self, request: Request, stack: ExitStack) -> None:
        self.given, self.stack = request.given, stack
        if self.given.peer:
            self.subjects = self.peers(request.configs[OURS])
        else:
            self.subjects = {name: self.whole(config) for name, config in request.configs.items()}

    def whole(self, config: PretrainConfig) -> Subject:
        """Our whole step, as training runs it."""
        config, layout, program = placed(config)
        rows = process_rows(layout, config.optim.batch)
        if [source.path for source in config.data.sources.values()] == [SYNTHETIC]:
            source = bench_step.repeated(bench_step.synthetic_clips(config, rows))
        else:
            source = self.loaded(config, rows)
        step = bench_step.whole_step(config, program, layout, source)
        masks = f"{program.name}: {counts_text(bench_step.counts_of(program))}"
        return Subject(config, step, step_flops(config, [program]).model, masks, layout.mesh.size)

    def loaded(self, config: PretrainConfig, rows: tuple[int, int]) -> Iterator[Any]:
        """Decoded clips, as training gets them."""
        stop = self.given.warmup + self.given.steps + PROFILED_STEPS
        dataset = ClipDataset(config.data, config.seed)
        source = batches(dataset, global_batch=config.optim.batch, rows=rows, start_step=0, stop_step=stop)
        self.stack.callback(source.close)  # type: ignore[attr-defined]
        return (RawBatch(b.video_BxTxHxWx3, b.valid_BxT, b.index_B) for b in source)  # type: ignore[arg-type]

    def peers(self, config: PretrainConfig) -> dict[str, Subject]:
        """Our step and the peer's on the same given clips and masks."""
        check_peer(config)
        config, layout, program = placed(config)
        counts = bench_step.counts_of(program)
        if self.given.counts:
            counts = bench_step.read_counts(self.given.counts, config.grid)
        clips = bench_step.synthetic_given(config, counts)
        ours = bench_step.given_step(config, layout, clips)
        device = "cuda" if layout.mesh.devices.flat[0].platform == "gpu" else "cpu"
        peer = TorchStep(config, ours.state.params, clips, cores(), device, self.given.peer_compile)
        flops = step_flops(config, [bench_step.counted(counts, config.grid)])
        known = flops.model - flops.prepare, f"given: {counts_text(counts)}"
        return {OURS: Subject(config, ours, *known, layout.mesh.size), PEER: Subject(config, peer, *known, 1)}

    def announce(self) -> None:
        """Prints what is about to be timed."""
        say("device", device_text())
        say("versions", ", ".join(f"{name} {version}" for name, version in versions(self.given.peer).items()))
        for name, subject in self.subjects.items():
            config, step = subject.config, subject.step
            say(
                name,
                f"{config.model.variant}, {config.data.frames} x {config.augment.crop} x {config.augment.crop}, batch "
                f"{config.optim.batch}, {config.model.dtype}; {subject.masks}; {subject.flops / 1e9:.1f} GFLOP a step",
            )
            if isinstance(step, OurStep):
                taken = step.compilation
                say(
                    "",
                    f"compiled in {taken.seconds:.1f} s, {taken.arguments / 1e9:.3f} GB arguments, "
                    f"{taken.temporaries / 1e9:.3f} GB temporaries a device",
                )

    def measure(self) -> None:
        """Takes the times and prints them."""
        times = take_turns({n: s.step for n, s in self.subjects.items()}, self.given.warmup, self.given.steps)
        for name, subject in self.subjects.items():
            subject.times = times[name]
            for label, text in self.lines(name, subject):
                say(label, text)
        say("memory", f"{memory_gb():.3f} GB at its peak, all subjects together")

    def lines(self, name: str, subject: Subject) -> Iterator[tuple[str, str]]:
        """What is said of a subject, and how it compares with ours."""
        whole, cpu, share = subject.seconds, quartiles([t.cpu for t in subject.times]), subject.mfu
        yield (
            name,
            f"{whole.median:.4f} s a step ({whole.lower:.4f} to {whole.upper:.4f}), "
            f"{subject.config.optim.batch / whole.median:.2f} clips/s"
            + ("" if share is None else f", MFU {100 * share:.1f} %"),
        )
        parts = {"data": "data", "host to device": "transfer", "device": "device"}
        medians = {part: quartiles([getattr(t, field) for t in subject.times]).median for part, field in parts.items()}
        yield "", ", ".join(f"{part} {seconds:.4f} s" for part, seconds in medians.items())
        yield "", f"{cpu.median:.3f} s of processor time a step ({cpu.lower:.3f} to {cpu.upper:.3f})"
        if self.given.peer:
            yield "", f"loss {subject.step.loss:.6f} after {self.given.warmup + self.given.steps} steps"
        if name != OURS:
            ours = self.subjects[OURS]
            each = ratios(ours.times, subject.times)
            yield (
                "",
                f"{OURS} / {name}: {ours.seconds.median / whole.median:.3f} by medians; round by round "
                f"{each.median:.3f} ({each.lower:.3f} to {each.upper:.3f})",
            )

    def profile(self) -> None:
        """Traces a few more steps of the first subject."""
        if not self.given.profile:
            return
        with jax.profiler.trace(self.given.profile):
            for _ in range(PROFILED_STEPS):
                self.subjects[OURS].step()
        say("profile", f"{PROFILED_STEPS} steps of {OURS} in {self.given.profile}")

    def write(self) -> None:
        """Writes every figure where the command line asks for it."""
        content = json.dumps(self.as_json(), indent=1)
        if self.given.json:
            storage.write_text_atomic(self.given.json, content)
        if self.given.workdir:
            storage.write_text_atomic(storage.ensure_writable(self.given.workdir) / "bench.json", content)

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "device": device_text(),
            "versions": versions(self.given.peer),
            "peak_memory_gb": memory_gb(),
            "subjects": {name: self.figures(subject) for name, subject in self.subjects.items()},
        }

    def figures(self, subject: Subject) -> dict[str, Any]:
        compilation = subject.step.compilation._asdict() if isinstance(subject.step, OurStep) else None
        return {
            "step_s": dataclasses.asdict(subject.seconds),
            "clips_per_s": subject.config.optim.batch / subject.seconds.median,
            "mfu": subject.mfu,
            "flops": subject.flops,
            "masks": subject.masks,
            "ours_to_this": dataclasses.asdict(ratios(self.subjects[OURS].times, subject.times)),
            "steps": [dataclasses.asdict(t) for t in subject.times],
            "compilation": compilation,
            "config": dataclasses.asdict(subject.config),
        }


def placed(config: PretrainConfig) -> tuple[PretrainConfig, MeshLayout, MaskProgram]:
    """The config on the devices that are here, its mesh, and the middle one of its mask programs.

    The counts of the middle one are nearest to the mean step's.
    """
    config, _ = place(config, jax.devices())
    layout = MeshLayout(make_mesh(config.parallel))
    config = resolve(config, layout)
    programs, _ = check(config, layout)
    return config, layout, programs[len(programs) // 2]


def counts_text(counts: Counts) -> str:
    return ", ".join(f"{context} context + {target} target" for context, target in counts)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_text() -> str:
    tuned = os.environ.get("GLIBC_TUNABLES")
    text = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {cores()} CPU cores in use"
    return f"{text}, GLIBC_TUNABLES={tuned}" if tuned else text


def versions(peer: str | None) -> dict[str, str]:
    """Of what the figures depend on."""
    found = {}
    for package in ("surgmotion-jax", "jax", "jaxlib", *(("torch", "transformers") if peer else ())):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def say(label: str, text: str) -> None:
    print(f"{label:>12}  {text}", flush=True)
