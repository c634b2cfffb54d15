"""Verdicts on real databases as the published evaluators reach them: each query as it is written, compared by its rule.

test-suite: test-suite-sql-eval (github.com/taoyds/test-suite-sql-eval), which drops the word DISTINCT and lets rows
come in any order unless ORDER BY occurs anywhere in the gold. bird: BIRD's evaluation.py. Unlike theirs, these run in a
sandbox in which a prediction cannot change the database, and a float may differ in its last digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from sqlora.evaluation import differences
from sqlora.evaluation.gold_results import Allowed, Choice
from sqlora.evaluation.metrics import Verdict
from sqlora.evaluation.pairs import NOTHING, failure
from sqlora.evaluation.real_databases import open_file
from sqlora.evaluation.rules import Rule
from sqlora.sql.parsing import SqlError

ORDER_BY = re.compile(r"\border\s+by\b", re.IGNORECASE)


def judge_as_published(
    gold: str, prediction: str | None, rule: Rule, databases: Sequence[Path], keep_distinct: bool = False
) -> Verdict:
    """The verdict under a rule on the databases, of which the first that shows a difference decides.

    unscorable: the gold fails on one, whose name the verdict has.
    """
    if rule.forgives_distinct and not keep_distinct:
        gold, prediction = _without_distinct(gold), prediction and _without_distinct(prediction)
    is_ordered = rule.counts_rows and ORDER_BY.search(gold) is not None
    says_something = False
    for path in databases:
        try:
            expected = open_file(path).run(gold)
        except SqlError as error:
            return Verdict("unscorable", f"gold: {error}", error.kind, database=path.name)
        try:
            result = open_file(path).run(prediction or "")
        except SqlError as error:
            return replace(failure(error), database=path.name)
        groups = [[row] for row in expected.rows] if is_ordered else [expected.rows] if expected.rows else []
        allowed = Allowed([Choice(rows, len(rows)) for rows in groups])
        says_something = says_something or allowed.says_something
        if not rule.accepts(allowed, result):
            return replace(differences.mismatch(expected, result, "a real database"), database=path.name)
    return Verdict("match", unproven="" if says_something else NOTHING)


def _without_distinct(sql: str) -> str:
    try:
        tokens = sqlglot.tokenize(sql, read="sqlite")
    except SqlglotError:  # which SQLite will not take either
        return sql
    for token in reversed(tokens):
        if token.token_type == TokenType.DISTINCT:
            sql = sql[: token.start] + sql[token.end + 1 :]
    return sql
