"""Dequantising low-bit weights, and merging an adapter into them: the result is an ordinary transformers model."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel

from sqlora.model.device import free_memory
from sqlora.system import distributed
from sqlora.system.errors import UserError

SMALL_SHARE = 0.02  # of the free memory

# set by transformers
FLAGS = ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit", "quantization_method", "hf_quantizer")


def base_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The causal language model itself, whether or not an adapter is wrapped around it."""
    return cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)


@torch.no_grad()
def dequantise(model: PreTrainedModel | PeftModel, dtype: torch.dtype) -> None:
    """Replaces each layer of bitsandbytes by a torch.nn.Linear with the weights that it computed with, in place.

    Layers are taken one at a time and their low-bit weights freed, so the peak is the plain model and one layer. They
    get `dtype`, and so does the rest of the base, but not its buffers: a rope's frequencies are float32. An adapter
    stays as it is.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Linear4bit | Linear8bitLt):
                setattr(parent, name, _plain(layer, dtype))
                del layer.weight  # it references its layer: the two would wait for the garbage collector
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not any(part.startswith("lora_") for part in name.split(".")):
            parameter.data = parameter.data.to(dtype)
    plain = base_of(model)
    for module in plain.modules():
        for flag in FLAGS:
            module.__dict__.pop(flag, None)
    for flag in ("quantization_config", "_is_quantized"):
        plain.config.__dict__.pop(flag, None)
    plain.config.dtype = dtype


def unpack_small(model: PreTrainedModel) -> bool:
    """Dequantises a base on a GPU whose plain weights take next to nothing of its memory, and says whether it did: for
    so small a model every pass would take longer to unpack its weights than to compute with them.
    """
    dtype = cast(torch.dtype, model.get_input_embeddings().weight.dtype)
    free = free_memory(model.device.type)
    if model.device.type == "cpu" or free is None or not getattr(model, "is_quantized", False):
        return False
    if distributed.rank_info().sharded:  # for a base that is large
        return False
    if model.num_parameters() * dtype.itemsize > SMALL_SHARE * free:
        return False
    dequantise(model, dtype)
    return True


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """The base of `model` with the adapter added to its weights, in place: `model` cannot be used afterwards.

    The sum is computed in float32 where the adapter is float32, and rounded once to the base's type. 4-bit layers must
    have been unpacked. Raises UserError if the adapter cannot be merged, or a weight would not be finite.
    """
    name = model.active_adapter
    config = copy.copy(model.peft_config[name])
    if hasattr(config, "init_lora_weights"):  # as PiSSA would take its part out of the base's weights a second time
        config.init_lora_weights = True
    weights = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    base = model.unload()
    _untie(base, weights)
    # Wrapped again: PEFT's wrapper of a 4-bit layer would look for 4-bit weights to merge into.
    model = PeftModel(base, config, adapter_name=name)
    set_peft_model_state_dict(model, weights, adapter_name=name)
    try:
        merged = model.merge_and_unload()
    except (ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(f"this adapter cannot be merged into its base: {error}; use it without merging") from error
    if broken := [name for name, weight in merged.named_parameters() if not weight.isfinite().all()]:
        raise UserError(
            f"with the adapter merged, {len(broken)} weights are not finite, first {broken[0]}; the adapter is "
            f"damaged, or the type has too small a range for it: use bfloat16 or float32"
        )
    merged.requires_grad_(False)
    return merged.eval()


def _untie(base: PreTrainedModel, weights: dict[str, torch.Tensor]) -> None:
    """Gives the output layer weights of its own, if it shares the embeddings' and the adapter changes one of them.

    Trained tokens change both, as they did in training.
    """
    embeddings: Any = base.get_input_embeddings()
    output: Any = base.get_output_embeddings()
    if output is None or output.weight is not embeddings.weight:
        return
    names = {name.rpartition(".")[2] for name, module in base.named_modules() if module in (embeddings, output)}
    if any(names & set(name.split(".")) for name in weights if "trainable_tokens" not in name):
        output.weight = torch.nn.Parameter(output.weight.detach().clone(), requires_grad=False)
        base.config.tie_word_embeddings = False


def _plain(layer, dtype: torch.dtype) -> torch.nn.Linear:
    """A torch.nn.Linear that computes what the bitsandbytes layer did, in `dtype`."""
    from bitsandbytes.nn import Linear8bitLt

    if isinstance(layer, Linear8bitLt):  # a scale per row (Dettmers et al. 2022, section 2.1)
        quantised: Any = layer
        scales = quantised.weight.SCB if quantised.weight.SCB is not None else quantised.state.SCB
        weight = (layer.weight.data * (scales / 127)[:, None]).to(dtype)
    else:
        weight = _dequantised(layer.weight).to(dtype)
    plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight = torch.nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        plain.bias = torch.nn.Parameter(layer.bias.data.to(dtype), requires_grad=False)
    return plain.train(layer.training)


def _dequantised(weight) -> torch.Tensor:
    """Float [out, in] of a bitsandbytes Params4bit, in the type that it was quantised from."""
    from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse, dequantize_4bit

    packed, state = weight.data, weight.quant_state
    # repacked at its first forward, see bitsandbytes.keep_4bit_unpacked
    if getattr(state, "packing_format_for_cpu", False):
        state.original_nested = False  # or the inverse would quantise the blocks' scales again, and lose precision
        packed, state = _convert_weight_packed_for_cpu_inverse(packed, state)
        state.absmax = state.absmax.T.reshape(-1).float()
    return dequantize_4bit(packed, state)
