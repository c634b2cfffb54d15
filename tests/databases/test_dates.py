"""SQLite's functions of dates in other databases' words; test_meaning.py runs them."""

import pytest
import sqlglot

from sqlora.databases import dates
from sqlora.sql.parsing import SqlError


def call(sql):
    return sqlglot.parse_one(f"SELECT {sql}", read="sqlite").selects[0]


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("DATE(d)", ""),
        ("DATE()", "DATE"),
        ("date('now')", "DATE"),
        ("DATE(d, '+1 day')", "DATE"),
        ("STRFTIME('%Y', d)", ""),
        ("STRFTIME('%Y', 'NOW')", "STRFTIME"),
        ("julianday(d)", "JULIANDAY"),
        ("UPPER(d)", ""),
    ],
)
def test_calls_that_others_do_not_know_as_they_are(sql, name):
    assert dates.function_name(call(sql)) == name


@pytest.mark.parametrize(
    ("sql", "postgres", "mysql"),
    [
        ("DATE('now')", "CURRENT_DATE", "CURRENT_DATE"),
        (
            "DATETIME(d, '-2 hours')",
            "(CAST(d AS TIMESTAMP) - INTERVAL '2 HOUR')",
            "(CAST(d AS DATETIME) - INTERVAL '2' HOUR)",
        ),
        (
            "DATE(t.d, 'start of month')",
            "CAST(DATE_TRUNC('MONTH', CAST(t.d AS TIMESTAMP)) AS DATE)",
            "CAST(CAST(DATE_FORMAT(CAST(t.d AS DATETIME), '%Y-%m-01') AS DATETIME) AS DATE)",
        ),
    ],
)
def test_modifiers_become_intervals(sql, postgres, mysql):
    assert dates.say(call(sql), is_postgres=True).sql("postgres") == postgres
    assert dates.say(call(sql), is_postgres=False).sql("mysql") == mysql


@pytest.mark.parametrize("modifier", ["'+1 month'", "'weekday 1'", "'start of day', '+1 month'", "x", "'utc'", "''"])
def test_what_the_others_count_otherwise_is_refused(modifier):
    with pytest.raises(SqlError, match="cannot be said in this database"):
        dates.say(call(f"DATE(d, {modifier})"), is_postgres=True)
