"""Double-quoted names: a string only where no column is meant."""

import pytest

from sqlora.sql.parsing import parse_query, parse_schema, to_sqlite

SCHEMA = parse_schema("CREATE TABLE t (a INTEGER, b VARCHAR); CREATE TABLE u (a INTEGER, c VARCHAR)")


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ('SELECT a FROM t WHERE b = "red"', "SELECT a FROM t WHERE b = 'red'"),
        ('SELECT "a" FROM t WHERE b IN ("x", "y")', "SELECT `a` FROM t WHERE b IN ('x', 'y')"),
        ('SELECT a FROM t WHERE b LIKE "%x%"', "SELECT a FROM t WHERE b LIKE '%x%'"),
        ('SELECT a FROM t WHERE b = "c"', "SELECT a FROM t WHERE b = 'c'"),
        ('SELECT t.a FROM t JOIN u ON t.a = u.a WHERE b = "c"', "SELECT t.a FROM t JOIN u ON t.a = u.a WHERE b = `c`"),
        ('SELECT "nonesuch" FROM t', "SELECT `nonesuch` FROM t"),
        ('SELECT a FROM t WHERE "nonesuch" = "x"', "SELECT a FROM t WHERE `nonesuch` = `x`"),
        ('SELECT a FROM t WHERE "x" = b', "SELECT a FROM t WHERE 'x' = b"),
        (
            'SELECT MAX("nonesuch") FROM t GROUP BY "x" ORDER BY "y"',
            "SELECT MAX(`nonesuch`) FROM t GROUP BY `x` ORDER BY `y`",
        ),
        ('SELECT t."nonesuch" FROM t WHERE b = t."x"', "SELECT t.`nonesuch` FROM t WHERE b = t.`x`"),
        ('SELECT a AS "n" FROM t ORDER BY "n"', "SELECT a AS `n` FROM t ORDER BY `n`"),
        (
            'WITH w AS (SELECT a AS "n" FROM t) SELECT "n" FROM w',
            "WITH w AS (SELECT a AS `n` FROM t) SELECT `n` FROM w",
        ),
        ('SELECT CASE WHEN a > 3 THEN "x" ELSE "y" END FROM t', "SELECT CASE WHEN a > 3 THEN 'x' ELSE 'y' END FROM t"),
        (
            'SELECT a FROM t WHERE a IN (SELECT a FROM u WHERE c = "b")',
            "SELECT a FROM t WHERE a IN (SELECT a FROM u WHERE c = `b`)",
        ),
        ('SELECT b || " " FROM t', "SELECT b || ' ' FROM t"),
        ("SELECT a FROM t WHERE `nonesuch` = [b]", "SELECT a FROM t WHERE `nonesuch` = `b`"),
    ],
)
def test_double_quotes_are_a_string_only_where_no_column_is_meant(sql, read):
    assert to_sqlite(parse_query(sql, SCHEMA)).replace('"', "`") == read
