"""Hostile SQL: nothing but reads, within a deadline, and without taking the process down."""

import random
import re
import time
from collections import Counter

import pytest

from sqlora.sql.parsing import SqlError, parse_query, parse_schema, to_sqlite
from sqlora.sql.sandbox import Database, prepare
from sqlora.sql.schema import Column, Schema, Table

SCHEMA = parse_schema(
    "CREATE TABLE singer (id INTEGER, name VARCHAR, age VARCHAR); CREATE TABLE song (singer_id INTEGER, title TEXT)"
)
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
    result = database.run(
        "SELECT name, COUNT(*) AS songs FROM singer JOIN song ON id = singer_id GROUP BY name ORDER BY name"
    )
    assert result.columns == ("name", "songs")
    assert result.rows == [("Ann", 2), ("Bo", 1)]


def test_numbers_in_a_text_column_are_compared_as_numbers(database):
    assert database.run("SELECT name FROM singer WHERE age > 9").rows == [("Bo",), (None,)]
    assert database.run("SELECT name FROM singer WHERE age = '10'").rows == [("Bo",)]
    assert database.run("SELECT MAX(age) FROM singer").rows == [(30,)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
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
    ],
)
def test_what_is_no_read_of_its_tables_is_refused(database, query, expected):
    assert kind(database, query) == expected
    assert database.run("SELECT COUNT(*) FROM singer").rows == [(3,)]


@pytest.mark.parametrize(
    "query",
    [
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT COUNT(*) FROM t",
        "SELECT COUNT(*) FROM " + ", ".join(f"singer AS s{i}" for i in range(30)),
    ],
)
def test_a_runaway_query_ends_at_its_deadline(database, query):
    start = time.process_time()
    assert kind(database, query, deadline=0.5) == "timeout"
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    "query",
    [
        "SELECT randomblob(1000000000)",
        "SELECT zeroblob(1000000000)",
        "SELECT hex(zeroblob(500000000))",
        "SELECT replace(hex(zeroblob(4000)), '0', hex(zeroblob(4000)))",
        "SELECT printf('%.*c', 2000000000, 'x')",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 10000000) SELECT group_concat(n) FROM t",
        "WITH RECURSIVE t(n, s) AS (SELECT 1, 'x' UNION ALL SELECT n + 1, s || s FROM t) SELECT MAX(LENGTH(s)) FROM t",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 50000) SELECT n, hex(zeroblob(4000)) "
        "FROM t",
    ],
)
def test_a_bomb_takes_neither_time_nor_memory(database, query):
    resource = pytest.importorskip("resource")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert kind(database, query, deadline=1.0) in ("too large", "timeout", "not read only", "syntax", "other")
    assert time.process_time() - start < 1.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    assert database.run("SELECT COUNT(*) FROM singer").rows == [(3,)]


