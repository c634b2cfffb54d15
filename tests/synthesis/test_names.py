"""Names become the words that people would say."""

import pytest

from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.names import Names, plural, singular


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("singer", "singers"),
        ("country", "countries"),
        ("day", "days"),
        ("box", "boxes"),
        ("class", "classes"),
        ("person", "people"),
        ("status", "statuses"),
        ("TV series", "TV series"),
        ("head of state", "heads of state"),
        ("first name", "first names"),
        ("movie", "movies"),
    ],
)
def test_plural_and_singular(one, many):
    assert (plural(one), plural(many), singular(many), singular(one)) == (many, many, one, one)


def test_phrases_without_a_plural():
    assert [plural(phrase) for phrase in ("directed by", "is male", "sales")] == ["directed by", "is male", "sales"]


@pytest.mark.parametrize(
    ("table", "column", "said"),
    [
        ("singer_in_concert", "Singer_ID", "singer id"),
        ("Singers", "Singer_ID", "id"),
        ("Singers", "Song_Name", "song name"),
        ("Singers", "LName", "last name"),
        ("CustomerOrders", "OrderNo", "number"),
        ("CustomerOrders", "TVChannel", "TV channel"),
        ("countrylanguage", "IsOfficial", "is official"),
        ("country", "Country", "name"),
        ("country", "countrycontinent", "continent"),
    ],
)
def test_columns(table, column, said):
    assert NAMES.column(table, column) == said


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("Singers", "singer"),
        ("CustomerOrders", "customer order"),
        ("countrylanguage", "country language"),
        ("Ref_Document_Types", "document type"),
        ("cars_data", "car"),
    ],
)
def test_tables(table, said):
    assert NAMES.table(table) == said


def test_two_columns_never_have_the_same_words():
    names = Names(parse_schema("CREATE TABLE pet (name TEXT, pet_name TEXT)"))
    assert (names.column("pet", "name"), names.column("pet", "pet_name")) == ("name", "pet name")


def test_dates_that_are_called_by_what_was_done():
    names = Names(parse_schema("CREATE TABLE pet (born DATE, created TIMESTAMP, named TEXT)"))
    assert [names.column("pet", name) for name in ("born", "created", "named")] == [
        "date of birth",
        "created date",
        "named",
    ]


def test_comments_that_are_names_are_other_names():
    names = Names(parse_schema("CREATE TABLE t (mpg INT /* miles per gallon */, x INT /* see page 7, or ask */)"))
    assert (names.label("t", "mpg"), names.label("t", "x")) == ("miles per gallon", "")


NAMES = Names(
    parse_schema(
        "CREATE TABLE Singers (Singer_ID INT PRIMARY KEY, Song_Name TEXT, LName TEXT);"
        "CREATE TABLE singer_in_concert (Singer_ID INT REFERENCES Singers (Singer_ID), Concert_ID INT);"
        "CREATE TABLE CustomerOrders (OrderNo INT, TVChannel TEXT);"
        "CREATE TABLE country (Country TEXT, countrycontinent TEXT, Language TEXT);"
        "CREATE TABLE continent (a INT);"
        "CREATE TABLE countrylanguage (IsOfficial TEXT);"
        "CREATE TABLE Ref_Document_Types (a INT); CREATE TABLE cars_data (a INT)"
    )
)
