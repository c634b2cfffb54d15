"""Golds that are not fit to score answers."""

import pytest
from concert import CONTEXT

from sqlora.evaluation.gold_quality import BLIND, EMPTY, UNSTABLE, inspect_gold


@pytest.mark.parametrize(
    ("gold", "question", "faults"),
    [
        ("SELECT name FROM singer WHERE age > 30", "Who is older than 30?", {}),
        ("SELECT name FROM singer WHERE country = 'Peru , South'", "Who is from 'Peru, South'?", {}),
        ("SELECT name FROM singer WHERE name LIKE '%ann%'", 'Whose name has "Ann"?', {}),
        ("SELECT name FROM singer ORDER BY age LIMIT 3", "The 3 youngest?", {}),
        ("SELECT age, COUNT(*) FROM singer", "How many of which age?", {UNSTABLE: ""}),
        ("SELECT name FROM singer WHERE age > 30 AND age < 30", "Who?", {EMPTY: "on synthetic databases"}),
        ("SELECT name FROM singer", "Who is older than 30?", {BLIND: "30"}),
        ("SELECT name FROM singer WHERE country = 'Peru'", "Who is from 'Chile'?", {BLIND: "Chile"}),
        ("SELECT COUNT(*) FROM singer WHERE age = 30 OR 1 = 1", "How many are 30?", {BLIND: "30"}),
        ("SELECT nme FROM singer", "Who is older than 30?", {}),
        ("no query", "Who?", {}),
    ],
)
def test_what_is_wrong_with_a_gold(gold, question, faults):
    assert inspect_gold(CONTEXT, gold, question) == faults
