"""Real databases, FOLDER/db_id/*.sqlite, as Spider, BIRD and test suites have them. They are read and never changed."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from pathlib import Path

from sqlora.databases import sqlite_file
from sqlora.sql.parsing import SqlError
from sqlora.sql.sandbox import Database, QueryResult, Value, restrict
from sqlora.sql.schema import Column, Schema, Table, quote_name

SECONDS = 30.0  # for a query
MOST_ROWS = 1_000_000
LONGEST = 200_000  # characters of a value
MOST_OPEN = 16  # files in a process
MOST_SAMPLES = 30  # values of a column
LONGEST_SAMPLE = 60  # characters

Samples = dict[str, dict[str, list[Value]]]  # values of a table's columns; names are in lower case


class RealDatabase(Database):
    """The SQLite file at `path`, open for reading, with a longer deadline than a synthetic database.

    `context` has its CREATE statements. Raises SqlError("schema") if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._ends = 0.0
        try:
            connection = sqlite_file.connect(path)
            connection.text_factory = lambda text: text.decode("utf-8", "ignore")
            for setting in ("query_only = ON", "trusted_schema = OFF"):
                connection.execute(f"PRAGMA {setting}")
            created = connection.execute(
                "SELECT name, type, sql FROM sqlite_master WHERE sql LIKE 'CREATE%' AND name NOT LIKE 'sqlite@_%' "
                "ESCAPE '@' ORDER BY rowid"
            ).fetchall()
            connection.connect_modules()
        except (sqlite3.Error, OSError) as error:
            raise SqlError("schema", f"{path} cannot be read: {error}") from None
        self._connection = connection
        self.context = ";\n".join(sql for _, _, sql in created)
        names = [name for name, kind, _ in created if kind in ("table", "view")]
        self.schema = Schema(tuple(Table(name, columns) for name in names if (columns := self._columns_of(name))))
        restrict(connection, self._is_late, SQLITE_LIMIT_LENGTH=LONGEST)

    def run(self, query: str, deadline: float = SECONDS, max_rows: int = MOST_ROWS) -> QueryResult:
        return super().run(query, deadline, max_rows)

    @functools.cached_property
    def samples(self) -> Samples:
        """Some short values of each column, those that are stored first."""
        return {
            table.name.lower(): {
                column.name.lower(): self._samples_of(table.name, column.name) for column in table.columns
            }
            for table in self.schema.tables
        }

    def _samples_of(self, table: str, column: str) -> list[Value]:
        name = quote_name(column)
        short = f"{name} IS NOT NULL AND length({name}) BETWEEN 1 AND {LONGEST_SAMPLE} AND typeof({name}) <> 'blob'"
        rows = f"SELECT {name} FROM {quote_name(table)} WHERE {short} LIMIT 1000"
        with contextlib.suppress(SqlError):
            return [value for (value,) in self.run(f"SELECT DISTINCT {name} FROM ({rows}) LIMIT {MOST_SAMPLES}").rows]
        return []

    def _columns_of(self, table: str) -> tuple[Column, ...]:
        try:
            cursor = self._connection.execute(f"SELECT * FROM {quote_name(table)} LIMIT 0")
        except sqlite3.Error:  # a view over what is there no more
            return ()
        return tuple(Column(name, "text") for name, *_ in cursor.description)


@functools.lru_cache(maxsize=MOST_OPEN)
def open_file(path: Path) -> RealDatabase:
    """The database at `path`, which stays open for further queries. Raises as RealDatabase does."""
    return RealDatabase(path)


def databases_of(folder: Path, db_id: str) -> list[Path]:
    """The files of a database, in order of their names; none if it is not there."""
    if not is_folder_name(db_id):
        return []
    return sorted(path for path in (folder / db_id).glob("*.sqlite") if path.is_file())


def is_folder_name(db_id: str) -> bool:
    """Whether it names a folder below another, as `..`, `a/b` and `` do not."""
    return db_id not in ("", ".", "..") and Path(db_id).name == db_id and "\0" not in db_id
