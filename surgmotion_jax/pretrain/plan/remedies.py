"""What helps where a plan exceeds the memory: changes of the config, what each saves and what it costs, computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from surgmotion_jax.models.config import REMAT_POLICIES
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.plan.cost import expected_traffic, kept_bytes, step_flops, working_bytes
from surgmotion_jax.pretrain.plan.plan import (
    SHARE,
    Plan,
    abstract_layout,
    clips_per_device,
    largest,
    offloaded_bytes,
    sharded_shapes,
)
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.setup.summary import bytes_per_device
from surgmotion_jax.pretrain.state import TrainState
from surgmotion_jax.pretrain.step import abstract_training_batch

HOST_LINK = 16e9  # bytes a second between a device and its host: 8 lanes of PCIe 4.0, which all have


@dataclass(frozen=True)
class Remedy:
    """A change of flags, the bytes that it is estimated to save on a device, and the time that it adds to a step."""

    flags: str
    saves: float
    adds_s: float
    enough: bool  # the program is then estimated to fit


@dataclass(frozen=True)
class Estimate:
    """Bytes on a device and seconds of a step, without a compiler."""

    state: float  # parameters, moments, target, batch, gradients
    clips: float  # activations and what lives briefly: all that grows with the clips of a micro-batch
    seconds: float

    @property
    def total(self) -> float:
        return self.state + self.clips


class Estimator:
    """Memory and time of other configs on a plan's topology, corrected by what the compiler said of the plan's own.

    Products run at the plan's MFU, the links meanwhile: the slower of the two counts. Offloaded moments come and go
    afterwards.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.states: dict[tuple[object, ...], TrainState] = {}  # by mesh and dtype: deriving one takes a second
        self.factor = 1.0  # by how much memory exceeds the estimate, in the part that grows with the clips
        self.correct(plan)

    def correct(self, compiled: Plan) -> None:
        """Learns from another compiled plan; the least favourable one counts."""
        found = self.estimate(compiled.config)
        factor = max(compiled.memory.peak - found.state, 0.0) / (found.clips / self.factor)
        self.factor = factor if compiled is self.plan else max(factor, self.factor)

    def estimate(self, config: PretrainConfig) -> Estimate:
        """Raises ValueError where the config does not fit its mesh."""
        topology = self.plan.topology
        layout = abstract_layout(config, topology.devices)
        mesh = {name: int(size) for name, size in layout.mesh.shape.items()}
        clips = clips_per_device(config, mesh)
        if clips != int(clips):
            raise ValueError(f"{clips:g} clips a device in a micro-batch; it must be a whole number.")
        kind = *mesh.values(), config.optim.moments_dtype
        if kind not in self.states:
            self.states[kind] = sharded_shapes(config, layout)
        state = self.states[kind]
        host = offloaded_bytes(config, state)
        held = bytes_per_device(state) + bytes_per_device(state.params) - host
        held += bytes_per_device(abstract_training_batch(config, layout))
        programs = mask_programs(config.mask, config.grid)
        program = largest(programs)
        growing = self.factor * (kept_bytes(config, program, clips) + working_bytes(config, program, clips))
        products = step_flops(config, programs).hardware / (topology.peak_flops * topology.devices * self.plan.mfu)
        links = sum(t.bytes for t in expected_traffic(config, state, mesh)) * topology.chip.devices
        seconds = max(products, links / topology.chip.link_bytes) + 2 * host / HOST_LINK
        return Estimate(held, growing, seconds)


def remedies(plan: Plan, most: int = 3) -> tuple[Remedy, ...]:
    """The cheapest changes by the time that they add, one of a kind; those that suffice alone come first."""
    estimator = Estimator(plan)
    now = estimator.estimate(plan.config)
    best: dict[str, Remedy] = {}
    for kind, flags, config in changes(plan):
        try:
            then = estimator.estimate(config)
        except ValueError:
            continue  # the mesh or the batch does not divide
        saves = now.total - then.total
        enough = plan.memory.peak - saves <= SHARE * plan.memory.capacity
        one = Remedy(flags, saves, then.seconds - now.seconds, enough)
        if saves > 0 and (kind not in best or _rank(one) < _rank(best[kind])):
            best[kind] = one
    return tuple(sorted(best.values(), key=_rank)[:most])


def _rank(remedy: Remedy) -> tuple[bool, float, float]:
    """Sorts the better one first: what suffices by its time, what does not by how little it leaves."""
    return not remedy.enough, remedy.adds_s if remedy.enough else -remedy.saves, -remedy.saves


def changes(plan: Plan) -> Iterator[tuple[str, str, PretrainConfig]]:
    """Changes worth trying: (kind, flags, config)."""
    config, mesh = plan.config, plan.mesh
    fused = "cudnn" if plan.topology.is_gpu else "fused"
    if config.model.attention == "xla":
        yield "attention", f"--config.model.attention={fused}", _model(config, attention=fused)
    for remat in REMAT_POLICIES:
        if remat != config.model.remat:
            yield "remat", f"--config.model.remat={remat}", _model(config, remat=remat)
    if config.optim.moments_dtype == "float32":
        yield "moments", "--config.optim.moments_dtype=bfloat16", _optim(config, moments_dtype="bfloat16")
    if not config.optim.offload:
        yield "moments", "--config.optim.offload=True", _optim(config, offload=True)
    for parts in (2, 4, 8, 16, 32, 64):
        count = config.optim.accumulate * parts
        if config.optim.batch % count == 0:
            flags = f"--config.optim.accumulate={count}"
            yield "accumulate", flags, _optim(config, accumulate=count)
    for times in (2, 4, 8, 16, 32, 64):
        if mesh["data"] % times == 0:
            yield "fsdp", *_sharded(config, mesh["data"] // times, mesh["fsdp"] * times, mesh["tensor"])
    for times in (2, 4):
        if mesh["fsdp"] % times == 0:
            yield "tensor", *_sharded(config, mesh["data"], mesh["fsdp"] // times, mesh["tensor"] * times)


def _model(config: PretrainConfig, **fields: str) -> PretrainConfig:
    return replace(config, model=replace(config.model, **fields))  # type: ignore[arg-type]


def _optim(config: PretrainConfig, **fields: object) -> PretrainConfig:
    return replace(config, optim=replace(config.optim, **fields))  # type: ignore[arg-type]


def _sharded(config: PretrainConfig, data: int, fsdp: int, tensor: int) -> tuple[str, PretrainConfig]:
    flags = f"--config.parallel.data={data} --config.parallel.fsdp={fsdp} --config.parallel.tensor={tensor}"
    return flags, replace(config, parallel=replace(config.parallel, data=data, fsdp=fsdp, tensor=tensor))
