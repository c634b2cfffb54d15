"""SQL as text: the normal form in which two queries are compared."""

from __future__ import annotations

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType


def normalise_sql(sql: str) -> str:
    """One spelling for queries that differ in layout alone: case outside quotes, white space, comments, `!=`, a last ";".

    Quoted text stays as it is, and "x" stays apart from 'x'. Never raises: text that is no SQL keeps its words, folded.
    """
    try:
        tokens = sqlglot.tokenize(sql.strip().rstrip(";"))
    except (SqlglotError, ValueError, RecursionError):
        return " ".join(sql.strip().rstrip(";").lower().split())
    return " ".join(_spell(token) for token in tokens)


def exact_match(prediction: str | None, answer: str | None) -> bool:
    """Whether both are there and have the same normal form."""
    return prediction is not None and answer is not None and normalise_sql(prediction) == normalise_sql(answer)


def _spell(token) -> str:
    if token.token_type == TokenType.STRING:
        return "'" + token.text.replace("'", "''") + "'"
    if token.token_type == TokenType.IDENTIFIER:
        return '"' + token.text.replace('"', '""') + '"'
    return "<>" if token.token_type == TokenType.NEQ else token.text.lower()
