"""Aggregates, and the columns of which SQLite takes any row's value."""

import pytest

from sqlora.sql.grouping import bare_columns, is_grouped
from sqlora.sql.parsing import parse_query, parse_schema

SCHEMA = parse_schema("CREATE TABLE t (a INT, b INT, c TEXT)")


@pytest.mark.parametrize(
    ("sql", "grouped", "bare"),
    [
        ("SELECT a FROM t", False, []),
        ("SELECT MAX(a), b FROM t", True, ["b"]),
        ("SELECT a, b FROM t GROUP BY a", True, ["b"]),
        ("SELECT t.a FROM t GROUP BY a HAVING b > 1 ORDER BY c", True, ["b", "c"]),
        ("SELECT a + 1 FROM t GROUP BY a + 1", True, []),
        ("SELECT b AS x FROM t GROUP BY x", True, []),
        ("SELECT a FROM t GROUP BY 1", True, []),
        ("SELECT c, SUM(a) OVER (ORDER BY b) FROM t", False, []),
        ("SELECT c, SUM(a) FILTER (WHERE a > 1) OVER (ORDER BY b) FROM t", False, []),
        ("SELECT a, RANK() OVER (ORDER BY COUNT(*)) FROM t GROUP BY a", True, []),
        ("SELECT a FROM t WHERE b = (SELECT MAX(b) FROM t)", False, []),
    ],
)
def test_columns_outside_group_by(sql, grouped, bare):
    query = parse_query(sql, SCHEMA)
    assert is_grouped(query) == grouped
    assert [column.name for column in bare_columns(query)] == bare
