"""Mutants: one edit each, none that means the same, and none that changes the query that it is made of."""

import pytest

from sqlora.evaluation.judge import judge_prediction
from sqlora.evaluation.mutants import KINDS, mutants
from sqlora.sql.parsing import parse_query, parse_schema, to_sqlite

CONTEXT = (
    "CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, age INTEGER, born DATE); "
    "CREATE TABLE song (id INTEGER PRIMARY KEY, singer INTEGER REFERENCES singer (id), title TEXT)"
)
SCHEMA = parse_schema(CONTEXT)


def of(text, most=None):
    query = parse_query(text, SCHEMA)
    before = to_sqlite(query)
    made = [(kind, to_sqlite(mutant)) for kind, mutant in mutants(query, SCHEMA, most)]
    assert to_sqlite(query) == before
    assert before not in [sql for _, sql in made]
    return made


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("SELECT name FROM singer LIMIT 3", "literal", ["SELECT name FROM singer LIMIT 4"]),
        (
            "SELECT name FROM singer WHERE name LIKE '%an%'",
            "literal",
            ["SELECT name FROM singer WHERE name LIKE '%anx%'"],
        ),
        (
            "SELECT name FROM singer WHERE STRFTIME('%Y', born) = '0099'",
            "literal",
            ["SELECT name FROM singer WHERE STRFTIME('%Y', born) = '0100'"],
        ),
        (
            "SELECT name FROM singer WHERE age > 3",
            "comparison",
            ["SELECT name FROM singer WHERE age >= 3", "SELECT name FROM singer WHERE age < 3"],
        ),
        ("SELECT name FROM singer WHERE age > 3", "dropped condition", ["SELECT name FROM singer"]),
        (
            "SELECT name FROM singer",
            "column",
            ["SELECT age FROM singer", "SELECT born FROM singer", "SELECT id FROM singer"],
        ),
        ("SELECT MAX(age) FROM singer", "aggregate", ["SELECT MIN(age) FROM singer"]),
        (
            "SELECT name, COUNT(*) FROM singer GROUP BY id",
            "group key",
            ["SELECT name, COUNT(*) FROM singer GROUP BY name"],
        ),
        ("SELECT DISTINCT name FROM singer", "DISTINCT", ["SELECT name FROM singer"]),
        ("SELECT COUNT(DISTINCT name) FROM singer", "DISTINCT", ["SELECT COUNT(name) FROM singer"]),
        ("SELECT name FROM singer ORDER BY age", "DESC/ASC", ["SELECT name FROM singer ORDER BY age DESC"]),
        (
            "SELECT name FROM singer WHERE age = 3 OR age = 5",
            "AND/OR",
            ["SELECT name FROM singer WHERE age = 3 AND age = 5"],
        ),
    ],
)
def test_the_mutants_of_a_kind(text, kind, expected):
    assert [sql for found, sql in of(text) if found == kind] == expected


def test_join_keys_become_other_columns_of_their_tables():
    text = "SELECT title FROM singer AS a JOIN song AS b ON a.id = b.singer"
    made = [sql for kind, sql in of(text) if kind == "join key"]
    assert len(made) == 5
    assert "SELECT title FROM singer AS a JOIN song AS b ON a.name = b.singer" in made


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SELECT DISTINCT id FROM singer", "DISTINCT"),  # a key
        ("SELECT COUNT(id) FROM singer", "DISTINCT"),
        ("SELECT name FROM singer WHERE id = 3 AND age > 4", "DISTINCT"),  # one row
        ("SELECT id FROM singer WHERE id IN (SELECT DISTINCT singer FROM song)", "DISTINCT"),
        ("SELECT name FROM singer WHERE age = (SELECT MAX(age) FROM singer LIMIT 1)", "literal"),
        ("SELECT COUNT(CASE WHEN age > born THEN 1 END) FROM singer", "literal"),
        ("SELECT COUNT(name) FROM singer", "column"),  # only NULLs would tell
    ],
)
def test_what_means_the_same_is_no_mutant(text, kind):
    assert kind not in {found for found, _ in of(text)}


def test_each_kind_has_its_share():
    text = "SELECT name, age, born FROM singer WHERE age > 3 AND age < 9 AND name <> 'x' AND born > '2001-01-01'"
    counts = [[kind for kind, _ in of(text, 2)].count(kind) for kind in KINDS]
    assert max(counts) == 2
    assert counts[:4] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("gold", "survivor"),
    [
        ("SELECT name FROM singer WHERE age > 3", ""),
        ("SELECT name FROM singer WHERE id = 3", ""),
        ("SELECT name FROM singer LIMIT 200", "another literal gives the same: SELECT name FROM singer LIMIT 201"),
    ],
)
def test_a_match_names_the_mutant_that_it_could_have_been(gold, survivor):
    verdict = judge_prediction(CONTEXT, gold, gold.replace("name", "singer.name"))
    assert verdict.verdict == "match"
    assert verdict.unproven.startswith(survivor)
    assert bool(verdict.unproven) == bool(survivor)
