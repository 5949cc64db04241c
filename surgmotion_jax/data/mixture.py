"""The sampling rule over datasets (SurgMotion, arXiv 2602.05638, pretraining data).

A clip of dataset d is drawn with weight 1 / (N_d D_s): N_d is the number of clips in d, D_s the number of
datasets in its specialty s. Summed up: every specialty has the same mass, every dataset the same part of its
specialty's, every clip the same part of its dataset's. Hours do not count, which is the point: most of the
hours belong to one specialty.
"""

from collections import Counter
from collections.abc import Mapping


def clip_weights(clips: Mapping[str, int], specialty: Mapping[str, str]) -> dict[str, float]:
    """Unnormalised weight 1 / (N_d D_s) of a single clip, by dataset.

    Args:
        clips: N_d, by dataset name.
        specialty: specialty, by dataset name.

    Raises:
        ValueError: naming a dataset that has no clip or no specialty.
    """
    for name, count in clips.items():
        if count < 1:
            raise ValueError(f"dataset {name!r} has {count} clips; a mixture needs at least 1 in each dataset")
        if name not in specialty:
            raise ValueError(f"dataset {name!r} has no specialty; known are {sorted(specialty)}")
    datasets = Counter(specialty[name] for name in clips)
    return {name: 1.0 / (count * datasets[specialty[name]]) for name, count in clips.items()}


def shares(clips: Mapping[str, int], specialty: Mapping[str, str]) -> dict[str, float]:
    """Probability that a draw comes from each dataset: N_d clips of weight 1 / (N_d D_s), normalised."""
    weights = clip_weights(clips, specialty)
    mass = {name: clips[name] * weight for name, weight in weights.items()}
    total = sum(mass.values())
    return {name: part / total for name, part in mass.items()}
