"""Does a model answer here as it does in plain transformers? Tried at the start of every run, before anything is
answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from sqlora.generation.decoder import WINDOW_STEP, Decoder, slot_attention
from sqlora.model import precision
from sqlora.model.backend import backend
from sqlora.model.reference import faults_in_one_line, reference_model
from sqlora.system.errors import UserError


@torch.inference_mode()
def check_answering(model, text: list[int]) -> None:
    """Raises UserError unless the slots of decoder.py give two answers' first tokens the scores that the model as
    transformers runs it gives them, from the whole row. The rows are pieces of a `text`, its token ids: on made-up ones
    a trained model's scores change with every rounding.
    """
    shared, rows = 10, [_pieces(text, range(16)), _pieces(text, [*range(10), *range(28, 38)])]
    model.eval()
    with faults_in_one_line(model, "answered from", "try LOW_BIT (--low-bit) none, or "):
        with slot_attention(model):
            decoder = Decoder(model, len(rows), 1, WINDOW_STEP)
            decoder.graphs_work = False  # a graph would hold memory
            decoder.keep_prefix(rows[0][:shared])
            scores = [decoder.fill([0, 1], [row[:-1] for row in rows])]
            decoder.feed([0, 1], torch.tensor([row[-1:] for row in rows]))
            scores.append(decoder.step())
        with reference_model(model):
            logits = [
                model(input_ids=torch.tensor([row], device=model.device), use_cache=False).logits[0, -2:]
                for row in rows
            ]
    if hasattr(model, "peft_config") and not torch.stack(logits).isfinite().all():
        raise UserError(
            "with the adapter the model's scores are not finite; its weights or its lora_alpha are damaged: name "
            "another one, LORA_CHECKPOINT (--lora-checkpoint)"
        )
    error, most = _difference(model, torch.stack(scores, dim=1), torch.stack(logits))
    if not error <= most:
        raise UserError(
            f"this {model.config.model_type} model cannot be answered from here: the scores of an answer's first "
            f"tokens are {error:.2g} of their size off those of plain transformers (a right one: below {most:.2g}); "
            f"try DTYPE (--dtype) float32, or take another BASE_MODEL (--base-model)"
        )


@torch.inference_mode()
def padding_is_harmless(model, text: list[int], scores: Callable[[list[list[int]]], torch.Tensor]) -> bool:
    """Whether a row that is padded on the left gets the scores that it gets alone: `scores` gives those of the first
    tokens after each prompt, float [prompts, tokens, vocabulary]. The rows are pieces of a `text`. A recurrent model
    may take padding for text.
    """
    short, long = _pieces(text, range(18, 23)), _pieces(text, range(12))
    with faults_in_one_line(model, "answered from", "try LOW_BIT (--low-bit) none, or "):
        error, most = _difference(model, scores([long, short])[1:], scores([short]))
    return error <= most


def _difference(model, got: torch.Tensor, want: torch.Tensor) -> tuple[float, float]:
    """Of scores, as a share of their size, and the most that rounding makes of it."""
    config, dtype = model.config, backend.rounding(model)
    most = precision.limit_of_gradient(
        dtype, getattr(config, "hidden_size", 1), getattr(config, "num_hidden_layers", 1)
    )
    got, want = got.double().cpu(), want.double().cpu()
    return ((got - want).norm() / want.norm()).item(), most


def _pieces(text: list[int], places: Iterable[int]) -> list[int]:
    return [text[place % len(text)] for place in places]
