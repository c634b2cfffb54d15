"""The rows that INSERT statements give, for samples of the columns."""

from __future__ import annotations

from collections import defaultdict

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sqlora.sql.parsing import SqlError, error_in_one_line, numeric_value
from sqlora.sql.schema import Schema

Cell = str | int | float | None


def inserted_rows(text: str, schema: Schema) -> dict[str, list[tuple[Cell, ...]]]:
    """The rows of INSERT ... VALUES, by the lower-case name of the table, with a value per column of the schema.

    What is no constant is None, and rows for other tables or columns are left out. Raises SqlError for text that cannot
    be parsed.
    """
    try:
        statements = sqlglot.parse(text, read="sqlite")
    except RecursionError:
        raise SqlError("too large", "the text is nested too deeply") from None
    except SqlglotError as error:
        raise SqlError("syntax", error_in_one_line(error)) from None
    rows: dict[str, list[tuple[Cell, ...]]] = defaultdict(list)
    for statement in statements:
        if not isinstance(statement, exp.Insert) or not isinstance(statement.expression, exp.Values):
            continue
        into = statement.this
        table = schema.table(into.find(exp.Table).name)
        if table is None:
            continue
        names = [column.name.lower() for column in table.columns]
        given = [part.name.lower() for part in into.expressions] if isinstance(into, exp.Schema) else names
        for cells in statement.expression.expressions:
            values = dict(zip(given, map(_value, cells.expressions), strict=False))
            rows[table.name.lower()].append(tuple(values.get(name) for name in names))
    return rows


def _value(cell: exp.Expr) -> Cell:
    if isinstance(cell, exp.Neg) and isinstance(number := _value(cell.this), int | float):
        return -number
    if not isinstance(cell, exp.Literal):
        return None
    return cell.name if cell.is_string else numeric_value(cell.name)
