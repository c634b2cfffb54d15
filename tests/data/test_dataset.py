"""Rows: every kind of file, every way in which one can be wrong, the split, and the ids and targets."""

import pytest
from small_data import ROWS, write

from sqlora.data import dataset, tokenise
from sqlora.settings.command_line import load_settings
from sqlora.system.errors import UserError


def settings(*flags):
    return load_settings(list(flags), "")


@pytest.mark.parametrize("suffix", dataset.SUFFIXES)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, suffix):
    rows = [
        *ROWS,
        {"question": 'Wie groß,\n"genau"?', "context": "CREATE TABLE ü (a INT)", "answer": "SELECT 'x;\u2028y'"},
    ]
    assert dataset.load_rows(str(write(tmp_path / f"rows{suffix}", rows)), "DATA_PATH") == rows


def test_further_columns_are_left_out_and_a_known_answer_is_kept(tmp_path):
    path = write(tmp_path / "rows.jsonl", [ROWS[0] | {"db": "x"}, {k: v for k, v in ROWS[1].items() if k != "answer"}])
    rows = dataset.load_rows(str(path), "TEST_DATA", ("question", "context"))
    assert rows == [ROWS[0], {k: v for k, v in ROWS[1].items() if k != "answer"}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.jsonl", None, ["missing.jsonl", "no such file"]),
        ("empty.jsonl", b"", ["empty"]),
        ("blank.jsonl", b"\n\n", ["no row"]),
        ("rows.txt", b"x", [".txt", ".jsonl"]),
        (
            "bad.jsonl",
            b'{"question": "a", "context": "b", "answer": "c"}\n{"question": \n',
            ["line 2", "malformed JSON"],
        ),
        ("bad.json", b'[\n{"question": "a"},\n]', ["line 3", "malformed JSON"]),
        ("deep.json", b"[" * 200_000, ["malformed JSON", "recursion"]),
        ("object.json", b'{"question": "a"}', ["array", ".jsonl"]),
        ("list.jsonl", b"[1]\n", ["row 1", "list"]),
        ("column.jsonl", b'{"question": "a", "sql": "b"}\n', ["context", "'question', 'sql'"]),
        ("null.jsonl", b'{"question": null, "context": "b", "answer": "c"}\n', ["row 1", "question", "None"]),
        ("number.json", b'[{"question": "a", "context": 7, "answer": "c"}]', ["row 1", "context", "7"]),
        ("space.jsonl", b'{"question": "a", "context": "b", "answer": " "}\n', ["row 1", "answer"]),
        ("half.jsonl", b'{"question": "a", "context": "b", "answer": "c \\ud83d"}\n', ["row 1", "answer", "surrogate"]),
        ("latin.jsonl", '{"question": "größe"}'.encode("latin-1"), ["UTF-8"]),
        ("latin.csv", "question,context,answer\ngröße,b,c\n".encode("latin-1"), ["UTF-8"]),
        ("wide.csv", b"question,context,answer\na,b,c,d\n", ["more fields"]),
        ("quote.csv", b'question,context,answer\na,b,"c\n', ["line", "malformed CSV"]),
        ("narrow.csv", b"question,context,answer\na,b\n", ["row 1", "answer"]),
        ("bad.parquet", b"PAR1 not a parquet file", ["parquet"]),
    ],
)
def test_a_wrong_file_is_one_error(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        dataset.load_rows(str(path), "DATA_PATH (--data-path)")
    assert all(word in str(caught.value) for word in ["--data-path", *words]), caught.value


def test_a_question_with_its_schema_from_a_file(tmp_path):
    (tmp_path / "schema.sql").write_text("CREATE TABLE t (a INT)")
    rows = dataset.load_samples(settings("--question", "How many?", "--context", str(tmp_path / "schema.sql")))
    assert rows == [{"question": "How many?", "context": "CREATE TABLE t (a INT)"}]
    with pytest.raises(UserError, match="--context"):
        dataset.load_samples(settings("--question", "How many?", "--context", str(tmp_path / "none.sql")))


def test_further_rows_come_first_and_appear_as_often_as_their_weight_says(tmp_path, llama_tokenizer):
    extra = [{"question": "Mine?", "context": "CREATE TABLE mine (a INTEGER)", "answer": "SELECT a FROM mine"}]
    given = settings(
        "--data-path",
        str(write(tmp_path / "rows.jsonl")),
        "--extra-data",
        str(write(tmp_path / "f.jsonl", extra)),
        "--extra-weight",
        "3",
    )
    rows = dataset.load_training_rows(given.DATA_PATH, given.EXTRA_DATA, given.EXTRA_WEIGHT)
    assert rows == [extra[0] | {"weight": 3}, *ROWS]
    splits = tokenise.tokenise_splits(rows[:5], rows[5:], llama_tokenizer, given)
    assert len(splits.train.rows) == 3 + 4
    assert splits.train.rows[0] == splits.train.rows[1] == splits.train.rows[2] != splits.train.rows[3]
    assert dataset.load_training_rows(str(tmp_path / "rows.jsonl")) == ROWS


def test_the_hash_of_the_data_changes_with_any_row():
    assert dataset.data_hash(ROWS) == dataset.data_hash([dict(row) for row in ROWS])
    assert dataset.data_hash(ROWS) != dataset.data_hash(ROWS[::-1])


def test_an_evaluation_needs_answers(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"question": "How many?", "context": "CREATE TABLE t (a INT)"}])
    assert len(dataset.load_samples(settings("--test-data", str(path)))) == 1
    with pytest.raises(UserError, match="--evaluate.*add a column answer"):
        dataset.load_samples(settings("--test-data", str(path), "--evaluate"))


def test_a_context_is_a_file_whatever_its_name_ends_in(tmp_path):
    (tmp_path / "schema.txt").write_text("CREATE TABLE t (a INTEGER)")
    (row,) = dataset.load_samples(settings("--question", "How many?", "--context", str(tmp_path / "schema.txt")))
    assert row["context"] == "CREATE TABLE t (a INTEGER)"
    (tmp_path / "blank.sql").write_text(" \n")
    for context in (str(tmp_path / "blank.sql"), " "):
        with pytest.raises(UserError, match="CONTEXT.*is (empty|blank)"):
            dataset.load_samples(settings("--question", "How many?", "--context", context))
    with pytest.raises(UserError, match="QUESTION.*blanks"):
        settings("--question", " ", "--context", "x")
