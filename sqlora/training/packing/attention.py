"""Attention over packed rows: a tree of shared prefixes (FlexAttention), or one prefix of several rows (SDPA)."""

from __future__ import annotations

import contextlib

import torch
from transformers.models.llama.modeling_llama import repeat_kv

from sqlora.model.transformers_compat import AttentionInterface
from sqlora.training.packing.packed_batches import with_copies

TREE_ATTENTION, PREFIX_ATTENTION = "sqlora_tree", "sqlora_prefix"
_flex = None


def tree_attention(module, query, key, value, attention_mask, scaling=None, **_):
    """FlexAttention, as transformers calls it: query [1, heads, length, head size], mask a BlockMask."""
    from torch.nn.attention.flex_attention import flex_attention

    flex = flex_attention if torch.compiler.is_compiling() else _compiled_flex()
    output = flex(
        query,
        with_copies(key, 2),
        with_copies(value, 2),
        block_mask=attention_mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        # A tree fills its blocks; kernels for any length do not know it, and take 1.4 times as long (H200).
        kernel_options={"IS_DIVISIBLE": True},
    )
    return output.transpose(1, 2).contiguous(), None


def prefix_attention(module, query, key, value, attention_mask, scaling=None, **keywords):
    """Attention over a shared prefix of P tokens and R rows of S tokens, all in one sequence of P + R * S tokens.

    The mask is bool [1, 1, S, P + S]. The keys of a row are those of the prefix, expanded, and its own.
    """
    key, value = (repeat_kv(states, module.num_key_value_groups) for states in (key, value))
    length, seen = attention_mask.shape[-2:]
    prefix, dtype = seen - length, value.dtype
    on_cpu = value.device.type == "cpu"
    if on_cpu and dtype == torch.bfloat16:  # its backward pass takes twice as long as float32's there
        query, key, value = query.float(), key.float(), value.float()

    def by_row(states):  # [1, heads, P + R * S, size] -> [1, heads, P, size] and [R, heads, S, size]
        shared, own = states.split((prefix, states.shape[2] - prefix), dim=2)
        return shared, own.unflatten(2, (-1, length))[0].transpose(0, 1)

    (query_shared, query_own), (key_shared, key_own), (value_shared, value_own) = map(by_row, (query, key, value))
    rows = len(query_own)
    keys, values = (
        torch.cat([shared.expand(rows, -1, -1, -1), own], dim=2)
        for shared, own in ((key_shared, key_own), (value_shared, value_own))
    )
    attend = torch.nn.functional.scaled_dot_product_attention
    # without autocast, which would convert to bfloat16 again
    with torch.autocast("cpu", enabled=False) if on_cpu else contextlib.nullcontext():
        output = (
            attend(query_own, keys, values, attn_mask=attention_mask, scale=scaling).transpose(1, 2).flatten(0, 1)[None]
        )
        if prefix:
            first = attend(query_shared, key_shared, value_shared, is_causal=True, scale=scaling).transpose(1, 2)
            output = torch.cat([first, output], dim=1)
    return output.to(dtype), None


def _compiled_flex():
    """FlexAttention, compiled: uncompiled it would compute the [length, length] scores that it is meant to avoid."""
    global _flex
    if _flex is None:
        from torch.nn.attention.flex_attention import flex_attention

        _flex = torch.compile(flex_attention, dynamic=True)
    return _flex


AttentionInterface.register(TREE_ATTENTION, tree_attention)
AttentionInterface.register(PREFIX_ATTENTION, prefix_attention)
