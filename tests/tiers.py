"""Which tests the quick tier leaves out: files whose tests train, compile much, render, or start processes."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
# Files and folders that take more than a few seconds, by `pytest --durations=0`.
HEAVY = (
    "benchmarks/test_readers.py",
    "benchmarks/test_tfds.py",
    "checkpoints/test_faults.py",
    "checkpoints/test_store.py",
    "commands/test_ablate.py",
    "commands/test_bench.py",
    "commands/test_compare.py",
    "commands/test_convert.py",
    "commands/test_data_preview.py",
    "commands/test_doctor.py",
    "commands/test_evaluate.py",
    "commands/test_evaluate_rendered.py",
    "commands/test_export.py",
    "commands/test_extract.py",
    "commands/test_plan.py",
    "commands/test_pretrain.py",
    "commands/test_pretrain_elsewhere.py",
    "commands/test_processes.py",
    "data/test_decode.py",
    "data/test_loader.py",
    "docs/test_examples.py",
    "evaluate/test_comparison.py",
    "evaluate/test_config.py",
    "evaluate/test_dense_overfit.py",
    "evaluate/test_devices.py",
    "evaluate/test_external.py",
    "evaluate/test_extract.py",
    "evaluate/test_feature_cache.py",
    "evaluate/test_folds.py",
    "evaluate/test_frozen.py",
    "evaluate/test_heads.py",
    "evaluate/test_new_benchmark.py",
    "evaluate/test_run.py",
    "evaluate/test_sweep.py",
    "models/test_backbone_registers.py",
    "models/test_derivatives.py",
    "models/test_models.py",
    "models/test_parity.py",
    "models/test_parity21.py",
    "models/test_probe.py",
    "models/test_remat.py",
    "optim/test_kinds.py",
    "parallel/test_auto_mesh.py",
    "parallel/test_processes.py",
    "parallel/test_sharding.py",
    "pretrain/test_flow.py",
    "pretrain/test_flow_truth.py",
    "pretrain/test_initial.py",
    "pretrain/test_motion_masks.py",
    "pretrain/test_new_kinds.py",
    "pretrain/test_new_term.py",
    "pretrain/test_nonfinite.py",
    "pretrain/test_offload.py",
    "pretrain/test_optimizer.py",
    "pretrain/test_pixel_objective.py",
    "pretrain/test_plan.py",
    "pretrain/test_plan_cost.py",
    "pretrain/test_saliency.py",
    "pretrain/test_streamed_affinity.py",
    "pretrain/test_trainstep_parity.py",
    "runs/",
    "simulate/test_dense.py",
    "simulate/test_render.py",
    "simulate/test_script.py",
)


def is_heavy(path: Path) -> bool:
    """Whether a test file belongs to the default tier and not to the quick one."""
    return path.relative_to(TESTS).as_posix().startswith(HEAVY)
