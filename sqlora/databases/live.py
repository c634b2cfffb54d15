"""A user's live database: its description, and queries on it that cannot harm it.

Three walls protect it: sql/readonly.py lets only plain SELECTs through; connection.py runs them in a transaction in
which the database itself refuses to write, with its own deadline; and all of it happens in a process that is killed
when it is late.
"""

from __future__ import annotations

import multiprocessing

from sqlora.databases import connection
from sqlora.databases.kinds import kind_of
from sqlora.sql import readonly
from sqlora.sql.parsing import SqlError
from sqlora.sql.sandbox import QueryResult
from sqlora.sql.schema import Schema
from sqlora.system.errors import UserError

REFLECTION_SECONDS = 60
GRACE_SECONDS = 0.5  # after the deadline, for the database's own message about it
MOST_ROWS = 10_000


class LiveDatabase:
    """The database at `url`, open for reading; `seconds` is the deadline of a query.

    `reflected` is its description when it was opened. Raises UserError if it cannot be opened or holds no table.

        with open_database("shop.sqlite", 10) as live:
            result, has_more = live.run("SELECT name FROM product")
    """

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self.seconds = seconds
        self._start()
        self.reflected: connection.Reflected = self._call(REFLECTION_SECONDS, "reflect")

    @property
    def schema(self) -> Schema:
        """The tables that queries may read."""
        return self.reflected.schema

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
        query = readonly.check(sql, self.reflected.dialect, self.schema)
        text = readonly.write(query, self.reflected.dialect, most_rows + 1)
        return self._call(self.seconds + GRACE_SECONDS, "run", text, most_rows)

    def close(self) -> None:
        """Ends the process, and whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def __enter__(self) -> LiveDatabase:
        return self

    def __exit__(self, *_) -> None:
        self.close()

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


def open_database(url: str, seconds: float) -> LiveDatabase:
    """Raises UserError if it cannot be opened, holds no table, or does not answer."""
    try:
        return LiveDatabase(url, seconds)
    except SqlError as error:
        raise UserError(f"DATABASE (--database): its tables cannot be read: {error}") from None
