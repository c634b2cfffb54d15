"""A connection to a user's database that reads and does nothing else.

It has its own process, which can be killed at any time; see live.py.
"""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

import sqlalchemy
from sqlalchemy import exc

from sqlora.databases.database_url import first_line, hide_secrets, make_engine, parse_url, shown
from sqlora.databases.kinds import kind_of
from sqlora.databases.reflection import Reflected, reflect
from sqlora.databases.values import plain
from sqlora.sql.parsing import SqlError
from sqlora.sql.sandbox import QueryResult, Value, fault_kind
from sqlora.system.errors import UserError

PROCESS_BYTES = 2 * 2**30
LOCKED = "another program is writing it; wait until it has finished"
MOST_BYTES = 64 * 2**20  # of all values of a result


class Connection:
    """A connection to the database at `url`, with a deadline of `seconds` for a query. Nothing stays open between
    calls.

    Raises UserError for a wrong URL. Every error message goes through `hide_secrets` first.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self.url = parse_url(url)
        self.seconds = seconds
        self.kind = kind_of(self.url.get_backend_name())
        self.engine = make_engine(self.url)

    def reflect(self, schemas: Sequence[str]) -> Reflected:
        """The tables and views of the schemas, or else of the search path. Raises UserError if there are none, or
        without a connection.
        """
        try:
            with self.engine.connect() as connection:
                return reflect(connection, schemas)
        except (exc.SQLAlchemyError, TypeError, ValueError, AttributeError, LookupError, OSError) as error:
            # All but the first come from a driver, for options that it does not take.
            message = first_line(getattr(error, "orig", error))
            remedy = LOCKED if "database is locked" in message else self.kind.remedy
            raise UserError(f"DATABASE (--database) {shown(self.url)}: {message}; {remedy}") from None

    def explain(self, sql: str) -> None:
        """Has the database plan the query, where queries can be run. Raises SqlError."""
        if self.kind.begin:
            with self._reading() as connection:
                connection.exec_driver_sql(f"EXPLAIN {sql}").close()

    def run(self, sql: str, most_rows: int, seconds: float | None = None) -> tuple[QueryResult, bool]:
        """The columns and first rows of a query, at most `most_rows` and MOST_BYTES, and whether there are more.

        `seconds` may be a shorter deadline than the connection's. Raises SqlError, and UserError if the connection
        fails.
        """
        if not self.kind.begin:
            raise UserError(
                f"DATABASE (--database) is of the kind {self.url.get_backend_name()}, which SQLoRA cannot open for "
                f"reading only; it writes the SQL and does not run it"
            )
        with self._reading(seconds) as connection:
            result = connection.exec_driver_sql(sql)
            if not result.returns_rows:
                raise SqlError("not read only", "the statement is not a SELECT")
            cursor, columns = result.cursor, tuple(result.keys())
            rows: list[tuple[Value, ...]] = []
            size = 0
            for cells in result:
                row = tuple(map(plain, cells))
                size += sum(len(value) if isinstance(value, str) else 8 for value in row)
                if len(rows) == most_rows or size > MOST_BYTES:
                    if not rows:
                        raise SqlError("too large", f"the first row has more than {MOST_BYTES / 2**20:.0f} MiB")
                    return QueryResult(columns, rows), True
                rows.append(row)
            self.kind.finish(connection, cursor)
        return QueryResult(columns, rows), False

    @contextlib.contextmanager
    def _reading(self, seconds: float | None = None) -> Iterator[sqlalchemy.Connection]:
        """A transaction that cannot write and has a deadline, rolled back at its end, without a trace in the
        session.
        """
        assert self.kind.begin is not None
        with self._translated_errors(), self.engine.connect() as connection:
            connection = self.kind.begin(connection.execution_options(no_parameters=True), seconds or self.seconds)
            yield connection
            self.kind.end(connection)
            connection.rollback()

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raises the driver's errors as SqlError, or as UserError if the connection has failed."""
        try:
            yield
        except SqlError:
            raise
        except (exc.DBAPIError, self.engine.dialect.loaded_dbapi.Error) as error:
            message = first_line(getattr(error, "orig", error))
            if getattr(error, "connection_invalidated", False) or self.kind.lost.search(message):
                raise UserError(f"DATABASE (--database) {shown(self.url)}: {message}") from None
            kinds = (kind for pattern, kind in self.kind.faults if re.search(pattern, message, re.IGNORECASE))
            kind = next(kinds, None) or fault_kind(message)
            raise SqlError(kind, f"{message} ({self.seconds:g} s)" if kind == "timeout" else message) from None
        except MemoryError:
            raise SqlError("too large", f"the query needs more than {PROCESS_BYTES / 2**30:.0f} GiB") from None
        except OSError as error:  # the file has gone
            raise UserError(f"DATABASE (--database) {shown(self.url)}: {first_line(error)}") from None
        except (OverflowError, ValueError) as error:  # a NUL, a lone surrogate, a date that Python lacks
            raise SqlError("syntax", first_line(error)) from None


def serve(pipe, url: str, seconds: float) -> None:
    """The process's main: sends "started", then answers what comes through the pipe until it closes.

    A request is (method of Connection, its arguments), an answer what the method returns or raises.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the process that the user talks to
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (PROCESS_BYTES, PROCESS_BYTES))
    # SQLAlchemy prints the traceback of a rollback that fails after a failed query; only the query's error is wanted.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore", exc.SAWarning)  # of types that it does not know, which are other here
    connection = None
    with contextlib.suppress(EOFError, BrokenPipeError):
        pipe.send("started")
        while True:
            method, arguments = pipe.recv()
            try:
                connection = connection or Connection(url, seconds)
                answer: object = getattr(connection, method)(*arguments)
            except SqlError as error:
                answer = SqlError(error.kind, hide_secrets(str(error), url))
            except UserError as error:
                answer = UserError(hide_secrets(str(error), url))
            except Exception:  # a bug, shown by the process that the user talks to
                answer = RuntimeError(hide_secrets(traceback.format_exc(), url))
            pipe.send(answer)
