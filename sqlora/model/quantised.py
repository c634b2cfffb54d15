"""Base models whose files are already quantised: dequantised as they are read, used as they are, or refused.

Scales that a library ignores leave weights that are wrong by their factor, without an error: they are checked here.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, cast

import torch
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

from sqlora.model.device import Device
from sqlora.system import distributed
from sqlora.system.console import note
from sqlora.system.errors import UserError

NONE = "none"
DEQUANTISED = ("fp8", "mxfp8", "mxfp4", "compressed-tensors")  # by transformers as it reads them (dequantize=True)
OF_ACTIVATIONS = (
    "input_scale",
    "activation_scale",
    "input_zero_point",
    "output_scale",
    "k_scale",
    "v_scale",
    "q_scale",
)
COMPUTED = ("inv_freq", *OF_ACTIVATIONS)  # what a model computes anew, or does not need
SHOWN_FROM = 0.05  # share of the weights from which a type is shown
ORIGINAL = "name the original model, whose weights are not quantised"


def bits(low_bit: str, device: Device) -> BitsAndBytesConfig | None:
    """The configuration with which bitsandbytes quantises a base; None for LOW_BIT none."""
    if low_bit == NONE:
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=low_bit,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=device.dtype,
    )


def prepare(config: PretrainedConfig, name: str, device: Device) -> str | None:
    """Sets in `config` how the files of the base `name` are read, and returns how they are quantised, or None.

    Raises UserError for files that can neither be dequantised nor used as they are.
    """
    stored = getattr(config, "quantization_config", None) or getattr(
        config.get_text_config(), "quantization_config", None
    )
    if not stored:
        return None
    described = stored if isinstance(stored, dict) else stored.to_dict()
    own = described.get("load_in_4bit") or described.get("load_in_8bit")
    method = "bitsandbytes" if own else str(described.get("quant_method"))
    if method not in (*DEQUANTISED, "bitsandbytes"):
        raise UserError(
            f"BASE_MODEL (--base-model) is {name!r}, whose weights are quantised by {method}, which SQLoRA cannot "
            f"dequantise; {ORIGINAL}"
        )
    if distributed.rank_info().sharded:
        raise UserError(
            f"BASE_MODEL (--base-model) is {name!r}, whose weights are quantised already ({method}), and such a base "
            f"cannot be sharded; launch without FSDP, or {ORIGINAL}"
        )
    how = {"bnb_4bit_compute_dtype": str(device.dtype).removeprefix("torch.")} if own else {"dequantize": True}
    config.quantization_config = described | how
    return method


def check_stored(model: PreTrainedModel, method: str | None, name: str) -> None:
    """Raises UserError if the files' weights are not quantised by bitsandbytes, as config.json says they are."""
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit | Linear8bitLt)]
    if method == "bitsandbytes" and not all(isinstance(layer.weight, Params4bit | Int8Params) for layer in layers):
        raise UserError(
            f"BASE_MODEL (--base-model) is {name!r}, whose config.json says that its weights are quantised, and they "
            f"are not; remove quantization_config from it"
        )


def quantise(model: PreTrainedModel, low_bit: str, device: Device) -> None:
    """Quantises the linear layers of a model, in place and on the device, as transformers does while it reads."""
    from bitsandbytes.nn import Linear4bit, Params4bit
    from transformers.quantizers.base import get_keys_to_not_convert

    unquantised = set(get_keys_to_not_convert(model))
    for name, layer in list(model.named_modules()):
        if type(layer) is not torch.nn.Linear or name in unquantised:
            continue
        small = Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=device.dtype,
            compress_statistics=True,
            quant_type=low_bit,
            device="meta",
        )
        quantised_weight: Any = Params4bit(
            layer.weight.data, requires_grad=False, compress_statistics=True, quant_type=low_bit, module=small
        )
        small.weight = quantised_weight.to(device.torch_device)
        small.bias = layer.bias
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, small)
        del layer.weight
    cast(torch.nn.Module, model).to(device.torch_device)
    model.is_loaded_in_4bit = True  # type: ignore[assignment] # PEFT looks for it


