"""WikiSQL's numbers as SQL over the table that they are about."""

import json

import pytest

from sqlora.data import wikisql

TABLE = {"id": "1-2-3", "header": ["Name", "No.", "Name", ""], "types": ["text", "real", "text", "text"], "rows": []}
CONTEXT = 'CREATE TABLE table_1_2_3 (Name VARCHAR, "No." REAL, "Name 2" VARCHAR, column VARCHAR)'


def record(**sql):
    return {"question": "Q?", "table_id": TABLE["id"], "sql": {"sel": 2, "agg": 3, "conds": []} | sql}


@pytest.mark.parametrize(
    "conditions",
    [
        [[1, 1, 5], [0, 0, "O'Hara"]],
        {"column_index": [1, 0], "operator_index": [1, 0], "condition": ["5", "O'Hara"]},  # as the hub has them
    ],
)
@pytest.mark.parametrize("inline", [True, False])
def test_a_row(tmp_path, conditions, inline):
    (tmp_path / "dev.tables.jsonl").write_text("" if inline else json.dumps(TABLE))
    row = wikisql.read(record(conds=conditions) | ({"table": TABLE} if inline else {}), tmp_path / "dev.jsonl")
    assert row["context"] == CONTEXT
    assert row["answer"] == "SELECT COUNT(\"Name 2\") FROM table_1_2_3 WHERE \"No.\" > 5 AND Name = 'O''Hara'"


@pytest.mark.parametrize(
    ("value", "written"), [("1,234", "1234"), ("-2.5", "-2.5"), ("n/a", "'n/a'"), (7, "7"), ("1e5", "'1e5'")]
)
def test_values_of_a_column_of_numbers(value, written):
    row = wikisql.read(record(conds=[[1, 0, value]]) | {"table": TABLE}, None)
    assert row["answer"].endswith(f'"No." = {written}')


def test_a_table_may_be_in_another_file_beside_it(tmp_path):
    (tmp_path / "train.tables.jsonl").write_text(json.dumps(TABLE))
    assert wikisql.read(record(), tmp_path / "mine.jsonl")["context"] == CONTEXT
    with pytest.raises(ValueError, match="'1-2-3' is in no .*beside x.jsonl"):
        wikisql.read(record(), tmp_path / "elsewhere" / "x.jsonl")
    with pytest.raises(ValueError, match="is in no .* there"):
        wikisql.read(record(), None)


@pytest.mark.parametrize("sql", [{"sel": -1}, {"sel": 4}, {"agg": -1}, {"agg": 6}, {"conds": [[9, 0, "x"]]}])
def test_numbers_of_nothing(sql):
    with pytest.raises(IndexError):
        wikisql.read(record(**sql) | {"table": TABLE}, None)


def test_what_is_one_of_its_rows():
    assert wikisql.fits(record())
    assert not wikisql.fits({"question": "Q?", "sql": "SELECT 1"})
    assert not wikisql.fits({"question": "Q?", "sql": {"select": []}})
