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
    prompts = pad_sequence([row.prompt for row in rows], batch_first=True, padding_value=NONE).repeat_interleave(
        columns, dim=0
    )
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

    def choose(self, logits: torch.Tensor, rows: list[SampledAnswers]) -> None:
        """Each row takes its next tokens. `logits` [rows, 1 or width, vocabulary] follow its answers, or its prompt."""
        logits = penalised(logits, rows, self.penalty)
        if self.width == 1:
            best, likeliest = logits[:, 0].max(dim=-1)
            # In one tensor, so that the device is waited for once.
            found = torch.stack([likeliest.to(best.dtype), best - logits[:, 0].logsumexp(dim=-1)], dim=1).tolist()
            for i, (row, (number, score)) in enumerate(zip(rows, found, strict=True)):
                token = int(number)
                if row.constraint is not None and row.is_due(token):
                    allowed = self._allowed(row, 0, token, logits[i, 0])
                    if allowed != token:
                        token, score = allowed, logits[i, 0].log_softmax(dim=-1)[allowed].item()
                row.take([token], [score])
            return
        chances = torch.stack([cast(torch.Tensor, row.chances)[row.length] for row in rows])
        chances = chances.to(logits.device, logits.dtype)
        likelihoods = logits.log_softmax(dim=-1).expand(-1, self.width, -1)
        sums = (likelihoods[:, 1:] / self.temperature).softmax(dim=-1).cumsum(dim=-1)
        drawn = torch.searchsorted(sums, chances[:, :, None] * sums[:, :, -1:], right=True)[:, :, 0]
        tokens = torch.cat([likelihoods[:, :1].argmax(dim=-1), drawn.clamp(max=logits.shape[-1] - 1)], dim=1)
        for i, ids in enumerate(tokens.tolist()):
            for column, token in enumerate(ids):
                if rows[i].constraint is not None and rows[i].is_due(token):
                    tokens[i, column] = self._allowed(rows[i], column, token, likelihoods[i, column])
        chosen = likelihoods.gather(2, tokens[:, :, None])[:, :, 0]
        for row, ids, scores in zip(rows, tokens.tolist(), chosen.tolist(), strict=True):
            row.take(ids, scores)

    def _allowed(self, row: SampledAnswers, column: int, token: int, scores: torch.Tensor) -> int:
        """The token, or another for it where the row's constraint forbids it: the one that ends the answer in time, the
        likeliest one by `scores`, float [vocabulary], or drawn until one is allowed.
        """
        constraint, answer = row.constraint, row.answers[column]
        assert constraint is not None
        if not row.going[column]:
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
    """`width` independent answers to one row.

    While it is `trusted`, its constraint is not asked before a token is taken, but by `take_back`, as the device works
    on the next one.
    """

    parents = None  # each slot continues its own answer
    trusted = False

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
        self.prompt = torch.tensor(prompt)
        self.eos, self.most, self.chances = eos, most, chances
        self.answers: list[list[int]] = [[] for _ in range(width)]
        self.scores = [0.0] * width
        self.going = [True] * width
        self.length = 0
        self._before: tuple[list[float], list[bool]] | None = None  # scores and going, of a trusted row's last step
        self._room = LAST  # tokens that the way to an end may take

    @property
    def done(self) -> bool:
        return not any(self.going)

    def tokens(self) -> list[int]:
        """The token that each slot is fed next."""
        return [answer[-1] if answer else 0 for answer in self.answers]

    def is_due(self, token: int) -> bool:
        """Whether the constraint has to be asked before the token is taken: few steps may follow it, or none."""
        return not self.trusted or token in self.eos or self.length + self._room + LAST >= self.most

    def take_back(self) -> bool:
        """Whether the constraint forbids a token that was last taken. If so the row is as before, and trusted no more.
        It cannot be what was taken before the row was trusted.
        """
        if not self.trusted or self.constraint is None or self._before is None:
            return False
        scores, going = self._before
        written = [answer for answer, was_going in zip(self.answers, going, strict=True) if was_going]
        if all(not answer or self.constraint.allows(answer[:-1], answer[-1]) for answer in written):
            self._room = max(map(self.constraint.room, written), default=LAST)
            return False
        for answer, was_going, is_going in zip(self.answers, going, self.going, strict=True):
            if was_going and is_going:
                answer.pop()
        self.scores, self.going, self.trusted = scores, going, False
        self.length -= 1
        return True

    def take(self, tokens: list[int], scores: list[float]) -> None:
        self._before = (self.scores.copy(), self.going.copy()) if self.trusted else None
        self.length += 1
        for i, (token, score) in enumerate(zip(tokens, scores, strict=True)):
            if not self.going[i]:
                continue
            self.scores[i] += score
            if token not in self.eos:
                self.answers[i].append(token)
            self.going[i] = token not in self.eos and self.length < self.most

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

    trusted = False  # as sampled answers may be

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
        self.prompt = torch.tensor(prompt)
        self.width, self.count, self.eos, self.most = width, count, eos, most
        self.answers: list[list[int]] = [[] for _ in range(width)]
        self.scores = [0.0] * width
        self.parents = list(range(width))  # the slot that each beam continues
        self.ended: list[tuple[float, list[int], float]] = []  # score for each token, ids, sum
        self.length = 0
        self.done = False

    def tokens(self) -> list[int]:
        return [beam[-1] if beam else 0 for beam in self.answers]

    def take_back(self) -> bool:
        """Never: the constraint is asked before a beam's tokens are taken, whatever `trusted` says."""
        return False

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
