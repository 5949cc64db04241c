"""Laws of the metrics and result records."""

import json
import math
import sys

import pytest

from surgmotion_jax import records


def lines(workdir):
    return (workdir / records.METRICS_FILE).read_text().splitlines()


def test_records_round_trip_in_order(tmp_path):
    writer = records.MetricsWriter(tmp_path)
    writer.write("train", 1, {"loss": 0.5})
    writer.write("heldout", 1, {"loss": 0.25})
    writer.event(2, "resumed")
    writer.close()
    found = records.read_metrics(tmp_path)
    assert [(r["kind"], r["step"], r["metrics"]) for r in found] == [
        ("train", 1, {"loss": 0.5}),
        ("heldout", 1, {"loss": 0.25}),
        ("event", 2, {}),
    ]
    assert found[2]["text"] == "resumed"
    assert "text" not in found[0]
    assert found[0]["time"] <= found[2]["time"]


def test_nonfinite_values_are_valid_json_and_named(tmp_path):
    writer = records.MetricsWriter(tmp_path)
    writer.write("train", 1, {"b": math.nan, "a": -math.inf, "c": 1.0})

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    record = json.loads(lines(tmp_path)[0], parse_constant=refuse)
    assert record["metrics"] == {"a": None, "b": None, "c": 1.0}
    assert record["nonfinite"] == ["a", "b"]


def test_value_that_is_not_a_number_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"metric 'grad'.*reduce it"):
        records.MetricsWriter(tmp_path).write("train", 1, {"grad": [1.0, 2.0]})


def test_rewind_leaves_one_value_a_step(tmp_path):
    first = records.MetricsWriter(tmp_path)
    for step in range(1, 7):
        first.write("train", step, {"loss": float(step)})
    second = records.MetricsWriter(tmp_path)
    second.rewind(4)
    for step in range(5, 8):
        second.write("train", step, {"loss": 10.0 * step})
    found = [(r["step"], r["metrics"]["loss"]) for r in records.read_metrics(tmp_path)]
    assert found == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 50.0), (6, 60.0), (7, 70.0)]


def test_cut_last_line_is_left_out_and_does_not_spoil_the_next(tmp_path):
    writer = records.MetricsWriter(tmp_path)
    writer.write("train", 1, {"loss": 1.0})
    writer.write("train", 2, {"loss": 2.0})
    path = tmp_path / records.METRICS_FILE
    path.write_text(path.read_text()[:-9])
    assert [r["step"] for r in records.read_metrics(tmp_path)] == [1]
    records.MetricsWriter(tmp_path).write("train", 3, {"loss": 3.0})
    assert [r["step"] for r in records.read_metrics(tmp_path)] == [1, 3]


def test_damage_in_the_middle_names_file_and_line(tmp_path):
    path = tmp_path / records.METRICS_FILE
    path.write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(ValueError, match=rf"{path}:2: not a metrics record: 'rubbish'"):
        records.read_metrics(tmp_path)


def test_no_file_reads_as_no_records(tmp_path):
    assert records.read_metrics(tmp_path) == []


def test_disabled_writer_touches_nothing(tmp_path):
    writer = records.MetricsWriter(tmp_path / "run", enabled=False, tensorboard=True)
    writer.write("train", 1, {"loss": 1.0})
    writer.event(1, "text")
    writer.rewind(0)
    writer.close()
    assert not (tmp_path / "run").exists()


def test_failing_writes_warn_once_and_go_on(tmp_path, capsys):
    blocker = tmp_path / "file"
    blocker.write_text("not a directory")
    writer = records.MetricsWriter(blocker / "run")
    for step in range(3):
        writer.write("train", step, {"loss": 1.0})
    writer.rewind(1)
    writer.close()
    warned = capsys.readouterr().err.splitlines()
    assert len(warned) == 1
    assert "training goes on" in warned[0]
    assert str(blocker) in warned[0]


def test_tensorboard_missing_warns_once_and_json_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    writer = records.MetricsWriter(tmp_path, tensorboard=True)
    writer.write("train", 1, {"loss": 1.0})
    writer.write("train", 2, {"loss": 1.0})
    assert capsys.readouterr().err.count("\n") == 1
    assert len(lines(tmp_path)) == 2


def test_tensorboard_gets_events_when_asked(tmp_path):
    pytest.importorskip("tensorboardX")
    for asked in (False, True):
        workdir = tmp_path / str(asked)
        writer = records.MetricsWriter(workdir, tensorboard=asked)
        writer.write("train", 1, {"loss": 1.0})
        writer.close()
        assert bool(list(workdir.glob("tensorboard/events*"))) == asked


RESULT = records.Result("phase/cholec80", "video F1", 0.8, (0.75, 0.85), "relaxed boundaries, macro")


@pytest.mark.parametrize("interval", [(0.75, 0.85), None])
def test_result_round_trips(interval):
    result = records.Result("task", "metric", 0.8, interval, "macro")
    assert records.Result.from_json(result.to_json()) == result


def test_result_refuses_other_schemas_fields_and_nonfinite_values():
    fields = json.loads(RESULT.to_json())
    with pytest.raises(ValueError, match="schema_version 99, this version reads 1"):
        records.Result.from_json(json.dumps(fields | {"schema_version": 99}))
    with pytest.raises(ValueError, match=r"expected .*'convention'"):
        records.Result.from_json(json.dumps({"task": "x"}))
    with pytest.raises(ValueError, match="must be finite"):
        records.Result("task", "metric", math.nan, None, "macro").to_json()
