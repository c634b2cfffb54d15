"""The normal form of a query, schemas read from text, and queries read over them."""

import pickle
import random

import pytest

from sqlora.sql.parsing import SqlError, exact_match, literals, normalise_sql, parse_query, parse_schema, to_sqlite
from sqlora.sql.sandbox import Database


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a FROM t", "select  A\nfrom T ;"),
        ("SELECT COUNT(*) FROM t WHERE a>5", "SELECT count( * ) FROM t WHERE a > 5"),
        ("SELECT a FROM t WHERE b != 'X'", "SELECT a FROM t WHERE b<>'X'"),
        ("SELECT a, b FROM t", "SELECT a ,b FROM t -- both"),
        ("SELECT a FROM t GROUP BY a", "SELECT a FROM t group  by\ta ; ; -- done"),
        ("SELECT 'it''s'", "select 'it''s';"),
        ("SELECT T1.a FROM t AS T1", "SELECT t1 . A FROM t AS t1"),
    ],
)
def test_layout_makes_no_difference(one, other):
    assert exact_match(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = 'X'"),
        ("SELECT a FROM t WHERE b = 'x'", 'SELECT a FROM t WHERE b = "x"'),
        ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = x"),
        ("SELECT a FROM t WHERE b = N'x'", "SELECT a FROM t WHERE b = x"),
        ("SELECT a FROM t WHERE b = 'x y'", "SELECT a FROM t WHERE b = 'x  y'"),
        ("SELECT `A b` FROM t", "SELECT `a b` FROM t"),
        ("SELECT a FROM t WHERE b = '5'", "SELECT a FROM t WHERE b = 5"),
        ("SELECT a FROM t WHERE b > 5", "SELECT a FROM t WHERE b >= 5"),
        ("SELECT a FROM t WHERE b = 'it's X'", "SELECT a FROM t WHERE b = 'it's x'"),
        ("SELECT a FROM t", "SELECT a FROM t LIMIT 1"),
        ("SELECT a FROM t", ""),
        ("SELECT a FROM t", None),
        (None, None),
    ],
)
def test_what_changes_the_query_does(one, other):
    assert not exact_match(one, other)


def test_any_text_has_a_normal_form():
    generator = random.Random(0)
    for _ in range(2000):
        text = "".join(generator.choices("'\"`;-/*#@${}[]()\\ \nselect0xN\x00é\ud800", k=generator.randint(0, 40)))
        assert isinstance(normalise_sql(text), str)
    for text in ("(" * 50_000, "'" * 50_001, "/*" * 50_000, ""):
        normalise_sql(text)
    assert normalise_sql(" 'open \n Quote ;") == "'open Quote"


def names(schema):
    return {table.name: [(column.name, column.type) for column in table.columns] for table in schema.tables}


def test_a_schema_is_read_in_any_common_dialect_and_duplicates_are_merged():
    schema = parse_schema(
        "CREATE TABLE singer (id INTEGER PRIMARY KEY, Name VARCHAR(20)); CREATE TABLE `song` (`title` TEXT, price "
        "DECIMAL(5, 2));"
        "CREATE TABLE Singer (name INTEGER, born DATE)"
    )
    assert names(schema) == {
        "singer": [("id", "integer"), ("Name", "integer"), ("born", "date")],
        "song": [("title", "text"), ("price", "real")],
    }
    assert schema.merged == ("singer",)
    assert names(parse_schema("CREATE TABLE t (a INT); CREATE TABLE sqlite_sequence (name, seq)")) == {
        "t": [("a", "integer")]
    }
    with pytest.raises(SqlError, match="SQLite's own"):
        parse_schema("CREATE TABLE sqlite_sequence (name, seq)")
    assert names(parse_schema(schema.ddl())) == names(schema)  # constraints are no part of the prompt
    assert names(parse_schema("CREATE TABLE [a b] ([c] INT IDENTITY(1,1), d NVARCHAR(MAX))")) == {
        "a b": [("c", "integer"), ("d", "text")]
    }


