"""A stream: every row once an epoch, nothing that validation has, and taken up again at the same row."""

import gzip
import itertools
import json
import signal
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from concert import make_folder
from transformers import TrainerCallback

import finetune
from sqlora.data import dataset, split, streaming
from sqlora.sql import parsing
from sqlora.storage import checkpoints
from sqlora.system.errors import UserError

ROWS = [
    {
        "question": f"How many {i}?" + " really" * (i % 4),
        "context": f"CREATE TABLE t{i} (a INTEGER)",
        "answer": f"SELECT {i} FROM t{i}",
    }
    for i in range(700)
]
LONG = {
    "question": "Long?",
    "context": "CREATE TABLE long (a INTEGER)",
    "answer": "SELECT a FROM long -- " + "x " * 600,
}


def write(path, rows=ROWS):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def no_wait(monkeypatch):
    import datasets

    # It waits 5 s after parquet files, for old versions of pyarrow.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


@pytest.fixture
def folder(tmp_path):
    for part in range(3):
        write(tmp_path / "rows" / f"train-{part}.parquet", ROWS[part::3])
    return tmp_path / "rows"


@pytest.fixture
def make_stream(make_settings, llama_tokenizer):
    def make(path, *flags):
        settings = make_settings("--streaming", "--data-path", str(path), "--validation-rows", "4", *flags)
        source = streaming.Source(str(path), settings.SEED, settings.SHUFFLE_BUFFER)
        _, validation, apart = split.split_rows(source.first_rows(), settings.VALIDATION_ROWS, settings.SEED)
        return streaming.Stream(source, validation, apart, llama_tokenizer, settings), validation

    return make


def questions(records):
    return [record["question"] for record in records]


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(folder):
    orders = []
    for seed in (0, 0, 1):
        source = streaming.Source(str(folder), seed, buffer=50)
        orders += [questions(source.records(epoch)) for epoch in (0, 1)]
    assert all(sorted(order) == sorted(questions(ROWS)) for order in orders)
    assert orders[0] == orders[2] != orders[4]
    assert orders[1] == orders[3]
    assert orders[0] != orders[1]
    firsts = {int(question.split()[2].rstrip("?")) % 3 for question in orders[0][:20]}
    assert firsts == {0, 1, 2}, "all three files are read at once"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "r[o]ws*.parquet"])
