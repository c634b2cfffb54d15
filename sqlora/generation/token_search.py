"""Token search: greedy, sampling and beam search, and the unfinished answers of one row."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection
from typing import NamedTuple, cast

import torch
from torch.nn.utils.rnn import pad_sequence

from sqlora.generation.constraint import LAST, TRIED, Constraint
from sqlora.settings.settings import Settings

Beam = tuple[float, int, list[int]]  # the sum of its log-probabilities, the slot that it continues, its ids
NONE = -1  # no token


class Written(NamedTuple):
    """An answer's ids, without EOS, its weight in a vote, and the mean log-probability of its tokens, with EOS."""

    ids: list[int]
    weight: float
    log_probability: float

    @classmethod
    def of(cls, ids: list[int], weight: float, score: float, most: int) -> Written:
        """An answer of at most `most` tokens, whose log-probabilities sum up to `score`."""
        return cls(ids, weight, score / min(len(ids) + 1, most))


Ended = Callable[[int, list[Written]], None]  # is called with a prompt's index and its answers, likeliest first


def penalised(scores: torch.Tensor, rows: list[SampledAnswers] | list[BeamAnswers], penalty: float) -> torch.Tensor:
    """Scores [rows, columns, vocabulary] with those of each column's tokens so far, the prompt's too, brought down
    (Keskar et al. 2019, arXiv:1909.05858, as transformers has it)."""
    if penalty == 1:
        return scores
    columns = scores.shape[1]
    answers = [answer for row in rows for answer in row.answers[:columns]]
    longest = max(map(len, answers))
    written = torch.tensor([answer + [NONE] * (longest - len(answer)) for answer in answers], dtype=torch.int64)
    prompts = pad_sequence([torch.tensor(row.prompt) for row in rows], batch_first=True, padding_value=NONE)
    prompts = prompts.repeat_interleave(columns, dim=0)
    tokens = torch.cat([prompts, written], dim=1)
    tokens = torch.where(tokens == NONE, tokens[:, :1], tokens).to(scores.device)
    flat = scores.flatten(0, 1)
    of_tokens = flat.gather(1, tokens)
    return flat.scatter(1, tokens, torch.where(of_tokens < 0, of_tokens * penalty, of_tokens / penalty)).view_as(scores)


class Samples:
    """The likeliest tokens in the first of `width` answers to each row, tokens drawn at TEMPERATURE in the others.

    Samples depend only on SEED and the row's prompt, whatever other rows are answered with it.
    """

    def __init__(self, settings: Settings, eos: Collection[int]):
        self.width = settings.NUM_CANDIDATES
        self.eos, self.most = eos, settings.MAX_NEW_TOKENS
        self.seed, self.temperature, self.penalty = settings.SEED, settings.TEMPERATURE, settings.REPETITION_PENALTY

    def begin(self, prompt: list[int], constraint: Constraint | None = None) -> SampledAnswers:
        chances = None
        if self.width > 1:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {prompt}".encode()))
            chances = torch.rand(self.most, self.width - 1, generator=generator, dtype=torch.float64)
        return SampledAnswers(prompt, self.width, self.eos, self.most, chances, constraint)

    def pick(self, logits: torch.Tensor, rows: list[SampledAnswers]) -> torch.Tensor:
        """The rows' next tokens and their log-probabilities, [2, rows, width], whatever their constraints. `logits`
        [rows, 1 or width, vocabulary] follow the answers, or the prompts.
        """
        logits = penalised(logits, rows, self.penalty)
        if self.width == 1:
            best, likeliest = logits.max(dim=-1)
            return torch.stack([likeliest.to(best.dtype), best - logits.logsumexp(dim=-1)])
        chances = torch.stack([cast(torch.Tensor, row.chances)[row.length] for row in rows])
        chances = chances.to(logits.device, logits.dtype)
        likelihoods = logits.log_softmax(dim=-1).expand(-1, self.width, -1)
        sums = (likelihoods[:, 1:] / self.temperature).softmax(dim=-1).cumsum(dim=-1)
        drawn = torch.searchsorted(sums, chances[:, :, None] * sums[:, :, -1:], right=True)[:, :, 0]
        tokens = torch.cat([likelihoods[:, :1].argmax(dim=-1), drawn.clamp(max=logits.shape[-1] - 1)], dim=1)
        scores = likelihoods.gather(2, tokens[:, :, None])[:, :, 0]
        return torch.stack([tokens.to(scores.dtype), scores])

    def allowed(
        self, row: SampledAnswers, tokens: list[int], scores: list[float], logits: torch.Tensor
    ) -> tuple[list[int], list[float]]:
        """What was picked for a row by `logits`, [1 or width, vocabulary]; others for what its constraint forbids."""
        logits = penalised(logits[None], [row], self.penalty)[0].expand(self.width, -1)
        found = [self._allowed(row, column, token, logits[column]) for column, token in enumerate(tokens)]
        row.refused = found != tokens
        return found, [
            score if token == picked else of_column.log_softmax(dim=-1)[token].item()
            for token, picked, score, of_column in zip(found, tokens, scores, logits, strict=True)
        ]

    def _allowed(self, row: SampledAnswers, column: int, token: int, scores: torch.Tensor) -> int:
        """The token, or another for it where the row's constraint forbids it: the one that ends the answer in time, the
        likeliest one by `scores`, float [vocabulary], or drawn until one is allowed.
        """
        constraint, answer = row.constraint, row.answers[column]
        if constraint is None or not row.going[column]:
            return token
        last = constraint.last_token(answer)
        if last is not None:
            constraint.pass_over(answer, [token] if last != token else [], scores)
            return last
        if constraint.allows(answer, token):
            return token
        if column == 0:
            return constraint.first_allowed(answer, scores)
        likelihoods = scores.double().cpu()
        shares = (likelihoods / self.temperature).softmax(dim=-1)
        chance = cast(torch.Tensor, row.chances)[row.length, column - 1].item()
        for _ in range(TRIED):
            sums = shares.cumsum(dim=-1)
            place = chance * sums[-1].item()
            token = min(int(torch.searchsorted(sums, place, right=True)), len(shares) - 1)
            if constraint.allows(answer, token):
                return token
            constraint.pass_over(answer, [token], likelihoods)
            share = shares[token].item()
            # Within the share of what was drawn the chance is as good as a new one.
            chance = min(max((place - (sums[token].item() - share)) / share, 0.0), 1 - 1e-12) if share else 0.5
            shares[token] = 0.0
        return constraint.first_allowed(answer, likelihoods)


