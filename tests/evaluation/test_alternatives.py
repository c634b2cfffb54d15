"""Golds with alternatives: any of them is right."""

import pytest
from concert import CONTEXT

from sqlora.evaluation.alternatives import alternatives
from sqlora.evaluation.judge import judge_prediction


@pytest.mark.parametrize(
    ("gold", "queries"),
    [
        ("SELECT a FROM t;", ["SELECT a FROM t;"]),
        ("SELECT a FROM t; SELECT b FROM u ;", ["SELECT a FROM t", " SELECT b FROM u "]),
        ("SELECT ';' FROM t; SELECT '{a,b}'", ["SELECT ';' FROM t", " SELECT '{a,b}'"]),
        ("SELECT {a, b} FROM t", ["SELECT a FROM t", "SELECT  b FROM t", "SELECT a, b FROM t"]),
        ("SELECT {a,b}, c FROM t GROUP BY {}", [f"SELECT {x}, c FROM t GROUP BY {x}" for x in ("a", "b", "a,b")]),
        ("SELECT { FROM t", ["SELECT { FROM t"]),
        ("", [""]),
        (";", [";"]),
        ("'", ["'"]),
    ],
)
def test_the_queries_that_a_gold_stands_for(gold, queries):
    assert alternatives(gold) == queries


@pytest.mark.parametrize(
    ("gold", "prediction", "verdict"),
    [
        ("SELECT {id, name} FROM singer", "SELECT name FROM singer", "match"),
        ("SELECT {id, name} FROM singer", "SELECT singer.id, singer.name FROM singer", "match"),
        ("SELECT {id, name} FROM singer", "SELECT age FROM singer", "mismatch"),
        ("SELECT name FROM singer; SELECT title FROM song", "SELECT title FROM song", "match"),
        ("SELECT nme FROM singer; SELECT title FROM song", "SELECT id FROM song", "mismatch"),
        ("SELECT nme FROM singer; SELECT ttle FROM song", "SELECT id FROM song", "unscorable"),
        ("SELECT {id, name} FROM singer", "SELECT", "invalid"),
    ],
)
def test_any_alternative_is_right(gold, prediction, verdict):
    assert judge_prediction(CONTEXT, gold, prediction).verdict == verdict


def test_each_rule_takes_its_own_alternative():
    gold = "SELECT age FROM singer; SELECT DISTINCT country FROM singer"
    found = judge_prediction(CONTEXT, gold, "SELECT country FROM singer")
    assert [found.under(rule) for rule in ("strict", "test-suite", "bird")] == ["mismatch", "match", "match"]
