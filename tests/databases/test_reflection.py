"""The description of a database: its tables, columns and links."""

import contextlib
import sqlite3

import pytest
import servers
import sqlalchemy

from sqlora.databases import database_url, dialect
from sqlora.databases.live import open_database
from sqlora.sql import sandbox
from sqlora.sql.parsing import SqlError, parse_schema
from sqlora.sql.schema import Reference, Schema
from sqlora.system.errors import UserError


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


@contextlib.contextmanager
def postgresql_database(server, statements):
    """The URL of a database of its own with what the statements make."""
    import psycopg

    url = database_url.parse_url(server.root)
    account = {"host": url.host, "port": url.port, "user": url.username, "password": url.password, "autocommit": True}
    with psycopg.connect(**account, dbname="postgres") as connection:
        connection.execute("CREATE DATABASE elsewhere")
    try:
        with psycopg.connect(**account, dbname="elsewhere") as connection:
            connection.execute(statements)
        yield server.root.replace("/shop", "/elsewhere")
    finally:
        with psycopg.connect(**account, dbname="postgres") as connection:
            connection.execute("DROP DATABASE elsewhere WITH (FORCE)")


def test_tables_in_other_schemas_are_named(postgresql_server):
    with postgresql_database(postgresql_server, "CREATE SCHEMA sales; CREATE TABLE sales.t (a int)") as url:
        assert "the schemas sales have some: name them with SCHEMAS" in servers.opened(url)


SCHEMAS = """
CREATE TABLE orders (id int PRIMARY KEY);
CREATE SCHEMA sales; CREATE SCHEMA hr; CREATE SCHEMA stock; CREATE SCHEMA "Odd Name";
CREATE TABLE hr.staff (id int PRIMARY KEY, name text);
CREATE TABLE stock.part (id int PRIMARY KEY, price numeric);
CREATE TABLE sales.orders (id int PRIMARY KEY, staff int REFERENCES hr.staff, part int REFERENCES stock.part);
CREATE TABLE hr.orders (id int, first int REFERENCES sales.orders);
CREATE TABLE "Odd Name"."T" (a int REFERENCES orders);
INSERT INTO hr.staff VALUES (1, 'Ann'), (2, 'Bo'); INSERT INTO stock.part VALUES (1, 2.5);
INSERT INTO sales.orders VALUES (7, 1, 1), (8, 1, NULL); INSERT INTO hr.orders VALUES (1, 7)
"""
OVER_SCHEMAS = (
    ("SELECT COUNT(*) FROM orders", [(0,)]),
    ("SELECT COUNT(*) FROM sales.orders", [(2,)]),
    ("SELECT sales.orders.id FROM sales.orders ORDER BY sales.orders.id", [(7,), (8,)]),
    ("SELECT name, COUNT(*) FROM staff JOIN sales.orders AS o ON o.staff = staff.id GROUP BY name", [("Ann", 2)]),
    ("SELECT orders.id FROM sales.orders WHERE orders.part = 1", [(7,)]),
    ("SELECT hr.orders.id FROM hr.orders JOIN sales.orders ON hr.orders.first = sales.orders.id", [(1,)]),
    ("SELECT name FROM hr.staff WHERE id NOT IN (SELECT staff FROM sales.orders)", [("Bo",)]),
    ("SELECT price FROM part WHERE EXISTS (SELECT 1 FROM sales.orders WHERE part = part.id)", [(2.5,)]),
    ("SELECT COUNT(*) FROM t", [(0,)]),
)


def test_a_database_of_several_schemas_is_asked_whole(postgresql_server):
    schemas = ["public", "sales", "hr", "stock", "Odd Name"]
    with postgresql_database(postgresql_server, SCHEMAS) as url:
        with open_database(url, 5, schemas) as live:
            shown = live.schema.ddl("described")
            assert "CREATE TABLE sales.orders (id INTEGER PRIMARY KEY, staff INTEGER, part INTEGER, " in shown
            assert "FOREIGN KEY (first) REFERENCES sales.orders (id)" in shown
            assert "FOREIGN KEY (staff) REFERENCES staff (id)" in shown
            assert "CREATE TABLE T (a INTEGER, FOREIGN KEY (a) REFERENCES orders (id))" in shown
            assert parse_schema(shown).ddl("described") == shown
            for sql, rows in OVER_SCHEMAS:
                query, _ = sandbox.prepare(sql, live.schema)
                text = dialect.translate(query, live.schema, "postgres", live.reflected.quoted)
                live.check(text)
                assert live.run(text)[0].rows == rows, text
            for sql in ("SELECT * FROM pg_catalog.pg_class", "SELECT * FROM staff", "SELECT * FROM stock.staff"):
                with pytest.raises(SqlError, match="no such table"):
                    live.check(sql)
            assert live.sampled.texts["staff", "name"] == ("Ann", "Bo")
        with open_database(url, 5, ["hr"]) as live:
            assert {table.name for table in live.schema.tables} == {"staff", "orders"}
        with pytest.raises(UserError, match="names 'sale', which the database does not have; did you mean sales?"):
            open_database(url, 5, ["sale"])


