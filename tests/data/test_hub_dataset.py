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
    with pytest.raises(UserError, match=f"row 2: answer is ' '.*this one is .*{ROWS[1]['question'][:20]}"):
        dataset.load_rows(str(tmp_path), "DATA_PATH")


def test_a_dataset_without_a_train_split_is_refused(tmp_path):
    write(tmp_path / "test.jsonl")
    with pytest.raises(UserError, match="no train split.*test"):
        dataset.load_rows(str(tmp_path), "DATA_PATH")
