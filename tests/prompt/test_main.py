"""python -m sqlora.prompt prints what the model is given."""

import json
import subprocess
import sys
from pathlib import Path

from sqlora.prompt import template

ROOT = Path(__file__).parents[2]


def test_the_command_prints_what_the_model_is_given(tmp_path):
    (tmp_path / "s.sql").write_text("CREATE TABLE t\n  (a INTEGER)\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sqlora.prompt",
            "--question",
            "Wie viele Bücher?",
            "--context",
            str(tmp_path / "s.sql"),
            "--prompt-order",
            "schema_first",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    expected = template.build_prompt("Wie viele Bücher?", "CREATE TABLE t\n (a INTEGER)", "schema_first")
    assert json.loads(done.stdout) == expected
    assert expected.endswith("### Response:\n")
