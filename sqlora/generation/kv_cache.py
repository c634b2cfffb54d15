"""A slotted KV cache for continuous batching: one fixed-size slot per sequence, each filled to its own length.

A sequence's tokens start at the beginning of its slot, so that sequences of all lengths are decoded together, and the
slot of one that has ended takes the next. The prefix of all prompts is computed once. Where attention can read it for
many sequences at once it is stored once, outside the slots; elsewhere it is copied into each slot that is filled.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sqlora.model.transformers_compat import AttentionInterface, has_triton
from sqlora.system.console import note
from sqlora.system.errors import one_line

ATTENTION = "sqlora_slots"
KERNEL_SINCE = (8, 0)  # compute capability of the first NVIDIA GPUs whose shared memory holds the kernel's tiles
KERNEL_HEAD_MOST = 128  # size of heads up to which they do
TRIED = 16  # slots and tokens of a trial, for which the kernel is compiled as for larger numbers
KEEP, FILL, APPEND = "keep", "fill", "append"


@dataclass
class ForwardStep:
    """What a forward pass does with the cache, the same for all layers.

    KEEP: its one row is the prefix. FILL: its rows follow the prefix. Where that is stored outside the slots they stand
    one behind the other, and token i is stored at `places` [i] of each of `slots` [i], int64 [tokens, copies];
    elsewhere they are padded on the right, and row i is stored in each of `slots` [i], int64 [rows, copies]. APPEND:
    it has a token for each slot, stored at position `lengths`, int64 [slots]; attention sees only positions before
    `window`, or all with None.
    """

    kind: str = KEEP
    slots: torch.Tensor | None = None
    places: torch.Tensor | None = None
    lengths: torch.Tensor | None = None
    window: int | None = None


@dataclass
class Layer:
    """A decoder layer's part of the cache, its past_key_values.

    `keys`, `values`: [slots, slot size, key heads, head size]; of the prefix: [1, key heads, tokens, head size].
    """

    keys: torch.Tensor
    values: torch.Tensor
    every: torch.Tensor  # the slots' indices
    now: ForwardStep
    prefix_outside: bool  # whether the prefix is stored once, outside the slots
    prefix: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_):
        """Stores what the layer computed, [rows, key heads, length, head size]; returns what its queries attend to."""
        keys, values = keys.to(self.keys.dtype), values.to(self.values.dtype)
        if self.now.kind == KEEP:
            self.prefix = keys, values
            return keys, values
        first = self.prefix if self.prefix_outside and self.prefix else (None, None)
        if self.now.kind == APPEND:
            self.keys[self.every, self.now.lengths] = keys[:, :, 0]
            self.values[self.every, self.now.lengths] = values[:, :, 0]
            keys, values = self.keys, self.values
            if self.now.window is not None:
                keys, values = keys[:, : self.now.window], values[:, : self.now.window]
            return (keys, first[0]), (values, first[1])
        assert self.now.slots is not None
        if self.prefix_outside:
            for slots in self.now.slots.unbind(dim=1):
                self.keys[slots, self.now.places] = keys[0].transpose(0, 1)
                self.values[slots, self.now.places] = values[0].transpose(0, 1)
            return (keys, first[0]), (values, first[1])
        if self.prefix:
            keys, values = (
                torch.cat([states.expand(len(keys), -1, -1, -1), own], dim=2)
                for states, own in zip(self.prefix, (keys, values), strict=True)
            )
        for slots in self.now.slots.unbind(dim=1):
            self.keys[slots, : keys.shape[2]] = keys.transpose(1, 2)
            self.values[slots, : values.shape[2]] = values.transpose(1, 2)
        return keys, values


@dataclass
class SlotCache:
    """A slotted KV cache: keys and values of all layers, for `slots` sequences of at most `slot_size` tokens each.

    `config` is the configuration of a Llama-like model.
    """

    config: Any
    slots: int
    slot_size: int
    dtype: torch.dtype
    device: torch.device
    now: ForwardStep = field(default_factory=ForwardStep)

    def __post_init__(self) -> None:
        heads, size = shape_of_keys(self.config)
        self.prefix_outside = reads_lengths(self.device, self.dtype, size)
        dtype = cache_type(self.device, self.dtype)
        shape, every = (self.slots, self.slot_size, heads, size), torch.arange(self.slots, device=self.device)
        # Zeros, since what is not stored yet is multiplied by zero.
        empty = [
            [torch.zeros(shape, dtype=dtype, device=self.device) for _ in range(2)]
            for _ in range(self.config.num_hidden_layers)
        ]
        self.layers = [Layer(keys, values, every, self.now, self.prefix_outside) for keys, values in empty]

    def bytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    def forget_prefix(self) -> None:
        """Removes the prefix."""
        for layer in self.layers:
            layer.prefix = None

    def move(self, targets: torch.Tensor, sources: torch.Tensor, start: int, end: int) -> None:
        """Copies positions `start` to `end` of the slots `sources` to the slots `targets`; both int64 [moved]."""
        for layer in self.layers:
            for states in (layer.keys, layer.values):
                states[targets, start:end] = states[sources, start:end]

    def keep_slots(self, slots: torch.Tensor) -> None:
        """Keeps only these slots, int64 [kept], renumbered in this order."""
        for layer in self.layers:
            layer.every = layer.every[: len(slots)]
            layer.keys, layer.values = layer.keys[slots], layer.values[slots]


def shape_of_keys(config) -> tuple[int, int]:
    """The number of key heads of a Llama-like model, and their size."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return heads, getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def cache_type(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The type of keys and values in slots: a CPU attends in float32 four times as fast as in bfloat16."""
    return torch.float32 if device.type == "cpu" and dtype == torch.bfloat16 else dtype


