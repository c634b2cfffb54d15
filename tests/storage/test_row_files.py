"""Records of a file: every odd way in which a file can stand there is read, or refused in a line that names the
place.
"""

import json
import os
import socket
from datetime import datetime

import pyarrow
import pyarrow.parquet
import pytest

from sqlora.ask import questions
from sqlora.data import dataset, streaming
from sqlora.evaluation.prediction_files import read_predictions
from sqlora.settings.command_line import load_settings
from sqlora.system.errors import UserError

ROW = {"question": "How many?", "context": "CREATE TABLE t (a INT)", "answer": "SELECT COUNT(*) FROM t"}
LINE = json.dumps(ROW)
HEADER = "question,context,answer\n"
CSV = HEADER + "How many?,CREATE TABLE t (a INT),SELECT COUNT(*) FROM t\n"


def load(path):
    return dataset.load_rows(str(path), "DATA_PATH")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.JSONL", LINE),
        ("lines.json", f"{LINE}\n\n{LINE}\n"),
        ("array.jsonl", json.dumps([ROW, ROW])),
        ("array_of_lines.jsonl", json.dumps([ROW, ROW], indent=1)),
        ("bom.jsonl", "\ufeff" + LINE),
        ("crlf.jsonl", f"{LINE}\r\n\r\n{LINE}\r\n"),
        ("bom.csv", "\ufeff" + CSV),
        ("crlf.CSV", CSV.replace("\n", "\r\n")),
        ("blank.csv", "\n" + CSV + "\n\n"),
        ("nan.jsonl", json.dumps(ROW | {"score": float("nan")})),
    ],
)
def test_other_spellings_of_the_same_rows_are_read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert load(path)[0] == ROW
    assert all(row == ROW for row in load(path))


def test_a_long_field_of_a_csv_file_is_read(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(f"{HEADER}{'q' * 200_000},c,a\n")
    assert load(path) == [{"question": "q" * 200_000, "context": "c", "answer": "a"}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("semicolon.csv", CSV.replace(",", ";"), "semicolons"),
        ("tab.csv", CSV.replace(",", "\t"), "tabs"),
        (
            "blanks.csv",
            CSV.replace("question,", "question ,", 1),
            "the fields 'question ', 'context', 'answer', and no question; .*--columns question=FIELD",
        ),
        ("several.csv", "q,b\nx,y\n", "the fields 'q', 'b', and no question, context .*, answer"),
        ("several.jsonl", '{"q": 1}', "the fields 'q', and no question, context .*, answer"),
        ("twice.csv", HEADER.strip() + ",answer\na,b,c,d\n", "'answer' twice"),
        ("twice.csv", "question," + HEADER + "a,b,c,d\n", "'question' twice"),
        ("twice.csv", "db_id,question,query,query\na,b,c,d\n", "'query' twice"),
        ("twice.jsonl", LINE + "\n" + LINE[:-1] + ', "answer": "SELECT 2"}\n', "line 2: .*'answer' occurs twice"),
        ("twice.json", f'[{LINE[:-1]}, "answer": "SELECT 2"}}]', "'answer' occurs twice"),
        ("quote.csv", CSV + '"two\nlines",c,a\n"he said "hi" here",c,a\n', "line 5: malformed CSV"),
        ("unclosed.csv", CSV + '"never,c,a\n' + 9 * "x\n", "line 3: malformed CSV: a quote is opened"),
        ("wide.csv", CSV + '"two\nlines",c,a\na,b,c,d\n', "line 5: .*more fields"),
        ("header.csv", HEADER, "no row"),
        ("deep.jsonl", LINE + "\n" + "[" * 100_000, "line 2: malformed JSON: .*recursion"),
        ("deeper.json", '{"a":' * 100_000, "malformed JSON: .*recursion"),
        ("huge.jsonl", LINE + "\n" + '{"question": ' + "9" * 5000 + "}", "line 2: malformed JSON"),
        ("nan.jsonl", '{"question": NaN, "context": "b", "answer": "c"}', "row 1: question is nan"),
        ("lines.json", f'{LINE}\n{{"question"\n', "line 2: malformed JSON"),
        ("empty.json", "[]", "no row"),
        ("after.json", f"[\n{LINE}\n] x", "line 3: malformed JSON: Extra data"),
        ("broken.jsonl", f"[\n{LINE},\n{{]", "line 3: malformed JSON"),
        ("nested.jsonl", "[" * 900 + "]" * 900, "row 1 is of type list, not an object with fields"),
    ],
)
def test_a_poor_line_is_reported_with_its_place(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=words):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("utf16.csv", CSV.encode("utf-16"), "UTF-16"),
        ("utf16-without-mark.jsonl", '{"question": "a"}'.encode("utf-16-le"), "UTF-16"),
        ("utf32.json", "[]".encode("utf-32"), "UTF-32"),
        ("latin.csv", (CSV + "größe,c,a\n").encode("latin-1"), "line 3: byte .* is not UTF-8"),
    ],
)
def test_another_encoding_is_reported(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        load(tmp_path / name)


def no_utf8(texts):
    """A text column of these bytes, which nothing checks while it is made."""
    return pyarrow.array(texts, pyarrow.binary()).view(pyarrow.string())


def test_columns_that_nobody_needs_are_not_read(tmp_path):
    far = pyarrow.array([2**62], pyarrow.timestamp("ms"))
    assert datetime.max.year == 9999
    columns = {name: [text] for name, text in ROW.items()}
    table = pyarrow.table(columns | {"note": no_utf8([b"\xff"]), "when": far, "nested": [{"answer": [1]}]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.Parquet")
    assert load(tmp_path / "rows.Parquet") == [ROW]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (no_utf8([b"\xff"]), "column answer: .*UTF-8"),
        (pyarrow.array([2**62], pyarrow.timestamp("ms")), "column answer"),
        (pyarrow.array([None], pyarrow.null()), "answer is None"),
        (pyarrow.array([b"x"], pyarrow.binary()), "answer is b'x'"),
        (pyarrow.array([{"a": 1}]), "answer is {'a': 1}"),
    ],
)
def test_a_needed_column_of_parquet_that_is_no_text_is_refused(tmp_path, column, words):
    table = pyarrow.table({"question": ["q"], "context": ["c"], "answer": column})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=words):
        load(tmp_path / "rows.parquet")


