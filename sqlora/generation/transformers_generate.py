"""Prompts answered by transformers' own generate, in batches padded on the left: for models that batching.py does not
know.
"""

from __future__ import annotations

import contextlib

import torch
from transformers import GenerationConfig, LogitsProcessor

from sqlora.generation.token_search import Ended, Written
from sqlora.model.architecture import end_tokens
from sqlora.model.backend import backend
from sqlora.model.merging import base_of
from sqlora.settings.settings import Settings
from sqlora.system.console import note

if backend.TAKES_ATTENTION:
    from sqlora.generation import agreement

BATCH = 16  # rows, where GENERATION_BATCH_SIZE leaves it open


class PlainWriter:
    """Does what batching.BatchWriter does; with `alone` one row at a time, as where padding would change its answer."""

    def __init__(self, model, settings: Settings, tokenizer, alone: bool = False):
        self.model = model
        self.size = 1 if alone else settings.GENERATION_BATCH_SIZE or BATCH
        self.seed = settings.SEED
        self.ends = sorted(end_tokens(model, tokenizer))
        self.pad = tokenizer.eos_token_id  # not the pad token, for which the model may have no embedding
        best = GenerationConfig(
            max_new_tokens=settings.MAX_NEW_TOKENS,
            do_sample=False,
            num_beams=settings.NUM_BEAMS,
            num_return_sequences=settings.NUM_CANDIDATES if settings.NUM_BEAMS > 1 else 1,
            repetition_penalty=settings.REPETITION_PENALTY,
            eos_token_id=self.ends,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=self.pad,
            return_dict_in_generate=True,
            output_scores=settings.NUM_BEAMS > 1,
        )
        self.ways = [best]
        if settings.NUM_BEAMS == 1 < settings.NUM_CANDIDATES:
            sampling = {
                "do_sample": True,
                "temperature": settings.TEMPERATURE,
                "top_k": 0,
                "num_return_sequences": settings.NUM_CANDIDATES - 1,
            }
            self.ways.append(GenerationConfig(**best.to_diff_dict() | sampling))

    @torch.inference_mode()
    def write(self, prompts: list[list[int]], ended: Ended) -> None:
        """Calls `ended` with a prompt's index and its answers, the likeliest first, as soon as they are written."""
        self.model.eval()
        if (
            self.size > 1
            and backend.TAKES_ATTENTION
            and not agreement.padding_is_harmless(self.model, self._first_scores)
        ):
            note(
                f"rows are answered one at a time, since padding changes what a {self.model.config.model_type} model "
                f"answers"
            )
            self.size = 1
        torch.manual_seed(self.seed)
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        for start in range(0, len(order), self.size):
            batch = order[start : start + self.size]
            inputs = self._padded([prompts[i] for i in batch])
            written = [self._answers(inputs, way) for way in self.ways]
            for place, number in enumerate(batch):
                ended(number, [answer for answers in written for answer in answers[place]])

    def _padded(self, prompts: list[list[int]]) -> dict[str, torch.Tensor]:
        return {key: tensor.to(self.model.device) for key, tensor in pad_left(prompts, self.pad).items()}

    def _first_scores(self, prompts: list[list[int]]) -> torch.Tensor:
        """Of the two tokens after each prompt, float [prompts, 2, vocabulary]."""
        way = GenerationConfig(
            max_new_tokens=2,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=self.pad,
            output_logits=True,
            return_dict_in_generate=True,
        )
        with _no_other_way(self.model):
            return torch.stack(self.model.generate(**self._padded(prompts), generation_config=way).logits, dim=1)

    def _answers(self, inputs: dict[str, torch.Tensor], way: GenerationConfig) -> list[list[Written]]:
        """`way.num_return_sequences` answers for each prompt, the likeliest first."""
        likelihood = Likelihood(way.eos_token_id)
        with _no_other_way(self.model):
            made = self.model.generate(
                **inputs, generation_config=way, logits_processor=[likelihood] if way.do_sample else None
            )
        new = made.sequences[:, inputs["input_ids"].shape[1] :]
        ids = new.tolist()
        weights = [1.0] * len(ids)
        order = range(len(ids))
        count = way.num_return_sequences
        if way.do_sample:  # however likely, a sample is one vote
            scores = likelihood.sums(made.sequences).tolist()
            order = sorted(order, key=lambda place: (place // count, -scores[place]))
        elif way.num_beams > 1:  # beams are all different, so each counts as often as the model would write it
            # Not sequences_scores, which transformers 4.34 divides by the prompt's tokens too.
            scores = self.model.compute_transition_scores(made.sequences, made.scores, made.beam_indices)
            weights = scores.sum(dim=1).exp().tolist()
        answers = [(self._until_end(ids[place]), weights[place]) for place in order]
        return [answers[start : start + count] for start in range(0, len(answers), count)]

    def _until_end(self, ids: list[int]) -> list[int]:
        return next((ids[:place] for place, token in enumerate(ids) if token in self.ends), ids)


@contextlib.contextmanager
def _no_other_way(model):
    """Within it the model has no generation_config of its own, from which generate takes what it is not told: top_p,
    say.
    """
    base = base_of(model)
    before, base.generation_config = base.generation_config, GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = before


class Likelihood(LogitsProcessor):
    """Sums the log-probabilities of the tokens that are drawn, without keeping the scores of more than one step."""

    def __init__(self, ends: list[int]):
        self.ends = ends
        self.total: torch.Tensor | float = 0.0
        self.last: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.total = self.sums(input_ids)
        # A row that has ended draws no more.
        going = torch.ones_like(scores[:, 0])
        if self.last is not None:
            going = self.going * ~torch.isin(input_ids[:, -1], torch.tensor(self.ends, device=input_ids.device))
        self.last, self.going = scores.log_softmax(dim=-1), going
        return scores

    def sums(self, input_ids: torch.Tensor) -> torch.Tensor | float:
        """Float [rows], with the last column of `input_ids`, int64 [rows, length], counted in."""
        if self.last is None:
            return self.total
        return self.total + self.last.gather(1, input_ids[:, -1:])[:, 0].nan_to_num(neginf=0.0) * self.going


def pad_left(prompts: list[list[int]], pad: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64 [prompts, length], the prompts' last tokens in one column."""
    gaps = [max(map(len, prompts)) - len(ids) for ids in prompts]
    return {
        "input_ids": torch.tensor([[pad] * gap + ids for ids, gap in zip(prompts, gaps, strict=True)]),
        "attention_mask": torch.tensor([[0] * gap + [1] * len(ids) for ids, gap in zip(prompts, gaps, strict=True)]),
    }
