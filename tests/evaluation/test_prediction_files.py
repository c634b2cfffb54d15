"""Files of predictions in the layouts that people have, read and written."""

import io
import json

import concert
import pytest

from sqlora.evaluation.prediction_files import LAYOUTS, read_predictions, strip_fence, write_predictions
from sqlora.sql.parsing import parse_schema
from sqlora.system.errors import UserError

QUERIES = ["SELECT name FROM singer", "SELECT title\nFROM song", None]
GOLDS = ["SELECT name FROM singer", "SELECT title FROM song", "SELECT id FROM song"]


@pytest.fixture
def files(tmp_path):
    concert.make_folder(tmp_path / "databases")
    golds = "".join(f"{gold}\tconcert\n" for gold in GOLDS)
    (tmp_path / "gold.sql").write_text(golds)
    spider = [{"db_id": "concert", "query": gold, "question": "q"} for gold in GOLDS]
    (tmp_path / "dev.json").write_text(json.dumps(spider))
    bird = [{"db_id": "concert", "SQL": gold, "question_id": i} for i, gold in enumerate(GOLDS)]
    (tmp_path / "bird.json").write_text(json.dumps(bird))
    rows = [
        {"context": concert.CONTEXT, "answer": gold, "prediction": query, "db_id": "concert"}
        for gold, query in zip(GOLDS, QUERIES, strict=True)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("gold", ["gold.sql", "dev.json", "bird.json"])
def test_what_is_written_is_read(files, layout, gold):
    rows = read_predictions(files / "rows.jsonl")
    out = io.StringIO()
    write_predictions(rows, layout, out)
    path = files / ("p.sql" if layout == "spider" else "p.json")
    path.write_text(out.getvalue())
    read = read_predictions(path, files / gold, files / "databases")
    assert [row["prediction"] for row in read] == ["SELECT name FROM singer", "SELECT title FROM song", "SELECT"]
    assert [row["answer"] for row in read] == GOLDS
    assert {parse_schema(row["context"]) for row in read} == {parse_schema(concert.CONTEXT)}
    assert {row["db_id"] for row in read} == {"concert"}


def test_bird_s_numbers_are_the_order(files):
    (files / "p.json").write_text(json.dumps({"2": "c", "0": "a\t----- bird -----\tconcert", "1": "b"}))
    read = read_predictions(files / "p.json", files / "gold.sql", files / "databases")
    assert [row["prediction"] for row in read] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "text", "options", "line"),
    [
        ("p.sql", "SELECT 1\n", {}, "no context, answer; --gold names"),
        ("p.sql", "SELECT 1\n", {"gold": "gold.sql"}, "1 rows and --gold"),
        ("p.sql", "a\nb\nc\n", {"gold": "gold.sql"}, "no context; --database-folder one"),
        ("p.jsonl", '{"prediction": "a", "answer": "b", "db_id": "x"}\n', {"folder": "databases"}, "which is not in"),
        ("p.jsonl", '{"answer": "b"}\n', {}, "no column 'context', 'prediction'"),
        ("p.jsonl", '{"prediction": 7, "answer": "b", "context": "c"}\n', {}, "prediction must be a text"),
        ("p.jsonl", '{"prediction": "a", "answer": null, "context": "c"}\n', {}, "must be texts"),
        ("p.md", "x", {}, "unknown kind of file"),
        (None, "", {}, "no such file"),
    ],
)
def test_what_is_missing_is_one_line(files, name, text, options, line):
    if name:
        (files / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read_predictions(files / (name or "none.jsonl"), **{key: files / value for key, value in options.items()})
    assert line in str(caught.value)


def test_a_gold_file_without_queries_is_refused(files):
    (files / "p.sql").write_text("a\n")
    (files / "gold.json").write_text('[{"db_id": "concert", "text": "x"}]')
    with pytest.raises(UserError, match="no gold query"):
        read_predictions(files / "p.sql", files / "gold.json", files / "databases")


def test_bird_s_layout_needs_a_db_id():
    with pytest.raises(UserError, match="row 1 has no db_id"):
        write_predictions([{"prediction": "SELECT 1"}], "bird", io.StringIO())


def test_a_fence_is_taken_off():
    assert strip_fence("```sql\nSELECT 1\n```") == "SELECT 1"
    assert strip_fence("SELECT 1") == "SELECT 1"
    assert strip_fence(None) is None


@pytest.mark.parametrize(
    ("sql", "prediction"),
    [({"base": "a", "adapter": "b"}, "b"), ({"base": "a", "adapter": None}, "a"), ({"base": None}, None)],
)
def test_answers_of_generate_are_the_adapter_s_or_the_base_s(tmp_path, sql, prediction):
    row = {"question": "q", "context": "c", "answer": "x"} | sql
    (tmp_path / "answers.jsonl").write_text(json.dumps(row) + "\n")
    (read,) = read_predictions(tmp_path / "answers.jsonl")
    assert read["prediction"] == prediction
