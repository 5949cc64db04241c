"""Small random weights under the names of the PyTorch releases, written out by hand so that tests hold us to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sizes:
    """A V-JEPA 2 small enough for any test."""

    width: int = 48
    depth: int = 3
    heads: int = 3
    mlp: int = 192
    patch: int = 8
    tubelet: int = 2
    predictor_width: int = 32
    predictor_depth: int = 2
    predictor_heads: int = 2
    mask_tokens: int = 3
    classes: int = 5


TINY = Sizes()


class Draw:
    """Random tensors: matrices small, biases and norms far from their initial values."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int, scale: float = 0.1) -> np.ndarray:
        return self.rng.normal(0, scale, shape).astype(np.float32)

    def linear(self, name: str, out: int, into: int) -> Arrays:
        return {f"{name}.weight": self.normal(out, into), f"{name}.bias": self.normal(out)}

    def norm(self, name: str, width: int) -> Arrays:
        return {f"{name}.weight": 1 + self.normal(width), f"{name}.bias": self.normal(width)}

    def block(self, name: str, width: int, mlp: int) -> Arrays:
        return {
            **self.norm(f"{name}.norm1", width),
            **self.linear(f"{name}.attn.qkv", 3 * width, width),
            **self.linear(f"{name}.attn.proj", width, width),
            **self.norm(f"{name}.norm2", width),
            **self.linear(f"{name}.mlp.fc1", mlp, width),
            **self.linear(f"{name}.mlp.fc2", width, mlp),
        }


def facebook_encoder(sizes: Sizes = TINY, seed: int = 0) -> Arrays:
    """An encoder under bare facebookresearch names."""
    draw = Draw(seed)
    out = {
        "patch_embed.proj.weight": draw.normal(sizes.width, 3, sizes.tubelet, sizes.patch, sizes.patch),
        "patch_embed.proj.bias": draw.normal(sizes.width),
    }
    for i in range(sizes.depth):
        out |= draw.block(f"blocks.{i}", sizes.width, sizes.mlp)
    return out | draw.norm("norm", sizes.width)


def facebook_predictor(sizes: Sizes = TINY, seed: int = 1) -> Arrays:
    """A predictor under bare facebookresearch names."""
    draw, width = Draw(seed), sizes.predictor_width
    out = draw.linear("predictor_embed", width, sizes.width)
    out |= {f"mask_tokens.{i}": draw.normal(1, 1, width) for i in range(sizes.mask_tokens)}
    for i in range(sizes.predictor_depth):
        out |= draw.block(f"predictor_blocks.{i}", width, 4 * width)
    return out | draw.norm("predictor_norm", width) | draw.linear("predictor_proj", sizes.width, width)


def facebook_probe(sizes: Sizes = TINY, seed: int = 2, blocks: int = 3) -> Arrays:
    """An attentive classifier under bare facebookresearch names."""
    draw, width = Draw(seed), sizes.width
    out = {"pooler.query_tokens": draw.normal(1, 1, width)}
    cross = "pooler.cross_attention_block"
    out |= draw.norm(f"{cross}.norm1", width)
    out |= draw.linear(f"{cross}.xattn.q", width, width) | draw.linear(f"{cross}.xattn.kv", 2 * width, width)
    out |= draw.norm(f"{cross}.norm2", width)
    out |= draw.linear(f"{cross}.mlp.fc1", 4 * width, width) | draw.linear(f"{cross}.mlp.fc2", width, 4 * width)
    for i in range(blocks):
        out |= draw.block(f"pooler.blocks.{i}", width, 4 * width)
    return out | draw.linear("linear", sizes.classes, width)


def prefixed(prefix: str, weights: Arrays) -> Arrays:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def _transformers_blocks(weights: Arrays, old: str, new: str, depth: int) -> Arrays:
    out: Arrays = {}
    for i in range(depth):
        for kind in ("weight", "bias"):
            thirds = np.split(weights[f"{old}.{i}.attn.qkv.{kind}"], 3)
            for part, value in zip(("query", "key", "value"), thirds, strict=True):
                out[f"{new}.{i}.attention.{part}.{kind}"] = value
            out[f"{new}.{i}.attention.proj.{kind}"] = weights[f"{old}.{i}.attn.proj.{kind}"]
            for same in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                out[f"{new}.{i}.{same}.{kind}"] = weights[f"{old}.{i}.{same}.{kind}"]
    return out


