"""The record of rollbacks says how far the data have moved on, and survives."""

from __future__ import annotations

import pytest

from surgmotion_jax.pretrain.monitor.rollback import (
    ROLLBACKS_FILE,
    Rollback,
    passed_over,
    read_rollbacks,
    write_rollbacks,
)


def test_what_is_written_is_read(tmp_path):
    assert read_rollbacks(tmp_path) == ()
    rollbacks = (Rollback(2000, 1500, "the loss"), Rollback(1800, 1500, "the rank"))
    write_rollbacks(tmp_path, rollbacks)
    assert read_rollbacks(tmp_path) == rollbacks


def test_each_rollback_continues_with_the_data_after_its_alarm():
    first, second = Rollback(2000, 1500, ""), Rollback(1800, 1000, "")
    assert passed_over(()) == 0
    assert 1500 + passed_over((first,)) == 2000, "the step gone back to takes what the alarm's step would have taken"
    assert 1000 + passed_over((first, second)) == 1800 + passed_over((first,))


@pytest.mark.parametrize(
    "text", ["{}", '{"a": 1}', '[{"step": 1}]', '[{"alarm_step": 3, "step": 3, "reason": ""}]', "[1]"]
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / ROLLBACKS_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"rollbacks.json: not a list of rollbacks .*Restore the file"):
        read_rollbacks(tmp_path)
