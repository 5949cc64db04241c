"""Converts a random file of a real model's size and prints what it cost; run as a program, in a process of its own.

usage: python large_weights.py SIZE FOLDER
"""

import json
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import torch_files

from surgmotion_jax.checkpoints.foreign.safetensors_file import write_safetensors
from surgmotion_jax.checkpoints.foreign.weight_files import open_weights
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.weights import save_weights

SIZES = {  # width, depth, MLP width of the encoder; the predictor is 384 wide and 12 deep (arXiv 2506.09985)
    "tiny": (64, 2, 256),
    "vit_l": (1024, 24, 4096),
    "vit_g": (1408, 40, 6144),
}


def shapes(width, depth, mlp, prefix=""):
    """Name -> shape of the linear layers of a transformer, which are nearly all its weights."""
    block = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (mlp, width)}
    block["mlp.fc2"] = (width, mlp)
    return {f"{prefix}blocks.{i}.{part}.weight": shape for i in range(depth) for part, shape in block.items()}


def write_random(path, size):
    """A .pt of encoder, predictor and target encoder, one storage written at a time; returns its bytes of tensors."""
    sections = {
        "encoder": shapes(*SIZES[size]),
        "predictor": shapes(384, 12, 1536, "predictor_"),
        "target_encoder": shapes(*SIZES[size]),
    }
    generator, total, value = np.random.default_rng(0), 0, {}
    with zipfile.ZipFile(path, "w") as archive:
        for section, names in sections.items():
            value[section] = {}
            for name, shape in names.items():
                array = generator.standard_normal(shape, np.float32)
                value[section][name] = torch_files.Tensor(np.broadcast_to(np.float32(0), shape), f"{section}.{name}")
                with archive.open(f"archive/data/{section}.{name}", "w", force_zip64=True) as file:
                    file.write(array.data.cast("B"))
                total += array.nbytes
        archive.writestr("archive/data.pkl", torch_files.pickled(value))
    return total


def stacked(section):
    """The leaves of a section: one a kind of layer, with the blocks along the first axis, made when called."""
    names = {}
    for name in section:
        before, _, rest = name.partition("blocks.")
        names.setdefault(f"{before}{rest.partition('.')[2]}", []).append(name)

    def make(layers):
        return lambda: np.stack([section[layer].read().T for layer in layers])

    return {kind.replace(".", "_"): make(layers) for kind, layers in names.items()}


class AnonymousMemory(threading.Thread):
    """Samples this process's anonymous memory; `peak` is the most seen, in bytes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self.done = 0, threading.Event()
        self.start()

    def run(self):
        while not self.done.wait(0.005):
            status = Path("/proc/self/status").read_text()
            self.peak = max(self.peak, 1024 * int(status.partition("RssAnon:")[2].split()[0]))

    def stop(self):
        self.done.set()
        self.join()
        return self.peak


def measured(action):
    memory, wall, cpu = AnonymousMemory(), time.perf_counter(), time.process_time()
    action()
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    return {"peak": memory.stop(), "seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1)}


def main(size, folder):
    folder = Path(folder)
    total = write_random(folder / "model.pt", size)

    def convert():
        sections = open_weights(folder / "model.pt").sections
        params = {"encoder": stacked(sections["encoder"]), "predictor": stacked(sections["predictor"])}
        leaves = {"params": params, "target": {"encoder": stacked(sections["target_encoder"])}}
        save_weights(folder / "ours", leaves, ManifestFields("weights", {}, {}))

    def export():
        sections = open_weights(folder / "model.pt").sections
        tensors = {f"{s}.{name}": tensor.read for s, table in sections.items() for name, tensor in table.items()}
        write_safetensors(folder / "model.safetensors", tensors, {})

    # The export first: what the conversion has freed can still count as the process's own.
    print(json.dumps({"written": total, "safetensors": measured(export), "checkpoint": measured(convert)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
