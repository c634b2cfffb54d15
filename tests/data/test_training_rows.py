"""The rows of a run: read, checked, split and tokenised, from a file and from a stream."""

import json

import pytest

from sqlora.data import dataset, training_rows
from sqlora.system.errors import UserError

ROWS = [
    {"question": f"How many {i}?", "context": f"CREATE TABLE t{i} (a INTEGER)", "answer": f"SELECT {i} FROM t{i}"}
    for i in range(20)
]
INVENTS = {"question": "Which b?", "context": "CREATE TABLE u (a INTEGER)", "answer": "SELECT b FROM u"}


@pytest.fixture
def load(tmp_path, make_settings):
    def load(*flags):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, INVENTS]))
        settings = make_settings("--data-path", str(path), "--validation-rows", "4", *flags)
        return training_rows.load(settings), settings

    return load


def test_every_row_is_checked_and_in_one_split(load):
    rows, settings = load()
    assert len(rows.read) == 21
    assert INVENTS not in rows.train + rows.validation
    assert len(rows.validation) == 4
    assert sorted(row["question"] for row in rows.train + rows.validation) == sorted(row["question"] for row in ROWS)
    assert rows.origin(settings) == {
        "id": settings.DATA_PATH,
        "hash": dataset.data_hash(rows.read),
        "rows": 21,
        "schema_style": "plain",
        "sql_dialect": "sqlite",
    }
    assert rows.stream(None, settings) is None


def test_the_same_rows_as_token_ids(load, llama_tokenizer):
    rows, settings = load()
    splits = rows.tokenise(llama_tokenizer, settings)
    assert (len(splits.train.rows), len(splits.validation.rows)) == (16, 4)


def test_a_test_file_is_held_out(load, tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps(ROWS[3]) + "\n")
    rows, _ = load("--holdout", str(tmp_path / "test.jsonl"))
    assert ROWS[3] not in rows.train + rows.validation
    assert sum(rows.overlaps.values()) == 1


def test_a_stream_reads_the_others_later(load, llama_tokenizer):
    rows, settings = load("--streaming", "--shuffle-buffer", "10")
    assert len(rows.read) == 10
    assert rows.origin(settings)["rows"] == "streamed"
    seen = rows.stream(llama_tokenizer, settings)
    ids = {tuple(row["input_ids"]) for row, _ in zip(seen, range(40), strict=False)}
    held_out = {tuple(row["input_ids"]) for row in rows.tokenise(llama_tokenizer, settings).validation.rows}
    assert len(ids) == 16
    assert not ids & held_out


def test_too_few_rows(load):
    with pytest.raises(UserError, match="VALIDATION_ROWS"):
        load("--validation-rows", "500")
