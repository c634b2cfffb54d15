"""How long the texts of a query can become, known before it runs. Real servers prove the limits in test_hostile.py."""

import pytest
import sqlglot

from sqlora.sql import readonly
from sqlora.sql.lengths import LONGEST, MOST_GROUPED, TEXT_COLUMN, Lengths
from sqlora.sql.parsing import SqlError, parse_schema
from sqlora.sql.readonly import PARTS
from sqlora.sql.scopes import Scopes

SCHEMA = parse_schema("CREATE TABLE singer (id INTEGER, name VARCHAR, age INTEGER)")
DIALECTS = ("sqlite", "postgres", "mysql")


def length(expression, dialect="postgres", longest=0):
    """Bytes that an expression over singer can have."""
    query = sqlglot.parse_one(f"SELECT {expression} FROM singer", read=dialect)
    return Lengths(Scopes(dialect, SCHEMA), PARTS, longest).size(query.expressions[0]).length


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'abc'", 3),
        ("'é'", 2),
        ("name", TEXT_COLUMN),
        ("name || 'abc'", TEXT_COLUMN + 3),
        ("CONCAT('ab', 'c', 'd')", 4),
        ("REPLACE('aaaa', 'a', 'bbb')", 12),
        ("REPLACE('aaaa', 'aa', 'bbb')", 6),
        ("REPLACE('aaaa', 'a', '')", 4),
        ("REPLACE('aaaa', name, 'bb')", 8),
        ("LOWER('abc')", 6),
        ("COALESCE('a', 'abc')", 3),
        ("LEFT('abc', 1)", 3),
        ("CASE WHEN id = 1 THEN 'abcd' ELSE 'a' END", 40),
        ("CAST('a' AS CHAR(70))", 70),
        ("1e5000", 5006),
        ("'9e5000'", 5006),
        ("(SELECT MAX(x.n) FROM (SELECT name || name AS n FROM singer) AS x)", 2 * TEXT_COLUMN),
        ("('a', 'b')", 6),
    ],
)
def test_an_upper_bound_of_what_an_expression_gives(expression, expected):
    assert length(expression) == expected


def test_what_only_the_server_bounds():
    assert length("STRING_AGG(name, ',')") == LONGEST["postgres"]
    assert length("GROUP_CONCAT(name)", "mysql") == MOST_GROUPED
    assert length("HEX(name)", "sqlite", 9000) == 9000


def refusal(sql, dialect):
    try:
        readonly.check(sql, dialect, SCHEMA)
    except SqlError as error:
        return error.kind
    return None


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT REPLACE(REPLACE('{'a' * 999}', 'a', '{'b' * 999}'), 'b', '{'c' * 999}')",
        "SELECT CAST('x' AS CHAR(90000000))",
        "WITH RECURSIVE r(s) AS (SELECT 'x' UNION ALL SELECT CONCAT(s, s) FROM r) SELECT s FROM r",
        "WITH RECURSIVE r(s, t) AS (SELECT 'x', 'y' UNION ALL SELECT CONCAT(s, t), s FROM r) SELECT s FROM r",
        "WITH RECURSIVE r(s) AS (SELECT 'x' UNION ALL SELECT REPLACE(s, 'x', 'xx') FROM r) SELECT s FROM r",
        "SELECT COUNT(*) FROM " + ", ".join(f"singer AS s{i}" for i in range(62)),
        "WITH a0 AS (SELECT 'xxxxxxxxxx' AS s), "
        + ", ".join(f"a{i} AS (SELECT CONCAT(s, s, s, s, s, s, s, s) AS s FROM a{i - 1})" for i in range(1, 9))
        + " SELECT LENGTH(s) FROM a8",
    ],
)
def test_what_would_grow_without_end_is_refused(sql, dialect):
    assert refusal(sql, dialect) == "too large"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT REPLACE(REPLACE(REPLACE(name, '-', ''), ' ', ''), '(', '') FROM singer",
        "SELECT LENGTH(name) - LENGTH(REPLACE(name, 'a', '')) FROM singer",
        "SELECT COUNT(*) FROM singer WHERE LOWER(name) LIKE '%an%' OR name LIKE CONCAT('%', name, '%')",
        "SELECT ROUND(SUM(age) * 100.0 / COUNT(*), 2), POWER(AVG(age), 2), AVG(age) / (MAX(age) - MIN(age)) FROM "
        "singer",
        "WITH RECURSIVE r(n, f) AS (SELECT 1, 1 UNION ALL SELECT n + 1, f * (n + 1) FROM r WHERE n < 10) SELECT n, f "
        "FROM r",
        "WITH RECURSIVE p(id, path) AS (SELECT id, CAST(name AS CHAR(500)) FROM singer UNION ALL SELECT s.id, "
        "CONCAT(p.path, '>', s.name) FROM p JOIN singer AS s ON s.age = p.id WHERE p.path NOT LIKE CONCAT('%', "
        "s.name, '%')) "
        "SELECT id, path FROM p ORDER BY path",
        "SELECT CONCAT(name, ' (', GROUP_CONCAT(age), ')') FROM singer GROUP BY name",
        "SELECT REPLACE(GROUP_CONCAT(DISTINCT name), ',', ';') FROM singer",
    ],
)
def test_what_people_ask_is_not(sql, dialect):
    assert refusal(sql, dialect) is None


def test_the_steps_of_a_recursive_text():
    path = (
        "WITH RECURSIVE r(s) AS (SELECT name FROM singer UNION ALL SELECT r.s || x.name FROM r, singer AS x) "
        "SELECT {} FROM r"
    )
    readonly.check(path.format("LENGTH(s)"), "postgres", SCHEMA)
    assert refusal(path.format("STRPOS(s, '" + "a" * 900 + "')"), "postgres") == "too large"
