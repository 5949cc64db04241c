"""What is about to run: printed before anything is compiled, and written beside the metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from surgmotion_jax import config as door
from surgmotion_jax import storage
from surgmotion_jax.data import ClipDataset, describe
from surgmotion_jax.data.inventory import inventory
from surgmotion_jax.differences import changes
from surgmotion_jax.pretrain.config import PretrainConfig, as_dict
from surgmotion_jax.pretrain.setup.machine import environment
from surgmotion_jax.pretrain.setup.stored_config import CONFIG_FILE, stored
from surgmotion_jax.pretrain.setup.summary import summarise
from surgmotion_jax.runs.inputs import Inputs
from surgmotion_jax.runs.session import Session

RECORDINGS_FILE = "recordings.jsonl"


def announce(session: Session, inputs: Inputs) -> None:
    """Prints what is about to run and writes it beside the metrics."""
    summary = summarise(session.config, session.layout, inputs.abstract, inputs.masks) | data_lines(inputs.dataset)
    summary |= {} if inputs.images is None else image_lines(inputs.images)
    for label, text in (*summary.items(), *further_lines(session, inputs)):
        session.say(f"{label:>12}  {text}")
    if session.first:
        write_description(session, summary)
        lines = "".join(json.dumps(line) + "\n" for line in inventory(inputs.dataset.catalogue))
        storage.write_text_atomic(session.workdir / RECORDINGS_FILE, lines)


def data_lines(dataset: ClipDataset) -> dict[str, str]:
    """A line a data source: label and text."""
    return {
        f"data {row['dataset']}": (
            f"{row['files']} files, {row['hours']:.2f} h, {row['clips_train']} training and {row['clips_heldout']} "
            f"held-out clips, {100 * row['share']:.0f} % of draws, {row['unreadable']} unreadable"
        )
        for row in describe(dataset)
    }


def image_lines(dataset: ClipDataset) -> dict[str, str]:
    """A line a source of images: label and text."""
    return {
        f"images {row['dataset']}": (
            f"{row['files']} folders or files, {100 * row['share']:.0f} % of draws, {row['unreadable']} unreadable"
        )
        for row in describe(dataset)
    }


def further_lines(session: Session, inputs: Inputs) -> Iterator[tuple[str, str]]:
    """What is said once and not kept: the mesh's choice, what recordings need, the probe, what alarms cannot do."""
    yield from (("mesh", str(line)) for line in session.mesh_table)
    changed = {finding.path for finding in inputs.dataset.catalogue.findings}
    if changed:
        yield (
            "recordings",
            f"{len(changed)} are not stored as they look; {RECORDINGS_FILE} says what is done",
        )
    yield from (("unreadable", f"{fault.path}: {fault.reason}") for fault in inputs.dataset.faults)
    if inputs.probed is not None:
        yield "probe", inputs.probed.text
    yield from (("alarms", note) for note in inputs.notes)


def write_description(session: Session, summary: Mapping[str, str]) -> None:
    """Writes config, its changes from the defaults, summary and machine as JSON to the workdir."""
    for name, content in (
        (CONFIG_FILE, stored(session.config)),
        ("changes.json", changes(door.defaults(PretrainConfig).to_dict(), as_dict(session.config))),
        ("summary.json", summary),
        ("environment.json", environment(session.command)),
    ):
        storage.write_text_atomic(session.workdir / name, json.dumps(content, indent=1))
