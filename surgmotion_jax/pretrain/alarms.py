"""Does a run look collapsed? Gauges against thresholds."""

from __future__ import annotations

from collections.abc import Mapping

from surgmotion_jax.pretrain.config import AlarmConfig


def collapse_alarms(step: int, metrics: Mapping[str, float], config: AlarmConfig) -> list[str]:
    """One sentence per gauge beyond its threshold; nothing before `config.after` steps.

    Features collapse when predicting is easy because there is nothing left to predict: all tokens alike (std near 0),
    all in a few dimensions (RankMe), or context and target the same vector (cosine near 1).
    """
    if step < config.after:
        return []
    bounds = (
        ("gauge/rankme", "effective rank of the targets", config.rankme, True),
        ("gauge/prediction_std", "spread of the predictions", config.prediction_std, True),
        ("gauge/target_std", "spread of the targets", config.target_std, True),
        ("gauge/context_target_cosine", "cosine of context and target", config.cosine, False),
    )
    alarms = []
    for name, meaning, bound, lower in bounds:
        value = metrics.get(name)
        if value is not None and not (value >= bound if lower else value <= bound):
            side = "below" if lower else "above"
            alarms.append(f"{meaning} ({name}) is {value:.3g}, {side} {bound:g}: the features may be collapsing")
    return alarms
