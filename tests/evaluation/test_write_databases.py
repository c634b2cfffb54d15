"""Synthetic databases as files, for anybody's evaluator."""

import sqlite3
from pathlib import Path

import pytest
from concert import CONTEXT

from sqlora.evaluation.rules import rule_of
from sqlora.evaluation.write_databases import GOLDS, write
from sqlora.system.errors import UserError

ROWS = [
    {"context": CONTEXT, "answer": "SELECT name FROM singer WHERE age > 30", "db_id": "concert"},
    {"context": CONTEXT, "answer": "SELECT COUNT(*)\nFROM song", "db_id": "concert"},
    {"context": CONTEXT, "answer": "SELECT title FROM song ORDER BY id"},
    {"context": CONTEXT, "answer": "no query"},
]


def test_the_files_tell_golds_from_near_misses(tmp_path):
    count = write(ROWS, tmp_path / "databases", rule_of("test-suite"))
    files = sorted((tmp_path / "databases").glob("*/*.sqlite"))
    assert len(files) == count
    assert {path.parent.name for path in files} == {"concert", "row_00003"}
    lines = (tmp_path / "databases" / GOLDS).read_text().splitlines()
    assert lines[1] == "SELECT COUNT(*) FROM song\tconcert"
    assert [line.split("\t")[1] for line in lines] == ["concert", "concert", "row_00003", "row_00004"]
    gold, near = ROWS[0]["answer"], ROWS[0]["answer"].replace(">", ">=")
    differs = 0
    for path in files:
        connection = sqlite3.connect(path)
        assert {name for (name,) in connection.execute("SELECT name FROM sqlite_master")} == {"singer", "song"}
        if path.parent.name == "concert":
            differs += sorted(connection.execute(gold)) != sorted(connection.execute(near))
        connection.close()
    assert differs


def test_the_same_rows_give_the_same_databases(tmp_path):
    for name in ("one", "two"):
        write(ROWS[:1], tmp_path / name, rule_of("bird"))
    one, two = (sorted((tmp_path / name).glob("*/*.sqlite")) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


@pytest.mark.parametrize("db_id", ["../out", "..", ".", "/tmp/out", "a/b", "nul\0"])
def test_a_db_id_that_leads_elsewhere_is_refused(tmp_path, db_id):
    folder = tmp_path / "databases"
    with pytest.raises(UserError, match="row 2 has the db_id .* cannot be the name of a folder"):
        write([ROWS[0], ROWS[0] | {"db_id": db_id}], folder, rule_of("strict"))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_named_by_a_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write(ROWS[:1], Path("."), rule_of("strict")) == len(list(tmp_path.glob("concert/*.sqlite"))) > 0