@pytest.mark.parametrize("context", ["", "SELECT 1", "CREATE TABLE", "no SQL at all", "CREATE TABLE t ()"])
def test_text_without_a_table_is_no_schema(context):
    with pytest.raises(SqlError) as caught:
        parse_schema(context)
    assert caught.value.kind == "schema"


SCHEMA = parse_schema("CREATE TABLE t (a INTEGER, b VARCHAR); CREATE TABLE u (a INTEGER, c VARCHAR)")


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT a FROM nonesuch", "no such table"),
        ("SELECT a FROM t; SELECT b FROM t", "several statements"),
        ("DELETE FROM t", "not read only"),
        ("SELECT a FROM", "syntax"),
        ("", "syntax"),
        ("how many", "syntax"),
        ("SELECT " + "(" * 3000 + "1" + ")" * 3000, "too large"),
        ("WITH w AS (DELETE FROM t RETURNING a) SELECT a FROM w", "not read only"),
        ("SELECT a INTO v FROM t", "not read only"),
        ("EXPLAIN SELECT a FROM t", "not read only"),
        ("SELECT " + "a, " * 5000 + "a FROM t", "too large"),
    ],
)
def test_what_is_no_query_over_the_schema_is_refused_with_its_kind(sql, kind):
    with pytest.raises(SqlError) as caught:
        parse_query(sql, SCHEMA)
    assert caught.value.kind == kind


@pytest.mark.parametrize("sql", ["SELECT a FROM t;", "SELECT a FROM t; -- done", " ; SELECT a FROM t -- done"])
def test_a_last_semicolon_and_comments_are_no_further_statement(sql):
    assert to_sqlite(parse_query(sql, SCHEMA)) == "SELECT a FROM t"


def test_a_fault_comes_back_from_another_process():
    fault = pickle.loads(pickle.dumps(SqlError("timeout", "two\nlines")))
    assert (fault.kind, str(fault)) == ("timeout", "two lines")


def test_literals_know_the_column_that_they_are_compared_with():
    found = literals(parse_query("SELECT a FROM t WHERE a > -5 AND b LIKE 'x%' LIMIT 3", SCHEMA))
    assert {(literal.value, literal.column, literal.pattern) for literal in found} == {
        (-5, "a", False),
        ("x%", "b", True),
        (3, None, False),
    }
    found = literals(
        parse_query("SELECT b FROM t WHERE a IN (1, 2) GROUP BY b HAVING COUNT(a) > 4 AND SUM(a) > 1.5", SCHEMA)
    )
    assert {(literal.value, literal.column) for literal in found} == {(1, "a"), (2, "a"), (4, None), (1.5, "a")}


def test_money_and_years_are_numbers():
    schema = parse_schema("CREATE TABLE t (a MONEY, b smallmoney, c YEAR, d GEOMETRY, e TIME)")
    assert [column.type for column in schema.tables[0].columns] == ["real", "real", "integer", "text", "time"]


def test_tables_of_several_schemas_keep_theirs_in_their_names():
    context = "CREATE TABLE a.t (x INT); CREATE TABLE b.t (y INT, z INT REFERENCES a.t (x)); CREATE TABLE b.u (w INT)"
    schema = parse_schema(context)
    assert [table.name for table in schema.tables] == ["a.t", "b.t", "u"]
    assert schema.merged == ()
    assert "FOREIGN KEY (z) REFERENCES a.t (x)" in schema.ddl("described")
    for sql, text in (
        ("SELECT x FROM a.t", "SELECT x FROM `a.t` AS t"),
        ("SELECT a.t.x FROM a.t JOIN b.t ON z = x", "SELECT `a.t`.x FROM `a.t` JOIN `b.t` ON z = x"),
        ("SELECT t.x FROM a.t WHERE EXISTS (SELECT 1 FROM b.u)", None),
        ("SELECT s.x, w FROM a.t AS s, b.u", "SELECT s.x, w FROM `a.t` AS s CROSS JOIN u"),
    ):
        query = parse_query(sql, schema)
        assert text in (None, to_sqlite(query))
        with Database(schema) as database:
            assert database.run(to_sqlite(query)).rows == []
    with pytest.raises(SqlError, match="no such table"):
        parse_query("SELECT x FROM t", schema)
