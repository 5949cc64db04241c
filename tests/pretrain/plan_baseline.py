"""The compiler's estimates for the plans of the shipped configs, kept in docs/plan/baseline.json.

  python -m tests.pretrain.plan_baseline [NAME ...]

plans the rows named, or all, with libtpu, and writes their figures; five to twenty minutes a row. A slow test plans
again and compares, so that a change that makes a shipped config slower is noticed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from surgmotion_jax import storage

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "docs" / "plan" / "baseline.json"
LATER = "--config.init.checkpoint=x"  # weights to start from, which a plan does not read
ROWS: Mapping[str, tuple[str, ...]] = {
    "vitl_stage1_v5e": ("pretrain/surgmotion_vitl:stage1", "v5e:4x4", "--config.optim.batch=256"),
    "vitl_stage1_v5p": ("pretrain/surgmotion_vitl:stage1", "v5p:2x2x4", "--config.optim.batch=256"),
    "vitl_stage1_v6e": ("pretrain/surgmotion_vitl:stage1", "v6e:8x8", "--config.optim.batch=768"),
    "vitl_stage1_v5e_pod": ("pretrain/surgmotion_vitl:stage1", "v5e:16x16", "--config.optim.batch=3072"),
    "vitl_stage2_v5p": ("pretrain/surgmotion_vitl:stage2", "v5p:4x4x4", LATER),
    "vitg_stage1_v5p": ("pretrain/surgmotion_vitg:stage1", "v5p:4x4x8", "--config.optim.batch=3072"),
    "vitg_stage2_v5p": ("pretrain/surgmotion_vitg:stage2", "v5p:4x4x8", "--config.optim.batch=256", LATER),
    "vjepa2_v5e": ("pretrain/vjepa2_vitl", "v5e:16x16"),
    "vjepa2_cooldown_v5p": ("pretrain/vjepa2_vitl:cooldown", "v5p:4x8x8", LATER),
    "tiny_v5e": ("pretrain/tiny", "v5e:2x2"),
}


def flags_of(name: str) -> list[str]:
    """What `surgmotion plan` is asked for."""
    config, topology, *more = ROWS[name]
    return [f"--config={config}", f"--topology={topology}", *more]


def planned(flags: Sequence[str]) -> dict[str, Any]:
    """What `plan` writes, in a process of its own, whose environment libtpu finds as the command sets it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "plan.json"
        command = [sys.executable, "-m", "surgmotion_jax", "plan", *flags, f"--json={written}"]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if not written.exists():
            raise RuntimeError(f"{' '.join(command)} wrote nothing:\n{done.stderr[-2000:]}")
        return json.loads(written.read_text())


def figures(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a plan."""
    time, peak = plan["time"], plan["topology"]["chip"]["peak_flops"]
    plain, corrected = time["total"]["plain"], time["total"]["corrected"]
    return {
        "versions": plan["versions"],
        "milliseconds": round(1000 * plain, 2),
        "milliseconds_corrected": round(1000 * corrected, 2),
        "mfu_percent": round(100 * time["flops"] / (plain * peak), 2),
        "mfu_percent_corrected": round(100 * time["flops"] / (corrected * peak), 2),
        "peak_gib": round(plan["peak_bytes"] / 2**30, 2),
        "peak_percent": round(100 * plan["peak_share"], 1),
        "sent_gb": round(sum(t["bytes"] for t in plan["traffic"]) / 1e9, 2),
    }


def read_baseline() -> dict[str, dict[str, Any]]:
    """The figures that are kept, by row."""
    return json.loads(BASELINE.read_text()) if BASELINE.exists() else {}


def keep(name: str, plan: Mapping[str, Any]) -> None:
    """Writes the figures of one row; the others stay."""
    kept = read_baseline() | {name: {"flags": flags_of(name), **figures(plan)}}
    text = json.dumps({row: kept[row] for row in ROWS if row in kept}, indent=1) + "\n"
    storage.write_text_atomic(BASELINE, text)


def main(names: Sequence[str]) -> None:
    for name in names or list(ROWS):
        if name not in ROWS:
            sys.exit(f"{name}: no such row; rows are {', '.join(ROWS)}")
        keep(name, planned(flags_of(name)))
        print(name, read_baseline()[name], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
