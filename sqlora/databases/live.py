"""A user's live database: its description, and queries on it that cannot harm it.

Three walls protect it: sql/readonly.py lets only plain SELECTs through; connection.py runs them in a transaction in
which the database itself refuses to write, with its own deadline; and all of it happens in a process that is killed
when it is late.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Sequence
from dataclasses import replace

from sqlora.databases import connection
from sqlora.databases.kinds import kind_of
from sqlora.sql import readonly, sampling
from sqlora.sql.hidden import hide
from sqlora.sql.parsing import SqlError
from sqlora.sql.sampling import Sampled, first_rows, sample
from sqlora.sql.sandbox import QueryResult, Value
from sqlora.sql.schema import Schema, Table
from sqlora.system.errors import UserError, nearest

REFLECTION_SECONDS = 60
GRACE_SECONDS = 0.5  # after the deadline, for the database's own message about it
MOST_ROWS = 10_000
SAMPLE_SECONDS = 2.0  # for the first rows of a table, or of a view that takes long


class LiveDatabase:
    """The database at `url`, open for reading; `seconds` is the deadline of a query.

    `reflected` is its description when it was opened: of the `schemas`, or else of the search path, without the tables
    and columns that are `hidden`, which no query can read. Raises UserError if it cannot be opened or holds no table,
    or not what these name.

        with open_database("shop.sqlite", 10) as live:
            result, has_more = live.run("SELECT name FROM product")
    """

    def __init__(self, url: str, seconds: float, schemas: Sequence[str] = (), hidden: Sequence[str] = ()) -> None:
        self._url = url
        self.seconds = seconds
        self._start()
        reflected: connection.Reflected = self._call(REFLECTION_SECONDS, "reflect", schemas)
        self.reflected = replace(reflected, schema=_without(reflected.schema, hidden))

    @property
    def schema(self) -> Schema:
        """The tables that queries may read."""
        return self.reflected.schema

    @functools.cached_property
    def sampled(self) -> Sampled:
        """The schema with sample values, from the first rows of its tables. They are read now, in SECONDS at most."""
        if not self.runs:
            return Sampled(self.schema, {})
        return sample(self.schema, self.first_rows)

    @property
    def runs(self) -> bool:
        """Whether it is of a kind that can be opened for reading only."""
        return kind_of(self.reflected.name).begin is not None

    def check(self, sql: str) -> None:
        """Raises SqlError for anything but a plain SELECT over the schema's tables that the database accepts."""
        query = readonly.check(sql, self.reflected.dialect, self.schema)
        self._call(self.seconds + GRACE_SECONDS, "explain", readonly.write(query, self.reflected.dialect))

    def run(self, sql: str, most_rows: int = MOST_ROWS) -> tuple[QueryResult, bool]:
        """The query's columns and first `most_rows` rows, and whether there are more. Raises as `check`, and
        UserError.
        """
        return self._run(sql, most_rows, self.seconds)

    def first_rows(self, table: Table) -> list[tuple[Value, ...]]:
        """Of one of its tables, in the order of its columns; read within SAMPLE_SECONDS. Raises SqlError."""
        text = first_rows(table).sql(self.reflected.dialect)
        return self._run(text, sampling.MOST_ROWS, min(self.seconds, SAMPLE_SECONDS))[0].rows

    def close(self) -> None:
        """Ends the process, and whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def __enter__(self) -> LiveDatabase:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _run(self, sql: str, most_rows: int, seconds: float) -> tuple[QueryResult, bool]:
        query = readonly.check(sql, self.reflected.dialect, self.schema)
        text = readonly.write(query, self.reflected.dialect, most_rows + 1)
        return self._call(seconds + GRACE_SECONDS, "run", text, most_rows, seconds)

    def _start(self) -> None:
        # Not forked: a process that has loaded torch has threads.
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=connection.serve, args=(other, self._url, self.seconds), daemon=True)
        self._process.start()
        other.close()
        self._is_starting = True

    def _call(self, seconds: float, method: str, *arguments):
        try:
            if self._is_starting:  # starting does not count as the query's time
                self._pipe.recv()
                self._is_starting = False
            self._pipe.send((method, arguments))
            if not self._pipe.poll(seconds):
                self._restart()
                raise SqlError("timeout", f"interrupted ({seconds - GRACE_SECONDS:g} s)")
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._restart()
            raise SqlError(
                "too large", "the process that asked the database has ended, most likely for lack of memory"
            ) from None
        except KeyboardInterrupt:
            self._restart()
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _restart(self) -> None:
        self.close()
        self._start()


def open_database(url: str, seconds: float, schemas: Sequence[str] = (), hidden: Sequence[str] = ()) -> LiveDatabase:
    """Raises UserError as LiveDatabase does, and if it does not answer."""
    try:
        return LiveDatabase(url, seconds, schemas, hidden)
    except SqlError as error:
        raise UserError(f"DATABASE (--database): its tables cannot be read: {error}") from None


def _without(schema: Schema, hidden: Sequence[str]) -> Schema:
    """The schema without what is hidden. Raises UserError for what it does not have, and if nothing is left."""
    left, unknown = hide(schema, hidden)
    if unknown:
        known = [
            name for table in schema.tables for name in (table.name, *(f"{table.name}.{c.name}" for c in table.columns))
        ]
        hint = nearest(unknown[0], known)
        raise UserError(f"SCHEMA_HIDE (--schema-hide) names {unknown[0]!r}, which the database does not have; {hint}")
    if not left.tables:
        raise UserError("SCHEMA_HIDE (--schema-hide) hides every table of the database; name fewer")
    return left
