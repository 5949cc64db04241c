"""A run whose batches are noted on their way: the sample numbers that this process fed to its devices."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import closing

import numpy as np

from surgmotion_jax.commands.pretrain import conclude, read_command_line
from surgmotion_jax.runs.inputs import gather
from surgmotion_jax.runs.pretraining import make_ready
from surgmotion_jax.runs.session import opened
from surgmotion_jax.runs.training import train_ready


class RecordedClips:
    """The clips of a run; `rows` are the sample numbers of each training batch that was taken, as this process has
    them."""

    def __init__(self, clips):
        self.clips, self.rows = clips, []

    def training(self, first_step, passed_over, event):
        with closing(self.clips.training(first_step, passed_over, event)) as source:
            for batch in source:
                self.rows.append(own_rows(batch.index_B))
                yield batch

    def heldout(self):
        return self.clips.heldout()


def own_rows(index_B):
    """The part of a sharded vector that lies on the devices of this process."""
    shards = {shard.index[0].start or 0: shard.data for shard in index_B.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def train_recorded(config, workdir):
    """Trains as the command does. Returns the ending and the recorded rows."""
    with opened(config, workdir) as session:
        ready, state = make_ready(session, gather(session))
        clips = RecordedClips(ready.clips)
        return train_ready(dataclasses.replace(ready, clips=clips), state), clips.rows


def main(record, argv):
    """The command, which also writes the recorded rows to a file."""
    try:
        config, workdir = read_command_line(argv)
        ending, rows = train_recorded(config, workdir)
    except ValueError as error:
        print(f"surgmotion: {error}", file=sys.stderr)
        return 2
    if rows:
        np.save(record, np.stack(rows))
    return conclude(ending, config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
