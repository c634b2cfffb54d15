"""Synthetic databases: repeatable, made of the queries' own constants, and with what tells queries apart."""

import itertools
import sys
from collections import Counter
from subprocess import run

import pytest

from sqlora.evaluation.gold_results import Gold
from sqlora.evaluation.synthetic_databases import Synthesiser
from sqlora.sql.parsing import parse_query, parse_schema
from sqlora.sql.sandbox import Database

SCHEMA = parse_schema(
    "CREATE TABLE singer (singer_id INTEGER, name VARCHAR, country VARCHAR, age VARCHAR, born DATE); "
    "CREATE TABLE song (song_id INTEGER, singer_id VARCHAR, title VARCHAR, price REAL)"
)
TABLES = {table.name: [column.name for column in table.columns] for table in SCHEMA.tables}


def make(*queries, seed="seed", number=20):
    return list(itertools.islice(Synthesiser(SCHEMA, [parse_query(query, SCHEMA) for query in queries], seed), number))


def column(databases, table, name):
    place = TABLES[table].index(name)
    return [row[place] for rows in databases for row in rows[table]]


def test_the_same_seed_makes_the_same_databases():
    query = "SELECT name FROM singer WHERE age > 30"
    assert make(query) == make(query)
    assert make(query) != make(query, seed="another")
    code = (
        f"import hashlib, runpy; make = runpy.run_path({__file__!r})['make']; "
        f"print(hashlib.sha256(repr(make({query!r})).encode()).hexdigest())"
    )
    # Sets and hashes of text differ between processes.
    assert (
        len({run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)})
        == 1
    )


def test_rows_fit_the_schema_and_sizes_vary():
    databases = make("SELECT * FROM singer")
    for rows in databases:
        assert {table: {len(row) for row in stored} for table, stored in rows.items()} == {"singer": {5}}
    assert len({len(rows["singer"]) for rows in databases}) > 4
    assert max(len(rows["singer"]) for rows in databases) <= 40


@pytest.mark.parametrize(
    ("condition", "name", "values"),
    [
        ("age > 30", "age", {29, 30, 31}),
        ("age BETWEEN 30 AND 40", "age", {29, 30, 31, 39, 40, 41}),
        ("age = '30'", "age", {29, 30, 31}),
        ("country = 'Peru'", "country", {"Peru", "pERU", "Per", "Perus"}),
        ('country IN ("Peru", "Chile")', "country", {"Peru", "Chile", "Chil"}),
        ("name LIKE '%ann%'", "name", {"ann", "zannz", "zann", "annz", "an"}),
        ("born < '2000-03-01'", "born", {"2000-02-29", "2000-03-01", "2000-03-02"}),
    ],
)
def test_constants_and_their_neighbours_are_there(condition, name, values):
    assert values <= set(column(make(f"SELECT name, age, born FROM singer WHERE {condition}"), "singer", name))


def test_the_constants_of_both_queries_are_there():
    ages = column(
        make("SELECT name FROM singer WHERE age > 30", "SELECT name FROM singer WHERE age > 70"), "singer", "age"
    )
    assert {30, 31, 70, 71} <= set(ages)


def test_there_are_nulls_but_not_in_a_table_s_own_key():
    databases = make("SELECT * FROM singer JOIN song ON singer.singer_id = song.singer_id")
    assert None in column(databases, "singer", "name")
    assert None in column(databases, "song", "singer_id")
    assert None not in column(databases, "singer", "singer_id")
    assert any(None not in column([rows], "singer", "name") for rows in databases)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT T1.name FROM singer AS T1 JOIN song AS T2 ON T1.singer_id = T2.singer_id WHERE T1.country = 'Peru' "
        "AND T2.price > 9",
        "SELECT name FROM singer WHERE country = 'Peru' AND age > 30 AND name LIKE 'A%' AND born > '1990-01-01'",
        "SELECT country FROM singer WHERE age > 50 INTERSECT SELECT country FROM singer WHERE age < 20",
        "SELECT country FROM singer GROUP BY country HAVING COUNT(*) > 12",
        "SELECT name FROM singer WHERE singer_id IN (SELECT singer_id FROM song WHERE title = 'One')",
        "SELECT country FROM singer EXCEPT SELECT country FROM singer WHERE age > 30",
        "SELECT country FROM singer GROUP BY country HAVING AVG(age) > 30 AND COUNT(*) >= 3",
    ],
)
def test_queries_find_rows_on_some_databases_and_leave_some(query):
    gold = Gold(parse_query(query, SCHEMA), SCHEMA)
    found = []
    for rows in make(query, number=40):
        with Database(SCHEMA, rows) as database:
            found.append(len(gold.allowed(database).choices))
    assert sum(map(bool, found)) >= 4


