"""Names in a schema's text are quoted only where they must be."""

import random

from sqlora.sql.parsing import parse_schema
from sqlora.sql.schema import Column, Schema, Table


def test_names_are_quoted_only_where_they_must_be():
    schema = parse_schema('CREATE TABLE [order] (`group` INT, year INT, "2nd place" TEXT, seen TIMESTAMP, at TIME)')
    assert schema.ddl() == (
        'CREATE TABLE "order" ("group" INTEGER, year INTEGER, "2nd place" VARCHAR, seen TIMESTAMP, at TIME)'
    )
    assert parse_schema(schema.ddl()) == schema


PIECES = [
    "*/",
    "/*",
    "--",
    "'",
    '"',
    "`",
    ";",
    "\n",
    "\\",
    "\0",
    "###",
    "a",
    " ",
    "é",
    "/",
    "*",
    "CREATE TABLE x (y INT)",
]


def test_whatever_a_comment_or_a_value_says_the_text_is_read_as_it_was_written():
    generator = random.Random(1)
    for _ in range(300):
        said, value, about = ("".join(generator.choices(PIECES, k=generator.randint(1, 9))) for _ in range(3))
        column = Column("a", "integer", comment=said, samples=(value,))
        schema = Schema((Table("t", (column, Column("b", "text")), comment=about), Table("u", (column,))))
        read = parse_schema(schema.ddl("full"))
        assert read == schema
        assert read.ddl("described") == schema.ddl("full")


def test_styles_show_more_and_more():
    column = Column("a", "text", comment="what it is", samples=("it's", 2, 1.5, "unseen"))
    schema = Schema((Table("t", (column,), keys=(("a",),), required=frozenset(["a"]), comment="all"),))
    assert schema.ddl() == "CREATE TABLE t (a VARCHAR)"
    assert schema.ddl("described") == "CREATE TABLE t /* all */ (a VARCHAR PRIMARY KEY /* what it is */)"
    assert "/* what it is; such as 'it''s', 2, 1.5 */" in schema.ddl("full")
    assert len(Column("a", "text", comment="x" * 999).note("described")) < 420


def test_foreign_keys_go_with_their_columns():
    schema = parse_schema("CREATE TABLE t (a INT PRIMARY KEY); CREATE TABLE u (b INT REFERENCES t (a), c INT)")
    one, other = schema.tables
    assert Schema((other,)).consistent().tables[0].references == ()
    assert schema.consistent() == schema
    assert not Schema((one,)).consistent().links