def test_a_single_file(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    elif path.suffix == ".csv":
        path.write_text("question,context,answer\n" + "".join(",".join(row.values()) + "\n" for row in ROWS))
    else:
        write(path)
    assert sorted(questions(streaming.Source(str(path), 0, 4000).first_rows())) == sorted(questions(ROWS))


def test_what_may_not_train_is_left_out_and_counted(tmp_path, make_stream, llama_tokenizer, capsys):
    textless = {"question": "No answer?", "context": "CREATE TABLE n (a INT)"}
    unlike = [{**ROWS[0], "answer": "SELECT made_up FROM t0"}, LONG, textless]
    rows = ROWS[:500] + [{**ROWS[i], "answer": f"SELECT a FROM t{i} LIMIT {i + 9}"} for i in range(500)]
    path = write(tmp_path / "rows.jsonl", [*rows, *unlike])
    # The row without an answer is not among the first, which must be whole: with this seed it comes late.
    stream, validation = make_stream(path, "--shuffle-buffer", "40", "--max-length", "400", "--check-data", "drop")
    tables = {table.name for row in validation for table in parsing.parse_schema(row["context"]).tables}
    assert len(tables) >= 2
    kept = 1000 - 2 * len(tables)
    rows = list(itertools.islice(stream, kept))
    texts = {llama_tokenizer.decode(row["input_ids"], skip_special_tokens=True) for row in rows}
    assert len(texts) == kept
    assert not any(f" {table} " in text for text in texts for table in tables)
    assert {row["place"][0] for row in rows} == {0}
    assert stream.counts - Counter() == {
        "read": 1003,
        "without a text": 1,
        "column not in the context": 1,
        "dropped by the check": 1,
        "with a table of the rows held out": 2 * len(tables),
        "longer than MAX_LENGTH": 1,
    }
    assert next(iter(stream)) == rows[0]
    assert "answer is None" in capsys.readouterr().out


def test_check_data_fix_repairs_rows_of_a_stream(tmp_path, make_stream, llama_tokenizer):
    twice = [{**row, "context": row["context"] + f"; CREATE TABLE t{i} (b INTEGER)"} for i, row in enumerate(ROWS[:30])]
    stream, _ = make_stream(write(tmp_path / "rows.jsonl", twice), "--check-data", "fix")
    texts = [llama_tokenizer.decode(row["input_ids"]) for row in itertools.islice(stream, 26)]
    assert all("(a INTEGER, b INTEGER)" in text for text in texts)
    assert stream.counts["repaired"] >= 26


def test_a_test_file_is_kept_out_too(tmp_path, make_stream, llama_tokenizer):
    tests = write(tmp_path / "test.jsonl", ROWS[5:25])
    stream, validation = make_stream(write(tmp_path / "rows.jsonl", ROWS[:40]), "--holdout", str(tests))
    left = {row["question"] for row in ROWS[:40]} - {row["question"] for row in [*ROWS[5:25], *validation]}
    texts = [llama_tokenizer.decode(row["input_ids"]) for row in itertools.islice(stream, len(left))]
    assert all(any(question in text for text in texts) for question in left)


@pytest.mark.parametrize("after", [1, 255, 256, 257, 640, 700, 1500])
def test_a_stream_resumes_at_any_row(folder, make_stream, after):
    flags = ("--shuffle-buffer", "100")
    straight, _ = make_stream(folder, *flags)
    rows = list(itertools.islice(straight, after + 30))
    second, _ = make_stream(folder, *flags)
    second.resume(json.loads(json.dumps(rows[after - 1]["place"])))
    assert list(itertools.islice(second, 30)) == rows[after:]
    assert second.counts["read"] < 600, "what was passed over was checked again"


def test_an_interrupted_run_ends_as_a_straight_one(folder, make_trainer, make_stream, tmp_path):
    class Interrupt(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 2:
                trainer.stopping.stop.signal = signal.SIGINT

    weights = []
    for name, parts in (("straight", 1), ("broken", 2)):
        for part in range(parts):
            torch.manual_seed(0)
            flags = (
                "--checkpoint-dir",
                str(tmp_path / name),
                "--max-steps",
                "5",
                "--warmup-steps",
                "1",
                "--eval-steps",
                "4",
                "--save-steps",
                "4",
                "--lora-dropout",
                "0.1",
                "--gradient-accumulation-steps",
                "2",
                "--streaming",
                "--data-path",
                str(folder),
                "--shuffle-buffer",
                "100",
                "--packing",
                "prefix",
                "--learning-rate",
                "0.01",
            )
            trainer = make_trainer(*flags)
            trainer.train_dataset, _ = make_stream(folder, *flags)
            if part < parts - 1:
                trainer.add_callback(Interrupt())
            trainer.train(checkpoints.newest(tmp_path / name) if part else None)
            assert trainer.interrupted == (part < parts - 1)
        weights.append((checkpoints.newest(tmp_path / name) / checkpoints.WEIGHTS).read_bytes())
    assert trainer.rows_seen == 5 * 8
    assert weights[0] == weights[1]


def test_the_hash_shows_the_data(folder):
    def found():
        source = streaming.Source(str(folder), 0, buffer=10)
        return source.hash(source.first_rows())

    before = found()
    assert before == found()
    write(folder / "train-2.parquet", [*ROWS[2::3], ROWS[0]])
    assert found() != before


@pytest.mark.parametrize(
    ("name", "rows", "words"),
    [
        ("rows.jsonl", [{"question": "a", "sql": "b", "context": "c"}], ["row 1", "'answer'", "'sql': 'b'"]),
        ("rows.jsonl", [{"question": "a", "answer": None, "context": "c"}], ["row 1", "answer is None"]),
        ("rows.jsonl", [], ["empty"]),
        ("rows.txt", ROWS, ["unknown kind", ".jsonl"]),
        ("test.jsonl/test.jsonl", ROWS, ["no train split"]),
    ],
)
def test_what_cannot_be_streamed_is_one_error(tmp_path, name, rows, words):
    path = write(tmp_path / name, rows)
    with pytest.raises(UserError) as caught:
        streaming.Source(str(path.parent if "/" in name else path), 0, 50).first_rows()
    assert all(word in str(caught.value) for word in ["--data-path", *words]), caught.value


def test_no_row_is_left(tmp_path, make_stream):
    path = write(tmp_path / "rows.jsonl", ROWS[:20])
    stream, _ = make_stream(path, "--max-length", "8")
    with pytest.raises(UserError, match="no row of it is left for training.*20 rows read.*longer than MAX_LENGTH"):
        next(iter(stream))


def test_settings_that_do_not_go_together(make_settings):
    for flags, word in ((("--extra-data", "x.jsonl"), "EXTRA_DATA"), (("--backend", "bigdl"), "BACKEND")):
        with pytest.raises(UserError, match=f"--streaming.*{word}"):
            make_settings("--streaming", *flags)


def test_finetune_with_a_stream(folder, llama_folder, make_settings, capsys):
    finetune.main(
        make_settings(
            "--base-model",
            str(llama_folder),
            "--data-path",
            str(folder),
            "--streaming",
            "--max-steps",
            "2",
            "--eval-steps",
            "2",
            "--save-steps",
            "2",
            "--validation-rows",
            "4",
            "--shuffle-buffer",
            "200",
        )
    )
    printed = capsys.readouterr().out
    assert "of a stream, the first 200 read, 196 for training, 4 for validation" in printed
    assert "stream                   512 rows read" in printed or "stream                   256 rows read" in printed
    fingerprint = checkpoints.read_fingerprint(Path(make_settings().MODEL_PATH))
    assert fingerprint["data"]["rows"] == "streamed"
    assert fingerprint["settings"]["STREAMING"] is True


def test_a_csv_file_is_streamed_as_it_is_written(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("question,context,answer\nNULL,CREATE TABLE t (a INT),SELECT a FROM t,more\n")
    (row,) = streaming.Source(str(path), 0, buffer=10).first_rows()
    assert row == {"question": "NULL", "context": "CREATE TABLE t (a INT)", "answer": "SELECT a FROM t"}


@pytest.mark.parametrize("question", ['"Ann" sings?', '"How, many?"'])
@pytest.mark.parametrize("name", ["rows.tsv", "rows.tsv.gz"])
def test_a_tsv_file_is_streamed_as_it_is_read(tmp_path, name, question):
    text = f"question\tcontext\tanswer\n{question}\tCREATE TABLE t (a INT)\tSELECT a FROM t\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    rows = dataset.load_rows(str(tmp_path / name), "DATA_PATH")
    assert streaming.Source(str(tmp_path / name), 0, buffer=10).first_rows() == rows
    assert rows[0]["question"] == ('"Ann" sings?' if "Ann" in question else "How, many?")


def test_a_data_set_is_streamed_in_its_own_layout(tmp_path):
    folder = make_folder(tmp_path / "databases")
    rows = [{"question": f"How many {i}?", "query": "SELECT 1" if i else "nan", "db_id": "concert"} for i in range(9)]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = streaming.Source(str(tmp_path / "dev.jsonl"), 0, 10, dataset.Reading("", folder)).first_rows()
    assert len(read) == 8
    assert all("CREATE TABLE singer (id INTEGER PRIMARY KEY" in row["context"] for row in read)
