"""The same training step in PyTorch, from transformers' V-JEPA 2 modules, to compare ours with.

PyTorch is imported when a step is made. It does plain V-JEPA 2 as published:
patches embedded, context tokens gathered before the blocks and given their positions, predictor over context and mask
tokens, targets from the averaged encoder on all tokens, L1, AdamW, averaging. Where the modules do more than the work
asks for, the peer leaves it out: patches are embedded once for all mask sets, and the predictor's tokens are not
sorted, since attention does not see their order.

Letters: B batch, N tokens, K context tokens, M target tokens, C width.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import time
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from surgmotion_jax.models.reference_names import encoder_to_facebook, hugging_face_names, predictor_to_facebook
from surgmotion_jax.pretrain import schedules
from surgmotion_jax.pretrain.bench.timing import StepTime
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.losses.motion import MotionLossConfig
from surgmotion_jax.pretrain.losses.table import TERMS, settings_of
from tests.pretrain.given_step import Given

NEEDED = ("torch", "transformers")
TARGET_NORM_EPS = 1e-5  # PyTorch's default for a layer norm without parameters


def check_peer(config: PretrainConfig) -> None:
    """Raises ValueError if PyTorch is not installed, or the config asks for more than plain V-JEPA 2."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"the peer needs {' and '.join(missing)}, not installed here; pip install -e '.[torch]'.")
    motion, model = settings_of(config.loss, MotionLossConfig), config.model
    others = [name for name, settings in config.loss.items() if settings is not motion and not TERMS[name].error]
    extra = {
        "loss.motion.alpha": (motion.alpha, 0),
        **{f"loss.{name}.weight": (config.loss[name].weight, 0) for name in others},
        "loss.motion.scope": (motion.scope, "dense"),
        "loss.motion.weight": (motion.weight, 1),
        "objective.stop_gradient": (config.objective.stop_gradient, True),
        "model.positions": (model.positions, "rope_tiled"),
        "model.v21.levels": (model.v21.levels, 0),
        "optim.accumulate": (config.optim.accumulate, 1),
        "optim.clip": (config.optim.clip, 0),
        "optim.moments_dtype": (config.optim.moments_dtype, "float32"),
        "optim.offload": (config.optim.offload, False),
    }
    wrong = {name: (found, wanted) for name, (found, wanted) in extra.items() if found != wanted}
    if wrong:
        name, (found, _) = next(iter(wrong.items()))
        flags = " ".join(f"--config.{n}={wanted}" for n, (_, wanted) in wrong.items())
        raise ValueError(
            f"the peer does plain V-JEPA 2, but {name} is {found!r}; the same work on both sides needs {flags}."
        )


class TorchStep:
    """The peer's model, optimiser and given batch; calling it makes one step.

    It starts from `params`, ours as they are at the start, so that both must show the same loss step by step.
    `device` is PyTorch's name of where it runs. `compiled` has the networks compiled by torch.compile.
    """

    def __init__(
        self,
        config: PretrainConfig,
        params: Mapping[str, Any],
        given: Given,
        threads: int,
        device: str = "cpu",
        compiled: bool = False,
    ) -> None:
        import torch
        from transformers import VJEPA2Model

        torch.set_num_threads(threads)
        self.config, self.given, self.device = config, given, torch.device(device)
        model = VJEPA2Model(peer_config(config))
        model.load_state_dict(peer_weights(config, params), strict=True)
        self.model = model.to(self.device).train()
        self.target = copy.deepcopy(self.model.encoder).requires_grad_(False)
        self.steps, self.loss = 0, float("nan")  # finished; of the latest step
        self.optimizer = self._optimizer()
        self._encode, self._predict = encode, predict
        if compiled:
            self._encode, self._predict = torch.compile(encode), torch.compile(predict)

    def _optimizer(self) -> Any:
        import torch

        decayed: list[Any] = []
        others: list[Any] = []
        for name, weight in self.model.named_parameters():
            (decayed if weight.ndim > 1 and not name.endswith("bias") else others).append(weight)
        optim = self.config.optim
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True)

    def _schedule(self) -> float:
        """Sets learning rate and weight decay of this step; returns the momentum of averaging."""
        at = jnp.asarray(self.steps), self.config.optim, self.config.steps
        for group in self.optimizer.param_groups:
            group["lr"] = float(schedules.learning_rate(*at))
        self.optimizer.param_groups[0]["weight_decay"] = float(schedules.weight_decay(*at))
        return float(schedules.ema_momentum(*at))

    def __call__(self) -> StepTime:
        momentum = self._schedule()
        started, cpu = time.perf_counter(), time.process_time()
        pixels, masks = self._place()
        self._wait()
        there = time.perf_counter()
        loss = self._train(pixels, masks)
        self._average(momentum)
        self._wait()
        ended = time.perf_counter()
        spent = time.process_time() - cpu
        self.steps, self.loss = self.steps + 1, loss.item()
        return StepTime(0.0, there - started, ended - there, spent)

    def _place(self) -> tuple[Any, list[tuple[Any, Any]]]:
        """The clips as transformers takes them, [B,T,3,H,W], and the token numbers, on the device."""
        import torch

        pixels = torch.from_numpy(self.given.video_BxTxHxWx3).to(self.device).permute(0, 1, 4, 2, 3).contiguous()
        ids = [
            tuple(torch.from_numpy(np.asarray(side, np.int64)).to(self.device) for side in mask)
            for mask in self.given.masks
        ]
        return pixels, ids  # type: ignore[return-value]

    def _wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _train(self, pixels: Any, masks: list[tuple[Any, Any]]) -> Any:
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        with self._precision():
            with torch.no_grad():
                tokens = self._encode(self.target, self.target.embeddings(pixels), None)
                targets = torch.nn.functional.layer_norm(tokens, tokens.shape[-1:], eps=TARGET_NORM_EPS)
            patches = self.model.encoder.embeddings(pixels)
            index = self.config.model.predictor.mask_index
            losses = []
            for context_ids, target_ids in masks:
                context = self._encode(self.model.encoder, gather(patches, context_ids), context_ids)
                predicted = self._predict(self.model.predictor, context, context_ids, target_ids, index)
                losses.append((predicted.float() - gather(targets, target_ids).float()).abs().mean())
            loss = torch.stack(losses).mean()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _precision(self) -> Any:
        import torch

        if self.config.model.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _average(self, momentum: float) -> None:
        import torch

        with torch.no_grad():
            kept, online = list(self.target.parameters()), list(self.model.encoder.parameters())
            torch._foreach_mul_(kept, momentum)
            torch._foreach_add_(kept, online, alpha=1 - momentum)


