"""Schemas of databases as training shows them: in another order in each epoch, so that a model reads them and does not
learn them by heart.

Not anew for each row: rows of one database go on to share their schema's prefix.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlglot import exp

from sqlora.data.dataset import Example
from sqlora.data.layouts import PLAIN_CONTEXT
from sqlora.prompt.value_matching import lines_of
from sqlora.settings.settings import Settings
from sqlora.sql.parsing import SqlError, parse_query, parse_schema
from sqlora.sql.schema import Column, Schema, Table
from sqlora.sql.translation import as_sqlite

DROPPED = 0.5  # share of what no gold needs: tables, columns, and comments

Needed = frozenset[str]  # names of tables and columns, in lower case
Encoded = dict[str, list[int]]


class EpochRows(Sequence[Encoded]):
    """Training rows as the trainer takes them; the schemas of databases change with `set_epoch`.

    `texts` are the rows that fit into MAX_LENGTH, with their ids, `encoded`, as they are in `texts`; so are those that
    would be longer in an epoch. `encode` gives the ids of others.
    """

    def __init__(
        self,
        texts: list[Example],
        encoded: Sequence[Encoded],
        encode: Callable[[list[Example]], list[Encoded]],
        settings: Settings,
    ) -> None:
        self._texts, self._encoded, self._encode, self._settings = texts, encoded, encode, settings
        self._needed = needed_names(texts, settings.SQL_DIALECT)
        self._epoch: int | None = None
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Shows the schemas as they are in an epoch."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        most = self._settings.MAX_LENGTH
        shown = self._encode(vary(self._texts, self._settings.SEED, epoch, self._needed))
        self._rows = [
            row if len(row["input_ids"]) <= most else plain for row, plain in zip(shown, self._encoded, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]


def vary(rows: list[Example], seed: int, epoch: int, needed: Mapping[str, Needed] | None = None) -> list[Example]:
    """The rows with the schemas of databases as they are in an epoch: tables, columns and keys in random order.

    Given the names that are `needed`, by context, some other tables, columns and comments are left out.
    """
    variants: dict[str, Schema] = {}
    varied = []
    for row in rows:
        if PLAIN_CONTEXT not in row:
            varied.append(row)
            continue
        context = row["context"]
        if context not in variants:
            generator = random.Random(f"{seed} {epoch} {context}")
            variants[context] = _shuffled(parse_schema(context), generator, needed.get(context) if needed else None)
        schema = variants[context]
        shown = {"context": schema.ddl("described" if schema.is_described else "plain")}
        varied.append(row | shown | ({"values": lines_of(row["values"], schema)} if "values" in row else {}))
    return varied


def needed_names(rows: Iterable[Example], dialect: str = "sqlite") -> dict[str, Needed]:
    """The names that the golds over each context of a database have; none for a context with a gold that cannot be read
    in its dialect, or that has a `*`.
    """
    names: dict[str, set[str]] = defaultdict(set)
    unknown = set()
    for row in rows:
        if PLAIN_CONTEXT in row and (context := row["context"]) not in unknown:
            try:
                query = parse_query(as_sqlite(row["answer"], dialect), parse_schema(context))
            except SqlError:
                unknown.add(context)
                continue
            if any(not isinstance(star.parent, exp.Count) for star in query.find_all(exp.Star)):
                unknown.add(context)
            names[context].update(name.name.lower() for name in query.find_all(exp.Identifier))
    return {context: frozenset(found) for context, found in names.items() if context not in unknown}


def _shuffled(schema: Schema, generator: random.Random, needed: Needed | None) -> Schema:
    def stays(name: str) -> bool:
        return needed is None or name.lower() in needed or generator.random() >= DROPPED

    def comment(text: str) -> str:
        return text if needed is None or generator.random() >= DROPPED else ""

    def column_of(column: Column) -> Column:
        return replace(column, comment=comment(column.comment))

    def table_of(table: Table) -> Table:
        columns = [column for column in table.columns if stays(column.name)] or list(table.columns)
        names = {column.name.lower() for column in columns}
        return replace(
            table,
            columns=tuple(map(column_of, generator.sample(columns, len(columns)))),
            keys=tuple(key for key in table.keys if names.issuperset(key)),
            required=table.required & names,
            references=tuple(generator.sample(table.references, len(table.references))),
            comment=comment(table.comment),
        )

    kept = [table for table in schema.tables if stays(table.name)] or list(schema.tables)
    return Schema(tuple(map(table_of, generator.sample(kept, len(kept))))).consistent()
