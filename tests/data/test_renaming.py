"""Copies of rows with other names: the same question of another schema."""

import json
from pathlib import Path

from sqlora.data.renaming import renamed_copies
from sqlora.evaluation import judge
from sqlora.sql.parsing import parse_schema

DEMO = Path(__file__).parents[2] / "demo" / "train.jsonl"
ROWS = [json.loads(line) for line in DEMO.read_text(encoding="utf-8").splitlines()[:60]]
ROW = {
    "question": "What is the age of the singer named 'Ann', and the genre of the song?",
    "context": "CREATE TABLE singer (singer_id INTEGER, age INTEGER, name TEXT, genre TEXT)",
    "answer": "SELECT age, genre FROM singer WHERE name = 'Ann'",
}


def test_copies_run_on_their_own_contexts_and_say_the_same():
    copies = renamed_copies(ROWS, 1, seed=0)
    assert len(copies) > 0.9 * len(ROWS)
    verdicts = judge.score([row | {"prediction": row["answer"]} for row in copies])
    assert [verdict.verdict for verdict in verdicts].count("match") > 0.95 * len(copies)


def test_a_word_of_the_question_changes_with_the_name():
    copies = renamed_copies([ROW, *ROWS], 40, seed=0)
    own = [row for row in copies if "'Ann'" in row["question"]]
    swapped = [row for row in own if "genre" not in row["context"].lower()]
    assert swapped
    for row in swapped:
        column = parse_schema(row["context"]).tables[0].columns[-1].name
        assert column in row["answer"]
        assert column.lower().replace("_", "") in row["question"].lower().replace(" ", "")


def test_values_stay():
    row = ROW | {"answer": "SELECT age FROM singer WHERE genre = 'genre'", "question": "Singers of the genre 'genre'?"}
    assert all("'genre'" in copy["answer"] and "'genre'" in copy["question"] for copy in renamed_copies([row], 20, 0))


def test_copies_depend_on_the_seed_alone():
    assert renamed_copies(ROWS, 2, 7) == renamed_copies(ROWS, 2, 7) != renamed_copies(ROWS, 2, 8)
    assert renamed_copies(ROWS, 0, 7) == []


def test_no_copy_of_what_training_varies_or_hints_at():
    others = {"plain_context": ROW["context"]}, {"evidence": "genre is a kind"}, {"values": "singer.name: 'Ann'"}
    rows = [ROW | other for other in others]
    rows.append(ROW | {"context": "no schema"})
    assert renamed_copies(rows, 3, 0) == []
