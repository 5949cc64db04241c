"""Metric depth: errors over valid pixels, pooled and image by image, as predicted and after median scaling.

Letters: B images, H and W pixels, V cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.evaluate.heads.targets import Objective, depth, unweighted
from surgmotion_jax.evaluate.metrics.depth import NAMES, depth_sums, median_scaled
from surgmotion_jax.evaluate.tasks.task import Measure, Table, Truth, ratio_over, require_tables

ROOTS = ("rmse", "rmse_log")
SCALINGS = {"": "", "scaled_": "; each prediction scaled to the true median"}
AT = "at the size the encoder sees, millimetres"
LEAST_MM = 1e-3  # of a predicted depth: logarithms and ratios need one above 0


@dataclass(frozen=True)
class DepthTask:
    """A depth map an image."""

    family: str = "depth"
    choice: tuple[str, str] = ("abs_rel", f"all valid pixels pooled, {AT}")

    def objective(self, truth: Truth, class_weights: str) -> Objective:
        return unweighted(depth(typical_depth(truth)), class_weights, "depths have no classes")

    def columns(self, prediction: np.ndarray, truth: Truth) -> Table:
        """Valid pixels, and the sum over them of each error, before and after median scaling."""
        rows = []
        for predicted_HxW, truth_HxW, valid_HxW in zip(prediction, truth["label"], truth["mask"], strict=True):
            p = np.maximum(np.asarray(predicted_HxW, np.float64), LEAST_MM)
            scaled = np.maximum(median_scaled(truth_HxW, p, valid_HxW), LEAST_MM) if valid_HxW.any() else p
            sums = [depth_sums(truth_HxW, each, valid_HxW) for each in (p, scaled)]
            rows.append([sums[0].pixels, *sums[0].sums, *sums[1].sums])
        values = np.array(rows, np.float64).reshape(-1, 1 + 2 * len(NAMES))
        names = ["pixels", *(f"{scaling}{name}" for scaling in SCALINGS for name in NAMES)]
        return {name: values[:, column] for column, name in enumerate(names)}

    def measures(self, tables: Sequence[Table]) -> list[Measure]:
        require_tables(tables)
        return [
            _measure(tables, scaling, name, pooled)
            for scaling in SCALINGS
            for pooled in (True, False)
            for name in NAMES
        ]


def typical_depth(truth: Truth) -> float:
    """Median of the valid depths. Raises ValueError without any."""
    known = truth["label"][truth["mask"]]
    if not known.size:
        raise ValueError("no training image has a pixel of known depth; check the depth files of the training cases")
    return float(np.median(known))


def _measure(tables: Sequence[Table], scaling: str, name: str, pooled: bool) -> Measure:
    root = math.sqrt if name in ROOTS else float
    totals, counts = [], []
    for table in tables:
        sums_N, pixels_N = table[f"{scaling}{name}"], table["pixels"]
        if pooled:
            totals.append(float(sums_N.sum()))
            counts.append(float(pixels_N.sum()))
        else:
            seen = pixels_N > 0
            totals.append(float(np.sum([root(s / p) for s, p in zip(sums_N[seen], pixels_N[seen], strict=True)])))
            counts.append(int(seen.sum()))
    words = f"all valid pixels pooled, {AT}" if pooled else f"mean over images, {AT}"
    statistic = ratio_over(totals, counts, root if pooled else float)
    higher = name.startswith("delta")
    return Measure(f"{scaling}{name}", words + SCALINGS[scaling], statistic, higher, "no pixel of known depth")
