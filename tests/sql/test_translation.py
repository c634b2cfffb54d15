"""SQL of other dialects in SQLite's."""

import pytest

from sqlora.sql.parsing import SqlError
from sqlora.sql.translation import UntranslatableError, as_sqlite


@pytest.mark.parametrize(
    ("written", "name", "kept"),
    [
        ('select  "a" from t', "sqlite", 'select  "a" from t'),
        ("SELECT TOP 3 a FROM t", "tsql", "SELECT a FROM t LIMIT 3"),
        (
            "SELECT a::int, b ILIKE 'x%' FROM t",
            "postgres",
            "SELECT CAST(a AS INTEGER), LOWER(b) LIKE LOWER('x%') FROM t",
        ),
        ("SELECT a / b FROM t", "mysql", "SELECT CAST(a AS REAL) / b FROM t"),
        ("SELECT a FROM t ORDER BY a DESC, b", "postgres", "SELECT a FROM t ORDER BY a DESC, b"),
        ("SELECT a FROM t ORDER BY a NULLS LAST", "postgres", "SELECT a FROM t ORDER BY a NULLS LAST"),
        (
            'SELECT "Title" FROM "Song" WHERE "play count" > 5',
            "postgres",
            'SELECT Title FROM Song WHERE "play count" > 5',
        ),
        (
            "SELECT `order` FROM Song WHERE Title = 'It\\'s'",
            "mysql",
            "SELECT \"order\" FROM Song WHERE Title = 'It''s'",
        ),
        (
            "SELECT EXTRACT(YEAR FROM d) FROM t WHERE date_trunc('month', d) = '2020-01-01'",
            "postgres",
            "SELECT CAST(STRFTIME('%Y', d) AS INTEGER) FROM t WHERE DATE(d, 'start of month') = '2020-01-01'",
        ),
        (
            "SELECT YEAR(d), HOUR(d), LEFT(a, 2), RIGHT(a, 3), NOW() FROM t",
            "mysql",
            "SELECT CAST(STRFTIME('%Y', d) AS INTEGER), CAST(STRFTIME('%H', d) AS INTEGER), SUBSTRING(a, 1, 2), "
            "SUBSTRING(a, -3), CURRENT_TIMESTAMP FROM t",
        ),
        ("SELECT d - INTERVAL '1 day' FROM t", "postgres", "SELECT DATE(d, '-1 day') FROM t"),
        ("SELECT date_trunc('day', d) FROM t", "postgres", "SELECT DATE(d) FROM t"),
    ],
)
def test_a_query_is_said_as_sqlite_has_it(written, name, kept):
    assert as_sqlite(written, name) == kept


@pytest.mark.parametrize(
    ("sql", "kind"),
    [("SELECT FROM WHERE", "syntax"), ("SELECT 1; SELECT 2", "several statements"), ("", "syntax")],
)
def test_what_cannot_be_parsed(sql, kind):
    with pytest.raises(SqlError) as error:
        as_sqlite(sql, "postgres")
    assert error.value.kind == kind


def test_what_sqlite_has_no_words_for():
    with pytest.raises(UntranslatableError, match="SQLite has no words for it"):
        as_sqlite("SELECT a FROM t, UNNEST(b) AS c", "bigquery")
