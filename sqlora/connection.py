"""A connection to a user's database that reads and does nothing else: how each kind is opened, described and asked.

It lives in a process of its own, which can be ended whatever it is doing; see database.py.
"""

from __future__ import annotations

import contextlib
import decimal
import json
import math
import re
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus

import sqlalchemy
from sqlalchemy import exc, types
from sqlalchemy.dialects import mysql
from sqlalchemy.engine.reflection import Inspector, ObjectKind
from sqlglot.dialects import Dialect

from sqlora.errors import UserError
from sqlora.sandbox import Result, Value, fault_kind, restrict
from sqlora.sql import Column, Kind, Schema, SqlError, Table

DRIVERS = {  # of the databases that queries are run on: what connects to them, and the package that brings it
    "sqlite": ("sqlite", "sqlite3", ""),
    "postgresql": ("postgresql+psycopg", "psycopg", "psycopg[binary]"),
    "mysql": ("mysql+pymysql", "pymysql", "PyMySQL"),
    "mariadb": ("mariadb+pymysql", "pymysql", "PyMySQL"),
}
CONNECT_SECONDS = 10
PARSED_AS = {"postgresql": "postgres", "mariadb": "mysql", "mssql": "tsql"}  # sqlglot's names, where they are others
IGNORES_CASE = {"sqlite", "mysql", "mariadb", "mssql"}  # others take a name in capitals for it only if it is quoted
INTERNAL = {  # tables that others are made of, and that nobody asks for
    "sqlite": "SELECT name FROM pragma_table_list WHERE type = 'shadow'",
    "postgresql": "SELECT relname FROM pg_catalog.pg_class WHERE relispartition",
}
TYPES = (  # the first that fits; everything else is text
    (types.Boolean, "boolean"), (types.Integer, "integer"), (mysql.YEAR, "integer"), (types.Numeric, "real"),
    (types.DateTime, "timestamp"), (types.Date, "date"), (types.Time, "time"),
)
SQLITE_LIMITS = {"SQLITE_LIMIT_LENGTH": 10_000_000, "SQLITE_LIMIT_COLUMN": 2000}
SQLITE_HEAP_BYTES = 256 * 2**20
PROCESS_BYTES = 2 * 2**30
MOST_BYTES = 64 * 2**20  # of all values of a result
FAULTS: tuple[tuple[str, Kind], ...] = (
    (r"statement timeout|max_statement_time|maximum statement execution time|lock timeout", "timeout"),
    (r"relation .* does not exist|table .* doesn't exist", "no such table"),
    (r"column .* does not exist|unknown column", "no such column"),
    (r"is ambiguous", "ambiguous column"),
    (r"read-only transaction|READ ONLY transaction", "not read only"),
    (r"multiple commands", "several statements"),
    (r"error in your SQL syntax", "syntax"),
)
GONE = re.compile(r"server closed|lost connection|gone away|connection (is |was )?(closed|lost|refused|reset|timed out)|"
                  r"terminating connection|can't connect|broken pipe|shutting down|connection failed", re.IGNORECASE)


@dataclass(frozen=True)
class Reflected:
    """What a database tells of itself."""

    place: str  # its URL, without secrets
    name: str  # its kind, as SQLAlchemy calls it
    dialect: str  # the same, as sqlglot calls it
    schema: Schema
    links: tuple[tuple[str, str], ...]  # pairs of tables that a foreign key joins
    quoted: frozenset[str]  # names that must stand in quotes
    unreadable: dict[str, str]  # tables and views that cannot be described, and why


