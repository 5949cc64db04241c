"""Is it learning? Held-out loss against two baselines that know nothing, and three collapse gauges."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from surgmotion_jax.records import METRICS_FILE
from surgmotion_jax.report.axis import format_fixed, format_number
from surgmotion_jax.report.html import Section, escape, sentence, within
from surgmotion_jax.report.run import RunRecord


@dataclass(frozen=True)
class Thresholds:
    """What counts as well, in one place. Gains are percent of the baseline's loss."""

    gain_over_constant: float = 5.0
    gain_over_shuffled: float = 5.0
    rankme: float = 10.0
    prediction_std: float = 0.1
    target_std: float = 0.1
    cosine: float = 0.98
    data_wait_percent: float = 10.0


THRESHOLDS = Thresholds()
_OF_ALARMS = ("rankme", "prediction_std", "target_std", "cosine")


def thresholds_of(run: RunRecord) -> Thresholds:
    """The usual thresholds, with those at which this run's alarms were set."""
    alarms = (run.config or {}).get("alarms")
    given = alarms if isinstance(alarms, dict) else {}
    numbers = {name: given.get(name) for name in _OF_ALARMS}
    return replace(
        THRESHOLDS, **{name: float(value) for name, value in numbers.items() if isinstance(value, int | float)}
    )


PROBE, PROBE_CHANCE = "probe/knn_balanced", "probe/chance_balanced"

_NOTE = (
    '<p class="note"><b>A loss that first falls and then rises is normal.</b> The targets come from a moving '
    "average of the encoder itself: as it learns, they become richer and harder to predict. So do not judge by "
    "the training loss. Watch the gap to the two baselines, which are measured on the same targets, and the "
    "gauges: RankMe counts the feature dimensions in use, and a standard deviation near zero means that every "
    "token looks alike, which is collapse.</p>"
)


@dataclass(frozen=True)
class Gauge:
    """One number of the verdict against its threshold; `value` is NaN when it was not measured."""

    name: str
    value: float
    first: float
    at_least: float
    unit: str = ""

    @property
    def state(self) -> str:
        """ "ok", "watch", or "none" when there is no number."""
        if not math.isfinite(self.value):
            return "none"
        return "ok" if self.value >= self.at_least else "watch"


def verdict(run: RunRecord) -> Section:
    """The section at the top of the page."""
    step = last_heldout_step(run)
    if step is None:
        why = run.problems.get(METRICS_FILE, "")
        return Section(
            "Verdict", sentence(f"There is no held-out evaluation yet, so no verdict. {why}".strip()) + _NOTE
        )
    gauges = read_gauges(run)
    headline, lead = judge(gauges)
    tiles = "".join(_tile(gauge) for gauge in gauges.values())
    alarms = alarm_sentence(run)
    alarm_html = f'<p class="lead alarm">{escape(alarms)}</p>' if alarms else ""
    return Section(
        "Verdict",
        f'<p class="headline">{escape(headline)}</p><p class="lead">{escape(lead)} '
        f"Measured on clips kept out of training, at step {step:,}.</p>{alarm_html}"
        f'<div class="tiles">{tiles}</div>{_NOTE}',
    )


def alarm_sentence(run: RunRecord) -> str:
    """How many alarms and rollbacks there were, and whether one ended the run; nothing for a quiet run."""
    words = [event.word for event in run.events]
    alarms, rollbacks = words.count("alarm"), words.count("rollback")
    parts = []
    if alarms:
        parts.append("One alarm was raised" if alarms == 1 else f"{alarms} alarms were raised")
    if rollbacks:
        times = "once" if rollbacks == 1 else f"{rollbacks} times"
        parts.append(f"the run went back to an earlier checkpoint {times}")
    last = next((word for word in reversed(words) if word not in ("alarm", "note")), "")
    if last == "stopped":
        parts.append("the run was stopped before its last step")
    told = ", ".join(parts)
    return f"{told[0].upper()}{told[1:]} during training; see the events below." if told else ""


def last_heldout_step(run: RunRecord) -> int | None:
    """The step of the newest held-out evaluation."""
    step_N, _ = run.series("heldout", "heldout/loss")
    return int(step_N[-1]) if step_N.size else None


