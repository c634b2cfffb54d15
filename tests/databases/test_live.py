"""Real databases: what they tell of themselves, rows as they come back, and failures in one line without a password."""

import contextlib
import getpass
import multiprocessing
import os
from pathlib import Path

import pytest
import servers

from sqlora.databases.live import LiveDatabase, open_database
from sqlora.sql.parsing import SqlError

# a well-known example, which is not ours to keep here
CHINOOK = Path(os.environ.get("SQLORA_CHINOOK", "chinook.sqlite"))


@pytest.mark.parametrize(
    ("sql", "kind", "names"),
    [
        ("SELECT nam FROM singer", "no such column", "nam"),
        ("SELECT 1 FROM nix", "no such table", "nix"),
        ("SELECT name FROM", "syntax", ""),
        ("DELETE FROM singer", "not read only", ""),
    ],
)
def test_queries_that_do_not_fit_are_reported_before_they_are_run(live, sql, kind, names):
    with pytest.raises(SqlError) as caught:
        live.check(sql)
    assert caught.value.kind == kind
    assert names in str(caught.value)


def test_no_process_is_left(server):
    before = len(multiprocessing.active_children())
    with LiveDatabase(server.reader, 5):
        assert len(multiprocessing.active_children()) == before + 1
    assert len(multiprocessing.active_children()) == before


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_who_may_not_come_in(kind, request):
    server = request.getfixturevalue(f"{kind}_server")
    message = servers.opened(server.reader.replace(servers.QUOTED, "wr0ng-w0rd"))
    assert "user" in message
    assert "check" in message
    assert "wr0ng-w0rd" not in message
    assert "nodb" in servers.opened(server.reader.replace("/shop", "/nodb"))
    assert "127.0.0.1" in servers.opened(server.reader.replace(f":{server.port}/", f":{servers.free_port()}/"))
    assert "option" in servers.opened(server.reader + "?no_such_option=1")
    assert "names no database" in servers.opened(server.reader.removesuffix("/shop"))


def test_permission_is_the_databases_to_refuse_too(postgresql_server, mysql_server):
    for server in (postgresql_server, mysql_server):
        with LiveDatabase(server.reader, 5) as live, pytest.raises(SqlError, match="denied"):
            live._call(5, "run", "SELECT * FROM private", 10)


def test_servers_that_do_not_start_are_skipped(monkeypatch):
    """A machine whose MariaDB has no user of its own runs it as nobody; one that cannot run it has a reason, and no
    failure.
    """

    def broken():
        raise AssertionError("no space")
        yield

    monkeypatch.setitem(servers.MAKERS, "mysql", contextlib.contextmanager(broken))
    monkeypatch.setattr(servers, "missing", lambda kind: "")
    with pytest.raises(pytest.skip.Exception, match="no space"), servers.started("mysql"):
        pass
    monkeypatch.setattr(servers.pwd, "getpwnam", {}.__getitem__)
    assert servers.account("mysql") in ("nobody", getpass.getuser())


@pytest.mark.skipif(not CHINOOK.is_file(), reason="SQLORA_CHINOOK names no file")
def test_chinook():
    before = CHINOOK.read_bytes()
    with open_database(str(CHINOOK), 5) as live:
        assert {"Album", "Artist", "Invoice", "PlaylistTrack", "Track"} <= {table.name for table in live.schema.tables}
        assert {("Album", "Artist"), ("Track", "Album"), ("PlaylistTrack", "Track")} <= set(live.schema.links)
        assert "CREATE TABLE Album (AlbumId INTEGER, Title VARCHAR, ArtistId INTEGER)" in live.schema.ddl()
        result, more = live.run(
            "SELECT a.Name, COUNT(*) FROM Artist AS a JOIN Album AS b ON a.ArtistId = b.ArtistId "
            "GROUP BY a.Name ORDER BY COUNT(*) DESC LIMIT 1"
        )
        assert (result.rows, more) == ([("Iron Maiden", 21)], False)
        for sql in ("DELETE FROM Artist", "UPDATE Track SET Name = 'x'", "DROP TABLE Album"):
            with pytest.raises(SqlError):
                live.run(sql)
    assert CHINOOK.read_bytes() == before
