"""Answers by transformers' generate, in batches padded on the left: for models without continuous batching."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor

from sqlora.generation.constraint import TRIED, Constraint
from sqlora.generation.token_search import Ended, Written
from sqlora.model.architecture import end_tokens
from sqlora.model.backend import backend
from sqlora.model.merging import base_of
from sqlora.prompt import encoding
from sqlora.settings.settings import Settings
from sqlora.system.console import note

if backend.TAKES_ATTENTION:
    from sqlora.generation import agreement

BATCH = 16  # rows, where GENERATION_BATCH_SIZE leaves it open


class PlainWriter:
    """Has the interface of BatchWriter; with `alone` it answers one row at a time, where padding would change
    answers.
    """

    def __init__(self, model, settings: Settings, tokenizer, alone: bool = False):
        self.model = model
        self.size = 1 if alone else settings.GENERATION_BATCH_SIZE or BATCH
        self.seed = settings.SEED
        self.ends = sorted(end_tokens(model, tokenizer, settings.prompt_layout))
        self.text = encoding.trial_text(tokenizer, settings.prompt_layout)
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
        self.strategies = [best]
        if settings.NUM_BEAMS == 1 < settings.NUM_CANDIDATES:
            sampling = {
                "do_sample": True,
                "temperature": settings.TEMPERATURE,
                "top_k": 0,
                "num_return_sequences": settings.NUM_CANDIDATES - 1,
            }
            self.strategies.append(GenerationConfig(**best.to_diff_dict() | sampling))

    @torch.inference_mode()
    def write(
        self, prompts: list[list[int]], ended: Ended, constraints: Sequence[Constraint | None] | None = None
    ) -> None:
        """Calls `ended` with a prompt's index and its answers, likeliest first, as soon as they are complete.
        `constraints` has what the answers to each prompt may be.
        """
        limits = constraints or [None] * len(prompts)
        self.model.eval()
        if (
            self.size > 1
            and backend.TAKES_ATTENTION
            and not agreement.padding_is_harmless(self.model, self.text, self._first_scores)
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
            legal = [limits[i] for i in batch]
            written = [self._answers(inputs, strategy, legal) for strategy in self.strategies]
            for row, number in enumerate(batch):
                ended(number, [answer for answers in written for answer in answers[row]])

    def _padded(self, prompts: list[list[int]]) -> dict[str, torch.Tensor]:
        return {key: tensor.to(self.model.device) for key, tensor in pad_left(prompts, self.pad).items()}

    def _first_scores(self, prompts: list[list[int]]) -> torch.Tensor:
        """Of the two tokens after each prompt, float [prompts, 2, vocabulary]."""
        strategy = GenerationConfig(
            max_new_tokens=2,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=self.pad,
            output_logits=True,
            return_dict_in_generate=True,
        )
        with _only_given_settings(self.model):
            return torch.stack(self.model.generate(**self._padded(prompts), generation_config=strategy).logits, dim=1)

    def _answers(
        self, inputs: dict[str, torch.Tensor], strategy: GenerationConfig, constraints: list[Constraint | None]
    ) -> list[list[Written]]:
        """`strategy.num_return_sequences` answers for each prompt, likeliest first."""
        has_beams = strategy.num_beams > 1
        likelihood = Likelihood(strategy.eos_token_id)
        # Before others, so that it sees the model's own scores.
        processors: list[LogitsProcessor] = [] if has_beams else [likelihood]
        if any(constraints):
            is_greedy = not (has_beams or strategy.do_sample)
            processors.append(Allowed(constraints, inputs["input_ids"].shape[1], is_greedy))
        with _only_given_settings(self.model):
            made = self.model.generate(**inputs, generation_config=strategy, logits_processor=processors)
        new = made.sequences[:, inputs["input_ids"].shape[1] :]
        if has_beams:  # not sequences_scores, which transformers 4.34 divides by the prompt's tokens too
            sums = self.model.compute_transition_scores(made.sequences, made.scores, made.beam_indices).sum(dim=1)
        else:
            sums = likelihood.sums(made.sequences)
        # Beams are all different, so each counts as often as the model would write it; a sample, however likely, is one
        # vote.
        weights = sums.exp() if has_beams else torch.ones_like(sums)
        count = strategy.num_return_sequences
        answers = [
            Written.of(self._until_end(ids), weight, score, strategy.max_new_tokens)
            for ids, weight, score in zip(new.tolist(), weights.tolist(), sums.tolist(), strict=True)
        ]
        order = list(range(len(answers)))
        if strategy.do_sample:
            order = sorted(order, key=lambda answer: (answer // count, -sums[answer].item()))
        found = [[answers[i] for i in order[start : start + count]] for start in range(0, len(order), count)]
        # Where a constraint left fewer beams, there are fewer.
        return [[one for one in best if one.log_probability > -math.inf] or best[:1] for best in found]

    def _until_end(self, ids: list[int]) -> list[int]:
        return next((ids[:length] for length, token in enumerate(ids) if token in self.ends), ids)


@contextlib.contextmanager
def _only_given_settings(model):
    """Removes the model's generation_config, from which generate would take settings such as top_p."""
    base = base_of(model)
    before, base.generation_config = base.generation_config, GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = before


