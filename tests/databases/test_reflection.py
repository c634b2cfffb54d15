"""The description of a database: its tables, columns and links."""

import sqlite3

import servers
import sqlalchemy

from sqlora.databases import database_url
from sqlora.databases.live import open_database
from sqlora.sql.schema import Reference


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
    assert live.schema.links == [("Song", "singer")]
    song = live.schema.table("song")
    assert (song.keys, song.required) == ((("songid",),), {"songid"})
    assert song.references == (Reference(("singer_id",), "singer", ("singer_id",)),)
    assert '"order" INTEGER, "play count" INTEGER' in live.schema.ddl()
    assert "SongId INTEGER" in live.schema.ddl()
    if live.reflected.name != "sqlite":  # which has no users
        assert "private" not in tables
    assert servers.PASSWORD not in repr(live.reflected)


def test_a_schema_without_a_table_that_may_be_read(postgresql_server):
    assert "it has no table" in servers.opened(postgresql_server.reader.replace("/shop", "/postgres"))


def test_tables_in_other_schemas_are_named(postgresql_server):
    import psycopg

    url = database_url.parse_url(postgresql_server.root)
    with psycopg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, dbname="postgres", autocommit=True
    ) as connection:
        for name in ("elsewhere", "twins"):
            connection.execute(f"CREATE DATABASE {name}")
    try:
        for name, statements, message in (
            ("elsewhere", "CREATE SCHEMA sales; CREATE TABLE sales.t (a int)", "the schemas sales have some"),
            ("twins", 'CREATE TABLE "User" (a int); CREATE TABLE "user" (a int)', "tables 'User' and 'user' differ"),
            ("twins", 'DROP TABLE "User"; CREATE TABLE t ("A" int, a int)', "columns of t 'A' and 'a' differ"),
        ):
            with psycopg.connect(
                host=url.host, port=url.port, user=url.username, password=url.password, dbname=name, autocommit=True
            ) as connection:
                connection.execute(statements)
            assert message in servers.opened(postgresql_server.root.replace("/shop", f"/{name}"))
    finally:
        with psycopg.connect(
            host=url.host, port=url.port, user=url.username, password=url.password, dbname="postgres", autocommit=True
        ) as connection:
            for name in ("elsewhere", "twins"):
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_view_of_a_table_that_is_gone_hides_no_other(tmp_path):
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.executescript(
            "CREATE TABLE a (b INTEGER); CREATE TABLE c (d INTEGER); CREATE VIEW v AS SELECT d FROM c; DROP TABLE c"
        )
    with open_database(str(tmp_path / "db"), 5) as live:
        assert [table.name for table in live.schema.tables] == ["a"]
        assert list(live.reflected.unreadable) == ["v"]


KINDS = {
    "sqlite": ("CREATE TABLE kinds (a REAL, b FLOAT, c DOUBLE, d TEXT, e BLOB)", "real real real text other"),
    "postgresql": (
        "CREATE DOMAIN price AS numeric(8, 2); CREATE DOMAIN fee AS price; CREATE TYPE mood AS ENUM ('a', 'b'); "
        "CREATE TABLE kinds (a real, b double precision, c fee, d varchar(9), e mood, f int[], g jsonb, h inet, "
        "i uuid, j interval, k point, l timestamptz, m bool)",
        "real real real text other other other other other other other timestamp boolean",
    ),
    "mysql": (
        "CREATE TABLE kinds (a FLOAT, b DOUBLE, c DECIMAL(5, 2), d TEXT, e ENUM('x'), f JSON, g YEAR, h DATETIME)",
        "real real real text other text integer timestamp",
    ),
}


def test_types_are_what_they_are_and_nothing_is_said_of_others(server, capfd):
    statements, kinds = KINDS[server.kind]
    engine = sqlalchemy.create_engine(database_url.parse_url(server.root), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements.split("; "):
            connection.exec_driver_sql(statement)
    try:
        with open_database(server.root, 5) as live:
            assert [column.type for column in live.schema.table("kinds").columns] == kinds.split()
            assert "OTHER" not in live.schema.ddl()
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql("DROP TABLE kinds")
        engine.dispose()
    assert capfd.readouterr() == ("", "")
