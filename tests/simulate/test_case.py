"""A scene or vocabulary that cannot be simulated is refused with the field, the value and what is allowed."""

import pytest

from surgmotion_jax.simulate.case import SPECIALTIES, SceneConfig, Vocabulary
from surgmotion_jax.simulate.specialty import specialty_of


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 8),
        ("width", 9000),
        ("fps", 0.0),
        ("fps", float("nan")),
        ("seconds", -1.0),
        ("nuisance", 2.5),
        ("difficulty", -0.1),
    ],
)
def test_a_number_out_of_range_is_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"scene\.{field} is {value}; it must lie in \["):
        SceneConfig(**{field: value})


def test_an_unknown_specialty_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="specialty is 'dental'; choose one of .*'laparoscopic'"):
        SceneConfig(specialty="dental")
    with pytest.raises(ValueError, match="specialty 'dental' is not known; choose one of .*'laparoscopic'"):
        specialty_of("dental")


def test_every_specialty_has_its_own_measures() -> None:
    assert len({specialty_of(name) for name in SPECIALTIES}) == len(SPECIALTIES)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 1, 1, 1), r"vocabulary\.phases is 0; it must lie in \[1, 96\]"),
        ((97, 1, 1, 1), r"vocabulary\.phases is 97; it must lie in \[1, 96\]"),
        ((1, 0, 1, 1), r"vocabulary\.instruments is 0"),
        ((1, 1, 11, 1), r"vocabulary\.verbs is 11; it must lie in \[1, 10\]"),
        ((1, 1, 1, 65), r"vocabulary\.targets is 65"),
    ],
)
def test_a_vocabulary_of_a_wrong_size_is_refused(sizes: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(*sizes, triplets=((0, 0, 0),))


@pytest.mark.parametrize(
    ("triplets", "message"),
    [
        ((), "vocabulary.triplets is empty"),
        (((0, 0, 0), (0, 2, 0)), r"vocabulary.triplets\[1\] is \(0, 2, 0\); .* below \(2, 2, 2\)"),
        (((0, -1, 0),), r"vocabulary.triplets\[0\] is \(0, -1, 0\)"),
        (((0, 1),), r"vocabulary.triplets\[0\] is \(0, 1\)"),
        (((0, 1, 1), (0, 1, 1)), r"names \(0, 1, 1\) more than once"),
    ],
)
def test_wrong_triplets_are_refused(triplets: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(2, 2, 2, 2, triplets)


def test_frames_are_seconds_times_fps_and_at_least_one() -> None:
    assert SceneConfig(seconds=20, fps=25).frames == 500
    assert SceneConfig(seconds=20, fps=1).frames == 20
    assert SceneConfig(seconds=0.2, fps=1).frames == 1
