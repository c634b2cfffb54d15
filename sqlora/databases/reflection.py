"""The description of a user's database: its tables, their columns, the keys that link them, and comments."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy
from sqlalchemy import exc, types
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine.reflection import Inspector, ObjectKind
from sqlglot.dialects import Dialect

from sqlora.databases.database_url import first_line, shown
from sqlora.databases.kinds import kind_of
from sqlora.sql.parsing import SqlError, parse_schema
from sqlora.sql.schema import LONGEST_COMMENT, Column, Reference, Schema, Table, shortened
from sqlora.system.errors import UserError, nearest

TYPES = (  # the first that fits; everything else is other, which is shown as text
    (types.Boolean, "boolean"),
    (types.Integer, "integer"),
    (mysql.YEAR, "integer"),
    (types.Numeric, "real"),
    (types.Float, "real"),
    (types.DateTime, "timestamp"),
    (types.Date, "date"),
    (types.Time, "time"),
    (types.Enum, "other"),  # of which PostgreSQL takes no LIKE
    (types.String, "text"),
)
Names = dict[tuple[str | None, str], str]  # of tables, by their schema and their name in the database


@dataclass(frozen=True)
class Reflected:
    """The description of a database."""

    shown_url: str  # without secrets
    name: str  # its kind, by SQLAlchemy's name
    dialect: str  # the same, by sqlglot's name; "" if it has none
    schema: Schema
    quoted: frozenset[str]  # names that need quotes
    unreadable: dict[str, str]  # tables, views and columns that cannot be described, and why


def reflect(connection: sqlalchemy.Connection, schemas: Sequence[str] = ()) -> Reflected:
    """Tables and views of the schemas, or else of the search path. Raises UserError if there are none, or a schema is
    missing, and the driver's own errors.
    """
    url, name = connection.engine.url, connection.engine.url.get_backend_name()
    inspector = sqlalchemy.inspect(connection)
    kind = kind_of(name)
    where = f"DATABASE (--database) {shown(url)}"
    path = [schema for (schema,) in connection.exec_driver_sql(kind.search_path)] if kind.search_path else []
    if schemas:
        _check_schemas(inspector, schemas)
    schemas = schemas or path
    default = inspector.default_schema_name if schemas else None
    wanted: Sequence[str | None] = schemas or [None]
    described = [_describe(connection, inspector, schema) for schema in wanted]
    found = [one for tables, _ in described for one in tables]
    unreadable = {name: why for _, lost in described for name, why in lost.items()}
    if not found:
        lost = "".join(f"; {table}: {why}" for table, why in unreadable.items())
        others = [schema for (schema,) in connection.exec_driver_sql(kind.elsewhere)] if kind.elsewhere else []
        if others:
            lost += f"; the schemas {', '.join(others)} have some: name them with SCHEMAS (--schemas)"
        raise UserError(f"{where}: it has no table that this user may read{lost}")
    schema = _schema(found, default, path, unreadable)
    if kind.created:
        schema = _with_comments(schema, connection, kind.created)
    preparer = connection.dialect.identifier_preparer

    def needs_quotes(word: str) -> bool:
        word = word.lower() if kind.ignores_case else word
        return preparer.quote(word) != word

    tables = [(table.name, *(table.place or ()), *(column.name for column in table.columns)) for table in schema.tables]
    return Reflected(
        shown(url),
        name,
        kind.dialect if Dialect.get(kind.dialect) else "",
        schema,
        frozenset(word for words in tables for word in words if needs_quotes(word)),
        unreadable,
    )


@dataclass(frozen=True)
class _Found:
    """A table as SQLAlchemy describes it; `foreign` are its foreign keys."""

    schema: str | None
    name: str
    columns: list
    primary: Any
    foreign: list
    comment: str


def _check_schemas(inspector: Inspector, schemas: Sequence[str]) -> None:
    known = inspector.get_schema_names()
    for schema in schemas:
        if schema not in known:
            hint = nearest(schema, known)
            raise UserError(f"SCHEMAS (--schemas) names {schema!r}, which the database does not have; {hint}")


def _describe(
    connection: sqlalchemy.Connection, inspector: Inspector, schema: str | None
) -> tuple[list[_Found], dict[str, str]]:
    """The tables and views of a schema, and those that cannot be described."""
    columns: dict[str, list] = {}
    foreign: dict[str, list] = {}
    primary: dict[str, Any] = {}
    comments: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    for kind, names in ((ObjectKind.TABLE, inspector.get_table_names), (ObjectKind.ANY_VIEW, inspector.get_view_names)):
        options: dict[str, Any] = {"schema": schema, "kind": kind}
        try:
            columns |= {name: listed for (_, name), listed in inspector.get_multi_columns(**options).items()}
            foreign |= {name: listed for (_, name), listed in inspector.get_multi_foreign_keys(**options).items()}
            primary |= {name: key for (_, name), key in inspector.get_multi_pk_constraint(**options).items()}
            if connection.dialect.supports_comments:
                comments |= {name: text for (_, name), text in inspector.get_multi_table_comment(**options).items()}
        except exc.SQLAlchemyError:  # such as a view of a dropped table; it must not hide the others
            for name in names(schema):
                try:
                    columns[name] = inspector.get_columns(name, schema)
                    foreign[name] = inspector.get_foreign_keys(name, schema)
                    primary[name] = inspector.get_pk_constraint(name, schema)
                except exc.SQLAlchemyError as error:
                    unreadable[name] = first_line(getattr(error, "orig", error))
    internal = _internal(connection, schema)
    found = [
        _Found(
            schema,
            name,
            listed,
            primary.get(name) or {},
            foreign.get(name, []),
            (comments.get(name) or {}).get("text") or "",
        )
        for name, listed in columns.items()
        if listed and name not in internal
    ]
    return found, unreadable


def _internal(connection: sqlalchemy.Connection, schema: str | None) -> set[str]:
    query = kind_of(connection.engine.url.get_backend_name()).internal
    parameters = {"schema": schema} if ":schema" in query else {}
    return {table for (table,) in connection.execute(sqlalchemy.text(query), parameters)} if query else set()


def _names(found: list[_Found], default: str | None) -> Names:
    """The names by which a model's SQL tells the tables apart: in any letter case, and with the schema where needed.

    A table of the default schema keeps its name. Those that differ only in letter case are numbered, but for the one in
    lower case.
    """
    names: Names = {}
    taken: set[str] = set()
    shared = {name for name, count in Counter(one.name.lower() for one in found).items() if count > 1}
    for one in sorted(found, key=lambda one: (one.schema != default, one.name != one.name.lower())):
        is_qualified = one.name.lower() in shared and one.schema != default
        plain = f"{one.schema}.{one.name}" if is_qualified else one.name
        numbered = (f"{plain}_{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([plain], numbered) if name.lower() not in taken)
        taken.add(name.lower())
        names[one.schema, one.name] = name
    return names


def _schema(found: list[_Found], default: str | None, path: list[str], unreadable: dict[str, str]) -> Schema:
    """The tables with the keys between them. A column that differs from another only in letter case is left out, and
    noted as `unreadable`.
    """
    names = _names(found, default)
    tables = []
    for one in found:
        name, columns = names[one.schema, one.name], _distinct(one, unreadable)
        own = {column.name.lower() for column in columns}
        key = _lower(one.primary.get("constrained_columns") or ())
        required = {column["name"].lower() for column in one.columns if not column.get("nullable", True)}
        references = (_reference(foreign, names, path, one.schema) for foreign in one.foreign)
        schema = "" if one.schema == default else one.schema or ""
        tables.append(
            Table(
                name,
                columns,
                keys=(key,) if key and own.issuperset(key) else (),
                required=frozenset((required | set(key)) & own),
                references=tuple(reference for reference in references if reference),
                comment=shortened(one.comment, LONGEST_COMMENT),
                qualifier=schema if schema and name.startswith(f"{schema}.") else "",
                place=(schema, one.name) if schema or name != one.name else None,
            )
        )
    return Schema(tuple(tables)).consistent()  # a user may see a part of a database


def _reference(foreign: Any, names: Names, path: list[str], own: str | None) -> Reference | None:
    """A foreign key of a table in the schema `own`, if the user may read the other table; without a schema that one is
    in the first of the search path that has it.
    """
    schemas = [foreign["referred_schema"]] if foreign["referred_schema"] else [*path, own]
    places = ((schema, foreign["referred_table"]) for schema in schemas)
    target = next((names[place] for place in places if place in names), None)
    if target is None:
        return None
    return Reference(_lower(foreign["constrained_columns"]), target.lower(), _lower(foreign["referred_columns"]))


def _distinct(table: _Found, unreadable: dict[str, str]) -> tuple[Column, ...]:
    columns: dict[str, Column] = {}
    for column in table.columns:
        name, comment = column["name"], shortened(column.get("comment") or "", LONGEST_COMMENT)
        if (other := columns.get(name.lower())) is not None:
            unreadable[f"{table.name}.{name}"] = f"it differs from {other.name} only in letter case"
            continue
        columns[name.lower()] = Column(name, _column_type(column["type"]), comment=comment)
    return tuple(columns.values())


def _with_comments(schema: Schema, connection: sqlalchemy.Connection, query: str) -> Schema:
    """The schema with the comments in the CREATE TABLE texts that a query gives."""
    try:
        created = parse_schema("; ".join(text for (text,) in connection.exec_driver_sql(query)))
    except SqlError:
        return schema

    def commented(table: Table) -> Table:
        if (written := created.table(table.name)) is None:
            return table
        texts = {column.name.lower(): shortened(column.comment, LONGEST_COMMENT) for column in written.columns}
        columns = (replace(column, comment=texts.get(column.name.lower(), "")) for column in table.columns)
        return replace(table, columns=tuple(columns), comment=shortened(written.comment, LONGEST_COMMENT))

    return replace(schema, tables=tuple(map(commented, schema.tables)))


def _lower(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _column_type(kind: types.TypeEngine) -> str:
    while isinstance(kind, postgresql.DOMAIN):
        kind = kind.data_type
    return next((name for family, name in TYPES if isinstance(kind, family)), "other")
