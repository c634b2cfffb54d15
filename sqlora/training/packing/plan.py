"""The packing plan of a run: how rows are packed and whether layers are compiled, chosen for the model and tried."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from sqlora.model import architecture
from sqlora.model.backend import backend
from sqlora.model.device import Device
from sqlora.model.transformers_compat import has_triton
from sqlora.settings.settings import Settings
from sqlora.system import distributed
from sqlora.system.console import note
from sqlora.system.errors import UserError, one_line
from sqlora.training.packing import packed_batches, packed_loss
from sqlora.training.packing.attention import PREFIX_ATTENTION, TREE_ATTENTION

# tokens of a trial's two rows, and of their shared prefix: a tree of several blocks, as in training
LONG_TRIAL = (300, 276, 248)
SHORT_TRIAL = (44, 36, 20)  # without compilation, so that the trial takes less memory than a training row


@dataclass(frozen=True)
class PackingPlan:
    """How rows are packed (one of packed_batches.LAYOUTS) and whether layers are compiled, each with its reason."""

    name: str
    reason: str
    compiled: bool
    compile_reason: str


def choose_plan(config, settings: Settings, device: Device) -> PackingPlan:
    """What PACKING and COMPILE resolve to for a model's `config` on this device.

    Raises UserError if PACKING asks for a layout that would not be exact.
    """
    if not backend.TAKES_ATTENTION:
        for name, asked in (
            ("PACKING", settings.PACKING not in ("auto", "off")),
            ("COMPILE", settings.COMPILE == "on"),
        ):
            if asked:
                note(f"{name} is {getattr(settings, name)}, which BACKEND {backend.NAME} cannot do, so it is off")
        return PackingPlan("off", f"BACKEND {backend.NAME} cannot pack", False, "it cannot compile")
    where = "here" if device.memory is None else "there, as supposed"
    triton = device.type != "cpu" and (device.memory is not None or has_triton())
    name, reason = settings.PACKING, "as PACKING asks"
    unfit = _unfit(config, settings.MAX_LENGTH)
    if name == "auto":
        name, reason = ("tree", f"FlexAttention runs {where}") if triton else ("prefix", "no Triton here")
        if unfit:
            name, reason = "off", unfit
    elif name != "off" and unfit:
        raise UserError(f"PACKING (--packing) is {name!r}, and {unfit}; set it to auto or off")
    if architecture.goes_alone(config, settings.MAX_LENGTH):
        name, reason = "alone", unfit or reason
    if settings.COMPILE != "auto":
        return PackingPlan(name, reason, settings.COMPILE == "on", "as COMPILE asks")
    if distributed.rank_info().sharded:
        return PackingPlan(name, reason, False, "the base is sharded over processes")
    return PackingPlan(name, reason, triton, f"Triton is {where}" if triton else "no Triton here")


def _unfit(config, longest: int) -> str | None:
    """Why this model cannot be packed, or None. Sliding windows and dropout in the model would give wrong results."""
    if dropout := architecture.own_dropout(config):
        return f"the model itself has dropout ({dropout.replace('_', ' ')})"
    return architecture.why_inexact(config, longest)


def prepare_model(model, packing: PackingPlan, device: Device) -> PackingPlan:
    """Prepares the model for this plan, tries it, and returns the plan that works.

    If the compiler fails the layers are not compiled, and if FlexAttention fails too the packing is prefix; a note says
    so.
    """
    if not backend.TAKES_ATTENTION:
        return packing
    base = model.get_base_model()
    if device.dtype != torch.float32:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                # autocast does it, without a float32 copy of every input
                setattr(module, "cast_input_dtype_enabled", False)  # noqa: B010 (PEFT does not declare it)
    # On a CPU a tree has a dense mask, which any attention takes.
    tree = "sdpa" if device.type == "cpu" else TREE_ATTENTION
    attention = {"tree": tree, "prefix": PREFIX_ATTENTION}.get(packing.name)
    if attention:
        base.set_attn_implementation(attention)
    layers: Any = getattr(base.get_decoder(), "layers", None)
    if packing.compiled and layers is None:
        note(f"the layers are not compiled: a {base.config.model_type} model has them elsewhere")
        packing = replace(packing, compiled=False)
    if packing.compiled:
        plain = [layer.forward for layer in layers]
        for layer in layers:
            layer.forward = torch.compile(layer.forward, dynamic=True)  # one graph for all layers and lengths
        if fault := _fault(model, packing):
            for layer, forward in zip(layers, plain, strict=True):
                layer.forward = forward
            note(f"torch.compile does not work here ({fault}), so the layers are not compiled: training will be slower")
            packing = replace(packing, compiled=False)
    if attention == TREE_ATTENTION and not packing.compiled and (fault := _fault(model, packing)):
        note(f"FlexAttention does not work here ({fault}), so PACKING is prefix: training will be slower")
        base.set_attn_implementation(PREFIX_ATTENTION)
        packing = replace(packing, name="prefix")
    return packing


def _fault(model, packing: PackingPlan) -> str | None:
    """The error of a small trial in one line; None if it works."""
    try:
        with state_kept(model):
            loss_of(model, packing, trial_rows(model, packing))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler may raise
        return one_line(error)
    return None


def loss_of(model, packing: PackingPlan, rows: list[packed_batches.TokenisedExample]) -> torch.Tensor:
    """The loss summed over the targets of rows, after a forward and backward pass; the gradients stay."""
    total = torch.zeros((), device=model.device)
    for batch in packed_batches.make_batches(rows, packing.name, 10_000):
        inputs = {key: tensor.to(model.device) for key, tensor in batch.items()}
        loss = packed_loss.loss_sum(model, inputs, model.get_base_model())
        loss.backward()
        total = total + loss.detach()
    return total


def trial_rows(model, packing: PackingPlan) -> list[packed_batches.TokenisedExample]:
    """Two made-up rows that share a prefix, no longer than the model sees."""
    most = architecture.longest_row(model.config)
    lengths = LONG_TRIAL if packing.compiled or packing.name == "tree" else SHORT_TRIAL
    first, second, shared = (int(min(length, most)) for length in lengths)
    known = architecture.known_tokens(model)
    rows = [
        [token % known for token in tokens]
        for tokens in (range(2, first + 2), [*range(2, shared + 2), *range(first + 2, first + 2 + second - shared)])
    ]
    return [{"input_ids": ids, "labels": ids} for ids in rows]


@contextlib.contextmanager
def state_kept(model, training: bool = True) -> Iterator[None]:
    """Keeps a trial from leaving gradients and from using the run's random numbers."""
    was_training, base_dtype = model.training, model.get_input_embeddings().weight.dtype
    devices = [] if model.device.type == "cpu" else [model.device.index or 0]
    with torch.random.fork_rng(devices, device_type=model.device.type if devices else "cuda"):
        model.train(training)
        try:
            with torch.autocast(
                model.device.type, dtype=base_dtype, enabled=base_dtype not in (torch.float32, torch.float64)
            ):
                yield
        finally:
            model.zero_grad(set_to_none=True)
            model.train(was_training)
