"""A pass through the model: hidden states of its form, logits where there are targets, and the summed loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AttentionInterface, DynamicCache

from sqlora import packing
from sqlora.console import note
from sqlora.device import Device
from sqlora.settings import Settings

TREE_ATTENTION = "sqlora_tree"


@dataclass(frozen=True)
class Form:
    """How rows go through the model: one of packing.FORMS, and why; whether the decoder's layers are compiled, and why."""

    name: str
    reason: str
    compiled: bool
    compile_reason: str


def choose_form(settings: Settings, device: Device) -> Form:
    """What PACKING and COMPILE come to on this device."""
    triton = device.type != "cpu" and torch.utils._triton.has_triton()
    name, reason = settings.PACKING, "as set"
    if name == "auto":
        if triton:
            name, reason = "tree", f"FlexAttention runs on {device.type}"
        elif settings.GRADIENT_CHECKPOINTING:
            name, reason = "off", "gradient checkpointing is on, and there is no Triton"
        else:
            name, reason = "prefix", "there is no Triton"
    if settings.COMPILE != "auto":
        return Form(name, reason, settings.COMPILE == "on", "as set")
    return Form(name, reason, triton, "Triton is there" if triton else "no Triton")


def prepare(model, form: Form, device: Device) -> None:
    """Makes the model ready for passes of this form: its attention, and its compiled layers if they work."""
    base = model.get_base_model()
    if device.dtype != torch.float32:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = False  # autocast takes care of it, without a float32 copy of every input
    if form.name == "tree":
        base.set_attn_implementation(TREE_ATTENTION if device.type != "cpu" else "sdpa")
    if form.compiled and not _try_compiled(model, form):
        note("COMPILE is off: the layers do not compile here")


def loss_sum(model, inputs: packing.Pass, base) -> torch.Tensor:
    """The cross entropy summed over the targets of one pass, a scalar of float32 or wider.

    `model` is called, whatever is wrapped around `base`, its causal language model. Divided by the number of targets in an
    optimiser step, and summed over its passes, this is the loss of the padded batches.
    """
    hidden = _hidden_states(model, inputs, base)
    logits = base.get_output_embeddings()(hidden[inputs["places"]])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = torch.nn.functional.cross_entropy(logits, inputs["targets"], reduction="none")
    return (losses * inputs["weights"]).sum()


def _hidden_states(model, inputs: packing.Pass, base) -> torch.Tensor:
    """Of all tokens, [tokens, size], the prefix's first."""
    if "prefix_ids" in inputs:
        cache = DynamicCache()
        shared = _last_hidden(model, base, input_ids=inputs["prefix_ids"], past_key_values=cache, use_cache=True)
        rows = len(inputs["input_ids"])
        for layer in cache.layers:
            layer.keys, layer.values = (states.expand(rows, -1, -1, -1) for states in (layer.keys, layer.values))
        rest = _last_hidden(model, base, input_ids=inputs["input_ids"], past_key_values=cache, use_cache=True)
        return torch.cat([shared.flatten(0, 1), rest.flatten(0, 1)])
    if "ends" in inputs:
        dense = inputs["ends"].device.type == "cpu"
        mask = (packing.tree_mask if dense else packing.tree_block_mask)(inputs["ends"])
        ids, positions = inputs["input_ids"], inputs["position_ids"]
        return _last_hidden(model, base, input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False)[0]
    return _last_hidden(model, base, input_ids=inputs["input_ids"], use_cache=False).flatten(0, 1)


def _last_hidden(model, base, **inputs) -> torch.Tensor:
    """The decoder's last hidden states, [rows, length, size]."""
    kept = []
    hook = base.get_decoder().register_forward_hook(lambda module, arguments, output: kept.append(output[0]))
    try:
        # Through the whole model, so that what is wrapped around it sees the call; but with no logits.
        model(**inputs, logits_to_keep=torch.empty(0, dtype=torch.int64, device=inputs["input_ids"].device))
    finally:
        hook.remove()
    return kept[0]


def tree_attention(module, query, key, value, attention_mask, scaling=None, **_):
    """FlexAttention, in the form that transformers calls: query [1, heads, length, head size], mask a BlockMask."""
    from torch.nn.attention.flex_attention import flex_attention

    flex = flex_attention if torch.compiler.is_compiling() else _compiled_flex()
    output = flex(query, key, value, block_mask=attention_mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(TREE_ATTENTION, tree_attention)
_flex = None


def _compiled_flex():
    """Uncompiled it would make the [length, length] scores that it is there to avoid."""
    global _flex
    if _flex is None:
        from torch.nn.attention.flex_attention import flex_attention

        _flex = torch.compile(flex_attention, dynamic=True)
    return _flex


def _try_compiled(model, form: Form) -> bool:
    """Compiles the decoder's layers, and tries them on a small pass; leaves them as they were if they fail."""
    base = model.get_base_model()
    layers = base.get_decoder().layers
    plain = [layer.forward for layer in layers]
    # One graph serves all lengths, but not all layers: bitsandbytes' constants differ.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(layers))
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)
    row = {"input_ids": list(range(2, 302)), "labels": list(range(2, 302))}
    other = {"input_ids": list(range(2, 250)), "labels": list(range(2, 250))}
    (inputs,) = packing.make_passes([row, other], form.name, 10_000)
    try:
        with _state_kept(model):
            loss_sum(model, {key: tensor.to(model.device) for key, tensor in inputs.items()}, base).backward()
    except Exception as error:  # whatever a compiler may raise
        for layer, forward in zip(layers, plain, strict=True):
            layer.forward = forward
        note(f"torch.compile: {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}")
        return False
    return True


@contextlib.contextmanager
def _state_kept(model) -> Iterator[None]:
    """A trial leaves no gradient and draws no random number."""
    was_training, base_dtype = model.training, model.get_input_embeddings().weight.dtype
    devices = [] if model.device.type == "cpu" else [model.device.index or 0]
    with torch.random.fork_rng(devices, device_type=model.device.type if devices else "cuda"):
        model.train()
        try:
            with torch.autocast(model.device.type, dtype=base_dtype, enabled=base_dtype != torch.float32):
                yield
        finally:
            model.zero_grad(set_to_none=True)
            model.train(was_training)
