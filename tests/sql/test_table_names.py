"""Tables' names in place of aliases, where the query means the same."""

import json
from pathlib import Path

import pytest

from sqlora.evaluation import judge
from sqlora.sql.parsing import exact_match
from sqlora.sql.table_names import without_aliases

DEMO = Path(__file__).parents[2] / "demo" / "test.jsonl"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT T1.a FROM x AS T1", "SELECT x.a FROM x"),
        ('SELECT t1.a, T2.* FROM x t1 JOIN "y z" t2 ON T1.i = 1', 'SELECT x.a, "y z".* FROM x JOIN "y z" ON x.i = 1'),
        ("SELECT a FROM x AS T1 WHERE b = 'T1.c'", "SELECT a FROM x WHERE b = 'T1.c'"),
        ("SELECT T1.a FROM x AS T1 JOIN y AS x ON T1.i = x.i", "SELECT T1.a FROM x AS T1 JOIN y ON T1.i = y.i"),
        ("SELECT T1.a FROM x T1 UNION SELECT T1.b FROM y T1", "SELECT x.a FROM x UNION SELECT y.b FROM y"),
        (
            "SELECT 1 FROM x T1 WHERE T1.b > (SELECT MAX(T1.c) FROM y T1)",
            "SELECT 1 FROM x WHERE x.b > (SELECT MAX(y.c) FROM y)",
        ),
        ("WITH c AS (SELECT T1.a FROM x T1) SELECT t.a FROM c AS t", "WITH c AS (SELECT x.a FROM x) SELECT c.a FROM c"),
    ],
)
def test_an_alias_goes(sql, expected):
    assert without_aliases(sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT T1.a FROM x AS T1 JOIN x AS T2 ON T1.i = T2.j",
        "SELECT T.a FROM (SELECT a FROM x) AS T",
        "SELECT T1.a FROM s.x AS T1",
        "SELECT T1.a FROM x /* here */ AS T1",
        "SELECT a FROM x WHERE EXISTS (SELECT 1 FROM x AS T2 WHERE T2.i = x.i)",
        "SELECT T1.a FROM",
        "",
    ],
)
def test_what_stays(sql):
    assert without_aliases(sql) == sql


def test_of_two_that_would_be_one_the_outer_stays():
    sql = "SELECT T1.a FROM x AS T1 WHERE EXISTS (SELECT 1 FROM x AS T2 WHERE T2.i = T1.i)"
    assert without_aliases(sql) == "SELECT T1.a FROM x AS T1 WHERE EXISTS (SELECT 1 FROM x WHERE x.i = T1.i)"


def test_queries_that_differ_in_aliases_alone_match_exactly():
    aliased = "SELECT T1.a FROM x AS T1 JOIN y AS T2 ON T1.i = T2.i"
    assert exact_match("SELECT x.a FROM x JOIN y ON x.i = y.i", aliased)
    assert exact_match(aliased.replace("T1", "s"), aliased)
    assert not exact_match("SELECT y.a FROM x JOIN y ON x.i = y.i", aliased)


def test_in_another_dialect():
    assert without_aliases("SELECT t.a::int FROM x AS t", "postgres") == "SELECT x.a::int FROM x"


def test_the_demo_s_answers_mean_the_same():
    rows = [json.loads(line) for line in DEMO.read_text(encoding="utf-8").splitlines()]
    changed = [row | {"prediction": new} for row in rows if (new := without_aliases(row["answer"])) != row["answer"]]
    assert {verdict.verdict for verdict in judge.score(changed[:40])} <= {"match"}
