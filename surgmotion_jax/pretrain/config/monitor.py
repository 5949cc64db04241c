"""Configuration of what watches over a run: alarms and the probe. Nothing here changes a step that goes well."""

from __future__ import annotations

from dataclasses import dataclass

from surgmotion_jax.checks import at_least, one_of

ACTIONS = ("warn", "stop", "rollback")


@dataclass(frozen=True)
class AlarmConfig:
    """Thresholds of the gauges, and what follows when one is crossed."""

    rankme: float = 10.0  # effective rank of the held-out targets, at least
    prediction_std: float = 0.1  # mean per-dimension std of predictions over tokens, at least
    target_std: float = 0.1  # the same of targets, at least
    cosine: float = 0.98  # cosine of context and target features, at most
    spike: float = 3.0  # logged loss, at most this many times the median of those before it; 0: no limit
    spike_window: int = 20  # logged losses in that median; before there are as many, nothing is a spike
    after: int = 200  # steps before the first alarm: every run starts far from its features
    action: str = "warn"  # warn: log it; stop: end without saving; rollback: go back, and on with other data
    rollbacks: int = 3  # at most in a run; the next alarm ends it
    nonfinite_steps: int = 10  # consecutive skipped updates before the run stops

    def __post_init__(self) -> None:
        one_of("alarms.action", self.action, ACTIONS)
        at_least("alarms.after", self.after, 0)
        at_least("alarms.rollbacks", self.rollbacks, 1)
        at_least("alarms.nonfinite_steps", self.nonfinite_steps, 1)
        at_least("alarms.spike_window", self.spike_window, 1)
        if self.spike and not self.spike > 1:
            raise ValueError(
                f"alarms.spike is {self.spike:g}; a loss of that many medians is no spike: give a factor above 1, or 0 "
                "for no such alarm."
            )


@dataclass(frozen=True)
class ProbeConfig:
    """How well the classes of a labelled set can be told apart by the frozen EMA encoder, while it is trained."""

    benchmark: str = ""  # a row of the catalogue with one class a moment or case; empty: no probe
    root: str = ""  # its folder
    protocol: str = ""  # which of its splits or folds; empty: its first
    label: str = ""  # which of its labels; empty: the one that the benchmark scores
    every: int = 1000  # steps between probes; the first and the last state are always probed
    windows: int = 256  # windows of each of the two splits at most, spread evenly over their moments
    batch: int = 0  # windows encoded at a time; 0: heldout.batch
    fps: float = 0.0  # frames of a window per second; 0: data.fps
    resize: str = "letterbox"  # how a frame becomes a square of augment.crop: letterbox, squash, center_crop
    neighbours: int = 20  # of the nearest-neighbour probe
    ridge: float = 0.1  # of the linear probe, as a share of the mean squared feature norm
    cache_gb: float = 2.0  # decoded windows kept in a host's memory if they fit; otherwise read again each time

    def __post_init__(self) -> None:
        one_of("probe.resize", self.resize, ("letterbox", "squash", "center_crop"))
        for name, low in (("every", 1), ("windows", 2), ("batch", 0), ("fps", 0), ("neighbours", 1), ("cache_gb", 0)):
            at_least(f"probe.{name}", getattr(self, name), low)
        if not self.ridge > 0:
            raise ValueError(f"probe.ridge is {self.ridge}; it must be positive, e.g. 0.1.")
        if self.benchmark and not self.root:
            raise ValueError(
                f"probe.benchmark is {self.benchmark!r}, but probe.root is empty; give the folder of the data set with "
                "--config.probe.root=DIR, or leave out the probe with --config.probe.benchmark=''."
            )
        if self.root and not self.benchmark:
            raise ValueError(
                f"probe.root is {self.root!r}, but probe.benchmark is empty; name the layout of that folder, e.g. "
                "--config.probe.benchmark=cholec80."
            )
