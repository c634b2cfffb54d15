"""The kinds of databases that SQLoRA reads: a record for each with all that differs between them.

A further kind is a record here: how it is connected to, how a transaction begins that cannot write and ends at a
deadline, and how its errors read. A database that SQLAlchemy knows and that has no record is described, and its queries
are written but not run.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy

from sqlora.databases import sqlite_file
from sqlora.databases.values import read_mysql, read_postgresql
from sqlora.sql.lengths import MOST_GROUPED
from sqlora.sql.parsing import ErrorKind, SqlError
from sqlora.sql.sandbox import restrict

CONNECT_SECONDS = 10
SQLITE_LIMITS = {"SQLITE_LIMIT_LENGTH": 10_000_000}
SQLITE_HEAP_BYTES = 256 * 2**20
TRUNCATED = 1260  # the number of MySQL's and MariaDB's warning that GROUP_CONCAT was truncated
LOST = re.compile(
    r"server closed|lost connection|gone away|connection (is |was )?(closed|lost|refused|reset|timed out)|"
    r"terminating connection|can't connect|broken pipe|shutting down|connection failed",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class DatabaseKind:
    """What differs between kinds of databases.

    driver: SQLAlchemy's dialect and driver; package: what pip installs for it; dialect: sqlglot's name.
    connect: SQLAlchemy's URL and keyword arguments of create_engine, from the URL of a user.
    begin: starts a transaction that cannot write, with a deadline in seconds, and returns its connection; None where
        SQLoRA knows no such transaction, and so runs no query.
    finish: raises SqlError, after all rows of a query, if they cannot be trusted. end: the same at the end of every
    transaction, also of one whose rows were not all read. faults: patterns of error messages with the kind of error
    that each means; lost: pattern of those of a lost connection. ignores_case: whether a name in other
    letter case needs no quotes. internal: a query for tables that nobody asks for, since others consist of them or this
    user may not read them. search_path: a query for the schemas that names without one are looked up in. elsewhere: a
    query for the schemas that have tables. created: a query for the CREATE TABLE texts that have comments, where these
    are nowhere else.
    """

    driver: str
    package: str
    dialect: str
    connect: Callable[[sqlalchemy.URL], tuple[sqlalchemy.URL, dict[str, Any]]]
    begin: Callable[[sqlalchemy.Connection, float], sqlalchemy.Connection] | None
    finish: Callable[[sqlalchemy.Connection, Any], None] = lambda connection, cursor: None
    end: Callable[[sqlalchemy.Connection], None] = lambda connection: None
    faults: tuple[tuple[str, ErrorKind], ...] = ()
    lost: re.Pattern[str] = LOST
    ignores_case: bool = False
    internal: str = ""
    search_path: str = ""
    elsewhere: str = ""
    created: str = ""
    remedy: str = "check host, port, name, user, password and options"


def _connect_sqlite(url: sqlalchemy.URL) -> tuple[sqlalchemy.URL, dict[str, Any]]:
    path = Path(url.database or "")
    return url.set(query={}), {"creator": lambda: sqlite_file.connect(path)}


def _begin_sqlite(connection: sqlalchemy.Connection, seconds: float) -> sqlalchemy.Connection:
    ends = time.monotonic() + seconds
    raw: Any = connection.connection.driver_connection
    raw.text_factory = lambda text: text.decode("utf-8", "replace")  # SQLite stores any bytes as text
    for setting in (
        "query_only = ON",
        "trusted_schema = OFF",
        "temp_store = MEMORY",
        f"hard_heap_limit = {SQLITE_HEAP_BYTES}",
    ):
        raw.execute(f"PRAGMA {setting}")
    raw.connect_modules()
    restrict(raw, lambda: time.monotonic() > ends, **SQLITE_LIMITS)
    return connection


def _end_sqlite(connection: sqlalchemy.Connection) -> None:
    raw: Any = connection.connection.driver_connection
    if raw.has_changed():
        raise SqlError("other", "another program wrote to the file at the same time; ask again")


def _connect_postgresql(url: sqlalchemy.URL) -> tuple[sqlalchemy.URL, dict[str, Any]]:
    # Prepared from the first time on: the protocol then takes one statement at a time.
    return url, {"connect_args": {"connect_timeout": CONNECT_SECONDS, "prepare_threshold": 0}}


def _begin_postgresql(connection: sqlalchemy.Connection, seconds: float) -> sqlalchemy.Connection:
    connection = connection.execution_options(postgresql_readonly=True)
    for setting in (
        f"statement_timeout = {math.ceil(1000 * seconds)}",
        "standard_conforming_strings = on",
        "client_encoding = 'UTF8'",
        "DateStyle = 'ISO'",
        "IntervalStyle = 'postgres'",
        "jit = off",  # no deadline ends a compilation, which took 10 s for a join of 60 tables
    ):
        connection.exec_driver_sql(f"SET LOCAL {setting}")
    raw: Any = connection.connection.driver_connection
    read_postgresql(raw)
    return connection


def _connect_mysql(url: sqlalchemy.URL) -> tuple[sqlalchemy.URL, dict[str, Any]]:
    return url, {"connect_args": {"connect_timeout": CONNECT_SECONDS, "local_infile": False, "client_flag": 0}}


def _begin_mysql(connection: sqlalchemy.Connection, seconds: float) -> sqlalchemy.Connection:
    is_mariadb = getattr(connection.dialect, "is_mariadb", False)
    # The mode: quotes and backslashes mean what sqlglot writes them for, and bare columns are as free as in SQLite.
    for setting in (
        f"max_statement_time = {seconds:.3f}" if is_mariadb else f"max_execution_time = {math.ceil(1000 * seconds)}",
        "sql_mode = ''",
        f"lock_wait_timeout = {math.ceil(seconds)}",
        f"group_concat_max_len = {MOST_GROUPED}",
    ):
        connection.exec_driver_sql(f"SET SESSION {setting}")
    connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")  # any other that could follow
    connection.exec_driver_sql("START TRANSACTION READ ONLY")
    raw: Any = connection.connection.driver_connection
    read_mysql(raw)
    return connection


def _finish_mysql(connection: sqlalchemy.Connection, cursor: object) -> None:
    if not getattr(cursor, "warning_count", 0):
        return
    if any(code == TRUNCATED for _, code, _ in connection.exec_driver_sql("SHOW WARNINGS")):
        raise SqlError("too large", f"GROUP_CONCAT gives more than {MOST_GROUPED:,} bytes")


MYSQL_FAULTS: tuple[tuple[str, ErrorKind], ...] = (
    (r"max_statement_time|maximum statement execution time|lock timeout|statement timeout", "timeout"),
    (r"table .* doesn't exist", "no such table"),
    (r"unknown column", "no such column"),
    (r"is ambiguous", "ambiguous column"),
    (r"READ ONLY transaction", "not read only"),
    (r"error in your SQL syntax", "syntax"),
)
MYSQL = DatabaseKind(
    "mysql+pymysql",
    "PyMySQL",
    "mysql",
    _connect_mysql,
    _begin_mysql,
    _finish_mysql,
    faults=MYSQL_FAULTS,
    ignores_case=True,
)
KINDS = {  # by SQLAlchemy's names
    "sqlite": DatabaseKind(
        "sqlite",
        "",
        "sqlite",
        _connect_sqlite,
        _begin_sqlite,
        end=_end_sqlite,
        lost=re.compile("not a database|unable to open"),
        ignores_case=True,
        internal="SELECT name FROM pragma_table_list WHERE type = 'shadow'",
        created="SELECT sql FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE TABLE%' "
        "AND (sql LIKE '%--%' OR sql LIKE '%/*%')",
        remedy="name an SQLite file that you may read",
    ),
    "postgresql": DatabaseKind(
        "postgresql+psycopg",
        "psycopg[binary]",
        "postgres",
        _connect_postgresql,
        _begin_postgresql,
        faults=(
            (r"statement timeout|lock timeout", "timeout"),
            (r"relation .* does not exist", "no such table"),
            (r"column .* does not exist", "no such column"),
            (r"is ambiguous", "ambiguous column"),
            (r"read-only transaction", "not read only"),
            (r"multiple commands", "several statements"),
        ),
        internal="SELECT relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n "
        "ON relnamespace = n.oid WHERE nspname = :schema AND (relispartition "
        "OR NOT has_any_column_privilege(c.oid, 'SELECT') "
        "OR nspname = current_schema() AND NOT pg_table_is_visible(c.oid))",
        search_path="SELECT unnest(current_schemas(false))",
        elsewhere="SELECT DISTINCT nspname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n "
        "ON relnamespace = n.oid WHERE relkind IN ('r', 'v', 'm', 'p', 'f') "
        "AND has_any_column_privilege(c.oid, 'SELECT') AND nspname !~ '^pg_|^information_schema$' ORDER BY 1",
    ),
    "mysql": MYSQL,
    "mariadb": replace(MYSQL, driver="mariadb+pymysql"),
    "mssql": DatabaseKind("", "", "tsql", lambda url: (url, {}), None, ignores_case=True),
}


def kind_of(name: str) -> DatabaseKind:
    """The record of SQLAlchemy's backend `name`; for one without a record, one that runs no query."""
    return KINDS.get(name) or DatabaseKind("", "", name, lambda url: (url, {}), None)
