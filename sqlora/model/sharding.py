"""A base sharded over the processes by FSDP2: each keeps its part of every decoder layer's weights.

A layer's weights are gathered while it computes, in the forward and again in the backward pass, and freed after it.
Only the frozen weights of linear layers are sharded, 4-bit ones as bytes. Embeddings, norms, the scales of 4-bit
weights and the adapter are in every process, so that the adapter is trained, saved and resumed as in a single process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import MethodType

import torch
from torch import nn

from sqlora.model.device import Device
from sqlora.system import distributed
from sqlora.system.errors import UserError

NO_READING_AHEAD = "HF_DEACTIVATE_ASYNC_LOAD"  # of transformers
QUANTISED = ("compress_statistics", "quant_type")


@contextlib.contextmanager
def while_loading(device: Device) -> Iterator[None]:
    """Lets transformers shard each decoder layer as soon as it is loaded, so that no process ever has all weights.

    Does nothing in a run that is not sharded.
    """
    if not distributed.rank_info().sharded:
        yield
        return
    from torch.distributed.device_mesh import init_device_mesh
    from transformers import core_model_loading, modeling_utils

    mesh = init_device_mesh(device.type, (distributed.rank_info().world,))
    put, warm_up = core_model_loading.set_param_for_module, modeling_utils.caching_allocator_warmup

    def put_and_shard(model, name: str, *arguments, **keywords) -> None:
        put(model, name, *arguments, **keywords)
        layer = next((layer for prefix, layer in _layers(model).items() if name.startswith(prefix)), None)
        if layer is not None and not any(parameter.is_meta for parameter in layer.parameters()):
            _shard(layer, mesh)

    core_model_loading.set_param_for_module = put_and_shard  # type: ignore[assignment] # with any further arguments
    modeling_utils.caching_allocator_warmup = lambda *_, **__: None  # it allocates memory for the whole model
    os.environ[NO_READING_AHEAD] = "1"  # it would fill the device with layers that are not sharded yet
    try:
        yield
    finally:
        del os.environ[NO_READING_AHEAD]
        core_model_loading.set_param_for_module, modeling_utils.caching_allocator_warmup = put, warm_up


def tie_layers(model, device: Device) -> None:
    """Lets FSDP prefetch the layers of a sharded base, one while another computes."""
    if distributed.rank_info().sharded:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        decoder = model.get_decoder()
        whole = {parameter for parameter in decoder.parameters() if not hasattr(parameter, "to_local")}
        fully_shard(decoder, mesh=init_device_mesh(device.type, (distributed.rank_info().world,)), ignored_params=whole)


def _layers(model) -> dict[str, nn.Module]:
    layers = getattr(model.get_decoder(), "layers", None)
    if layers is None:
        raise UserError(
            f"accelerate's configuration asks for FSDP, and it is not known where a {model.config.model_type} model "
            f"has its layers; launch it without (docs/scale/one_host.yaml)"
        )
    prefix = next(name for name, module in model.named_modules() if module is layers)
    return {f"{prefix}.{number}.": layer for number, layer in enumerate(layers)}


def _shard(layer: nn.Module, mesh) -> None:
    from torch.distributed.fsdp import fully_shard

    linear = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    facts = []  # attributes of a weight that transformers (else it initialises it again) and PEFT look for
    for module in linear:
        described = vars(module.weight)
        facts.append({"_is_hf_initialized": True, **{name: described[name] for name in QUANTISED if name in described}})
        if "quant_state" in described:
            module.quant_state = described["quant_state"]
            module.forward = MethodType(_forward_4bit, module)  # type: ignore[method-assign]
        module.weight = nn.Parameter(_as_floats(module.weight.data), requires_grad=False)
    sharded = {module.weight for module in linear}
    fully_shard(layer, mesh=mesh, ignored_params={weight for weight in layer.parameters() if weight not in sharded})
    for module, known in zip(linear, facts, strict=True):
        vars(module.weight).update(known)


def _as_floats(weight: torch.Tensor) -> torch.Tensor:
    """Bytes reinterpreted as bfloat16, [bytes / 2, 1], since FSDP2 refuses integers in torch 2.11; floats unchanged."""
    return weight.view(-1, 2).view(torch.bfloat16) if weight.dtype == torch.uint8 else weight


def _forward_4bit(module, inputs):
    """Replaces Linear4bit's forward, which would wrap the gathered weight again at every call."""
    from bitsandbytes import matmul_4bit

    bias = None if module.bias is None else module.bias.to(module.compute_dtype)
    weight = module.weight.view(torch.uint8).view(-1, 1)
    return matmul_4bit(inputs.to(module.compute_dtype), weight, module.quant_state, bias=bias).to(inputs.dtype)
