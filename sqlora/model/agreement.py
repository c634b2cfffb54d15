"""Does a model compute here what it computes in plain transformers? Tried at the start of every run, before anything is trained
or answered: a model of a kind that was never tried may do something to its logits, masks or positions that is not known here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import torch

from sqlora.doctor.result import one_line
from sqlora.model import architecture, precision
from sqlora.model.merging import base_of
from sqlora.model.transformers_compat import LEGACY
from sqlora.system.errors import UserError
from sqlora.training.packing import packed_batches, packed_loss

if not LEGACY:
    from sqlora.generation import decoder as decoding

DROPPED = 0.1  # by which a gradient's norm may differ where each way draws its own dropout


def check_training(model, form: packed_loss.Form) -> None:
    """Raises UserError unless two rows' loss and gradient norm are those of the model as transformers runs it: each row by
    itself, the model's own loss, attention by its definition (eager), nothing compiled.

    They differ by rounding alone, of which precision.py says how large it may be. Nothing is left behind.
    """
    with _faults_told(model, "trained", "try LOW_BIT (--low-bit) none or other LORA_TARGETS (--lora-targets), or "):
        # In evaluation nothing is dropped. But a compiled layer would be compiled anew for it; there both ways drop, which leaves
        # the loss as it is, since a fresh adapter adds nothing to it.
        drops = form.compiled and not architecture.own_dropout(model.config)
        ours = _measured(model, drops, lambda: packed_loss.trial(model, form))
        with _plain(model):
            theirs = _measured(model, drops, lambda: _plain_loss(model, packed_loss.trial_rows(model, form)))
    dtype, config = model.get_input_embeddings().weight.dtype, model.config
    layers, size = getattr(config, "num_hidden_layers", 1), getattr(config, "hidden_size", 1)
    limits = (precision.limit_of_loss(dtype, size), precision.limit_of_gradient(dtype, size, layers) + drops * DROPPED)
    for name, one, other, most in zip(("summed loss", "gradient norm"), ours, theirs, limits, strict=True):
        if not abs(one - other) <= most * abs(other):  # which NaN is not
            raise UserError(f"this {config.model_type} model cannot be trained here: the {name} of two rows is {one:.6g}, and in "
                            f"plain transformers {other:.6g}; try PACKING (--packing) off, COMPILE (--compile) off or DTYPE "
                            f"(--dtype) float32, or take another BASE_MODEL (--base-model)")


@torch.inference_mode()
def check_answering(model) -> None:
    """Raises UserError unless the slots of decoding.py give two answers' first tokens the scores that the model as transformers
    runs it gives them, from the whole row."""
    shared, rows = 10, [_tokens(model, range(2, 18)), _tokens(model, [*range(2, 12), *range(30, 40)])]
    model.eval()
    with _faults_told(model, "answered from", "try LOW_BIT (--low-bit) none, or "):
        with decoding.slot_attention(model):
            decoder = decoding.Decoder(model, len(rows), 1, decoding.WINDOW_STEP)
            decoder.graphs_work = False  # a graph would hold memory
            decoder.keep_prefix(rows[0][:shared])
            found = [decoder.fill([0, 1], [row[:-1] for row in rows])]
            decoder.tokens = [row[-1] for row in rows]
            found.append(decoder.step())
        with _plain(model):
            logits = [model(input_ids=torch.tensor([row], device=model.device), use_cache=False).logits[0, -2:] for row in rows]
    error, most = _difference(model, torch.stack(found, dim=1), torch.stack(logits))
    if not error <= most:
        raise UserError(f"this {model.config.model_type} model cannot be answered from here: the scores of an answer's first "
                        f"tokens are {error:.2g} of their size off those of plain transformers (a right one: below {most:.2g}); "
                        f"try DTYPE (--dtype) float32, or take another BASE_MODEL (--base-model)")


@torch.inference_mode()
def padding_is_harmless(model, scores: Callable[[list[list[int]]], torch.Tensor]) -> bool:
    """Whether a row that is padded on the left gets the scores that it gets alone: `scores` gives those of the first tokens after
    each prompt, float [prompts, tokens, vocabulary]. A recurrent model may take padding for text."""
    short, long = _tokens(model, range(20, 25)), _tokens(model, range(2, 14))
    with _faults_told(model, "answered from", "try LOW_BIT (--low-bit) none, or "):
        error, most = _difference(model, scores([long, short])[1:], scores([short]))
    return error <= most


def _difference(model, got: torch.Tensor, want: torch.Tensor) -> tuple[float, float]:
    """Of scores, as a share of their size, and the most that rounding makes of it."""
    config, dtype = model.config, model.get_input_embeddings().weight.dtype
    most = precision.limit_of_gradient(dtype, getattr(config, "hidden_size", 1), getattr(config, "num_hidden_layers", 1))
    got, want = got.double().cpu(), want.double().cpu()
    return ((got - want).norm() / want.norm()).item(), most


def _tokens(model, numbers: Iterable[int]) -> list[int]:
    known = model.get_input_embeddings().num_embeddings
    return [number % known for number in numbers]


@contextlib.contextmanager
def _faults_told(model, done: str, remedy: str) -> Iterator[None]:
    """What the model's own code raises, in one line: which of transformers' models work, and with what, is not known here."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError("a row of a short trial does not fit into the device's memory beside the model; set LOW_BIT (--low-bit) "
                        "to nf4, or take a smaller BASE_MODEL (--base-model)") from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"this {model.config.model_type} model cannot be {done} here ({one_line(error)}); {remedy}take another "
                        f"BASE_MODEL (--base-model)") from error


def _measured(model, training: bool, compute) -> tuple[float, float]:
    """The loss that `compute` gives, and the norm of the gradient that it leaves."""
    with packed_loss.state_kept(model, training):
        loss = compute().item()
        gradients = [parameter.grad.double().norm() for parameter in model.parameters() if parameter.grad is not None]
        return loss, torch.stack(gradients).norm().item() if gradients else 0.0


def _plain_loss(model, rows: list[packed_batches.Row]) -> torch.Tensor:
    """The sum over all targets, by the model's own loss for each row, a mean; its gradients are left."""
    total = torch.zeros((), device=model.device)
    for row in rows:
        ids = torch.tensor([row["input_ids"]], device=model.device)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss * packed_batches.count_targets([row])
        loss.backward()
        total = total + loss.detach()
    return total


@contextlib.contextmanager
def _plain(model) -> Iterator[None]:
    """Within it the model is as transformers has it by definition."""
    if LEGACY:
        yield
        return
    base = base_of(model)
    before = base.config._attn_implementation
    base.set_attn_implementation("eager")
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        base.set_attn_implementation(before)
