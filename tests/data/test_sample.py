"""The sample schema: every producer is held to it, and a violation names its field."""

from dataclasses import replace

import numpy as np
import pytest

from surgmotion_jax.data.sample import Sample, check

GOOD = Sample(
    dataset="d",
    case="c",
    time=1.5,
    video_TxHxWx3=np.zeros((4, 6, 8, 3), np.uint8),
    valid_T=np.ones(4, bool),
    fov_HxW=np.ones((6, 8), bool),
    labels={"phase": 3, "score": 0.5, "tools": np.zeros(7, np.int32), "np": np.int64(2)},
    masks={"grasper": np.zeros((4, 6, 8), bool), "organ": np.zeros((6, 8), np.uint8)},
    depth_TxHxW=np.zeros((4, 6, 8), np.float32),
)


def test_full_and_bare_samples_pass():
    check(GOOD)
    check(Sample("d", "c", 0.0, GOOD.video_TxHxWx3, GOOD.valid_T))
    assert GOOD.origin == "d/c@1.500"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": ""}, "field dataset: found '', allowed is a non-empty string"),
        ({"case": 3}, "field case: found 3"),
        ({"time": -1.0}, "field time: found -1.0, allowed is finite seconds"),
        ({"time": float("nan")}, "field time: found nan"),
        ({"video_TxHxWx3": np.zeros((4, 6, 8, 3))}, r"field video_TxHxWx3: found float64 \[4, 6, 8, 3\]"),
        ({"video_TxHxWx3": np.zeros((4, 6, 8), np.uint8)}, r"field video_TxHxWx3: found uint8 \[4, 6, 8\]"),
        ({"video_TxHxWx3": np.zeros((0, 6, 8, 3), np.uint8)}, "field video_TxHxWx3"),
        ({"video_TxHxWx3": None}, "field video_TxHxWx3: found NoneType None"),
        ({"valid_T": np.ones(5, bool)}, r"field valid_T: found bool \[5\], allowed is bool \[4\]"),
        ({"valid_T": np.ones(4)}, r"field valid_T: found float64 \[4\]"),
        ({"fov_HxW": np.ones((8, 6), bool)}, r"field fov_HxW: found bool \[8, 6\], allowed is bool \[6, 8\]"),
        ({"depth_TxHxW": np.zeros((4, 6, 8), int)}, "field depth_TxHxW: found int64"),
        (
            {"masks": {"m": np.zeros((4, 6, 8))}},
            r"masks\['m'\]: found float64 .* bool or integer \[6, 8\] or \[4,",
        ),
        ({"labels": {"phase": "dissection"}}, r"labels\['phase'\]: found 'dissection', allowed is an int"),
    ],
)
def test_violations_name_the_field(change, message):
    with pytest.raises(ValueError, match=message):
        check(replace(GOOD, **change))
