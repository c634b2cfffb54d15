"""CONSTRAIN: an answer is a query over its schema, since tokens that no such query goes on with are passed over.

The model's likeliest tokens are tried in their order, so a greedy answer that is legal anyway is the same, and nothing
has to be known of the tokens that are never tried.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Sequence

import torch

from sqlora.generation.candidate import PassedOver
from sqlora.sql.legal_ends import distance, ending
from sqlora.sql.legal_text import SqlGuard, State
from sqlora.sql.parsing import SqlError, parse_schema

TRIED = 64  # of the likeliest tokens, before all are
LAST, EACH = 24, 4  # tokens of a way to an end, at most, and of each word that it needs
SPARE, MORE = 2, 6  # tokens before the last that leaves time for that way, and by which a token may lengthen it


class Constraint:
    """What one row's answers may be: none of them anything else where its `guard` is None, which `read_guard` finds
    once it is asked for. `texts` are those of the tokens, `ends` the tokens that end an answer, of at most `most`.
    """

    def __init__(
        self, read_guard: Callable[[], SqlGuard | None], texts: TokenTexts, ends: Collection[int], most: int
    ) -> None:
        self._read_guard, self.texts, self.ends, self.most = read_guard, texts, ends, most
        self._states: dict[tuple[int, ...], State | None] = {}
        self._ways: dict[tuple[int, ...], list[int] | None] = {}  # tokens that lead to an end
        self._passed_over: dict[tuple[int, ...], dict[int, float]] = {}  # behind an answer's tokens, with probabilities

    def prepare(self) -> None:
        """Reads the schema, which takes a millisecond: to be called while the device has work."""
        self.guard  # noqa: B018

    @functools.cached_property
    def guard(self) -> SqlGuard | None:
        return self._read_guard()

    def allows(self, answer: list[int], token: int) -> bool:
        """Whether a token may follow an unfinished answer's tokens; any may once none was found that may."""
        before = self._state(tuple(answer))
        if before is None:
            return True
        if token in self.ends:
            return self.may_end(answer)
        after = (*answer, token)
        return self._state(after) is not None and self._is_in_time(tuple(answer), after)

    def _is_in_time(self, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
        """Whether the query can still end, behind a token more than `before`."""
        left = self.most - len(after)
        if left > self.room(after):
            return True
        way = self._way(before)
        if way is not None and self.room(after) <= self.room(before) and len(way) + MORE <= left:
            return True
        way = self._way(after)
        return way is not None and len(way) <= left

    def may_end(self, answer: list[int]) -> bool:
        """Whether an answer's tokens are a whole query."""
        state = self._state(tuple(answer))
        return state is not None and self.guard is not None and self.guard.may_end(state)

    def last_token(self, answer: list[int]) -> int | None:
        """The next token of an unfinished answer that must end now; None while it need not, or cannot."""
        tokens, left = tuple(answer), self.most - len(answer)
        if self._state(tokens) is None or left > self.room(tokens):
            return None
        way = self._way(tokens)
        if way is None or left > len(way) + SPARE:
            return None
        return way[0] if way else min(self.ends)

    def room(self, answer: Sequence[int]) -> int:
        """The tokens before the last from which on the way to an end is kept in sight."""
        state = self._state(tuple(answer))
        return LAST + EACH * distance(state) if state is not None else 0

    def _way(self, tokens: tuple[int, ...]) -> list[int] | None:
        state = self._state(tokens)
        if tokens not in self._ways:
            text = ending(self.guard, state) if self.guard is not None and state is not None else None
            self._ways[tokens] = None if text is None else self.texts.spell(text)
        if way := self._ways[tokens]:  # which is gone on with: another search might find a longer one
            self._ways[*tokens, way[0]] = way[1:]
        return way

    def is_cut(self, answer: list[int]) -> bool:
        """Whether an answer has ended before it was a whole query."""
        return self.guard is not None and not self.may_end(answer)

    def _state(self, tokens: tuple[int, ...]) -> State | None:
        if tokens not in self._states:
            self._states[tokens] = self._find_state(tokens)
        return self._states[tokens]

    def _find_state(self, tokens: tuple[int, ...]) -> State | None:
        if self.guard is None:
            return None
        if not tokens:
            return self.guard.start
        before, text = self._state(tokens[:-1]), self.texts[tokens[-1]]
        return self.guard.after(before, text) if before is not None and text else None

    def first_allowed(self, answer: list[int], scores: torch.Tensor) -> int:
        """The likeliest token that may follow, by `scores`, float [vocabulary]; the likeliest of all if none may."""
        state = self._state(tuple(answer))
        refused = set()  # first characters
        for count in (min(TRIED, len(scores)), len(scores)):
            order = scores.topk(count).indices.tolist()
            for place, token in enumerate(order):
                start = "" if token in self.ends else self.texts[token][:1]
                if start in refused:
                    continue
                if self.allows(answer, token):
                    self.pass_over(answer, order[:place], scores)
                    return token
                if start and state is not None and self.guard is not None and self.guard.after(state, start) is None:
                    refused.add(start)
        return order[0]

    def pass_over(self, answer: list[int], tokens: list[int], scores: torch.Tensor) -> None:
        """Notes tokens that are not taken behind an answer's; `scores`, float [vocabulary], are log-probabilities but
        for a constant.
        """
        if tokens:
            shares = scores.softmax(dim=-1)[torch.tensor(tokens, device=scores.device)].tolist()
            for token, share in zip(tokens, shares, strict=True):
                self.note(answer, token, share)

    def note(self, answer: list[int], token: int, probability: float) -> None:
        """Notes one token that is not taken behind an answer's."""
        self._passed_over.setdefault(tuple(answer), {})[token] = probability

    def passed_over(self, answer: list[int]) -> tuple[PassedOver, ...]:
        """What was passed over on the way to a whole answer."""
        found, at = [], 0
        for length in range(len(answer) + 1) if self._passed_over else ():
            if tokens := self._passed_over.get(tuple(answer[:length])):
                likeliest = max(tokens, key=tokens.__getitem__)
                found.append(PassedOver(at, self.texts[likeliest], sum(tokens.values())))
            if length < len(answer):
                text = self.texts[answer[length]]
                at += len(text if at else text.lstrip())  # the SQL begins with its first word
        return tuple(found)

    def forget(self) -> None:
        """Gives back the memory of what was asked about answers that have ended."""
        for kept in (self._states, self._ways, self._passed_over):
            kept.clear()


class TokenTexts:
    """The text of each token within an answer: what it adds to the text before it."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer = tokenizer
        self._anchor = tokenizer("SELECT", add_special_tokens=False)["input_ids"]
        self._start = self._decode(self._anchor)
        self._special = set(tokenizer.all_special_ids)
        # Single bytes of ASCII: behind the first bytes of a longer character they are read as a part of it.
        known, names = tokenizer.get_vocab(), [f"<0x{byte:02X}>" for byte in range(0x20, 0x7F)]
        self._special |= {known[name] for name in names if name in known}

    @functools.cache  # noqa: B019 (as long as its model's)
    def __getitem__(self, token: int) -> str:
        """Empty for a token that may not be in an answer."""
        return "" if token in self._special else self._decode([*self._anchor, token]).removeprefix(self._start)

    @functools.cached_property
    def _by_text(self) -> dict[str, int]:
        return {text: token for token in range(len(self._tokenizer)) if (text := self[token])}

    def spell(self, text: str) -> list[int] | None:
        """Tokens that add this text, the longest first; None if some of it has none."""
        ids = []
        while text:
            length = next((size for size in range(len(text), 0, -1) if text[:size] in self._by_text), 0)
            if not length:
                return None
            ids.append(self._by_text[text[:length]])
            text = text[length:]
        return ids

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def constraints(
    rows: list[dict[str, str]], tokenizer, ends: Collection[int], most: int, kind: str, dialect: str = "sqlite"
) -> list[Constraint]:
    """A constraint for each row, of a `kind` of CONSTRAIN, on answers of at most `most` tokens.

    It has no guard in another dialect than SQLite's, and for a row whose context cannot be parsed, has names beyond
    ASCII, which tokens may cut within a letter, or has tables of the same name in several schemas.
    """
    texts = TokenTexts(tokenizer)

    @functools.cache
    def guard(context: str) -> SqlGuard | None:
        if dialect != "sqlite":
            return None
        with contextlib.suppress(SqlError):
            schema = parse_schema(context)
            names = [name for table in schema.tables for name in (table.name, *(one.name for one in table.columns))]
            if "".join(names).isascii() and not any(table.qualifier for table in schema.tables):
                return SqlGuard(schema, strict=kind == "sql")
        return None

    return [Constraint(functools.partial(guard, row["context"]), texts, ends, most) for row in rows]
