"""Floating-point operations of the models' matrix products, forward, for one clip; a multiply and an add count as two.

Norms, softmax, positions and biases are left out: they are under two percent at the widths of released models. The
products of a scanned stack are counted for every block, which XLA's own cost analysis does not do.

Letters: N tokens, C width, M hidden width, P values of a patch.
"""

from __future__ import annotations

from surgmotion_jax.models.config import ModelConfig, TransformerConfig


def block_flops(c: TransformerConfig, tokens: int) -> int:
    """One block on N tokens: 8 N C^2 for qkv and output, 4 N^2 C for attention, 4 N C M for the MLP."""
    return 8 * tokens * c.width**2 + 4 * tokens**2 * c.width + 4 * tokens * c.width * c.mlp


def trunk_flops(c: TransformerConfig, tokens: int) -> int:
    """All blocks on N tokens."""
    return c.depth * block_flops(c, tokens)


def embed_flops(config: ModelConfig, tokens: int) -> int:
    """Patches to tokens: 2 N P C."""
    return 2 * tokens * config.patch_values * config.encoder.width


def encoder_flops(config: ModelConfig, tokens: int) -> int:
    """The encoder on N tokens, chosen before its first block."""
    return embed_flops(config, tokens) + trunk_flops(config.encoder, tokens)


def predictor_flops(config: ModelConfig, context: int, target: int, embed: int, visible: bool = False) -> int:
    """The predictor: context features in, at a cost of `embed`, target features out; its blocks see both.

    If `visible`, features of the context are predicted too.
    """
    c = config.predictor_trunk
    predicted = target + context * visible
    return embed + trunk_flops(c, context + target) + 2 * predicted * c.width * config.target_width


def recomputed_flops(c: TransformerConfig, tokens: int) -> int:
    """Products of a stack that backward computes again, for one clip. No gradient asks for the MLP's own output."""
    logits = c.depth * 2 * tokens**2 * c.width
    # What attention computes again where its output is kept: XLA's its logits, cuDNN everything, TPU kernels nothing.
    attention = {"xla": logits, "cudnn": 2 * logits}.get(c.attention, 0)
    if c.remat == "none":
        return 0
    if c.remat == "dots":  # products inside a fused kernel are not seen, so the kernel runs again
        return 0 if c.attention == "xla" else 2 * logits
    if c.remat == "projections":
        return attention
    whole = trunk_flops(c, tokens) - c.depth * 2 * tokens * c.width * c.mlp
    return whole - 2 * logits + attention if c.remat == "attention" else whole
