"""Times the heads of a sweep at once, one after the other, and in a loop of PyTorch; run as a program.

  python -m tests.evaluate.head_speed --rows=4 --tokens=1568 --width=1024 --depth=4 --heads=20 --peer

All train the same attentive heads on the same features from the same weights, in float32, and take turns step by step;
the losses of the first step are compared before anything is timed. The peer needs torch and transformers, and runs on
CUDA where PyTorch finds it.
"""

from __future__ import annotations

import argparse
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from surgmotion_jax.evaluate.config import Grid
from surgmotion_jax.evaluate.heads.clock import CLASSES, STEPS, WEIGHT_DECAYS, SweepClock, features_of, grid_of
from surgmotion_jax.evaluate.heads.optimizer import BETA1, BETA2, EPS
from surgmotion_jax.evaluate.heads.sweep import Batch, Groups, Sweep
from surgmotion_jax.models.name_rules import read_all
from surgmotion_jax.models.probe import ProbeConfig
from surgmotion_jax.models.probe_names import hugging_face_probe_tensors, probe_tensors

Clock = Callable[[], float]  # takes a step of all heads and returns its seconds


def params_of(sweep: Sweep, groups: Groups, number: int) -> Any:
    """Parameters of one head of a sweep."""
    return jax.tree.map(lambda leaf: leaf[number], sweep.stacked(groups).params)


class TorchLoop:
    """The heads of a grid one after the other in PyTorch, from transformers' modules, each with an AdamW of its own."""

    def __init__(self, config: ProbeConfig, params: Any, grid: Grid, batch: Batch) -> None:
        import torch

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_float32_matmul_precision("high")  # as JAX multiplies on GPUs
        self.features, self.label = (torch.from_numpy(np.asarray(x)).to(self.device) for x in batch[:2])
        weights = read_all(hugging_face_probe_tensors(probe_tensors(params)))
        self.heads = [_torch_head(config, weights).to(self.device) for _ in grid.points]
        self.optimizers, self.schedules = [], []
        for head, (lr, decay) in zip(self.heads, grid.points, strict=True):
            adamw = torch.optim.AdamW(
                head.parameters(), lr=lr, weight_decay=decay, betas=(BETA1, BETA2), eps=EPS, fused=True
            )
            self.optimizers.append(adamw)
            self.schedules.append(torch.optim.lr_scheduler.CosineAnnealingLR(adamw, STEPS))
        self.losses = np.zeros(0)

    def __call__(self) -> float:
        import torch

        start = time.perf_counter()
        losses = []
        for head, optimizer, schedule in zip(self.heads, self.optimizers, self.schedules, strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(head(self.features), self.label)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - start
        self.losses = torch.stack(losses).cpu().numpy()
        return seconds


def _torch_head(config: ProbeConfig, weights: Mapping[str, np.ndarray]) -> Any:
    import torch
    from transformers import VJEPA2Config
    from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

    settings = VJEPA2Config(
        hidden_size=config.width,
        num_attention_heads=config.heads,
        num_pooler_layers=config.depth - 1,
        mlp_ratio=config.trunk.mlp / config.width,
        layer_norm_eps=config.norm_eps,
        attn_implementation="sdpa",
    )
    parts = {"pooler": VJEPA2AttentivePooler(settings), "classifier": torch.nn.Linear(config.width, config.outputs)}
    head = torch.nn.Sequential(OrderedDict(parts))
    head.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()}, strict=True)
    return head


def timed_in_turns(clocks: Mapping[str, Clock], rounds: int) -> dict[str, np.ndarray]:
    """Quartiles [3] of the seconds of each clock; who comes first changes from round to round."""
    found: dict[str, list[float]] = {name: [] for name in clocks}
    names = list(clocks)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(clocks[name]())
    return {name: np.percentile(seconds, (25, 50, 75)) for name, seconds in found.items()}


def lines(quartiles: Mapping[str, np.ndarray]) -> list[str]:
    """A line a subject: median (quartiles) in ms of a step of all heads, and its ratio to the loop's."""
    loop = quartiles["loop"][1]
    return [
        f"{name:6} {1e3 * q2:10.2f} ms ({1e3 * q1:.2f} to {1e3 * q3:.2f}); {q2 / loop:.2f} of the loop"
        for name, (q1, q2, q3) in quartiles.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"rows": 4, "tokens": 196, "width": 192, "depth": 4, "attention_heads": 3, "heads": 8, "rounds": 15}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--peer", action="store_true", help="a loop of PyTorch as well")
    asked = parser.parse_args(argv)
    if asked.heads < len(WEIGHT_DECAYS) or asked.heads % len(WEIGHT_DECAYS):
        parser.error(f"--heads is {asked.heads}; give a multiple of {len(WEIGHT_DECAYS)}")
    config = ProbeConfig(asked.width, len(CLASSES), depth=asked.depth, heads=asked.attention_heads)
    batch, grid = features_of(asked.rows, asked.tokens, asked.width), grid_of(asked.heads)
    subjects: dict[str, Any] = {name: SweepClock(config, grid, batch, name) for name in ("vmap", "loop")}
    if asked.peer:
        loop = subjects["loop"]
        subjects["torch"] = TorchLoop(config, params_of(loop.sweep, loop.groups, 0), grid, batch)
    for subject in subjects.values():
        subject()  # the first step is slower; its losses must be the same
    for subject in subjects.values():
        np.testing.assert_allclose(subject.losses, subjects["loop"].losses, rtol=0, atol=1e-4)
    print(
        f"{asked.rows} x {asked.tokens} tokens x {asked.width}, {asked.depth} layers, {asked.heads} heads; "
        f"vmap takes {subjects['vmap'].group} at a time"
    )
    print("\n".join(lines(timed_in_turns(subjects, asked.rounds))))


if __name__ == "__main__":
    main()
