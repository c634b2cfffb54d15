"""Schemas as prompts show them: in a style, with the values that a question names, and where they do not fit with the
tables that it needs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence

from sqlglot import exp

from sqlora.data.dataset import Example, Reading, reading_of
from sqlora.data.layouts import INSERTS, PLAIN_CONTEXT
from sqlora.prompt import encoding
from sqlora.prompt.schema_linking import Linker
from sqlora.prompt.value_matching import ValueIndex, lines_of
from sqlora.settings.settings import Settings
from sqlora.sql.inserts import inserted_rows
from sqlora.sql.parsing import SqlError, parse_query, parse_schema
from sqlora.sql.sampling import sample
from sqlora.sql.schema import Schema
from sqlora.sql.translation import as_sqlite
from sqlora.system.errors import UserError

TRIES = 3  # with less room, since a text of several tables may take more tokens than they do one by one


class SchemaFitter:
    """Leaves tables out of rows' contexts, by schema linking, so that their prompts fit."""

    def __init__(self, tokenizer, layout: str, dialect: str = "sqlite") -> None:
        """`dialect` is that of the answers."""
        self._tokenizer, self._layout, self._dialect = tokenizer, layout, dialect
        self._linkers: dict[str, Linker] = {}

    def fit(self, row: Example, tokens: int, keeps_gold: bool) -> Example | None:
        """The row with a prompt of at most `tokens` tokens, and with the tables of its answer if it `keeps_gold`.

        None if that cannot be: the question alone is too long, or the context or the answer cannot be read.
        """
        try:
            schema = parse_schema(row["context"])
            query = parse_query(as_sqlite(row["answer"], self._dialect), schema) if keeps_gold else None
        except SqlError:
            return None
        kept = [table.name for table in query.find_all(exp.Table)] if query is not None else []
        style = "described" if schema.is_described else "plain"
        room = tokens - self._length(row | {"context": ""})
        for _ in range(TRIES):
            try:
                chosen = self._linker(row["context"], schema, style).choose(row["question"], room, kept)
            except UserError:
                return None
            shorter = row | {"context": chosen.ddl(style)}
            if "values" in row:
                shorter["values"] = lines_of(row["values"], chosen)
            if (excess := self._length(shorter) - tokens) <= 0:
                return shorter
            room -= excess
        return None

    def _linker(self, context: str, schema: Schema, style: str) -> Linker:
        if context not in self._linkers:
            self._linkers[context] = Linker(schema, self._count, style)
        return self._linkers[context]

    def _length(self, row: Example) -> int:
        (ids,) = encoding.encode_prompts(self._tokenizer, [row], self._layout)
        return len(ids)

    def _count(self, texts: Sequence[str]) -> list[int]:
        return encoding.count_tokens(self._tokenizer, list(texts))


def style_of(rows: Sequence[Example], wanted: str) -> str:
    """The style that SCHEMA_STYLE `wanted` gives; auto is described where rows have the schema of a database."""
    if wanted != "auto":
        return wanted
    return "described" if any(PLAIN_CONTEXT in row for row in rows) else "plain"


def styled(rows: list[Example], style: str, reading: Reading) -> list[Example]:
    """The rows as they are shown in a style.

    plain leaves keys and comments out of the schemas of databases, full adds sample values, and to a row the values
    that its question names. A context that is the row's own stays as it is written, but for samples from its INSERTs.
    Raises UserError for a database that cannot be read.
    """
    if style == "plain":
        return [row | {"context": row.get(PLAIN_CONTEXT, row["context"])} for row in rows]
    if style != "full":
        return rows
    return [
        _full(row, *_sampled(reading, row["db_id"])) if PLAIN_CONTEXT in row else row | {"context": _with_samples(row)}
        for row in rows
    ]


@functools.cache  # a stream asks with every chunk of its rows
def _sampled(reading: Reading, db_id: str) -> tuple[str, ValueIndex]:
    sampled = reading.databases(None).sampled(db_id, f"SCHEMA_STYLE full: {db_id}")
    return sampled.schema.ddl("full"), ValueIndex(sampled.texts)


def _full(row: Example, context: str, index: ValueIndex) -> Example:
    return row | {"context": context, "values": index.lines(row["question"])}


def _with_samples(row: Example) -> str:
    """The context of a row that came with INSERTs, with samples from them."""
    if INSERTS not in row:
        return row["context"]
    with contextlib.suppress(SqlError):
        schema = parse_schema(row["context"])
        rows = inserted_rows(row[INSERTS], schema)
        return sample(schema, lambda table: rows.get(table.name.lower(), ())).schema.ddl("full")
    return row["context"]


def shown_rows(rows: list[Example], tokenizer, style: str, settings: Settings) -> list[Example]:
    """Rows to answer as their prompts show them: in a style, and with LONG_ROWS shorten no longer than MAX_LENGTH."""
    shown = styled(rows, style, reading_of(settings))
    if settings.LONG_ROWS != "shorten":
        return shown
    return fit_rows(shown, tokenizer, settings.prompt_layout, settings.MAX_LENGTH, settings.MAX_NEW_TOKENS)


def fit_rows(rows: list[Example], tokenizer, layout: str, tokens: int, least: int) -> list[Example]:
    """Rows to answer: those whose prompts have more than `tokens` tokens with fewer tables, so that `least` are left
    for the answer. One that cannot be shortened stays as it is.
    """
    fitter = SchemaFitter(tokenizer, layout)
    lengths = map(len, encoding.encode_prompts(tokenizer, rows, layout))
    return [
        (fitter.fit(row, tokens - least, keeps_gold=False) or row) if length > tokens else row
        for row, length in zip(rows, lengths, strict=True)
    ]
