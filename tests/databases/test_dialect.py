"""What a model writes, spelled so that each kind of database takes it and gives the same rows."""

import pytest

from sqlora.databases import dialect
from sqlora.databases.live import LiveDatabase
from sqlora.sql import sandbox
from sqlora.sql.schema import Column, Schema, Table

QUERIES = {  # as a model writes them, with the rows that every database gives
    "SELECT COUNT(*) FROM singer": [(3,)],
    "SELECT NAME FROM Singer WHERE AGE > 20": [("Ann",)],
    'SELECT name FROM singer WHERE name = "Ann"': [("Ann",)],
    "SELECT title FROM song ORDER BY songid": [("One",), ("It's",), ('Drei \\ "x"',)],
    'SELECT Title FROM Song WHERE "play count" > 5 ORDER BY "order"': [("One",), ("It's",)],
    "SELECT T1.name, COUNT(*) FROM singer AS T1 JOIN song AS T2 ON t1.SINGER_ID = t2.singer_id GROUP BY T1.name ORDER "
    "BY T1.name": [
        ("Ann", 2),
        ("Bo", 1),
    ],
    "SELECT Song.TITLE FROM song JOIN singer ON SONG.singer_id = singer.singer_id WHERE singer.name = 'Bo'": [
        ('Drei \\ "x"',)
    ],
    "SELECT x.SONGID FROM (SELECT SongId FROM Song WHERE title = 'One') AS x": [(1,)],
    "WITH loud AS (SELECT title AS T FROM song) SELECT COUNT(t) FROM loud": [(3,)],
    "SELECT name FROM singer WHERE singer_id IN (SELECT SINGER_ID FROM SONG)": [("Ann",), ("Bo",)],
    "SELECT title FROM song WHERE title LIKE '%e' UNION SELECT name FROM singer WHERE age < 18 ORDER BY TITLE": [
        ("Bo",),
        ("One",),
    ],
    "SELECT name FROM singer WHERE NOT age IS NULL ORDER BY age DESC LIMIT 1": [("Ann",)],
    "SELECT MAX(age) - MIN(age) FROM singer": [(14,)],
    "SELECT name AS title FROM singer ORDER BY title DESC LIMIT 1": [("Cy",)],
    "SELECT singer_id FROM singer EXCEPT SELECT singer_id FROM song": [(3,)],
}


@pytest.fixture(scope="module")
def live(server):
    with LiveDatabase(server.reader, 10) as live:
        yield live


@pytest.mark.parametrize("sql", QUERIES)
def test_the_same_rows_everywhere(live, sql):
    query, text = sandbox.prepare(sql, live.schema)
    if live.reflected.dialect != "sqlite":
        text = dialect.translate(query, live.schema, live.reflected.dialect, live.reflected.quoted)
    live.check(text)
    rows = live.run(text)[0].rows
    assert (rows if "ORDER BY" in sql else sorted(rows)) == QUERIES[sql]


def test_names_are_quoted_only_at_need():
    schema = Schema((Table("Song", (Column("Title", "text"), Column("year", "integer"))),))
    query, _ = sandbox.prepare("SELECT title FROM song WHERE YEAR > 2000", schema)
    written = dialect.translate(query, schema, "postgres", frozenset({"Song", "Title"}))
    assert written == 'SELECT "Title" FROM "Song" WHERE year > 2000'
