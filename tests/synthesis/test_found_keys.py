"""Keys that rows have, declared or not."""

from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.found_keys import with_found_keys

SCHEMA = parse_schema(
    "CREATE TABLE airline (uid INT PRIMARY KEY, name TEXT);"
    "CREATE TABLE flight (airline INT, age INT, source TEXT REFERENCES airport (code));"
    "CREATE TABLE airport (code TEXT PRIMARY KEY)"
)


def references(rows):
    flight = with_found_keys(SCHEMA, rows).table("flight")
    return [(reference.columns, reference.table) for reference in flight.references]


def test_a_column_that_is_called_as_a_table_and_has_its_keys_refers_to_it():
    rows = {"airline": [(1, "A"), (2, "B")], "flight": [(1, 2, "X"), ("2", 1, "Y")], "airport": [("X",), ("Y",)]}
    assert references(rows) == [(("source",), "airport"), (("airline",), "airline")]


def test_a_declared_key_without_a_common_value_joins_nothing():
    assert references({"airline": [(1, "A")], "flight": [(3, 2, " X")], "airport": [("X",)]}) == []


def test_a_column_of_the_keys_own_name_refers_to_it_too():
    schema = parse_schema("CREATE TABLE student (StuID INT PRIMARY KEY); CREATE TABLE plays (StuID INT, sport TEXT)")
    (reference,) = with_found_keys(schema, {"student": [(7,)], "plays": [(7, "x")]}).table("plays").references
    assert (reference.columns, reference.table, reference.keys) == (("stuid",), "student", ("stuid",))


def test_values_alone_show_a_key_where_they_are_many_and_far_apart():
    schema = parse_schema(
        "CREATE TABLE city (id INT PRIMARY KEY); CREATE TABLE country (capital INT, rank INT, age INT, population INT)"
    )
    countries = [(3 * i, i, 10 + i % 9, 1000 + 7 * i) for i in range(1, 41)]
    found = with_found_keys(schema, {"city": [(i,) for i in range(1, 200)], "country": countries})
    assert [reference.columns for reference in found.table("country").references] == [("capital",)]
