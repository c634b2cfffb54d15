"""An SQLite file opened for reading only: its folder does not change, and its full-text and R-tree tables can be
read.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from pathlib import Path

WAL_MODE = b"\x02\x02"  # bytes 18 and 19 of such a file (sqlite.org/fileformat2.html)
NO_LOCKS = "win32-none" if os.name == "nt" else "unix-none"
MODULES = re.compile(r"\bUSING\s+[\"`\[]?(fts[345]|rtree|rtree_i32|geopoly)\b", re.IGNORECASE)


class SqliteFile(sqlite3.Connection):
    """A connection that creates no other file.

    A file in WAL mode that no program has open is read as immutable, since SQLite would otherwise create its -wal and
    -shm files, or fail in a read-only folder; `has_changed` says whether it has changed all the same.
    """

    path: Path
    before: object = None

    def has_changed(self) -> bool:
        """Whether the file has changed since it was opened as immutable."""
        return self.before is not None and self.before != _state(self.path)

    def connect_modules(self) -> None:
        """Lets full-text and R-tree tables initialise themselves, with statements that a query may not run."""
        for name, sql in self.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%'"
        ).fetchall():
            if MODULES.search(sql):
                with contextlib.suppress(sqlite3.Error):  # a damaged one; a query reports it
                    self.execute('SELECT 1 FROM "{}" LIMIT 0'.format(name.replace('"', '""'))).close()


def connect(path: Path) -> SqliteFile:
    """Raises sqlite3.Error and OSError."""
    before, options = _state(path), ""
    with path.open("rb") as stream:
        in_wal_mode = stream.read(20)[18:] == WAL_MODE
    log, index = _beside(path, "-wal"), _beside(path, "-shm")
    left = in_wal_mode and log.exists() and log.stat().st_size > 0
    is_alone = in_wal_mode and not left
    if is_alone:
        options = "&immutable=1"
    elif left and not index.exists():
        # What a program that was killed left behind, or a copy: SQLite would make the index anew, here in memory.
        options = f"&vfs={NO_LOCKS}"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{options}",
        uri=True,
        isolation_level=None,
        timeout=2,
        cached_statements=0,
        factory=SqliteFile,
    )
    connection.path, connection.before = path, before if is_alone else None
    if "vfs" in options:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection


def _state(path: Path) -> object:
    status = path.stat()
    log = _beside(path, "-wal")
    return status.st_ino, status.st_size, status.st_mtime_ns, log.exists() and log.stat().st_size


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
