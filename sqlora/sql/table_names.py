"""Queries with tables' names in place of aliases: `SELECT singer.name FROM singer` for `SELECT T1.name FROM singer T1`.

A model writes columns before their tables: T1 must be guessed there, and the name of a table stands in the schema.
"""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

BETWEEN = re.compile(r"\s+(AS\s+)?", re.IGNORECASE)  # a table's name and its alias


def without_aliases(sql: str, dialect: str = "sqlite") -> str:
    """The query with a table's name for each alias that is not needed; otherwise as it was written.

    An alias stays where a query has its table twice, as in a self-join, or where an inner query has it too and asks for
    the outer one's columns. So does all of what cannot be parsed.
    """
    try:
        query = sqlglot.parse_one(sql, read=dialect)
    except (SqlglotError, RecursionError):
        return sql
    columns = [(column, scope) for column in query.find_all(exp.Column) if (scope := _scope_of(column)) is not None]
    edits: list[tuple[int, int, str]] = []  # where a text begins and ends, and what takes its place
    for select in query.find_all(exp.Select):
        for table in filter(lambda source: isinstance(source, exp.Table), sources_of(select)):
            alias = table.args.get("alias")
            if not alias or not alias.this or _is_needed(table, select, columns):
                continue
            start, end = _place(table.this)
            alias_start, alias_end = _place(alias.this)
            if not BETWEEN.fullmatch(sql[end:alias_start]):
                continue
            edits.append((end, alias_end, ""))
            own = [column for column, scope in columns if scope is select and _is_called(column, alias.name)]
            edits += [(*_place(column.args["table"]), sql[start:end]) for column in own]
    for start, end, text in sorted(edits, reverse=True):
        sql = sql[:start] + text + sql[end:]
    return sql


def _is_needed(table: exp.Expr, select: exp.Select, columns: list[tuple[exp.Column, exp.Select]]) -> bool:
    """Whether a table's name could not stand for its alias in a query: there it, or where its columns are asked for, is
    the name of another source too, or an outer query's table of that name is asked for from within.
    """
    if table.args.get("db") or sum(table.name.lower() in names for names in _sources(select)) > 1:
        return True
    for column, scope in columns:
        around = _queries_around(column, scope)
        if scope is select and _is_called(column, table.alias):
            if any(table.name.lower() in names for inner in around for names in _sources(inner)):
                return True
        elif scope is not select and _is_called(column, table.name) and any(inner is select for inner in around):
            return True
    return False


def _scope_of(column: exp.Column) -> exp.Select | None:
    """The nearest query around a qualified column that has a source of its qualifier's name."""
    select = column.parent_select if column.table else None
    while select is not None and column.table.lower() not in _aliases(select):
        select = select.parent_select
    return select if isinstance(select, exp.Select) else None


def _queries_around(column: exp.Column, scope: exp.Select) -> list[exp.Expr]:
    """The queries around a column, from the innermost to the one in `scope`."""
    queries: list[exp.Expr] = []
    select = column.parent_select
    while select is not None and select is not scope:
        queries.append(select)
        select = select.parent_select
    return queries


def sources_of(select: exp.Expr) -> list[exp.Expr]:
    """What stands in FROM and JOIN of a query itself: tables, and others such as subqueries."""
    origin = select.args.get("from_")
    return [*([origin.this] if origin else []), *(join.this for join in select.args.get("joins") or [])]


def _aliases(select: exp.Expr) -> list[str]:
    return [source.alias_or_name.lower() for source in sources_of(select)]


def _sources(select: exp.Expr) -> list[set[str]]:
    """Of each source of a query its name and its alias."""
    return [{source.name.lower(), source.alias_or_name.lower()} for source in sources_of(select)]


def _is_called(column: exp.Column, name: str) -> bool:
    return column.table.lower() == name.lower()


def _place(identifier: exp.Expr) -> tuple[int, int]:
    return identifier.meta["start"], identifier.meta["end"] + 1
