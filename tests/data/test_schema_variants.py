"""Schemas of databases change from epoch to epoch, and stay the same within one."""

import html
import json
from dataclasses import replace
from pathlib import Path

from concert import make_folder

import finetune
import generate
from sqlora.data.layouts import PLAIN_CONTEXT
from sqlora.data.schema_variants import EpochRows, needed_names, vary
from sqlora.data.tokenise import tokenise_splits
from sqlora.settings.command_line import load_settings
from sqlora.sql.parsing import parse_schema

CONTEXT = "; ".join(
    f"CREATE TABLE {table} (id INTEGER PRIMARY KEY /* of {table} */, a TEXT, b TEXT, c TEXT, "
    f"FOREIGN KEY (b) REFERENCES t0 (a))"
    for table in ("t0", "t1", "t2", "t3")
)
ROWS = [
    {"question": f"{number}?", "context": CONTEXT, PLAIN_CONTEXT: "plain", "answer": answer}
    for number, answer in enumerate(["SELECT a FROM t0", "SELECT id FROM t1 WHERE b = 'c'"])
]
OWN = {"question": "own?", "context": "CREATE TABLE own (b INT, a INT)", "answer": "SELECT a FROM own"}


def names(schema):
    return {(table.name, column.name) for table in schema.tables for column in table.columns}


def test_rows_of_one_database_share_their_schema_and_epochs_differ():
    needed = needed_names(ROWS)
    assert needed == {CONTEXT: {"a", "t0", "id", "t1", "b"}}
    seen = set()
    for epoch in range(8):
        first, second, own = vary([*ROWS, OWN], 1, epoch, needed)
        assert own == OWN
        assert first["context"] == second["context"]
        schema = parse_schema(first["context"])
        assert names(schema) >= {(table, name) for table in ("t0", "t1") for name in ("a", "id", "b")}
        assert names(schema) <= names(parse_schema(CONTEXT))
        seen.add(first["context"])
        assert vary(ROWS, 1, epoch, needed)[0] == first
    assert len(seen) == 8
    assert len({len(names(parse_schema(context))) for context in seen}) > 2
    assert 0 < sum("/*" in context for context in seen)


def test_nothing_is_left_out_where_what_golds_need_is_not_known():
    assert needed_names([ROWS[0] | {"answer": "SELECT * FROM t0"}, ROWS[1]]) == {}
    assert needed_names([ROWS[0], ROWS[1] | {"answer": "not SQL"}]) == {}
    for needed in (None, {}):
        (row,) = vary(ROWS[:1], 1, 1, needed)
        assert parse_schema(row["context"]) != parse_schema(CONTEXT)
        assert names(parse_schema(row["context"])) == names(parse_schema(CONTEXT))


def test_an_epoch_of_training_rows(llama_tokenizer):
    settings = load_settings(["--validation-rows", "1", "--max-length", "2048"], "")
    splits = tokenise_splits([*ROWS, OWN], [ROWS[0]], llama_tokenizer, settings)
    rows = splits.train.rows
    assert isinstance(rows, EpochRows)
    epochs = []
    for epoch in (0, 1, 0):
        rows.set_epoch(epoch)
        epochs.append([list(row["input_ids"]) for row in rows])
    assert epochs[0] == epochs[2]
    assert [one == other for one, other in zip(*epochs[:2], strict=True)] == [False, False, True]
    assert isinstance(tokenise_splits([OWN, OWN], [OWN], llama_tokenizer, settings).train.rows, list)


def test_a_row_that_would_be_too_long_stays_as_it_was(llama_tokenizer):
    encoded = [{"input_ids": [1, 2], "labels": [1, 2]}] * 2
    settings = load_settings(["--max-length", "8"], "")
    rows = EpochRows(ROWS, encoded, lambda texts: [{"input_ids": [0] * 9, "labels": [0] * 9}] * len(texts), settings)
    assert list(rows) == encoded


def test_a_run_over_databases_shows_their_values(llama_folder, make_settings, tmp_path):
    """From rows with a db_id to an adapter, and to answers with the same style of schema."""
    folder, rows = make_folder(tmp_path / "databases"), tmp_path / "rows.json"
    asked = [("How many singers are from Chile?", "singer WHERE country = 'Chile'"), ("How many songs?", "song")]
    made = [
        {"db_id": db, "question": q, "query": f"SELECT COUNT(*) FROM {s}"}
        for q, s in asked
        for db in ("concert", "empty")
    ]
    rows.write_text(json.dumps(made))
    flags = ["--base-model", str(llama_folder), "--data-path", str(rows), "--test-data", str(rows)]
    flags += [
        "--database-folder",
        str(folder),
        "--schema-style",
        "full",
        "--max-length",
        "900",
        "--validation-rows",
        "1",
    ]
    flags += [part for name in ("max-steps", "eval-steps", "save-steps") for part in (f"--{name}", "2")]
    settings = make_settings(*flags, "--batch-size", "2")
    finetune.main(settings)
    written = json.loads((Path(settings.MODEL_PATH) / "sqlora.json").read_text())["data"]
    assert (written["schema_style"], written["sql_dialect"]) == ("full", "sqlite")
    assert generate.main(replace(settings, SCHEMA_STYLE="auto", EVALUATE=True)) == 0
    page = html.unescape((Path(settings.CHECKPOINT_DIR) / "before_after.html").read_text())
    assert "### Values:\nsinger.country: 'Chile'" in page
    assert "such as 'Peru', 'Chile'" in page
