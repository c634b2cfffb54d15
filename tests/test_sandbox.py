"""Hostile SQL: nothing but reads, within a deadline, and without taking the process down."""

import random
import time

import pytest

from sqlora.sandbox import Database
from sqlora.sql import SqlError, parse_query, parse_schema, to_sqlite

SCHEMA = parse_schema("CREATE TABLE singer (id INTEGER, name VARCHAR, age VARCHAR); "
                      "CREATE TABLE song (singer_id INTEGER, title TEXT)")
ROWS = {"singer": [(1, "Ann", "9"), (2, "Bo", "10"), (3, None, "30")], "song": [(1, "One"), (1, "Two"), (2, "Three")]}


@pytest.fixture
def database():
    with Database(SCHEMA, ROWS) as database:
        yield database


def kind(database, query, **limits):
    with pytest.raises(SqlError) as caught:
        database.run(query, **limits)
    return caught.value.kind


def test_a_query_gives_columns_and_rows(database):
    result = database.run("SELECT name, COUNT(*) AS songs FROM singer JOIN song ON id = singer_id GROUP BY name ORDER BY name")
    assert result.columns == ("name", "songs")
    assert result.rows == [("Ann", 2), ("Bo", 1)]


def test_numbers_in_a_text_column_are_compared_as_numbers(database):
    assert database.run("SELECT name FROM singer WHERE age > 9").rows == [("Bo",), (None,)]
    assert database.run("SELECT name FROM singer WHERE age = '10'").rows == [("Bo",)]
    assert database.run("SELECT MAX(age) FROM singer").rows == [(30,)]


@pytest.mark.parametrize(("query", "expected"), [
    ("DELETE FROM singer", "not read only"),
    ("INSERT INTO singer VALUES (4, 'x', '1')", "not read only"),
    ("UPDATE singer SET id = 1", "not read only"),
    ("DROP TABLE singer", "not read only"),
    ("CREATE TABLE t AS SELECT 1", "not read only"),
    ("ATTACH 'x.db' AS x", "not read only"),
    ("PRAGMA writable_schema = 1", "not read only"),
    ("VACUUM INTO 'x.db'", "not read only"),
    ("SELECT load_extension('x')", "not read only"),
    ("SELECT * FROM sqlite_master", "not read only"),
    ("SELECT * FROM pragma_table_info('singer')", "not read only"),
    ("BEGIN", "not read only"),
    ("SELECT 1; SELECT 2", "several statements"),
    ("SELECT nonesuch FROM singer", "no such column"),
    ("SELECT 1 FROM nonesuch", "no such table"),
    ("SELECT id FROM singer AS a JOIN singer AS b", "ambiguous column"),
    ("SELEC 1", "syntax"),
    ("", "syntax"),
    ("SELECT '\0'", "syntax"),
    ("SELECT '\ud800'", "syntax"),
    ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "too large"),
])
def test_what_is_no_read_of_its_tables_is_refused(database, query, expected):
    assert kind(database, query) == expected
    assert database.run("SELECT COUNT(*) FROM singer").rows == [(3,)]


@pytest.mark.parametrize("query", [
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT COUNT(*) FROM t",
    "SELECT COUNT(*) FROM " + ", ".join(f"singer AS s{i}" for i in range(30)),
])
def test_a_runaway_query_ends_at_its_deadline(database, query):
    start = time.monotonic()
    assert kind(database, query, deadline=0.5) == "timeout"
    assert time.monotonic() - start < 1.0


@pytest.mark.parametrize("query", [
    "SELECT randomblob(1000000000)",
    "SELECT zeroblob(1000000000)",
    "SELECT hex(zeroblob(500000000))",
    "SELECT replace(hex(zeroblob(4000)), '0', hex(zeroblob(4000)))",
    "SELECT printf('%.*c', 2000000000, 'x')",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 10000000) SELECT group_concat(n) FROM t",
    "WITH RECURSIVE t(n, s) AS (SELECT 1, 'x' UNION ALL SELECT n + 1, s || s FROM t) SELECT MAX(LENGTH(s)) FROM t",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 50000) SELECT n, hex(zeroblob(4000)) FROM t",
])
def test_a_bomb_takes_neither_time_nor_memory(database, query):
    resource = pytest.importorskip("resource")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert kind(database, query, deadline=1.0) in ("too large", "timeout", "not read only", "syntax", "other")
    assert time.monotonic() - start < 1.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    assert database.run("SELECT COUNT(*) FROM singer").rows == [(3,)]


def test_too_many_rows(database):
    assert kind(database, "SELECT 1 FROM singer a, singer b, singer c", max_rows=26) == "too large"
    assert len(database.run("SELECT 1 FROM singer a, singer b, singer c", max_rows=27).rows) == 27


def test_any_statement_ends_in_rows_or_a_sql_error(database):
    words = ("SELECT FROM singer song name id age title WHERE ( ) , * = < 'a' \"b\" 1 AND OR NOT NULL GROUP ORDER BY LIMIT UNION "
             "JOIN ON IN EXISTS CASE WHEN THEN END WITH RECURSIVE AS DELETE UPDATE INSERT INTO VALUES DROP TABLE ATTACH PRAGMA "
             "; -- /* */ ' \" ` [ ] || . random() zeroblob(9999999) abs(-9223372036854775808) \x01 é").split()
    generator = random.Random(0)
    for _ in range(3000):
        query = " ".join(generator.choices(words, k=generator.randint(1, 14)))
        try:
            database.run(query, deadline=0.2)
            database.run(to_sqlite(parse_query(query, SCHEMA)), deadline=0.2)
        except SqlError:
            continue
    assert database.run("SELECT COUNT(*), (SELECT COUNT(*) FROM song) FROM singer").rows == [(3, 3)]


def test_a_schema_that_sqlite_refuses():
    with pytest.raises(SqlError) as caught:
        Database(parse_schema("CREATE TABLE sqlite_x (a INT)"))
    assert caught.value.kind == "schema"