def set_dtype(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Converts weights that libraries left in another type to the compute type, such as a mixture's experts."""
    if distributed.rank_info().sharded:  # its low-bit weights look like floats (sharding.py)
        return
    in_float32 = {*(model._keep_in_fp32_modules or ()), *(getattr(model, "_keep_in_fp32_modules_strict", None) or ())}
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.dtype != dtype and not in_float32 & set(name.split(".")):
            weight.data = weight.data.to(dtype)


def check_unread(model: PreTrainedModel, unread: list[str], name: str) -> None:
    """Raises UserError if the model does not read a tensor that belongs to one of its linear layers.

    It is a scale, or a quantised weight under another name. A note names other tensors that are not read.
    """
    linear = {key for key, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    lost = [key for key in unread if key.rpartition(".")[0] in linear and not key.endswith(OF_ACTIVATIONS)]
    if lost:
        raise UserError(
            f"BASE_MODEL (--base-model) is {name!r}, whose weights seem quantised in a way that its config.json "
            f"does not state: {len(lost)} tensors of its linear layers would not be read, such as "
            f"{min(lost)}; {ORIGINAL}"
        )
    if unused := [key for key in unread if not key.endswith(COMPUTED)]:
        note(
            f"{len(unused)} weights of BASE_MODEL (--base-model) {name!r} are in no part of the model that its "
            f"config.json describes, and are not used, such as {min(unused)}"
        )


def check_finite(model: PreTrainedModel, name: str) -> None:
    """Raises UserError if a weight, or a low-bit weight's scale, is NaN or infinite."""
    if distributed.rank_info().sharded:  # no process has all of a weight
        return
    broken = [
        key
        for key, weight in model.named_parameters()
        if not all(part.detach().sum(dtype=torch.float32).isfinite() for part in _floats(weight))
    ]
    if broken:
        raise UserError(
            f"BASE_MODEL (--base-model) is {name!r}, and {len(broken)} of its weights hold numbers that are not "
            f"finite, such as {broken[0]}; the files are damaged: fetch them again, or take another model"
        )


def _floats(weight: torch.Tensor) -> list[torch.Tensor]:
    state = getattr(weight, "quant_state", None)
    scales = [getattr(weight, "SCB", None)]
    if state is not None:
        scales = [state.absmax, state.offset, getattr(state.state2, "absmax", None)]
    return [part for part in (weight, *scales) if part is not None and part.is_floating_point()]


def in_memory(model) -> str:
    """How the base's weights are stored in memory: "nf4", "fp4", "int8" or "none"; if they differ, each with its share.

    Counted over the numbers of all matrices except the embeddings and the output layer, including a mixture's experts.
    """
    ends = [end for end in (model.get_input_embeddings(), model.get_output_embeddings()) if end is not None]
    aside = {id(weight) for end in ends for weight in end.parameters()}
    counts: Counter[str] = Counter()
    for path, module in model.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            of_adapter = "default" in (*path.split("."), name)
            if weight.ndim > 1 and not of_adapter and id(weight) not in aside:
                state = getattr(weight, "quant_state", None) or getattr(module, "quant_state", None)
                counts[_kind(weight)] += math.prod(state.shape) if state else weight.numel()
    total = sum(counts.values())
    kinds = {kind: count / total for kind, count in counts.most_common() if count >= SHOWN_FROM * total}
    if len(kinds) > 1:
        return ", ".join(f"{kind} ({share:.0%})" for kind, share in kinds.items())
    kind = next(iter(kinds), NONE)
    return NONE if hasattr(torch, kind) and getattr(torch, kind).is_floating_point else kind


def _kind(weight: torch.Tensor) -> str:
    if quant_type := getattr(weight, "quant_type", None):
        return quant_type
    return "int8" if type(weight).__name__ == "Int8Params" else str(weight.dtype).removeprefix("torch.")
