"""Values on which conditions turn: found for functions of a column, each checked by SQLite."""

import pytest

from sqlora.evaluation.conditions import turning_values
from sqlora.sql.parsing import parse_query, parse_schema
from sqlora.sql.sandbox import Database

CONTEXT = "CREATE TABLE t (d DATE, s TIMESTAMP, a INTEGER, b TEXT, r REAL)"
SCHEMA = parse_schema(CONTEXT)
TYPES = {column.name: column.type for column in SCHEMA.tables[0].columns}


def turnings(condition):
    return turning_values(parse_query(f"SELECT 1 FROM t WHERE {condition}", SCHEMA), TYPES)


@pytest.mark.parametrize(
    "condition",
    [
        "STRFTIME('%Y', d) = '2012'",
        "CAST(STRFTIME('%Y', d) AS INTEGER) BETWEEN 2010 AND 2012",
        "STRFTIME('%Y-%m', d) = '2012-05'",
        "STRFTIME('%m', d) = '07' AND STRFTIME('%Y', d) > '1999'",
        "d LIKE '2012%'",
        "DATE(s) = '2012-05-03'",
        "SUBSTR(d, 1, 4) = '2012'",
        "JULIANDAY(d) - JULIANDAY('2012-05-03') > 100",
        "SUBSTR(b, -1) = '4' AND LENGTH(b) = 7",
        "LENGTH(b) > 20",
        "SUBSTR(b, INSTR(b, ' ') + 1) = 'Smith'",
        "LOWER(b) = 'smith'",
        "b LIKE '%new_york%'",
        "b IS NULL",
        "ABS(a) > 5",
        "a * 2 > 100",
        "a / 100 = 3",
        "ROUND(r, 2) = 3.14",
        "REPLACE(b, ' ', '') = 'ab'",
        "a = 1 OR a = 7",
    ],
)
def test_values_meet_and_fail_a_condition(condition):
    found = turnings(condition)
    assert found
    for turning in (turning for turning in found if turning.is_whole):
        values = [*turning.meeting, *turning.failing]
        rows = [tuple(value if name == turning.column else None for name in TYPES) for value in values]
        with Database(SCHEMA, {"t": rows}) as database:
            met = {number for (number,) in database.run(f"SELECT rowid FROM t WHERE {condition}").rows}
        assert met == set(range(1, len(turning.meeting) + 1))


def test_a_date_column_has_dates_alone():
    (turning,) = turnings("d LIKE '2012%'")
    assert all(value is None or len(value) == 10 for value in (*turning.meeting, *turning.failing))


def test_tables_and_whole_conditions_are_distinguished():
    schema = parse_schema("CREATE TABLE t (a INT, b TEXT); CREATE TABLE u (a INT, c TEXT)")
    query = parse_query(
        "SELECT 1 FROM t AS x JOIN u ON x.a = u.a WHERE LENGTH(x.b) > 3 AND x.b <> 'abcd' AND c = 'y'", schema
    )
    found = turning_values(query, {"a": "integer", "b": "text", "c": "text"})
    assert [(each.table, each.column, each.is_whole, each.is_plain) for each in found] == [
        ("t", "b", True, False),
        ("t", "b", False, False),
        ("", "c", True, True),
    ]


def test_what_no_value_meets_or_several_columns_have_gives_none():
    assert turnings("LENGTH(b) = 3 AND LENGTH(b) = 4 AND a > r") != []
    assert all(not turning.is_whole for turning in turnings("LENGTH(b) = 3 AND LENGTH(b) = 4"))
    assert turnings("a > r AND a IN (SELECT a FROM t)") == []
    assert [turning.column for turning in turnings("a > 3 OR LENGTH(b) = 4")] == ["a", "b"]
