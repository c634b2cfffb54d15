"""Golds of which any alternative is right: several queries, and columns in braces, of which any may be shown.

The notation is that of defog's sql-eval (github.com/defog-ai/sql-eval): `SELECT {id, name} FROM t` stands for the id,
the name, or both; `GROUP BY {}` behind it groups by the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from sqlora.evaluation.metrics import Verdict

MOST_COLUMNS = 6  # in braces, which are 63 alternatives
RANKS = {"match": 0, "unscorable": 2, "error": 3}  # of verdicts, the best first; 1 for the others


def alternatives(gold: str) -> list[str]:
    """The queries that a gold stands for: itself, if it is one query."""
    if ";" not in gold.strip().rstrip("; ") and "{" not in gold:
        return [gold]
    try:
        tokens = sqlglot.tokenize(gold, read="sqlite")
    except SqlglotError:
        return [gold]
    ends = [token.start for token in tokens if token.token_type == TokenType.SEMICOLON]
    starts = [0, *(end + 1 for end in ends)]
    queries = [gold[start:end] for start, end in zip(starts, [*ends, len(gold)], strict=True)]
    return [each for query in queries if query.strip() for each in _expanded(query)] or [gold]


def best(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a prediction of which these are the verdicts by each alternative: any match is one."""

    def rank(verdict: Verdict) -> int:
        return RANKS.get(verdict.verdict, 1)

    names = dict.fromkeys(name for verdict in verdicts for name in verdict.rules)
    rules = {name: min((verdict.by_rule(name) for verdict in verdicts), key=rank) for name in names}
    return replace(min(verdicts, key=rank), rules=rules)


def _expanded(query: str) -> list[str]:
    """The queries with each choice of the columns in the first braces."""
    tokens = sqlglot.tokenize(query, read="sqlite")
    opened = _first(tokens, TokenType.L_BRACE, 0)
    closed = _first(tokens, TokenType.R_BRACE, opened.end if opened else 0)
    if opened is None or closed is None:
        return [query]
    columns = query[opened.end + 1 : closed.start].split(",")[:MOST_COLUMNS]
    chosen = itertools.chain.from_iterable(
        itertools.combinations(columns, count) for count in range(1, len(columns) + 1)
    )
    before, after = query[: opened.start], query[closed.end + 1 :]
    return [before + names + after.replace("{}", names) for names in map(",".join, chosen)]


def _first(tokens: list[Token], kind: TokenType, start: int) -> Token | None:
    return next((token for token in tokens if token.token_type == kind and token.start >= start), None)
