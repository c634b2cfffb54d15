"""Folders and files are written whole, or stay as they were."""

import pytest

from sqlora import atomic


def test_a_new_folder_takes_the_place_of_an_old_one(tmp_path):
    target = tmp_path / "checkpoint-3"
    target.mkdir()
    (target / "old").write_text("1")
    with atomic.new_folder(target) as partial:
        (partial / "new").write_text("2")
        assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_what_fails_leaves_the_old_one(tmp_path):
    target = tmp_path / "checkpoint-3"
    target.mkdir()
    (target / "old").write_text("1")

    def fail():
        with atomic.new_folder(target) as partial:
            (partial / "new").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_files_replace_those_of_their_names_the_last_one_last(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "kept").write_text("old")
    with atomic.replacing(tmp_path, last="a") as partial:
        (partial / "a").write_text("new")
        (partial / "b").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new", "kept": "old"}


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / f"{atomic.PARTIAL}checkpoint-3").mkdir()
    (tmp_path / "checkpoint-2").mkdir()
    atomic.remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
