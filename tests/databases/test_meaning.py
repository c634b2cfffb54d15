"""What SQLite means, on every kind of database: the same rows, or a refusal that says why."""

import contextlib

import pytest
import sqlalchemy
from servers import started

from sqlora.databases import dialect
from sqlora.databases.database_url import parse_url
from sqlora.databases.live import LiveDatabase
from sqlora.sql import sandbox
from sqlora.sql.parsing import SqlError
from sqlora.sql.schema import Column, Schema, Table

TABLES = (
    "CREATE TABLE part (id INTEGER PRIMARY KEY, name VARCHAR(20), code VARCHAR(20), weight DOUBLE PRECISION, "
    "price NUMERIC(8, 2), made DATE, is_old BOOLEAN)",
    "CREATE TABLE sale (part VARCHAR(20), number INTEGER)",
    "INSERT INTO part VALUES (1, 'Bolt', '9', 2.25, 1.5, '2012-03-04', TRUE), (2, 'Nut', '10', 0.75, 2, '2013-05-06', "
    "FALSE), (3, 'bolt x', NULL, NULL, NULL, NULL, NULL)",
    "INSERT INTO sale VALUES ('1', 3), ('1', 4), ('2', 4), ('x', 1)",
)
SAME = {  # with SQLite's rows
    "SELECT name FROM part WHERE code = 9": [("Bolt",)],
    "SELECT name FROM part WHERE code > 10": [("Bolt",)],  # as texts
    "SELECT name FROM part WHERE code IN (10, 11)": [("Nut",)],
    "SELECT name FROM part WHERE id = '2'": [("Nut",)],
    "SELECT name FROM part WHERE id BETWEEN '2' AND '2'": [("Nut",)],
    "SELECT name, number FROM part JOIN sale ON id = part WHERE number > 3": [("Bolt", 4), ("Nut", 4)],
    "SELECT name FROM part WHERE id NOT IN (SELECT part FROM sale)": [("bolt x",)],
    "SELECT SUM(code), AVG(code) FROM part": [(19, 9.5)],
    "SELECT code + 1 FROM part WHERE id = 1": [(10,)],
    "SELECT name FROM part WHERE is_old = 1": [("Bolt",)],
    "SELECT name FROM part WHERE name LIKE 'BOLT%'": [("Bolt",), ("bolt x",)],
    "SELECT name FROM part WHERE made LIKE '2012%'": [("Bolt",)],
    "SELECT name FROM part WHERE STRFTIME('%Y', made) = '2013'": [("Nut",)],
    "SELECT ROUND(AVG(weight), 1) FROM part": [(1.5,)],
    "SELECT SUBSTR(name, -3) FROM part WHERE id = 1": [("olt",)],
    "SELECT SUBSTR(name, -3, 2) FROM part WHERE id = 1": [("ol",)],
    "SELECT CAST(weight AS INTEGER) FROM part WHERE id = 1": [(2,)],
    "SELECT CAST(price AS INTEGER) FROM part WHERE id = 1": [(1,)],
    "SELECT id / 2 FROM part WHERE id = 3": [(1,)],
    "SELECT SUM(number) / COUNT(*) FROM sale WHERE number > 2": [(3,)],
    "SELECT COUNT(*) FROM (SELECT name FROM part WHERE id < 3)": [(2,)],
    "SELECT part, COUNT(*) AS n FROM sale GROUP BY part HAVING n > 1": [("1", 2)],
    "SELECT name, COUNT(*) FROM part JOIN sale ON id = part GROUP BY id": [("Bolt", 2), ("Nut", 1)],
    "SELECT COUNT(*) FROM part WHERE made < DATE('now')": [(2,)],
    "SELECT name FROM part WHERE DATE(made, '+1 day') = '2012-03-05'": [("Bolt",)],
    "SELECT name FROM part WHERE DATE(made, 'start of month', '+1 month', '-1 day') = '2012-03-31'": [("Bolt",)],
    "SELECT name FROM part WHERE DATE(made, 'start of year') = '2013-01-01'": [("Nut",)],
    "SELECT JULIANDAY(made) - JULIANDAY('2012-03-01') FROM part WHERE id = 1": [(3.0,)],
    "SELECT STRFTIME('%Y-%m', made, '+40 days') FROM part WHERE id = 1": [("2012-04",)],
    "SELECT COUNT(*) FROM part WHERE made > DATE('now', '-10 days')": [(0,)],
    "SELECT COUNT(*) FROM part WHERE code < DATE('now', '-10 days')": [(1,)],
    "SELECT COUNT(*) FROM part WHERE STRFTIME('%Y', 'now') > '2020'": [(3,)],
    "SELECT COUNT(*) FROM part WHERE made < DATETIME('now', '-1 hour')": [(2,)],
    "SELECT name, SUM(id) OVER (ORDER BY id) FROM part WHERE id < 3": [("Bolt", 1), ("Nut", 3)],
    "SELECT SUM(weight > 1), SUM(is_old) FROM part": [(1, 1)],
    "SELECT LENGTH(number) FROM sale WHERE number = 3": [(1,)],
}
BESIDE = {  # MySQL and MariaDB cannot say it
    "SELECT MAX(weight), name FROM part": [(2.25, "Bolt")],
    "SELECT name, MIN(weight) FROM part": [("Nut", 0.75)],
    "SELECT part, MAX(number), number FROM sale GROUP BY part": [("1", 4, 4), ("2", 4, 4), ("x", 1, 1)],
}
SCHEMA = Schema((Table("t", (Column("a", "integer"), Column("b", "text"), Column("d", "date"))),))


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def live(request):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(started(request.param))
        engine = sqlalchemy.create_engine(parse_url(server.root))
        with engine.begin() as connection:
            for text in TABLES:
                connection.exec_driver_sql(text)
        engine.dispose()
        yield stack.enter_context(LiveDatabase(server.root, 10))


