"""The schema of a db_id: of its file, of tables.json, or one line that says what is wrong."""

import json
import sqlite3
from pathlib import Path

import pytest
from concert import CONTEXT, make_folder

from sqlora.evaluation.database_schemas import DatabaseSchemas
from sqlora.sql.parsing import parse_schema
from sqlora.system.errors import UserError

SCHEMA = parse_schema(CONTEXT)
LISTED = {
    "db_id": "concert",
    "table_names_original": ["singer", "song", "part", "sqlite_sequence"],
    "column_names_original": [
        [-1, "*"],
        [0, "id"],
        [0, "name"],
        [1, "id"],
        [1, "singer"],
        [2, "song"],
        [2, "number"],
        [3, "seq"],
        [0, "Debut Day"],
    ],
    "column_types": ["text", "number", "text", "number", "number", "number", "number", "number", "time"],
    "primary_keys": [1, 3, 5],
    "foreign_keys": [[4, 1], [5, 3]],
}
DESCRIBED = (
    'CREATE TABLE singer (id INTEGER PRIMARY KEY, name VARCHAR, "Debut Day" TIMESTAMP); '
    "CREATE TABLE song (id INTEGER PRIMARY KEY, singer INTEGER, FOREIGN KEY (singer) REFERENCES singer (id)); "
    "CREATE TABLE part (song INTEGER, number REAL, FOREIGN KEY (song) REFERENCES song (id))"
)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "databases")


def test_a_database_says_its_tables_and_keys(folder):
    assert DatabaseSchemas(folder).schema("concert", "row 1") == SCHEMA


def test_a_folder_may_be_named_from_the_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert DatabaseSchemas(Path(folder.name)).schema("concert", "row 1") == SCHEMA


def test_tables_json_says_them_too(tmp_path):
    for name in ("tables.json", "dev_tables.json"):
        place = tmp_path / name.partition(".")[0]
        place.mkdir()
        (place / name).write_text(json.dumps([LISTED]))
        for named in (place / name, place):
            assert DatabaseSchemas(named).schema("concert", "row 1").ddl("described") == DESCRIBED
        assert DatabaseSchemas(None, place / "dev.json").schema("concert", "row 1").ddl("described") == DESCRIBED


def test_a_key_of_bird_has_all_its_columns(tmp_path):
    (tmp_path / "tables.json").write_text(json.dumps([LISTED | {"primary_keys": [1, [5, 6]]}]))
    assert "number INTEGER, PRIMARY KEY (song, number)" in DatabaseSchemas(tmp_path).schema("concert", "row 1").ddl(
        "described"
    )


def test_the_database_counts_where_its_tables_json_differs(folder, capsys):
    (folder.parent / "tables.json").write_text(json.dumps([LISTED]))
    schemas = DatabaseSchemas(folder)
    assert schemas.schema("concert", "row 1") == schemas.schema("concert", "row 2") == SCHEMA
    assert capsys.readouterr().out.count("differ") == 1


def test_two_files_of_one_database(folder):
    other = folder / "concert" / "a.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE other (a)")
    connection.close()
    assert DatabaseSchemas(folder).schema("concert", "row 1") == SCHEMA  # its own name decides
    other.rename(folder / "empty" / "a.sqlite")
    (folder / "empty" / "empty.sqlite").rename(folder / "empty" / "b.sqlite")
    with pytest.raises(
        UserError, match=r"row 1: the database empty has the files a.sqlite and b.sqlite with different"
    ):
        DatabaseSchemas(folder).schema("empty", "row 1")


def test_what_is_wrong_is_one_line(folder, tmp_path):
    for place, words in (
        (tmp_path / "none", "there is no such folder"),
        (folder / "concert", "no db_id/.* or tables.json is in it"),
    ):
        with pytest.raises(UserError, match=f"--database-folder.*{words}"):
            DatabaseSchemas(place)
    with pytest.raises(UserError, match="row 3 has the db_id 'x', which is not in .*databases"):
        DatabaseSchemas(folder).schema("x", "row 3")
    with pytest.raises(UserError, match="row 3 has the db_id 'x', and there are no databases; --database-folder names"):
        DatabaseSchemas(None).schema("x", "row 3")
    (folder / "empty" / "empty.sqlite").write_text("no database, though long enough to have a header of its own")
    with pytest.raises(UserError, match="row 1: .*empty.sqlite cannot be read"):
        DatabaseSchemas(folder).schema("empty", "row 1")
    for text in ("[{}]", "{", "[1]", '[{"db_id": "a", "table_names_original": ["t"]}]'):
        (folder / "tables.json").write_text(text)
        with pytest.raises(UserError, match="is not a tables.json"):
            DatabaseSchemas(folder).schema("concert", "row 1")


def test_what_is_said_of_columns_is_shown_beside_them(folder, capsys):
    (folder.parent / "tables.json").write_text(
        json.dumps(
            [LISTED | {"column_names": [[one, f"{name} here"] for one, name in LISTED["column_names_original"]]}]
        )
    )
    described = folder / "concert" / "database_description"
    described.mkdir()
    (described / "Singer.csv").write_bytes(
        "\ufefforiginal_column_name,column_name,column_description,data_format,value_description\n"
        'id,,,integer,\nNAME ,artist name,,text,\nage,,how old,integer,"in years\nat debut"\nnope,,gone,,\n'.encode()
    )
    shown = DatabaseSchemas(folder).schema("concert", "row 1").ddl("described")
    assert "id INTEGER PRIMARY KEY /* id here */, name VARCHAR /* artist name */" in shown
    assert "age INTEGER /* how old; in years at debut */" in shown
    printed = " ".join(capsys.readouterr().out.split())
    assert "the database_description of concert describes singer.nope, which the database has not" in printed
    (described / "song.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column original_column_name"):
        DatabaseSchemas(folder).schema("concert", "row 1")


def test_a_name_in_other_words_says_nothing(tmp_path):
    natural = [[one, name.upper().replace("_", " ")] for one, name in LISTED["column_names_original"]]
    (tmp_path / "tables.json").write_text(json.dumps([LISTED | {"column_names": natural}]))
    assert "/*" not in DatabaseSchemas(tmp_path).schema("concert", "row 1").ddl("described")


def test_hidden_columns_are_in_no_schema(folder):
    schemas = DatabaseSchemas(folder, hidden=["singer.country", "nothing"])
    assert "country" not in schemas.schema("concert", "row 1").ddl()
    assert ("singer", "country") not in schemas.sampled("concert", "row 1").texts
    assert schemas.sampled("concert", "row 1").texts["singer", "name"] == ("Ann", "Bo", "Cy")


def test_of_large_rows_fewer_are_read(folder):
    with sqlite3.connect(folder / "concert" / "concert.sqlite") as connection:
        connection.execute("CREATE TABLE page (kind TEXT, body TEXT)")
        connection.executemany("INSERT INTO page VALUES (?, ?)", [("news", f"{i}" + "x" * 20_000) for i in range(3000)])
    sampled = DatabaseSchemas(folder).sampled("concert", "row 1")
    assert sampled.texts["page", "kind"] == ("news",)
    assert sampled.unread == ()
