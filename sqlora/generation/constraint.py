"""CONSTRAIN: an answer is a query over its schema, since tokens that no such query goes on with are passed over.

The model's likeliest tokens are tried in their order, so a greedy answer that is legal anyway is the same, and nothing
has to be known of the tokens that are never tried.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection

import torch

from sqlora.sql.legal_text import SqlGuard, State
from sqlora.sql.parsing import SqlError, parse_schema

TRIED, MOST_TRIED = 64, 4096  # of the likeliest tokens, at first and if none of these may follow


class Constraint:
    """What one row's answers may be. `texts` are those of the tokens, `ends` the tokens that end an answer."""

    def __init__(self, guard: SqlGuard, texts: TokenTexts, ends: Collection[int]) -> None:
        self.guard, self.texts, self.ends = guard, texts, ends
        self.changed = False  # whether a token was passed over
        self._states: dict[tuple[int, ...], State | None] = {(): guard.start}

    def allows(self, answer: list[int], token: int) -> bool:
        """Whether a token may follow an unfinished answer's tokens; any may once none was found that may."""
        before = self._state(tuple(answer))
        if before is None:
            return True
        if token in self.ends:
            return self.may_end(answer)
        return self._state((*answer, token)) is not None

    def may_end(self, answer: list[int]) -> bool:
        """Whether an answer's tokens are a whole query."""
        state = self._state(tuple(answer))
        return state is not None and self.guard.may_end(state)

    def _state(self, tokens: tuple[int, ...]) -> State | None:
        if tokens not in self._states:
            before = self._state(tokens[:-1])
            text = self.texts[tokens[-1]]
            self._states[tokens] = None if before is None or not text else self.guard.after(before, text)
        return self._states[tokens]

    def first_allowed(self, answer: list[int], scores: torch.Tensor) -> int:
        """The likeliest token that may follow, by `scores`, float [vocabulary]; the likeliest of all if none of
        MOST_TRIED may.
        """
        for count in (TRIED, MOST_TRIED):
            order = scores.topk(min(count, len(scores))).indices.tolist()
            for token in order:
                if self.allows(answer, token):
                    self.changed |= token != order[0]
                    return token
        return order[0]


class TokenTexts:
    """The text of each token within an answer: what it adds to the text before it."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer = tokenizer
        self._anchor = tokenizer("SELECT", add_special_tokens=False)["input_ids"]
        self._start = self._decode(self._anchor)
        self._special = set(tokenizer.all_special_ids)

    @functools.cache  # noqa: B019 (as long as its model's)
    def __getitem__(self, token: int) -> str:
        """Empty for a special token."""
        return "" if token in self._special else self._decode([*self._anchor, token]).removeprefix(self._start)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def constraints(
    rows: list[dict[str, str]], tokenizer, ends: Collection[int], kind: str, dialect: str = "sqlite"
) -> list[Constraint | None]:
    """A constraint for each row, of a `kind` of CONSTRAIN. None for all in another dialect than SQLite's, for a row
    whose context cannot be parsed, or has names beyond ASCII, which tokens may cut within a letter.
    """
    texts = TokenTexts(tokenizer)
    guards: dict[str, SqlGuard | None] = {}
    for context in {row["context"] for row in rows}:
        guards[context] = None
        with contextlib.suppress(SqlError):
            schema = parse_schema(context)
            names = [name for table in schema.tables for name in (table.name, *(one.name for one in table.columns))]
            if dialect == "sqlite" and "".join(names).isascii():
                guards[context] = SqlGuard(schema, strict=kind == "sql")
    return [Constraint(guard, texts, ends) if (guard := guards[row["context"]]) else None for row in rows]