def peer_weights(config: PretrainConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """Our parameters as PyTorch tensors by transformers' names."""
    model = config.model
    weights = encoder_to_facebook(params["encoder"], model.patch, model.tubelet, "encoder.")
    weights |= predictor_to_facebook(params["predictor"], "predictor.")
    return _tensors(weights)


def peer_encoder_weights(config: PretrainConfig, params: Any) -> dict[str, Any]:
    """Those of an encoder alone, by transformers' names within it."""
    prefix = "encoder."
    named = _tensors(encoder_to_facebook(params, config.model.patch, config.model.tubelet, prefix))
    return {name.removeprefix(prefix): value for name, value in named.items()}


def _tensors(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in hugging_face_names(weights).items()}


def peer_config(config: PretrainConfig) -> Any:
    """transformers' configuration of the same networks, with its fused attention."""
    from transformers import VJEPA2Config

    model, encoder, predictor = config.model, config.model.encoder, config.model.predictor_trunk
    return VJEPA2Config(
        patch_size=model.patch,
        crop_size=config.augment.crop,
        frames_per_clip=config.data.frames,
        tubelet_size=model.tubelet,
        hidden_size=encoder.width,
        num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.heads,
        mlp_ratio=encoder.mlp / encoder.width,
        layer_norm_eps=encoder.norm_eps,
        pred_hidden_size=predictor.width,
        pred_num_hidden_layers=predictor.depth,
        pred_num_attention_heads=predictor.heads,
        pred_mlp_ratio=predictor.mlp / predictor.width,
        pred_num_mask_tokens=model.predictor.mask_tokens,
        attn_implementation="sdpa",
    )


def gather(x_BxNxC: Any, ids_BxK: Any) -> Any:
    """Rows `ids` of each example: [B,K,C]."""
    return x_BxNxC.gather(1, ids_BxK.unsqueeze(-1).expand(-1, -1, x_BxNxC.shape[-1]))


def encode(encoder: Any, x_BxKxC: Any, ids_BxK: Any) -> Any:
    """Embedded tokens through the blocks and the last norm; `ids` None: all tokens in order."""
    for layer in encoder.layer:
        x_BxKxC = layer(x_BxKxC, ids_BxK)[0]
    return encoder.layernorm(x_BxKxC)


def predict(predictor: Any, context_BxKxC: Any, context_ids: Any, target_ids: Any, mask_index: int) -> Any:
    """Predicted features of the target tokens, [B,M,C]."""
    import torch

    x = predictor.embeddings.predictor_embeddings(context_BxKxC)
    masked = predictor.embeddings.mask_tokens[mask_index].to(x.dtype).expand(*target_ids.shape, -1)
    x, ids = torch.cat([x, masked], 1), torch.cat([context_ids, target_ids], 1)
    for layer in predictor.layer:
        x = layer(x, ids)[0]
    return predictor.proj(predictor.layernorm(x[:, context_ids.shape[1] :]))
