"""Which text may continue a query: nothing that its schema lacks, and every beginning can be finished."""

import contextlib
import json
import random
import sqlite3
from pathlib import Path

import pytest

from sqlora.sql.legal_ends import ending
from sqlora.sql.legal_text import SqlGuard
from sqlora.sql.parsing import parse_schema

WORDS = (
    "SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT OFFSET JOIN LEFT NATURAL ON USING AS AND OR NOT IN LIKE BETWEEN IS "
    "NULL CASE WHEN THEN ELSE END CAST EXISTS UNION ALL EXCEPT DISTINCT DESC OVER COLLATE WITH count sum max lower "
    "length rank a b t1. a. song. singer. singer song name age title singer_id song_id x ( ) , . * = < - + / || ; 1 "
    """2.5 'it''s' "title" ' !="""
).split()
DEMO = Path(__file__).parents[2] / "demo" / "test.jsonl"
SCHEMA = parse_schema(
    "CREATE TABLE singer (singer_id INTEGER, name TEXT, age INTEGER); "
    'CREATE TABLE song (song_id INTEGER, singer_id INTEGER, title TEXT, "play count" INTEGER)'
)
GUARD = SqlGuard(SCHEMA)
STRICT = SqlGuard(SCHEMA, strict=True)
SPACED = SqlGuard(parse_schema('CREATE TABLE "order details" ("unit price" REAL, id INTEGER)'))


def read(text, guard=GUARD):
    """The state after the text, character by character; None where a character was refused."""
    state = guard.start
    for character in text:
        state = guard.after(state, character)
        if state is None:
            return None
    return state


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM singer",
        "select NAME from SINGER;",
        "SELECT T1.name, T2.title FROM singer AS T1 JOIN song AS T2 ON T1.singer_id = T2.singer_id",
        "SELECT singer.name FROM song JOIN singer ON song.singer_id = singer.singer_id WHERE title LIKE '%a''b%'",
        'SELECT title FROM song ORDER BY "play count" DESC LIMIT 3',
        'SELECT name FROM singer WHERE name = "Ann"',
        "SELECT COUNT(*), AVG(age) AS mean FROM singer GROUP BY name HAVING COUNT(*) > 1.5 ORDER BY mean",
        "SELECT name FROM singer WHERE singer_id NOT IN (SELECT singer_id FROM song WHERE age > 3)",
        "SELECT a.name FROM singer a WHERE EXISTS (SELECT 1 FROM song b WHERE b.singer_id = a.singer_id)",
        "SELECT name FROM singer UNION SELECT title FROM song",
        "SELECT t.name FROM (SELECT name FROM singer) AS t",
        "WITH old AS (SELECT name FROM singer WHERE age > 60) SELECT name FROM old",
        "SELECT T1.name FROM singer AS T1 JOIN singer AS T2 ON T1.age > T2.age",
        "SELECT CAST(age AS REAL) / 2, CASE WHEN age > 1 THEN 'x' ELSE NULL END FROM singer",
        "SELECT singer_id FROM singer JOIN song USING (singer_id)",
        "SELECT DISTINCT * FROM singer WHERE age BETWEEN 1 AND 2 AND name IS NOT NULL",
        "SELECT name FROM singer NATURAL JOIN song WHERE singer_id <> -1 LIMIT 2, 3",
        "SELECT name FROM singer GROUP BY name ORDER BY COUNT(*) DESC LIMIT 1 OFFSET 2",
        "SELECT name, RANK() OVER (PARTITION BY age ORDER BY name DESC) AS r FROM singer",
        "SELECT name FROM (SELECT COUNT(*) AS n, name FROM singer GROUP BY name) AS x WHERE x.n > 2",
    ],
)
def test_a_query_over_the_schema_is_legal(sql):
    for guard in (GUARD, STRICT):
        state = read(sql, guard)
        assert state is not None
        assert guard.may_end(state)


@pytest.mark.parametrize(
    ("start", "refused"),
    [
        ("SELECT ", "height"),
        ("SELECT name FROM ", "band"),
        ("SELECT name FROM sing ", ""),
        ("SELECT T1.title, T1.name", " "),
        ("SELECT T1.title FROM singer AS T1", " "),
        ("SELECT title FROM singer", " WHERE"),
        ("SELECT singer.title", " "),
        ("SELECT name FROM singer WHERE title", " "),
        ("SELECT name FROM singer AS T1 WHERE T2", "."),
        ("SELECT singer_id FROM singer JOIN song ON 1 = 1", " WHERE"),
        ("SELECT name FROM singer WHERE age > 3 ", "name"),
        ("SELECT LENGHT", "("),
        ("SELECT LENGTH ", "n"),
        ("SELECT name FROM singer)", ""),
        ("SELECT name FROM singer -", "-"),
        ("SELECT name FROM `band", "`"),
        ('SELECT name FROM "', "b"),
        ("SELECT (SELECT age FROM singer ORDER BY name", " FROM "),
        ("SELECT name FROM singer WHERE age > 3", " WHERE"),
        ("SELECT name FROM singer AND", " "),
        ("SELECT name FROM singer ", "'"),
        ("SELECT name FROM singer JOIN singer", " WHERE"),
        ("SELECT singer.name FROM singer JOIN singer", " ON"),
        ("SELECT singer_id FROM singer JOIN song", " ON"),
        ("SELECT name FROM singer JOIN song ON singer_id", " "),
        ("SELECT name 3", ""),
        ("SELECT name FROM singer WHERE age =", " )"),
        ("SELECT LENGTH(name, ", ""),
        ("SELECT t.age FROM (SELECT name FROM singer) AS t", " "),
        ("WITH singer", " "),
        ("SELECT name AS FROM", " "),
        ("SELECT name FROM singer LIMIT n", ""),
        ("SELECT age - singer.*", ""),
    ],
)
def test_what_the_schema_lacks_is_refused(start, refused):
    assert read(start + refused) is None


