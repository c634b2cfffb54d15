"""Shapes of queries and their shares."""

import random

import pytest
import sqlglot

from sqlora.synthesis.shapes import SPIDER, held_out_shapes, learned_shares, shape_of

QUERIES = {
    "SELECT a FROM t": "1",
    "SELECT a FROM t WHERE b = 1 UNION SELECT c FROM u": "1 where union",
    "SELECT DISTINCT a FROM t JOIN u ON t.x = u.x ORDER BY a LIMIT 3": "2 order limit distinct",
    "SELECT COUNT(*) FROM t, u, v, w GROUP BY a HAVING MAX(b) > 1": "3 aggregate group having",
    "SELECT a FROM t WHERE NOT a IN (SELECT MAX(b) FROM u GROUP BY c)": "1 where nested",
}


@pytest.mark.parametrize(("sql", "shape"), QUERIES.items())
def test_shapes(sql, shape):
    assert shape_of(sqlglot.parse_one(sql, read="sqlite")) == shape


def test_shares_are_learned_from_queries():
    texts = ["SELECT a FROM t", "SELECT b FROM t", "SELECT b FROM t", "SELECT b FROM t WHERE c = 1"]
    assert learned_shares(map(sqlglot.parse_one, texts)) == {"1": 75.0, "1 where": 25.0}


def test_some_rarer_shapes_are_held_out():
    held = held_out_shapes(SPIDER, 0.1, random.Random(1))
    assert 0.05 < sum(SPIDER[shape] for shape in held) / sum(SPIDER.values()) <= 0.1
    assert "1 where" not in held
    assert held_out_shapes({"1": 50.0, "2": 50.0}, 0.1, random.Random(1)) == set()
