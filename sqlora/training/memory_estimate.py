"""Estimates the memory and time of a run before any weight is loaded, and how many tokens fit into the free memory.

Counted are the weights; the adapter with its gradient and AdamW's two moments, all float32; and a forward and backward
pass (pass_bytes.py, or a formula if layers are compiled). `benchmarks/README.md` compares it with measured peaks.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM

from sqlora.data.tokenise import Tokenised
from sqlora.model import loading
from sqlora.model.backend import backend
from sqlora.model.base_models import BaseModel
from sqlora.model.device import Device, available_memory, give_memory_back, peak_memory
from sqlora.settings.settings import Settings
from sqlora.system import distributed
from sqlora.training import pass_bytes, samplers
from sqlora.training.packing import packed_batches
from sqlora.training.packing.plan import PackingPlan
from sqlora.training.pass_bytes import PassBytes

CPU_TOKENS = 16_384  # most in a pass on a CPU, whose speed grows little beyond
MOST_TOKENS = 1 << 20
ROOMY = 3  # times what a pass takes: where so much is free, the memory's holes do no harm
TRAINING_SHARE = 0.85  # of the free memory that passes may take; the rest is for what the allocator cannot use
FITTING_SHARE = 0.95  # of a device's memory, that a run may take at its peak; the rest is the driver's
# with double quantisation (Dettmers et al. 2023, section 3)
WEIGHT_BYTES = {
    "nf4": 0.5 + 0.127 / 8,
    "fp4": 0.5 + 0.127 / 8,
    "sym_int4": 34 / 64,  # a float16 for 64 weights, in bigdl-llm's library
}
# settings that make a run smaller
SMALLER: dict[str, Any] = {"MAX_TOKENS_PER_PASS": 0, "LOW_BIT": "nf4", "GRADIENT_CHECKPOINTING": True}
TRAINED_BYTES, MOMENT_BYTES = 16, 8  # a trained number, its gradient, and two moments; these alone, which come last
TARGET_SHARE = 0.42  # of a pass's tokens that are targets with the loss on the SQL alone, as in sql-create-context
EFFICIENCY = {True: 0.6, False: 0.4}  # share of the matrix rate that training reaches, compiled or not
ATTENTION_OUTPUT, LAST_OF_A_PART = ("o_proj", "dense"), ("down_proj", "fc2")  # names of layers
SAMPLE = 5  # steps that are built to see how long passes are


@dataclass(frozen=True)
class Estimate:
    """The peak in bytes, seconds and tokens of an optimiser step, and tokens of the longest pass.

    The seconds are None for a device that is not here.
    """

    peak_bytes: float
    step_seconds: float | None
    step_tokens: int
    pass_tokens: int


def estimate(base: BaseModel, train: Tokenised, settings: Settings, device: Device, packing: PackingPlan) -> Estimate:
    """Of a run with these settings; nothing is loaded."""
    model = without_weights(base, settings)
    sharing = distributed.rank_info().world if distributed.rank_info().sharded else 1
    weights, trained, linear = model_bytes(model, settings.LOW_BIT, device.dtype, sharing)
    fixed = weights + trained + (peak_memory("cpu") if device.type == "cpu" else 0)
    per_pass = predicted(model.to(device.dtype), train.rows, settings, packing)
    most = settings.MAX_TOKENS_PER_PASS or fitting_tokens(per_pass, fixed, device, settings.MAX_LENGTH)
    size = settings.step_rows
    sampler = samplers.make_sampler(train.rows, packing.name, settings)
    rows = [train.rows[i] for i in itertools.islice(sampler, SAMPLE * size)]
    batches = [distributed.rows_of_rank(rows[start : start + size]) for start in range(0, len(rows), size)]
    built = [
        [
            one["input_ids"].numel()
            for one in packed_batches.make_batches(batch, packing.name, most, settings.BATCH_SIZE)
        ]
        for batch in batches
        if batch
    ]
    longest = max(map(max, built))
    tokens = sum(map(sum, built)) / len(built)
    work = 4 * linear * tokens * (1.5 if settings.GRADIENT_CHECKPOINTING else 1)
    seconds = work / (matrix_rate(device) * EFFICIENCY[packing.compiled]) if device.memory is None else None
    return Estimate(fixed + per_pass.of(longest), seconds, round(tokens), longest)


def changes_to_fit(
    base: BaseModel, train: Tokenised, settings: Settings, device: Device, packing: PackingPlan
) -> dict[str, Any] | None:
    """The fewest of SMALLER with which the run fits into the device's memory; None if it does not with all of them."""
    for count in range(len(SMALLER) + 1):
        for names in itertools.combinations(SMALLER, count):
            changes = {name: SMALLER[name] for name in names}
            peak = estimate(base, train, replace(settings, **changes), device, packing).peak_bytes
            if peak <= FITTING_SHARE * (device.memory or available_memory(device.type)):
                return changes
    return None


