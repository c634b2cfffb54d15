"""Schemas as prompts show them: in a style, and where they do not fit with the tables that the question needs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from sqlora.data.dataset import Example
from sqlora.data.layouts import PLAIN_CONTEXT
from sqlora.prompt import encoding
from sqlora.sql.parsing import SqlError, parse_query, parse_schema
from sqlora.sql.schema import Schema
from sqlora.system.errors import UserError

TRIES = 3  # with less room, since a text of several tables may take more tokens than they do one by one


class SchemaFitter:
    """Leaves tables out of rows' contexts, by schema linking, so that their prompts fit."""

    def __init__(self, tokenizer, order: str) -> None:
        self._tokenizer, self._order = tokenizer, order
        self._linkers: dict[str, object] = {}

    def fit(self, row: Example, tokens: int, keeps_gold: bool) -> Example | None:
        """The row with a prompt of at most `tokens` tokens, and with the tables of its answer if it `keeps_gold`.

        None if that cannot be: the question alone is too long, or the context or the answer cannot be read.
        """
        try:
            schema = parse_schema(row["context"])
            query = parse_query(row["answer"], schema) if keeps_gold else None
        except SqlError:
            return None
        kept = [table.name for table in query.find_all(exp.Table)] if query is not None else []
        has_keys = any(table.keys or table.required or table.references for table in schema.tables)
        room = tokens - self._length(row | {"context": ""})
        for _ in range(TRIES):
            try:
                chosen = self._linker(row["context"], schema, has_keys).choose(row["question"], room, kept)
            except UserError:
                return None
            shorter = row | {"context": chosen.ddl(has_keys)}
            if (excess := self._length(shorter) - tokens) <= 0:
                return shorter
            room -= excess
        return None

    def _linker(self, context: str, schema: Schema, has_keys: bool):
        from sqlora.prompt.schema_linking import Linker  # its packages are only needed where a schema is too large

        if context not in self._linkers:
            self._linkers[context] = Linker(schema, self._count, has_keys)
        return self._linkers[context]

    def _length(self, row: Example) -> int:
        (ids,) = encoding.encode_prompts(self._tokenizer, [row], self._order)
        return len(ids)

    def _count(self, texts: Sequence[str]) -> list[int]:
        return encoding.count_tokens(self._tokenizer, list(texts))


def style_of(rows: Sequence[Example], wanted: str) -> str:
    """plain or described, as SCHEMA_STYLE is `wanted`; auto is described where rows have the schema of a database."""
    is_described = wanted == "described" or (wanted == "auto" and any(PLAIN_CONTEXT in row for row in rows))
    return "described" if is_described else "plain"


def styled(rows: list[Example], style: str) -> list[Example]:
    """The rows as they are shown in a style: plain leaves the keys out of the schemas of databases.

    A context that is the row's own stays as it is written.
    """
    if style != "plain":
        return rows
    return [row | {"context": row.get(PLAIN_CONTEXT, row["context"])} for row in rows]


def fit_rows(rows: list[Example], tokenizer, order: str, tokens: int, least: int) -> list[Example]:
    """Rows to answer: those whose prompts have more than `tokens` tokens with fewer tables, so that `least` are left
    for the answer. One that cannot be shortened stays as it is.
    """
    fitter = SchemaFitter(tokenizer, order)
    lengths = map(len, encoding.encode_prompts(tokenizer, rows, order))
    return [
        (fitter.fit(row, tokens - least, keeps_gold=False) or row) if length > tokens else row
        for row, length in zip(rows, lengths, strict=True)
    ]
