"""Pairs as training rows, with the schema in the style in which the adapter will see it."""

from __future__ import annotations

from sqlglot import exp

from sqlora.data.dataset import Example
from sqlora.prompt.schema_linking import Linker
from sqlora.prompt.value_matching import ValueIndex, lines_of
from sqlora.sql.sampling import Sampled
from sqlora.synthesis.from_database import Pair

MOST_CHARACTERS = 20_000  # of a context; of a larger schema a row has the tables of its query and others that suit


class RowMaker:
    """Makes the rows of the database `name`, in a SCHEMA_STYLE; full shows sample values."""

    def __init__(self, sampled: Sampled, style: str, name: str) -> None:
        self._style, self._name = style, name
        self._schema = sampled.schema
        self._values = ValueIndex(sampled.texts if style == "full" else {})
        self._whole = self._schema.ddl(style)
        self._linker = None if len(self._whole) <= MOST_CHARACTERS else Linker(self._schema, _lengths, style)

    def row(self, pair: Pair, question: str) -> Example:
        """Question, context, answer, and db_id; full adds the values that the question names."""
        context, schema = self._whole, self._schema
        if self._linker:
            needed = [table.name for table in pair.query.tree().find_all(exp.Table)]
            schema = self._linker.choose(question, MOST_CHARACTERS, needed)
            context = schema.ddl(self._style)
        row = {"question": question, "context": context, "answer": pair.sql, "db_id": self._name}
        values = lines_of(self._values.lines(question), schema)
        return row | ({"values": values} if values else {})


def _lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]
