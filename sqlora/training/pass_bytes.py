"""The memory of a forward and backward pass on top of the weights.

Counted over shapes before anything is loaded, or measured on the loaded model; both from two passes of different size,
which separates what a token adds from what every pass takes.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from sqlora.model.transformers_compat import AttentionInterface
from sqlora.training.packing import attention, packed_batches, packed_loss, plan

COUNTED_ATTENTION = "sqlora_counted"
FEW_TOKENS, GROWTH = 192, 3  # of the smaller pass at least, and how many times as many the larger one has
LOSS_BYTES = 8  # a logit, in backward: the gradients of the log softmax and of its input, float32
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class PassBytes:
    """Bytes of a pass: `fixed` whatever its size, and `token` for each of its tokens."""

    fixed: float
    token: float

    def of(self, tokens: int) -> float:
        return self.fixed + tokens * self.token

    def tokens(self, available: float) -> int:
        """How many fit into so many bytes."""
        return int(max(0.0, available - self.fixed) / self.token)


def counted(model, rows: Sequence[packed_batches.TokenisedExample], packing: plan.PackingPlan) -> PassBytes:
    """Of a model on the meta device: what autograd keeps of a forward pass, and the gradients of the logits."""
    base = model.get_base_model()
    base.set_attn_implementation(attention.PREFIX_ATTENTION if packing.name == "prefix" else COUNTED_ATTENTION)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(base.dtype)  # as autocast has them
    weights = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}

    def count(inputs: packed_batches.PackedBatch) -> float:
        saved_tensors: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            saved_tensors[_storage(tensor)] = tensor  # held, so that no other takes its number
            return tensor

        inputs = _on_meta(inputs)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _FusedAttention():
            packed_loss.loss_sum(model.train(), inputs, base)
        saved = sum(
            tensor.untyped_storage().nbytes() for number, tensor in saved_tensors.items() if number not in weights
        )
        return saved + LOSS_BYTES * base.config.vocab_size * inputs["targets"].numel()

    return _from_two(count, rows, packing)


def measured(model, rows: Sequence[packed_batches.TokenisedExample], packing: plan.PackingPlan) -> PassBytes | None:
    """The same for the loaded model, by two forward and backward passes; None if the system does not report it.

    Nothing is left behind. None also if the passes do not fit into memory.
    """
    if model.device.type == "cpu" and not _resets_peaks():
        return None
    try:
        return _from_two(lambda inputs: taken(model, inputs), rows, packing)
    except torch.OutOfMemoryError:  # training makes its batches smaller until they fit
        return None


def taken(model, inputs: packed_batches.PackedBatch) -> int:
    """Bytes at the peak of one forward and backward pass, above what was held before."""
    inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    on_cpu = model.device.type == "cpu"
    module: Any = None if on_cpu else torch.get_device_module(model.device.type)
    with plan.state_kept(model):
        before = _forget_peak() if on_cpu else module.memory_allocated()
        if module:
            module.reset_peak_memory_stats()
        packed_loss.loss_sum(model, inputs, model.get_base_model()).backward()
        return (_status("VmHWM") if on_cpu else module.max_memory_allocated()) - before


def _from_two(
    bytes_of: Callable[[packed_batches.PackedBatch], float],
    rows: Sequence[packed_batches.TokenisedExample],
    packing: plan.PackingPlan,
) -> PassBytes:
    small, large = ((inputs["input_ids"].numel(), bytes_of(inputs)) for inputs in _two_passes(rows, packing))
    token = max(1.0, (large[1] - small[1]) / max(1, large[0] - small[0]))
    return PassBytes(max(0.0, small[1] - token * small[0]), token)


def _two_passes(
    rows: Sequence[packed_batches.TokenisedExample], packing: plan.PackingPlan
) -> list[packed_batches.PackedBatch]:
    """A pass of rows of ordinary length, and one of a few times as many; of few rows the smaller has their
    beginnings.
    """
    ordinary = sorted(rows, key=lambda row: len(row["input_ids"]))[len(rows) // 2 :]

    def first(tokens: int) -> list[packed_batches.TokenisedExample]:
        taken: list[packed_batches.TokenisedExample] = []
        while len(taken) < len(ordinary) and sum(len(row["input_ids"]) for row in taken) < tokens:
            taken.append(ordinary[len(taken)])
        return taken

    few, many = first(FEW_TOKENS), first(GROWTH * FEW_TOKENS)
    if len(many) < GROWTH:
        many = ordinary[:GROWTH]
        few = [
            {
                name: numbers[: max(2, len(numbers) // GROWTH)]
                for name, numbers in row.items()
                if isinstance(numbers, list)
            }
            for row in many
        ]
    elif len(few) == len(many):
        few = many[: len(many) // GROWTH]
    return [
        packed_batches.make_batches(part, "off" if packing.name == "alone" else packing.name, sys.maxsize)[0]
        for part in (few, many)
    ]


def _on_meta(inputs: packed_batches.PackedBatch) -> packed_batches.PackedBatch:
    """With a mask that says nothing, so that transformers does not look into one of its own."""
    moved = {name: tensor.to("meta") for name, tensor in inputs.items() if name != "ends"}
    size = inputs["input_ids"].shape[1]
    return {"attention_mask": torch.empty(1, 1, size, size, dtype=torch.bool, device="meta")} | moved


class _FusedAttention(TorchFunctionMode):
    """Counts attention as a fused kernel, which keeps no scores; on the meta device torch would keep them."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is torch.nn.functional.scaled_dot_product_attention:
            return _Kept.apply(*arguments[:3])
        return function(*arguments, **(keywords or {}))


class _Kept(torch.autograd.Function):
    """An attention of shapes alone: query, keys, values and output are kept for backward."""

    @staticmethod
    def forward(context, query, key, value):
        output = torch.empty_like(query)
        context.save_for_backward(query, key, value, output)
        return output


def _counted_attention(module, query, key, value, attention_mask, **_):
    return _Kept.apply(query, key, value).transpose(1, 2).contiguous(), None


AttentionInterface.register(COUNTED_ATTENTION, _counted_attention)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _resets_peaks() -> bool:
    """Whether the system forgets a process's peak when asked, so that the peak of a pass can be read: Linux."""
    try:
        _forget_peak()
    except OSError:
        return False
    return True


def _forget_peak() -> int:
    """Gives freed memory back to the system, resets the peak (VmHWM), and returns the bytes that are held."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    CLEAR_REFS.write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    """A size of this process in bytes; Linux reports KiB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024