def test_a_group_s_other_columns_are_single_valued_on_some_databases():
    query = "SELECT name, COUNT(*) FROM singer GROUP BY country"
    databases = make(query)
    single = 0
    for rows in databases:
        names = {}
        for row in rows["singer"]:
            names.setdefault(row[2], set()).add(row[1])
        single += all(len(found) == 1 for found in names.values())
    assert single >= 5


def test_columns_that_no_query_names_are_left_empty():
    assert set(column(make("SELECT name FROM singer"), "singer", "country")) == {None}
    assert set(column(make("SELECT * FROM singer"), "singer", "country")) != {None}


CONSTRAINED = """CREATE TABLE song (id INTEGER PRIMARY KEY, singer INT NOT NULL REFERENCES singer (id),
    title TEXT UNIQUE, genre TEXT DEFAULT 'pop' CHECK (genre IN ('pop', 'rock')));
CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, mentor INT REFERENCES singer (id));
CREATE TABLE chart (week INT, place INT, song INT, PRIMARY KEY (week, place), FOREIGN KEY (song) REFERENCES song (id));
CREATE TABLE unused (a INT)"""


def test_rows_keep_the_constraints_that_are_declared():
    schema = parse_schema(CONSTRAINED)
    text = (
        "SELECT * FROM singer JOIN song ON singer.id = song.singer JOIN chart ON chart.song = song.id "
        "WHERE singer.id > 3 AND week = 2 AND genre = 'rock'"
    )
    synthesiser = Synthesiser(schema, [parse_query(text, schema)], "seed")
    assert [table.name for table in synthesiser.schema.tables] == ["singer", "song", "chart"]
    genres, mentors = set(), set()
    databases = list(itertools.islice(synthesiser, 20))
    for rows in databases:
        singers, songs, chart = (rows[name] for name in ("singer", "song", "chart"))
        for stored, key in ((singers, slice(1)), (songs, slice(1)), (songs, slice(2, 3)), (chart, slice(2))):
            keys = [row[key] for row in stored if None not in row[key]]
            assert len(set(keys)) == len(keys)
        ids = {singer[0] for singer in singers}
        assert all(song[0] is not None and song[1] in ids for song in songs)
        assert all(singer[1] is not None and singer[2] in {None, *ids} for singer in singers)
        assert {row[2] for row in chart} <= {None, *(song[0] for song in songs)}
        genres |= {song[3] for song in songs}
        mentors |= {singer[2] for singer in singers}
    assert genres == {"pop", "rock", None}
    assert len(mentors) > 3
    assert sum(map(len, (rows["chart"] for rows in databases))) > 60


def test_without_declared_keys_values_are_repeated():
    assert any(
        len(set(ids)) < len(ids) for rows in make("SELECT name FROM singer") for ids in [[r[0] for r in rows["singer"]]]
    )


def test_a_key_that_is_tested_for_null_is_not_null():
    """As in a LEFT JOIN's query for what has no counterpart."""
    schema = parse_schema(CONSTRAINED)
    text = "SELECT name FROM singer LEFT JOIN song ON singer.id = song.singer WHERE song.id IS NULL AND singer.id > 3"
    databases = itertools.islice(Synthesiser(schema, [parse_query(text, schema)], "seed"), 30)
    assert None not in [song[0] for rows in databases for song in rows["song"]]


def test_a_key_of_several_columns_leaves_groups_of_many():
    schema = parse_schema("CREATE TABLE flight (airline INT, number INT, PRIMARY KEY (airline, number))")
    query = parse_query("SELECT airline FROM flight GROUP BY airline HAVING COUNT(*) > 10", schema)
    groups = set()
    for rows in itertools.islice(Synthesiser(schema, [query], "seed"), 40):
        assert len(set(rows["flight"])) == len(rows["flight"])
        groups |= set(Counter(airline for airline, _ in rows["flight"]).values())
    assert {10, 11} <= groups
