"""Which tables of a large schema a question is about."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sqlora.prompt.schema_linking import Linker, pick_tables, words
from sqlora.sql.schema import Column, Reference, Schema, Table
from sqlora.system.errors import UserError


def schema(**tables):
    return Schema(
        tuple(
            Table(name, tuple(Column(column, "text") for column in columns.split())) for name, columns in tables.items()
        )
    )


PLAIN = schema(
    Customer="CustomerId FirstName City",
    Invoice="InvoiceId CustomerId InvoiceDate",
    InvoiceLine="LineId InvoiceId TrackId Price",
    Track="TrackId Title AlbumId",
    Album="AlbumId Name",
    Employee="EmployeeId HireDate",
    **{f"log_{i}": "a b c" for i in range(40)},
)
LINKS = {
    "Invoice": [Reference(("customerid",), "customer", ("customerid",))],
    "InvoiceLine": [
        Reference(("invoiceid",), "invoice", ("invoiceid",)),
        Reference(("trackid",), "track", ("trackid",)),
    ],
    "Track": [Reference(("albumid",), "album", ("albumid",))],
}
SHOP = Schema(tuple(replace(table, references=tuple(LINKS.get(table.name, ()))) for table in PLAIN.tables))


def lengths(texts):
    return [len(text) for text in texts]


def chosen(question, characters):
    return [table.name for table in Linker(SHOP, lengths).choose(question, characters).tables]


def test_words_of_names():
    assert words("HTTPStatusCodes customer_id2") == ["http", "status", "code", "custom", "id", "2"]


def test_all_tables_where_they_fit():
    assert Linker(SHOP, lengths).choose("anything", 10_000) == SHOP


def test_the_tables_that_share_words_with_the_question():
    assert chosen("In which cities do our customers live?", 90) == ["Customer"]
    assert chosen("When were the employees hired?", 90) == ["Employee"]


def test_two_tables_come_with_what_joins_them():
    found = chosen("Which customers bought which tracks?", 330)
    assert {"Customer", "Invoice", "InvoiceLine", "Track"} <= set(found)
    assert not [name for name in found if name.startswith("log_")]


def test_what_does_not_fit_is_left_out_and_nothing_that_fits_is_an_error():
    with pytest.raises(UserError, match="no table fits"):
        chosen("Which customers?", 10)
    assert len(chosen("zzz", 300)) > 2  # nothing tells which
    names = chosen("Which customers bought which tracks?", 500)
    assert sum(len(f"; {Schema((SHOP.table(name),)).ddl()}") for name in names) <= 500


def test_tables_by_name():
    assert [table.name for table in pick_tables(SHOP, ["track", "ALBUM"]).tables] == ["Track", "Album"]
    with pytest.raises(UserError, match="did you mean Customer"):
        pick_tables(SHOP, ["custommer"])
    with pytest.raises(UserError, match="Customer, Invoice.* and 26 others"):
        pick_tables(SHOP, ["zzz"])


def test_bm25s_is_imported_where_it_is_needed_and_keeps_jax_off_the_gpu():
    """It imports jax, if that is there, which takes most of a GPU's memory."""
    code = (
        "import os, sys; from sqlora.prompt import schema_linking, value_matching; assert 'bm25s' not in sys.modules; "
        "schema_linking.load_bm25s(); assert os.environ['JAX_PLATFORMS'] == 'cpu' and 'bm25s' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
