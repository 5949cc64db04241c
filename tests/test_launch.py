"""The launch scripts: clean shell, complete manifests, flags that arrive, a local run of several processes."""

from __future__ import annotations

import os
import re
import shutil
import string
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
OURS = ("local.sh", "tpu_vm.sh", "gke_jobset.yaml", "slurm_gpu.sbatch", "Containerfile")
FLAGS = ("--config=pretrain/tiny", "--data=/a b/c.csv", "--workdir=gs://bucket/run", "--config.mask.ratios=(0.5,)")
VALUES = {
    "NAME": "first", "IMAGE": "registry/surgmotion:1", "SLICES": "2", "HOSTS": "4", "CHIPS": "4",
    "ACCELERATOR": "tpu-v5-lite-podslice", "TOPOLOGY": "4x4", "ACCOUNT": "trainer",
    "FLAGS": ", ".join(f'"{flag}"' for flag in FLAGS),
}  # fmt: skip


def bash(*command, folder=ROOT, **environment):
    return subprocess.run(
        ["bash", *map(str, command)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def stub(folder: Path, name: str) -> None:
    """A program that writes down the arguments it was given."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(
        f'#!/bin/sh\nfor a in "$@"; do printf "%s\\n" "$a"; done >> {folder}/{name}.txt\nexit ${{CODE:-0}}\n'
    )
    path.chmod(0o755)


def told(folder: Path, name: str) -> list[str]:
    return (folder / f"{name}.txt").read_text().splitlines()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    scripts = [*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch"), ROOT / ".ci/run"]
    done = subprocess.run(["shellcheck", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(scripts) >= 6


@pytest.mark.parametrize("name", OURS)
def test_scripts_are_short_and_name_nobodys_project(name):
    text = (LAUNCH / name).read_text()
    assert len(text.splitlines()) < 40
    assert set(re.findall(r"gs://([\w-]+)", text)) <= {"BUCKET", "B"}
    assert "--project" not in text


@pytest.mark.parametrize("name", ["local.sh", "tpu_vm.sh"])
def test_help(name):
    done = bash(LAUNCH / name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: bash launch/{name}")


def test_every_flag_reaches_every_host_of_a_slice(tmp_path):
    stub(tmp_path, "gcloud")
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TPU_NAME": "slice", "TPU_ZONE": "zone"}
    assert bash(LAUNCH / "tpu_vm.sh", "run", *FLAGS, **path).returncode == 0
    given = told(tmp_path, "gcloud")
    assert given[:-1] == ["compute", "tpus", "tpu-vm", "ssh", "slice", "--zone", "zone", "--worker", "all", "--command"]
    stub(tmp_path / "home", "surgmotion")
    ran = bash("-c", given[-1].replace("cd surgmotion && .venv/bin/surgmotion", str(tmp_path / "home/surgmotion")))
    assert ran.returncode == 0, ran.stderr
    assert told(tmp_path / "home", "surgmotion") == ["pretrain", *FLAGS]


def test_a_slice_must_be_named():
    done = bash(LAUNCH / "tpu_vm.sh", "run", *FLAGS, TPU_NAME="", TPU_ZONE="zone")
    assert done.returncode != 0
    assert "name of the slice" in done.stderr
    wrong = bash(LAUNCH / "tpu_vm.sh", "start", *FLAGS, TPU_NAME="a", TPU_ZONE="b")
    assert (wrong.returncode, "neither install nor run" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (75, True), (1, False)])
def test_a_slurm_job_goes_back_into_the_queue_only_after_a_stop(tmp_path, code, requeued):
    for name in ("srun", "scontrol"):
        stub(tmp_path, name)
    (tmp_path / "scontrol").write_text((tmp_path / "scontrol").read_text().replace("${CODE:-0}", "0"))
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "42"}
    done = bash(LAUNCH / "slurm_gpu.sbatch", *FLAGS, CODE=str(code), **path)
    assert done.returncode == code
    given = told(tmp_path, "srun")
    assert given[given.index("pretrain") + 1 :] == [*FLAGS, "--config.run.stopped_code=75"]
    assert (tmp_path / "scontrol.txt").exists() == requeued
    if requeued:
        assert told(tmp_path, "scontrol") == ["requeue", "42"]


@pytest.fixture
def manifest():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return yaml.safe_load(string.Template((LAUNCH / "gke_jobset.yaml").read_text()).substitute(VALUES))


def test_the_manifest_is_whole_once_its_variables_are_filled(manifest):
    (job,) = manifest["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert manifest["kind"] == "JobSet"
    assert (job["replicas"], spec["parallelism"], spec["completions"]) == (2, 4, 4)
    assert container["args"] == ["--config.run.stopped_code=75", *FLAGS]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    codes = [rule["onExitCodes"]["values"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert codes == [[75]], "a run that was stopped starts again without limit, one that failed does not"


def test_the_manifest_names_its_variables(manifest):
    text = (LAUNCH / "gke_jobset.yaml").read_text()
    used = set(re.findall(r"\$\{(\w+)\}", text))
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert used == set(VALUES)
    assert not [name for name in used if f"{name}=" not in head]


def test_the_job_in_the_manifest_follows_the_schema_of_kubernetes(manifest):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    spec = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": spec}
    validate.validate(job, validate.latest_version(), strict=True)
    with pytest.raises(validate.ValidationError):
        validate.validate(job | {"spec": spec | {"paralelism": 1}}, validate.latest_version(), strict=True)


def test_the_container_copies_what_the_package_is_built_from():
    copied = re.findall(r"^COPY (.+) \S+$", (LAUNCH / "Containerfile").read_text(), re.MULTILINE)
    assert {"pyproject.toml", "requirements.txt", "README.md", "surgmotion_jax", "configs"} <= set(
        " ".join(copied).split()
    )
    assert all((ROOT / name).exists() for name in " ".join(copied).split())


def video(path: Path) -> None:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for _ in range(60):
            noise = rng.integers(0, 255, (48, 48, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())


SMALL = (
    "--config=pretrain/tiny", "--config.model.depth=1", "--config.model.predictor.depth=1", "--config.steps=1",
    "--config.data.frames=4", "--config.data.canvas=(40,40)", "--config.augment.crop=32", "--config.mask.ratios=(0.5,)",
    "--config.optim.batch=2", "--config.heldout.batch=2", "--config.heldout.clips=2", "--config.run.tensorboard=off",
    "--config.run.compilation_cache=",
)  # fmt: skip


def local(*arguments):
    one_device = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "JAX_PLATFORMS": "cpu"}
    return bash(LAUNCH / "local.sh", *arguments, PYTHON=sys.executable, **one_device)


def test_local_processes_join_agree_and_find_a_finished_run(tmp_path):
    """Everything up to the compiler, with two real processes: a run at its last step has nothing left to do."""
    video(tmp_path / "v.mp4")
    (tmp_path / "w" / "checkpoints" / "1").mkdir(parents=True)
    done = local("--processes", "2", *SMALL, f"--data={tmp_path / 'v.mp4'}", f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 0, done.stderr
    assert "has finished its 1 steps; nothing to do" in done.stdout
    assert all(f"process {i} of 2, given by flags" in done.stdout for i in range(2))


def test_local_processes_end_with_the_code_of_the_command(tmp_path):
    done = local("--processes", "2", *SMALL, "--data=/nowhere", "--config.optim.lrr=1", f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.count("lrr") >= 2
    assert local("--processes", "two").returncode == 2


@pytest.mark.slow
def test_local_trains_in_two_processes(tmp_path):
    video(tmp_path / "v.mp4")
    done = local("--processes", "2", *SMALL, f"--data={tmp_path / 'v.mp4'}", f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w" / "checkpoints" / "1").exists()
