"""The description of a user's database: its tables, their columns, and the keys that link them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import exc, types
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine.reflection import Inspector, ObjectKind
from sqlglot.dialects import Dialect

from sqlora.databases.database_url import first_line, shown
from sqlora.databases.kinds import kind_of
from sqlora.sql.schema import Column, Reference, Schema, Table
from sqlora.system.errors import UserError

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


@dataclass(frozen=True)
class Reflected:
    """The description of a database."""

    shown_url: str  # without secrets
    name: str  # its kind, by SQLAlchemy's name
    dialect: str  # the same, by sqlglot's name; "" if it has none
    schema: Schema
    quoted: frozenset[str]  # names that need quotes
    unreadable: dict[str, str]  # tables and views that cannot be described, and why


def reflect(connection: sqlalchemy.Connection) -> Reflected:
    """Tables and views of the default schema. Raises UserError if there are none, and the driver's own errors."""
    url, name = connection.engine.url, connection.engine.url.get_backend_name()
    inspector = sqlalchemy.inspect(connection)
    kind = kind_of(name)
    internal = {table for (table,) in connection.exec_driver_sql(kind.internal)} if kind.internal else set()
    schema, unreadable = _describe(inspector, internal)
    if not schema.tables:
        lost = "".join(f"; {table}: {why}" for table, why in unreadable.items())
        others = [schema for (schema,) in connection.exec_driver_sql(kind.elsewhere)] if kind.elsewhere else []
        if others:
            lost += (
                f"; the schemas {', '.join(others)} have some: ALTER ROLE ... SET search_path makes one of them "
                f"the default"
            )
        raise UserError(f"DATABASE (--database) {shown(url)}: it has no table that this user may read{lost}")
    _check_case(schema, f"DATABASE (--database) {shown(url)}")
    preparer = connection.dialect.identifier_preparer

    def needs_quotes(word: str) -> bool:
        word = word.lower() if kind.ignores_case else word
        return preparer.quote(word) != word

    names = {name for table in schema.tables for name in (table.name, *(column.name for column in table.columns))}
    return Reflected(
        shown(url),
        name,
        kind.dialect if Dialect.get(kind.dialect) else "",
        schema,
        frozenset(filter(needs_quotes, names)),
        unreadable,
    )


def _describe(inspector: Inspector, internal: set[str]) -> tuple[Schema, dict[str, str]]:
    columns: dict[str, list] = {}
    foreign: dict[str, list] = {}
    primary: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    for kind, names in ((ObjectKind.TABLE, inspector.get_table_names), (ObjectKind.ANY_VIEW, inspector.get_view_names)):
        try:
            columns |= {name: listed for (_, name), listed in inspector.get_multi_columns(kind=kind).items()}
            foreign |= {name: listed for (_, name), listed in inspector.get_multi_foreign_keys(kind=kind).items()}
            primary |= {name: key for (_, name), key in inspector.get_multi_pk_constraint(kind=kind).items()}
        except exc.SQLAlchemyError:  # such as a view of a dropped table; it must not hide the others
            for name in names():
                try:
                    columns[name], foreign[name] = inspector.get_columns(name), inspector.get_foreign_keys(name)
                    primary[name] = inspector.get_pk_constraint(name)
                except exc.SQLAlchemyError as error:
                    unreadable[name] = first_line(getattr(error, "orig", error))
    columns = {name: listed for name, listed in columns.items() if listed and name not in internal}
    known = {name.lower(): set(_lower(column["name"] for column in listed)) for name, listed in columns.items()}
    tables = (
        _table(name, listed, primary.get(name) or {}, foreign.get(name, []), known) for name, listed in columns.items()
    )
    return Schema(tuple(tables)), unreadable


def _table(name: str, columns: list, primary: Any, foreign: list, known: dict[str, set[str]]) -> Table:
    """A table with its primary key, NOT NULL and the foreign keys to those columns of the schema that are `known`: a
    user may see a part of a database.
    """
    key = _lower(primary.get("constrained_columns") or ())
    references = [
        Reference(_lower(one["constrained_columns"]), one["referred_table"].lower(), _lower(one["referred_columns"]))
        for one in foreign
        if not one["referred_schema"]
    ]
    return Table(
        name,
        tuple(Column(column["name"], _column_type(column["type"])) for column in columns),
        keys=(key,) if key else (),
        required=frozenset(key) | {column["name"].lower() for column in columns if not column.get("nullable", True)},
        references=tuple(one for one in references if one.fits(known[name.lower()], known.get(one.table, set()))),
    )


def _lower(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _check_case(schema: Schema, where: str) -> None:
    """Raises UserError for names that differ only in letter case, which a model's SQL does not distinguish."""
    for what, names in (
        ("tables", [table.name for table in schema.tables]),
        *((f"columns of {table.name}", [column.name for column in table.columns]) for table in schema.tables),
    ):
        seen: dict[str, str] = {}
        for name in names:
            if (other := seen.setdefault(name.lower(), name)) != name:
                raise UserError(
                    f"{where}: the {what} {other!r} and {name!r} differ only in letter case, which a model does "
                    f"not distinguish; use a role that may read one of them, or a view with other names"
                )


def _column_type(kind: types.TypeEngine) -> str:
    while isinstance(kind, postgresql.DOMAIN):
        kind = kind.data_type
    return next((name for family, name in TYPES if isinstance(kind, family)), "other")
