"""A pass through the model: the attention of its form, logits where there are targets, and the summed loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from sqlora.training.packing import packed_batches


def loss_sum(model, inputs: packed_batches.PackedBatch, base) -> torch.Tensor:
    """The cross entropy summed over the targets of one pass, a scalar of float32 or wider.

    `model` is called, whatever is wrapped around `base`, its causal language model. Divided by the number of targets in
    an optimiser step, and summed over its passes, this is the loss of the padded batches.
    """
    mask = inputs.get("attention_mask")
    if "ends" in inputs:
        on_cpu = inputs["ends"].device.type == "cpu"
        mask = (packed_batches.tree_mask if on_cpu else packed_batches.tree_block_mask)(inputs["ends"])
    places = {"position_ids": inputs["position_ids"]} if "position_ids" in inputs else {}
    with _head_sees(base, inputs["places"]):
        logits = model(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False, **places).logits[0]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = torch.nn.functional.cross_entropy(logits, inputs["targets"], reduction="none")
    return (losses * inputs["weights"]).sum()


@contextlib.contextmanager
def _head_sees(base, places: torch.Tensor) -> Iterator[None]:
    """Within it the model's logits are those of `places` alone, int64 [targets] of the flattened tokens: [1, targets,
    size].

    They are made by the model's own forward, which may scale or cap them (Granite, Cohere, Gemma 2). Not by its
    argument logits_to_keep, which transformers 4.34 has not.
    """

    def pick(module, arguments: tuple) -> tuple:
        return (arguments[0].flatten(0, 1)[places][None], *arguments[1:])

    hook = base.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()