class Connection:
    """`url` names the database, `seconds` is the deadline of a query. Nothing stays open between two calls.

    Raises UserError for a URL that leads nowhere, and all that is said in an error goes through `hide_secrets` first.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self.url = parse_url(url)
        self.seconds = seconds
        self.name = self.url.get_backend_name()
        self.engine = make_engine(self.url)

    def reflect(self) -> Reflected:
        """Tables and views of the default schema. Raises UserError if there are none, or the database is out of reach."""
        with self._told(), self.engine.connect() as connection:
            inspector = sqlalchemy.inspect(connection)
            internal = {name for (name,) in connection.exec_driver_sql(INTERNAL[self.name])} if self.name in INTERNAL else set()
            schema, links, unreadable = _describe(inspector, internal)
            preparer = self.engine.dialect.identifier_preparer
        if not schema.tables:
            lost = "".join(f"; {name}: {why}" for name, why in unreadable.items())
            raise UserError(f"DATABASE (--database) {self.shown()}: there is no table in it that this user can see{lost}")

        def needs_quotes(name: str) -> bool:
            name = name.lower() if self.name in IGNORES_CASE else name
            return preparer.quote(name) != name

        names = {name for table in schema.tables for name in (table.name, *(column.name for column in table.columns))}
        dialect = PARSED_AS.get(self.name, self.name)
        return Reflected(self.shown(), self.name, dialect if Dialect.get(dialect) else "", schema, tuple(links),
                         frozenset(filter(needs_quotes, names)), unreadable)

    def explain(self, sql: str) -> None:
        """Has the database plan the query, where it is of a kind that can. Raises SqlError."""
        if self.name in DRIVERS:
            with self._reading() as connection:
                connection.exec_driver_sql(f"EXPLAIN {sql}").close()

    def run(self, sql: str, most_rows: int) -> Result:
        """Columns and at most `most_rows` rows of one query. Raises SqlError, and UserError if the connection fails."""
        if self.name not in DRIVERS:
            raise UserError(f"DATABASE (--database) is of the kind {self.name}, which SQLoRA cannot open for reading only; it "
                            f"writes the SQL and does not run it")
        with self._reading() as connection:
            result = connection.exec_driver_sql(sql)
            if not result.returns_rows:
                raise SqlError("not read only", "the statement is no SELECT")
            columns, rows, size = tuple(result.keys()), [], 0
            while len(rows) < most_rows and (part := result.fetchmany(min(500, most_rows - len(rows)))):
                rows += [tuple(map(_plain, row)) for row in part]
                size += sum(len(value) if isinstance(value, str) else 8 for row in rows[-len(part):] for value in row)
                if size > MOST_BYTES:
                    raise SqlError("too large", f"the rows have more than {MOST_BYTES / 2**20:.0f} MiB")
        return Result(columns, rows)

    def shown(self) -> str:
        """The URL as it may be seen: without password and options."""
        return self.url.set(query={}, password=None).render_as_string()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlalchemy.Connection]:
        """A transaction that cannot write, with a deadline, rolled back at its end; and no trace of it in the session after."""
        with self._told(), self.engine.connect() as connection:
            connection = connection.execution_options(no_parameters=True)
            if self.name == "sqlite":
                ends = time.monotonic() + self.seconds
                raw = connection.connection.driver_connection
                raw.text_factory = lambda text: text.decode("utf-8", "replace")  # SQLite keeps any bytes as text
                for setting in ("query_only = ON", "trusted_schema = OFF", "temp_store = MEMORY",
                                f"hard_heap_limit = {SQLITE_HEAP_BYTES}"):
                    raw.execute(f"PRAGMA {setting}")
                restrict(raw, lambda: time.monotonic() > ends, **SQLITE_LIMITS)
            elif self.name == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
                for setting in (f"statement_timeout = {math.ceil(1000 * self.seconds)}", "standard_conforming_strings = on"):
                    connection.exec_driver_sql(f"SET LOCAL {setting}")
            else:
                timeout = (f"max_statement_time = {self.seconds:.3f}" if self.engine.dialect.is_mariadb else
                           f"max_execution_time = {math.ceil(1000 * self.seconds)}")
                # The mode: quotes and backslashes mean what sqlglot writes them for, and bare columns are as free as in SQLite.
                for setting in (timeout, "sql_mode = ''", f"lock_wait_timeout = {math.ceil(self.seconds)}"):
                    connection.exec_driver_sql(f"SET SESSION {setting}")
                connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")  # any other that could follow
                connection.exec_driver_sql("START TRANSACTION READ ONLY")
            yield connection
            connection.rollback()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """The driver's errors as SqlError, or as UserError where it is the connection that failed."""
        try:
            yield
        except exc.DBAPIError as error:
            message = _first_line(error.orig)
            if error.connection_invalidated or GONE.search(message) or isinstance(error.orig, sqlite3.DatabaseError) and (
                    "not a database" in message or "unable to open" in message):
                raise UserError(f"DATABASE (--database) {self.shown()}: {message}") from None
            if "interrupted" in message and self.name == "sqlite" or "timeout" in message:
                message = f"{message} ({self.seconds:g} s)"
            kind = next((kind for pattern, kind in FAULTS if re.search(pattern, message, re.IGNORECASE)), None)
            raise SqlError(kind or fault_kind(message), message) from None
        except MemoryError:
            raise SqlError("too large", f"the query needs more than {PROCESS_BYTES / 2**30:.0f} GiB") from None
        except (OverflowError, ValueError) as error:  # a NUL, half a surrogate, a date that Python lacks
            raise SqlError("syntax", _first_line(error)) from None


def parse_url(text: str) -> sqlalchemy.URL:
    """DATABASE as SQLAlchemy has it, its driver chosen; a path alone is an SQLite file. Raises UserError, which tells no secret."""
    where = "DATABASE (--database)"
    example = "an SQLite file, or a URL such as postgresql://user@host/name, mysql://user@host/name or sqlite:///file"
    if "://" not in text:
        url = sqlalchemy.URL.create("sqlite", database=text)
    else:
        text = re.sub("^postgres:", "postgresql:", text)
        try:
            url = sqlalchemy.make_url(text)
        except (exc.ArgumentError, ValueError):
            raise UserError(f"{where} is no URL that can be read; write {example}, with %40 for an @ and %2F for a / in a "
                            f"password") from None
    name = url.get_backend_name()
    if name == "sqlite":
        path = Path(url.database or "").expanduser()
        if not url.database or not path.is_file():
            raise UserError(f"{where}: there is no SQLite file {url.database or ''!r}; write {example}")
        return url.set(database=str(path.resolve()))
    if text.partition("?")[0].count("@") > 1:  # where one is unescaped, half of the password would pass for the host
        raise UserError(f"{where} has more than one @; write those of the name and the password as %40")
    return url.set(drivername=DRIVERS[name][0]) if name in DRIVERS else url


