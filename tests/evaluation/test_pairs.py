"""A pair on its databases: how many are enough, and what is shown of a difference."""

import pytest
from concert import CONTEXT

from sqlora.evaluation import pairs
from sqlora.evaluation.gold_results import Gold
from sqlora.evaluation.metrics import Verdict
from sqlora.evaluation.rules import RULES, STRICT, rule_of
from sqlora.sql.parsing import parse_query, parse_schema

SCHEMA = parse_schema(CONTEXT)


def pair(gold, prediction, **facts):
    query = parse_query(gold, SCHEMA)
    return pairs.Pair(
        Gold(query, SCHEMA), parse_query(prediction, SCHEMA), SCHEMA, "seed", Verdict("match", **facts), None
    )


def databases_used(monkeypatch, of):
    made = 0

    class Counting(pairs.Database):
        def refill(self, rows):
            nonlocal made
            made += 1
            super().refill(rows)

    monkeypatch.setattr(pairs, "Database", Counting)
    verdict = of.judge(STRICT, shrinks=False)
    return made, verdict


def test_a_match_ends_when_the_gold_differs_from_its_mutants(monkeypatch):
    query = "SELECT name FROM singer WHERE age > 30"
    made, verdict = databases_used(monkeypatch, pair(query, f"{query} AND 1 = 1"))
    assert (made, verdict.verdict, verdict.unproven) == (pairs.DATABASES, "match", "")


def test_a_match_goes_on_while_a_mutant_is_alive(monkeypatch):
    query = "SELECT name FROM singer LIMIT 300"
    made, verdict = databases_used(monkeypatch, pair(query, f"{query} OFFSET 0"))
    assert made == pairs.MOST_DATABASES
    assert verdict.unproven == "another literal gives the same: SELECT name FROM singer LIMIT 301"


def test_a_mismatch_is_shown_on_few_rows():
    of = pair("SELECT DISTINCT country FROM singer", "SELECT country FROM singer")
    whole, shrunk = (of.judge(STRICT, shrinks=shrinks).difference for shrinks in (False, True))
    assert len(shrunk.database["singer"]["rows"]) == 2 <= len(whole.database["singer"]["rows"])
    assert shrunk.expected != shrunk.predicted


@pytest.mark.parametrize("rule", RULES)
def test_a_gold_that_fails_is_unscorable_by_every_rule(rule):
    gold = "SELECT name FROM singer ORDER BY 9"
    query = parse_query(gold, SCHEMA)
    of = pairs.Pair(Gold(query, SCHEMA), query, SCHEMA, "seed", Verdict("match"), None)
    assert of.judge(rule).verdict == "unscorable"


def test_a_group_of_many_is_judged_as_it_is_stored_by_the_published_rules():
    gold = "SELECT id FROM singer GROUP BY country HAVING COUNT(*) > 2"
    of = pair(gold, gold.replace("id", "singer.id"))
    assert of.judge(STRICT).why == pairs.UNDETERMINED
    found = of.judge(rule_of("bird"))
    assert (found.verdict, found.non_empty) == ("match", True)


@pytest.mark.parametrize("rule", RULES)
def test_where_the_order_of_storage_decides_a_prediction_must_be_wrong_in_any(rule):
    gold = "SELECT name FROM singer WHERE id IN (SELECT id FROM singer ORDER BY age DESC LIMIT 1)"
    assert pair(gold, gold.replace("id IN", "singer.id =")).judge(rule).verdict == "match"
    found = pair(gold, "SELECT name FROM singer WHERE age = (SELECT MAX(age) FROM singer)").judge(rule)
    assert found.verdict == "mismatch"
    assert len(found.difference.database["singer"]["rows"]) == 2
