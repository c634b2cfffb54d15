"""The validation split shares no table and no SQL with training, and what overlaps a test file is kept out."""

import json
from pathlib import Path

import pytest

from sqlora.data import dataset, split
from sqlora.sql import parsing
from sqlora.system.errors import UserError

ROOT = Path(__file__).parents[2]
DEMO = dataset.load_rows(str(ROOT / "demo" / "train.jsonl"), "DATA_PATH")


def row(table, answer="SELECT a FROM {}", columns="a INTEGER", question="What?"):
    return {"question": question, "context": f"CREATE TABLE {table} ({columns})", "answer": answer.format(table)}


def tables(rows):
    return {table.name.lower() for one in rows for table in parsing.parse_schema(one["context"]).tables}


def queries(rows):
    return {parsing.normalise_sql(one["answer"]) for one in rows}


def test_no_table_and_no_query_is_on_both_sides():
    train, validation, apart = split.split_rows(DEMO, 100, seed=42)
    assert len(train) + len(validation) == len(DEMO)
    assert 100 <= len(validation) < 200
    assert apart == "table or SQL"
    assert not tables(train) & tables(validation)
    assert not queries(train) & queries(validation)


def test_the_split_is_the_seeds():
    first = split.split_rows(DEMO, 100, seed=42)
    assert first == split.split_rows(DEMO, 100, seed=42)
    assert first != split.split_rows(DEMO, 100, seed=43)


def test_rows_are_linked_through_others_that_share_a_table_or_their_sql():
    linked = [
        row("a"),
        row("A", columns="b TEXT"),
        {**row("a"), "context": "CREATE TABLE a (a INT); CREATE TABLE b (b INT)"},
        row("b", columns="c INT"),
        row("c", "SELECT 1"),
        row("d", "select  1;"),
    ]
    train, validation, _ = split.split_rows([*linked, *(row(f"t{i}") for i in range(20))], 4, seed=0)
    for names in ({"a", "b"}, {"c", "d"}):
        assert not tables(train) & names or not tables(validation) & names


def test_placeholder_names_do_not_link_tables_of_other_columns():
    rows = [
        row(f"table_name_{i % 3}", f"SELECT a FROM {{}} WHERE b = {i}", f"a INTEGER, b{i} INTEGER") for i in range(30)
    ]
    train, validation, apart = split.split_rows(rows, 10, seed=1)
    assert (len(train), len(validation), apart) == (20, 10, "table or SQL")


def test_one_database_is_split_by_its_queries():
    rows = [row("t", f"SELECT {i // 2} FROM {{}}") for i in range(20)]
    train, validation, apart = split.split_rows(rows, 5, seed=42)
    assert apart == "SQL"
    assert 5 <= len(validation) <= 6
    assert not queries(train) & queries(validation)


@pytest.mark.parametrize("databases", [2, 3])
def test_a_few_large_databases_do_not_lose_one_to_validation(databases):
    rows = [row(f"t{i % databases}", f"SELECT {i} FROM {{}}") for i in range(300)]
    train, validation, apart = split.split_rows(rows, 10, seed=42)
    assert (len(train), len(validation), apart) == (290, 10, "SQL")


def test_tables_of_wikipedia_are_known_by_their_numbers():
    contexts = [f"CREATE TABLE table_{10015132 + i // 2}_{i % 2} (c{i % 7} VARCHAR)" for i in range(60)]
    rows = [{"question": "?", "context": one, "answer": f"SELECT {n}"} for n, one in enumerate(contexts * 2)]
    train, validation, apart = split.split_rows(rows, 10, seed=42)
    assert (len(train), len(validation), apart) == (110, 10, "table or SQL")
    assert not tables(train) & tables(validation)


@pytest.mark.parametrize("rows", [[row("t")], [row("t")] * 50, [row(f"t{i}") for i in range(20)]])
def test_too_few_rows(rows):
    with pytest.raises(UserError, match=f"--validation-rows.*has {len(rows)} rows"):
        split.split_rows(rows, 20, seed=42)


def test_a_context_that_cannot_be_read_is_compared_by_its_text():
    rows = [{"question": "?", "context": f"tables {i // 2}", "answer": f"SELECT {i}"} for i in range(20)]
    train, validation, apart = split.split_rows(rows, 4, seed=42)
    assert apart == "table or SQL"
    assert not {one["context"] for one in train} & {one["context"] for one in validation}


def test_what_overlaps_a_test_file_is_kept_out(tmp_path):
    path = tmp_path / "test.jsonl"
    tested = [row("a"), {"question": "How many, then?", "context": "CREATE TABLE other (x INT)"}, row("z", "SELECT 7")]
    path.write_text("".join(json.dumps(one) + "\n" for one in tested))
    rows = [
        row("A", "SELECT 1"),
        row("b", question="how many then"),
        row("c", "select 7 ;"),
        row("d", question="Which d?"),
    ]
    holdout = str(path)
    assert split.hold_out(rows, holdout) == (rows[3:], {"table": 1, "question": 1, "SQL": 1})
    assert split.hold_out(rows, "") == (rows, {})
    with pytest.raises(UserError, match="--holdout.*every row"):
        split.hold_out(rows[:3], holdout)
    with pytest.raises(UserError, match="HOLDOUT.*no such file"):
        split.hold_out(rows, str(tmp_path / "nonesuch.jsonl"))


def test_what_is_reserved_is_found_as_if_every_row_were_parsed():
    odd = [
        row('"My ""best"" Table"'),
        row("[order]", "SELECT a /* all */ FROM {}"),
        row("`größe`", columns="ü INT"),
        row("table_name_7", columns="b1 INT, long_name INT"),
        {**row("x"), "context": "no  schema"},
        row("t", "SELECT  'É'"),
    ]
    ties = {tie for one in [*odd, *DEMO[::40]] for tie in split._all_ties(one)}
    ties |= {("table", "", "b1", "long_name"), ("SQL", parsing.normalise_sql("SELECT a FROM hidden"))}
    rows = [
        *odd,
        *DEMO[:300],
        row("my", "select a FROM  hidden;"),
        row("u", "SELECT a -- all\nFROM hidden"),
        row("GRÖSSE"),
        row("table_8", "SELECT 1", "LONG_NAME INT, b1 INT"),
        row('"ORDER"', "SELECT 2"),
        {**row("x"), "context": "no schema"},
        {**row("v"), "question": odd[0]["question"].upper()},
        row("w", "SELECT 3 FROM {}", question="Other?"),
    ]
    reserved = split.Reserved(ties)
    slow = [next((tie[0] for tie in split._all_ties(one) if tie in ties), None) for one in rows]
    assert [reserved.reason(one) for one in rows] == slow
    assert {None, "table", "SQL", "question"} == set(slow)


def test_corrections_always_train():
    rows = [row("mine") | {"weight": 3}, row("mine", "SELECT 2 FROM {}"), *(row(f"t{i}") for i in range(9))]
    for seed in range(8):
        train, validation, _ = split.split_rows(rows, 3, seed)
        assert rows[0] in train
        assert rows[1] in train
        assert len(validation) == 3
