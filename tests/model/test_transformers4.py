"""transformers 4 with the names of transformers 5; test_bigdl.py runs all of it where that version is installed."""

import os

from sqlora.model import transformers4


def test_the_oldest_checkpoints_go_but_not_the_best(tmp_path):
    folders = [tmp_path / f"checkpoint-{step}" for step in (5, 10, 15, 20)]
    for age, folder in enumerate(folders):
        folder.mkdir()
        os.utime(folder, (1000 + age, 1000 + age))
    transformers4.rotate_checkpoints(str(tmp_path), 2, str(folders[0]), use_mtime=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-20", "checkpoint-5"]


def test_nothing_is_compiled():
    assert transformers4.has_triton() is False
