"""SQL as text: the normal form in which two queries are compared."""

from __future__ import annotations

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType


def normalise_sql(sql: str) -> str:
    """One spelling for queries that differ in layout alone: case outside quotes, white space, comments, `!=`, last ";".

    Quoted text stays as it is, and "x" stays apart from 'x'. Never raises: text that is no SQL has its white space
    collapsed and is otherwise left alone, since nothing tells its quotes from the rest.
    """
    try:
        # SQLite's quotes are every dialect's: '', "", `` and [].
        tokens = sqlglot.tokenize(sql, read="sqlite")
    except (SqlglotError, ValueError, RecursionError):
        return " ".join(sql.split()).rstrip("; ")
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    return " ".join(_spell(token, sql) for token in tokens)


def exact_match(prediction: str | None, answer: str | None) -> bool:
    """Whether both are there and have the same normal form."""
    return prediction is not None and answer is not None and normalise_sql(prediction) == normalise_sql(answer)


def _spell(token, sql: str) -> str:
    # As written, not token.text: that has lost the quotes, and with them what tells N'x', 'x' and x apart.
    written = sql[token.start : token.end + 1]
    if token.token_type == TokenType.IDENTIFIER or "'" in written:
        return written
    return "<>" if token.token_type == TokenType.NEQ else " ".join(written.lower().split())
