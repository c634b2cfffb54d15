"""SQL of other dialects, said as SQLite has it: the dialect in which queries are checked, scored and voted on."""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError, UnsupportedError

from sqlora.sql.parsing import ErrorKind, SqlError, error_in_one_line, read_sql
from sqlora.sql.schema import quote_name

PARTS_OF_DATES = {  # as strftime gives them
    "YEAR": "%Y",
    "MONTH": "%m",
    "DAY": "%d",
    "HOUR": "%H",
    "MINUTE": "%M",
    "SECOND": "%S",
    "DOW": "%w",
    "DOY": "%j",
    "EPOCH": "%s",
}
STARTS: dict[str, list[str]] = {"YEAR": ["start of year"], "MONTH": ["start of month"], "DAY": []}


class UntranslatableError(SqlError):
    """What the other dialect says and SQLite cannot."""


def as_sqlite(sql: str, dialect: str) -> str:
    """A query of sqlglot's `dialect` in SQLite's; one that is in SQLite's already stays as it is written.

    Raises SqlError for one that cannot be parsed, UntranslatableError for what SQLite has no words for.
    """
    if dialect == "sqlite":
        return sql
    try:
        statements = [statement for statement in read_sql(sqlglot.parse, sql, dialect) if statement]
        if len(statements) != 1:
            kind: ErrorKind = "several statements" if statements else "syntax"
            raise SqlError(kind, f"there are {len(statements)} statements; one is run")
        query = statements[0].transform(_as_sqlite_has_it)
        for name in query.find_all(exp.Identifier):
            name.set("quoted", quote_name(name.name) != name.name)
        # without NULLS FIRST or LAST their position is the database's default, not the user's wish
        if not re.search(r"\bnulls\b", sql, re.IGNORECASE):
            for order in query.find_all(exp.Ordered):
                order.set("nulls_first", not order.args.get("desc"))
        return query.sql(dialect="sqlite", comments=False, unsupported_level=ErrorLevel.RAISE)
    except UnsupportedError as error:
        raise UntranslatableError("other", f"SQLite has no words for it: {error_in_one_line(error)}") from None
    except RecursionError:
        raise SqlError("too large", "the query is nested too deeply") from None
    except SqlglotError as error:
        raise SqlError("syntax", error_in_one_line(error)) from None


def _as_sqlite_has_it(node: exp.Expr) -> exp.Expr:
    """A node of another dialect, said with SQLite's own functions where sqlglot leaves it as it is."""
    kind = node.name.upper() if isinstance(node, exp.Extract) else type(node).__name__.upper()
    moment = node.expression if isinstance(node, exp.Extract) else node.this
    if kind in PARTS_OF_DATES and isinstance(node, exp.Extract | exp.Func):
        if isinstance(moment, exp.Date | exp.TsOrDsToDate) and not moment.expressions:
            moment = moment.this
        form = exp.Literal.string(PARTS_OF_DATES[kind])
        return exp.cast(exp.Anonymous(this="STRFTIME", expressions=[form, moment]), "integer")
    if isinstance(node, exp.TimestampTrunc | exp.DateTrunc) and (unit := node.args["unit"].name.upper()) in STARTS:
        return exp.Anonymous(this="DATE", expressions=[moment, *map(exp.Literal.string, STARTS[unit])])
    if isinstance(node, exp.Add | exp.Sub) and isinstance(interval := node.expression, exp.Interval):
        sign = "+" if isinstance(node, exp.Add) else "-"
        step = exp.Literal.string(f"{sign}{interval.this.name} {interval.args['unit'].name.lower()}")
        return exp.Anonymous(this="DATE", expressions=[node.this, step])
    if isinstance(node, exp.Left):
        return exp.Substring(this=moment, start=exp.Literal.number(1), length=node.expression)
    if isinstance(node, exp.Right):
        return exp.Substring(this=moment, start=exp.Neg(this=node.expression))
    if isinstance(node, exp.Anonymous) and node.name.upper() == "NOW":
        return exp.CurrentTimestamp()
    return node
