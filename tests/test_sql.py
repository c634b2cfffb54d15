"""The normal form of a query."""

import random

import pytest

from sqlora.sql import exact_match, normalise_sql


@pytest.mark.parametrize(("one", "other"), [
    ("SELECT a FROM t", "select  A\nfrom T ;"),
    ("SELECT COUNT(*) FROM t WHERE a>5", "SELECT count( * ) FROM t WHERE a > 5"),
    ("SELECT a FROM t WHERE b != 'X'", "SELECT a FROM t WHERE b<>'X'"),
    ("SELECT a, b FROM t", "SELECT a ,b FROM t -- both"),
    ("SELECT a FROM t GROUP BY a", "SELECT a FROM t group  by\ta ; ; -- done"),
    ("SELECT 'it''s'", "select 'it''s';"),
    ("SELECT T1.a FROM t AS T1", "SELECT t1 . A FROM t AS t1"),
])
def test_layout_makes_no_difference(one, other):
    assert exact_match(one, other)


@pytest.mark.parametrize(("one", "other"), [
    ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = 'X'"),
    ("SELECT a FROM t WHERE b = 'x'", 'SELECT a FROM t WHERE b = "x"'),
    ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = x"),
    ("SELECT a FROM t WHERE b = N'x'", "SELECT a FROM t WHERE b = x"),
    ("SELECT a FROM t WHERE b = 'x y'", "SELECT a FROM t WHERE b = 'x  y'"),
    ("SELECT `A b` FROM t", "SELECT `a b` FROM t"),
    ("SELECT a FROM t WHERE b = '5'", "SELECT a FROM t WHERE b = 5"),
    ("SELECT a FROM t WHERE b > 5", "SELECT a FROM t WHERE b >= 5"),
    ("SELECT a FROM t WHERE b = 'it's X'", "SELECT a FROM t WHERE b = 'it's x'"),
    ("SELECT a FROM t", "SELECT a FROM t LIMIT 1"),
    ("SELECT a FROM t", ""),
    ("SELECT a FROM t", None),
    (None, None),
])
def test_what_changes_the_query_does(one, other):
    assert not exact_match(one, other)


def test_any_text_has_a_normal_form():
    generator = random.Random(0)
    for _ in range(2000):
        text = "".join(generator.choices("'\"`;-/*#@${}[]()\\ \nselect0xN\x00é\ud800", k=generator.randint(0, 40)))
        assert isinstance(normalise_sql(text), str)
    for text in ("(" * 50_000, "'" * 50_001, "/*" * 50_000, ""):
        normalise_sql(text)
    assert normalise_sql(" 'open \n Quote ;") == "'open Quote"
