"""The keys along which rows do join: declared ones whose values meet, and undeclared ones that names and values show:
some servers know no foreign keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlora.sql.sampling import MOST_ROWS
from sqlora.sql.schema import Reference, Schema, Table
from sqlora.synthesis.names import Names

IDS = ("id", "code", "key", "number")  # last words of columns that refer to a table
LEAST_VALUES = 20  # of a key that nothing but its values shows
Rows = Mapping[str, Sequence[Sequence[object]]]


def with_found_keys(schema: Schema, rows: Rows) -> Schema:
    """The schema with the references that join some of the `rows` of its tables.

    An undeclared one is added where a column has only values of another table's key, and is called as that table is
    or its key (StuID), or has too many different ones, too far apart, for that to be chance (capital).
    """
    names = Names(schema)
    values = {table.name: _values(table, rows.get(table.name, ())) for table in schema.tables}

    def joins(table: Table, reference: Reference) -> bool:
        target = schema.table(reference.table)
        if target is None or len(reference.columns) > 1:
            return True
        own, theirs = values[table.name][reference.columns[0]], values[target.name][reference.keys[0]]
        return not own.isdisjoint(theirs) or len(rows.get(target.name, ())) == MOST_ROWS

    def found(table: Table) -> list[Reference]:
        known = {name for reference in table.references for name in reference.columns}
        return [
            Reference((column.name.lower(),), target.name.lower(), (key,))
            for column in table.columns
            for target in schema.tables
            if column.name.lower() not in known and (column.name.lower(),) not in table.keys and target != table
            for key in (_key(target),)
            if key and (own := values[table.name][column.name.lower()]) and own <= values[target.name][key]
            if _is_called(names, table, column.name, target, key) or _is_no_chance(own, len(rows[table.name]))
        ]

    tables = (
        replace(t, references=tuple(one for one in t.references if joins(t, one)) + tuple(found(t)))
        for t in schema.tables
    )
    return replace(schema, tables=tuple(tables))


def _values(table: Table, rows: Sequence[Sequence[object]]) -> dict[str, set[str]]:
    """The texts of each column's values, since a key may be a text here and a number there."""
    columns = zip(*rows, strict=True) if rows else [()] * len(table.columns)
    return {
        column.name.lower(): {str(cell) for cell in cells if cell is not None}
        for column, cells in zip(table.columns, columns, strict=True)
    }


def _is_no_chance(values: set[str], rows: int) -> bool:
    """Whether these are many whole numbers, one for nearly every row, and no count from 1 on."""
    if len(values) < max(LEAST_VALUES, rows / 2) or not all(value.isdecimal() for value in values):
        return False
    return max(map(int, values)) > 2 * len(values)


def _key(table: Table) -> str:
    return table.keys[0][0] if table.keys and len(table.keys[0]) == 1 else ""


def _is_called(names: Names, table: Table, column: str, target: Table, key: str) -> bool:
    if column.lower() == key:
        return key not in (*IDS, "name")
    words = names.column(table.name, column).split(" ")
    if len(words) > 1 and words[-1] in IDS:
        words.pop()
    return " ".join(words) == names.table(target.name)
