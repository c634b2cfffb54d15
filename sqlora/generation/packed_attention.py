"""Attention of prompts that stand one behind the other, by the FlashAttention that torch has for NVIDIA's GPUs."""

from __future__ import annotations

import torch

ALIGNED = 8  # numbers of a head, a multiple of which FlashAttention takes


def attend_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    first_key: torch.Tensor | None,
    first_value: torch.Tensor | None,
    starts: torch.Tensor,
    longest: int,
    scaling: float,
) -> torch.Tensor:
    """The output, [1, tokens, heads, size], of a query [1, heads, tokens, size].

    A token sees those before it in its own row, `key` and `value` [1, key heads, tokens, size], and all of the prefix,
    if given, [1, key heads, its tokens, size]. Row i begins at `starts` [i], int32 [rows + 1], and none is longer than
    `longest`. The two parts are weighted by the sums of their softmax, as in kv_cache_attention.
    """
    flash, size = torch.ops.aten._flash_attention_forward, query.shape[-1]

    def by_token(states: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(states.transpose(1, 2), (0, -size % ALIGNED))

    query, key, value = map(by_token, (query, key, value))
    # At least 2, since for one query a row it takes another way.
    most = max(longest, 2)
    output, sums, *_ = flash(query[0], key[0], value[0], starts, starts, most, most, 0.0, True, False, scale=scaling)
    if first_key is not None and first_value is not None:
        shared, shared_sums, *_ = flash(
            query,
            by_token(first_key),
            by_token(first_value),
            None,
            None,
            query.shape[1],
            first_key.shape[2],
            0.0,
            False,
            False,
            scale=scaling,
        )
        share = torch.sigmoid(shared_sums[0] - sums).T[:, :, None]
        output = torch.lerp(output.float(), shared[0].float(), share).to(query.dtype)
    return output[None, :, :, :size]
