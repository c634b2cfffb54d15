"""Keys and values of rows that are being answered: a slot for each, of equal room, filled to a length of its own.

A row's tokens stand in its slot from place 0 on, so rows of all lengths go on beside each other, and a slot whose row has ended
takes the next row. What all prompts begin with is kept once, beside the slots, and copied into each slot that is filled.
"""

from __future__ import annotations

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sqlora.stack import AttentionInterface

ATTENTION = "sqlora_slots"
FLASH_HEAD_STEP = 8  # sizes of heads that FlashAttention takes are multiples of it


class SlotCache:
    """The cache of a Llama-like model of configuration `config`, for `slots` rows of at most `room` tokens.

    `keys` and `values` are a tensor [slots, room, key heads, head size] for each layer. A forward pass is told what its keys are
    by one of `keeping_prefix`, `filling` and `appending`, called before it.
    """

    def __init__(self, config, slots: int, room: int, dtype: torch.dtype, device: torch.device):
        heads, size = shape_of_keys(config)
        shape = (slots, room, heads, size)
        self.room = room
        # Zeros, since what is not written yet is multiplied with a weight of zero.
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.prefix: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.every = torch.arange(slots, device=device)

    def keeping_prefix(self) -> None:
        """The pass is over one row, what all prompts begin with; until the next such pass, it precedes the rows of `filling`."""
        self.prefix = []
        self.update = self._keep

    def filling(self, slots: torch.Tensor) -> None:
        """The pass is over rows that follow the prefix, padded on the right. Row i goes to each of `slots` [i], which is int64
        [rows, copies]."""
        self.filled = slots
        self.update = self._fill

    def appending(self, lengths: torch.Tensor, window: int) -> None:
        """The pass is over a token for each slot, which goes to place `lengths`, int64 [slots]; none is at `window` or beyond."""
        self.lengths, self.window = lengths, window
        self.update = self._append

    def _keep(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.prefix.append((keys, values))
        return keys, values

    def _fill(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.prefix:
            rows = len(keys)
            shared = (states.expand(rows, -1, -1, -1) for states in self.prefix[layer])
            keys, values = (torch.cat([first, own], dim=2) for first, own in zip(shared, (keys, values), strict=True))
        for copies in self.filled.unbind(dim=1):
            self.keys[layer][copies, : keys.shape[2]] = keys.transpose(1, 2)
            self.values[layer][copies, : keys.shape[2]] = values.transpose(1, 2)
        return keys, values

    def _append(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys[layer][self.every, self.lengths] = keys[:, :, 0]
        self.values[layer][self.every, self.lengths] = values[:, :, 0]
        return self.keys[layer][:, : self.window], self.values[layer][:, : self.window]

    def move(self, targets: torch.Tensor, sources: torch.Tensor, start: int, end: int) -> None:
        """Slots `targets` get what `sources` have from place `start` to `end`; both are int64 [moved]."""
        for states in (*self.keys, *self.values):
            states[targets, start:end] = states[sources, start:end]

    def keep_slots(self, slots: torch.Tensor) -> None:
        """Only these slots, int64 [kept], stay, numbered anew in this order."""
        self.every = self.every[: len(slots)]
        for states in (self.keys, self.values):
            for layer in range(len(states)):
                states[layer] = states[layer][slots]


def shape_of_keys(config) -> tuple[int, int]:
    """How many heads the keys of a Llama-like model have, and of what size."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return heads, getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def slot_bytes(config, room: int, dtype: torch.dtype) -> int:
    """Bytes of one slot, all layers."""
    heads, size = shape_of_keys(config)
    return 2 * config.num_hidden_layers * room * heads * size * dtype.itemsize


def reads_lengths(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether attention over slots reads no more of each than its row's length: FlashAttention on CUDA.

    Elsewhere all slots are read up to one window, and what is beyond a row is masked.
    """
    return device.type == "cuda" and dtype in (torch.bfloat16, torch.float16) and head_size % FLASH_HEAD_STEP == 0


def slot_attention(module, query, key, value, attention_mask, scaling=None, lengths=None, **keywords):
    """Attention of transformers' form. With `lengths`, int64 [slots], one query a slot, [slots, heads, 1, size], sees places 0 to
    `lengths` of that slot's keys, [slots, window, key heads, size]; otherwise it is SDPA."""
    if lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **keywords)
    slots, window, heads, size = key.shape
    if reads_lengths(key.device, key.dtype, size):
        starts = torch.arange(slots + 1, device=key.device, dtype=torch.int32)
        # What torch.nn.attention.varlen calls, which in torch 2.11 does not pass the lengths on.
        output = torch.ops.aten._flash_attention_forward(
            query[:, :, 0], key.flatten(0, 1), value.flatten(0, 1), starts, starts * window, 1, window, 0.0, False, False,
            scale=scaling, seqused_k=(lengths + 1).to(torch.int32))[0]
        return output[:, None], None
    # Queries that share a head of keys stand where several queries of a row would: the keys need not be repeated.
    query = query.unflatten(1, (heads, -1))[:, :, :, 0]
    mask = torch.arange(window, device=key.device) <= lengths[:, None]
    output = torch.nn.functional.scaled_dot_product_attention(
        query, key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None], scale=scaling)
    return output.flatten(1, 2)[:, None], None


AttentionInterface.register(ATTENTION, slot_attention)
