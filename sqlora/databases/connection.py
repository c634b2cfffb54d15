"""A connection to a user's database that reads and does nothing else.

It lives in a process of its own, which can be ended whatever it is doing; see database.py.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Iterator

import sqlalchemy
from sqlalchemy import exc

from sqlora.databases.database_url import DRIVERS, first_line, hide_secrets, make_engine, parse_url, shown
from sqlora.databases.reflection import Reflected, reflect
from sqlora.databases.values import plain, read_mysql, read_postgresql
from sqlora.sql.lengths import MOST_GROUPED
from sqlora.sql.parsing import ErrorKind, SqlError
from sqlora.sql.sandbox import QueryResult, fault_kind, restrict
from sqlora.system.errors import UserError

SQLITE_LIMITS = {"SQLITE_LIMIT_LENGTH": 10_000_000}
SQLITE_HEAP_BYTES = 256 * 2**20
PROCESS_BYTES = 2 * 2**30
MOST_BYTES = 64 * 2**20  # of all values of a result
CUT = 1260  # the number of MySQL's and MariaDB's warning that GROUP_CONCAT was cut
FAULTS: tuple[tuple[str, ErrorKind], ...] = (
    (r"statement timeout|max_statement_time|maximum statement execution time|lock timeout", "timeout"),
    (r"relation .* does not exist|table .* doesn't exist", "no such table"),
    (r"column .* does not exist|unknown column", "no such column"),
    (r"is ambiguous", "ambiguous column"),
    (r"read-only transaction|READ ONLY transaction", "not read only"),
    (r"multiple commands", "several statements"),
    (r"error in your SQL syntax", "syntax"),
)
GONE = re.compile(
    r"server closed|lost connection|gone away|connection (is |was )?(closed|lost|refused|reset|timed out)|"
    r"terminating connection|can't connect|broken pipe|shutting down|connection failed",
    re.IGNORECASE,
)


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
        """Tables and views of the default schema. Raises UserError if there are none, or the database is out of
        reach.
        """
        remedy = "check host, port, name, user, password and options"
        if self.name == "sqlite":
            remedy = "name an SQLite file that you may read"
        try:
            with self.engine.connect() as connection:
                return reflect(connection)
        except (exc.SQLAlchemyError, TypeError, ValueError, AttributeError, LookupError, OSError) as error:
            # All but the first are a driver's own, of options that it does not take.
            raise UserError(
                f"DATABASE (--database) {shown(self.url)}: {first_line(getattr(error, 'orig', error))}; {remedy}"
            ) from None

    def explain(self, sql: str) -> None:
        """Has the database plan the query, where it is of a kind that can. Raises SqlError."""
        if self.name in DRIVERS:
            with self._reading() as connection:
                connection.exec_driver_sql(f"EXPLAIN {sql}").close()

    def run(self, sql: str, most_rows: int) -> tuple[QueryResult, bool]:
        """Columns and the first rows of one query, at most `most_rows` and MOST_BYTES of them, and whether there are
        more.

        Raises SqlError, and UserError if the connection fails.
        """
        if self.name not in DRIVERS:
            raise UserError(
                f"DATABASE (--database) is of the kind {self.name}, which SQLoRA cannot open for reading only; it "
                f"writes the SQL and does not run it"
            )
        with self._reading() as connection:
            result = connection.exec_driver_sql(sql)
            if not result.returns_rows:
                raise SqlError("not read only", "the statement is no SELECT")
            cursor, columns, rows, size = result.cursor, tuple(result.keys()), [], 0
            for row in result:
                row = tuple(map(plain, row))
                size += sum(len(value) if isinstance(value, str) else 8 for value in row)
                if len(rows) == most_rows or size > MOST_BYTES:
                    if not rows:
                        raise SqlError("too large", f"the first row has more than {MOST_BYTES / 2**20:.0f} MiB")
                    return QueryResult(columns, rows), True
                rows.append(row)
            if getattr(cursor, "warning_count", 0):
                _check_whole(connection)
        return QueryResult(columns, rows), False

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlalchemy.Connection]:
        """A transaction that cannot write, with a deadline, rolled back at its end; and no trace of it in the session
        after.
        """
        with self._told(), self.engine.connect() as connection:
            connection = connection.execution_options(no_parameters=True)
            if self.name == "sqlite":
                ends = time.monotonic() + self.seconds
                raw = connection.connection.driver_connection
                raw.text_factory = lambda text: text.decode("utf-8", "replace")  # SQLite keeps any bytes as text
                for setting in (
                    "query_only = ON",
                    "trusted_schema = OFF",
                    "temp_store = MEMORY",
                    f"hard_heap_limit = {SQLITE_HEAP_BYTES}",
                ):
                    raw.execute(f"PRAGMA {setting}")
                raw.connect_modules()
                restrict(raw, lambda: time.monotonic() > ends, **SQLITE_LIMITS)
            elif self.name == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
                for setting in (
                    f"statement_timeout = {math.ceil(1000 * self.seconds)}",
                    "standard_conforming_strings = on",
                    "client_encoding = 'UTF8'",
                    "DateStyle = 'ISO'",
                    "IntervalStyle = 'postgres'",
                    "jit = off",
                ):  # no deadline ends a compilation, which took 10 s for a join of 60 tables
                    connection.exec_driver_sql(f"SET LOCAL {setting}")
                read_postgresql(connection.connection.driver_connection)
            else:
                timeout = (
                    f"max_statement_time = {self.seconds:.3f}"
                    if self.engine.dialect.is_mariadb
                    else f"max_execution_time = {math.ceil(1000 * self.seconds)}"
                )
                # The mode: quotes and backslashes mean what sqlglot writes them for, and bare columns are as free as in
                # SQLite.
                for setting in (
                    timeout,
                    "sql_mode = ''",
                    f"lock_wait_timeout = {math.ceil(self.seconds)}",
                    f"group_concat_max_len = {MOST_GROUPED}",
                ):
                    connection.exec_driver_sql(f"SET SESSION {setting}")
                connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")  # any other that could follow
                connection.exec_driver_sql("START TRANSACTION READ ONLY")
                read_mysql(connection.connection.driver_connection)
            yield connection
            if self.name == "sqlite" and connection.connection.driver_connection.has_changed():
                raise SqlError("other", "another program wrote to the file at the same time; ask once more")
            connection.rollback()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """The driver's errors as SqlError, or as UserError where it is the connection that failed."""
        try:
            yield
        except SqlError:
            raise
        except exc.DBAPIError as error:
            message = first_line(error.orig)
            if (
                error.connection_invalidated
                or GONE.search(message)
                or (
                    isinstance(error.orig, sqlite3.DatabaseError)
                    and ("not a database" in message or "unable to open" in message)
                )
            ):
                raise UserError(f"DATABASE (--database) {shown(self.url)}: {message}") from None
            if ("interrupted" in message and self.name == "sqlite") or "timeout" in message:
                message = f"{message} ({self.seconds:g} s)"
            kind = next((kind for pattern, kind in FAULTS if re.search(pattern, message, re.IGNORECASE)), None)
            raise SqlError(kind or fault_kind(message), message) from None
        except MemoryError:
            raise SqlError("too large", f"the query needs more than {PROCESS_BYTES / 2**30:.0f} GiB") from None
        except (OverflowError, ValueError) as error:  # a NUL, half a surrogate, a date that Python lacks
            raise SqlError("syntax", first_line(error)) from None


def _check_whole(connection: sqlalchemy.Connection) -> None:
    """Raises SqlError where MySQL or MariaDB cut a text of GROUP_CONCAT, for which they have a warning alone."""
    if any(code == CUT for _, code, _ in connection.exec_driver_sql("SHOW WARNINGS")):
        raise SqlError("too large", f"GROUP_CONCAT gives more than {MOST_GROUPED:,} bytes")


def serve(pipe, url: str, seconds: float) -> None:
    """Says that it has started, and then answers what comes through the pipe, until that closes.

    It is asked by (method of Connection, its arguments), and answers with what the method gives or raises.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that the user talks to
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (PROCESS_BYTES, PROCESS_BYTES))
    # SQLAlchemy prints the traceback of a rollback that fails after a query did; the query's own error is what is told.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
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
