"""Constraints are read wherever SQL declares them, in names of any letter case."""

import pytest

from sqlora.sql.parsing import parse_schema
from sqlora.sql.schema import Reference


def table(context: str, name: str = "song"):
    return parse_schema(context).table(name)


def test_constraints_of_columns():
    song = table(
        """CREATE TABLE singer (Id INTEGER PRIMARY KEY);
        CREATE TABLE song (id INTEGER PRIMARY KEY, Title TEXT NOT NULL UNIQUE, genre TEXT DEFAULT 'pop' CHECK
        (genre IN ('pop', 'rock')), year INT NULL DEFAULT 2000, singer INT REFERENCES Singer (ID))"""
    )
    assert song.keys == (("id",), ("title",))
    assert song.required == {"id", "title"}
    assert song.references == (Reference(("singer",), "singer", ("id",)),)
    assert song.checks == ("genre IN ('pop', 'rock')",)
    assert [column.default for column in song.columns] == [None, None, "pop", 2000, None]


@pytest.mark.parametrize(
    "context",
    [
        "CREATE TABLE song (a INT, b INT, PRIMARY KEY (A, B), UNIQUE (b))",
        "CREATE TABLE song (a INT, b INT, CONSTRAINT k PRIMARY KEY (a, b), UNIQUE KEY u (b))",
        "CREATE TABLE song (a INT, b INT); ALTER TABLE song ADD CONSTRAINT k PRIMARY KEY (a, b); "
        "ALTER TABLE ONLY song ADD UNIQUE (b)",
        "CREATE TABLE song (a INT, b INT, PRIMARY KEY (a, b)); CREATE UNIQUE INDEX i ON song (b)",
    ],
)
def test_keys_of_tables(context):
    song = table(context)
    assert (song.keys, song.required) == ((("a", "b"), ("b",)), {"a", "b"})


def test_foreign_keys_of_several_columns_and_to_the_primary_key():
    song = table(
        "CREATE TABLE song (a INT, b INT, c INT, FOREIGN KEY (a, b) REFERENCES album (x, y)); "
        "CREATE TABLE album (x INT, y INT, PRIMARY KEY (x, y)); CREATE TABLE label (id INT PRIMARY KEY); "
        "ALTER TABLE song ADD FOREIGN KEY (c) REFERENCES label"
    )
    assert song.references == (Reference(("a", "b"), "album", ("x", "y")), Reference(("c",), "label", ("id",)))


def test_what_does_not_fit_is_left_out():
    song = table(
        "CREATE TABLE song (a INT, PRIMARY KEY (nonesuch), FOREIGN KEY (a) REFERENCES nonesuch (id), FOREIGN KEY (a) "
        "REFERENCES album (nonesuch)); CREATE TABLE album (id INT); CREATE INDEX i ON song (a); "
        "CREATE UNIQUE INDEX j ON song (a) WHERE a > 1; ALTER TABLE song ADD COLUMN b INT"
    )
    assert (song.keys, song.required, song.references) == ((), set(), ())
