"""Metrics of metric depth. Depths are in one unit, millimetres by default; only valid pixels count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

DELTAS = (1.1, 1.25, 1.25**2, 1.25**3)
NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", *(f"delta_{d:.4g}" for d in DELTAS))


class DepthSums(NamedTuple):
    """Sums over valid pixels, which add up over images: counts, relative, squared relative, squared, squared log,
    and one count per delta."""

    pixels: float
    sums: np.ndarray


def median_scaled(truth_HxW: np.ndarray, prediction_HxW: np.ndarray, valid_HxW: np.ndarray) -> np.ndarray:
    """The prediction times the ratio of the medians: removes the unknown scale, and must be said where reported."""
    return prediction_HxW * (np.median(truth_HxW[valid_HxW]) / np.median(prediction_HxW[valid_HxW]))


def depth_sums(truth_HxW: np.ndarray, prediction_HxW: np.ndarray, valid_HxW: np.ndarray) -> DepthSums:
    """Sums of one image. Raises ValueError where a valid depth is not positive."""
    d, p = (np.asarray(x, np.float64)[valid_HxW] for x in (truth_HxW, prediction_HxW))
    for name, values in (("true", d), ("predicted", p)):
        if values.size and not (values.min() > 0 and np.isfinite(values).all()):
            raise ValueError(
                f"the {name} depth of valid pixels spans {values.min()}..{values.max()}; depths must be positive and "
                "finite (mark unknown depth as invalid)."
            )
    ratio = np.maximum(d / p, p / d)
    errors = [np.abs(p - d) / d, (p - d) ** 2 / d, (p - d) ** 2, np.log(p / d) ** 2]
    return DepthSums(d.size, np.array([e.sum() for e in errors] + [np.count_nonzero(ratio < k) for k in DELTAS]))


def pooled(images: Sequence[DepthSums]) -> dict[str, float]:
    """Metrics over all valid pixels of all images; NaN without any."""
    pixels = sum(image.pixels for image in images)
    if not pixels:
        return dict.fromkeys(NAMES, float("nan"))
    means = np.sum([image.sums for image in images], axis=0) / pixels
    means[2:4] = np.sqrt(means[2:4])
    return dict(zip(NAMES, means.tolist(), strict=True))


def per_image(images: Sequence[DepthSums]) -> Mapping[str, float]:
    """Means over images of each image's own metrics; an image without a valid pixel is left out."""
    each = [pooled([image]) for image in images if image.pixels]
    return {name: float(np.mean([e[name] for e in each])) if each else float("nan") for name in NAMES}