class SampledAnswers:
    """`width` independent answers to one row."""

    refused = False  # whether its constraint forbade a token last

    def __init__(
        self,
        prompt: list[int],
        width: int,
        eos: Collection[int],
        most: int,
        chances: torch.Tensor | None,
        constraint: Constraint | None,
    ):
        self.constraint = constraint
        self.prompt = prompt
        self.eos, self.most, self.chances = eos, most, chances
        self.answers: list[list[int]] = [[] for _ in range(width)]
        self.scores = [0.0] * width
        self.going = [True] * width
        self.done = False
        self.length = 0
        self._room = LAST  # tokens that the way to an end may take

    def tokens(self) -> list[int]:
        """The token that each slot was fed last."""
        return [answer[-1] if answer else self.prompt[-1] for answer in self.answers]

    @property
    def is_careful(self) -> bool:
        """Whether the constraint has to be asked before what was picked is fed: it forbade a token last, or few may
        follow.
        """
        return self.constraint is not None and (self.refused or self.length + self._room + LAST >= self.most)

    def refuses(self, tokens: list[int]) -> bool:
        """Whether the constraint forbids one of the tokens that were picked."""
        if self.constraint is None:
            return False
        written = [(answer, token) for answer, token, on in zip(self.answers, tokens, self.going, strict=True) if on]
        self.refused = not all(self.constraint.allows(answer, token) for answer, token in written)
        if not self.refused:
            self._room = max(self.constraint.room([*answer, token]) for answer, token in written)
        return self.refused

    def take(self, tokens: list[int], scores: list[float]) -> None:
        self.length += 1
        for i, (token, score) in enumerate(zip(tokens, scores, strict=True)):
            if not self.going[i]:
                continue
            self.scores[i] += score
            ends = token in self.eos
            if not ends:
                self.answers[i].append(token)
            if ends or self.length == self.most:
                self.going[i] = False
                self.done = not any(self.going)

    def written(self) -> list[Written]:
        """The greedy answer, then the samples, likeliest first. However likely, each is one vote."""
        order = [0, *sorted(range(1, len(self.answers)), key=lambda i: -self.scores[i])]
        return [Written.of(self.answers[i], 1.0, self.scores[i], self.most) for i in order]


