"""Data sets in the layouts that people have them in: known by their fields, or refused by name."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from concert import CONTEXT, make_folder

from sqlora.data import dataset
from sqlora.data.dataset import Reading
from sqlora.data.layouts import PLAIN_CONTEXT, parse_columns
from sqlora.sql.parsing import parse_schema
from sqlora.system.errors import UserError

ASK, SQL = "How many singers?", "SELECT COUNT(*) FROM singer"
CREATE = "CREATE TABLE singer (id INT, name TEXT)"


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "databases")


def read(tmp_path, *records, columns=dataset.COLUMNS, name="rows.jsonl", **reading):
    path = tmp_path / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return dataset.load_rows(str(path), "DATA_PATH", columns, Reading(**reading))


@pytest.mark.parametrize(
    ("record", "row"),
    [
        ({"question": ASK, "query": SQL, "db_id": "concert", "sql": {"select": []}, "query_toks": []}, {}),
        (
            {"question": ASK, "SQL": SQL, "db_id": "concert", "evidence": "a hint", "difficulty": "x"},
            {"evidence": "a hint"},
        ),
        ({"question": ASK, "SQL": SQL, "db_id": "concert", "evidence": ""}, {}),
        ({"question": ASK, "sql": SQL, "db_id": "concert", "external_knowledge": "k", "cot": ""}, {"evidence": "k"}),
        ({"SpiderQuestion": "x", "SpiderSynQuestion": ASK, "query": SQL, "db_id": "concert"}, {}),
        (
            {
                "instruction": "Write SQL.",
                "input": f"###Input:\n{ASK}\n\n###Response:",
                "output": SQL,
                "db_id": "concert",
            },
            {},
        ),
    ],
)
def test_the_schema_of_a_row_is_that_of_its_database(tmp_path, folder, record, row):
    (found,) = read(tmp_path, record, database_folder=folder)
    assert parse_schema(found.pop("context")) == parse_schema(CONTEXT)
    assert found.pop(PLAIN_CONTEXT) == parse_schema(CONTEXT).ddl()
    assert found == {"question": ASK, "answer": SQL, "db_id": "concert"} | row


@pytest.mark.parametrize(
    "record",
    [
        {
            "sql_prompt": ASK,
            "sql_context": f"{CREATE}; INSERT INTO singer VALUES (1, 'a;b'), (2, 'It''s');",
            "sql": SQL,
        },
        {"instruction": f"{CREATE}\n\n-- Using valid SQLite, answer the questions.\n\n-- {ASK}", "output": SQL},
        {"instruction": ASK, "input": CREATE, "output": SQL},
        {"instruction": f"Given {CREATE};", "input": f"Question: {ASK}", "output": f"```sql\n{SQL}\n```"},
        {
            "messages": [
                {"role": "system", "content": f"You write SQL.\nSCHEMA:\n{CREATE}"},
                {"role": "user", "content": ASK},
                {"role": "assistant", "content": SQL},
            ]
        },
        {
            "conversations": [
                {"from": "human", "value": f"### Schema\n{CREATE};\n\n### Question:\n{ASK}\n\n### SQL:"},
                {"from": "gpt", "value": f"Here it is:\n```sql\n{SQL}\n```"},
            ]
        },
        {"messages": [{"role": "user", "content": f"{ASK}\n\n{CREATE}"}, {"role": "assistant", "content": SQL}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": CREATE}, {"type": "text", "text": ASK}]},
                {"role": "assistant", "content": SQL},
            ]
        },
        {"instruction": f"Using this schema: {CREATE}, answer: {ASK}", "input": "", "output": SQL},
    ],
)
def test_the_schema_is_in_the_text(tmp_path, record):
    (row,) = read(tmp_path, record)
    assert (row["question"], row["context"].rstrip(";"), row["answer"]) == (ASK, CREATE, SQL)


def test_questions_without_an_answer_are_left_out_of_training_and_asked_in_tests(tmp_path, folder, capsys):
    records = [
        {"question": ASK, "query": query, "db_id": "concert", "is_impossible": query == "x"}
        for query in (SQL, "nan", "x")
    ]
    assert len(read(tmp_path, *records, database_folder=folder)) == 1
    assert "read as Spider and its kin; 2 rows without an answer are left out" in " ".join(
        capsys.readouterr().out.split()
    )
    rows = read(tmp_path, *records, columns=("question", "context"), database_folder=folder)
    assert ["answer" in row for row in rows] == [True, False, False]


def test_fields_that_are_named(tmp_path, folder, capsys):
    row = {"question": ASK, "context": CREATE, "answer": SQL}
    record = {"q": ASK, "ddl": CREATE, "gold": SQL}
    path = tmp_path / "named.jsonl"
    path.write_text(json.dumps(record))
    named = Reading("question=q, context=ddl,answer=gold")
    assert dataset.load_rows(str(path), "DATA_PATH", reading=named) == [row]
    path.write_text(json.dumps(row))  # EXTRA_DATA beside it, in our own layout
    assert dataset.load_rows(str(path), "EXTRA_DATA", reading=named) == [row]
    path.write_text(json.dumps({"q": ASK, "gold": SQL, "db_id": "concert"}))
    (found,) = dataset.load_rows(str(path), "DATA_PATH", reading=Reading("question=q,answer=gold", folder))
    assert parse_schema(found["context"]) == parse_schema(CONTEXT)


def test_named_fields_of_parquet_are_read_beside_our_own(tmp_path):
    row = {"question": ASK, "context": CREATE, "answer": SQL}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row | {"tip": "x"}]), tmp_path / "a.parquet")
    (read,) = dataset.load_rows(str(tmp_path / "a.parquet"), "DATA_PATH", reading=Reading("evidence=tip"))
    assert read == row | {"evidence": "x"}


def test_compressed_files(tmp_path):
    row = {"question": ASK, "context": CREATE, "answer": SQL}
    for name, text in (
        ("a.jsonl.gz", json.dumps(row)),
        ("a.json.gz", json.dumps([row])),
        ("a.csv.gz", f'question,context,answer\n{ASK},"{CREATE}",{SQL}\n'),
        ("a.tsv.GZ", f"question\tcontext\tanswer\n{ASK}\t{CREATE}\t{SQL}\n"),
    ):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
        assert dataset.load_rows(str(tmp_path / name), "DATA_PATH") == [row], name
    (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="not a whole gzip file"):
        dataset.load_rows(str(tmp_path / "a.jsonl.gz"), "DATA_PATH")


def test_quotes_between_tabs_are_those_of_the_text(tmp_path):
    (tmp_path / "a.tsv").write_text(f'question\tcontext\tanswer\n"{ASK}" he said\t{CREATE}\t{SQL}\n')
    (row,) = dataset.load_rows(str(tmp_path / "a.tsv"), "DATA_PATH")
    assert row["question"] == f'"{ASK}" he said'


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            {"q": ASK, "gold": SQL},
            ["fields 'q', 'gold'", "no question, context (or db_id), answer", "--columns question=FIELD"],
        ),
        ({"question": ASK, "query": SQL, "db_id": "shop"}, ["row 1", "'shop'", "not in"]),
        ({"question": ASK, "query": SQL, "db_id": 7}, ["row 1", "no schema"]),
        ({"instruction": ASK, "input": "", "output": SQL}, ["row 1", "no schema"]),
        ({"messages": [{"role": "user", "content": ASK}]}, ["row 1", "no message of a user with an answer"]),
        ({"messages": ["x"]}, ["row 1", "not as chat messages has it"]),
        (
            {"question": ASK, "table_id": "1-1", "sql": {"sel": 0, "agg": 0, "conds": []}},
            ["row 1", "'1-1'", ".tables.jsonl"],
        ),
        (
            {
                "question": ASK,
                "table": {"id": "1", "header": ["a"], "types": ["text"]},
                "sql": {"sel": 9, "agg": 0, "conds": []},
            },
            ["row 1", "not as WikiSQL has it"],
        ),
        ({"sql_prompt": None, "sql_context": CREATE, "sql": SQL}, ["row 1", "question is None"]),
        ({"question": ASK, "query": ["a"], "db_id": "concert"}, ["row 1", "answer is ['a']"]),
        ({"question": ASK, "query": "", "db_id": "concert"}, ["row 1", "answer is ''"]),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, folder, record, words):
    with pytest.raises(UserError) as caught:
        read(tmp_path, record, database_folder=folder)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_named_field_that_is_not_there(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"q": ASK}))
    for text, words in (
        ("question=q,answer=gold", "row 1 has no field 'gold', which COLUMNS .* names; it has 'q'"),
        ("question", "COLUMNS .* has 'question'; write question=FIELD"),
        ("sql=q", "COLUMNS .* has 'sql=q'"),
        ("question=q,question=x", "COLUMNS .* has 'question=x'.*once"),
    ):
        with pytest.raises(UserError, match=words):
            dataset.load_rows(str(path), "DATA_PATH", reading=Reading(text))
    assert parse_columns("") == {}
