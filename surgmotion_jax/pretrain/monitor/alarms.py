"""Does a run look collapsed, or has it broken away? Gauges and losses against thresholds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from surgmotion_jax.checks import one_of
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.config.monitor import AlarmConfig

ALARMS = ("rankme", "prediction_std", "target_std", "cosine", "spike")
PROBE_METRICS = ("probe/knn", "probe/linear", "probe/knn_balanced", "probe/linear_balanced")


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


def spike_alarm(step: int, loss: float, earlier: Sequence[float], config: AlarmConfig) -> str:
    """A sentence if `loss` is above `spike` medians of the last `spike_window` losses before it, else nothing.

    `earlier` holds the logged losses before this one. Fewer than the window say nothing yet, and a loss that is not
    finite is no spike: its update was skipped.
    """
    window = [value for value in earlier if math.isfinite(value)][-config.spike_window :]
    if step < config.after or not config.spike or len(window) < config.spike_window or not math.isfinite(loss):
        return ""
    median = statistics.median(window)
    if not loss > config.spike * median:
        return ""
    return (
        f"the loss (loss/total) is {loss:.3g}, above {config.spike:g} x {median:.3g}, the median of the last "
        f"{config.spike_window} logged: the run may be diverging"
    )


def check_monitoring(config: PretrainConfig) -> tuple[str, ...]:
    """Sentences about alarms that cannot trip in this run, or always do, to be told at its start.

    Raises ValueError for what contradicts itself: an action other than a warning that could never be taken, or would
    be at once, and a best checkpoint by a probe that does not run.
    """
    _check_keep_best(config)
    action = config.alarms.action
    constant = _constant(config)
    if action != "warn" and constant:
        raise ValueError(f"alarms.action is {action!r}, but {constant[0]}; correct it.")
    silent = _silent(config)
    names: dict[str, list[str]] = {}
    for name, reason in silent.items():
        names.setdefault(reason, []).append(f"alarms.{name}")
    notes = tuple(f"{', '.join(group)} cannot trip: {reason}" for reason, group in names.items())
    if action != "warn" and len(silent) == len(ALARMS):
        raise ValueError(
            f"alarms.action is {action!r}, but no alarm can trip. {'; '.join(notes)}. Change these, or set "
            "--config.alarms.action=warn."
        )
    return constant + notes + (_check_rollback(config) if action == "rollback" else ())


def _constant(config: PretrainConfig) -> tuple[str, ...]:
    """Thresholds beyond what a gauge can reach."""
    alarms, grid = config.alarms, config.grid
    most = min(config.model.encoder.width, grid.tokens * config.heldout.clips)
    cases = (
        ("rankme", alarms.rankme > most, f"the effective rank is at most {most} here"),
        ("target_std", alarms.target_std > 1, "targets are layer-normed, so their spread is at most 1"),
        ("cosine", alarms.cosine < -1, "a cosine is at least -1"),
    )
    return tuple(
        f"alarms.{name} is {getattr(alarms, name):g}, which trips at every evaluation: {reach}"
        for name, beyond, reach in cases
        if beyond and alarms.after <= config.steps
    )


def _check_keep_best(config: PretrainConfig) -> None:
    best = config.checkpoint.keep_best
    if not best:
        return
    one_of("checkpoint.keep_best", best, PROBE_METRICS)
    if not config.probe.benchmark:
        raise ValueError(
            f"checkpoint.keep_best is {best!r}, but there is no probe; name a labelled set with "
            "--config.probe.benchmark=NAME and --config.probe.root=DIR."
        )


def _silent(config: PretrainConfig) -> dict[str, str]:
    """Each alarm that cannot trip, with the reason."""
    alarms, logged = config.alarms, -(-config.steps // config.run.log_every)
    if alarms.after > config.steps:
        return dict.fromkeys(ALARMS, f"alarms.after is {alarms.after}, past the last step {config.steps}")
    lowest = {name: getattr(alarms, name) for name in ("rankme", "prediction_std", "target_std")}
    found = {name: f"no gauge is below {value:g}" for name, value in lowest.items() if value <= 0}
    if config.objective.pixels:
        found["prediction_std"] = "pixels are predicted, whose spread says nothing of the features"
    if alarms.cosine >= 1:
        found["cosine"] = f"no cosine is above {alarms.cosine:g}"
    if not alarms.spike:
        found["spike"] = "it is 0, which leaves it out"
    elif logged <= alarms.spike_window:
        found["spike"] = f"alarms.spike_window is {alarms.spike_window}, but only {logged} losses are logged"
    return found


def _check_rollback(config: PretrainConfig) -> tuple[str, ...]:
    """Raises ValueError where no alarm could find a checkpoint; says so where only early ones cannot."""
    checkpoint, heldout, after = config.checkpoint, config.heldout, config.alarms.after
    if checkpoint.every >= config.steps:
        raise ValueError(
            f"alarms.action is 'rollback', but checkpoint.every {checkpoint.every} is not below steps {config.steps}: "
            "there is no checkpoint to go back to before the run ends; lower checkpoint.every."
        )
    # Each new best is saved too, and may push out an older checkpoint.
    apart = min(checkpoint.every, config.probe.every) if checkpoint.keep_best else checkpoint.every
    if checkpoint.keep * apart < heldout.every:
        raise ValueError(
            f"alarms.action is 'rollback', but the {checkpoint.keep} checkpoints kept, {apart} steps apart, may all "
            f"lie after the evaluation before an alarm (heldout.every {heldout.every}); raise checkpoint.keep or lower "
            "heldout.every."
        )
    first = checkpoint.every + heldout.every
    if after > first:
        return ()
    return (
        f"an alarm before step {first} may find no checkpoint from before the trouble, and then stops the run "
        f"(alarms.after {after}, checkpoint.every {checkpoint.every}, heldout.every {heldout.every})",
    )
