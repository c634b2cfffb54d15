"""A connection that reads: rows, deadlines, servers that die, files that change."""

import signal
import sqlite3
import threading
import time

import hostile
import pytest
import servers

from sqlora.databases import connection
from sqlora.databases.live import LiveDatabase
from sqlora.sql.parsing import SqlError
from sqlora.system.errors import UserError

QUOTES = {"sqlite": '"', "postgresql": '"', "mysql": "`"}


@pytest.fixture(scope="module")
def live(server):
    with LiveDatabase(server.reader, 10) as live:
        yield live


def quote(live, name):
    mark = QUOTES[live.reflected.name]
    return f"{mark}{name}{mark}"


def test_rows_come_back_as_plain_values(live):
    result, more = live.run("SELECT * FROM singer ORDER BY singer_id")
    assert result.columns == ("singer_id", "name", "age", "born", "fee")
    assert result.rows == [
        (1, "Ann", 31, "1995-02-03", 120.5),
        (2, "Bo", 17, "2009-05-06", 80),
        (3, "Cy", None, None, None),
    ]
    assert not more
    titles = f"SELECT {quote(live, 'Title')} FROM {quote(live, 'Song')} ORDER BY {quote(live, 'play count')} DESC"
    assert live.run(titles)[0].rows == [("One",), ("It's",), ('Drei \\ "x"',)]


def test_no_more_rows_are_fetched_than_asked_for(live):
    pairs = "SELECT a.name FROM singer AS a, singer AS b"
    result, more = live.run(pairs, 4)
    assert (len(result.rows), more) == (4, True)
    result, more = live.run(f"{pairs} LIMIT 3", 4)
    assert (len(result.rows), more) == (3, False)
    assert len(live.run(f"{pairs} LIMIT 100", 9)[0].rows) == 9


def test_a_deadline_ends_a_query_and_the_next_one_runs(server):
    with LiveDatabase(server.reader, 0.5) as live:
        start = time.monotonic()
        with pytest.raises(SqlError) as caught:
            live.run(hostile.HANGS[0])
        assert time.monotonic() - start < 30  # it would take years
        assert caught.value.kind == "timeout"
        assert live.run("SELECT COUNT(*) FROM singer")[0].rows == [(3,)]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_server_that_dies_in_the_middle_of_a_query(kind):
    with servers.started(kind) as server, LiveDatabase(server.reader, 30) as live:
        dies = threading.Timer(
            0.5, server.process.send_signal, [signal.SIGQUIT if kind == "postgresql" else signal.SIGKILL]
        )
        dies.start()
        for _ in range(2):  # while it runs, and once it is gone
            with pytest.raises(UserError, match="127.0.0.1") as caught:
                live.run(hostile.HANGS[0])
            assert servers.PASSWORD not in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("most_rows", [10, 1000])
def test_a_file_that_changes_while_it_is_read_is_an_error_also_where_more_rows_follow(tmp_path, monkeypatch, most_rows):
    path = tmp_path / "w.sqlite"
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE t (x INTEGER)")
    writer.executemany("INSERT INTO t VALUES (?)", [(x,) for x in range(100)])
    writer.commit()
    writer.close()
    plain, changes = connection.plain, []

    def change_once(value):
        if not changes:
            changes.append(value)
            other = sqlite3.connect(path)
            other.execute("UPDATE t SET x = x + 1")
            other.commit()
            other.close()
        return plain(value)

    monkeypatch.setattr(connection, "plain", change_once)
    with pytest.raises(SqlError, match="another program wrote to the file"):
        connection.Connection(str(path), 10).run("SELECT x FROM t", most_rows)
    assert changes