def test_several_databases_of_a_mysql_server(mysql_server):
    engine = sqlalchemy.create_engine(database_url.parse_url(mysql_server.root), isolation_level="AUTOCOMMIT")
    statements = (
        "CREATE DATABASE hr; CREATE TABLE hr.staff (id INT PRIMARY KEY, name VARCHAR(20)); "
        "CREATE TABLE hr.singer (id INT, boss INT, FOREIGN KEY (boss) REFERENCES hr.staff (id)); "
        "INSERT INTO hr.staff VALUES (1, 'Ann'); INSERT INTO hr.singer VALUES (5, 1)"
    )
    try:
        with engine.connect() as connection:
            for statement in statements.split("; "):
                connection.exec_driver_sql(statement)
        with open_database(mysql_server.root, 5, ["shop", "hr"], ["hr.staff.name"]) as live:
            shown = live.schema.ddl("described")
            assert (
                "CREATE TABLE hr.singer (id INTEGER, boss INTEGER, FOREIGN KEY (boss) REFERENCES staff (id))" in shown
            )
            for sql, rows in (
                ("SELECT COUNT(*) FROM hr.singer", [(1,)]),
                ("SELECT * FROM staff JOIN hr.singer AS s ON s.boss = staff.id", [(1, 5, 1)]),
            ):
                query, _ = sandbox.prepare(sql, live.schema)
                text = dialect.translate(query, live.schema, "mysql", live.reflected.quoted)
                live.check(text)
                assert live.run(text)[0].rows == rows, text
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql("DROP DATABASE IF EXISTS hr")
        engine.dispose()


def test_the_search_path_says_which_schemas_are_read(postgresql_server):
    path = "ALTER DATABASE elsewhere SET search_path = hr, stock"
    with (
        postgresql_database(postgresql_server, f"{SCHEMAS}; {path}") as url,
        open_database(url, 5) as live,
    ):
        assert {table.name for table in live.schema.tables} == {"staff", "orders", "part"}


def test_names_that_differ_in_letter_case_are_told_apart(postgresql_server):
    statements = 'CREATE TABLE "User" (a int, "A" int); CREATE TABLE "user" (b int REFERENCES "user"); '
    with (
        postgresql_database(postgresql_server, statements.replace(' REFERENCES "user"', "")) as url,
        open_database(url, 5) as live,
    ):
        assert {table.name for table in live.schema.tables} == {"user", "User_2"}
        assert live.reflected.unreadable == {"User.A": "it differs from a only in letter case"}
        for sql, text in (
            ("SELECT a FROM User_2", 'SELECT a FROM "User" AS "User_2"'),
            ("SELECT user_2.a FROM user JOIN User_2 ON a = b", None),
        ):
            query, _ = sandbox.prepare(sql, live.schema)
            written = dialect.translate(query, live.schema, "postgres", live.reflected.quoted)
            assert text in (None, written)
            assert live.run(written)[0].rows == []


@contextlib.contextmanager
def made(server, table, statements):
    """A table of the server that the statements make."""
    engine = sqlalchemy.create_engine(database_url.parse_url(server.root), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements.split("; "):
            connection.exec_driver_sql(statement)
    try:
        yield
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP TABLE {table}")
        engine.dispose()


def test_comments_of_the_database_are_shown(server):
    statements = {
        "sqlite": "CREATE TABLE noted ( -- the people\n a INTEGER, -- their age\n b TEXT)",
        "postgresql": "CREATE TABLE noted (a int, b text); COMMENT ON TABLE noted IS 'all of */ them'; "
        "COMMENT ON COLUMN noted.a IS 'their age'",
        "mysql": "CREATE TABLE noted (a INT COMMENT 'their age', b TEXT) COMMENT = 'all of */ them'",
    }[server.kind]
    with made(server, "noted", statements), open_database(server.root, 5) as live:
        shown = Schema((live.schema.table("noted"),)).ddl("described")
        assert "a INTEGER /* their age */, b VARCHAR)" in shown
        assert server.kind == "sqlite" or "noted /* all of * / them */ (" in shown


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
    with made(server, "kinds", statements), open_database(server.root, 5) as live:
        assert [column.type for column in live.schema.table("kinds").columns] == kinds.split()
        assert "OTHER" not in live.schema.ddl()
    assert capfd.readouterr() == ("", "")