class Allowed(LogitsProcessor):
    """Forbids tokens that the constraint of their row does not allow, among the likeliest TRIED of each step; others
    are not drawn then.
    """

    def __init__(self, constraints: list[Constraint | None], start: int, is_greedy: bool):
        self.constraints, self.start, self.is_greedy = constraints, start, is_greedy  # `start`: tokens of the prompts

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        each = len(input_ids) // len(self.constraints)  # rows of a prompt
        scores = scores.clone()
        for row, answer in enumerate(input_ids[:, self.start :].tolist()):
            constraint = self.constraints[row // each]
            if constraint is None or any(token in constraint.ends for token in answer):
                continue
            kept = torch.tensor(self._kept(constraint, answer, scores[row]), device=scores.device)
            values = scores[row, kept]
            scores[row] = -torch.inf
            scores[row, kept] = values
        return scores

    def _kept(self, constraint: Constraint, answer: list[int], scores: torch.Tensor) -> list[int]:
        """The tokens that may follow an answer; one if it must, or is the only one that counts."""
        last = constraint.last_token(answer)
        likeliest = scores.topk(1 if last is not None else min(TRIED, len(scores))).indices.tolist()
        if last is not None:
            constraint.pass_over(answer, likeliest[: last != likeliest[0]], scores)
            return [last]
        if not self.is_greedy:
            allowed = [place for place, token in enumerate(likeliest) if constraint.allows(answer, token)]
            if allowed:
                constraint.pass_over(answer, likeliest[: allowed[0]], scores)
                return [likeliest[place] for place in allowed]
        return [constraint.first_allowed(answer, scores)]


class Likelihood(LogitsProcessor):
    """Sums the log-probabilities of sampled tokens, without keeping the scores of more than one step."""

    def __init__(self, ends: list[int]):
        self.ends = ends
        self.total: Any = 0.0
        self.going = torch.ones(())
        self.last: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.total = self.sums(input_ids)
        # A row that has ended samples no more tokens.
        going = torch.ones_like(scores[:, 0])
        if self.last is not None:
            going = self.going * ~torch.isin(input_ids[:, -1], torch.tensor(self.ends, device=input_ids.device))
        self.last, self.going = scores.log_softmax(dim=-1), going
        return scores

    def sums(self, input_ids: torch.Tensor) -> Any:
        """The sums, float [rows], including the last column of `input_ids`, int64 [rows, length]."""
        if self.last is None:
            return self.total
        return self.total + self.last.gather(1, input_ids[:, -1:])[:, 0].nan_to_num(neginf=0.0) * self.going


def pad_left(prompts: list[list[int]], pad: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64 [prompts, length], with the prompts' last tokens in one column."""
    gaps = [max(map(len, prompts)) - len(ids) for ids in prompts]
    return {
        "input_ids": torch.tensor([[pad] * gap + ids for ids, gap in zip(prompts, gaps, strict=True)]),
        "attention_mask": torch.tensor([[0] * gap + [1] * len(ids) for ids, gap in zip(prompts, gaps, strict=True)]),
    }
