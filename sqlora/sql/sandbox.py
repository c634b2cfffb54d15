"""A sandbox for untrusted SQL: an in-memory SQLite database that can be read but not changed."""

from __future__ import annotations

import contextlib
import errno
import math
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sqlglot import exp

from sqlora.sql.lengths import Lengths
from sqlora.sql.parsing import MAX_CHARACTERS, ErrorKind, SqlError, parse_query, to_sqlite
from sqlora.sql.readonly import PARTS
from sqlora.sql.schema import Schema, Table, quote_name
from sqlora.sql.scopes import Scopes

Value = None | int | float | str | bytes
# A text column takes what looks like a number for one, in comparisons, sorting and joins, as the authors of queries
# over VARCHAR columns mean it: `year > 2000` and `year = '2000'` both find 2000, and 9 comes before 10. Other text
# stays text.
AFFINITY = {"text": "NUMERIC", "integer": "NUMERIC", "real": "REAL", "boolean": "NUMERIC"}
OTHER_AFFINITY = "NUMERIC"  # dates and times are text that looks like no number
HEAP_BYTES = 64 * 2**20  # of all SQLite in the process; small also because no deadline interrupts the sorting itself
ROWS_BYTES = 32 * 2**20  # of a result in Python, of which SQLite's own limits know nothing
STEPS_BETWEEN_LOOKS = 100  # virtual machine instructions; microseconds, unless they call functions over long texts
ROW_WORK = 200_000_000  # in units of lengths.py, between two looks: about 0.1 s
LIMITS = {
    # Some functions take time in the square of a value's length, and no deadline interrupts a function.
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_CHARACTERS,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * MAX_CHARACTERS,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 2000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
# What reaches outside or differs from run to run is no part of an answer; printf('%.*c', 2000000000, 'x') counts that
# far before it meets a limit.
FORBIDDEN_FUNCTIONS = {
    "load_extension",
    "readfile",
    "writefile",
    "edit",
    "fts3_tokenizer",
    "random",
    "randomblob",
    "printf",
    "format",
}
FAULTS: tuple[tuple[str, ErrorKind], ...] = (
    (r"no such table|no such view", "no such table"),
    (r"no such column|has no column|no tables specified", "no such column"),
    (r"ambiguous column", "ambiguous column"),
    (r"not authorized|authorization|prohibited|readonly|read-only", "not read only"),
    (r"one statement at a time", "several statements"),
    (r"interrupted", "timeout"),
    (r"too (big|large|many|deep|long|complex)|maximum depth|out of memory|parser stack overflow|is full", "too large"),
    (
        r"syntax error|null character|incomplete input|unrecognized token|should come (after|before)|unterminated",
        "syntax",
    ),
)


@dataclass(frozen=True)
class QueryResult:
    columns: tuple[str, ...]
    rows: list[tuple[Value, ...]]


class Database:
    """An in-memory SQLite database of a schema, with `rows` {table: [a tuple with a value per column, ...]}.

    It authorises nothing but reads of its own tables. One thread, one query at a time. Raises SqlError("schema") if
    SQLite refuses a table or a value, "too large" if they need more than HEAP_BYTES.

        with Database(parse_schema("CREATE TABLE t (a INTEGER)"), {"t": [(1,), (2,)]}) as database:
            database.run("SELECT SUM(a) FROM t").rows    # [(3,)]
    """

    def __init__(self, schema: Schema, rows: Mapping[str, Sequence[tuple[Value, ...]]] | None = None) -> None:
        self.schema = schema
        self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
        self._columns: dict[str, int] = {}
        self._ends = 0.0
        with self._filling():
            # Sorters stay in memory, where the heap limit holds; the default would write temporary files.
            self._connection.execute("PRAGMA temp_store = MEMORY")
            self._connection.execute(f"PRAGMA hard_heap_limit = {HEAP_BYTES}")
            for table in schema.tables:
                self._connection.execute(create_table(table))
                self._columns[table.name] = len(table.columns)
            self._insert(rows or {})
        restrict(self._connection, self._is_late)

    def refill(self, rows: Mapping[str, Sequence[tuple[Value, ...]]]) -> None:
        """Replaces all rows; three times as fast as a new database. Raises as that does."""
        with self._filling():
            self._ends = math.inf
            self._connection.set_authorizer(None)
            for table in self._columns:
                self._connection.execute(f"DELETE FROM {quote_name(table)}")
            self._insert(rows)
            self._connection.set_authorizer(_authorise)

    @contextlib.contextmanager
    def _filling(self) -> Iterator[None]:
        """Turns what SQLite raises into SqlError, and closes the database then."""
        try:
            yield
        # a name or value with a lone surrogate, a number too large
        except (sqlite3.Error, ValueError, OverflowError) as error:
            self._connection.close()
            raise SqlError("schema", str(error)) from None
        except MemoryError:
            self._connection.close()
            raise SqlError("too large", f"the tables need more than {HEAP_BYTES / 2**20:.0f} MiB") from None

    def _insert(self, rows: Mapping[str, Sequence[tuple[Value, ...]]]) -> None:
        self._connection.execute("BEGIN")
        for table, values in rows.items():
            placeholders = ", ".join("?" * self._columns[table])
            self._connection.executemany(f"INSERT INTO {quote_name(table)} VALUES ({placeholders})", values)
        self._connection.execute("COMMIT")

    def run(self, query: str, deadline: float = 2.0, max_rows: int = 10_000) -> QueryResult:
        """The query's columns and rows.

        Raises SqlError: "timeout" after `deadline` seconds, "too large" above `max_rows`. SQLite takes a double-quoted
        name that is not a column for a string; `parse_query` and `to_sqlite` in parsing.py prevent that.
        """
        self._ends = time.monotonic() + deadline
        try:
            cursor = self._connection.execute(query)
            if cursor.description is None:
                raise SqlError("not read only" if query.strip() else "syntax", "the statement is not a SELECT")
            rows = _fetch(cursor, max_rows)
            columns = tuple(name for name, *_ in cursor.description)
            cursor.close()
        except (sqlite3.Error, sqlite3.Warning) as error:
            message = str(error)
            raise SqlError(
                fault_kind(message), f"{message} ({deadline:g} s)" if message == "interrupted" else message
            ) from None
        except SqlError:
            raise
        except MemoryError:
            raise SqlError("too large", f"the query needs more than {HEAP_BYTES / 2**20:.0f} MiB") from None
        except (OverflowError, ValueError) as error:  # a NUL or half a surrogate in the text
            raise SqlError("syntax", str(error)) from None
        return QueryResult(columns, rows)

    def save(self, path: Path) -> None:
        """Writes the database to a new SQLite file. Raises OSError when the disk is full or the like."""
        with contextlib.closing(sqlite3.connect(path)) as file:
            try:
                self._connection.backup(file)
            except sqlite3.Error as error:
                raise OSError(errno.ENOSPC if "full" in str(error) else errno.EIO, str(error), str(path)) from error

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_late(self) -> bool:
        return time.monotonic() > self._ends


def create_table(table: Table) -> str:
    """The CREATE TABLE statement by which a Database has the table."""
    columns = ", ".join(f"{quote_name(c.name)} {AFFINITY.get(c.type, OTHER_AFFINITY)}" for c in table.columns)
    return f"CREATE TABLE {quote_name(table.name)} ({columns})"


def _fetch(cursor: sqlite3.Cursor, max_rows: int) -> list[tuple[Value, ...]]:
    rows: list[tuple[Value, ...]] = []
    size = 0
    for row in cursor:
        size += sys.getsizeof(row) + sum(map(sys.getsizeof, row))
        if len(rows) == max_rows:
            raise SqlError("too large", f"the query gives more than {max_rows:,} rows")
        if size > ROWS_BYTES:
            raise SqlError("too large", f"the query's rows take more than {ROWS_BYTES / 2**20:.0f} MiB")
        rows.append(row)
    return rows


def restrict(connection: sqlite3.Connection, is_late: Callable[[], bool], **limits: int) -> None:
    """From here on the connection reads its own tables and does nothing else, until `is_late`.

    `limits` replace those of LIMITS: `SQLITE_LIMIT_LENGTH=1_000_000`.
    """
    for limit, value in (LIMITS | {getattr(sqlite3, name): value for name, value in limits.items()}).items():
        connection.setlimit(limit, value)
    connection.set_authorizer(_authorise)
    connection.set_progress_handler(is_late, STEPS_BETWEEN_LOOKS)


def prepare(sql: str, schema: Schema) -> tuple[exp.Expr, str]:
    """A model's query, parsed, and the text of it to run. Raises SqlError for what SQLite would not take as it is
    written.
    """
    query = parse_query(sql, schema)
    _check_work(query, schema)
    text = to_sqlite(query) if "unqualified" in query.meta else sql
    with Database(schema) as database:
        database.run(f"EXPLAIN {text}")  # sqlglot forgives more than SQLite does
    return query, to_sqlite(query) if '"' in sql else text


def _check_work(query: exp.Expr, schema: Schema) -> None:
    """Raises SqlError for functions over long texts that would go on after the deadline, since SQLite looks between
    steps.
    """
    try:
        Lengths(Scopes("sqlite", schema), PARTS, LIMITS[sqlite3.SQLITE_LIMIT_LENGTH], ROW_WORK).size(query)
    except SqlError as error:
        if error.kind == "too large":  # what else there is to say of it, SQLite says
            raise
    except RecursionError:
        raise SqlError("too large", "the query is nested too deeply") from None


def _authorise(action: int, first: str | None, second: str | None, database: str | None, within: str | None) -> int:
    if action == sqlite3.SQLITE_PRAGMA and first == "data_version" and second is None:
        return sqlite3.SQLITE_OK  # full-text search looks there whether its tables have changed
    if action not in ALLOWED:
        return sqlite3.SQLITE_DENY
    # The table is None or "" where only rows are counted.
    if action == sqlite3.SQLITE_READ and (first or "").lower().startswith(("sqlite_", "pragma_")):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def fault_kind(message: str) -> ErrorKind:
    return next((kind for pattern, kind in FAULTS if re.search(pattern, message, re.IGNORECASE)), "other")
