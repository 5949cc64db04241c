"""The page of an evaluation, from the files of its workdir alone: numbers, heads, cases, and pictures by family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.evaluate.metrics.phases import confusion
from surgmotion_jax.evaluate.metrics.triplets import COMPONENTS, to_component
from surgmotion_jax.evaluate.overlays import read_pictures
from surgmotion_jax.evaluate.results import Results, read_predictions, read_results
from surgmotion_jax.evaluate.tasks.families import task_of_results
from surgmotion_jax.evaluate.tasks.skill import SkillTask
from surgmotion_jax.evaluate.tasks.task import Table, Task
from surgmotion_jax.evaluate.tasks.triplet import TripletTask
from surgmotion_jax.evaluate.tasks.workflow import WorkflowTask, class_ids
from surgmotion_jax.pages import evaluation_drawings as drawings
from surgmotion_jax.report.html import Section, escape, folded, page, pairs_table, plain, sentence

REPORT_FILE = "report.html"
CASE_MEASURES = 6  # columns of the table of cases
LISTED_CASES = 200


def write_page(workdir: storage.PathLike) -> None:
    """Writes `report.html` of a finished evaluation; one self-contained file, the same for the same results."""
    fields, tables = read_results(workdir), read_predictions(workdir)
    task = task_of_results(fields)
    sections = [
        results_section(fields),
        *family_sections(workdir, fields, task, tables),
        heads_section(fields),
        cases_section(task, tables),
        config_section(fields),
    ]
    encoder = fields["encoder"]
    subtitle = f"protocol {fields['protocol']}, recipe {fields['recipe']}; {encoder.get('name', plain(encoder))}"
    text = page(str(fields["title"]), subtitle, sections, "evaluation report")
    storage.write_text_atomic(storage.as_path(workdir) / REPORT_FILE, text)


def rows_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a header line; everything is escaped."""
    head = "".join(f"<td><b>{escape(cell)}</b></td>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tbody><tr>{head}</tr>{body}</tbody></table></div>'


def number(value: float | None) -> str:
    """Four significant digits, a dash where there is no value."""
    return "-" if value is None or not np.isfinite(value) else f"{value:.4g}"


def span(bounds: Sequence[float] | None) -> str:
    """An interval in words."""
    return "none" if bounds is None else f"{number(bounds[0])} to {number(bounds[1])}"


def results_section(fields: Results) -> Section:
    """The chosen head's numbers with intervals, the oracle's beside them, and what is to be known of them."""
    best = {(row["metric"], row["convention"]): row["value"] for row in fields["oracle"]["results"]}
    rows = [
        (
            row["metric"],
            number(row["value"]),
            span(row["interval"]),
            number(best.get((row["metric"], row["convention"]))),
            row["convention"],
        )
        for row in fields["chosen"]["results"]
    ]
    level = f"{100 * fields['config']['report']['level']:g} % interval"
    body = rows_table(("metric", "value", level, "oracle over heads", "convention"), rows)
    counts = ", ".join(f"{len(fields['cases'][split])} {split}" for split in ("train", "val", "test"))
    if "folds" in fields:
        counts += f", over {len(fields['folds'])} folds, in each of which a case has one part"
    body += sentence(f"Head {fields['chosen']['name']}, chosen on validation cases. Cases: {counts}.")
    body += sentence(f"Oracle: head {fields['oracle']['name']}; {fields['oracle']['note']}.")
    body += "".join(sentence(f"Undefined: {row['metric']}: {row['why']}.") for row in fields["chosen"]["undefined"])
    noted = [row for row in fields["chosen"]["results"] if "interval_note" in row]
    body += "".join(sentence(f"{row['metric']} ({row['convention']}) is {row['interval_note']}.") for row in noted)
    return Section("Results", body + "".join(sentence(f"Note: {note}.") for note in fields["notes"]))


def heads_section(fields: Results) -> Section:
    """Every candidate on validation and test cases."""
    choice = fields["choice"]
    rows = [
        (row["name"], number(row["val"]), number(row["test"]), "chosen" if place == fields["chosen"]["number"] else "")
        for place, row in enumerate(fields["candidates"])
    ]
    body = sentence(f"{choice['metric']}, {choice['convention']}.")
    return Section("Heads", body + rows_table(("head", "validation", "test", ""), rows))


def cases_section(task: Task, tables: Mapping[str, Table]) -> Section:
    """The first measures of each case by itself."""
    measures = [m for m in task.measures(list(tables.values())) if "scaled" not in m.name][:CASE_MEASURES]
    rows = []
    for place, name in enumerate(list(tables)[:LISTED_CASES]):
        rows.append((name, len(tables[name]["time"]), *(number(m.statistic(np.array([place]))) for m in measures)))
    body = rows_table(("case", "moments", *(m.name for m in measures)), rows)
    if len(tables) > LISTED_CASES:
        body += sentence(f"{len(tables) - LISTED_CASES} more cases are in predictions.csv.")
    return Section("Cases", body)


def config_section(fields: Results) -> Section:
    """Everything that decided the numbers."""
    encoder, config = fields["encoder"], cast(Mapping[str, Mapping[str, object]], fields["config"])
    tables = "".join(f"<div>{pairs_table(part.items(), caption=name)}</div>" for name, part in config.items())
    columns = f'<div class="columns"><div>{pairs_table(encoder.items(), caption="encoder")}</div>{tables}</div>'
    return Section("Config", folded("Show all fields", columns))


def family_sections(
    workdir: storage.PathLike, fields: Results, task: Task, tables: Mapping[str, Table]
) -> list[Section]:
    """What only this family has to show."""
    if isinstance(task, TripletTask):
        return [triplet_section(task, tables)]
    if isinstance(task, SkillTask):
        return [skill_section(tables)]
    if fields["family"] in ("workflow", "action"):
        names = next(iter(fields["classes"].values())) if len(fields["classes"]) == 1 else _classes(fields)
        ribbon = [ribbons_section(names, tables, fields["config"]["report"]["pictures"])]
        return [*(ribbon if isinstance(task, WorkflowTask) else []), confusion_section(names, tables)]
    pictures = read_pictures(workdir)
    if pictures is None:
        return []
    return [Section("Pictures", drawings.overlays(pictures, fields["family"] == "depth"))]


def _classes(fields: Results) -> Sequence[str]:
    label = "phase" if fields["family"] == "workflow" else "action"
    return list(fields["classes"][label])


def ribbons_section(names: Sequence[str], tables: Mapping[str, Table], most: int) -> Section:
    """Phases of the first videos."""
    parts = [f"<p>{drawings.legend(names)}</p>"]
    for case, table in list(tables.items())[:most]:
        truth_N, predicted_N = class_ids(table)
        parts.append(f"<h3>{escape(case)}<span>ground truth above, prediction below</span></h3>")
        parts.append(drawings.ribbons(truth_N, predicted_N, names, case))
    return Section("Phases", "".join(parts))


def confusion_section(names: Sequence[str], tables: Mapping[str, Table]) -> Section:
    """Counts over all test moments, shaded by their share of the row."""
    counts_CxC = np.sum([confusion(*class_ids(table), len(names)) for table in tables.values()], axis=0)
    shown = np.flatnonzero(counts_CxC.sum(0) + counts_CxC.sum(1)).tolist()
    head = "".join(f"<td>{escape(names[c])}</td>" for c in shown)
    rows = []
    for r in shown:
        share_C = counts_CxC[r] / max(counts_CxC[r].sum(), 1)
        cells = "".join(
            f'<td style="background:rgb(31 98 176 / {0.7 * share_C[c]:.2f})">{counts_CxC[r, c]}</td>' for c in shown
        )
        rows.append(f"<tr><th>{escape(names[r])}</th>{cells}</tr>")
    body = f'<div class="scroll"><table><tbody><tr><th></th>{head}</tr>{"".join(rows)}</tbody></table></div>'
    return Section("Confusion", body + sentence("Rows are the ground truth, columns the prediction."))


def triplet_section(task: TripletTask, tables: Mapping[str, Table]) -> Section:
    """Precision and recall of each component, all its classes and frames as one."""
    labels, scores = (np.concatenate(part) for part in zip(*map(task.arrays, tables.values()), strict=True))
    figures = []
    for component in COMPONENTS:
        label, score = (to_component(part, task.triplets_Cx3, component).reshape(-1) for part in (labels, scores))
        recall_N, precision_N = drawings.precision_recall(label > 0, score)
        kept = np.unique(np.linspace(0, len(recall_N) - 1, 300).round().astype(int))
        figures.append(drawings.curve(recall_N[kept], precision_N[kept], component))
    words = "Each curve pools all classes and frames of a component; mAP is computed class by class and video by video."
    return Section("Precision and recall", f'<div class="charts">{"".join(figures)}</div>' + sentence(words))


def skill_section(tables: Mapping[str, Table]) -> Section:
    """Predicted over true scores."""
    columns = (np.concatenate([table[name] for table in tables.values()]) for name in ("truth", "predicted", "task"))
    truth_N, predicted_N, task_N = columns
    return Section("Scores", f'<div class="charts">{drawings.scatter(truth_N, predicted_N, task_N, "Skill")}</div>')
