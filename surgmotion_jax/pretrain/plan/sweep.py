"""Several plans of one config: meshes, remat policies and clips a device, the most promising ones compiled.

The global batch stays: fewer clips at a time means more micro-batches, each of which SFDR then sees alone. Candidates
are ordered by estimated time among those estimated to fit; each compilation corrects the memory estimate for the ones
after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import jax

from surgmotion_jax.models.config import REMAT_POLICIES
from surgmotion_jax.parallel.topology import Topology
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.plan.plan import COMPILERS, SHARE, Compile, Plan, compile_step, plan
from surgmotion_jax.pretrain.plan.remedies import Estimate, Estimator


@dataclass(frozen=True)
class Trial:
    """One compiled candidate."""

    plan: Plan
    seconds: float  # of a step, recomputation and links counted

    @property
    def sound(self) -> bool:
        """Leaves the compiler and the runtime some room."""
        return self.plan.memory.share <= SHARE


def candidates(config: PretrainConfig, devices: int) -> Iterator[PretrainConfig]:
    """Configs of the same batch: every split of the devices left by `tensor` into data x fsdp, each remat policy and
    number of micro-batches.
    """
    tensor = max(config.parallel.tensor, 1)
    left = devices // tensor
    for fsdp in (2**i for i in range(left.bit_length()) if left % 2**i == 0):
        parallel = replace(config.parallel, data=left // fsdp, fsdp=fsdp, tensor=tensor)
        for remat in REMAT_POLICIES:
            for parts in (1, 2, 4, 8):
                if config.optim.batch % (left * parts) == 0:
                    yield replace(
                        config,
                        parallel=parallel,
                        model=replace(config.model, remat=remat),
                        optim=replace(config.optim, accumulate=parts),
                    )


def sweep(
    config: PretrainConfig,
    topology: Topology,
    devices: Sequence[jax.Device] = (),
    mfu: float | None = None,
    most: int = 4,
    say: Callable[[str], None] = lambda text: None,
    compile: Compile = compile_step,
) -> list[Trial]:
    """Plans at most `most` candidates after the config itself. The best comes first.

    `say` is told of each candidate before it is compiled, which takes minutes.
    """
    first = plan(config, topology, devices, mfu, compile)
    trials, estimator = [_trial(first)], Estimator(first)
    config = first.config  # with mesh and attention decided
    for number in range(most):
        tried = [_choices(t.plan.config) for t in trials]
        ahead = _fitting(estimator, (c for c in candidates(config, topology.devices) if _choices(c) not in tried))
        if not ahead:
            break
        expected, chosen = min(ahead, key=lambda f: (f[0].seconds, f[0].total))
        say(
            f"{number + 1} of at most {most}: {label(chosen)}, estimated {expected.total / 2**30:.2f} GiB, "
            f"{expected.seconds:.3f} s a step"
        )
        trials.append(_trial(plan(chosen, topology, devices, mfu, compile)))
        estimator.correct(trials[-1].plan)
    return sorted(trials, key=lambda t: (not t.sound, t.seconds, t.plan.memory.peak))


def _trial(found: Plan) -> Trial:
    products = found.flops.hardware / (found.topology.peak_flops * found.topology.devices * found.mfu)
    # The compiler's estimate counts what is computed again; an MFU that is given or assumed does not.
    busy = found.step_s if found.mfu_source == COMPILERS else products
    return Trial(found, max(busy, found.link_s))


def _fitting(estimator: Estimator, configs: Iterator[PretrainConfig]) -> list[tuple[Estimate, PretrainConfig]]:
    found = []
    for config in configs:
        try:
            expected = estimator.estimate(config)
        except ValueError:
            continue  # a weight that the mesh does not divide
        if expected.total <= SHARE * estimator.plan.topology.usable_bytes:
            found.append((expected, config))
    return found


def _choices(config: PretrainConfig) -> tuple[int, int, str, int]:
    return config.parallel.fsdp, config.parallel.tensor, config.model.remat, config.optim.accumulate


def label(config: PretrainConfig) -> str:
    """What distinguishes a candidate."""
    p = config.parallel
    return (
        f"data {p.data} x fsdp {p.fsdp} x tensor {p.tensor}, remat {config.model.remat}, {config.optim.accumulate} "
        "micro-batches"
    )
