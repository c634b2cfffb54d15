"""The rows of INSERT statements."""

import pytest

from sqlora.sql.inserts import inserted_rows
from sqlora.sql.parsing import SqlError, parse_schema

SCHEMA = parse_schema("CREATE TABLE t (a INTEGER, b TEXT, c REAL)")


def test_rows_have_a_value_per_column():
    text = (
        "INSERT INTO T VALUES (1, 'x', -2.5), (2, NULL, 1 + 1); INSERT INTO t (c, b) VALUES (3, 'it''s');"
        "INSERT INTO other VALUES (1); INSERT INTO t (a, nothing) VALUES (4, 5); SELECT 1"
    )
    assert inserted_rows(text, SCHEMA) == {
        "t": [(1, "x", -2.5), (2, None, None), (None, "it's", 3), (4, None, None)],
    }


def test_text_that_is_no_sql():
    with pytest.raises(SqlError):
        inserted_rows("INSERT INTO t VALUES (1", SCHEMA)
