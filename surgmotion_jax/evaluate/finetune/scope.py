"""Which parameters of an encoder are trained, and how much lower than the head's their rates are.

Letters: L blocks of the encoder, N of them trained.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from surgmotion_jax.checkpoints.tree import leaves_by_path, nest
from surgmotion_jax.evaluate.config import FinetuneConfig
from surgmotion_jax.models.parameters import Params

BLOCKS = "trunk/blocks/"  # whose leaves have a leading axis of blocks
NORMS = ("norm", "norms")  # after the last block, or after several


class Divided(NamedTuple):
    """The parameters of an encoder in two trees. Of the blocks' leaves each tree has its own blocks."""

    frozen: Params  # empty where all are trained
    trained: Params


def trained_blocks(blocks: str, depth: int) -> int | None:
    """N of `last:N`; None for `full`. Raises ValueError where the encoder has fewer blocks."""
    if blocks == "full":
        return None
    count = int(blocks.removeprefix("last:"))
    if count > depth:
        raise ValueError(
            f"finetune.blocks is {blocks}, but the encoder has {depth} blocks; give last:{depth} or less, or full"
        )
    return count


def check_encoder(settings: FinetuneConfig, depth: int | None) -> None:
    """Raises ValueError where there is no such encoder to train; `depth` is None for features of another."""
    if settings.trains and depth is None:
        raise ValueError(
            f"finetune.blocks is {settings.blocks}, but features of another encoder were given, through which nothing "
            "can be trained; give --checkpoint=PATH instead of --features, or finetune.blocks=none"
        )
    if settings.trains and depth is not None:
        trained_blocks(settings.blocks, depth)


def divided(params: Params, blocks: int | None) -> Divided:
    """The encoder's parameters by whether they are trained: with its last `blocks` blocks its norms are, too."""
    if blocks is None:
        return Divided({}, params)
    frozen, trained = {}, {}
    for path, leaf in leaves_by_path(params).items():
        if path.startswith(BLOCKS):
            frozen[path], trained[path] = leaf[:-blocks], leaf[-blocks:]
        elif path.partition("/")[0] in NORMS:
            trained[path] = leaf
        else:
            frozen[path] = leaf
    return Divided(nest(frozen), nest(trained))


def whole(parts: Divided) -> Params:
    """The encoder's parameters again."""
    frozen, trained = leaves_by_path(parts.frozen), leaves_by_path(parts.trained)
    both = {path: jnp.concatenate([frozen[path], trained[path]]) for path in frozen if path in trained}
    return nest({**frozen, **trained, **both})


def rate_shares(params: Params, decay: float, depth: int) -> Params:
    """What of the head's rate each parameter of `{"encoder": trained, "head": ...}` has, to be multiplied with it.

    As BEiT (arXiv 2106.08254) and MAE fine-tune: the head and the norms after the last block have all of it, block
    l = 1..L has decay ** (L + 1 - l), the embeddings decay ** (L + 1).
    """

    def share(path: jax.tree_util.KeyPath, leaf: jax.Array) -> jax.Array:
        part, _, name = jax.tree_util.keystr(path, simple=True, separator="/").partition("/")
        if part == "head" or name.partition("/")[0] in NORMS:
            return jnp.ones(())
        if not name.startswith(BLOCKS):
            return jnp.asarray(decay ** (depth + 1))
        count = leaf.shape[0]
        return (decay ** jnp.arange(count, 0, -1.0)).reshape(count, *[1] * (leaf.ndim - 1))

    return jax.tree_util.tree_map_with_path(share, params)  # type: ignore[no-any-return]
