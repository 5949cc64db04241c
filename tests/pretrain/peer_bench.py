"""Times our step against the same work from transformers' modules, in turns.

  python -m tests.pretrain.peer_bench --config=bench/peer_tiny --counts=104/136,48/240 --steps=25

Both get normalised clips and token numbers, and do nothing that the other does not: no augmentation, no drawing of
masks. Both start from one set of weights and print the same loss.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from surgmotion_jax import storage
from surgmotion_jax.commands.bench import limit_threads
from surgmotion_jax.commands.command_line import CommandLine, config_flags, flag, switch
from surgmotion_jax.commands.configs import pretrain_config
from surgmotion_jax.pretrain.bench.steps import counts_of
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.plan.cost import step_flops
from surgmotion_jax.runs.benchmark import OURS, SYNTHETIC, Request, Subject, cores, counts_text, measure, placed
from tests.pretrain.given_step import counted, given_step, read_counts, synthetic_given
from tests.pretrain.torch_peer import TorchStep, check_peer

PEER = "torch"


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for."""

    config: tuple[str, ...] = config_flags("pretraining", "a config file or the name of a shipped one: bench/peer_tiny")
    counts: str = flag("K/M,...", "context/target tokens of each mask set; empty: the config's", default="")
    compiled: bool = switch("have torch.compile compile the peer")
    steps: int = flag("N", "rounds that count", default=20, least=1)
    warmup: int = flag("N", "rounds before them that do not", default=3, least=1)
    threads: int = flag("N", "CPU threads of both; 0: as many as there are cores", default=0, least=0)
    json: str | None = flag("FILE", "write every figure, step by step, as JSON", default=None)


LINE = CommandLine("peer_bench", __doc__, Arguments)


def run(asked: Arguments) -> int:
    limit_threads(asked.threads)
    config = pretrain_config(asked.config, None, stand_in=SYNTHETIC)
    subjects = pair(config, asked.counts, asked.compiled)
    figures = measure(subjects, Request({OURS: config}, asked.steps, asked.warmup))
    if asked.json:
        storage.write_text_atomic(asked.json, json.dumps(figures, indent=1))
    return 0


def pair(config: PretrainConfig, asked: str, compiled: bool) -> Mapping[str, Subject]:
    """Our step and the peer's on the same given clips and masks."""
    check_peer(config)
    config, layout, program = placed(config)
    counts = read_counts(asked, config.grid) if asked else counts_of(program)
    clips = synthetic_given(config, counts)
    ours = given_step(config, layout, clips)
    device = "cuda" if layout.mesh.devices.flat[0].platform == "gpu" else "cpu"
    peer = TorchStep(config, ours.state.params, clips, cores(), device, compiled)
    flops = step_flops(config, [counted(counts, config.grid)])
    known = flops.model - flops.prepare, f"given: {counts_text(counts)}"
    return {OURS: Subject(config, ours, *known, layout.mesh.size), PEER: Subject(config, peer, *known, 1)}


if __name__ == "__main__":
    sys.exit(LINE.run(sys.argv[1:], run))