def without_weights(base: BaseModel, settings: Settings) -> PeftModel:
    """The model and its adapter on the meta device, shapes only. Raises UserError for a wrong LORA_TARGETS."""
    with torch.device("meta"):
        return loading.wrap_with_adapter(
            AutoModelForCausalLM.from_config(loading.check_causal(base), trust_remote_code=False), settings
        )


def model_bytes(model: PeftModel, low_bit: str, dtype: torch.dtype, sharing: int) -> tuple[float, float, int]:
    """Bytes of the weights that a process holds, bytes for training the adapter, and weights of the linear layers.

    `sharing` is the number of processes that the base is sharded over (model/sharding.py).
    """
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    head = model.get_output_embeddings()
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head and not module.weight.requires_grad
    )
    other = sum(parameter.numel() for parameter in model.parameters()) - trained - linear
    weights = linear * WEIGHT_BYTES.get(low_bit, dtype.itemsize) + other * dtype.itemsize
    if sharing > 1:  # a process holds its shard, and two whole layers that it has gathered
        spread = linear * (0.5 if low_bit in ("nf4", "fp4") else dtype.itemsize)
        weights += spread * (1 / sharing + 2 / model.config.num_hidden_layers - 1)
    return weights, trained * TRAINED_BYTES, linear


def predicted(
    model, rows: Sequence[packed_batches.TokenisedExample], settings: Settings, packing: PackingPlan
) -> PassBytes:
    """What passes over such rows take, by a model on the meta device, in the dtype that it will have."""
    if packing.compiled and hasattr(model.config, "num_attention_heads"):
        return PassBytes(0.0, compiled_token_bytes(model, settings))
    try:
        per_pass = pass_bytes.counted(model, rows, packing)
    except Exception:  # of any type: not every family's code runs without weights
        return PassBytes(0.0, compiled_token_bytes(model, settings))
    if not settings.GRADIENT_CHECKPOINTING:
        return per_pass
    layers, hidden = model.config.num_hidden_layers, model.config.hidden_size * model.dtype.itemsize
    # The input of each layer, and the layer that is computed again; the logits are on top.
    kept = layers * hidden + 2 * per_pass.token / layers
    return PassBytes(per_pass.fixed, kept + _logit_bytes(model.config, settings.TRAIN_ON_INPUTS, model.dtype))


def compiled_token_bytes(model, settings: Settings) -> float:
    """Bytes that one token adds if the layers of a Llama-like model are compiled: cheap steps are recomputed, not kept.

    Kept are the two residual streams, queries, keys, values, attention's output, gate and up; and the adapter's inputs:
    each once, or with dropout once for each of its layers, with a mask of a byte. As seen on an H100
    (benchmarks/README.md).
    """
    config, size = model.config, model.dtype.itemsize
    hidden, heads = config.hidden_size, getattr(config, "num_attention_heads", 1)
    feed_forward = getattr(config, "intermediate_size", None) or 4 * hidden
    head_size = getattr(config, "head_dim", None) or hidden // heads
    attention = head_size * (2 * heads + 2 * (getattr(config, "num_key_value_heads", None) or heads))
    layer = (2 * hidden + attention + 2 * feed_forward) * size + _adapter_inputs(model, settings.LORA_DROPOUT, size)
    kept = config.num_hidden_layers * layer
    if settings.GRADIENT_CHECKPOINTING:
        kept = config.num_hidden_layers * hidden * size + 2 * layer
    return kept + _logit_bytes(config, settings.TRAIN_ON_INPUTS, model.dtype)


