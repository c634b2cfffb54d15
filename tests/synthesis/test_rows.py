"""Pairs as the rows that finetune.py reads."""

import itertools
import json
import sqlite3

import cinema
import pytest

from sqlora.data.dataset import load_rows, write_rows
from sqlora.databases.live import open_database
from sqlora.prompt.template import prompt_of
from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.from_database import SECONDS, Synthesis
from sqlora.synthesis.rows import MOST_CHARACTERS, RowMaker

SHARES = {"1 where": 3.0, "2 where": 1.0}


def drawn(file, count):
    with open_database(str(file), SECONDS) as live:
        synthesis = Synthesis(live, SHARES, 0)
        return list(itertools.islice(synthesis, count)), synthesis.sampled


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return drawn(cinema.make_file(tmp_path_factory.mktemp("cinema")), 60)


@pytest.mark.parametrize(
    ("style", "has", "lacks"),
    [("plain", "Title VARCHAR,", "PRIMARY KEY"), ("described", "FOREIGN KEY", "such as"), ("full", "such as", "### ")],
)
def test_the_context_is_in_the_style(pairs, style, has, lacks):
    found, sampled = pairs
    row = RowMaker(sampled, style, "cinema").row(found[0], found[0].questions[0])
    assert has in row["context"]
    assert lacks not in row["context"]
    assert (row["answer"], row["db_id"]) == (found[0].sql, "cinema")
    assert len(parse_schema(row["context"]).tables) == 4


def test_full_adds_the_values_that_a_question_names(pairs, tmp_path):
    found, sampled = pairs
    pair, value = next((pair, value) for pair in found for value in ("'Drama'", "'Comedy'") if value in pair.sql)
    row = RowMaker(sampled, "full", "cinema").row(pair, pair.questions[0])
    assert f"Film.Genre: {value}" in row["values"].splitlines()
    write_rows(tmp_path / "rows.jsonl", [row])
    (read,) = load_rows(str(tmp_path / "rows.jsonl"), "DATA_PATH")
    assert f"### Values:\n{row['values']}\n" in prompt_of(read)
    assert "values" not in RowMaker(sampled, "described", "cinema").row(pair, pair.questions[0])


def test_of_a_large_schema_a_row_has_the_tables_of_its_query(tmp_path):
    file = cinema.make_file(tmp_path)
    connection = sqlite3.connect(file)
    columns = ", ".join(f"column_{i} TEXT" for i in range(10))
    connection.executescript(";".join(f"CREATE TABLE other_{i} ({columns})" for i in range(200)))
    connection.close()
    found, sampled = drawn(file, 20)
    maker = RowMaker(sampled, "described", "cinema")
    for pair in found:
        row = maker.row(pair, pair.questions[0])
        assert len(row["context"]) <= MOST_CHARACTERS
        tables = {table.name for table in parse_schema(row["context"]).tables}
        assert {part.table for part in pair.query.parts() if hasattr(part, "table")} <= tables
    assert json.dumps(row)
