"""Attention of one query per row over slots that are filled to different lengths: a Triton kernel.

A row's keys are read once, up to its length, and those of the shared prefix by many rows together: a row's own part
continues from the softmax state that the prefix leaves (online softmax: Milakov and Gimelshein 2018, arXiv:1805.02867;
the prefix as a part of its own: Juravsky et al. 2024, arXiv:2402.05099).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import library

TILE = 16  # queries that the smallest matrix product takes
SHARED_TILE = 64  # queries that read the prefix together
POSITIONS = 64  # keys of a turn of the loop
WARPS, STAGES = 4, 2
LOG2_E = 1.4426950408889634


@triton.jit
def _attend(
    query,
    keys,
    values,
    lengths,
    begun,
    begun_sums,
    output,
    sums,
    slots,
    scaling,
    query_slot,
    query_head,
    key_slot,
    key_position,
    key_head,
    value_slot,
    value_position,
    value_head,  # strides
    GROUP: tl.constexpr,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    QUERIES: tl.constexpr,
    POSITIONS: tl.constexpr,
    SHARED: tl.constexpr,
    BEGUN: tl.constexpr,
):
    """A program takes ROWS rows and a head of keys, with the GROUP heads of queries that share it. `lengths` is a
    number with
    SHARED, else a tensor. `sums` and `begun_sums` are logarithms to the base 2 of the sums of the softmax."""
    first, head = tl.program_id(0) * ROWS, tl.program_id(1)
    number, part = tl.arange(0, QUERIES), tl.arange(0, WIDTH)
    slot, query_at = first + number // GROUP, head * GROUP + number % GROUP
    real = (number < ROWS * GROUP) & (slot < slots)
    within = part < SIZE
    ours = real[:, None] & within[None, :]
    q = tl.load(
        query + slot[:, None] * query_slot + query_at[:, None] * query_head + part[None, :], mask=ours, other=0.0
    )
    row = slot * tl.num_programs(1) * GROUP + query_at  # of output and sums
    if BEGUN:
        most = tl.load(begun_sums + row, mask=real, other=0.0)
        total = tl.full([QUERIES], 1.0, tl.float32)
        result = tl.load(begun + row[:, None] * SIZE + part[None, :], mask=ours, other=0.0).to(tl.float32)
    else:
        most = tl.full([QUERIES], -float("inf"), tl.float32)
        total = tl.zeros([QUERIES], tl.float32)
        result = tl.zeros([QUERIES, WIDTH], tl.float32)
    keys += head * key_head
    values += head * value_head
    if SHARED:
        length = lengths
    else:
        length = tl.load(lengths + first) + 1
        keys += first.to(tl.int64) * key_slot
        values += first.to(tl.int64) * value_slot
    for start in range(0, length, POSITIONS):
        positions = start + tl.arange(0, POSITIONS)
        there = positions < length
        k = tl.load(
            keys + positions[None, :] * key_position + part[:, None], mask=there[None, :] & within[:, None], other=0.0
        )
        scores = tl.where(there[None, :], tl.dot(q, k, input_precision="ieee") * scaling, -float("inf"))
        higher = tl.maximum(most, tl.max(scores, axis=1))
        weights = tl.exp2(scores - higher[:, None])
        decay = tl.exp2(most - higher)
        total = total * decay + tl.sum(weights, axis=1)
        v = tl.load(
            values + positions[:, None] * value_position + part[None, :],
            mask=there[:, None] & within[None, :],
            other=0.0,
        )
        result = result * decay[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        most = higher
    tl.store(
        output + row[:, None] * SIZE + part[None, :], (result / total[:, None]).to(output.dtype.element_ty), mask=ours
    )
    if SHARED:
        tl.store(sums + row, most + tl.log2(total), mask=real)


@library.custom_op("sqlora::attend_slots", mutates_args=())
def attend_slots(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    first_keys: torch.Tensor | None,
    first_values: torch.Tensor | None,
    scaling: float,
) -> torch.Tensor:
    """The output, [slots, heads, size], of queries of that shape.

    They attend to `keys` and `values`, [slots, slot size, key heads, size], up to position `lengths`, int64 [slots],
    and, if given, to those of the prefix, [key heads, tokens, size].

    All are of one dtype, float32 or shorter, with the numbers of a head adjacent; sums are kept in float32.
    kv_cache.reads_lengths says where the kernel can be used.
    """
    query = query if query.stride(-1) == 1 else query.contiguous()
    slots, heads, size = query.shape
    key_heads = keys.shape[2]
    group = heads // key_heads
    output = query.new_empty(query.shape)
    shared, sums = None, None
    kernel = {
        "GROUP": group,
        "SIZE": size,
        "WIDTH": max(TILE, triton.next_power_of_2(size)),
        "POSITIONS": POSITIONS,
        "num_warps": WARPS,
        "num_stages": STAGES,
    }
    if first_keys is not None and first_values is not None:
        shared, sums = torch.empty_like(output), output.new_empty((slots, heads), dtype=torch.float32)
        rows, first = (
            max(1, SHARED_TILE // group),
            [states.transpose(0, 1)[None] for states in (first_keys, first_values)],
        )
        _attend[(triton.cdiv(slots, rows), key_heads)](
            query,
            *first,
            first_keys.shape[1],
            None,
            None,
            shared,
            sums,
            slots,
            scaling * LOG2_E,
            *query.stride()[:2],
            *first[0].stride()[:3],
            *first[1].stride()[:3],
            ROWS=rows,
            QUERIES=max(TILE, triton.next_power_of_2(rows * group)),
            SHARED=True,
            BEGUN=False,
            **kernel,
        )
    _attend[(slots, key_heads)](
        query,
        keys,
        values,
        lengths,
        shared,
        sums,
        output,
        None,
        slots,
        scaling * LOG2_E,
        *query.stride()[:2],
        *keys.stride()[:3],
        *values.stride()[:3],
        ROWS=1,
        QUERIES=max(TILE, triton.next_power_of_2(group)),
        SHARED=False,
        BEGUN=shared is not None,
        **kernel,
    )
    return output


@attend_slots.register_fake
def _(query, keys, values, lengths, first_keys, first_values, scaling):
    return torch.empty_like(query, memory_format=torch.contiguous_format)
