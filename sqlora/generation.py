"""SQL from a model: batches of prompts, sorted by length, padded on the left, decoded to the SQL alone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import torch
from peft import PeftModel
from transformers import GenerationConfig

from sqlora import prompt
from sqlora.console import progress_bar
from sqlora.errors import UserError
from sqlora.settings import Settings


def answer_rows(model, tokenizer, rows: list[dict[str, str]], settings: Settings) -> list[dict[str, str | None]]:
    """Each row's question, context and answer, with the SQL of the base and of the adapter; None for what is not there.

    One model serves both: its adapter, if it has one, is switched off for the base's answers.
    """
    has_adapter = isinstance(model, PeftModel)
    askers = {}
    if settings.MODEL != "adapter":
        askers["base"] = model.disable_adapter if has_adapter else contextlib.nullcontext
    if has_adapter:
        askers["adapter"] = contextlib.nullcontext
    answers: dict[str, list[str]] = {}
    with progress_bar() as bar:
        for name, as_asker in askers.items():
            task = bar.add_task(name, total=len(rows))
            with as_asker():
                answers[name] = generate_sql(model, tokenizer, rows, settings, functools.partial(bar.advance, task))
    return [
        {key: row.get(key) for key in ("question", "context", "answer")}
        | {name: answers[name][i] if name in answers else None for name in ("base", "adapter")}
        for i, row in enumerate(rows)
    ]


@torch.inference_mode()
def generate_sql(model, tokenizer, rows: list[dict[str, str]], settings: Settings,
                 advance: Callable[[int], None] = lambda done: None) -> list[str]:
    """The model's SQL for each row's question and context, in the order of `rows`.

    `advance` is called with the number of rows that each batch answered. Raises UserError for a prompt that leaves the
    model no room for an answer.
    """
    prompts = prompt.encode_prompts(tokenizer, rows)
    _check_lengths(prompts, model.config.max_position_embeddings, settings.MAX_NEW_TOKENS)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    how = GenerationConfig(
        max_new_tokens=settings.MAX_NEW_TOKENS,
        do_sample=False,
        num_beams=settings.NUM_BEAMS,
        repetition_penalty=settings.REPETITION_PENALTY,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=pad,
    )
    model.eval()
    answers = [""] * len(rows)
    longest_first = sorted(range(len(rows)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(rows), settings.GENERATION_BATCH_SIZE):
        batch = longest_first[start : start + settings.GENERATION_BATCH_SIZE]
        inputs = pad_left([prompts[i] for i in batch], pad)
        length = inputs["input_ids"].shape[1]
        output = model.generate(**{key: tensor.to(model.device) for key, tensor in inputs.items()}, generation_config=how)
        for i, ids in zip(batch, output[:, length:].tolist(), strict=True):
            answers[i] = prompt.extract_sql(prompt.decode_answer(tokenizer, ids))
        advance(len(batch))
    return answers


def pad_left(prompts: list[list[int]], pad: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64 [prompts, length], the prompts' last tokens in one column."""
    length = max(map(len, prompts))
    return {
        "input_ids": torch.tensor([[pad] * (length - len(ids)) + ids for ids in prompts]),
        "attention_mask": torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in prompts]),
    }


def _check_lengths(prompts: list[list[int]], window: int, new_tokens: int) -> None:
    for number, ids in enumerate(prompts, start=1):
        if len(ids) + new_tokens > window:
            raise UserError(f"row {number}: its prompt has {len(ids)} tokens, and with MAX_NEW_TOKENS (--max-new-tokens) "
                            f"{new_tokens} it does not fit the model's window of {window}; shorten the context")
