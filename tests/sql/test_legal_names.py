"""Which text may continue a query: nothing that its schema lacks, and every beginning can be finished."""

import json
from pathlib import Path

import pytest

from sqlora.sql.legal_names import NameGuard
from sqlora.sql.parsing import parse_schema

DEMO = Path(__file__).parents[2] / "demo" / "test.jsonl"
SCHEMA = parse_schema(
    "CREATE TABLE singer (singer_id INTEGER, name TEXT, age INTEGER); "
    'CREATE TABLE song (song_id INTEGER, singer_id INTEGER, title TEXT, "play count" INTEGER)'
)
GUARD = NameGuard(SCHEMA)
SPACED = NameGuard(parse_schema('CREATE TABLE "order details" ("unit price" REAL, id INTEGER)'))


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
    ],
)
def test_a_query_over_the_schema_is_legal(sql):
    state = read(sql)
    assert state is not None
    assert GUARD.may_end(state)


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
    ],
)
def test_what_the_schema_lacks_is_refused(start, refused):
    assert read(start + refused) is None


@pytest.mark.parametrize(
    "sql", ["SELECT", "SELECT name", "SELECT title FROM singer", "SELECT name FROM singer WHERE", ""]
)
def test_what_is_not_a_whole_query_cannot_end(sql):
    state = read(sql)
    assert state is not None
    assert not GUARD.may_end(state)


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
        guard = NameGuard(parse_schema(row["context"]))
        whole = guard.after(guard.start, row["answer"])
        assert whole is not None
        assert str(whole) == str(read(row["answer"], guard))
        assert guard.may_end(whole)
