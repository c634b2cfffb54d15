"""What may go to a live database: one plain SELECT over known tables, and its text written anew."""

import pytest

from sqlora.sql import readonly
from sqlora.sql.parsing import SqlError, parse_schema

SCHEMA = parse_schema("CREATE TABLE singer (singer_id INTEGER, name TEXT, age INTEGER)")


@pytest.mark.parametrize(
    ("dialect", "sql", "kind"),
    [
        ("sqlite", "DELETE FROM singer", "not read only"),
        ("sqlite", "SELECT load_extension('x')", "not read only"),
        ("sqlite", "SELECT 1; SELECT 2", "several statements"),
        ("sqlite", "", "syntax"),
        ("sqlite", "SELECT * FROM nobody", "no such table"),
        ("sqlite", "SELECT " + "(" * 5000 + "1" + ")" * 5000, "too large"),
        ("sqlite", f"SELECT '{'x' * 200_000}'", "too large"),
        ("sqlite", "SELECT 1 FROM singer" + ", singer" * 61, "too large"),
        ("postgres", "SELECT pg_read_file('/etc/passwd')", "not read only"),
        ("postgres", "SELECT name INTO copied FROM singer", "not read only"),
        ("postgres", "SELECT name FROM singer FOR UPDATE", "not read only"),
        ("postgres", "SELECT 'singer'::regclass", "not read only"),
        ("mysql", "SELECT @@version", "not read only"),
        ("mysql", "SELECT name FROM singer INTO OUTFILE '/tmp/x'", "not read only"),
    ],
)
def test_what_is_no_plain_select_is_refused(dialect, sql, kind):
    with pytest.raises(SqlError) as refused:
        readonly.check(sql, dialect, SCHEMA)
    assert refused.value.kind in (kind, "syntax")
    assert refused.value.kind == kind or dialect == "mysql" or "INTO" in sql


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name, COUNT(*) FROM singer WHERE age BETWEEN 20 AND 30 GROUP BY name HAVING COUNT(*) > 1",
        "WITH old AS (SELECT * FROM singer WHERE age > 60) SELECT name FROM old ORDER BY age DESC LIMIT 3",
        "SELECT name, RANK() OVER (ORDER BY age) FROM singer UNION SELECT 'x', 1",
    ],
)
@pytest.mark.parametrize("dialect", ["sqlite", "postgres", "mysql"])
def test_plain_selects_pass(sql, dialect):
    assert readonly.write(readonly.check(sql, dialect, SCHEMA), dialect).startswith(("SELECT", "WITH"))


@pytest.mark.parametrize(
    ("sql", "limited"),
    [
        ("SELECT name FROM singer", "SELECT name FROM singer LIMIT 10"),
        ("SELECT name FROM singer LIMIT 500", "SELECT name FROM singer LIMIT 10"),
        ("SELECT name FROM singer LIMIT 3", "SELECT name FROM singer LIMIT 3"),
    ],
)
def test_rows_are_limited_and_comments_left_out(sql, limited):
    query = readonly.check(f"{sql} /*! INTO OUTFILE '/tmp/x' */", "sqlite", SCHEMA)
    assert readonly.write(query, "sqlite", most_rows=10) == limited
