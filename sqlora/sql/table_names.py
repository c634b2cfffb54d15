"""Queries with their tables' names in place of aliases: `SELECT singer.name FROM singer` for `SELECT T1.name FROM singer
AS T1`.

Who writes from left to right names columns before their tables: a name of the schema is known there, an alias is a
promise.
"""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sqlora.sql.parsing import own_tables

BETWEEN = re.compile(r"\s+(AS\s+)?", re.IGNORECASE)  # a table's name and its alias


def without_aliases(sql: str, dialect: str = "sqlite") -> str:
    """The query with a table's name for each alias that is not needed; otherwise as it was written.

    An alias stays where a query has its table twice, as in a self-join, or where an inner query has it too and asks for
    the outer one's columns. So does all of what cannot be parsed.
    """
    try:
        query = sqlglot.parse_one(sql, read=dialect)
    except SqlglotError:
        return sql
    columns = [(column, scope) for column in query.find_all(exp.Column) if (scope := _scope_of(column)) is not None]
    edits: list[tuple[int, int, str]] = []  # where a text begins and ends, and what takes its place
    for select in query.find_all(exp.Select):
        sources = [table.alias_or_name.lower() for table in own_tables(select)]
        names = [table.name.lower() for table in own_tables(select)]
        for table in own_tables(select):
            alias = table.args.get("alias")
            if not alias or not alias.this or table.db or names.count(table.name.lower()) > 1:
                continue
            own = [column for column, scope in columns if scope is select and _names(column, alias)]
            shadowed = any(_has_table(column.parent_select, select, table.name) for column in own) or any(
                column.table.lower() == table.name.lower() and scope is not select
                for column, scope in columns
                if _is_within(column, select)
            )
            gap = sql[_end(table.this) : _start(alias.this)]
            if shadowed or table.name.lower() in set(sources) - {alias.name.lower()} or not BETWEEN.fullmatch(gap):
                continue
            name = sql[_start(table.this) : _end(table.this)]
            edits.append((_end(table.this), _end(alias.this), ""))
            edits += [(_start(part), _end(part), name) for part in (column.args["table"] for column in own)]
    for start, end, text in sorted(edits, reverse=True):
        sql = sql[:start] + text + sql[end:]
    return sql


def _scope_of(column: exp.Column) -> exp.Select | None:
    """The nearest query around a qualified column that has a source of its qualifier's name."""
    select = column.parent_select if column.table else None
    while select is not None:
        if column.table.lower() in {source.lower() for source in _sources(select)}:
            return select if isinstance(select, exp.Select) else None
        select = select.parent_select
    return None


def _sources(select: exp.Expr) -> list[str]:
    joins = [join.this for join in select.args.get("joins") or []]
    first = select.args.get("from_") or select.args.get("from")
    return [source.alias_or_name for source in [*([first.this] if first else []), *joins]]


def _has_table(inner: exp.Expr | None, outer: exp.Select, name: str) -> bool:
    """Whether a query from `inner` up to `outer`, without it, has a source of that name."""
    while inner is not None and inner is not outer:
        there = {source.lower() for source in _sources(inner)} | {table.name.lower() for table in own_tables(inner)}
        if name.lower() in there:
            return True
        inner = inner.parent_select
    return False


def _is_within(column: exp.Column, select: exp.Select) -> bool:
    inner = column.parent_select
    while inner is not None and inner is not select:
        inner = inner.parent_select
    return inner is select


def _names(column: exp.Column, alias: exp.TableAlias) -> bool:
    return column.table.lower() == alias.name.lower()


def _start(identifier: exp.Expr) -> int:
    return identifier.meta["start"]


def _end(identifier: exp.Expr) -> int:
    return identifier.meta["end"] + 1
