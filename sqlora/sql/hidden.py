"""Columns and tables that are kept out of a schema, and out of what queries over it can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from sqlora.sql.schema import Column, Schema, Table
from sqlora.sql.scopes import Scopes


def hide(schema: Schema, names: Sequence[str]) -> tuple[Schema, list[str]]:
    """The schema without the tables (`users`) and columns (`users.email`) of these names, in any letter case, and the
    names that it does not have.
    """
    wanted = {name.lower() for name in names}
    known = {name for table in schema.tables for name in _names(table)}
    tables = []
    for table in schema.tables:
        columns = tuple(column for column in table.columns if wanted.isdisjoint(_names(table, column)))
        known.update(name for column in table.columns for name in _names(table, column))
        if columns and wanted.isdisjoint(_names(table)):
            tables.append(table if len(columns) == len(table.columns) else _without(table, columns))
    unknown = [name for name in names if name.lower() not in known]
    return replace(schema, tables=tuple(tables)).consistent(), unknown


def conceal(query: exp.Query, scopes: Scopes) -> exp.Query:
    """The query with `(SELECT its visible columns FROM users) AS users` in the place of every table that has hidden
    ones, so that no `*`, no join and no function sees them.
    """
    partial = [(node, table) for node in query.find_all(exp.Table) if isinstance(table := scopes.table(node), Table)]
    for node, table in partial:
        if table.is_partial:
            alias = node.args.get("alias") or exp.TableAlias(this=node.this.copy())
            source = exp.Table(this=node.this, db=node.args.get("db"))
            columns = [exp.column(column.name, quoted=True) for column in table.columns]
            joins = node.args.get("joins")
            node.replace(exp.Subquery(this=exp.select(*columns).from_(source), alias=alias, joins=joins))
    return query


def _names(table: Table, column: Column | None = None) -> set[str]:
    """What a table, or a column of it, is called in the schema and in its database, in lower case."""
    names = {table.name, ".".join(filter(None, table.place or (table.name,)))}
    return {f"{name}.{column.name}".lower() if column else name.lower() for name in names}


def _without(table: Table, columns: tuple[Column, ...]) -> Table:
    names = {column.name.lower() for column in columns}
    keys = tuple(key for key in table.keys if names.issuperset(key))
    return replace(table, columns=columns, keys=keys, required=table.required & names, checks=(), is_partial=True)