def test_rows_take_no_more_memory_than_is_allowed(database):
    """A query of 4 kB, whose rows are of 150 cells of 8,000 bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cells = ", ".join(["hex(zeroblob(4000))"] * 150)
    assert kind(database, f"SELECT {cells} FROM singer a, singer b, singer c, singer d") == "too large"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # KiB


CHARACTERS = "".join(map(chr, range(0x4E00, 0x4E00 + 800)))


@pytest.mark.parametrize(
    "call",
    [
        f"trim(hex(zeroblob(4900)) || a.id || j.id, '{CHARACTERS}0')",
        "hex(zeroblob(4900)) || a.id || j.id LIKE '%' || hex(zeroblob(490)) || '1'",
        "instr(hex(zeroblob(4900)) || a.id || j.id, hex(zeroblob(2000)) || '1')",
    ],
)
def test_functions_over_long_texts_end_at_the_deadline_too(database, call):
    pairs = ", ".join(f"singer AS {name}" for name in "abcdefghij")
    for query in (
        f"SELECT COUNT(*) FROM {pairs} WHERE {call} = 'x'",
        f"SELECT a.id FROM {pairs} GROUP BY b.id ORDER BY MAX({call})",
    ):
        start = time.process_time()
        assert kind(database, query, deadline=0.5) in ("timeout", "too large")
        assert time.process_time() - start < 1.2


def test_a_row_of_too_much_work_is_refused_before_it_is_run():
    work = " + ".join(["length(trim(hex(zeroblob(4900)) || id, replace(hex(zeroblob(2000)), '0', 'b')))"] * 100)
    with pytest.raises(SqlError) as caught:
        prepare(f"SELECT {work} FROM singer", SCHEMA)
    assert caught.value.kind == "too large"
    prepare("SELECT TRIM(name, ' .'), REPLACE(name, 'a', 'b') FROM singer WHERE name LIKE '%a%'", SCHEMA)


def test_a_row_of_more_than_two_hundred_columns():
    wide = parse_schema("CREATE TABLE wide (" + ", ".join(f"c{i} INTEGER" for i in range(250)) + ")")
    with Database(wide, {"wide": [tuple(range(250))]}) as database:
        assert len(database.run("SELECT * FROM wide").columns) == 250


def test_too_many_rows(database):
    assert kind(database, "SELECT 1 FROM singer a, singer b, singer c", max_rows=26) == "too large"
    assert len(database.run("SELECT 1 FROM singer a, singer b, singer c", max_rows=27).rows) == 27


WORDS = (
    "SELECT FROM singer song name id age title WHERE ( ) , * = < 'a' \"b\" 1 AND OR NOT NULL GROUP ORDER BY LIMIT "
    "UNION ALL "
    "JOIN ON IN EXISTS CASE WHEN THEN END WITH RECURSIVE AS DELETE UPDATE INSERT INTO VALUES DROP TABLE ATTACH PRAGMA "
    "; -- /* */ ' \" ` [ ] || . random() zeroblob(9999999) abs(-9223372036854775808) \x01 é"
).split()
SHAPES = (
    "SELECT {f} FROM {t} AS a, {t} AS b, {t} AS c, {t} AS d, {t} AS e ORDER BY {f}",
    "WITH RECURSIVE r(n, s) AS (SELECT 1, {f} UNION ALL SELECT n + 1, s || {f} FROM r) SELECT {a} FROM r",
    "WITH RECURSIVE r(n) AS (SELECT {n} UNION SELECT n * 7 % 1000003 FROM r) SELECT n, {f} FROM r ORDER BY {f}, n DESC",
    "SELECT {f} FROM {t} UNION SELECT {f} FROM {t} UNION ALL SELECT {f} FROM {t}",
    "SELECT {a} OVER (PARTITION BY {f} ORDER BY {f}) FROM {t}, {t} AS b, {t} AS c",
    "INSERT INTO {t} SELECT {f}, {f}",
    "DELETE FROM {t} WHERE {f}",
    "UPDATE {t} SET name = {f}",
    "DROP TABLE {t}",
    "ATTACH {f} AS x",
    "PRAGMA {p} = {n}",
    "PRAGMA {p}",
    "SELECT * FROM pragma_{p}",
    "VACUUM INTO '{p}.db'",
    "EXPLAIN SELECT {f}",
    "CREATE TABLE x AS SELECT {f}",
    "CREATE VIRTUAL TABLE x USING fts5(y)",
    "CREATE TEMP TRIGGER x AFTER INSERT ON {t} BEGIN SELECT {f}; END",
    "REINDEX",
    "ANALYZE",
    "SAVEPOINT x",
    "SELECT {f}; DROP TABLE {t}",
    "VALUES ({f}), ({f})",
)
FILLERS = {
    "f": (
        "name",
        "zeroblob({n})",
        "hex(zeroblob({n}))",
        "replace(hex(zeroblob(4000)), '0', hex(zeroblob({n})))",
        "randomblob({n})",
        "printf('%.*c', {n}, 'x')",
        "load_extension('x')",
        "readfile('/etc/passwd')",
        "writefile('x', 'y')",
        "char({n})",
        "trim(hex(zeroblob(4000)), '0')",
        "name LIKE hex(zeroblob(400))",
        "substr(name, {n}, -{n})",
        "round({n}.5, {n})",
        "CAST(x'ff00' AS TEXT)",
        "json_array(name, {n})",
        "strftime('%s', 'now', '{n} days')",
        "{n} / 0",
        "{n} << {n}",
    ),
    "a": (
        "COUNT(*)",
        "SUM({n})",
        "group_concat(name, hex(zeroblob(4000)))",
        "MAX({f})",
        "group_concat({f})",
        "total({f})",
    ),
    "n": ("0", "1", "100", "9999", "1000000000", "2147483647", "9223372036854775807", "99999999999999999999", "1e308"),
    "t": ("singer", "song", "sqlite_master", "nonesuch", "json_each('[1, 2]')", "(SELECT * FROM singer)", "dbstat"),
    "p": (
        "writable_schema",
        "table_info",
        "journal_mode",
        "temp_store_directory",
        "hard_heap_limit",
        "module_list",
        "user_version",
    ),
}


def hostile(generator):
    """A statement of random words, or a bomb, a write or a way out with random parts."""
    if generator.random() < 0.5:
        return " ".join(generator.choices(WORDS, k=generator.randint(1, 14)))
    text = generator.choice(SHAPES)
    while hole := re.search("{([fantp])}", text):
        text = text[: hole.start()] + generator.choice(FILLERS[hole[1]]) + text[hole.end() :]
    if generator.random() < 0.1:
        place = generator.randrange(len(text))
        text = text[:place] + generator.choice("'\"`();\0\ud800") + text[place:]
    return text


def test_ten_thousand_hostile_statements_end_in_rows_or_a_sql_error(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.chdir(tmp_path)
    deadline, generator, before = 0.2, random.Random(0), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kinds = Counter()
    with Database(SCHEMA, ROWS) as database:
        for _ in range(10_000):
            query, start = hostile(generator), time.process_time()
            try:
                database.run(query, deadline)
                database.run(to_sqlite(parse_query(query, SCHEMA)), deadline)
            except SqlError as error:
                kinds[error.kind] += 1
            assert time.process_time() - start < 2 * (deadline + 0.5), query
        assert database.run("SELECT * FROM singer").rows == [(1, "Ann", 9), (2, "Bo", 10), (3, None, 30)]
        assert database.run("SELECT COUNT(*) FROM song").rows == [(3,)]
    assert {"syntax", "not read only", "too large", "timeout"} <= set(kinds)
    assert not list(tmp_path.iterdir())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_the_schema_of_a_table_is_left_out_wherever_it_is_named():
    schema = parse_schema("CREATE TABLE sales.customer (id INT); CREATE TABLE t (a INT)")
    _, text = prepare("SELECT sales.customer.id FROM t, sales.customer", schema)
    with Database(schema, {"t": [(1,)], "customer": [(2,)]}) as database:
        assert database.run(text).rows == [(2,)]


def test_a_schema_that_sqlite_refuses():
    with pytest.raises(SqlError) as caught:
        Database(Schema((Table("sqlite_x", (Column("a", "integer"),)),)))
    assert caught.value.kind == "schema"


def test_rows_are_replaced_and_the_walls_stay():
    schema = parse_schema("CREATE TABLE t (a INTEGER); CREATE TABLE u (b TEXT)")
    with Database(schema, {"t": [(1,), (2,)], "u": [("x",)]}) as database:
        database.run("SELECT 1", deadline=0.0)  # long past when the rows are replaced
        database.refill({"t": [(3,)]})
        assert database.run("SELECT a FROM t").rows == [(3,)]
        assert database.run("SELECT b FROM u").rows == []
        with pytest.raises(SqlError) as caught:
            database.run("DELETE FROM t")
        assert caught.value.kind == "not read only"
    with Database(schema) as database, pytest.raises(SqlError) as caught:
        database.refill({"t": [(2**64,)]})
    assert caught.value.kind == "schema"
