"""How the rows of a run are packed and whether layers are compiled: chosen for the model and device, and tried."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

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

# tokens of a trial's two rows, and of what they share: a tree of several blocks, as in training
LONG_TRIAL = (300, 276, 248)
SHORT_TRIAL = (44, 36, 20)  # where nothing is compiled, so that the trial takes less memory than a row of training


@dataclass(frozen=True)
class PackingPlan:
    """How rows are packed (one of packed_batches.FORMS) and whether layers are compiled, each with its reason."""

    name: str
    reason: str
    compiled: bool
    compile_reason: str


def choose_plan(config, settings: Settings, device: Device) -> PackingPlan:
    """What PACKING and COMPILE come to for a model's `config` on this device.

    Raises UserError where PACKING asks for a form that would not be exact.
    """
    if not backend.TAKES_ATTENTION:
        for name, asked in (
            ("PACKING", settings.PACKING not in ("auto", "off")),
            ("COMPILE", settings.COMPILE == "on"),
        ):
            if asked:
                note(f"{name} is {getattr(settings, name)}, which BACKEND {backend.NAME} cannot do, so it is off")
        return PackingPlan("off", _unfit(config, settings.MAX_LENGTH), False, "nor a compiled form")
    triton = device.type != "cpu" and has_triton()
    name, reason = settings.PACKING, "as PACKING asks"
    unfit = _unfit(config, settings.MAX_LENGTH)
    if name == "auto":
        name, reason = ("tree", "FlexAttention runs here") if triton else ("prefix", "no Triton here")
        if unfit:
            name, reason = "off", unfit
    elif name != "off" and unfit:
        raise UserError(f"PACKING (--packing) is {name!r}, and {unfit}; set it to auto or off")
    if architecture.goes_alone(config, settings.MAX_LENGTH):
        name, reason = "alone", unfit or reason
    if settings.COMPILE != "auto":
        return PackingPlan(name, reason, settings.COMPILE == "on", "as COMPILE asks")
    if distributed.rank_info().sharded:
        return PackingPlan(name, reason, False, "the base is spread over processes")
    return PackingPlan(name, reason, triton, "Triton is here" if triton else "no Triton here")


def _unfit(config, longest: int) -> str | None:
    """What keeps a model's rows from being packed."""
    if not backend.TAKES_ATTENTION:
        return f"BACKEND {backend.NAME} has no attention for it"
    if dropout := architecture.own_dropout(config):
        return f"the model has a dropout of its own ({dropout.replace('_', ' ')})"
    return architecture.why_inexact(config, longest)


def prepare_model(model, form: PackingPlan, device: Device) -> PackingPlan:
    """Makes the model ready for passes of this form, tries it, and returns the form that works.

    Where the compiler fails the layers stay as they were, and where FlexAttention fails too the form is prefix; a note
    says so.
    """
    if not backend.TAKES_ATTENTION:
        return form
    base = model.get_base_model()
    if device.dtype != torch.float32:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                # autocast takes care of it, without a float32 copy of every input
                module.cast_input_dtype_enabled = False
    # On a CPU a tree has a dense mask, which any attention takes.
    attention = {"tree": "sdpa" if device.type == "cpu" else TREE_ATTENTION, "prefix": PREFIX_ATTENTION}.get(form.name)
    if attention:
        base.set_attn_implementation(attention)
    layers = getattr(base.get_decoder(), "layers", None)
    if form.compiled and layers is None:
        note(f"the layers are not compiled: a {base.config.model_type} model has them elsewhere")
        form = replace(form, compiled=False)
    if form.compiled:
        plain = [layer.forward for layer in layers]
        for layer in layers:
            layer.forward = torch.compile(layer.forward, dynamic=True)  # one graph for all layers and lengths
        if fault := _fault(model, form):
            for layer, forward in zip(layers, plain, strict=True):
                layer.forward = forward
            note(f"the layers are not compiled, since torch.compile does not work here ({fault})")
            form = replace(form, compiled=False)
    if attention == TREE_ATTENTION and not form.compiled and (fault := _fault(model, form)):
        note(f"PACKING is prefix, since FlexAttention does not work here ({fault})")
        base.set_attn_implementation(PREFIX_ATTENTION)
        form = replace(form, name="prefix")
    return form


def _fault(model, form: PackingPlan) -> str | None:
    """What goes wrong when a small pass is tried, in one line."""
    try:
        with state_kept(model):
            trial_loss(model, form)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler may raise
        return one_line(error)
    return None


def trial_loss(model, form: PackingPlan) -> torch.Tensor:
    """The loss summed over the targets of two made-up rows, in a forward and a backward pass, whose gradients stay."""
    total = torch.zeros((), device=model.device)
    for one in packed_batches.make_batches(trial_rows(model, form), form.name, 10_000):
        loss = packed_loss.loss_sum(
            model, {key: tensor.to(model.device) for key, tensor in one.items()}, model.get_base_model()
        )
        loss.backward()
        total = total + loss.detach()
    return total


def trial_rows(model, form: PackingPlan) -> list[packed_batches.TokenisedExample]:
    """Two rows that share a beginning, as long as the model sees at most."""
    most = architecture.longest_row(model.config)
    lengths = LONG_TRIAL if form.compiled or form.name == "tree" else SHORT_TRIAL
    first, second, shared = (min(length, most) for length in lengths)
    known = model.get_input_embeddings().num_embeddings
    rows = [
        [token % known for token in tokens]
        for tokens in (range(2, first + 2), [*range(2, shared + 2), *range(first + 2, first + 2 + second - shared)])
    ]
    return [{"input_ids": ids, "labels": ids} for ids in rows]


@contextlib.contextmanager
def state_kept(model, training: bool = True) -> Iterator[None]:
    """A trial leaves no gradient and draws no random number."""
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
