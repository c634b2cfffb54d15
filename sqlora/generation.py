"""SQL from a model: batches of prompts, sorted by length, padded on the left, decoded to the SQL alone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import torch
from peft import PeftModel
from transformers import GenerationConfig, LogitsProcessor

from sqlora import prefix, prompt, voting
from sqlora.console import progress_bar
from sqlora.errors import UserError
from sqlora.settings import Settings
from sqlora.voting import Candidate


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


def generate_sql(model, tokenizer, rows: list[dict[str, str]], settings: Settings,
                 advance: Callable[[int], None] = lambda done: None) -> list[str]:
    """The model's SQL for each row's question and context, in the order of `rows`.

    With NUM_CANDIDATES above 1 several are written for each, and `voting.choose` takes one. `advance` is called with the
    number of rows that each batch answered. Raises UserError for a prompt that leaves the model no room for an answer.
    """
    candidates = generate_candidates(model, tokenizer, rows, settings, advance)
    if settings.NUM_CANDIDATES == 1:
        return [written[0].sql for written in candidates]
    return voting.choose([row["context"] for row in rows], candidates)


@torch.inference_mode()
def generate_candidates(model, tokenizer, rows: list[dict[str, str]], settings: Settings,
                        advance: Callable[[int], None] = lambda done: None) -> list[list[Candidate]]:
    """NUM_CANDIDATES queries for each row, the likeliest first: the best beams, or the greedy one and samples, by SEED."""
    prompts = prompt.encode_prompts(tokenizer, rows, settings.PROMPT_ORDER)
    _check_lengths(prompts, model.config.max_position_embeddings, settings.MAX_NEW_TOKENS)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    best = GenerationConfig(
        max_new_tokens=settings.MAX_NEW_TOKENS,
        do_sample=False,
        num_beams=settings.NUM_BEAMS,
        num_return_sequences=settings.NUM_CANDIDATES if settings.NUM_BEAMS > 1 else 1,
        repetition_penalty=settings.REPETITION_PENALTY,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=pad,
        return_dict_in_generate=True,
        output_scores=settings.NUM_BEAMS > 1,
    )
    ways = [best]
    if settings.NUM_BEAMS == 1 < settings.NUM_CANDIDATES:
        sampling = {"do_sample": True, "temperature": settings.TEMPERATURE, "num_return_sequences": settings.NUM_CANDIDATES - 1}
        ways.append(GenerationConfig(**best.to_diff_dict() | sampling, top_k=0))
    model.eval()
    torch.manual_seed(settings.SEED)
    answers: list[list[Candidate]] = [[] for _ in rows]
    longest_first = sorted(range(len(rows)), key=lambda i: -len(prompts[i]))
    shared = prefix.shared_length(prompts)
    cache = prefix.prefill(model, prompts[0][:shared])
    if cache is None:
        shared = 0
    for start in range(0, len(rows), settings.GENERATION_BATCH_SIZE):
        batch = longest_first[start : start + settings.GENERATION_BATCH_SIZE]
        padded = pad_left([prompts[i] for i in batch], pad, shared)
        inputs = {key: tensor.to(model.device) for key, tensor in padded.items()}
        for way in ways:
            if cache is not None:
                inputs["past_key_values"] = prefix.repeated(cache, len(batch) * max(way.num_beams, way.num_return_sequences))
            for place, candidate in enumerate(_answers(model, tokenizer, inputs, way)):
                answers[batch[place // way.num_return_sequences]].append(candidate)
        advance(len(batch))
    return answers


def _answers(model, tokenizer, inputs: dict[str, torch.Tensor], way: GenerationConfig) -> list[Candidate]:
    """`way.num_return_sequences` answers for each prompt, those of one prompt beside each other, the likeliest first."""
    likelihood = Likelihood(way.eos_token_id)
    made = model.generate(**inputs, generation_config=way, logits_processor=[likelihood] if way.do_sample else None)
    ids = made.sequences[:, inputs["input_ids"].shape[1] :]
    texts = [prompt.extract_sql(prompt.decode_answer(tokenizer, answer)) for answer in ids.tolist()]
    if way.do_sample:  # however likely, a sample is one vote
        scores = likelihood.sums(made.sequences).tolist()
        order = sorted(range(len(texts)), key=lambda place: (place // way.num_return_sequences, -scores[place]))
        return [Candidate(texts[place], 1.0) for place in order]
    if way.num_beams > 1:  # beams are all different, so each counts as often as the model would write it
        lengths = (ids != way.pad_token_id).sum(dim=1)
        return [Candidate(*pair) for pair in zip(texts, (made.sequences_scores * lengths).exp().tolist(), strict=True)]
    return [Candidate(text, 1.0) for text in texts]


class Likelihood(LogitsProcessor):
    """Sums the log-probabilities of the tokens that are drawn, without keeping the scores of more than one step."""

    def __init__(self, eos_token_id: int):
        self.eos_token_id = eos_token_id
        self.total: torch.Tensor | float = 0.0
        self.last: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.total = self.sums(input_ids)
        # A row that has ended draws no more.
        going = torch.ones_like(scores[:, 0]) if self.last is None else self.going * (input_ids[:, -1] != self.eos_token_id)
        self.last, self.going = scores.log_softmax(dim=-1), going
        return scores

    def sums(self, input_ids: torch.Tensor) -> torch.Tensor | float:
        """Float [rows], with the last column of `input_ids`, int64 [rows, length], counted in."""
        if self.last is None:
            return self.total
        return self.total + self.last.gather(1, input_ids[:, -1:])[:, 0].nan_to_num(neginf=0.0) * self.going


def pad_left(prompts: list[list[int]], pad: int, shared: int = 0) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64 [prompts, length], the prompts' last tokens in one column.

    The padding follows the first `shared` tokens, which stand in the first columns.
    """
    gaps = [max(map(len, prompts)) - len(ids) for ids in prompts]
    return {
        "input_ids": torch.tensor([ids[:shared] + [pad] * gap + ids[shared:] for ids, gap in zip(prompts, gaps, strict=True)]),
        "attention_mask": torch.tensor([[1] * shared + [0] * gap + [1] * (len(ids) - shared)
                                        for ids, gap in zip(prompts, gaps, strict=True)]),
    }


def _check_lengths(prompts: list[list[int]], window: int, new_tokens: int) -> None:
    for number, ids in enumerate(prompts, start=1):
        if len(ids) + new_tokens > window:
            raise UserError(f"row {number}: its prompt has {len(ids)} tokens, and with MAX_NEW_TOKENS (--max-new-tokens) "
                            f"{new_tokens} it does not fit the model's window of {window}; shorten the context")