def read_gauges(run: RunRecord) -> dict[str, Gauge]:
    """The numbers of the newest evaluation, each with its value at the first one: five, and the probe's if there is
    one.
    """
    limits = thresholds_of(run)
    gains = (
        ("constant", "Below the best constant", limits.gain_over_constant),
        ("shuffled", "Below a shuffled context", limits.gain_over_shuffled),
    )
    gauges = {key: Gauge(name, *_last_and_first_gain(run, key), at_least=limit, unit="%") for key, name, limit in gains}
    levels = (
        ("rankme", "RankMe of the targets", limits.rankme),
        ("prediction_std", "Prediction std", limits.prediction_std),
        ("target_std", "Target std", limits.target_std),
    )
    for key, name, limit in levels:
        gauges[key] = Gauge(name, *_last_and_first(run, f"gauge/{key}"), at_least=limit)
    step_N, _ = run.series("heldout", PROBE)
    if step_N.size:
        value_N, chance_N = (run.series("heldout", name)[1] for name in (PROBE, PROBE_CHANCE))
        chance = float(chance_N[-1]) if chance_N.size else math.nan
        first = 100 * float(value_N[0]) if step_N.size > 1 else math.nan
        gauges["probe"] = Gauge("Probe: mean recall", 100 * float(value_N[-1]), first, at_least=100 * chance, unit="%")
    return gauges


def judge(gauges: dict[str, Gauge]) -> tuple[str, str]:
    """`(headline, sentence)` in plain words."""
    gains = gauges["constant"], gauges["shuffled"]
    lead = (
        f"Its held-out masked loss is {_versus(gains[0])} the best constant prediction of the same targets and "
        f"{_versus(gains[1])} the same model given another clip's context (shuffled)."
    )
    collapsed = [
        within(gauges[key].name) for key in ("rankme", "prediction_std", "target_std") if gauges[key].state == "watch"
    ]
    if not all(math.isfinite(gain.value) for gain in gains):
        return (
            "The last held-out evaluation is incomplete.",
            "A loss in it was not a number or was not measured.",
        )
    if collapsed:
        names = " and ".join(collapsed)
        return (
            f"The features may be collapsing: {names} {'is' if len(collapsed) == 1 else 'are'} too low.",
            lead,
        )
    if all(gain.state == "ok" for gain in gains):
        return "The model predicts hidden video better than both baselines.", lead
    if all(gain.value > 0 for gain in gains):
        return "The model is ahead of both baselines, but not clearly yet.", lead
    return "The model does not yet beat a prediction that ignores the clip.", lead


def _versus(gain: Gauge) -> str:
    side = "below" if gain.value >= 0 else "above"
    return f"{abs(gain.value):.1f}\u00a0% {side}"


def _last_and_first(run: RunRecord, name: str) -> tuple[float, float]:
    step_N, value_N = run.series("heldout", name)
    current = step_N.size and int(step_N[-1]) == last_heldout_step(run)
    first = float(value_N[0]) if step_N.size > 1 else math.nan
    return (float(value_N[-1]) if current else math.nan), first


def _last_and_first_gain(run: RunRecord, baseline: str) -> tuple[float, float]:
    pairs = zip(_last_and_first(run, "heldout/loss"), _last_and_first(run, f"heldout/{baseline}"), strict=True)
    last, first = (100 * (1 - loss / base) if base else math.nan for loss, base in pairs)
    return last, first


def _tile(gauge: Gauge) -> str:
    unit = f"<small>{escape(gauge.unit)}</small>" if gauge.unit else ""
    marks = {"ok": "✓ ok", "watch": "▲ watch", "none": "not measured"}
    value, first = (
        format_fixed(number, 1) if gauge.unit == "%" else format_number(number) for number in (gauge.value, gauge.first)
    )
    began = f"<br>{first} {gauge.unit} at the start" if math.isfinite(gauge.first) else ""
    return (
        f'<div class="tile"><div class="name">{escape(gauge.name)}</div>'
        f'<div class="value">{value}{unit}</div>'
        f'<span class="mark {gauge.state}">{marks[gauge.state]}</span>'
        f'<div class="more">at least {gauge.at_least:.4g} {gauge.unit}{began}</div></div>'
    )