def rows_of(live, sql):
    query, text = sandbox.prepare(sql, live.schema)
    if live.reflected.dialect != "sqlite":
        text = dialect.translate(query, live.schema, live.reflected.dialect, live.reflected.quoted)
    live.check(text)
    return sorted(live.run(text)[0].rows)


@pytest.mark.parametrize("sql", SAME)
def test_the_same_rows_everywhere(live, sql):
    assert rows_of(live, sql) == SAME[sql]


@pytest.mark.parametrize("sql", BESIDE)
def test_a_column_beside_max_is_that_of_its_row(live, sql):
    if live.reflected.dialect == "mysql":
        with pytest.raises(SqlError, match="not in GROUP BY"):
            rows_of(live, sql)
    else:
        assert rows_of(live, sql) == BESIDE[sql]


@pytest.mark.parametrize(
    ("sql", "dialects", "words"),
    [
        ("SELECT STRFTIME('%s', d) FROM t", ("postgres", "mysql"), "%s cannot be said"),
        ("SELECT DATE(d, '+1 month') FROM t", ("postgres", "mysql"), "'.1 month' of a date cannot be said"),
        ("SELECT DATE(d, 'weekday 1') FROM t", ("postgres", "mysql"), "'weekday 1' of a date cannot be said"),
        ("SELECT DATE(d, b) FROM t", ("postgres", "mysql"), "modifier b of a date cannot be said"),
        ("SELECT COUNT(*) FROM t FULL JOIN t AS u ON t.a = u.a", ("mysql",), "FULL JOIN"),
    ],
)
def test_what_cannot_be_said_is_refused(sql, dialects, words):
    query, _ = sandbox.prepare(sql, SCHEMA)
    for name in dialects:
        with pytest.raises(SqlError, match=words):
            dialect.translate(query, SCHEMA, name, frozenset())


def test_a_plain_query_stays_as_it_is():
    text = "SELECT b FROM t WHERE a > 3 AND b = 'x' GROUP BY b"
    query, _ = sandbox.prepare(text, SCHEMA)
    assert {dialect.translate(query, SCHEMA, name, frozenset()) for name in ("postgres", "mysql")} == {text}
