"""Real databases: read, never changed, and one line for what is none."""

import concert
import pytest

from sqlora.evaluation.real_databases import RealDatabase, databases_of, open_file
from sqlora.sql.parsing import SqlError


@pytest.fixture
def folder(tmp_path):
    return concert.make_folder(tmp_path / "databases")


def test_a_database_is_read_with_its_schema_and_some_of_its_values(folder):
    database = RealDatabase(folder / "concert" / "concert.sqlite")
    assert database.context == concert.CONTEXT
    assert [table.name for table in database.schema.tables] == ["singer", "song"]
    assert database.samples["singer"]["name"] == ["Ann", "Bo", "Cy"]
    assert database.run("SELECT COUNT(*) FROM song").rows == [(3,)]


@pytest.mark.parametrize(
    "sql",
    ["DELETE FROM song", "DROP TABLE song", "PRAGMA user_version = 7", "ATTACH 'x' AS y", "SELECT load_extension('x')"],
)
def test_a_prediction_cannot_change_it(folder, sql):
    path = folder / "concert" / "concert.sqlite"
    before = path.read_bytes()
    with pytest.raises(SqlError):
        open_file(path).run(sql)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["concert.sqlite"]


def test_a_query_has_a_deadline(folder):
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    with pytest.raises(SqlError) as caught:
        open_file(folder / "concert" / "concert.sqlite").run(endless, deadline=0.2)
    assert caught.value.kind == "timeout"


def test_what_is_no_database_is_an_error(tmp_path):
    (tmp_path / "x.sqlite").write_text("no database, though long enough to have a header of its own")
    for path in (tmp_path / "x.sqlite", tmp_path / "none.sqlite"):
        with pytest.raises(SqlError) as caught:
            RealDatabase(path)
        assert caught.value.kind == "schema"


def test_the_files_of_a_db_id(folder):
    assert [path.name for path in databases_of(folder, "concert")] == ["concert.sqlite"]
    for name in ("other", "", ".", "..", "../databases/concert", "a\0b"):
        assert databases_of(folder, name) == databases_of(folder / "concert", name) == []