def test_every_kind_of_text_column_of_parquet_is_read(tmp_path):
    texts = pyarrow.array(["q"])
    table = pyarrow.table(
        {"question": texts.dictionary_encode(), "context": texts.cast(pyarrow.large_string()), "answer": texts}
    )
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(table, path)
    assert load(path) == [{"question": "q", "context": "q", "answer": "q"}]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="not a readable parquet file"):
        load(path)
    pyarrow.parquet.write_table(table.select(["answer"]), path)
    with pytest.raises(UserError, match="the fields 'answer', and no question, context"):
        load(path)


def readers(path):
    context = load_settings(["--question", "q", "--context", str(path)], "")
    yield from (
        lambda: load(path),
        lambda: streaming.Source(str(path), 0, 50),
        lambda: questions.load_questions("", str(path)),
        lambda: dataset.load_samples(context),
        lambda: read_predictions(path),
    )


def put(path, kind):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pipe", "a pipe"),
        ("socket", "a socket"),
        ("device", "a device"),
        ("loop", "symbolic links"),
        ("long", "too long"),
    ],
)
def test_what_is_no_file_is_refused_by_every_reader(tmp_path, monkeypatch, kind, words):
    monkeypatch.chdir(tmp_path)  # a socket's name may have 108 characters
    name = "x" * 300 if kind == "long" else "x"
    path = type(tmp_path)(f"{name}.sql")
    put(path, kind)
    for read in readers(path):
        with pytest.raises(UserError, match=words):
            read()


def test_a_schema_in_a_file_of_upper_case_is_read(tmp_path):
    (tmp_path / "Schema.SQL").write_text("CREATE TABLE t (a INT)")
    rows = dataset.load_samples(
        load_settings(["--question", "How many?", "--context", str(tmp_path / "Schema.SQL")], "")
    )
    assert rows[0]["context"] == "CREATE TABLE t (a INT)"


def test_a_row_of_predictions_names_all_that_it_lacks(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"context": "c"}\n{"context": "c"}\n')
    with pytest.raises(UserError, match="row 1 has no column 'answer', 'prediction', only 'context'"):
        read_predictions(path)
