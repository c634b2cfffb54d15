"""Values of a database's columns, from the first rows of each table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from sqlora.sql.parsing import SqlError
from sqlora.sql.schema import MOST_SAMPLES, Column, Schema, Table

MOST_ROWS = 10_000  # of a table
FEW_ROWS = 500  # of one whose rows are too large
SECONDS = 10.0  # for all tables; those that are not reached have no samples
MOST_VALUES = 2_000  # texts that are kept of a column, the most frequent ones
LONGEST = 100  # characters of a text that a question may name

Value = str | int | float
Texts = dict[tuple[str, str], tuple[str, ...]]  # by table and column


@dataclass(frozen=True)
class Sampled:
    """A schema whose columns have samples, frequent ones first; texts of its columns; the tables that were not read."""

    schema: Schema
    texts: Texts
    unread: tuple[str, ...] = ()


def sample(schema: Schema, read: Callable[[Table], Sequence[Sequence[object]]], seconds: float = SECONDS) -> Sampled:
    """The schema with samples. `read` gives the first rows of a table, in the order of its columns, or raises
    SqlError.
    """
    ends = time.monotonic() + seconds
    tables, texts, unread = [], {}, []
    for table in schema.tables:
        rows: Sequence[Sequence[object]] = ()
        try:
            if is_late := time.monotonic() > ends:
                unread.append(table.name)
            rows = () if is_late else read(table)
        except SqlError:
            unread.append(table.name)
        columns = []
        for column, cells in zip(
            table.columns, list(zip(*rows, strict=True)) or [()] * len(table.columns), strict=True
        ):
            values = _frequent(cells)
            texts[table.name, column.name] = tuple(v for v in values if isinstance(v, str) and len(v) <= LONGEST)
            columns.append(replace(column, samples=() if _is_number(column, table) else values[:MOST_SAMPLES]))
        tables.append(replace(table, columns=tuple(columns)))
    return Sampled(replace(schema, tables=tuple(tables)), texts, tuple(unread))


def first_rows(table: Table, most: int = MOST_ROWS) -> exp.Select:
    """The query of a table's first rows."""
    schema, name = table.place or ("", table.name)
    source = exp.table_(name, db=schema or None, quoted=True)
    return exp.select(*(exp.column(column.name, quoted=True) for column in table.columns)).from_(source).limit(most)


def _frequent(cells: Sequence[object]) -> tuple[Value, ...]:
    """The values that are neither NULL, binary nor empty, the most frequent first, of equally many the first."""
    counted = Counter(cell for cell in cells if isinstance(cell, str | int | float) and cell != "")
    return tuple(value for value, _ in counted.most_common(MOST_VALUES))


def _is_number(column: Column, table: Table) -> bool:
    """Whether its values are numbers of rows, which say nothing to a reader."""
    keys = {name for key in table.keys for name in key} | {name for one in table.references for name in one.columns}
    return column.type == "integer" and column.name.lower() in keys