def _adapter_inputs(model, dropout: float, size: int) -> float:
    """Bytes that a layer keeps per token for its adapter, with numbers of `size` bytes."""
    adapted = {
        name: cast(Any, layer).in_features for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)
    }
    if dropout:
        return sum(adapted.values()) / model.config.num_hidden_layers * (size + 1)
    # Parallel layers share their input, except the last of each part: attention's output, kept anyway, and down.
    shared = {
        (name.rpartition(".")[0], name.endswith(LAST_OF_A_PART)): width
        for name, width in adapted.items()
        if not name.endswith(ATTENTION_OUTPUT)
    }
    return sum(shared.values()) / model.config.num_hidden_layers * size


def _logit_bytes(config, train_on_inputs: bool, dtype: torch.dtype) -> float:
    """Bytes of a token's logits if it is a target, with their float32 copy and gradients."""
    return config.vocab_size * (dtype.itemsize + 3 * 4) * (1 if train_on_inputs else TARGET_SHARE)


class TokenBudget:
    """How many tokens may go through the loaded model at once: as many as the free memory holds, by what passes
    took.
    """

    def __init__(
        self,
        model,
        rows: Sequence[packed_batches.TokenisedExample],
        settings: Settings,
        device: Device,
        packing: PackingPlan,
    ) -> None:
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        self.device, self.settings = device, settings
        # a base that is spread is not gathered for a trial
        untried = not backend.TAKES_ATTENTION or distributed.rank_info().sharded
        give_memory_back(always=True)
        seen = None if untried else pass_bytes.measured(model, rows, packing)
        self.per_pass = seen or PassBytes(0.0, compiled_token_bytes(model, settings))
        fitting = fitting_tokens(self.per_pass, trained * MOMENT_BYTES, device, settings.MAX_LENGTH)
        self.most_tokens = settings.MAX_TOKENS_PER_PASS or fitting
        give_memory_back(always=ROOMY * self.per_pass.of(self.most_tokens) > available_memory(device.type))

    def shrunk(self, tokens: int) -> int:
        """`tokens`, or fewer where other processes have taken the memory that a pass of so many needs.

        Only on a CPU, where nothing else reports it and the system kills a process that takes too much.
        """
        is_watched = self.device.type == "cpu" and not self.settings.MAX_TOKENS_PER_PASS
        if not is_watched or self.per_pass.of(tokens) <= available_memory("cpu"):
            return tokens
        return min(tokens, fitting_tokens(self.per_pass, 0.0, self.device, self.settings.MAX_LENGTH))


def fitting_tokens(per_pass: PassBytes, reserved: float, device: Device, longest_row: int) -> int:
    """Tokens of a pass that the free memory holds, less `reserved` bytes; at least `longest_row`, which must
    go through.
    """
    available = device.memory or available_memory(device.type)
    tokens = max(longest_row, per_pass.tokens(TRAINING_SHARE * available - reserved))
    return min(tokens, CPU_TOKENS if device.type == "cpu" else MOST_TOKENS)


def matrix_rate(device: Device) -> float:
    """FLOP/s in products of square matrices, the best of four tries."""
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device.type, dtype=device.dtype) for _ in range(2))
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(5):
            product = left @ right
        product[0, 0].item()  # waits for the device
        best = min(best, (time.perf_counter() - start) / 5)
    return 2 * size**3 / best