@pytest.mark.parametrize(
    ("start", "refused"),
    [
        ("SELECT name FROM singer WHERE ", "COUNT("),
        ("SELECT SUM(", "MAX("),
        ("SELECT name FROM singer ORDER BY ", "MAX("),
        ("SELECT name FROM singer ORDER BY ", "2"),
        ("SELECT name FROM singer UNION SELECT title", ","),
        ("SELECT name, age FROM singer UNION SELECT title FROM song", " WHERE"),
        ("SELECT name FROM singer WHERE singer_id IN (SELECT singer_id", ","),
        ("SELECT RANK()", " FROM"),
        ("SELECT age AS n, COUNT(*) FROM singer WHERE n", " "),
        ("SELECT RANK() OVER (ORDER BY ", "RANK("),
        ("SELECT RANK(", "age"),
        ("SELECT name FROM singer LIMIT 1", "."),
        ("SELECT name FROM singer WHERE age > 1.5", "."),
        ("W", "\u0131th"),  # a letter whose capital is an I
        ("SELECT age AS ", "$age "),
        ("SELECT name FROM singer WHERE name = '", "\0"),
        ("SELECT singer.name FROM singer RIGHT JOIN song ON TRUE ", "NATURAL"),
        ("SELECT 1 FROM singer JOIN (SELECT title FROM song) AS s ", "USING"),
    ],
)
def test_what_no_whole_query_can_have_is_refused(start, refused):
    assert read(start, STRICT) is not None
    assert read(start + refused, STRICT) is None


@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_at_random_runs(seed):
    draw = random.Random(seed)
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE singer (singer_id INTEGER, name TEXT, age INTEGER)")
        database.execute('CREATE TABLE song (song_id INTEGER, singer_id INTEGER, title TEXT, "play count" INTEGER)')
        whole = 0
        for _ in range(60):
            state, text = STRICT.start, ""
            for _ in range(draw.randrange(200)):
                word = draw.choice(WORDS)
                piece = draw.choice(("", " ")) + word + " " * (word[-1].isalnum())
                following = STRICT.after(state, piece)
                if following is not None:
                    state, text = following, text + piece
            end = ending(STRICT, state)
            if end is not None:
                whole += 1
                database.execute(f"EXPLAIN {text}{end}")
        assert whole >= 45


@pytest.mark.parametrize(
    "sql", ["SELECT", "SELECT name", "SELECT title FROM singer", "SELECT name FROM singer WHERE", ""]
)
def test_what_is_not_a_whole_query_cannot_end(sql):
    state = read(sql)
    assert state is not None
    assert not GUARD.may_end(state)


def test_a_column_may_be_called_as_a_function_is():
    guard = SqlGuard(parse_schema("CREATE TABLE sale (count INTEGER, date TEXT, rank INTEGER)"), strict=True)
    for sql in (
        "SELECT count, rank FROM sale WHERE date > '2020'",
        "SELECT COUNT(*), SUM(count), MAX(date(date)) FROM sale GROUP BY rank HAVING COUNT(count) > 1",
        "SELECT RANK() OVER (ORDER BY rank) FROM sale",
    ):
        state = read(sql, guard)
        assert state is not None
        assert guard.may_end(state)


def test_names_with_blanks():
    for sql in (
        'SELECT "order details"."unit price" FROM "order details" WHERE "order details".id = 1',
        "SELECT `unit price` FROM `order details`",
        'SELECT [unit price] FROM [order details] WHERE id = "a string"',
        """SELECT T1."unit price" FROM "order details" AS T1 WHERE T1.id = 'it''s'""",
    ):
        state = read(sql, SPACED)
        assert state is not None
        assert SPACED.may_end(state)
    for sql in ('SELECT "unit price" FROM "orders"', 'SELECT "order details"."price"', "SELECT T1.`price`"):
        assert read(sql, SPACED) is None


def test_the_demo_s_answers_are_legal_in_any_pieces():
    rows = [json.loads(line) for line in DEMO.read_text(encoding="utf-8").splitlines()][::4]
    for row in rows:
        guard = SqlGuard(parse_schema(row["context"]))
        whole = guard.after(guard.start, row["answer"])
        assert whole is not None
        assert str(whole) == str(read(row["answer"], guard))
        assert guard.may_end(whole)
