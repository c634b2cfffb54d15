"""The normal form of a query."""

import random

import pytest

from sqlora.sql import exact_match, normalise_sql


@pytest.mark.parametrize(("one", "other"), [
    ("SELECT a FROM t", "select  A\nfrom T ;"),
    ("SELECT COUNT(*) FROM t WHERE a>5", "SELECT count( * ) FROM t WHERE a > 5"),
    ("SELECT a FROM t WHERE b != 'X'", "SELECT a FROM t WHERE b <> 'X'"),
    ("SELECT a, b FROM t", "SELECT a ,b FROM t -- both"),
    ("SELECT 'it''s'", "select 'it''s';"),
])
def test_layout_makes_no_difference(one, other):
    assert exact_match(one, other)


@pytest.mark.parametrize(("one", "other"), [
    ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = 'X'"),
    ("SELECT a FROM t WHERE b = 'x'", 'SELECT a FROM t WHERE b = "x"'),
    ("SELECT a FROM t WHERE b = 'x y'", "SELECT a FROM t WHERE b = 'x  y'"),
    ("SELECT a FROM t WHERE b = '5'", "SELECT a FROM t WHERE b = 5"),
    ("SELECT a FROM t WHERE b > 5", "SELECT a FROM t WHERE b >= 5"),
    ("SELECT a FROM t", "SELECT a FROM t LIMIT 1"),
    ("SELECT a FROM t", ""),
    ("SELECT a FROM t", None),
    (None, None),
])
def test_what_changes_the_query_does(one, other):
    assert not exact_match(one, other)


def test_any_text_has_a_normal_form():
    generator = random.Random(0)
    for _ in range(500):
        normalise_sql("".join(generator.choices("'\"`;-/*#@${}[]()\\ \nselect\x00é", k=generator.randint(0, 40))))
    assert normalise_sql("'open  Quote") == "'open quote"
