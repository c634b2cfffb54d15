"""Rows whose schema does not fit: tables are left out, and nothing is cut."""

import pytest
from concert import make_folder

from sqlora.data.dataset import Reading
from sqlora.data.fitting import SchemaFitter, fit_rows, style_of, styled
from sqlora.data.layouts import INSERTS, PLAIN_CONTEXT
from sqlora.data.tokenise import tokenise_rows
from sqlora.prompt import encoding
from sqlora.prompt.template import prompt_of
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
    for style in ("described", "auto"):
        assert styled([own, of_database], style, Reading()) == [own, of_database]
    kept, plain = styled([own, of_database], "plain", Reading())
    assert kept == own
    assert plain["context"] == "plain"
    styles = [[style_of(rows, wanted) for wanted in ("auto", "plain", "full")] for rows in ([own], [own, of_database])]
    assert styles == [["plain", "plain", "full"], ["described", "plain", "full"]]


def test_full_schemas_have_values_of_the_database_and_those_that_the_question_names(tmp_path):
    reading = Reading(database_folder=make_folder(tmp_path))
    row = {"question": "How many singers are from Chile?", "db_id": "concert", "context": "x", PLAIN_CONTEXT: "y"}
    (shown,) = styled([row], "full", reading)
    assert "country VARCHAR /* such as 'Peru', 'Chile' */" in shown["context"]
    assert "id INTEGER PRIMARY KEY, name" in shown["context"]  # numbers of rows say nothing
    assert shown["values"] == "singer.country: 'Chile'"
    assert "\n\n### Values:\nsinger.country: 'Chile'\n\n### Response" in prompt_of(shown)


def test_inserts_of_a_context_become_samples():
    row = {"question": "q", "context": "CREATE TABLE t (a INT, b TEXT)", "answer": "SELECT 1"}
    inserts = "INSERT INTO t VALUES (1, 'x'), (-2, 'it''s'); INSERT INTO t (b) VALUES ('x');INSERT INTO u VALUES (1)"
    (shown,) = styled([row | {INSERTS: inserts}], "full", Reading())
    assert shown["context"] == "CREATE TABLE t (a INTEGER /* such as 1, -2 */, b VARCHAR /* such as 'x', 'it''s' */)"
    assert styled([row | {INSERTS: inserts}], "described", Reading())[0]["context"] == row["context"]


def test_a_shortened_row_keeps_comments_and_the_values_of_its_tables(llama_tokenizer):
    context = "CREATE TABLE t (a INTEGER /* age */); CREATE TABLE u (b VARCHAR /* such as 'x', 'y' */)"
    row = {"question": "age of t", "context": context, "answer": "SELECT a FROM t", "values": "t.a: 'k'\nu.b: 'x'"}
    (ids,) = encoding.encode_prompts(llama_tokenizer, [row])
    fitted = SchemaFitter(llama_tokenizer, "question_first").fit(row, len(ids) - 5, keeps_gold=False)
    assert fitted["context"] == "CREATE TABLE t (a INTEGER /* age */)"
    assert fitted["values"] == "t.a: 'k'"
