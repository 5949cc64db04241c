"""The plain parts: what was run, its config, its environment, and what happened on the way."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from surgmotion_jax.report.html import Section, escape, folded, pairs_table, plain, sentence
from surgmotion_jax.report.run import CHANGES, CONFIG, ENVIRONMENT, SUMMARY, RunRecord

_WORDS = {
    "start": "started",
    "resume": "resumed",
    "alarm": "alarm",
    "rollback": "rollback",
    "stopped": "stopped",
    "interrupted": "interrupted",
    "finished": "finished",
    "note": "note",
}


def overview(run: RunRecord) -> Section:
    """What was run, as it was announced at the start."""
    if not run.summary:
        return Section("Run", sentence(run.problems.get(SUMMARY, "The start summary is empty.")))
    facts = "".join(
        f"<div><dt>{escape(_spaced(name))}</dt><dd>{escape(plain(value))}</dd></div>"
        for name, value in run.summary.items()
    )
    return Section("Run", f'<dl class="facts">{facts}</dl>')


def config(run: RunRecord) -> Section:
    """The fields that are not at their defaults, and the whole config, one small table per group, folded away."""
    if not run.config:
        return Section("Config", sentence(run.problems.get(CONFIG, "The config is empty.")))
    loose = [(key, value) for key, value in run.config.items() if not isinstance(value, Mapping)]
    groups = [("general", loose)] if loose else []
    groups += [(key, _flatten(value)) for key, value in run.config.items() if isinstance(value, Mapping)]
    tables = "".join(f"<div>{pairs_table(pairs, caption=name)}</div>" for name, pairs in groups)
    count = sum(len(pairs) for _, pairs in groups)
    everything = folded(f"Show all {count} fields", f'<div class="columns">{tables}</div>')
    return Section("Config", _changes(run) + everything)


def _changes(run: RunRecord) -> str:
    if run.changes is None:
        return sentence(f"Which fields differ from their defaults is not known: {run.problems.get(CHANGES, '')}")
    if not run.changes:
        return sentence("Every field has its default.")
    pairs = [
        (name, plain(here) if default is None else f"{plain(here)} (default {plain(default)})")
        for name, (default, here) in run.changes.items()
    ]
    half = (len(pairs) + 1) // 2
    tables = "".join(f"<div>{pairs_table(part)}</div>" for part in (pairs[:half], pairs[half:]) if part)
    return sentence(f"{len(pairs)} fields differ from their defaults.") + f'<div class="columns">{tables}</div>'


def environment(run: RunRecord) -> Section:
    """Versions, devices and the command."""
    if not run.environment:
        return Section("Environment", sentence(run.problems.get(ENVIRONMENT, "The environment is empty.")))
    pairs = [(_spaced(name), value) for name, value in run.environment.items()]
    half = (len(pairs) + 1) // 2
    tables = "".join(f"<div>{pairs_table(part)}</div>" for part in (pairs[:half], pairs[half:]) if part)
    return Section("Environment", f'<div class="columns">{tables}</div>')


def events(run: RunRecord) -> Section:
    """Starts, resumes, alarms, rollbacks and the end, each with its time."""
    if not run.events:
        return Section("Events", sentence("No events have been logged."))
    rows = "".join(
        f'<tr><th scope="row">{escape(clock(event.time))}</th><td>step {event.step:,}</td>'
        f"<td{_alarm_class(event.word)}>{escape(_WORDS[event.word])}</td>"
        f"<td>{escape(_detail(event.text, event.word))}</td></tr>"
        for event in run.events
    )
    return Section("Events", f'<table class="events"><tbody>{rows}</tbody></table>')


def clock(unix_s: float) -> str:
    """A time as `2026-02-14 09:30:05 UTC`, the same on every machine."""
    try:
        moment = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)
    except (OverflowError, OSError, ValueError):
        return "no time"
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """A span as `3 h 20 min`, `12 min` or `45 s`."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def subtitle(run: RunRecord) -> str:
    """Where the run stands, in one line under the title."""
    if not run.entries:
        return "nothing logged yet"
    last_word = next((event.word for event in reversed(run.events) if event.word not in ("alarm", "note")), "")
    state = {"finished": "finished", "interrupted": "interrupted", "stopped": "stopped early"}.get(
        last_word, "no end logged: still running, or stopped"
    )
    spans = run.sessions()
    trained = duration(sum(last - first for first, last in spans))
    pieces = [state, f"step {run.last_step:,}", f"{trained} of training"]
    if len(spans) > 1:
        pieces.append(f"{len(spans)} sessions")
    if spans:
        pieces.append(f"last entry {clock(spans[-1][1])}")
    return " · ".join(pieces)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            pairs += _flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def _spaced(name: str) -> str:
    return str(name).replace("_", " ")


def _alarm_class(word: str) -> str:
    return ' class="alarm"' if word in ("alarm", "rollback", "stopped") else ""


def _detail(text: str, word: str) -> str:
    if word == "note":
        return text.strip()
    parts = text.strip().split(maxsplit=1)
    return parts[1] if len(parts) > 1 else ""
