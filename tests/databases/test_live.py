"""Real databases: what they tell of themselves, rows as they come back, and failures in one line without a password."""

import contextlib
import getpass
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

import hostile
import pytest
import servers

from sqlora.databases import database_url
from sqlora.databases.live import LiveDatabase, open_database
from sqlora.settings.command_line import load_settings
from sqlora.sql.parsing import SqlError
from sqlora.system import errors
from sqlora.system.errors import UserError

# a well-known example, which is not ours to keep here
CHINOOK = Path(os.environ.get("SQLORA_CHINOOK", "chinook.sqlite"))
QUOTES = {"sqlite": '"', "postgresql": '"', "mysql": "`"}


@pytest.fixture(scope="module")
def live(server):
    with LiveDatabase(server.reader, 10) as live:
        yield live


def quote(live, name):
    mark = QUOTES[live.reflected.name]
    return f"{mark}{name}{mark}"


def opened(url):
    """What the attempt to open a database says; nothing of it may be the password."""
    with pytest.raises(UserError) as caught:
        open_database(url, 5).close()
    assert servers.PASSWORD not in str(caught.value)
    assert servers.QUOTED not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_schema_as_the_model_is_trained_to_read_it(live):
    tables = {table.name: {column.name: column.type for column in table.columns} for table in live.schema.tables}
    assert tables["Song"] == {
        "SongId": "integer",
        "singer_id": "integer",
        "Title": "text",
        "order": "integer",
        "play count": "integer",
    }
    assert tables["singer"] == {"singer_id": "integer", "name": "text", "age": "integer", "born": "date", "fee": "real"}
    assert live.reflected.links == (("Song", "singer"),)
    assert '"order" INTEGER, "play count" INTEGER' in live.schema.ddl()
    assert "SongId INTEGER" in live.schema.ddl()
    if live.reflected.name != "sqlite":  # which has no users
        assert "private" not in tables
    assert servers.PASSWORD not in repr(live.reflected)


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


@pytest.mark.parametrize(
    ("sql", "kind", "names"),
    [
        ("SELECT nam FROM singer", "no such column", "nam"),
        ("SELECT 1 FROM nix", "no such table", "nix"),
        ("SELECT name FROM", "syntax", ""),
        ("DELETE FROM singer", "not read only", ""),
    ],
)
def test_queries_that_do_not_fit_are_told_before_they_are_run(live, sql, kind, names):
    with pytest.raises(SqlError) as caught:
        live.check(sql)
    assert caught.value.kind == kind
    assert names in str(caught.value)


def test_a_deadline_ends_a_query_and_the_next_one_runs(server):
    with LiveDatabase(server.reader, 0.5) as live:
        start = time.monotonic()
        with pytest.raises(SqlError) as caught:
            live.run(hostile.HANGS[0])
        assert time.monotonic() - start < 30  # it would take years
        assert caught.value.kind == "timeout"
        assert live.run("SELECT COUNT(*) FROM singer")[0].rows == [(3,)]


def test_no_process_is_left(server):
    before = len(multiprocessing.active_children())
    with LiveDatabase(server.reader, 5):
        assert len(multiprocessing.active_children()) == before + 1
    assert len(multiprocessing.active_children()) == before


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


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_who_may_not_come_in(kind, request):
    server = request.getfixturevalue(f"{kind}_server")
    told = opened(server.reader.replace(servers.QUOTED, "wr0ng-w0rd"))
    assert "user" in told
    assert "check" in told
    assert "wr0ng-w0rd" not in told
    assert "nodb" in opened(server.reader.replace("/shop", "/nodb"))
    assert "127.0.0.1" in opened(server.reader.replace(f":{server.port}/", f":{servers.free_port()}/"))
    assert "option" in opened(server.reader + "?no_such_option=1")
    assert "names no database" in opened(server.reader.removesuffix("/shop"))


def test_a_schema_without_a_table_that_may_be_read(postgresql_server):
    assert "it has no table" in opened(postgresql_server.reader.replace("/shop", "/postgres"))


def test_permission_is_the_databases_to_refuse_too(postgresql_server, mysql_server):
    for server in (postgresql_server, mysql_server):
        with LiveDatabase(server.reader, 5) as live, pytest.raises(SqlError, match="denied"):
            live._call(5, "run", "SELECT * FROM private", 10)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nofile.sqlite", "no SQLite file"),
        ("sqlite://", "no SQLite file"),
        ("sqlite:///nofile.db", "no SQLite file"),
        ("postgresql://u:pw@h:port/db", "not a valid URL"),
        ("postgresql://u:p@s@h/db", "more than one @"),
        ("postgresql://u:1?s@s@h/db", "more than one @"),
        ("nonesuch://u:pw@h/db", "does not know"),
        ("x" * 5000, "no SQLite file"),
        (f"postgresql://{'x' * 5000}/db", "DATABASE"),
        ("~nosuchuser/x.db", "home folder"),
        ("oracle://u:pw@h/db", "pip install 'oracledb'"),
        ("postgresql://u:pw@nohost.invalid/db", "nohost.invalid"),
    ],
)
def test_urls_that_lead_nowhere(url, told):
    assert told in opened(url)


