"""What the simulation claims, measured on drawn pictures: skill shows in the tips, and motion carries the verb.

Letters: N windows, F frames of a window, S side of a window in pixels, K features, V verbs.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from surgmotion_jax.evaluate.metrics.skill import spearman
from surgmotion_jax.simulate.case import NONE, SceneConfig, Script, Vocabulary
from surgmotion_jax.simulate.render import build_scene, render
from surgmotion_jax.simulate.script import case_seed, write_script
from tests.simulate.measure import motion_measures, tip_in_mask

VERBS = 4
VOCABULARY = Vocabulary(3, 2, VERBS, 2, tuple((i, v, t) for i in range(2) for v in range(VERBS) for t in range(2)))
SIZE = 64  # pixels: side of a picture
SIDE = 28  # and of the window cut out round the tip
LENGTH = 16  # frames
FPS = 12.5


def in_processes(task: Callable[[int], Any], cases: int) -> list[Any]:
    # Fresh processes: a fork would copy the threads of JAX.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(task, range(cases)))


def skill_of(case: int) -> float:
    return float(np.random.default_rng([9, case]).random())


def tips_seen(case: int) -> dict[str, float]:
    """Measures of the tips found in the instrument masks of one drawn case."""
    config = SceneConfig(height=SIZE, width=SIZE, fps=25.0, seconds=20.0, nuisance=1.0)
    script = write_script(config, VOCABULARY, skill_of(case), case_seed(31, case))
    slots = range(1, len(script.port_Mx3) + 1)
    tracks = [[tip_in_mask(f.instrument_HxW == n) for n in slots] for f in render(script, truth=False)]
    return motion_measures(np.array(tracks), config.fps, still=0.03 * config.width)


@pytest.mark.slow
def test_skill_is_recovered_from_the_tips_in_the_pictures() -> None:
    cases = 24
    found = in_processes(tips_seen, cases)
    skills = np.array([skill_of(case) for case in range(cases)])
    rho = {name: spearman(np.array([row[name] for row in found]), skills) for name in found[0]}
    print(f"\nSpearman with skill over {cases} drawn cases: {rho}")
    assert rho["path_length"] <= -0.8
    assert rho["jerk"] <= -0.8


@dataclass(frozen=True, eq=False)
class Windows:
    """Pictures and true flow round the tip of an instrument in the middle of its action."""

    case_N: np.ndarray
    triplet_Nx3: np.ndarray
    picture_NxFxSxSx4: np.ndarray  # RGB and, so that it is clear which instrument is meant, its mask
    flow_NxFxSxSx2: np.ndarray


def actions(script: Script) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """(slot, first frame of the middle LENGTH frames, triplet) of every action that is long enough."""
    for slot in range(script.triplet_TxMx3.shape[1]):
        label_Tx3 = script.triplet_TxMx3[:, slot]
        changes = np.flatnonzero((np.diff(label_Tx3, axis=0) != 0).any(axis=1)) + 1
        for start, stop in zip([0, *changes], [*changes, script.frames], strict=True):
            if label_Tx3[start, 0] != NONE and stop - start > LENGTH:
                yield slot, int(start + stop - LENGTH) // 2, tuple(label_Tx3[start].tolist())


def windows_of(case: int) -> list[tuple[int, tuple[int, ...], np.ndarray, np.ndarray]]:
    config = SceneConfig(height=SIZE, width=SIZE, fps=FPS, seconds=60.0)
    script = write_script(config, VOCABULARY, skill_of(case), case_seed(5, case))
    scene, found = build_scene(script), []
    for slot, start, triplet in actions(script):
        frames = list(render(script, start, start + LENGTH, scene=scene))
        tip_2 = frames[LENGTH // 2].tip_Mx2[slot]
        if np.isfinite(tip_2).all() and not script.out_of_body_T[start : start + LENGTH + 1].any():
            x, y = np.clip(np.rint(tip_2).astype(int) - SIDE // 2, 0, SIZE - SIDE)
            cut = np.s_[y : y + SIDE, x : x + SIDE]
            masks = [255 * (f.instrument_HxW[cut] == slot + 1)[..., None] for f in frames]
            pictures = [np.concatenate([f.video_HxWx3[cut], m], -1) for f, m in zip(frames, masks, strict=True)]
            found.append((case, triplet, np.stack(pictures), np.stack([f.flow_HxWx2[cut] for f in frames])))
    return found


def collect(cases: int) -> Windows:
    rows = [row for found in in_processes(windows_of, cases) for row in found]
    case, triplet, picture, flow = (np.array(column) for column in zip(*rows, strict=True))
    return Windows(case, triplet, picture.astype(np.float32) / 128 - 1, flow)


def motion_features(windows: Windows) -> np.ndarray:
    """[N, K] spectra over time of four mean flows: tip, spread about the tip, tissue beside it, whole instrument."""
    flow, mask = windows.flow_NxFxSxSx2, windows.picture_NxFxSxSx4[..., 3:] > 0
    row, column = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    near = (row**2 + column**2 < (0.3 * SIDE) ** 2)[..., None]

    def mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
        return (values * where).sum(axis=(2, 3)) / (where.sum(axis=(2, 3)) + 1e-3)

    tip = mean(flow, mask & near)
    spread = np.sqrt(mean((flow - tip[:, :, None, None]) ** 2, mask & near) + 1e-6)
    still = mean(flow, ~mask & ~near)  # the camera's part
    series = np.concatenate([tip - still, mean(flow, ~mask & near) - still, spread, mean(flow, mask) - still], axis=-1)
    spectrum = np.log(np.abs(np.fft.rfft(series, axis=1)) + 0.2)
    return spectrum.reshape(len(series), -1).astype(np.float32)


def fit(
    initial: Any, predict: Callable[[Any, Any], Any], draw: Callable[[np.random.Generator], tuple[Any, Any]], steps: int
) -> Any:
    """Parameters after `steps` of AdamW on batches from `draw`."""
    import jax
    import optax

    optimiser = optax.adamw(optax.cosine_decay_schedule(1e-3, steps), weight_decay=1e-2)

    @jax.jit
    def step(params: Any, state: Any, x: Any, label: Any) -> tuple[Any, Any]:
        def loss(p: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(predict(p, x), label).mean()

        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    rng, params, state = np.random.default_rng(0), initial, optimiser.init(initial)
    for _ in range(steps):
        params, state = step(params, state, *draw(rng))
    return params


def weights(seed: int, *shapes: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(0, np.sqrt(2 / np.prod(s[:-1])), s).astype(np.float32), np.zeros(s[-1], np.float32)) for s in shapes
    ]


def read_motion(params: Any, x_NxK: Any) -> Any:
    """A perceptron with one hidden layer."""
    import jax

    (w, b), (w_out, b_out) = params
    return jax.nn.relu(x_NxK @ w + b) @ w_out + b_out


def read_picture(params: Any, x_NxSxSx4: Any) -> Any:
    """Three convolutions of stride 2 and a linear layer."""
    import jax

    x = x_NxSxSx4
    for w, b in params[:-1]:
        dims = ("NHWC", "HWIO", "NHWC")
        x = jax.nn.relu(jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=dims) + b)
    return x.reshape(len(x), -1) @ params[-1][0] + params[-1][1]


def learn_motion(windows: Windows, train_N: np.ndarray) -> np.ndarray:
    """Verb by motion of every window, learnt from those of `train_N`."""
    x = motion_features(windows)
    x = (x - x[train_N].mean(axis=0)) / (x[train_N].std(axis=0) + 1e-6)
    rows, verb = np.flatnonzero(train_N), windows.triplet_Nx3[:, 1]

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        chosen = rng.choice(rows, 64)
        return x[chosen], verb[chosen]

    params = fit(weights(0, (x.shape[1], 64), (64, VERBS)), read_motion, draw, 600)
    return np.asarray(read_motion(params, x)).argmax(axis=1)


def learn_picture(windows: Windows, train_N: np.ndarray, label_N: np.ndarray, steps: int) -> np.ndarray:
    """The same of any label by single pictures; in training, every picture of a window serves."""
    x, rows = windows.picture_NxFxSxSx4, np.flatnonzero(train_N)
    initial = weights(0, (3, 3, 4, 16), (3, 3, 16, 32), (3, 3, 32, 48), (48 * (-(-SIDE // 8)) ** 2, VERBS))

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        chosen = rng.choice(rows, 64)
        return x[chosen, rng.integers(LENGTH, size=64)], label_N[chosen]

    params = fit(initial, read_picture, draw, steps)
    return np.asarray(read_picture(params, x[:, LENGTH // 2])).argmax(axis=1)


def balanced_accuracy(found_N: np.ndarray, triplet_Nx3: np.ndarray) -> float:
    """Mean over (instrument, target) pairs of the mean over verbs of the share found."""
    shares = []
    for pair in np.unique(triplet_Nx3[:, [0, 2]], axis=0):
        here_N = (triplet_Nx3[:, [0, 2]] == pair).all(axis=1)
        verb_N, guess_N = triplet_Nx3[here_N, 1], found_N[here_N]
        shares.append(np.mean([(guess_N[verb_N == verb] == verb).mean() for verb in np.unique(verb_N)]))
    return float(np.mean(shares))


@pytest.mark.slow
def test_motion_carries_the_verb_and_a_picture_does_not() -> None:
    """Within pairs of instrument and target, tested on cases that were not trained on."""
    windows = collect(36)
    test_N = windows.case_N % 3 == 0
    truth_Nx3 = windows.triplet_Nx3[test_N]
    verb = {
        steps: balanced_accuracy(learn_picture(windows, ~test_N, windows.triplet_Nx3[:, 1], steps)[test_N], truth_Nx3)
        for steps in (100, 300, 900)  # from too few to overfitted, so that no stopping time hides what is there
    }
    target_N = learn_picture(windows, ~test_N, windows.triplet_Nx3[:, 2], 300)[test_N]
    seen = float((target_N == truth_Nx3[:, 2]).mean())
    moved = balanced_accuracy(learn_motion(windows, ~test_N)[test_N], truth_Nx3)
    print(
        f"\n{len(test_N)} windows, {test_N.sum()} of them tested, {VERBS} verbs, chance {1 / VERBS:.2f}. Balanced "
        f"accuracy by true flow {moved:.3f}, by single pictures after so many steps {verb}. "
        f"Target by pictures {seen:.3f}."
    )
    assert seen > 0.8, "the network that fails to find the verb must be able to see"
    assert max(verb.values()) <= 1 / VERBS + 0.15
    assert moved >= 1 / VERBS + 0.5
