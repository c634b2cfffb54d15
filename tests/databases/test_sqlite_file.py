"""SQLite files read where they lie: full-text and R-tree tables; WAL files closed, open and left behind; nothing beside
them.
"""

import contextlib
import os
import sqlite3
import subprocess
import sys

import pytest

from sqlora.databases.live import LiveDatabase, open_database
from sqlora.sql.parsing import SqlError
from sqlora.system.errors import UserError

MODULES = """
    CREATE VIRTUAL TABLE f5 USING fts5(title, body); INSERT INTO f5 VALUES ('a', 'b');
    CREATE VIRTUAL TABLE f4 USING fts4(t); INSERT INTO f4 VALUES ('x');
    CREATE VIRTUAL TABLE "f 3" USING "fts3"(t); INSERT INTO "f 3" VALUES ('y');
    CREATE VIRTUAL TABLE r USING rtree(id, low, high); INSERT INTO r VALUES (1, 2, 3);
    CREATE TABLE t (x); INSERT INTO t VALUES (7);
    CREATE VIRTUAL TABLE outer_text USING fts5(x, content='t')"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def rows(file, sql):
    with open_database(str(file), 5) as live:
        return live.run(sql)[0].rows


@pytest.fixture
def wal(tmp_path):
    """A file in WAL mode with one row that no program has open."""
    file = tmp_path / "w.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (1)")
    assert names(tmp_path) == ["w.db"]
    return file


def test_full_text_and_rtree_tables_are_read(tmp_path):
    file = tmp_path / "m.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        try:
            connection.executescript(MODULES)
        except sqlite3.OperationalError as error:
            pytest.skip(f"this SQLite is built without a module: {error}")
    before = file.read_bytes()
    with open_database(str(file), 5) as live:
        assert {table.name for table in live.schema.tables} == {"f5", "f4", "f 3", "r", "t", "outer_text"}
        for sql, expected in (
            ("SELECT title, body FROM f5", [("a", "b")]),
            ("SELECT t FROM f4", [("x",)]),
            ('SELECT t FROM "f 3"', [("y",)]),
            ("SELECT low FROM r WHERE high > 1", [(2.0,)]),
            ("SELECT x FROM outer_text", [(7,)]),
        ):
            live.check(sql)
            assert live.run(sql)[0].rows == expected
        for sql in (
            "INSERT INTO f5 VALUES (1, 2)",
            "DELETE FROM f5",
            "INSERT INTO f5 (f5) VALUES ('optimize')",
            "DELETE FROM r",
        ):
            with pytest.raises(SqlError):
                live._call(5, "run", sql, 5)
    assert (names(tmp_path), file.read_bytes()) == (["m.db"], before)


def test_a_closed_wal_file_gains_no_neighbours(wal):
    before = wal.read_bytes()
    assert rows(wal, "SELECT x FROM t") == [(1,)]
    assert names(wal.parent) == ["w.db"]
    assert wal.read_bytes() == before


def test_a_wal_file_that_a_program_has_open_is_read_with_what_it_wrote_last(wal):
    with contextlib.closing(sqlite3.connect(wal, isolation_level=None)) as writer:
        writer.execute("INSERT INTO t VALUES (2)")
        before = names(wal.parent)
        with open_database(str(wal), 5) as live:
            assert live.run("SELECT x FROM t ORDER BY x")[0].rows == [(1,), (2,)]
            writer.execute("INSERT INTO t VALUES (3)")
            assert live.run("SELECT x FROM t ORDER BY x")[0].rows == [(1,), (2,), (3,)]
        assert names(wal.parent) == before == ["w.db", "w.db-shm", "w.db-wal"]
    assert rows(wal, "SELECT COUNT(*) FROM t") == [(3,)]


def test_the_log_of_a_program_that_was_killed_is_read_too(wal):
    killed = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('INSERT INTO t VALUES (2)'); c.commit(); "
        "os.remove(sys.argv[1] + '-shm'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", killed, str(wal)], check=True)
    log = (wal.parent / "w.db-wal").read_bytes()
    assert rows(wal, "SELECT x FROM t ORDER BY x") == [(1,), (2,)]
    assert names(wal.parent) == ["w.db", "w.db-wal"]
    assert (wal.parent / "w.db-wal").read_bytes() == log


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(wal):
    wal.parent.chmod(0o555)
    try:
        assert rows(wal, "SELECT x FROM t") == [(1,)]
    finally:
        wal.parent.chmod(0o755)


def test_a_file_that_changes_meanwhile_is_no_answer(wal):
    from sqlora.databases import sqlite_file

    with contextlib.closing(sqlite_file.connect(wal)) as reader:
        assert not reader.has_changed()
        with contextlib.closing(sqlite3.connect(wal, isolation_level=None)) as writer:
            writer.execute("INSERT INTO t VALUES (2)")
            assert reader.has_changed()


def test_a_file_that_is_locked_or_gone_after_it_was_opened_costs_a_line(tmp_path):
    file = tmp_path / "d.db"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE t (x)")
        with LiveDatabase(str(file), 5) as live:
            writer.execute("BEGIN EXCLUSIVE")
            with pytest.raises(SqlError, match="database is locked"):
                live.check("SELECT x FROM t")
            with pytest.raises(UserError, match="database is locked; another program is writing it; wait"):
                open_database(str(file), 5)
            writer.execute("ROLLBACK")
            live.check("SELECT x FROM t")
            file.write_bytes(b"no database" * 1000)
            with pytest.raises(UserError, match="file is not a database"):
                live.run("SELECT x FROM t")
            file.unlink()
            with pytest.raises(UserError, match="d.db.*No such file"):
                live.run("SELECT x FROM t")


def test_a_result_of_many_bytes_is_cut_and_says_so(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "d.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 9_000_000,)] * 9)
        connection.commit()
    with LiveDatabase(str(tmp_path / "d.db"), 10) as live:
        result, more = live.run("SELECT x FROM t")
        assert (len(result.rows), more) == (7, True)
        assert len(result.rows[0][0]) == 9_000_000
