"""The rules: which results each accepts, and what each forgives."""

import pytest

from sqlora.evaluation.gold_results import Allowed, Choice, Gold
from sqlora.evaluation.judge import Scoring, judge_prediction, score
from sqlora.evaluation.rules import RULES, without_distinct
from sqlora.sql.parsing import parse_query, parse_schema
from sqlora.sql.sandbox import Database, QueryResult

CONTEXT = (
    "CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, age INTEGER, country TEXT); "
    "CREATE TABLE song (id INTEGER PRIMARY KEY, singer INTEGER REFERENCES singer (id), title TEXT)"
)


def accepted(allowed, rows):
    result = QueryResult(tuple("abc"[: len(rows[0]) if rows else 1]), rows)
    return tuple(rule.accepts(allowed, result) for rule in RULES)


@pytest.mark.parametrize(
    ("expected", "rows", "verdicts"),
    [
        ([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], (True, True, True)),
        ([(1, "a"), (2, "b")], [("a", 1), ("b", 2)], (False, True, False)),
        ([(1, "a"), (2, "b")], [("a", 2), ("b", 1)], (False, False, False)),
        ([(1, 2), (2, 1)], [(2, 1), (1, 2)], (True, True, True)),
        ([(1, 2), (1, 3)], [(2, 1), (3, 1)], (False, True, False)),
        ([(1,), (1,)], [(1,)], (False, False, True)),
        ([(1,)], [(1,), (2,)], (False, False, False)),
        ([(1,)], [(1, 1)], (False, False, False)),
        ([(0.1 + 0.2, "a")], [("a", 0.3)], (False, True, False)),
        ([(1, 2.0)], [(2, 1.0)], (False, True, False)),
        ([(None, 1)], [(1, None)], (False, True, False)),
        ([], [], (True, True, True)),
        ([], [(1,)], (False, False, False)),
        ([(1,)], [], (False, False, False)),
    ],
)
def test_what_each_rule_accepts(expected, rows, verdicts):
    assert accepted(Allowed([Choice(expected, len(expected))] if expected else []), rows) == verdicts


def test_a_set_through_a_tie():
    """LIMIT 2 over one row that must come, twice, and two that tie."""
    allowed = Allowed([Choice([(1,), (1,)], 2), Choice([(2,), (3,)], 1)])
    assert accepted(allowed, [(1,), (3,)]) == (False, False, True)
    assert accepted(allowed, [(1,), (2,), (3,)]) == (False, False, False)
    assert accepted(allowed, [(2,)]) == (False, False, False)


def test_many_columns_that_are_alike_end_soon():
    rows = [tuple(range(10))] * 3
    assert accepted(Allowed([Choice(rows, 3)]), [tuple(reversed(row)) for row in rows])[1]
    same = [tuple([1] * 12)]
    assert not accepted(Allowed([Choice([(*same[0][:-1], 2)], 1)]), same)[1]


def test_distinct_is_dropped_from_queries_and_aggregates():
    schema = parse_schema(CONTEXT)
    query = parse_query("SELECT DISTINCT name, COUNT(DISTINCT age) FROM singer WHERE id IN (SELECT DISTINCT 1)", schema)
    text = Gold(without_distinct(query), schema).sql
    assert text == "SELECT name, COUNT(age) FROM singer WHERE id IN (SELECT 1)"
    assert query.args["distinct"]


@pytest.mark.parametrize(
    ("gold", "prediction", "verdicts"),
    [
        ("SELECT name, age FROM singer", "SELECT age, name FROM singer", ("mismatch", "match", "mismatch")),
        ("SELECT DISTINCT country FROM singer", "SELECT country FROM singer", ("mismatch", "match", "match")),
        ("SELECT COUNT(*) FROM singer", "SELECT COUNT(name) FROM singer", ("mismatch", "match", "match")),
        ("SELECT name FROM singer WHERE age > 3", "SELECT name FROM singer WHERE age >= 3", ("mismatch",) * 3),
        ("SELECT name FROM singer", "SELECT names FROM singer", ("invalid",) * 3),
        ("SELECT name FROM singer", "select name from singer", ("match",) * 3),
        (
            "SELECT id FROM singer WHERE id NOT IN (SELECT singer FROM song)",
            "SELECT id FROM singer EXCEPT SELECT singer FROM song",
            ("mismatch", "match", "match"),
        ),
        # A column that the gold tests for NULL has it by each rule.
        (
            "SELECT name FROM singer WHERE age IS NULL OR age > 3",
            "SELECT name FROM singer WHERE age > 3",
            ("mismatch",) * 3,
        ),
    ],
)
def test_verdicts_by_rule(gold, prediction, verdicts):
    verdict = judge_prediction(CONTEXT, gold, prediction)
    assert tuple(verdict.under(rule.name) for rule in RULES) == verdicts
    assert verdict.verdict == verdicts[0]


def test_distinct_may_be_kept():
    row = {
        "context": CONTEXT,
        "answer": "SELECT DISTINCT country FROM singer",
        "prediction": "SELECT country FROM singer",
    }
    for keeps, expected in ((False, "match"), (True, "mismatch")):
        (verdict,) = score([row], scoring=Scoring("test-suite", keeps))
        assert verdict.verdict == expected
        assert (verdict.difference is None) == (expected == "match")


def test_columns_count_where_there_is_no_row():
    gold = "SELECT name FROM singer WHERE age > 3 AND age < 3"
    verdict = judge_prediction(CONTEXT, gold, "SELECT name, age FROM singer WHERE age > 3 AND age < 3")
    assert verdict.verdict == verdict.under("bird") == "mismatch"
    assert "2 columns instead of 1" in verdict.why


@pytest.mark.parametrize(
    ("gold", "proven"),
    [
        ("SELECT name FROM singer WHERE age > 3 AND age < 3", False),
        ("SELECT COUNT(*) FROM singer WHERE age > 3 AND age < 3", False),
        ("SELECT name FROM singer WHERE age > 3", True),
    ],
)
def test_a_match_that_nothing_could_have_told_apart_is_unproven(gold, proven):
    assert judge_prediction(CONTEXT, gold, gold.replace("name", "singer.name")).unproven == (
        "" if proven else "the gold gives nothing, 0 or NULL on every database"
    )


def test_the_databases_of_the_published_rules_have_null_where_it_is_tested():
    from sqlora.evaluation.synthetic_databases import Synthesiser

    schema = parse_schema(CONTEXT)
    query = parse_query("SELECT name, country FROM singer WHERE age IS NOT NULL AND name <> 'x'", schema)
    databases = [
        rows for rows, _ in zip(Synthesiser(schema, [query], "seed", nulls_anywhere=False), range(20), strict=False)
    ]
    columns = list(zip(*(row for rows in databases for row in rows["singer"]), strict=True))
    assert [None in values for values in columns] == [False, False, True, False]
    with Database(schema, databases[0]) as database:
        assert database.run("SELECT COUNT(*) FROM singer").rows
