"""Folders of row files."""

import pytest
from small_data import ROWS, write

from sqlora.data import dataset
from sqlora.system.errors import UserError


def test_a_folder_of_files_is_read_as_a_dataset(tmp_path):
    write(tmp_path / "train.jsonl")
    assert dataset.load_rows(str(tmp_path), "DATA_PATH") == ROWS


def test_a_bad_row_of_a_folder_is_shown(tmp_path):
    write(tmp_path / "train-0.jsonl", ROWS[:1])
    write(tmp_path / "train-1.jsonl", [ROWS[1] | {"answer": " "}])
    with pytest.raises(UserError, match="train-1.jsonl: row 1: answer is ' '"):
        dataset.load_rows(str(tmp_path), "DATA_PATH")


def test_a_dataset_without_a_train_split_is_refused(tmp_path):
    write(tmp_path / "test.jsonl")
    with pytest.raises(UserError, match="no train split.*test"):
        dataset.load_rows(str(tmp_path), "DATA_PATH")


CSV = "question,context,answer\n1,CREATE TABLE t (a INT),NULL\n"


def test_a_file_of_a_folder_is_read_as_it_is_alone(tmp_path):
    (tmp_path / "rows.csv").write_text(CSV)
    row = {"question": "1", "context": "CREATE TABLE t (a INT)", "answer": "NULL"}
    assert dataset.load_rows(str(tmp_path), "DATA_PATH") == [row]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.csv", CSV.replace("NULL", "NULL,more"), "rows.csv: line 2: a row has more fields"),
        ("rows.csv", "question,context,answer,answer\na,b,c,d\n", "rows.csv: .* the column 'answer' twice"),
        ("rows.jsonl", "", "rows.jsonl: the file is empty"),
        ("rows.jsonl", "{", "rows.jsonl: line 1: malformed JSON"),
    ],
)
def test_what_is_wrong_with_a_file_of_a_folder_is_reported_as_of_a_file(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=words):
        dataset.load_rows(str(tmp_path), "DATA_PATH")


@pytest.mark.parametrize("unused", ["more.jsonl", "b.csv"])
def test_files_in_no_split_are_named(tmp_path, capsys, unused):
    write(tmp_path / "train.jsonl")
    write(tmp_path / "test.jsonl", ROWS[:2])
    (tmp_path / unused).write_text(CSV)
    assert dataset.load_rows(str(tmp_path), "DATA_PATH") == ROWS
    printed = capsys.readouterr().out
    assert f"in no split, and not read: {unused}" in printed
    assert "test.jsonl" not in printed
