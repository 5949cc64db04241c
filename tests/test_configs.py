"""Every shipped config builds, fits a mesh, and says what its paper says."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from surgmotion_jax import config as door
from surgmotion_jax.benchmarks.catalogue import names
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.mixture import shares
from surgmotion_jax.differences import difference
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.schedules import ema_momentum, learning_rate, weight_decay
from surgmotion_jax.pretrain.setup.placement import place
from surgmotion_jax.pretrain.setup.preflight import check
from surgmotion_jax.pretrain.setup.summary import parameter_count

ROOT = Path(__file__).parents[1]
ARGUMENTS = {
    "pretrain/tiny": ("",),
    "pretrain/vjepa2_vitl": ("", ":cooldown"),
    "pretrain/vjepa21_vitl": ("", ":cooldown"),
    "pretrain/vjepa21_vitg": ("", ":cooldown"),
    "pretrain/simulated": ("", ":vjepa"),
    "pretrain/surgmotion_vitl": (":stage1", ":stage2", ":vjepa21", ":vjepa21_stage2", ":multiblock"),
    "pretrain/surgmotion_vitg": (":stage1", ":stage2", ":vjepa21", ":vjepa21_stage2"),
    "pretrain/surgmotion_late": (":stage1", ":stage2"),
    "pretrain/surgical_mix": ("",),
}
EVERY = [name + argument for name, arguments in ARGUMENTS.items() for argument in arguments]
CONTINUING = [name for name in EVERY if name.endswith(("cooldown", "stage2"))]
SURGICAL = ["pretrain/surgmotion_vitl", "pretrain/surgmotion_vitg"]


def flags(name: str, *overrides: str) -> ConfigDict:
    """A config as a command line gives it, with a source and, where there must be one, a starting checkpoint."""
    config, rest = door.parse_flags([f"--config={name}", *overrides])
    assert not rest
    with config.unlocked():
        config.data.sources["data"] = door.entry(SourceConfig, path="/videos")
    if config.init.checkpoint is None:
        config.init.checkpoint = "runs/before"
    return config


def build(name: str, *overrides: str) -> PretrainConfig:
    return door.build(PretrainConfig, flags(name, *overrides))


def counts(config: PretrainConfig) -> list[int]:
    """Target tokens of every mask set of every program, ascending."""
    return sorted(targets for program in mask_programs(config.mask, config.grid) for targets in program.targets)


def rate(config: PretrainConfig, finished: int) -> float:
    """Learning rate of the update that follows `finished` ones."""
    return float(learning_rate(jnp.asarray(finished), config.optim, config.steps))


def test_the_list_of_configs_above_is_complete():
    assert sorted(ARGUMENTS) == [name for name in door.config_names() if name.startswith("pretrain/")]


def test_there_is_a_config_for_every_benchmark():
    assert sorted(f"evaluate/{name}" for name in names()) == [
        name for name in door.config_names() if name.startswith("evaluate/")
    ]


@pytest.mark.parametrize("name", EVERY)
def test_config_is_locked_and_fits_a_mesh_without_allocating(name):
    assert door.load_config(name).is_locked
    config = build(name)
    devices = jax.devices()[:1] if name == "pretrain/tiny" else jax.devices()  # tiny is for one device
    layout = MeshLayout(make_mesh(place(config, devices)[0].parallel, devices))
    gc.collect()  # what earlier tests left behind must not vanish meanwhile
    before = len(jax.live_arrays())
    programs, state = check(config, layout)
    assert len(jax.live_arrays()) == before
    assert [p.grid for p in programs] == [config.grid] * len(programs)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("name", "encoder", "predictor"),
    [
        ("pretrain/vjepa2_vitl", 303_885_312, 22_086_016),
        ("pretrain/surgmotion_vitl:stage1", 303_885_312, 22_086_016),
        ("pretrain/surgmotion_vitg:stage2", 1_012_173_952, 22_381_312),
    ],
)
def test_parameters_are_those_of_the_released_models(name, encoder, predictor):
    config = build(name)
    params = check(config, MeshLayout(make_mesh(place(config, jax.devices())[0].parallel)))[1].params
    assert (parameter_count(params["encoder"]), parameter_count(params["predictor"])) == (encoder, predictor)


@pytest.mark.parametrize(
    ("name", "frames", "fps", "crop", "tokens", "targets"),
    [
        ("pretrain/vjepa2_vitl", 16, 4, 256, 2048, [154 * 8, 205 * 8]),
        ("pretrain/vjepa2_vitl:cooldown", 64, 4, 256, 8192, [154 * 32, 205 * 32]),
        ("pretrain/vjepa21_vitl", 16, 4, 256, 2048, [154 * 8, 205 * 8]),
        ("pretrain/vjepa21_vitg:cooldown", 64, 4, 256, 8192, [154 * 32, 205 * 32]),
        *((f"{n}:stage1", 16, 1, 224, 1568, [c * 8 for c in (147, 157, 167, 176, 186)]) for n in SURGICAL),
        *((f"{n}:stage2", 64, 1, 224, 6272, [c * 32 for c in (147, 157, 167, 176, 186)]) for n in SURGICAL),
    ],
)
def test_clips_and_token_counts(name, frames, fps, crop, tokens, targets):
    config = build(name)
    assert (config.data.frames, config.data.fps, config.augment.crop) == (frames, fps, crop)
    assert config.grid.tokens == tokens
    assert counts(config) == targets


@pytest.mark.parametrize(
    ("name", "steps", "batch", "rates"),
    [
        ("pretrain/vjepa2_vitl", 240_000, 3072, {0: 1e-4, 11_999: 5.25e-4, 239_999: 5.25e-4}),
        ("pretrain/vjepa2_vitl:cooldown", 12_000, 3072, {0: 5.25e-4, 5_999: 2.63e-4, 11_999: 1e-6}),
        ("pretrain/vjepa21_vitl", 300_000, 3072, {0: 1e-4, 11_999: 6e-4, 299_999: 6e-4}),
        ("pretrain/vjepa21_vitg:cooldown", 12_000, 3072, {0: 6e-4, 5_999: 3.005e-4, 11_999: 1e-6}),
        *((f"{n}:stage1", 60_000, 256, {0: 3.03e-5, 11_999: 1.516e-4, 59_999: 1.516e-4}) for n in SURGICAL),
        *((f"{n}:stage2", 24_000, 64, {0: 7.578e-5, 11_999: 3.84e-5, 23_999: 1e-6}) for n in SURGICAL),
    ],
)
def test_schedules(name, steps, batch, rates):
    config = build(name)
    assert (config.steps, config.optim.batch) == (steps, batch)
    for finished, expected in rates.items():
        assert rate(config, finished) == pytest.approx(expected, rel=1e-3), finished
        at = jnp.asarray(finished), config.optim, steps
        assert float(weight_decay(*at)) == pytest.approx(0.04)
        assert float(ema_momentum(*at)) == pytest.approx(0.99925)


def test_vjepa_is_the_objective_without_motion_affinity_and_diversity():
    config = build("pretrain/vjepa2_vitl")
    motion, affinity, diversity = (config.loss[name] for name in ("motion", "affinity", "diversity"))
    assert (motion.scope, motion.alpha, affinity.weight, diversity.weight) == ("dense", 0, 0, 0)
    surgical = build("pretrain/surgmotion_vitl:stage1").loss
    motion, affinity, diversity = (surgical[name] for name in ("motion", "affinity", "diversity"))
    assert (motion.weight, affinity.weight, diversity.weight) == (1, 0.1, 0.3)
    assert (affinity.tau, diversity.sigma, motion.top_k, motion.gamma) == (0.1, 1, 3, 2)


def changed(one: str, other: str) -> set[str]:
    """Fields in which two configs differ."""
    lines = difference(door.load_config(one).to_dict(), door.load_config(other).to_dict())
    return {line.partition(":")[0] for line in lines}


@pytest.mark.parametrize("name", SURGICAL)
def test_stage_2_differs_from_stage_1_only_in_clip_length_and_schedule(name):
    optim = {f"optim.{field}" for field in ("batch", "schedule", "final_lr", "warmup_steps")}
    assert changed(f"{name}:stage1", f"{name}:stage2") == {"steps", "data.frames", "init.checkpoint"} | optim


def test_the_two_sizes_differ_only_in_model():
    for stage in (":stage1", ":stage2"):
        differing = changed(SURGICAL[0] + stage, SURGICAL[1] + stage)
        assert differing == {"model.variant"}


def test_cooldown_keeps_the_model_and_takes_the_moments():
    optim = {f"optim.{field}" for field in ("schedule", "final_lr", "warmup_steps", "decay_steps")}
    fields = {"steps", "data.frames", "init.checkpoint", "init.optimizer"}
    assert changed("pretrain/vjepa2_vitl", "pretrain/vjepa2_vitl:cooldown") == fields | optim


def test_cooldown_ends_at_the_final_rate_whatever_its_length_unless_told_otherwise():
    shorter = build("pretrain/vjepa2_vitl:cooldown", "--config.steps=500")
    assert rate(shorter, 499) == pytest.approx(1e-6, rel=1e-3)
    public_code = build("pretrain/vjepa2_vitl:cooldown", "--config.optim.decay_steps=15000")
    assert public_code.steps == 12_000
    assert rate(public_code, 11_999) == pytest.approx(1.058e-4, rel=1e-3)


def test_vjepa21_adds_levels_visible_tokens_and_images_to_vjepa2():
    model = {"positions", "v21.levels", "v21.rope_grid", "v21.modality", "v21.context_projection"}
    predictor = {"predictor.depth", "predictor.mask_tokens"}
    fields = {f"model.{field}" for field in model | predictor}
    fields |= {"loss.context.weight", "loss.context.rise", "images.batch", "images.canvas"}
    fields |= {"steps", "optim.lr", "optim.warmup_from"}
    assert changed("pretrain/vjepa2_vitl", "pretrain/vjepa21_vitl") == fields
    config = build("pretrain/vjepa21_vitl")
    assert (config.loss["context"].weight, config.images.batch, config.images.share) == (0.5, 4608, 0.5)
    assert config.model.context_width == config.model.target_width == 4 * 1024
    assert changed("pretrain/vjepa21_vitl", "pretrain/vjepa21_vitg") == {"model.variant"}


@pytest.mark.parametrize("name", SURGICAL)
def test_the_surgical_recipe_on_vjepa21_adds_its_model_and_context_loss(name):
    adds = {"model.positions", *(f"model.v21.{field}" for field in ("levels", "rope_grid", "modality"))}
    adds |= {"model.v21.context_projection", "model.predictor.depth", "model.predictor.mask_tokens"}
    adds |= {"loss.context.weight"}
    assert changed(f"{name}:stage1", f"{name}:vjepa21") == adds | {"loss.context.rise"}
    assert changed(f"{name}:stage2", f"{name}:vjepa21_stage2") == adds
    loss = build(f"{name}:vjepa21").loss
    weights = {term: settings.weight for term, settings in loss.items() if settings.weight}
    assert weights == {"motion": 1.0, "diversity": 0.3, "affinity": 0.1, "context": 0.5, "pixel": 1.0}


def test_the_cooldown_of_vjepa21_has_the_context_loss_in_full_and_without_distances():
    optim = {f"optim.{field}" for field in ("schedule", "final_lr", "warmup_steps", "decay_steps")}
    context = {"loss.context.rise", "loss.context.by_distance"}
    fields = {"steps", "data.frames", "init.checkpoint", "init.optimizer"} | optim | context
    assert changed("pretrain/vjepa21_vitl", "pretrain/vjepa21_vitl:cooldown") == fields
    settings = build("pretrain/vjepa21_vitg:cooldown").loss["context"]
    assert (settings.weight, settings.rise, settings.by_distance) == (0.5, (0, 0), False)


@pytest.mark.parametrize("name", CONTINUING)
def test_continuing_without_a_checkpoint_is_refused(name):
    config = door.load_config(name)
    with config.unlocked():
        config.data.sources["data"] = door.entry(SourceConfig, path="/videos")
    with pytest.raises(ValueError, match=r"init\.checkpoint"):
        door.build(PretrainConfig, config)
    assert build(name, "--config.init.checkpoint=runs/first").init.checkpoint == "runs/first"


@pytest.mark.parametrize("name", ["pretrain/vjepa2_vitl", *SURGICAL])
def test_an_unknown_argument_is_refused_with_the_allowed_ones(name):
    allowed = [argument for argument in ARGUMENTS[name] if argument]
    with pytest.raises(ValueError, match=rf"{'.*'.join(allowed)}.*found 'stage3'"):
        door.load_config(f"{name}:stage3")


@pytest.mark.parametrize("name", SURGICAL)
def test_a_missing_stage_is_refused_with_the_allowed_ones(name):
    with pytest.raises(ValueError, match=r":stage1 or :stage2.*found ''"):
        door.load_config(name)


def test_several_sources_are_given_as_the_docstring_says():
    text = (ROOT / "configs/pretrain/surgmotion_vitl.py").read_text()
    lines = re.findall(r"^    (c\.data\.sources\[.*\] = entry\(.*\))$", text, re.MULTILINE)
    assert len(lines) == 3
    c = door.load_config("pretrain/surgmotion_vitl:stage1").copy_and_resolve_references().unlock()
    for line in lines:
        exec(line, {"c": c, "entry": door.entry, "SourceConfig": SourceConfig})
    sources = door.build(PretrainConfig, c.lock()).data.sources
    drawn = shares(dict.fromkeys(sources, 10), {name: source.specialty for name, source in sources.items()})
    assert drawn == pytest.approx({"cholec80": 0.25, "m2cai16": 0.25, "pitvis": 0.5})


@pytest.mark.parametrize("name", ARGUMENTS)
def test_docstring_commands_run_this_very_config(name):
    """Each shows a command and one with an override; every command is complete and valid."""
    text = (ROOT / f"configs/{name}.py").read_text().split('"""')[1].replace("\\\n", " ")
    commands = [line.split()[2:] for line in text.splitlines() if line.strip().startswith("surgmotion pretrain ")]
    overrides = 0
    for arguments in commands:
        file, _, argument = arguments[0].removeprefix("--config=").partition(":")
        assert file == f"configs/{name}.py"
        assert (f":{argument}" if argument else "") in ARGUMENTS[name]
        fields = [a for a in arguments if a.startswith("--config.")]
        rest = {a.partition("=")[0] for a in arguments[1:] if a not in fields}
        assert rest == {"--data", "--workdir"}
        build(f"{name}{':' * bool(argument)}{argument}", *fields)
        overrides += bool(fields)
    assert overrides
    assert len(commands) > overrides
