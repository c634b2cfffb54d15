"""What tells a wrong answer from the gold: the results of both, and the fewest rows on which they differ."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

from sqlora.evaluation.metrics import Difference, Verdict
from sqlora.evaluation.synthetic_databases import Rows
from sqlora.sql.sandbox import QueryResult, Value, create_table
from sqlora.sql.schema import Schema, Table, quote_name

PLAIN_TYPES = (int, str, type(None))
MOST_SHOWN = 50  # rows of a result
MOST_TRIES = 60  # databases with fewer rows


def mismatch(
    expected: QueryResult, result: QueryResult, where: str, schema: Schema | None = None, rows: Rows | None = None
) -> Verdict:
    """The verdict on a result that the gold does not allow on the database that `where` names, of these rows."""
    stored = [(table, rows[table.name]) for table in schema.tables] if schema and rows is not None else []
    shown: dict[str, dict[str, list]] = {
        table.name: {"columns": [column.name for column in table.columns], "rows": _plain(of_table)}
        for table, of_table in stored
    }
    script = "".join(itertools.starmap(_statements, stored))
    difference = Difference(shown, _plain(expected.rows[:MOST_SHOWN]), _plain(result.rows[:MOST_SHOWN]), script)
    return Verdict("mismatch", _explain(expected, result, where), difference=difference)


def shrink(rows: Rows, schema: Schema, differs: Callable[[Rows], bool]) -> Rows:
    """The rows without those that the difference does not need: as many as can be left out together, then one by one.

    (Zeller and Hildebrandt 2002, doi:10.1109/32.988498, in its simplest form.) Foreign keys are kept. `differs` says
    whether the gold and the answer still differ.
    """
    tries, size = 0, max((len(stored) for stored in rows.values()), default=0) // 2
    while size:
        for table in reversed(rows):  # those that refer to others first
            start = 0
            while start < len(rows[table]) and tries < MOST_TRIES:
                fewer = {**rows, table: rows[table][:start] + rows[table][start + size :]}
                tries += 1
                if _keeps_references(fewer, schema) and differs(fewer):
                    rows = fewer
                else:
                    start += size
        size //= 2
    return rows


def _keeps_references(rows: Rows, schema: Schema) -> bool:
    for table in schema.tables:
        names = [column.name.lower() for column in table.columns]
        for reference in table.references:
            target = schema.table(reference.table)
            if target is None:
                continue
            known = [column.name.lower() for column in target.columns]
            places = [known.index(name) for name in reference.keys]
            keys = {tuple(row[i] for i in places) for row in rows[target.name]}
            own = [names.index(name) for name in reference.columns]
            if any(None not in key and key not in keys for key in (tuple(r[i] for i in own) for r in rows[table.name])):
                return False
    return True


def _explain(expected: QueryResult, result: QueryResult, where: str) -> str:
    if len(expected.columns) != len(result.columns):
        return f"it returns {len(result.columns)} columns instead of {len(expected.columns)}"
    if len(expected.rows) != len(result.rows):
        count = len(result.rows)
        return f"on {where} it returns {count} row{'' if count == 1 else 's'} instead of {len(expected.rows)}"
    if Counter(expected.rows) == Counter(result.rows):
        return f"on {where} it returns the right rows in the wrong order"
    return f"on {where} it returns other rows"


def _statements(table: Table, rows: list[tuple[Value, ...]]) -> str:
    """CREATE TABLE, and INSERT of the rows, in SQLite's SQL."""
    values = ",\n  ".join("(" + ", ".join(map(_literal, row)) + ")" for row in rows)
    return create_table(table) + ";\n" + (f"INSERT INTO {quote_name(table.name)} VALUES\n  {values};\n" if rows else "")


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    return "NULL" if value is None else repr(value)


def _plain(rows: list[tuple[Value, ...]]) -> list[tuple[Value, ...]]:
    """The rows with values that JSON can hold."""
    return [
        tuple(
            value
            if isinstance(value, PLAIN_TYPES) or (isinstance(value, float) and math.isfinite(value))
            else str(value)
            for value in row
        )
        for row in rows
    ]
