"""What a name stands for: PostgreSQL's functions in the guise of columns, and catalogues in the guise of CTEs."""

import pytest

from sqlora.sql import readonly
from sqlora.sql.parsing import SqlError, parse_schema

SCHEMA = parse_schema(
    'CREATE TABLE singer (id INTEGER, name VARCHAR, age INTEGER); CREATE TABLE "Song" ("SongId" INTEGER, id INTEGER)'
)


def fault(sql, dialect="postgres"):
    """The kind of the fault that keeps a query from being run, or None."""
    try:
        readonly.check(sql, dialect, SCHEMA)
    except SqlError as error:
        return error.kind
    return None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT singer.row_to_json FROM singer",
        "SELECT s.row_to_json FROM singer AS s",
        'SELECT s."NAME" FROM singer AS s',
        "SELECT s.name FROM singer AS s(a, b, c)",
        "SELECT x.name FROM (SELECT id FROM singer) AS x",
        "SELECT x.name FROM (SELECT id AS n, name AS other FROM singer) AS x",
        "SELECT x.name FROM (SELECT name FROM singer) AS x(n)",
        "SELECT x.max FROM (SELECT MAX(id) FROM singer) AS x",
        "WITH c AS (SELECT id FROM singer) SELECT c.name FROM c",
        "WITH c(n) AS (SELECT name FROM singer) SELECT c.name FROM c",
        "SELECT v.name FROM (VALUES (1, 2)) AS v(a, b)",
        "SELECT id FROM singer ORDER BY singer.upper",
        "SELECT id FROM singer GROUP BY id, singer.upper",
        "SELECT id FROM singer HAVING COUNT(singer.upper) > 1",
        "SELECT COUNT(*) FILTER (WHERE singer.upper = 1) FROM singer",
        "SELECT s.id FROM singer AS s JOIN singer AS o ON s.upper = o.id",
        "SELECT (SELECT s.upper) FROM singer AS s",
        "SELECT u.upper FROM singer AS s LEFT JOIN (SELECT id FROM singer UNION SELECT age FROM singer) AS u ON u.id "
        "= s.id",
        # Within a query in FROM its neighbours are not seen: a is the outer one.
        "SELECT a.id FROM (SELECT 1 AS id) AS a WHERE EXISTS (SELECT 1 FROM (SELECT a.name) AS d, (SELECT 1 AS name) "
        "AS a)",
        "SELECT a.id FROM (SELECT 1 AS id) AS a WHERE EXISTS (WITH d AS (SELECT a.name) SELECT 1 FROM d, (SELECT 1 AS "
        "name) AS a)",
        "SELECT public.singer.name FROM singer",
        'SELECT "Song".SongId FROM "Song"',
        "SELECT s.nam\u212ae FROM singer AS s",
    ],
)
def test_a_name_after_a_dot_is_a_column_of_the_table_before_it(sql):
    assert fault(sql) == "no such column"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT S.NAME FROM singer AS s",
        'SELECT "Song"."SongId" FROM "Song"',
        "SELECT s.c, s.age FROM singer AS s(c)",
        'SELECT T1.name FROM singer AS T1 WHERE T1.id IN (SELECT T1.id FROM "Song" AS T1 WHERE T1."SongId" > 1)',
        "SELECT x.n, x.id FROM (SELECT name AS n, s.* FROM singer AS s) AS x",
        "SELECT v.b FROM (VALUES (1, 2)) AS v(a, b)",
        "SELECT s.id FROM singer AS s WHERE EXISTS (SELECT 1 FROM singer AS o WHERE o.id = s.age)",
        "SELECT name AS n FROM singer ORDER BY n",
        'SELECT c.id FROM (singer AS s JOIN ("Song" AS c JOIN singer AS o ON o.id = c.id) ON o.age = s.age)',
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT r.n + 1 FROM r WHERE r.n < 9) SELECT r.n FROM r",
        "WITH RECURSIVE r AS (SELECT id, name FROM singer UNION ALL SELECT r.* FROM r) SELECT r.name FROM r",
        "SELECT u.name FROM (SELECT name FROM singer UNION SELECT name FROM singer) AS u",
        "SELECT singer FROM singer",
        "WITH a AS (SELECT id FROM singer), b AS (SELECT a.id AS x FROM a) SELECT b.x FROM b JOIN singer ON "
        "singer.age > b.x",
        'SELECT s.id FROM singer AS s JOIN singer AS o ON o.id IN (SELECT c.id FROM "Song" AS c WHERE c.id = s.age '
        "AND o.age = 1)",
    ],
)
def test_columns_are_found_through_aliases_queries_and_ctes(sql):
    assert fault(sql) is None


@pytest.mark.parametrize(
    "sql",
    [
        "WITH pg_shadow AS (SELECT * FROM pg_shadow) SELECT * FROM pg_shadow",
        "SELECT * FROM pg_shadow WHERE EXISTS (WITH pg_shadow AS (SELECT 1) SELECT 1)",
        "SELECT * FROM (WITH pg_shadow AS (SELECT 1) SELECT 1) AS x, pg_shadow",
        "WITH c AS (SELECT * FROM pg_class), pg_class AS (SELECT 1) SELECT * FROM c",
        'WITH "PG_CLASS" AS (SELECT 1) SELECT * FROM pg_class',
        'SELECT * FROM "SINGER"',
        "SELECT * FROM Song",
    ],
)
def test_a_table_is_one_of_the_schema_or_a_cte_that_is_seen_there(sql):
    assert fault(sql) == "no such table"


def test_other_databases_have_no_functions_after_a_dot():
    for dialect in ("sqlite", "mysql"):
        assert fault("SELECT S.NAME, s.rowid FROM Singer AS s", dialect) is None
    assert fault("SELECT u.x FROM lower('x') AS u") == "not read only"
    assert fault("SELECT x.id FROM (singer JOIN singer AS o USING (id)) AS x") == "not read only"


def test_columns_do_not_multiply_without_end():
    parts = ["a0 AS (SELECT * FROM singer)"]
    parts += [f"a{i} AS (SELECT a.*, b.* FROM a{i - 1} AS a, a{i - 1} AS b)" for i in range(1, 20)]
    assert fault(f"WITH {', '.join(parts)} SELECT a19.x FROM a19") == "too large"
