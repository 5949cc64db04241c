"""`surgmotion pretrain --config=FILE[:ARG] --workdir=DIR [--data=PATH] [--config.section.field=VALUE ...]`

Trains an encoder. Repeating the command resumes from the newest checkpoint of the workdir.

  --config=FILE[:ARG]   a config file or the name of a shipped one, e.g. pretrain/tiny
  --workdir=DIR         checkpoints, metrics and pictures go here
  --data=PATH           a video, folder, glob or CSV: short for the config's data.sources
  --config.a.b=VALUE    overrides a field, e.g. --config.optim.batch=16
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

from surgmotion_jax import config as door
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.pretrain.config import RUN_FIELDS, RUN_SECTIONS, PretrainConfig, as_dict

HALTED = 3  # exit code of a run that an alarm, or updates that were not finite, ended


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        print("shipped configs:", ", ".join(door.config_names()))
        return 0
    from surgmotion_jax.pretrain.loop import Halted

    config, workdir = read_command_line(argv)
    try:
        return run(config, workdir, f"surgmotion pretrain {' '.join(argv)}")
    except Halted as reason:
        complain(str(reason))
        return HALTED


def read_command_line(argv: Sequence[str], command: str = "pretrain") -> tuple[PretrainConfig, str]:
    """The config and workdir that a command line asks for. Raises ValueError, naming `command`, for unknown ones."""
    from surgmotion_jax.data.config import SourceConfig

    flags, rest = door.parse_flags(argv)
    parser = argparse.ArgumentParser(
        prog=f"surgmotion {command}", add_help=False, exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("--workdir")
    parser.add_argument("--data")
    try:
        given, unknown = parser.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion {command} --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion {command} --help.")
    if not given.workdir:
        raise ValueError("no --workdir=DIR given; checkpoints and metrics need a folder to go to.")
    if given.data:
        with flags.unlocked():
            flags.data.sources = door.ConfigDict({"data": door.entry(SourceConfig, path=given.data)})
    if not flags.data.sources:
        raise ValueError("the config names no videos; give --data=PATH, or fill data.sources in the config.")
    return door.build(PretrainConfig, flags), given.workdir


def run(config: PretrainConfig, workdir: str, command: str) -> int:
    """Trains in `workdir`. Returns the exit code: 0 finished, `run.stopped_code` after SIGTERM, 130 after Ctrl-C.

    Raises Halted where an alarm, or updates that were not finite, ended the run.
    """
    import jax

    from surgmotion_jax import storage
    from surgmotion_jax.checkpoints.lock import workdir_lock
    from surgmotion_jax.parallel.processes import joined
    from surgmotion_jax.pretrain.setup.agreement import SETUP, setup_facts

    use_compilation_cache(config.run.compilation_cache)
    with ExitStack() as stack:
        group = stack.enter_context(joined(config.distributed, tell, complain))
        group.agree(SETUP, setup_facts(config, workdir))
        path = storage.ensure_writable(workdir)
        if jax.process_index() == 0:
            stack.enter_context(workdir_lock(path))
        outcome = Session(config, path, command, group).run()
    if not isinstance(outcome, int):
        raise outcome  # outside, where the processes have left one another
    return outcome


def tell(place: str) -> None:
    print(f"{'processes':>12}  {place}", flush=True)


def complain(text: str) -> None:
    print(f"surgmotion: {text}", file=sys.stderr, flush=True)


def use_compilation_cache(folder: str) -> None:
    """Keeps compiled programs on disk, so that a second start compiles nothing."""
    import jax

    if not folder:
        return
    jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


class Session:
    """One run of the command, from checks to the last checkpoint."""

    def __init__(self, config: PretrainConfig, workdir: Any, command: str, group: Any) -> None:
        import jax

        from surgmotion_jax.checkpoints.store import CheckpointStore
        from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
        from surgmotion_jax.pretrain.setup.placement import place
        from surgmotion_jax.pretrain.step import resolve

        self.workdir, self.command, self.group = workdir, command, group
        self.config, self.mesh_table = place(config, jax.devices())
        self.first = jax.process_index() == 0
        self.initial: Any = None  # weights to start from; see plan_start
        self.layout = MeshLayout(make_mesh(self.config.parallel))
        self.config = resolve(self.config, self.layout)
        self.store = CheckpointStore(workdir / "checkpoints", config.checkpoint.keep, config.checkpoint.keep_every)

    def run(self) -> Any:
        """The exit code, or a `Halted` that says why the run was ended."""
        from surgmotion_jax.commands.pretrain_training import run_training
        from surgmotion_jax.pretrain.loop import last_step
        from surgmotion_jax.pretrain.monitor.alarms import check_monitoring
        from surgmotion_jax.pretrain.setup.preflight import check

        programs, abstract = check(self.config, self.layout)
        notes = check_monitoring(self.config)
        self.check_resumable()
        if self.store.latest() == last_step(self.config):
            self.say(f"{self.workdir} has finished its {last_step(self.config)} steps; nothing to do")
            return 0
        self.plan_start()
        dataset = self.open_data()
        probed = self.open_probe()
        self.announce(programs, abstract, dataset)
        for label, text in (*(("probe", p.text) for p in [probed] if p), *(("alarms", note) for note in notes)):
            self.say(f"{label:>12}  {text}")
        compiled = self.compile(programs, probed)
        self.group.meet("programs compiled")
        state = self.first_state(abstract)
        self.group.meet("state made")
        return run_training(self, compiled, state, dataset)

    def say(self, text: str) -> None:
        if self.first:
            print(text, flush=True)

    def check_resumable(self) -> None:
        """Refuses a workdir whose checkpoint was made by another config."""
        if self.store.latest() is None:
            return
        from surgmotion_jax.checkpoints.errors import CheckpointDamaged
        from surgmotion_jax.pretrain.setup.stored_config import with_later_fields

        try:
            manifest = self.store.read_manifest()
        except CheckpointDamaged:
            return  # restoring falls back to an earlier step, and checks that one's architecture
        saved = with_later_fields(manifest.config)
        differing = door.difference(saved, as_dict(self.config), (*RUN_SECTIONS, *RUN_FIELDS))
        if not differing:
            return
        listing = "\n  ".join(differing)
        reshaped = door.difference({"model": manifest.architecture}, {"model": architecture(self.config.model)})
        decoder = ("objective.decoder",) if self.config.objective.pixels else ()
        if reshaped or any(line.startswith(("objective.kind", *decoder)) for line in differing):
            raise ValueError(
                f"{self.workdir} holds checkpoints of another architecture (saved -> now):\n  {listing}\n"
                "Use another --workdir or undo the changes. Nothing was changed."
            )
        if self.config.run.accept_changes:
            self.say(f"resuming with changes:\n  {listing}")
            return
        raise ValueError(
            f"{self.workdir} holds a run of another config (saved -> now):\n  {listing}\n"
            "Use another --workdir, undo the changes, or set --config.run.accept_changes=True. Nothing was changed."
        )

    def plan_start(self) -> None:
        """Finds what a new run starts from, and refuses weights of another architecture before anything is compiled."""
        if self.store.latest() is not None or not self.config.init.checkpoint:
            return
        from surgmotion_jax.pretrain.setup.initial import plan_initial

        self.initial = plan_initial(self.config.init, self.config.model, self.config.objective.head)
        for line in self.initial.told:
            self.say(f"{'start':>12}  {line}")

    def open_data(self) -> Any:
        from surgmotion_jax.data import ClipDataset
        from surgmotion_jax.pretrain.setup.agreement import DATA, listing_facts

        dataset = ClipDataset(self.config.data, self.config.seed)
        self.group.agree(DATA, listing_facts(dataset))
        return dataset

    def open_probe(self) -> Any:
        """The labelled windows to probe, or None."""
        from surgmotion_jax.commands.pretrain_probe import read_probe_set
        from surgmotion_jax.pretrain.monitor.probing import probe_facts

        found = read_probe_set(self.config, self.layout)
        if found is not None:
            self.group.agree("probe listing", probe_facts(found))
        return found

    def announce(self, programs: Any, abstract: Any, dataset: Any) -> None:
        """Prints what is about to run and writes it beside the metrics."""
        from surgmotion_jax import storage
        from surgmotion_jax.data import describe
        from surgmotion_jax.pretrain.setup.machine import environment
        from surgmotion_jax.pretrain.setup.summary import summarise

        summary = summarise(self.config, self.layout, abstract, programs)
        for row in describe(dataset):
            summary[f"data {row['dataset']}"] = (
                f"{row['files']} files, {row['hours']:.2f} h, {row['clips_train']} training and {row['clips_heldout']} "
                f"held-out clips, {100 * row['share']:.0f} % of draws, {row['unreadable']} unreadable"
            )
        for label, text in summary.items():
            self.say(f"{label:>12}  {text}")
        for line in self.mesh_table:
            self.say(f"{'mesh':>12}  {line}")
        for fault in dataset.faults:
            self.say(f"{'unreadable':>12}  {fault.path}: {fault.reason}")
        if self.first:
            for name, content in (
                ("config.json", as_dict(self.config)),
                ("changes.json", door.changes(door.defaults(PretrainConfig).to_dict(), as_dict(self.config))),
                ("summary.json", summary),
                ("environment.json", environment(self.command)),
            ):
                storage.write_text_atomic(self.workdir / name, json.dumps(content, indent=1))

    def compile(self, programs: Any, probed: Any) -> Any:
        """Compiles every program before the first step, and says how many and how long."""
        from surgmotion_jax.commands.pretrain_probe import Probe
        from surgmotion_jax.commands.pretrain_training import Programs
        from surgmotion_jax.pretrain.monitor.heldout import compile_heldout_step
        from surgmotion_jax.pretrain.monitor.probing import compile_pooled_features
        from surgmotion_jax.pretrain.step import compile_train_step

        started = time.monotonic()
        steps = {p.name: compile_train_step(self.config, p, self.layout) for p in programs}
        heldout = compile_heldout_step(self.config, programs[len(programs) // 2], self.layout)
        probe = None
        if probed is not None:
            probe = Probe(self.config, self.layout, probed, compile_pooled_features(self.config, self.layout))
        analysis = next(iter(steps.values())).memory_analysis()
        temporaries = f", {analysis.temp_size_in_bytes / 1e9:.3f} GB temporaries per device" if analysis else ""
        seconds = time.monotonic() - started
        kinds = f"{len(steps)} training + 1 held-out program" + (" + 1 of the probe" if probe else "")
        self.say(f"{'compiled':>12}  {kinds} in {seconds:.1f} s{temporaries}")
        return Programs(programs, steps, heldout, probe)

    def first_state(self, abstract: Any) -> Any:
        """The newest sound checkpoint, or a fresh state (from `init.checkpoint` if given)."""
        from surgmotion_jax.pretrain.setup.initial import start_from
        from surgmotion_jax.pretrain.state import TrainState, create_state

        if self.store.latest() is not None:
            restored = self.store.restore(abstract, architecture=architecture(self.config.model))
            self.say(f"{'resumed':>12}  from step {restored.step} of {self.store.directory}")
            return TrainState(*restored.state)
        state = create_state(self.config, self.layout)
        if self.initial:
            state = start_from(self.initial, state)
            self.say(f"{'weights':>12}  from {self.initial.checkpoint}")
        return state

    def tensorboard(self) -> bool:
        """Whether to write for TensorBoard too. Raises ValueError where that is asked for and cannot be."""
        import importlib.util

        if self.config.run.tensorboard == "off":
            return False
        found = importlib.util.find_spec("tensorboardX") is not None
        if self.config.run.tensorboard == "on" and not found:
            raise ValueError(
                "run.tensorboard is 'on' but tensorboardX is not installed; pip install 'surgmotion-jax[tensorboard]'."
            )
        return found

    def batches(self, dataset: Any, first_step: int, event: Any, passed_over: int = 0) -> Iterator[Any]:
        """Global training batches from where `first_step` and rollbacks are in the data; unreadable files met on the
        way become events."""
        from surgmotion_jax.data import batches
        from surgmotion_jax.parallel.mesh import process_rows

        size = self.config.optim.batch
        rows = process_rows(self.layout, size)
        start, stop = first_step + passed_over, self.config.steps + passed_over
        source = batches(dataset, global_batch=size, rows=rows, start_step=start, stop_step=stop)
        with closing(source):  # type: ignore[type-var]
            for step, batch in enumerate(source, first_step):
                for fault in batch.skipped:
                    event(step, f"unreadable, replaced by another clip: {fault.path}: {fault.reason}")
                yield self.to_device(batch, size)

    def heldout_batches(self, dataset: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
        """Held-out batches on device, with the origins of their rows."""
        from surgmotion_jax.data import batches
        from surgmotion_jax.parallel.mesh import process_rows

        size, count = self.config.heldout.batch, self.config.heldout.clips // self.config.heldout.batch
        rows = process_rows(self.layout, size)
        for batch in batches(dataset, global_batch=size, rows=rows, start_step=0, stop_step=count, split="heldout"):
            yield self.to_device(batch, size), batch.origin

    def to_device(self, batch: Any, size: int) -> Any:
        from surgmotion_jax.parallel.mesh import to_global
        from surgmotion_jax.pretrain.objective import RawBatch

        return to_global(self.layout, RawBatch(batch.video_BxTxHxWx3, batch.valid_BxT, batch.index_B), size)
