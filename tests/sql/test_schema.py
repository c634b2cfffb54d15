"""Names in a schema's text are quoted only where they must be."""

from sqlora.sql.parsing import parse_schema


def test_names_are_quoted_only_where_they_must_be():
    schema = parse_schema('CREATE TABLE [order] (`group` INT, year INT, "2nd place" TEXT, seen TIMESTAMP, at TIME)')
    assert schema.ddl() == (
        'CREATE TABLE "order" ("group" INTEGER, year INTEGER, "2nd place" VARCHAR, seen TIMESTAMP, at TIME)'
    )
    assert parse_schema(schema.ddl()) == schema
