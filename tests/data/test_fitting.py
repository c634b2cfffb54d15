"""Rows whose schema does not fit: tables are left out, and nothing is cut."""

import pytest

from sqlora.data.fitting import SchemaFitter, fit_rows, style_of, styled
from sqlora.data.layouts import PLAIN_CONTEXT
from sqlora.data.tokenise import tokenise_rows
from sqlora.prompt import encoding
from sqlora.settings.command_line import load_settings
from sqlora.sql.parsing import parse_schema
from sqlora.system.errors import UserError

THINGS = ("amber", "boat", "cedar", "door", "engine", "ferry", "garden", "harbour", "island", "jacket")
PLAIN = "; ".join(f"CREATE TABLE {thing} ({thing}_id INTEGER, weight REAL, colour VARCHAR)" for thing in THINGS)
KEYS = (
    "; ".join(f"CREATE TABLE {thing} (id INTEGER PRIMARY KEY, weight REAL NOT NULL)" for thing in THINGS)
    + "; CREATE TABLE sails (boat INTEGER, ferry INTEGER, FOREIGN KEY (boat) REFERENCES boat (id), "
    "FOREIGN KEY (ferry) REFERENCES ferry (id))"
)
ROW = {"question": "How heavy is the ferry?", "context": PLAIN, "answer": "SELECT weight FROM jacket"}


def tables(row):
    return {table.name for table in parse_schema(row["context"]).tables}


def length(tokenizer, row):
    return len(encoding.encode_prompts(tokenizer, [row])[0])


@pytest.mark.parametrize("context", [PLAIN, KEYS])
def test_the_tables_of_the_question_and_of_the_gold_stay(llama_tokenizer, context):
    row = ROW | {"context": context}
    fitter, most = SchemaFitter(llama_tokenizer, "question_first"), length(llama_tokenizer, row) // 2 + 60
    for keeps_gold in (True, False):
        shorter = fitter.fit(row, most, keeps_gold)
        assert length(llama_tokenizer, shorter) <= most
        assert "ferry" in tables(shorter) < tables(row)
        assert ("jacket" in tables(shorter)) == keeps_gold
        assert shorter | {"context": context} == row


def test_keys_to_tables_that_are_left_out_go_with_them(llama_tokenizer):
    row = ROW | {"context": KEYS, "question": "Which boat sails?", "answer": "SELECT boat FROM sails"}
    shorter = SchemaFitter(llama_tokenizer, "question_first").fit(row, length(llama_tokenizer, row) - 100, True)
    schema = parse_schema(shorter["context"])
    assert {reference.table for table in schema.tables for reference in table.references} <= tables(shorter)
    assert parse_schema(KEYS).table("sails").references[0] in schema.table("sails").references


@pytest.mark.parametrize(
    "change",
    [
        {"question": "x " * 2000},
        {"context": "no schema " * 500},
        {"answer": "SELECT FROM"},
        {"answer": "SELECT a FROM no"},
    ],
)
def test_what_cannot_be_shortened(llama_tokenizer, change):
    assert SchemaFitter(llama_tokenizer, "question_first").fit(ROW | change, 150, keeps_gold=True) is None


def test_rows_to_answer_keep_room_for_the_answer(llama_tokenizer):
    short = ROW | {"context": "CREATE TABLE ferry (weight REAL)"}
    whole = length(llama_tokenizer, ROW)
    rows = fit_rows([ROW, short], llama_tokenizer, "question_first", whole - 1, 40)
    assert rows[1] is short
    assert length(llama_tokenizer, rows[0]) <= whole - 41
    assert fit_rows([ROW], llama_tokenizer, "question_first", whole, 40) == [ROW]


def test_long_rows_are_shortened_dropped_or_refused(llama_tokenizer):
    most = length(llama_tokenizer, ROW)
    counts = {}
    for mode in ("shorten", "drop"):
        flags = ["--max-length", str(most), "--long-rows", mode]
        out = tokenise_rows([ROW], llama_tokenizer, load_settings(flags, ""))
        counts[mode] = len(out.rows), out.shortened, out.too_long
        assert all(len(row["input_ids"]) == len(row["labels"]) <= most for row in out.rows)
    assert counts == {"shorten": (1, 1, 0), "drop": (0, 0, 1)}
    with pytest.raises(UserError, match="--max-length"):
        tokenise_rows([ROW], llama_tokenizer, load_settings(["--max-length", str(most), "--long-rows", "raise"], ""))


def test_the_schema_of_a_database_is_shown_in_a_style():
    own, of_database = ROW | {"context": KEYS, "db_id": "things"}, ROW | {"context": KEYS, PLAIN_CONTEXT: "plain"}
    assert styled([own, of_database], "described") == styled([own, of_database], "auto") == [own, of_database]
    kept, plain = styled([own, of_database], "plain")
    assert kept == own
    assert plain["context"] == "plain"
    styles = [
        [style_of(rows, wanted) for wanted in ("auto", "plain", "described")] for rows in ([own], [own, of_database])
    ]
    assert styles == [["plain", "plain", "described"], ["described", "plain", "described"]]
