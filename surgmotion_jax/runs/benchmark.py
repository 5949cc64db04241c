"""A benchmark of the training step: builds the subjects, lets them take turns, and says what was found."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol

import jax

from surgmotion_jax.data import ClipDataset
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh, process_rows
from surgmotion_jax.pretrain.bench.steps import (
    Counts,
    OurStep,
    counts_of,
    repeated,
    synthetic_clips,
    whole_step,
)
from surgmotion_jax.pretrain.bench.timing import Quartiles, StepTime, mfu, quartiles, ratios, take_turns
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.image_branch import of_images
from surgmotion_jax.pretrain.objective import RawBatch
from surgmotion_jax.pretrain.plan.cost import step_flops
from surgmotion_jax.pretrain.sample.masks import MaskProgram
from surgmotion_jax.pretrain.setup.machine import memory_gb
from surgmotion_jax.pretrain.setup.placement import place
from surgmotion_jax.pretrain.setup.preflight import check
from surgmotion_jax.pretrain.step import resolve
from surgmotion_jax.runs.clips import image_dataset, raw, training_rows

PROFILED_STEPS = 3
OURS = "ours"
SYNTHETIC = "synthetic"  # stands in the config for the path of clips


@dataclass(frozen=True)
class Request:
    """What is to be timed.

    Attributes:
      configs: the config of each subject; all are compared with the first.
      steps: rounds that count.
      warmup: rounds before them that do not.
      profile: where a trace of a few steps of the first subject goes; empty: nowhere.
    """

    configs: Mapping[str, PretrainConfig]
    steps: int = 20
    warmup: int = 3
    profile: str = ""


def benchmark(request: Request) -> dict[str, object]:
    """Times the subjects, prints what was found, and returns every figure as plain values."""
    with ExitStack() as stack:
        subjects = {name: whole(config, request, stack) for name, config in request.configs.items()}
        return measure(subjects, request)


def measure(subjects: Mapping[str, Subject], request: Request) -> dict[str, object]:
    """As `benchmark`, of subjects that are there."""
    bench = Bench(subjects, request)
    bench.announce()
    bench.time()
    bench.profile()
    return bench.as_json()


class Step(Protocol):
    """A step that can be taken again and again."""

    loss: float  # of the latest step

    def __call__(self) -> StepTime: ...


@dataclass
class Subject:
    """Something that makes steps, and what is known of them."""

    config: PretrainConfig
    step: Step
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


def whole(config: PretrainConfig, request: Request, stack: ExitStack) -> Subject:
    """Our whole step, as training runs it."""
    config, layout, program = placed(config)
    if [source.path for source in config.data.sources.values()] == [SYNTHETIC]:
        source = repeated(synthetic_batch(config, layout))
    else:
        source = loaded(config, layout, request, stack)
    return subject_of(config, program, layout, whole_step(config, program, layout, source))


def subject_of(config: PretrainConfig, program: MaskProgram, layout: MeshLayout, step: OurStep) -> Subject:
    """A step of ours with what is known of it."""
    masks = f"{program.name}: {counts_text(counts_of(program))}"
    return Subject(config, step, step_flops(config, [program]).model, masks, layout.mesh.size)


def synthetic_batch(config: PretrainConfig, layout: MeshLayout) -> RawBatch:
    """This process's rows of clips, and of images where the config has some, drawn by arithmetic."""
    clips = synthetic_clips(config, process_rows(layout, config.optim.batch))
    if not config.images.batch:
        return clips
    return clips._replace(images=synthetic_clips(of_images(config), process_rows(layout, config.images.batch)))


def loaded(config: PretrainConfig, layout: MeshLayout, request: Request, stack: ExitStack) -> Iterator[RawBatch]:
    """Decoded clips and images, as training gets them, until `stack` closes."""
    stop = request.warmup + request.steps + PROFILED_STEPS
    dataset = ClipDataset(config.data, config.seed)
    source = training_rows(config, layout, (dataset, image_dataset(config, dataset)), 0, stop)
    stack.callback(source.close)
    return (raw(clips)._replace(images=raw(images) if images else None) for clips, images in source)


class Bench:
    """Subjects by name, and what is printed of them. All are compared with the first."""

    def __init__(self, subjects: Mapping[str, Subject], request: Request) -> None:
        self.subjects, self.request = subjects, request
        self.first = next(iter(subjects))

    def announce(self) -> None:
        """Prints what is about to be timed."""
        say("device", device_text())
        say("versions", ", ".join(f"{name} {version}" for name, version in versions().items()))
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

    def time(self) -> None:
        """Takes the times and prints them."""
        times = take_turns({n: s.step for n, s in self.subjects.items()}, self.request.warmup, self.request.steps)
        for name, subject in self.subjects.items():
            subject.times = times[name]
            for label, text in self.lines(name, subject):
                say(label, text)
        say("memory", f"{memory_gb():.3f} GB at its peak, all subjects together")

    def lines(self, name: str, subject: Subject) -> Iterator[tuple[str, str]]:
        """What is said of a subject, and how it compares with the first."""
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
        yield "", f"loss {subject.step.loss:.6f} after {self.request.warmup + self.request.steps} steps"
        if name != self.first:
            first = self.subjects[self.first]
            each = ratios(first.times, subject.times)
            yield (
                "",
                f"{self.first} / {name}: {first.seconds.median / whole.median:.3f} by medians; round by round "
                f"{each.median:.3f} ({each.lower:.3f} to {each.upper:.3f})",
            )

    def profile(self) -> None:
        """Traces a few more steps of the first subject."""
        if not self.request.profile:
            return
        with jax.profiler.trace(self.request.profile):
            for _ in range(PROFILED_STEPS):
                self.subjects[self.first].step()
        say("profile", f"{PROFILED_STEPS} steps of {self.first} in {self.request.profile}")

    def as_json(self) -> dict[str, object]:
        """All figures as plain values."""
        return {
            "device": device_text(),
            "versions": versions(),
            "peak_memory_gb": memory_gb(),
            "subjects": {name: self.figures(subject) for name, subject in self.subjects.items()},
        }

    def figures(self, subject: Subject) -> dict[str, object]:
        compilation = subject.step.compilation._asdict() if isinstance(subject.step, OurStep) else None
        return {
            "step_s": dataclasses.asdict(subject.seconds),
            "clips_per_s": subject.config.optim.batch / subject.seconds.median,
            "mfu": subject.mfu,
            "flops": subject.flops,
            "masks": subject.masks,
            "first_to_this": dataclasses.asdict(ratios(self.subjects[self.first].times, subject.times)),
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


def versions() -> dict[str, str]:
    """Of what the figures depend on, as far as it is installed."""
    found = {}
    for package in ("surgmotion-jax", "jax", "jaxlib", "torch", "transformers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def say(label: str, text: str) -> None:
    print(f"{label:>12}  {text}", flush=True)