class Beams:
    """Beam search as transformers does it, with its default length penalty of 1 and early_stopping False
    (transformers.GenerationMixin._beam_search)."""

    def __init__(self, settings: Settings, eos: Collection[int]):
        self.width, self.count = settings.NUM_BEAMS, settings.NUM_CANDIDATES
        self.eos, self.most, self.penalty = eos, settings.MAX_NEW_TOKENS, settings.REPETITION_PENALTY

    def begin(self, prompt: list[int], constraint: Constraint | None = None) -> BeamAnswers:
        return BeamAnswers(prompt, self.width, self.count, self.eos, self.most, constraint)

    def choose(self, logits: torch.Tensor, rows: list[BeamAnswers]) -> None:
        """Each row takes its next tokens. `logits` [rows, 1 or width, vocabulary] follow its beams, or its prompt."""
        likelihoods = penalised(logits.log_softmax(dim=-1), rows, self.penalty)
        if logits.shape[1] > 1:
            likelihoods = likelihoods + torch.tensor([row.scores for row in rows], device=logits.device)[:, :, None]
        # Enough candidates even if each of the best ends with every EOS.
        vocabulary, flat = logits.shape[-1], likelihoods.flatten(1)
        most = min((1 + len(self.eos)) * self.width, flat.shape[1])
        scores, indices = flat.topk(most)
        for i, (row, best, flat_indices) in enumerate(zip(rows, scores.tolist(), indices.tolist(), strict=True)):
            candidates = [(score, *divmod(index, vocabulary)) for score, index in zip(best, flat_indices, strict=True)]
            if row.constraint is not None and any(row.forbids(beam, token) for _, beam, token in candidates):
                candidates = self._allowed(row, flat[i], most, vocabulary)
            row.take(candidates)

    def _allowed(
        self, row: BeamAnswers, scores: torch.Tensor, most: int, vocabulary: int
    ) -> list[tuple[float, int, int]]:
        """The best candidates that the row's constraint allows; where there are fewer, others that cannot win."""
        constraint = row.constraint
        assert constraint is not None
        best, indices = scores.topk(min(most + TRIED, len(scores)))
        allowed = [(scores[beam * vocabulary + token].item(), beam, token) for beam, token in row.last_tokens()]
        there = {(beam, token) for _, beam, token in allowed}
        others: list[tuple[float, int, int]] = []
        for rank, (score, index) in enumerate(zip(best.tolist(), indices.tolist(), strict=True)):
            beam, token = divmod(index, vocabulary)
            if score == -math.inf or row.forbids(beam, token):
                if rank < most and score > -math.inf:
                    constraint.note(row.answers[beam], token, math.exp(score - row.scores[beam]))
                others.append((-math.inf, beam, token))
            elif (beam, token) not in there:
                allowed.append((score, beam, token))
            if len(allowed) == most:
                break
        if not allowed:
            for beam in range(len(scores) // vocabulary):
                of_beam = scores[beam * vocabulary : (beam + 1) * vocabulary]
                token = constraint.first_allowed(row.answers[beam], of_beam)
                allowed.append((of_beam[token].item(), beam, token))
        return (sorted(allowed, reverse=True) + others)[:most]


class BeamAnswers:
    """The beams of one row, and its best finished answers, each with its score per token, EOS included."""

    def __init__(
        self,
        prompt: list[int],
        width: int,
        count: int,
        eos: Collection[int],
        most: int,
        constraint: Constraint | None,
    ):
        self.constraint = constraint
        self.prompt = prompt
        self.width, self.count, self.eos, self.most = width, count, eos, most
        self.answers: list[list[int]] = [[] for _ in range(width)]
        self.scores = [0.0] * width
        self.parents = list(range(width))  # the slot that each beam continues
        self.ended: list[tuple[float, list[int], float]] = []  # score for each token, ids, sum
        self.length = 0
        self.done = False

    def tokens(self) -> list[int]:
        return [beam[-1] if beam else 0 for beam in self.answers]

    def forbids(self, beam: int, token: int) -> bool:
        """Whether the constraint, if there is one, lets no such token follow a beam."""
        if self.constraint is None:
            return False
        last = self.constraint.last_token(self.answers[beam])
        return token != last if last is not None else not self.constraint.allows(self.answers[beam], token)

    def last_tokens(self) -> list[tuple[int, int]]:
        """The beams that must end now, each with its next token."""
        found = [self.constraint.last_token(answer) for answer in self.answers] if self.constraint else []
        return [(beam, token) for beam, token in enumerate(found) if token is not None]

    def take(self, candidates: list[tuple[float, int, int]]) -> None:
        """Sums of log-probabilities, more than `width`, with the beam and the token of each, the likeliest first."""
        self.length += 1
        last = self.length == self.most
        going = []
        for rank, (score, beam, token) in enumerate(candidates):
            if token not in self.eos and not last:
                going.append((score, beam, self.answers[beam] + [token]))
            elif rank < self.width:
                ids = self.answers[beam] + [token] * (token not in self.eos)
                self.ended.append((score / self.length, ids, score))
        self.ended = sorted(self.ended, key=lambda one: -one[0])[: self.width]
        if not last:
            self.scores, self.parents, self.answers = map(list, zip(*self._in_slots(going[: self.width]), strict=True))
        # No beam is expected to be better than the worst that has ended, at the length that it has now.
        full = len(self.ended) == self.width
        self.done = last or (full and max(self.scores) / self.length <= self.ended[-1][0])

    def _in_slots(self, beams: list[Beam]) -> list[Beam]:
        """The beams, likeliest first, by slot. A parent's likeliest child stays in its slot: its keys and values need
        no move.
        """
        slots: list[Beam | None] = [None] * self.width
        others = []
        for beam in beams:
            if slots[beam[1]] is None:
                slots[beam[1]] = beam
            else:
                others.append(beam)
        return [beam or others.pop(0) for beam in slots]

    def written(self) -> list[Written]:
        """The best, each as often as the model would write it. Where a constraint left fewer beams, there are fewer."""
        best = [one for one in self.ended[: self.count] if one[0] > -math.inf] or self.ended[:1]
        return [Written(ids, torch.tensor(score).exp().item(), mean) for mean, ids, score in best]