def slot_bytes(config, slot_size: int, device: torch.device, dtype: torch.dtype) -> int:
    """Bytes of one slot, all layers."""
    heads, size = shape_of_keys(config)
    return 2 * config.num_hidden_layers * slot_size * heads * size * cache_type(device, dtype).itemsize


def reads_lengths(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether attention over slots reads no more of each than its row's length: sqlora.slot_kernel on NVIDIA's GPUs.

    Elsewhere all slots are read up to one window, and what is beyond a row's length is masked.
    """
    if (
        device.type != "cuda"
        or torch.version.hip
        or torch.cuda.get_device_capability(device) < KERNEL_SINCE
        or not has_triton()
    ):
        return False
    return (
        dtype in (torch.bfloat16, torch.float16)
        and head_size <= KERNEL_HEAD_MOST
        and _kernel_works(device, dtype, head_size)
    )


@functools.cache
def _kernel_works(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether a small try goes well, which needs a C compiler too. A note says what went wrong."""
    from sqlora.generation.kv_cache_attention import attend_slots
    from sqlora.generation.packed_attention import attend_rows

    try:
        states = torch.zeros(TRIED, TRIED, 1, head_size, device=device, dtype=dtype)
        attend_slots(
            states[:, 0], states, states, torch.zeros(TRIED, device=device, dtype=torch.int64), None, None, 1.0
        )
        row = states[:1].transpose(1, 2)
        starts = torch.tensor([0, TRIED], device=device, dtype=torch.int32)
        attend_rows(row, row, row, row, row, starts, TRIED, 1.0)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler may raise
        note(
            f"attention takes longer in large batches than it need, since Triton does not work here ({one_line(error)})"
        )
        return False
    return True


def slot_attention(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=None,
    lengths=None,
    reads_lengths=False,
    starts=None,
    longest=0,
    **keywords,
):
    """Attention in the form that transformers calls.

    With `lengths`, int64 [slots], there is one query for each slot, [slots, heads, 1, size], and `key` and `value` are
    each a slot layer's and its prefix's, or None; `reads_lengths` is the result of the function of that name. With
    `starts` and `longest`, as `attend_rows` takes them, there are rows in one sequence, with such keys too. Without, it
    is SDPA.
    """
    dtype = query.dtype
    if starts is not None:
        from sqlora.generation.packed_attention import attend_rows

        (key, first_key), (value, first_value) = key, value
        return attend_rows(query, key, value, first_key, first_value, starts, longest, scaling), None
    if lengths is None:
        output, _ = sdpa_attention_forward(
            module, query.to(key.dtype), key, value, attention_mask, scaling=scaling, **keywords
        )
        return output.to(dtype), None
    (key, first_key), (value, first_value) = key, value
    window, heads = key.shape[1:3]
    if reads_lengths:
        from sqlora.generation.kv_cache_attention import attend_slots  # which needs Triton

        first = (None, None) if first_key is None else (first_key[0], first_value[0])
        return attend_slots(query[:, :, 0], key, value, lengths, *first, scaling)[:, None], None
    # Queries that share a key head take the positions of several queries of a row, so that keys are not repeated.
    query = query.to(key.dtype).unflatten(1, (heads, -1))[:, :, :, 0]
    mask = torch.arange(window, device=key.device) <= lengths[:, None]
    output = torch.nn.functional.scaled_dot_product_attention(
        query, key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None], scale=scaling
    )
    return output.flatten(1, 2)[:, None].to(dtype), None


AttentionInterface.register(ATTENTION, slot_attention)
