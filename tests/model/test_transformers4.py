"""transformers 4 with the names of transformers 5; test_bigdl.py runs all of it where that version is installed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# In a process of its own: the module changes classes of transformers, which the other tests need as they are.
ROTATE = """
import sys
from sqlora.model import transformers4
assert transformers4.has_triton() is False
transformers4.rotate_checkpoints(sys.argv[1], 2, sys.argv[2], use_mtime=True)
"""


def test_the_oldest_checkpoints_go_but_not_the_best(tmp_path):
    folders = [tmp_path / f"checkpoint-{step}" for step in (5, 10, 15, 20)]
    for age, folder in enumerate(folders):
        folder.mkdir()
        os.utime(folder, (1000 + age, 1000 + age))
    subprocess.run([sys.executable, "-c", ROTATE, str(tmp_path), str(folders[0])], cwd=ROOT, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-20", "checkpoint-5"]
