"""The peer of the frozen encoder computes the same features, so that its time says something."""

from __future__ import annotations

import pytest

from tests.evaluate.encoder_speed import main


@pytest.mark.oracle
def test_both_encode_the_same_and_are_timed_in_turns(capsys):
    small = ("--config=bench/peer_tiny", "--config.model.variant=vit_nano", "--config.augment.crop=32")
    main([*small, "--config.data.frames=4", "--rows=2", "--rounds=2"])
    printed = capsys.readouterr().out
    assert "vit_nano, 2 clips of 4 x 32 x 32, float32" in printed
    assert "ours / torch:" in printed