def test_files_that_are_no_database(tmp_path):
    (tmp_path / "text.sqlite").write_text("name,age\n" * 200)
    (tmp_path / "empty.sqlite").touch()
    assert "not a database" in opened(str(tmp_path / "text.sqlite"))
    assert "it has no table" in opened(str(tmp_path / "empty.sqlite"))
    assert (tmp_path / "empty.sqlite").stat().st_size == 0


@pytest.mark.parametrize(
    ("url", "driver", "package"),
    [
        ("postgresql://u:pw@h/db", "psycopg", "psycopg[binary]"),
        ("mysql://u:pw@h/db", "pymysql", "PyMySQL"),
        ("mariadb://u:pw@h/db", "pymysql", "PyMySQL"),
    ],
)
def test_a_driver_that_is_not_there(monkeypatch, url, driver, package):
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(UserError, match="pip install") as caught:
        database_url.make_engine(database_url.parse_url(url))
    assert f"pip install '{package}'" in str(caught.value)


def test_passwords_are_hidden_however_they_are_spelled():
    url = "postgresql://me:s3cr3t%40x@h/db?sslpassword=other-one"
    for text in ("s3cr3t@x", "s3cr3t%40x", "other-one"):
        assert database_url.hide_secrets(f"said {text}.", url) == "said ***."
    assert database_url.hide_secrets("a word and a", "mysql://u:a@h/db") == "*** word and ***"
    assert "s3cr3t" not in str(UserError("Got unexpected extra argument (mysql://me:s3cr3t/@x@h/db)"))


SECRET = "hunter two"
HOST = "localhost:1/db"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://{HOST}?password={SECRET}",
        f"postgresql://{HOST}?user=me&password=hunter%20two&x=1",
        f"postgresql://me:{SECRET}@{HOST}",
        f"mysql://me:{SECRET}@{HOST}?charset=nonesuch",
        f"mysql://{HOST}?password=hunter+two",
        f"postgresql://{HOST}?sslmode=nonesuch&sslpassword={SECRET}",
        f"postgresql:/me:{SECRET}@localhost/db",
        f"postgresql://me:{SECRET}@localhost:port/db",
        f"postgresql://me:{SECRET}@{HOST}?PASSWORD={SECRET}",
        f"sqlite:///nofile.db?password={SECRET}",
        f"nonesuch://me:{SECRET}@h/db",
        f"postgresql://{HOST}?passw%6Frd={SECRET}",
        f"mysql://{HOST}?passwd={SECRET}",
        f"postgresql://{HOST}?password={SECRET}&password={SECRET}",
        f"mysql://me:{SECRET}@{HOST}?ssl_ca=/no/file",
    ],
)
def test_no_secret_of_a_url_is_told(url):
    told = [database_url.hide_secrets(f"failed: {url}", url), errors.hide_passwords(f"unexpected argument ({url})")]
    for call in (lambda: open_database(url, 5).close(), lambda: load_settings(["--format", url], "", trains=False)):
        with pytest.raises(UserError) as caught:
            call()
        told.append(str(caught.value))
    for text in told:
        assert "hunter" not in text
        assert "two" not in text
    with pytest.raises(UserError) as caught:
        open_database(f"me:{SECRET}@h/db", 5).close()
    assert "hunter" not in str(caught.value)


def test_tables_in_other_schemas_are_named(postgresql_server):
    import psycopg

    url = database_url.parse_url(postgresql_server.root)
    with psycopg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, dbname="postgres", autocommit=True
    ) as connection:
        for name in ("elsewhere", "twins"):
            connection.execute(f"CREATE DATABASE {name}")
    try:
        for name, statements, told in (
            ("elsewhere", "CREATE SCHEMA sales; CREATE TABLE sales.t (a int)", "the schemas sales have some"),
            ("twins", 'CREATE TABLE "User" (a int); CREATE TABLE "user" (a int)', "tables 'User' and 'user' differ"),
            ("twins", 'DROP TABLE "User"; CREATE TABLE t ("A" int, a int)', "columns of t 'A' and 'a' differ"),
        ):
            with psycopg.connect(
                host=url.host, port=url.port, user=url.username, password=url.password, dbname=name, autocommit=True
            ) as connection:
                connection.execute(statements)
            assert told in opened(postgresql_server.root.replace("/shop", f"/{name}"))
    finally:
        with psycopg.connect(
            host=url.host, port=url.port, user=url.username, password=url.password, dbname="postgres", autocommit=True
        ) as connection:
            for name in ("elsewhere", "twins"):
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


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


def test_a_view_of_a_table_that_is_gone_hides_no_other(tmp_path):
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.executescript(
            "CREATE TABLE a (b INTEGER); CREATE TABLE c (d INTEGER); CREATE VIEW v AS SELECT d FROM c; DROP TABLE c"
        )
    with open_database(str(tmp_path / "db"), 5) as live:
        assert [table.name for table in live.schema.tables] == ["a"]
        assert list(live.reflected.unreadable) == ["v"]


@pytest.mark.skipif(not CHINOOK.is_file(), reason="SQLORA_CHINOOK names no file")
def test_chinook():
    before = CHINOOK.read_bytes()
    with open_database(str(CHINOOK), 5) as live:
        assert {"Album", "Artist", "Invoice", "PlaylistTrack", "Track"} <= {table.name for table in live.schema.tables}
        assert {("Album", "Artist"), ("Track", "Album"), ("PlaylistTrack", "Track")} <= set(live.reflected.links)
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
