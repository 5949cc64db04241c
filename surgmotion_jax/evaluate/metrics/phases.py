"""Frame-wise metrics of workflow and action recognition.

Letters: N scored moments, C classes, V videos.

Published numbers differ more by convention than by method (arXiv 2305.13961), so a convention is always named:

- `present`: a class counts in a video if the video's ground truth holds it. A class that is there and never predicted
  has precision 0.
- `union`: a class counts if ground truth or prediction holds it, so one spurious frame of an absent phase costs a
  whole class. This is scikit-learn's macro average with zero_division=0, used by the released SurgMotion scripts.
- `relaxed`: `present`, forgiving confusions of neighbouring phases in the 10 s at either end of a segment, as the
  M2CAI challenge did for the seven phases of Cholec80.
"""

from __future__ import annotations

import numpy as np

from surgmotion_jax.evaluate.metrics.segments import segments

CONVENTIONS = ("present", "union", "relaxed")
SCORES = ("precision", "recall", "f1", "jaccard")

_RELAXED_PHASES = 7
_RELAXED_S = 10.0


def confusion(truth_N: np.ndarray, prediction_N: np.ndarray, classes: int) -> np.ndarray:
    """Counts [C,C], rows the truth. Raises ValueError on other lengths or an id outside 0..classes-1."""
    truth_N, prediction_N = _checked("truth", truth_N, classes), _checked("prediction", prediction_N, classes)
    if len(truth_N) != len(prediction_N):
        raise ValueError(f"{len(truth_N)} labels but {len(prediction_N)} predictions; score every moment exactly once.")
    return np.bincount(truth_N * classes + prediction_N, minlength=classes * classes).reshape(classes, classes)


def class_scores(confusion_CxC: np.ndarray, convention: str) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and Jaccard of each class, [C] each; NaN where the convention does not count the class."""
    if convention not in ("present", "union"):
        raise ValueError(f"convention is {convention!r}; class_scores knows 'present' and 'union'.")
    hit_C = np.diag(confusion_CxC).astype(np.float64)
    truth_C, predicted_C = confusion_CxC.sum(1), confusion_CxC.sum(0)
    counted_C = truth_C > 0 if convention == "present" else truth_C + predicted_C > 0
    scores = {
        "precision": hit_C / np.maximum(predicted_C, 1),
        "recall": hit_C / np.maximum(truth_C, 1),
        "f1": 2 * hit_C / np.maximum(truth_C + predicted_C, 1),
        "jaccard": hit_C / np.maximum(truth_C + predicted_C - hit_C, 1),
    }
    return {name: np.where(counted_C, value_C, np.nan) for name, value_C in scores.items()}


def video_scores(
    truth_N: np.ndarray, prediction_N: np.ndarray, classes: int, convention: str = "present", fps: float = 1.0
) -> dict[str, float]:
    """Accuracy of one video, and the scores averaged over the classes that count in it.

    Args:
      truth_N, prediction_N: class ids of every scored moment, in order.
      classes: C.
      convention: one of CONVENTIONS.
      fps: scored moments per second; only `relaxed` needs it.
    """
    if convention == "relaxed":
        per_class, accuracy = _relaxed_scores(truth_N, prediction_N, classes, fps)
    else:
        counts_CxC = confusion(truth_N, prediction_N, classes)
        per_class, accuracy = class_scores(counts_CxC, convention), np.trace(counts_CxC) / max(counts_CxC.sum(), 1)
    return {"accuracy": float(accuracy)} | {name: float(np.nanmean(per_class[name])) for name in SCORES}


def pooled_scores(confusions_VxCxC: np.ndarray, convention: str = "present") -> dict[str, float]:
    """Accuracy and class-averaged scores of all moments of all videos as one."""
    counts_CxC = np.asarray(confusions_VxCxC).sum(0)
    per_class = class_scores(counts_CxC, convention)
    accuracy = np.trace(counts_CxC) / max(counts_CxC.sum(), 1)
    return {"accuracy": float(accuracy)} | {name: float(np.nanmean(per_class[name])) for name in SCORES}


def relaxed_hits(truth_N: np.ndarray, prediction_N: np.ndarray, fps: float) -> np.ndarray:
    """Which moments count as right under the relaxed rule of Cholec80, bool [N].

    With d = prediction - truth, the first 10 s of a segment accept d = -1 and its last 10 s d = +1; phases 4 to 7 (as
    numbered from 1) accept +2 at the end as well, and phases 6 and 7 also -2 at the start. The script in common use
    applies the rule for the end to the first moments of that window; here it is applied where it belongs.
    """
    right_N = prediction_N == truth_N
    off_N = prediction_N.astype(int) - truth_N
    window = max(1, round(_RELAXED_S * fps))
    for label, start, end in segments(truth_N):
        phase, length = label + 1, min(window, end - start)
        before = (-1, -2) if phase >= 6 else (-1,)
        after = (1, 2) if phase >= 4 else (1,)
        right_N[start : start + length] |= np.isin(off_N[start : start + length], before)
        right_N[end - length : end] |= np.isin(off_N[end - length : end], after)
    return right_N


def _relaxed_scores(
    truth_N: np.ndarray, prediction_N: np.ndarray, classes: int, fps: float
) -> tuple[dict[str, np.ndarray], float]:
    if classes != _RELAXED_PHASES:
        raise ValueError(
            f"the relaxed convention is defined for the {_RELAXED_PHASES} phases of Cholec80, and there are {classes} "
            "classes; use 'present' or 'union'."
        )
    truth_N, prediction_N = _checked("truth", truth_N, classes), _checked("prediction", prediction_N, classes)
    right_N = relaxed_hits(truth_N, prediction_N, fps)
    table = {name: np.full(classes, np.nan) for name in SCORES}
    for c in np.unique(truth_N):
        true_N, predicted_N = truth_N == c, prediction_N == c
        hits = int(np.count_nonzero(right_N & (true_N | predicted_N)))
        # Forgiven moments can outnumber a class's own, hence the cap at 1.
        precision = min(1.0, hits / max(int(np.count_nonzero(predicted_N)), 1))
        recall = min(1.0, hits / int(np.count_nonzero(true_N)))
        table["precision"][c], table["recall"][c] = precision, recall
        table["f1"][c] = 2 * precision * recall / (precision + recall) if hits else 0.0
        table["jaccard"][c] = hits / np.count_nonzero(true_N | predicted_N)
    return table, float(np.mean(right_N))


def _checked(name: str, ids_N: np.ndarray, classes: int) -> np.ndarray:
    ids_N = np.asarray(ids_N)
    if ids_N.ndim != 1 or ids_N.dtype.kind not in "iu" or not len(ids_N):
        raise ValueError(f"{name} is {ids_N.dtype}{list(ids_N.shape)}; give integer class ids [N], at least one.")
    if ids_N.min() < 0 or ids_N.max() >= classes:
        raise ValueError(
            f"{name} holds the class ids {ids_N.min()}..{ids_N.max()}; {classes} classes have 0..{classes - 1}. "
            "Leave unlabelled moments out before scoring."
        )
    return ids_N.astype(np.int64)