def make_engine(url: sqlalchemy.URL) -> sqlalchemy.Engine:
    """An engine that keeps no connection. Raises UserError for an unknown kind of database or a missing driver."""
    name = url.get_backend_name()
    arguments: dict = {}
    if name == "sqlite":
        # Not created where it is missing, and not written to.
        source = f"{Path(url.database).as_uri()}?mode=ro"
        arguments["creator"] = lambda: sqlite3.connect(source, uri=True, isolation_level=None, timeout=2, cached_statements=0)
        url = url.set(query={})
    elif name == "postgresql":
        # Prepared from the first time on: the protocol then takes one statement at a time.
        arguments["connect_args"] = {"connect_timeout": CONNECT_SECONDS, "prepare_threshold": 0}
    elif name in DRIVERS:
        arguments["connect_args"] = {"connect_timeout": CONNECT_SECONDS, "local_infile": False, "client_flag": 0}
    try:
        return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, **arguments)
    except exc.NoSuchModuleError:
        raise UserError(f"DATABASE (--database) is of the kind {url.drivername!r}, which SQLAlchemy does not know; if there is a "
                        f"package for it, pip install it") from None
    except ModuleNotFoundError as error:
        package = DRIVERS[name][2] if name in DRIVERS else error.name
        raise UserError(f"DATABASE (--database) needs the driver {error.name}: pip install '{package}'") from None
    except (exc.ArgumentError, TypeError) as error:
        raise UserError(f"DATABASE (--database): {_first_line(error)}") from None


def _describe(inspector: Inspector, internal: set[str]) -> tuple[Schema, list[tuple[str, str]], dict[str, str]]:
    columns: dict[str, list] = {}
    keys: dict[str, list] = {}
    unreadable: dict[str, str] = {}
    for kind, names in ((ObjectKind.TABLE, inspector.get_table_names), (ObjectKind.ANY_VIEW, inspector.get_view_names)):
        try:
            columns |= {name: found for (_, name), found in inspector.get_multi_columns(kind=kind).items()}
            keys |= {name: found for (_, name), found in inspector.get_multi_foreign_keys(kind=kind).items()}
        except exc.SQLAlchemyError:  # such as a view of a table that is gone; it must not hide the others
            for name in names():
                try:
                    columns[name], keys[name] = inspector.get_columns(name), inspector.get_foreign_keys(name)
                except exc.SQLAlchemyError as error:
                    unreadable[name] = _first_line(getattr(error, "orig", error))
    tables = tuple(
        Table(name, tuple(Column(column["name"], _column_type(column["type"])) for column in found))
        for name, found in columns.items() if found and name not in internal
    )
    links = [(name, key["referred_table"]) for name, found in keys.items() for key in found if not key["referred_schema"]]
    return Schema(tables), links, unreadable


def _column_type(kind: types.TypeEngine) -> str:
    return next((name for family, name in TYPES if isinstance(kind, family)), "text")


def _plain(value: object) -> Value:
    """A value as every format can show it."""
    if value is None or isinstance(value, int | str) or isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, decimal.Decimal):
        number = int(value) if value.is_finite() and value == int(value) else float(value)
        return number if decimal.Decimal(str(number)) == value else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"0x{bytes(value).hex()}"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _first_line(error: object) -> str:
    """What a driver's error says, without its number, its position in the text, and control characters."""
    arguments = getattr(error, "args", ())
    text = str(arguments[1]) if len(arguments) > 1 and isinstance(arguments[0], int) else str(error)
    text = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return "".join(char if char.isprintable() else " " for char in text).strip()


def hide_secrets(text: str, url: str) -> str:
    """The text without the URL's passwords, as they are and as they are spelled in the URL."""
    try:
        parsed = sqlalchemy.make_url(url)
    except (exc.ArgumentError, ValueError):
        return text
    options = [value for key, value in parsed.query.items() if re.search("pass|pwd|secret|token|key", key)]
    for secret in filter(None, [parsed.password, *options]):
        for spelled in (str(secret), quote_plus(str(secret)), str(secret).replace("@", "%40")):
            text = text.replace(spelled, "***")
    return text


def serve(pipe, url: str, seconds: float) -> None:
    """Says that it has started, and answers (method of Connection, its arguments) from the pipe with what it gives or raises, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that the user talks to
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (PROCESS_BYTES, PROCESS_BYTES))
    connection = None
    with contextlib.suppress(EOFError, BrokenPipeError):
        pipe.send("started")
        while True:
            method, arguments = pipe.recv()
            try:
                connection = connection or Connection(url, seconds)
                answer = getattr(connection, method)(*arguments)
            except SqlError as error:
                answer = SqlError(error.kind, hide_secrets(str(error), url))
            except UserError as error:
                answer = UserError(hide_secrets(str(error), url))
            except Exception:  # a bug, to be shown where there is somebody to see it
                answer = RuntimeError(hide_secrets(traceback.format_exc(), url))
            pipe.send(answer)
