"""What must hold in a compiled step: weights sharded as the rules say, gathered once a pass, none before the model.

With `fsdp`, a layer's weights are gathered before they are used and their gradients scattered afterwards. More than
once a pass would be waste; all layers at once would undo the sharding.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import jax

from surgmotion_jax.models.parameters import Params
from surgmotion_jax.parallel.collectives import Collective
from surgmotion_jax.parallel.estimates import narrow_arrays
from surgmotion_jax.parallel.hlo import parse_module
from surgmotion_jax.parallel.mesh import MeshLayout
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.plan.cost import WIDTH
from surgmotion_jax.pretrain.state import TrainState
from surgmotion_jax.pretrain.step import abstract_training_batch

HLO_DTYPES = {"float32": "f32", "bfloat16": "bf16", "int32": "s32", "uint32": "u32", "uint8": "u8", "bool": "pred"}
MODELS = {"Encoder": "encoder", "Predictor": "predictor"}  # module -> parameters; pixels: "decoder"


@dataclass(frozen=True)
class Exchange:
    """Weights that one pass over a stack of blocks gathers or scatters, for each block."""

    model: str  # encoder, predictor or decoder
    work: str  # forward, recomputed, backward
    role: str  # gather, scatter, or reduce: gradients summed whole, then cut
    bytes: float  # received by a device for one block
    share: float  # of the block's sharded weights in the computation's dtype
    loop: str  # the compiler's name of the loop over blocks


@dataclass(frozen=True)
class Findings:
    """What the compiled text shows; all empty where nothing was compiled."""

    exchanges: tuple[Exchange, ...] = ()
    unexpected_arguments: tuple[str, ...] = ()  # arguments that are not shards of the state or batch as planned
    whole_gathers: tuple[str, ...] = ()  # gathers of more than one block's or one table's weights
    before_model: tuple[str, ...] = ()  # collectives in augmentation, saliency or masks
    narrow: tuple[str, ...] = ()  # float32 arrays in loops that a TPU pads to more than twice their size

    @property
    def sound(self) -> bool:
        return not (self.unexpected_arguments or self.whole_gathers or self.before_model)


def study(
    config: PretrainConfig, layout: MeshLayout, state: TrainState, text: str, found: Sequence[Collective]
) -> Findings:
    """Checks a compiled step. `found` are its collectives."""
    if not text:
        return Findings()
    # XLA gathers all weights of a block together for a GPU, and one by one for a TPU.
    largest_of = largest_block if layout.platform == "gpu" else largest_weight
    largest = max(*(largest_of(params) for params in (state.params, state.teacher) if params), 1)
    return Findings(
        exchanges=exchanges(config, state, found, layout.mesh.shape["tensor"]),
        unexpected_arguments=unexpected_arguments(config, layout, state, text),
        whole_gathers=tuple(
            f"{c.name}: {c.full_bytes} bytes over {', '.join(c.axes)} ({c.op_name})"
            for c in found
            if c.kind == "all-gather" and c.full_bytes > largest
        ),
        narrow=narrow_arrays(text) if layout.platform == "tpu" else (),
        before_model=tuple(f"{c.kind} {c.name} ({c.op_name})" for c in found if "/prepare/" in c.op_name),
    )


def block_shape(path: jax.tree_util.KeyPath, leaf: jax.Array) -> tuple[int, ...]:
    """Shape of a parameter within one block: stacked ones lose their leading axis."""
    stacked = any(getattr(key, "key", None) == "blocks" for key in path)
    return leaf.shape[1:] if stacked else leaf.shape


def largest_weight(params: Params) -> int:
    """Bytes, in float32, of the largest weight that a step may hold whole: one block's, or a table outside blocks."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return max(4 * math.prod(block_shape(path, leaf)) for path, leaf in leaves)


def largest_block(params: Params) -> int:
    """Bytes, in float32, of the largest block with all its weights, or of the largest table outside blocks."""
    sizes: Counter[str] = Counter()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        shape = block_shape(path, leaf)
        name = jax.tree_util.keystr(path)
        sizes[name.partition("blocks")[0] if shape != leaf.shape else name] += 4 * math.prod(shape)
    return max(sizes.values())


def sharded_block_bytes(params: Params, itemsize: int, tensor: int) -> int:
    """Bytes of one block's weights that `fsdp` shards, as gathered on one device."""
    blocks = params["trunk"]["blocks"]
    leaves = jax.tree_util.tree_leaves_with_path(blocks)
    sharded = [leaf for _, leaf in leaves if "fsdp" in jax.tree.leaves(tuple(leaf.sharding.spec))]
    return sum(math.prod(leaf.shape[1:]) for leaf in sharded) * itemsize // tensor


def exchanges(
    config: PretrainConfig, state: TrainState, found: Sequence[Collective], tensor: int
) -> tuple[Exchange, ...]:
    """Weights and gradients exchanged along fsdp in each loop over blocks, per block and kind of work."""
    models = MODELS | {"Predictor": config.objective.head}
    totals: dict[tuple[str, str, str, str], float] = {}
    for one in found:
        trunk = next((i for i, loop in enumerate(one.loops) if loop.op_name.endswith("trunk/while")), None)
        if trunk is None or one.axes != ("fsdp",):
            continue
        model = next((m for name, m in models.items() if re.search(rf"[(/]{name}[)/]", one.loops[trunk].op_name)), "")
        if model:
            inside = math.prod(loop.trips for loop in one.loops[trunk + 1 :])
            key = one.loops[trunk].body, model, work_of(one.op_name, one.loops[trunk].op_name), one.role
            totals[key] = totals.get(key, 0.0) + inside * one.wire_bytes
    whole = {m: sharded_block_bytes(state.params[m], WIDTH[config.model.dtype], tensor) for m in models.values()}
    return tuple(
        Exchange(model, work, role, total, total / whole[model], loop)
        for (loop, model, work, role), total in totals.items()
    )


def work_of(op_name: str, loop: str) -> str:
    """Which work an operation belongs to, by the scopes that differentiation leaves in its name and its loop's.

    Collectives that the compiler has rewritten have lost their own name.
    """
    if "rematted_computation" in op_name:
        return "recomputed"
    return "backward" if "transpose(" in op_name + loop else "forward"


def unexpected_arguments(config: PretrainConfig, layout: MeshLayout, state: TrainState, text: str) -> tuple[str, ...]:
    """Arguments of the compiled program that are not shards as the rules give them, such as a replicated weight."""
    batch = abstract_training_batch(config, layout)
    expected = Counter(
        f"{HLO_DTYPES[x.dtype.name]}[{','.join(map(str, x.sharding.shard_shape(x.shape)))}]"
        for x in jax.tree.leaves((state, batch))
    )
    return tuple((Counter(parse_module(text).entry_parameters()) - expected).elements())