def transformers_model(sizes: Sizes = TINY, seed: int = 0) -> Arrays:
    """The weights of `facebook_encoder` and `facebook_predictor` under the names of `VJEPA2Model`."""
    encoder, predictor = facebook_encoder(sizes, seed), facebook_predictor(sizes, seed + 1)
    renames = {
        "encoder.embeddings.patch_embeddings.proj": (encoder, "patch_embed.proj"),
        "encoder.layernorm": (encoder, "norm"),
        "predictor.embeddings.predictor_embeddings": (predictor, "predictor_embed"),
        "predictor.layernorm": (predictor, "predictor_norm"),
        "predictor.proj": (predictor, "predictor_proj"),
    }
    out = {f"{new}.{kind}": weights[f"{old}.{kind}"] for new, (weights, old) in renames.items() for kind in KINDS}
    tokens = [predictor[f"mask_tokens.{i}"] for i in range(sizes.mask_tokens)]
    out["predictor.embeddings.mask_tokens"] = np.stack(tokens)
    out |= _transformers_blocks(encoder, "blocks", "encoder.layer", sizes.depth)
    return out | _transformers_blocks(predictor, "predictor_blocks", "predictor.layer", sizes.predictor_depth)


KINDS = ("weight", "bias")


def transformers_config(sizes: Sizes = TINY, **more: object) -> dict[str, object]:
    """`config.json` of `transformers_model`."""
    return {
        "model_type": "vjepa2",
        "architectures": ["VJEPA2Model"],
        "patch_size": sizes.patch,
        "crop_size": 4 * sizes.patch,
        "frames_per_clip": 4 * sizes.tubelet,
        "tubelet_size": sizes.tubelet,
        "hidden_size": sizes.width,
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.depth,
        "mlp_ratio": sizes.mlp / sizes.width,
        "pred_hidden_size": sizes.predictor_width,
        "pred_num_attention_heads": sizes.predictor_heads,
        "pred_num_hidden_layers": sizes.predictor_depth,
        "pred_num_mask_tokens": sizes.mask_tokens,
        **more,
    }


def transformers_probe(sizes: Sizes = TINY, seed: int = 2) -> Arrays:
    """The weights of `facebook_probe` under the names of `VJEPA2ForVideoClassification`'s head."""
    weights, out = facebook_probe(sizes, seed), {}
    ours, theirs = "pooler.cross_attention_block", "pooler.cross_attention_layer"
    same = {"norm1": "layer_norm1", "norm2": "layer_norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for kind in KINDS:
        k, v = np.split(weights[f"{ours}.xattn.kv.{kind}"], 2)
        cross = {"q": weights[f"{ours}.xattn.q.{kind}"], "k": k, "v": v}
        out |= {f"{theirs}.cross_attn.{part}_proj.{kind}": value for part, value in cross.items()}
        out |= {f"{theirs}.{new}.{kind}": weights[f"{ours}.{old}.{kind}"] for old, new in same.items()}
        for i in range(3):
            block, layer = f"pooler.blocks.{i}", f"pooler.self_attention_layers.{i}"
            thirds = np.split(weights[f"{block}.attn.qkv.{kind}"], 3)
            out |= {f"{layer}.self_attn.{p}_proj.{kind}": t for p, t in zip("qkv", thirds, strict=True)}
            out[f"{layer}.self_attn.out_proj.{kind}"] = weights[f"{block}.attn.proj.{kind}"]
            out |= {f"{layer}.{new}.{kind}": weights[f"{block}.{old}.{kind}"] for old, new in same.items()}
        out[f"classifier.{kind}"] = weights[f"linear.{kind}"]
    return out | {"pooler.query_tokens": weights["pooler.query_tokens"]}


def facebook21_encoder(sizes: Sizes = TINY, seed: int = 0, levels: int = 3) -> Arrays:
    """A V-JEPA 2.1 encoder: an image tokenizer, modality embeddings, a norm for each of several levels."""
    draw, out = Draw(seed + 100), facebook_encoder(sizes, seed)
    out = {name: value for name, value in out.items() if not name.startswith("norm.")}
    out["patch_embed_img.proj.weight"] = draw.normal(sizes.width, 3, 1, sizes.patch, sizes.patch)
    out["patch_embed_img.proj.bias"] = draw.normal(sizes.width)
    out |= {f"{kind}_mod_embed": draw.normal(1, 1, sizes.width) for kind in ("img", "video")}
    for i in range(levels):
        out |= draw.norm(f"norms_block.{i}", sizes.width)
    return out
