"""The forward pass of a packed batch: its mask, logits only for targets, and the summed loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from sqlora.training.packing import packed_batches


def loss_sum(model, inputs: packed_batches.PackedBatch, base) -> torch.Tensor:
    """The cross entropy summed over the targets of a packed batch, a scalar of float32 or wider.

    `model` is called, whatever wraps `base`, its causal language model. Divided by the number of targets of an
    optimiser step and summed over its packed batches, this is the loss of padded batches.
    """
    mask = inputs.get("attention_mask")
    if "ends" in inputs:
        on_cpu = inputs["ends"].device.type == "cpu"
        mask = (packed_batches.tree_mask if on_cpu else packed_batches.tree_block_mask)(inputs["ends"])
    positions = {"position_ids": inputs["position_ids"]} if "position_ids" in inputs else {}
    with _logits_only_for(base, inputs["target_indices"]):
        logits = model(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False, **positions).logits[0]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = torch.nn.functional.cross_entropy(logits, inputs["targets"], reduction="none")
    return (losses * inputs["weights"]).sum()


@contextlib.contextmanager
def _logits_only_for(base, token_indices: torch.Tensor) -> Iterator[None]:
    """Restricts the model's logits to `token_indices`, int64 [targets] of the flattened tokens: [1, targets, size].

    The model's own forward computes them, since it may scale or cap them (Granite, Cohere, Gemma 2). Its argument
    logits_to_keep is not used, since transformers 4.34 lacks it.
    """

    def pick(module, arguments: tuple) -> tuple:
        return (arguments[0].flatten(0, 1)[token_indices][None], *arguments[1:])

    hook = base.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()
